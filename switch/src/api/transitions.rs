//! `/cardtransitions`: cards go to other states, in Marqeta's shapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::caller::Caller;
use super::list::{List, ListOf, ListParameters, ListQuery};
use super::once::{IdempotencyKey, OnceBody};
use super::problem::{NoSuch, Problem};
use super::query::Query;
use crate::authorization::transition::ReasonText;
use crate::authorization::{Channel, Transition};
use crate::cards::{CardStatus, StatusReason};
use crate::issuing::Refused;
use crate::issuing::api_keys::Scope;
use crate::issuing::tokens::{PayloadDigest, Token};
use crate::issuing::transitions::{self, TransitionView};
use crate::issuing::users::Forgotten;
use crate::switch::Seams;

const LIST: ListOf = ListOf { count: 5, sorts: transitions::SORTS, sort_by: "-created_time" };

/// A state that a card can be moved to.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum NewState {
    /// In use.
    Active,
    /// In use for some purposes only; here declined like a suspended card.
    Limited,
    /// Blocked until somebody makes it active again.
    Suspended,
    /// Blocked for ever.
    Terminated,
}

/// By which way a transition is asked for.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum ChannelForm {
    /// A program of the issuer.
    Api,
    /// The cardholder on the telephone.
    Ivr,
    /// Somebody who looks after fraud.
    Fraud,
    /// A clerk.
    Admin,
    /// A program that acts by itself.
    System,
}

/// A transition that is asked for.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransitionForm {
    /// The issuer's name for it; without one it has the id of its event.
    token: Option<Token>,
    /// The card's.
    card_token: Token,
    /// The state that the card goes to.
    state: NewState,
    /// By which way it is asked for.
    channel: ChannelForm,
    /// Why: two digits. 00 for a first activation, and else 01, if left out.
    #[schema(pattern = "^[0-9]{2}$")]
    reason_code: Option<String>,
    /// Why, in words. Its digits are not kept.
    #[schema(max_length = 255)]
    reason: Option<String>,
    /// Taken and forgotten.
    #[schema(value_type = Option<Object>)]
    validations: Option<Forgotten>,
    /// Taken and forgotten.
    sync_state_with_dwts: Option<bool>,
}

impl TransitionForm {
    fn asked(&self) -> Result<Transition, Refused> {
        let field = |name, expected| Refused::Field { name, expected };
        let code = |code: &String| {
            StatusReason::parse(code).ok_or(field("reason_code", "00 to 32, or 86"))
        };
        let words = |words: &String| {
            ReasonText::new(words.clone()).ok_or(field("reason", "at most 255 bytes of UTF-8"))
        };
        Ok(Transition {
            state: match self.state {
                NewState::Active => CardStatus::Active,
                NewState::Limited => CardStatus::Limited,
                NewState::Suspended => CardStatus::Suspended,
                NewState::Terminated => CardStatus::Terminated,
            },
            channel: match self.channel {
                ChannelForm::Api => Channel::Api,
                ChannelForm::Ivr => Channel::Ivr,
                ChannelForm::Fraud => Channel::Fraud,
                ChannelForm::Admin => Channel::Admin,
                ChannelForm::System => Channel::System,
            },
            reason_code: self.reason_code.as_ref().map(code).transpose()?,
            reason: self.reason.as_ref().map(words).transpose()?,
        })
    }
}

/// Moves a card to another state. The same token with the same body gives the same answer again.
#[utoipa::path(
    post,
    path = "/cardtransitions",
    tag = "cardtransitions",
    params(IdempotencyKey),
    request_body = TransitionForm,
    responses(
        (status = 201, description = "It is done.", body = TransitionView),
        NoSuch,
    ),
)]
pub(super) async fn create<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(mut form, named): OnceBody<TransitionForm>,
) -> Result<(StatusCode, Json<TransitionView>), Problem> {
    let actor = caller.may(Scope::CardsWrite)?;
    query.finish()?;
    let asked = form.asked()?;
    let begun = api.begin(actor, &named).await?;
    if let Some(made) = begun.made_token() {
        return Ok((StatusCode::CREATED, Json(transitions::show(&api.switch, actor, made).await?)));
    }
    if begun.call.once.is_some() && form.token.is_none() {
        // The id of its event is known only when it is done.
        form.token = Some(Token::random()?);
    }
    let digest = PayloadDigest::of(&api.switch.vault.documents, "transition", &form);
    let chosen = form.token.as_ref().map(|token| (token, digest));
    let card = form.card_token.as_str();
    let done = transitions::create(&api.switch, begun.call, card, chosen, &asked).await?;
    Ok((StatusCode::CREATED, Json(done)))
}

/// A transition.
#[utoipa::path(
    get,
    path = "/cardtransitions/{token}",
    tag = "cardtransitions",
    params(("token" = String, Path, description = "Its token.")),
    responses(
        (status = 200, description = "The transition.", body = TransitionView),
    ),
)]
pub(super) async fn show<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    query: Query,
) -> Result<Json<TransitionView>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    query.finish()?;
    Ok(Json(transitions::show(&api.switch, actor, &token).await?))
}

/// A part of the transitions of a card, also of those that nobody asked for.
#[utoipa::path(
    get,
    path = "/cardtransitions/card/{token}",
    tag = "cardtransitions",
    params(
        ("token" = String, Path, description = "The card's token."),
        ("sort_by" = Option<String>, Query,
         pattern = "^-?(token|created_time|createdTime)$",
         description = "What it is sorted by; with `-` before it, the largest first."),
        ListParameters,
    ),
    responses(
        (status = 200, description = "The part, the newest first.", body = List),
    ),
)]
pub(super) async fn of_card<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    query: Query,
) -> Result<Json<List>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let query = ListQuery::read(query, &LIST)?;
    Ok(query.answer(transitions::of_card(&api.switch, actor, &token, &query.wanted).await?))
}
