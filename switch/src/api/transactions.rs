//! `/transactions`, in Marqeta's shapes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use utoipa::IntoParams;

use super::Api;
use super::caller::Caller;
use super::list::{List, ListOf, ListParameters, ListQuery};
use super::problem::{NoSuch, Problem};
use super::query::Query;
use crate::clock::Timestamp;
use crate::issuing::api_keys::Scope;
use crate::issuing::transactions::{self, Sought, TransactionAnswer, TransactionState};
use crate::switch::Seams;

const LIST: ListOf =
    ListOf { count: 10, sorts: &["user_transaction_time"], sort_by: "-user_transaction_time" };

/// Which transactions a list shows, besides their states, as it is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only its description is used")]
struct SoughtParameters {
    /// Of this type, such as `authorization`.
    #[param(rename = "type")]
    kind: Option<String>,
    /// Decided at this moment or later: RFC 3339, or yyyy-MM-dd in UTC.
    #[param(format = DateTime)]
    start_date: Option<String>,
    /// Decided before this moment, or on this day.
    #[param(format = DateTime)]
    end_date: Option<String>,
    /// What it is sorted by; with `-` before it, the largest first.
    #[param(pattern = "^-?(user_transaction_time|userTransactionTime)$")]
    sort_by: Option<String>,
}

/// A part of the transactions, of one card, one cardholder or all, as far back as they are kept.
#[utoipa::path(
    get,
    path = "/transactions",
    tag = "transactions",
    params(
        ("card_token" = Option<String>, Query, description = "Of this card."),
        ("user_token" = Option<String>, Query, description = "Of the cards of this user."),
        ("acting_user_token" = Option<String>, Query, description = "The same."),
        ("state" = Option<String>, Query,
         pattern = "^(ALL|(PENDING|COMPLETION|DECLINED|ERROR)\
                    (,(PENDING|COMPLETION|DECLINED|ERROR))*)$",
         description = "PENDING, COMPLETION, DECLINED or ERROR, with commas between, or ALL; \
                        PENDING,COMPLETION if left out."),
        SoughtParameters,
        ListParameters,
    ),
    responses(
        (status = 200, description = "The part, the newest first. It may have fewer than were \
                                      asked for while `is_more` is true.", body = List),
        NoSuch,
    ),
)]
pub(super) async fn list<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    mut query: Query,
) -> Result<Json<List>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let card = query.text("card_token");
    let user = query.text("user_token").or(query.text("acting_user_token"));
    let states = states(&mut query).unwrap_or_else(open_states);
    answer(&api, actor, query, Sought { card, user, states, ..Sought::default() }).await
}

/// A part of the transactions of a card.
#[utoipa::path(
    get,
    path = "/cards/{token}/transactions",
    tag = "transactions",
    params(
        ("token" = String, Path, description = "The card's token."),
        ("state" = Option<String>, Query,
         pattern = "^(ALL|(PENDING|COMPLETION|DECLINED|ERROR)\
                    (,(PENDING|COMPLETION|DECLINED|ERROR))*)$",
         description = "PENDING, COMPLETION, DECLINED or ERROR, with commas between, or ALL; \
                        PENDING,COMPLETION if left out."),
        SoughtParameters,
        ListParameters,
    ),
    responses(
        (status = 200, description = "The part, the newest first. It may have fewer than were \
                                      asked for while `is_more` is true.", body = List),
    ),
)]
pub(super) async fn of_card<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    mut query: Query,
) -> Result<Json<List>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let states = states(&mut query).unwrap_or_else(open_states);
    answer(&api, actor, query, Sought { card: Some(token), states, ..Sought::default() }).await
}

/// A part of the transactions that belong to one: its original, its advices, its clearing and its
/// reversals. Those have its DE37, or name it.
#[utoipa::path(
    get,
    path = "/transactions/{token}/related",
    tag = "transactions",
    params(
        ("token" = String, Path, description = "The token of the one."),
        ("state" = Option<String>, Query,
         pattern = "^(ALL|(PENDING|COMPLETION|DECLINED|ERROR)\
                    (,(PENDING|COMPLETION|DECLINED|ERROR))*)$",
         description = "PENDING, COMPLETION, DECLINED or ERROR, with commas between, or ALL; ALL \
                        if left out."),
        SoughtParameters,
        ListParameters,
    ),
    responses(
        (status = 200, description = "The part, the newest first. It may have fewer than were \
                                      asked for while `is_more` is true.", body = List),
    ),
)]
pub(super) async fn related<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    mut query: Query,
) -> Result<Json<List>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    let states = states(&mut query).unwrap_or_default();
    answer(&api, actor, query, Sought { related_to: Some(token), states, ..Sought::default() })
        .await
}

async fn answer<W: Seams>(
    api: &Api<W>,
    actor: &crate::event::Actor,
    mut query: Query,
    sought: Sought,
) -> Result<Json<List>, Problem> {
    let kind = query.text("type");
    let mut moment = |name: &str, is_end: bool| {
        let text = query.text(name)?;
        let moment = moment(&text, is_end);
        if moment.is_none() {
            query.mistake(name, "expected a moment of RFC 3339, or yyyy-MM-dd");
        }
        moment
    };
    let (from, to) = (moment("start_date", false), moment("end_date", true));
    let query = ListQuery::read(query, &LIST)?;
    let wanted = &query.wanted;
    let after = wanted.after.as_ref().map(|after| after.parse());
    let expected = "expected `next` of the last answer".to_owned();
    let after = after.transpose().map_err(|_| Problem::at("after".to_owned(), expected))?;
    let (start_index, count) = (wanted.start_index, wanted.count);
    let sought = Sought { kind, from, to, after, start_index, count, ..sought };
    Ok(query.answer(transactions::list(&api.switch, actor, &sought).await?))
}

/// The states that a list shows unless somebody says others.
fn open_states() -> Vec<TransactionState> {
    vec![TransactionState::Pending, TransactionState::Completion]
}

/// The states that are asked for; none for all, `None` where nothing is said.
fn states(query: &mut Query) -> Option<Vec<TransactionState>> {
    let text = query.text("state")?;
    let read = |name: &str| TransactionState::ALL.into_iter().find(|known| known.name() == name);
    let states: Option<Vec<_>> = text.split(',').map(|name| read(name.trim())).collect();
    if states.is_none() && text != "ALL" {
        query.mistake("state", "expected PENDING, COMPLETION, DECLINED, ERROR or ALL");
    }
    Some(states.unwrap_or_default())
}

/// A moment, or the begin or end of a day in UTC.
fn moment(text: &str, is_end: bool) -> Option<Timestamp> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp::from_micros(moment.as_microsecond()));
    }
    let day: jiff::civil::Date = text.parse().ok()?;
    let day = if is_end { day.tomorrow().ok()? } else { day };
    let begin = jiff::tz::Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok()?;
    Some(Timestamp::from_micros(begin.as_microsecond()))
}

/// A transaction.
#[utoipa::path(
    get,
    path = "/transactions/{token}",
    tag = "transactions",
    params(("token" = String, Path, description = "Its token.")),
    responses(
        (status = 200, description = "The transaction.", body = TransactionAnswer),
    ),
)]
pub(super) async fn show<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    Path(token): Path<String>,
    query: Query,
) -> Result<Json<TransactionAnswer>, Problem> {
    let actor = caller.may(Scope::CardsRead)?;
    query.finish()?;
    Ok(Json(transactions::show(&api.switch, actor, &token).await?))
}
