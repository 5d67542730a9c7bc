//! `/apikeys`: who may call.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Api;
use super::caller::Caller;
use super::once::{IdempotencyKey, OnceBody};
use super::problem::{Conflict, Problem};
use super::query::Query;
use crate::issuing::ApiKeyView;
use crate::issuing::api_keys::{self, Scope};
use crate::switch::Seams;

/// A new API key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewApiKey {
    /// Its id: 1 to 36 letters, digits, `-`, `_` and `.`.
    #[schema(min_length = 1, max_length = 36, pattern = "^[A-Za-z0-9._-]+$")]
    token: String,
    /// What it may do.
    #[schema(min_items = 1, value_type = Vec<Scope>)]
    scopes: Vec<String>,
}

/// All API keys, without their secrets.
#[utoipa::path(
    get,
    path = "/apikeys",
    tag = "apikeys",
    responses(
        (status = 200, description = "All keys, in the order of their ids.", body = [ApiKeyView]),
    ),
)]
pub(super) async fn list<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
) -> Result<Json<Vec<ApiKeyView>>, Problem> {
    let actor = caller.may(Scope::Admin)?;
    query.finish()?;
    Ok(Json(api_keys::list(&api.switch, actor).await?))
}

/// A new API key, whose secret is shown this once.
#[utoipa::path(
    post,
    path = "/apikeys",
    tag = "apikeys",
    params(IdempotencyKey),
    request_body = NewApiKey,
    responses(
        (status = 201, description = "The key with its secret.", body = ApiKeyView),
    ),
)]
pub(super) async fn add<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(NewApiKey { token, scopes }, named): OnceBody<NewApiKey>,
) -> Result<(StatusCode, Json<ApiKeyView>), Problem> {
    let actor = caller.may(Scope::Admin)?;
    query.finish()?;
    let begun = api.begin(actor, &named).await?;
    let key = match begun.made_token() {
        Some(made) => api_keys::show(&api.switch, actor, made).await?,
        None => api_keys::add(&api.switch, begun.call, &token, &scopes).await?,
    };
    Ok((StatusCode::CREATED, Json(key)))
}

/// An API key may do nothing from now on.
#[utoipa::path(
    delete,
    path = "/apikeys/{token}",
    tag = "apikeys",
    params(("token" = String, Path, description = "Its id.")),
    responses(
        (status = 204, description = "It is gone."),
        Conflict,
    ),
)]
pub(super) async fn revoke<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    query: Query,
) -> Result<StatusCode, Problem> {
    let actor = caller.may(Scope::Admin)?;
    query.finish()?;
    api_keys::revoke(&api.switch, actor, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}
