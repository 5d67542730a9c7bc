//! `/simulate` and `/simulations`: transactions that nobody made, by the path of those of links.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Api;
use super::body::Body;
use super::caller::Caller;
use super::problem::{Door, Problem, Refusals};
use super::query::Query;
use crate::issuing::api_keys::Scope;
use crate::issuing::simulate::{
    self, AdviceForm, AuthorizationForm, BalanceInquiryForm, CardTransactionForm,
    CardTransactionType, ClearingForm, FinancialForm, FulfillmentForm, ReversalForm, Simulated,
    SimulatedAnswer,
};
use crate::issuing::{IssuedCard, Refused};
use crate::switch::Seams;

type Answer = Result<(StatusCode, Json<SimulatedAnswer>), Problem>;

async fn answer<W: Seams>(
    api: &Api<W>,
    caller: &Caller,
    query: Query,
    simulated: Result<Simulated, Refused>,
) -> Answer {
    query.finish()?;
    let actor = caller.may(Scope::Simulate)?;
    let admit = |card: &str| api.limits.pin_call(card);
    let done = simulate::transact(&api.switch, &api.simulator, actor, simulated?, &admit).await?;
    Ok((StatusCode::CREATED, Json(done)))
}

/// Asks for an authorization (0100). A decline is answered with 201 too.
#[utoipa::path(
    post,
    path = "/simulate/authorization",
    tag = "simulate",
    request_body = AuthorizationForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn authorization<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<AuthorizationForm>,
) -> Answer {
    answer(&api, &caller, query, Ok(form.into())).await
}

/// Tells what was decided elsewhere of an authorization (0120).
#[utoipa::path(
    post,
    path = "/simulate/authorization/advice",
    tag = "simulate",
    request_body = AdviceForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn authorization_advice<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<AdviceForm>,
) -> Answer {
    answer(&api, &caller, query, Ok(form.into())).await
}

/// Clears an authorization (0220).
#[utoipa::path(
    post,
    path = "/simulate/clearing",
    tag = "simulate",
    request_body = ClearingForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn clearing<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<ClearingForm>,
) -> Answer {
    answer(&api, &caller, query, Ok(form.into())).await
}

/// Takes a simulated transaction back (0400, 0420). No PIN try is given back.
#[utoipa::path(
    post,
    path = "/simulate/reversal",
    tag = "simulate",
    request_body = ReversalForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn reversal<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<ReversalForm>,
) -> Answer {
    answer(&api, &caller, query, Ok(form.into())).await
}

/// Asks for a payment in one message (0200). A decline is answered with 201 too.
#[utoipa::path(
    post,
    path = "/simulate/financial",
    tag = "simulate",
    request_body = FinancialForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn financial<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<FinancialForm>,
) -> Answer {
    answer(&api, &caller, query, Ok(form.into())).await
}

/// Tells what was decided elsewhere of a payment in one message (0220).
#[utoipa::path(
    post,
    path = "/simulate/financial/advice",
    tag = "simulate",
    request_body = AdviceForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn financial_advice<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<AdviceForm>,
) -> Answer {
    answer(&api, &caller, query, Ok(Simulated::financial_advice(form))).await
}

/// Asks for cash in one message (0200, DE3 01). A decline is answered with 201 too.
#[utoipa::path(
    post,
    path = "/simulate/financial/withdrawal",
    tag = "simulate",
    request_body = FinancialForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn withdrawal<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<FinancialForm>,
) -> Answer {
    answer(&api, &caller, query, Simulated::withdrawal(form)).await
}

/// Asks for the balance (0200, DE3 30). No balance is known here: PIN and card are checked.
#[utoipa::path(
    post,
    path = "/simulate/financial/balanceinquiry",
    tag = "simulate",
    request_body = BalanceInquiryForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn balance_inquiry<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<BalanceInquiryForm>,
) -> Answer {
    answer(&api, &caller, query, Ok(form.into())).await
}

/// Simulates a transaction of the kind in the path. A decline is answered with 201 too.
#[utoipa::path(
    post,
    path = "/simulations/cardtransactions/{type}",
    tag = "simulate",
    params(("type" = inline(CardTransactionType), Path, description = "What is simulated.")),
    request_body = CardTransactionForm,
    responses(
        (status = 201, description = "What it came to.", body = SimulatedAnswer),
        Refusals,
    ),
)]
pub(super) async fn card_transaction<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(kind): Path<String>,
    query: Query,
    Body(form): Body<CardTransactionForm>,
) -> Answer {
    let kind = CardTransactionType::ALL.into_iter().find(|known| known.name() == kind);
    let none = || Problem::new(Door::NoSuchResource, "no such transaction can be simulated");
    let kind = kind.ok_or_else(none)?;
    answer(&api, &caller, query, Simulated::card_transaction(kind, form)).await
}

/// Says that a plastic was embossed, with the PIN that its card has, and shipped.
#[utoipa::path(
    post,
    path = "/simulations/fulfillment",
    tag = "simulate",
    request_body = FulfillmentForm,
    responses(
        (status = 201, description = "The card as it is now.", body = IssuedCard),
        Refusals,
    ),
)]
pub(super) async fn fulfillment<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    query: Query,
    Body(form): Body<FulfillmentForm>,
) -> Result<(StatusCode, Json<IssuedCard>), Problem> {
    query.finish()?;
    let actor = caller.may(Scope::Simulate)?;
    Ok((StatusCode::CREATED, Json(simulate::fulfil(&api.switch, actor, &form).await?)))
}
