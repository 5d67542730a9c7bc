//! `/pins`: set, show and check PINs, by control tokens or by the card; and the unblock of a chip.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::Api;
use super::body::Body;
use super::caller::Caller;
use super::once::{IdempotencyKey, Named, OnceBody};
use super::problem::{Changed, Conflict, Gone, NoSuch, Problem};
use super::query::Query;
use crate::event::CardholderVerification;
use crate::issuing::api_keys::Scope;
use crate::issuing::pin_control::Purpose;
use crate::issuing::secret::PinText;
use crate::issuing::{Made, PinCheckView, Refused, pin_check, pin_control, pins, viewable_pin};
use crate::pin::ClearPin;
use crate::switch::Seams;

/// For whom a control token is asked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewControlToken {
    /// The card.
    card_token: String,
    /// What the token is for.
    #[serde(default)]
    controltoken_type: Purpose,
}

/// A control token.
#[derive(Serialize, ToSchema)]
pub(super) struct ControlToken {
    /// Whoever has it may do once what it is for: set the PIN within 60 minutes, or see it within
    /// 5.
    /// It is left out where the call is repeated with its Idempotency-Key.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 36)]
    #[serde(skip_serializing_if = "Option::is_none")]
    control_token: Option<Zeroizing<String>>,
}

/// A PIN that a cardholder has chosen.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPin {
    /// A control token to set the PIN.
    #[schema(min_length = 1, max_length = 36)]
    control_token: String,
    /// 4 to 12 digits; `PIN` is taken too.
    #[serde(alias = "PIN")]
    #[schema(value_type = String, write_only, pattern = "^[0-9]{4,12}$")]
    pin: PinText,
}

/// Who wants to see a PIN.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reveal {
    /// A control token to see the PIN.
    #[schema(min_length = 1, max_length = 36)]
    control_token: String,
    /// How the cardholder was verified.
    cardholder_verification_method: CardholderVerification,
}

/// A PIN that is shown.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its description is used: the PIN is never in a text of serde's")]
pub(super) struct ShownPin {
    /// 4 to 12 digits.
    #[schema(read_only, pattern = "^[0-9]{4,12}$")]
    pin: String,
}

/// A PIN that is to be checked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PinToCheck {
    /// The card.
    card_token: String,
    /// 4 to 12 digits; `PIN` is taken too.
    #[serde(alias = "PIN")]
    #[schema(value_type = String, write_only, pattern = "^[0-9]{4,12}$")]
    pin: PinText,
}

/// A token by which the PIN of one card may be set, or seen, once. The newest of a card and purpose
/// ends the one before.
#[utoipa::path(
    post,
    path = "/pins/controltoken",
    tag = "pins",
    params(IdempotencyKey),
    request_body = NewControlToken,
    responses(
        (status = 201, description = "The token, which is shown this once.", body = ControlToken),
        NoSuch,
    ),
)]
pub(super) async fn control<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<NewControlToken>,
) -> Result<(StatusCode, Json<ControlToken>), Problem> {
    query.finish()?;
    let NewControlToken { card_token, controltoken_type } = form;
    let actor = caller.may(match controltoken_type {
        Purpose::SetPin => Scope::PinSet,
        Purpose::RevealPin => Scope::PinView,
    })?;
    let admit = |card: &str| api.limits.pin_call(card);
    let about = (&*card_token, controltoken_type);
    let begun = api.begin(actor, &named).await?;
    let control_token = match begun.made_token() {
        Some(_) => None,
        None => Some(pin_control::create(&api.switch, begun.call, about, &admit).await?),
    };
    Ok((StatusCode::CREATED, Json(ControlToken { control_token })))
}

