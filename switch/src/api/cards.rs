//! `/cards`: plastics, in Marqeta's shapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::Body;
use super::caller::Caller;
use super::if_match::{IfMatch, etag};
use super::list::{Fields, List, ListOf, ListParameters, ListQuery};
use super::once::{IdempotencyKey, OnceBody};
use super::problem::{NoSuch, Problem};
use super::products::shown;
use super::query::Query;
use crate::event::Actor;
use crate::issuing::api_keys::Scope;
use crate::issuing::issuance::{self, IssueForm};
use crate::issuing::issued_card::{self, CardChange};
use crate::issuing::listing::Listed;
use crate::issuing::secret::PanText;
use crate::issuing::{IssuedCard, Refused, products, users};
use crate::switch::Seams;

const LIST: ListOf = ListOf { count: 5, sorts: issued_card::SORTS, sort_by: "-last_modified_time" };

/// A new card, or one more plastic of a card. The same token with the same body gives the same
/// answer again.
#[utoipa::path(
    post,
    path = "/cards",
    tag = "cards",
    params(
        ("show_pan" = Option<bool>, Query,
         description = "Whether the answer has the whole PAN: the key needs pan:read for it."),
        IdempotencyKey,
    ),
    request_body = IssueForm,
    responses(
        (status = 201, description = "The card.", body = IssuedCard,
         headers(("ETag" = String, description = "Its version, for If-Match."))),
        NoSuch,
    ),
)]
pub(super) async fn issue<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    mut query: Query,
    OnceBody(form, named): OnceBody<IssueForm>,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may(Scope::CardsWrite)?;
    let shows_pan = query.value("show_pan", "true or false").unwrap_or(false);
    query.finish()?;
    if shows_pan {
        caller.may(Scope::PanRead)?;
    }
    let begun = api.begin(actor, &named).await?;
    let mut card = match begun.made_token() {
        Some(made) => issued_card::show(&api.switch, actor, made).await?,
        None => issuance::issue(&api.switch, begun.call, &form).await?,
    };
    if shows_pan {
        card = issued_card::show_pan(&api.switch, actor, &card.token).await?;
    }
    Ok((StatusCode::CREATED, etag(card.version), Json(card)))
}

/// A part of the plastics whose PAN ends in four digits.
#[utoipa::path(
    get,
    path = "/cards",
    tag = "cards",
    params(
        ("last_four" = String, Query, pattern = "^[0-9]{4}$",
         description = "Last four digits of the PAN."),
        Expand,
        ("sort_by" = Option<String>, Query,
         pattern = "^-?(token|created_time|createdTime|last_modified_time|lastModifiedTime|\
                    last_four|lastFour)$",
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
    mut query: Query,
) -> Result<Json<List>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let last_four = query.text("last_four").unwrap_or_default();
    if last_four.len() != 4 || !last_four.bytes().all(|byte| byte.is_ascii_digit()) {
        query.mistake("last_four", "expected four digits");
    }
    let embedded = Embedded::take(&mut query);
    let query = ListQuery::read(query, &LIST)?;
    let listed = issued_card::by_last_four(&api.switch, actor, &last_four, &query.wanted).await?;
    Ok(query.answer(embedded.of_all(&api, actor, listed).await?))
}

/// A part of the cards of a cardholder.
#[utoipa::path(
    get,
    path = "/cards/user/{token}",
    tag = "cards",
    params(
        ("token" = String, Path, description = "The user's token."),
        Expand,
        ("sort_by" = Option<String>, Query,
         pattern = "^-?(token|created_time|createdTime|last_modified_time|lastModifiedTime|\
                    last_four|lastFour)$",
         description = "What it is sorted by; with `-` before it, the largest first."),
        ListParameters,
    ),
    responses(
        (status = 200, description = "The part; those changed last come first.", body = List),
    ),
)]
pub(super) async fn of_user<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    mut query: Query,
) -> Result<Json<List>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let embedded = Embedded::take(&mut query);
    let query = ListQuery::read(query, &LIST)?;
    let listed = issued_card::of_user(&api.switch, actor, &token, &query.wanted).await?;
    Ok(query.answer(embedded.of_all(&api, actor, listed).await?))
}

/// A card.
#[utoipa::path(
    get,
    path = "/cards/{token}",
    tag = "cards",
    params(
        ("token" = String, Path, description = "The card's token."),
        Expand,
        ("fields" = Option<String>, Query, pattern = "^[a-z0-9_]+(,[a-z0-9_]+)*$",
         description = "Names of the fields that are shown; all if left out."),
    ),
    responses(
        (status = 200, description = "The card, or the fields that were asked for.",
         body = IssuedCard, headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn show<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let (embedded, fields) = (Embedded::take(&mut query), Fields::take(&mut query));
    query.finish()?;
    let mut card = issued_card::show(&api.switch, actor, &token).await?;
    embedded.of(&api, actor, &mut card).await?;
    Ok((etag(card.version), Json(fields.of(&card))))
}

/// A card with its whole PAN. Each call is in the audit.
#[utoipa::path(
    get,
    path = "/cards/{token}/showpan",
    tag = "cards",
    params(("token" = String, Path, description = "The card's token.")),
    responses(
        (status = 200, description = "The card.", body = IssuedCard),
    ),
)]
pub(super) async fn show_pan<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    query: Query,
) -> Result<Json<IssuedCard>, Problem> {
    let actor = caller.may(Scope::PanRead)?;
    query.finish()?;
    Ok(Json(issued_card::show_pan(&api.switch, actor, &token).await?))
}

