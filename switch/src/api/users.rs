//! `/users`: the cardholders, in Marqeta's shapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::Api;
use super::caller::Caller;
use super::if_match::{IfMatch, etag};
use super::list::{Fields, List, ListOf, ListParameters, ListQuery};
use super::once::{IdempotencyKey, OnceBody};
use super::problem::Problem;
use super::query::Query;
use crate::issuing::api_keys::Scope;
use crate::issuing::users::{self, UserForm, UserView};
use crate::switch::Seams;

const LIST: ListOf = ListOf { count: 5, sorts: users::SORTS, sort_by: "-last_modified_time" };

/// A part of all users.
#[utoipa::path(
    get,
    path = "/users",
    tag = "users",
    params(
        ("sort_by" = Option<String>, Query,
         pattern = "^-?(token|created_time|createdTime|last_modified_time|lastModifiedTime)$",
         description = "What it is sorted by; with `-` before it, the largest first."),
        ListParameters,
    ),
    responses(
        (status = 200, description = "The part; those changed last come first.", body = List),
    ),
)]
pub(super) async fn list<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
) -> Result<Json<List>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let query = ListQuery::read(query, &LIST)?;
    Ok(query.answer(users::list(&api.switch, actor, &query.wanted).await?))
}

/// A new user. The same token with the same body gives the same answer again.
#[utoipa::path(
    post,
    path = "/users",
    tag = "users",
    params(IdempotencyKey),
    request_body = UserForm,
    responses(
        (status = 201, description = "The user.", body = UserView,
         headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn create<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<UserForm>,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may(Scope::CardsWrite)?;
    query.finish()?;
    let begun = api.begin(actor, &named).await?;
    let user = match begun.made_token() {
        Some(made) => users::show(&api.switch, actor, made).await?,
        None => users::create(&api.switch, begun.call, form).await?,
    };
    Ok((StatusCode::CREATED, etag(user.version), Json(user)))
}

/// A user.
#[utoipa::path(
    get,
    path = "/users/{token}",
    tag = "users",
    params(
        ("token" = String, Path, description = "The user's token."),
        ("fields" = Option<String>, Query, pattern = "^[a-z0-9_]+(,[a-z0-9_]+)*$",
         description = "Names of the fields that are shown; all if left out."),
    ),
    responses(
        (status = 200, description = "The user, or the fields that were asked for.",
         body = UserView, headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn show<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let fields = Fields::take(&mut query);
    query.finish()?;
    let user = users::show(&api.switch, actor, &token).await?;
    Ok((etag(user.version), Json(fields.of(&user))))
}

/// Changes the fields of a user that the body names; the others stay.
#[utoipa::path(
    put,
    path = "/users/{token}",
    tag = "users",
    params(
        ("token" = String, Path, description = "The user's token."),
        ("If-Match" = Option<String>, Header,
         description = "Only where the user has one of these versions still."),
        IdempotencyKey,
    ),
    request_body = UserForm,
    responses(
        (status = 200, description = "The user as it is now.", body = UserView,
         headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn update<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    (query, IfMatch(expected)): (Query, IfMatch),
    OnceBody(form, named): OnceBody<UserForm>,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may(Scope::CardsWrite)?;
    query.finish()?;
    let begun = api.begin(actor, &named).await?;
    let user = match begun.made_token() {
        Some(made) => users::show(&api.switch, actor, made).await?,
        None => users::update(&api.switch, begun.call, &token, form, &expected).await?,
    };
    Ok((etag(user.version), Json(user)))
}
