//! Bodies of calls: JSON up to a length, read in time, and each mistake with its place. What was
//! sent is never repeated: it may be a PIN or a PAN.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::StreamExt;
use hyper::body::Body as _;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Api;
use super::problem::{Door, Problem};
use crate::config::ApiLimits;
use crate::switch::Seams;

/// The body of a call.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, W: Seams> FromRequest<Arc<Api<W>>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api<W>>) -> Result<Body<T>, Problem> {
        let (parts, body) = request.into_parts();
        read_json(&read(&parts.headers, body, &api.switch.limits.api).await?).map(Body)
    }
}

/// The bytes of a body that is said to be JSON.
pub(super) async fn read(
    headers: &HeaderMap,
    body: axum::body::Body,
    limits: &ApiLimits,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or("?"));
    if !kind.is_some_and(is_json) {
        let text = "the body must be application/json";
        return Err(Problem::new(Door::UnsupportedMediaType, text));
    }
    let read = read_whole(body, limits.body_bytes_max);
    match timeout(limits.request_seconds_max, read).await {
        Ok(Some(body)) => Ok(body),
        // A peer that has gone reads no answer, so this is the length.
        Ok(None) => {
            let text = "the body is longer than api_body_kb_max";
            Err(Problem::new(Door::TooLarge, text))
        }
        Err(_) => {
            let text = "the body took longer than api_request_seconds_max";
            Err(Problem::new(Door::TooSlow, text))
        }
    }
}

/// A whole body, in a buffer of its own that is wiped; `None` where it is longer than this. A
/// buffer that grew would leave copies behind.
async fn read_whole(body: axum::body::Body, bytes_max: usize) -> Option<Zeroizing<Vec<u8>>> {
    let announced = body.size_hint().upper().and_then(|length| usize::try_from(length).ok());
    let length = announced.unwrap_or(bytes_max);
    if length > bytes_max {
        return None;
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(length));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.ok()?;
        if whole.len() + piece.len() > bytes_max {
            return None;
        }
        whole.extend_from_slice(&piece);
    }
    Some(whole)
}

fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

pub(super) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Of a list serde would take the items for fields, in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::at(String::new(), "expected an object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize(&mut json) {
        // Nothing may stand behind it.
        Ok(value) => json.end().map(|()| value).map_err(|_| not_json()),
        Err(error) if error.inner().is_data() => {
            let pointer = pointer(error.path());
            Err(Problem::at(pointer, expected(error.inner())))
        }
        // Of some types serde calls a wrong one no JSON.
        Err(error) if is_json_text(body) => {
            Err(Problem::at(pointer(error.path()), "not what may stand here".to_owned()))
        }
        Err(_) => Err(not_json()),
    }
}

/// Whether it is one JSON document, whatever stands in it. Nothing of it is copied.
fn is_json_text(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

pub(super) fn not_json() -> Problem {
    Problem::new(Door::InvalidJson, "the body is not one JSON document")
}

/// The place of a mistake as a JSON pointer (RFC 6901), up to a name that is none of ours: ours
/// have letters and `_`, and another may be anything.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment::{Enum, Map, Seq, Unknown};
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Seq { index } => pointer.push_str(&format!("/{index}")),
            Map { key } if key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
                pointer.push('/');
                pointer.push_str(key);
            }
            Map { .. } => break,
            Enum { .. } | Unknown => {}
        }
    }
    pointer
}

/// What serde expected there: the only part of its text that does not repeat what was sent.
fn expected(error: &serde_json::Error) -> String {
    let text = Zeroizing::new(error.to_string());
    // The place is at its end: before it may stand the name of a field, as it was sent.
    let text = text.rsplit_once(" at line ").map_or("", |(text, _)| text);
    if let Some((_, expected)) = text.rsplit_once(", expected ") {
        return match text.starts_with("unknown field") {
            true => format!("a field that is not known here; expected {expected}"),
            false => format!("expected {expected}"),
        };
    }
    match text {
        // The names in these are ours.
        text if text.starts_with("missing field") || text.starts_with("duplicate field") => {
            text.to_owned()
        }
        crate::issuing::secret::SECRET_IS_TEXT => text.to_owned(),
        _ => "not what may stand here".to_owned(),
    }
}
