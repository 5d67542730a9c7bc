//! `/events`: what happened, for who reads it instead of being told.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::caller::Caller;
use super::problem::Problem;
use super::query::Query;
use crate::issuing::api_keys::Scope;
use crate::issuing::{EventPage, events};
use crate::switch::Seams;

/// Events of a page, and how many there are unless somebody says it.
const COUNT_MAX: usize = 1_000;
const COUNT: usize = 100;

/// What happened to cards, and transactions among it, the oldest first.
#[utoipa::path(
    get,
    path = "/events",
    tag = "events",
    params(
        ("after" = Option<String>, Query, pattern = "^[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{2}$",
         description = "After the event of this id."),
        ("count" = Option<usize>, Query, minimum = 1, maximum = 1000,
         description = "How many at most; 100 if left out."),
    ),
    responses(
        (status = 200, description = "A page, and where the next begins.", body = EventPage),
    ),
)]
pub(super) async fn list<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    caller: Caller,
    mut query: Query,
) -> Result<Json<EventPage>, Problem> {
    let actor = caller.may(Scope::Webhooks)?;
    let (after, count) = (query.text("after"), query.number("count", 1..=COUNT_MAX, COUNT));
    query.finish()?;
    Ok(Json(events::list(&api.switch, actor, (after.as_deref(), None), count).await?))
}
