//! What is the same of every call: its id, its headers, its log line, and that it is carried out
//! whole, whoever hangs up meanwhile.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Frame, SizeHint};

use super::Api;
use super::problem::{self, Door, Problem};
use crate::cards::Pan;
use crate::clock::Clock;
use crate::switch::Seams;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that a caller may give his call.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Ids of calls that brought none.
#[derive(Default)]
pub(super) struct RequestIds(AtomicU64);

impl RequestIds {
    /// The id that the caller gave, if it is harmless, and else one that no call had since the
    /// switch has started.
    fn of(&self, given: Option<&HeaderValue>, now: impl FnOnce() -> i64) -> HeaderValue {
        let valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let given = given.filter(|given| {
            let bytes = given.as_bytes();
            (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len())
                && bytes.iter().all(valid)
                && Pan::parse(bytes).is_none()
        });
        given.cloned().unwrap_or_else(|| {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            let text = format!("{:x}-{number:x}", now());
            debug_assert!(HeaderValue::from_str(&text).is_ok(), "hexadecimal digits are a header");
            HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("none"))
        })
    }
}

/// The body of a call, which says when it was read to its end.
struct Watched {
    body: Body,
    is_read: Arc<AtomicBool>,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Carries out a call. It runs on when its caller has gone: what has begun to change is changed
/// and written into the audit.
pub(super) async fn call<W: Seams>(
    State(api): State<Arc<Api<W>>>,
    request: Request,
    next: Next,
) -> Response {
    let clock = &api.switch.clock;
    let begun = clock.monotonic();
    let id = api.request_ids.of(request.headers().get(REQUEST_ID), || clock.now().micros());
    let method = request.method().clone();
    // The route, never the path: that holds what the caller wrote.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let is_read = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let is_http_1 = request.version() <= Version::HTTP_11;
    let request = request.map(|body| Body::new(Watched { body, is_read: Arc::clone(&is_read) }));
    let mut response = tokio::spawn(next.run(request)).await.unwrap_or_else(|_| {
        let text = "it could not be done, and the log of the switch says why";
        Problem::new(Door::Internal, text).into_response()
    });
    if response.status() == StatusCode::BAD_REQUEST && !is_problem(&response) {
        // The framework's own answer, where a token in the path cannot be read.
        let text = "the path has a part that is not UTF-8";
        response = Problem::new(Door::InvalidRequest, text).into_response();
    }
    let took = clock.monotonic().saturating_sub(begun);
    account(&api, &method, route.as_ref(), response.status(), (&id, took));
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    // What is left of the body would be taken for the next call: hyper closes the connection then,
    // and the caller must know it.
    if is_http_1 && !is_read.load(Ordering::Relaxed) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn is_problem(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes() == problem::MEDIA_TYPE.as_bytes())
}

fn account<W: Seams>(
    api: &Api<W>,
    method: &Method,
    route: Option<&MatchedPath>,
    status: StatusCode,
    (id, took): (&HeaderValue, Duration),
) {
    api.switch.metrics.api_call(status.as_u16(), took);
    tracing::info!(
        target: "api",
        %method,
        route = route.map_or("none", MatchedPath::as_str),
        status = status.as_u16(),
        request_id = id.to_str().unwrap_or("none"),
        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_may_be_something_else_is_not_taken_over() {
        let ids = RequestIds::default();
        let of = |given: &str| {
            let given = HeaderValue::from_str(given).unwrap();
            ids.of(Some(&given), || 255).to_str().unwrap().to_owned()
        };
        assert_eq!(of("6f1c-7"), "6f1c-7");
        for wrong in ["", "a b", "4761340000000019", &"a".repeat(65)] {
            assert!(of(wrong).starts_with("ff-"), "{wrong}");
        }
    }
}
