//! `/ping`: whether the API answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::Body;
use super::caller::Caller;
use super::problem::Problem;
use super::query::Query;
use crate::clock::Clock;
use crate::issuing::users::Text;
use crate::switch::Seams;

/// The API answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Pong {
    /// Always true.
    success: bool,
    /// The version of pinswitch.
    version: &'static str,
    /// The commit that it was built from.
    revision: &'static str,
    /// Now, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    timestamp: String,
}

/// Whether the API answers. Nobody needs a key for this.
#[utoipa::path(
    get,
    path = "/ping",
    tag = "ping",
    security(()),
    responses((status = 200, description = "It does.", body = Pong)),
)]
pub(super) async fn ping<W: Seams>(State(api): State<Arc<Api<W>>>) -> Json<Pong> {
    Json(Pong {
        success: true,
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("PINSWITCH_REVISION"),
        timestamp: api.switch.clock.now().to_string(),
    })
}

/// What is to come back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Echo {
    /// Comes back as `id`.
    token: Option<Text<36>>,
    /// Comes back as it is.
    payload: Option<Text<255>>,
}

/// What has come back.
#[derive(Serialize, ToSchema)]
pub(super) struct Echoed {
    /// Always true.
    success: bool,
    /// `token` of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Text<36>>,
    /// `payload` of the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Text<255>>,
}

/// Whether a body comes to the API and back: of who has a key, whatever that may do. It is neither
/// kept nor written anywhere.
#[utoipa::path(
    post,
    path = "/ping",
    tag = "ping",
    request_body = Echo,
    responses((status = 200, description = "What was sent.", body = Echoed)),
)]
pub(super) async fn echo<W: Seams>(
    State(_): State<Arc<Api<W>>>,
    _: Caller,
    query: Query,
    Body(Echo { token, payload }): Body<Echo>,
) -> Result<Json<Echoed>, Problem> {
    query.finish()?;
    Ok(Json(Echoed { success: true, id: token, payload }))
}
