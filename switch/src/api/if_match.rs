//! Versions: an answer names what it shows by an `ETag`, and a change may be bound to it by
//! `If-Match` (RFC 9110). Only strong ones: `W/` never matches.

use std::fmt::Display;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::header::{ETAG, HeaderName, IF_MATCH};
use axum::http::request::Parts;

use super::problem::{Door, Problem};
use crate::issuing::tokens::Expected;

/// The versions on which a call may change something.
pub(super) struct IfMatch(pub(super) Expected);

/// The header of an answer that shows this version: letters, digits, `-` and the like.
pub(super) fn etag(version: impl Display) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::try_from(format!("\"{version}\""));
    debug_assert!(value.is_ok(), "a version is a header");
    [(ETAG, value.unwrap_or_else(|_| HeaderValue::from_static("\"\"")))]
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IfMatch, Problem> {
        let headers = parts.headers.get_all(IF_MATCH);
        let texts: Option<Vec<&str>> = headers.iter().map(|header| header.to_str().ok()).collect();
        let expected = texts.and_then(|texts| match texts.is_empty() {
            true => Some(Expected::Any),
            false => read(&texts.join(",")),
        });
        let text = "If-Match is not a list of entity tags, such as \"7\", or *";
        expected.map(IfMatch).ok_or_else(|| Problem::new(Door::InvalidRequest, text))
    }
}

fn read(list: &str) -> Option<Expected> {
    if list.trim() == "*" {
        return Some(Expected::Any);
    }
    let (mut versions, mut rest) = (Vec::new(), list.trim());
    while !rest.is_empty() {
        let (is_weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let (version, behind) = tag.strip_prefix('"')?.split_once('"')?;
        if !is_weak {
            versions.push(version.into());
        }
        rest = behind.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(Expected::OneOf(versions))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags_are_read() {
        let one_of = |versions: &[&str]| {
            Some(Expected::OneOf(versions.iter().map(|version| (*version).into()).collect()))
        };
        assert_eq!(read("*"), Some(Expected::Any));
        assert_eq!(read("\"7\""), one_of(&["7"]));
        assert_eq!(read(" \"7\", \"a,b\" , W/\"9\",\"\""), one_of(&["7", "a,b", ""]));
        assert_eq!(read("W/\"7\""), one_of(&[]));
        for wrong in ["7", "\"7", "\"7\" \"8\"", "*, \"7\"", "w/\"7\""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