/// Sets the PIN of the card that a control token is of. The counter of wrong PINs is zero then; a
/// suspension stays.
#[utoipa::path(
    put,
    path = "/pins",
    tag = "pins",
    params(IdempotencyKey),
    request_body = NewPin,
    responses(
        (status = 204, description = "It is set."),
        NoSuch,
        Changed,
        Gone,
    ),
)]
pub(super) async fn set<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(NewPin { control_token, pin }, named): OnceBody<NewPin>,
) -> Result<StatusCode, Problem> {
    query.finish()?;
    let actor = caller.may(Scope::PinSet)?;
    let (admit, pin) = (|card: &str| api.limits.pin_call(card), pin.parse());
    let begun = api.begin(actor, &named).await?;
    match begun.made {
        Some(Made::WeakPin) => return Err(Refused::WeakPin.into()),
        Some(_) => {}
        None => {
            pins::set_by_control(&api.switch, begun.call, &control_token, pin, &admit).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Shows the PIN of the card that a control token is of. Only products that are `pin_viewable` keep
/// PINs that can be shown, from the next set on.
#[utoipa::path(
    post,
    path = "/pins/reveal",
    tag = "pins",
    request_body = Reveal,
    responses(
        (status = 200, description = "The PIN.", body = ShownPin),
        NoSuch,
        Conflict,
        Gone,
    ),
)]
pub(super) async fn reveal<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(Reveal { control_token, cardholder_verification_method: method }): Body<Reveal>,
) -> Result<Response, Problem> {
    query.finish()?;
    let actor = caller.may_in_test(Scope::PinView)?;
    let admit = |card: &str| api.limits.pin_call(card);
    let pin = viewable_pin::reveal(&api.switch, actor, &control_token, method, &admit).await?;
    Ok(shown(&pin))
}

/// The only answer with a PIN. Its bytes are wiped when they have been written.
fn shown(pin: &ClearPin) -> Response {
    let (head, tail) = (b"{\"pin\":\"", b"\"}");
    let length = head.len() + pin.digits().len() + tail.len();
    let mut json = Zeroizing::new(Vec::with_capacity(length));
    [&head[..], pin.digits(), tail].into_iter().for_each(|part| json.extend_from_slice(part));
    let mut response = Bytes::from_owner(json).into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Checks a PIN outside a transaction, with the counter and the suspension of one.
#[utoipa::path(
    post,
    path = "/pins/verify",
    tag = "pins",
    request_body = PinToCheck,
    responses(
        (status = 200, description = "What came out, right or wrong.", body = PinCheckView),
        NoSuch,
        Conflict,
        Changed,
    ),
)]
pub(super) async fn verify<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(PinToCheck { card_token, pin }): Body<PinToCheck>,
) -> Result<Json<PinCheckView>, Problem> {
    query.finish()?;
    let actor = caller.may(Scope::PinSet)?;
    let (admit, pin) = (|card: &str| api.limits.pin_call(card), pin.parse());
    let checked = pin_check::verify(&api.switch, actor, &card_token, pin, &admit).await?;
    Ok(Json(checked))
}

/// Queues a script that sets the PIN try counter of the card's chips back.
#[utoipa::path(
    post,
    path = "/cards/{token}/pin/unblock",
    tag = "pins",
    params(("token" = String, Path, description = "The card."), IdempotencyKey),
    responses(
        (status = 202, description = "It waits for the chip."),
    ),
)]
pub(super) async fn unblock<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    (query, named): (Query, Named),
    Path(token): Path<String>,
) -> Result<StatusCode, Problem> {
    query.finish()?;
    let actor = caller.may(Scope::PinSet)?;
    let admit = |card: &str| api.limits.pin_call(card);
    let begun = api.begin(actor, &named).await?;
    if begun.made.is_none() {
        pins::unblock(&api.switch, begun.call, &token, &admit).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// Sets the counter of wrong PINs of a card to zero, and lifts a suspension that the counter has
/// made, and no other. What its chips hold stays as it is.
#[utoipa::path(
    post,
    path = "/cards/{token}/pin/reset_tries",
    tag = "pins",
    params(("token" = String, Path, description = "The card."), IdempotencyKey),
    responses(
        (status = 204, description = "It is done."),
    ),
)]
pub(super) async fn reset_tries<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    (query, named): (Query, Named),
    Path(token): Path<String>,
) -> Result<StatusCode, Problem> {
    query.finish()?;
    // It may put a card into use again, as a transition does.
    let actor = caller.may(Scope::CardsWrite)?;
    let admit = |card: &str| api.limits.pin_call(card);
    let begun = api.begin(actor, &named).await?;
    if begun.made.is_none() {
        pins::reset_tries(&api.switch, begun.call, &token, &admit).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
