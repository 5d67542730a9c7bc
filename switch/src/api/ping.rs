//! `/ping`: whether the API answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use crate::clock::Clock;
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