/// Changes the fields of a card that the body names; the others stay.
#[utoipa::path(
    put,
    path = "/cards/{token}",
    tag = "cards",
    params(
        ("token" = String, Path, description = "The card's token."),
        ("If-Match" = Option<String>, Header,
         description = "Only where the card has one of these versions still."),
        IdempotencyKey,
    ),
    request_body = CardChange,
    responses(
        (status = 200, description = "The card as it is now.", body = IssuedCard,
         headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn update<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    (query, IfMatch(expected)): (Query, IfMatch),
    OnceBody(change, named): OnceBody<CardChange>,
) -> Result<impl IntoResponse, Problem> {
    let actor = caller.may(Scope::CardsWrite)?;
    query.finish()?;
    let begun = api.begin(actor, &named).await?;
    let card = match begun.made_token() {
        Some(made) => issued_card::show(&api.switch, actor, made).await?,
        None => issued_card::update(&api.switch, begun.call, &token, &change, &expected).await?,
    };
    Ok((etag(card.version), Json(card)))
}

/// The same.
#[utoipa::path(
    patch,
    path = "/cards/{token}",
    tag = "cards",
    params(
        ("token" = String, Path, description = "The card's token."),
        ("If-Match" = Option<String>, Header,
         description = "Only where the card has one of these versions still."),
        IdempotencyKey,
    ),
    request_body = CardChange,
    responses(
        (status = 200, description = "The card as it is now.", body = IssuedCard,
         headers(("ETag" = String, description = "Its version, for If-Match."))),
    ),
)]
pub(super) async fn patch<W: Seams>(
    api: State<Arc<Api<W>>>,
    caller: Caller,
    token: Path<String>,
    about: (Query, IfMatch),
    change: OnceBody<CardChange>,
) -> Result<impl IntoResponse, Problem> {
    update(api, caller, token, about, change).await
}

/// What else is shown with a card, for its description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
struct Expand {
    /// What is shown in it besides: `user`, its cardholder; `cardproduct`, its product; or both
    /// with a comma between.
    #[param(pattern = "^(user|cardproduct)(,(user|cardproduct))*$")]
    expand: Option<String>,
}

/// What else is shown with a card.
#[derive(Default)]
struct Embedded {
    user: bool,
    product: bool,
}

impl Embedded {
    /// Takes `expand` of a query.
    fn take(query: &mut Query) -> Embedded {
        let mut embedded = Embedded::default();
        let Some(names) = query.text("expand") else { return embedded };
        for name in names.split(',') {
            match name {
                "user" => embedded.user = true,
                "cardproduct" => embedded.product = true,
                _ => {
                    query.mistake("expand", "expected user, cardproduct or both with a comma");
                    break;
                }
            }
        }
        embedded
    }

    /// A card with it. Who holds none, or whose product is gone, is shown without.
    async fn of<W: Seams>(
        &self,
        api: &Api<W>,
        actor: &Actor,
        card: &mut IssuedCard,
    ) -> Result<(), Problem> {
        if self.user && !card.user_token.is_empty() {
            let user = users::show(&api.switch, actor, &card.user_token).await?;
            card.user = Some(serde_json::to_value(user).unwrap_or_default());
        }
        if self.product {
            card.card_product =
                match products::show(&api.switch, actor, &card.card_product_token).await {
                    Ok(product) => Some(Value::Object(shown(product))),
                    Err(Refused::NoSuchProduct) => None,
                    Err(refused) => return Err(refused.into()),
                };
        }
        Ok(())
    }

    async fn of_all<W: Seams>(
        &self,
        api: &Api<W>,
        actor: &Actor,
        mut listed: Listed<IssuedCard>,
    ) -> Result<Listed<IssuedCard>, Problem> {
        for card in &mut listed.items {
            self.of(api, actor, card).await?;
        }
        Ok(listed)
    }
}

/// A PAN that is looked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PanSought {
    /// The PAN.
    #[schema(value_type = String, pattern = "^[0-9]{13,19}$")]
    pan: PanText,
    /// MMyy: the card that has this end of validity. Left out, any.
    #[schema(pattern = "^[0-9]{4}$")]
    expiration: Option<String>,
}

/// Whose a PAN is.
#[derive(Serialize, ToSchema)]
pub(super) struct PanFound {
    /// The card's token.
    card_token: String,
    /// Its cardholder; empty for a card of the command line.
    user_token: String,
    /// When it was made.
    created_time: String,
    /// When it was changed last by a call on this resource.
    last_modified_time: String,
}

/// The card that has a PAN: of several plastics the newest that is active. Each call is in the
/// audit.
#[utoipa::path(
    post,
    path = "/cards/getbypan",
    tag = "cards",
    request_body = PanSought,
    responses(
        (status = 200, description = "The card.", body = PanFound),
        NoSuch,
    ),
)]
pub(super) async fn by_pan<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(PanSought { pan, expiration }): Body<PanSought>,
) -> Result<Json<PanFound>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    query.finish()?;
    let card = issued_card::by_pan(&api.switch, actor, &pan, expiration.as_deref()).await?;
    let IssuedCard { token: card_token, user_token, created_time, last_modified_time, .. } = card;
    Ok(Json(PanFound { card_token, user_token, created_time, last_modified_time }))
}
