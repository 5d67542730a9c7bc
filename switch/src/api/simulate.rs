//! `/simulate` and `/simulations`: transactions that nobody made, by the path of those of links.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Api;
use super::caller::Caller;
use super::once::{IdempotencyKey, Named, OnceBody};
use super::problem::{Door, NoSuch, Problem};
use super::query::Query;
use crate::issuing::api_keys::Scope;
use crate::issuing::simulate::{
    self, AdviceForm, AuthorizationForm, BalanceInquiryForm, CardTransactionForm,
    CardTransactionType, ClearingForm, FinancialForm, FulfillmentForm, ReversalForm, Simulated,
    SimulatedAnswer,
};
use crate::issuing::{IssuedCard, Refused, issued_card};
use crate::switch::Seams;

type Answer = Result<(StatusCode, Json<SimulatedAnswer>), Problem>;

async fn answer<W: Seams>(
    api: &Api<W>,
    caller: &Caller,
    (query, named): (Query, Named),
    simulated: Result<Simulated, Refused>,
) -> Answer {
    query.finish()?;
    let actor = caller.may_in_test(Scope::Simulate)?;
    let admit = |card: &str| api.limits.pin_call(card);
    let begun = api.begin(actor, &named).await?;
    let call = (begun.call, begun.made.as_ref());
    let done = simulate::transact(&api.switch, &api.simulator, call, simulated?, &admit).await?;
    Ok((StatusCode::CREATED, Json(done)))
}

/// Asks for an authorization (0100). A decline is answered with 201 too.
#[utoipa::path(
    post,
    path = "/simulate/authorization",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = AuthorizationForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn authorization<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<AuthorizationForm>,
) -> Answer {
    answer(&api, &caller, (query, named), Ok(form.into())).await
}

/// Tells what was decided elsewhere of an authorization (0120).
#[utoipa::path(
    post,
    path = "/simulate/authorization/advice",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = AdviceForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn authorization_advice<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<AdviceForm>,
) -> Answer {
    answer(&api, &caller, (query, named), Ok(form.into())).await
}

/// Clears an authorization (0220).
#[utoipa::path(
    post,
    path = "/simulate/clearing",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = ClearingForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn clearing<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<ClearingForm>,
) -> Answer {
    answer(&api, &caller, (query, named), Ok(form.into())).await
}

/// Takes a simulated transaction back (0400, 0420). No PIN try is given back.
#[utoipa::path(
    post,
    path = "/simulate/reversal",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = ReversalForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn reversal<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<ReversalForm>,
) -> Answer {
    answer(&api, &caller, (query, named), Ok(form.into())).await
}

/// Asks for a payment in one message (0200). A decline is answered with 201 too.
#[utoipa::path(
    post,
    path = "/simulate/financial",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = FinancialForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn financial<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<FinancialForm>,
) -> Answer {
    answer(&api, &caller, (query, named), Ok(form.into())).await
}

/// Tells what was decided elsewhere of a payment in one message (0220).
#[utoipa::path(
    post,
    path = "/simulate/financial/advice",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = AdviceForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn financial_advice<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<AdviceForm>,
) -> Answer {
    answer(&api, &caller, (query, named), Ok(Simulated::financial_advice(form))).await
}

/// Asks for cash in one message (0200, DE3 01). A decline is answered with 201 too.
#[utoipa::path(
    post,
    path = "/simulate/financial/withdrawal",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = FinancialForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn withdrawal<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<FinancialForm>,
) -> Answer {
    answer(&api, &caller, (query, named), Simulated::withdrawal(form)).await
}

/// Asks for the balance (0200, DE3 30). No balance is known here: PIN and card are checked.
#[utoipa::path(
    post,
    path = "/simulate/financial/balanceinquiry",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = BalanceInquiryForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn balance_inquiry<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<BalanceInquiryForm>,
) -> Answer {
    answer(&api, &caller, (query, named), Ok(form.into())).await
}

/// Simulates a transaction of the kind in the path. A decline is answered with 201 too.
#[utoipa::path(
    post,
    path = "/simulations/cardtransactions/{type}",
    tag = "simulate",
    params(
        ("type" = inline(CardTransactionType), Path, description = "What is simulated."),
        IdempotencyKey,
    ),
    request_body = CardTransactionForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        NoSuch,
    ),
)]
pub(super) async fn card_transaction<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(kind): Path<String>,
    query: Query,
    OnceBody(form, named): OnceBody<CardTransactionForm>,
) -> Answer {
    let kind = CardTransactionType::ALL.into_iter().find(|known| known.name() == kind);
    let none = || Problem::new(Door::NoSuchResource, "no such transaction can be simulated");
    let kind = kind.ok_or_else(none)?;
    answer(&api, &caller, (query, named), Simulated::card_transaction(kind, form)).await
}

/// Says that a plastic was embossed, with the PIN that its card has, and shipped.
#[utoipa::path(
    post,
    path = "/simulations/fulfillment",
    tag = "simulate",
    params(IdempotencyKey),
    request_body = FulfillmentForm,
    responses(
        (status = 201, description = "The card as it is now.", body = IssuedCard),
        NoSuch,
    ),
)]
pub(super) async fn fulfillment<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    OnceBody(form, named): OnceBody<FulfillmentForm>,
) -> Result<(StatusCode, Json<IssuedCard>), Problem> {
    query.finish()?;
    let actor = caller.may_in_test(Scope::Simulate)?;
    let begun = api.begin(actor, &named).await?;
    let card = match begun.made_token() {
        Some(made) => issued_card::show(&api.switch, actor, made).await?,
        None => simulate::fulfil(&api.switch, begun.call, &form).await?,
    };
    Ok((StatusCode::CREATED, Json(card)))
}
