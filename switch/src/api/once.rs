//! `Idempotency-Key`: a call that changes something and names itself is made once in 24 hours,
//! however often it is sent. Calls that show a PIN or check one are made each time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::Api;
use super::body;
use super::caller::CallerName;
use super::problem::{Door, Problem};
use crate::event::Actor;
use crate::issuing::{Call, Made, Once, Refused};
use crate::switch::{Seams, Switch};

const HEADER: &str = "Idempotency-Key";

/// Longest key of a call, in characters.
const KEY_CHARACTERS_MAX: usize = 255;

/// The header, as it is described.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub(super) struct IdempotencyKey {
    /// A name that the caller gives the call: 1 to 255 printable characters of ASCII. Sent again
    /// within 24 hours, the call is answered by what it made, and nothing is done; without what is
    /// shown once. A key that came with another call is 422, and one whose call is under way 409.
    /// PINs are not compared.
    #[param(rename = "Idempotency-Key", pattern = "^[!-~]{1,255}$")]
    key: Option<String>,
}

/// The body of a call that is made once, if it names itself.
pub(super) struct OnceBody<T>(pub(super) T, pub(super) Named);

/// What the caller named his call, which has no body.
pub(super) struct Named(Option<Once>);

impl<T: DeserializeOwned, W: Seams> FromRequest<Arc<Api<W>>> for OnceBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api<W>>) -> Result<OnceBody<T>, Problem> {
        let (parts, body) = request.into_parts();
        let json = body::read(&parts.headers, body, &api.switch.limits.api).await?;
        let form = body::read_json(&json)?;
        Ok(OnceBody(form, Named::read(&api.switch, &parts, &json)?))
    }
}

impl<W: Seams> FromRequestParts<Arc<Api<W>>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api<W>>) -> Result<Named, Problem> {
        Named::read(&api.switch, parts, b"")
    }
}

impl Named {
    fn read<W: Seams>(switch: &Switch<W>, parts: &Parts, json: &[u8]) -> Result<Named, Problem> {
        let mut keys = parts.headers.get_all(HEADER).iter();
        let Some(key) = keys.next() else { return Ok(Named(None)) };
        let is_key = |key: &&str| {
            let is_printable = key.bytes().all(|byte| byte.is_ascii_graphic());
            (1..=KEY_CHARACTERS_MAX).contains(&key.len()) && is_printable
        };
        let key = key.to_str().ok().filter(is_key).filter(|_| keys.next().is_none());
        let text = "Idempotency-Key is not one text of 1 to 255 printable characters of ASCII";
        let key = key.ok_or_else(|| Problem::new(Door::InvalidRequest, text))?;
        let caller = parts.extensions.get::<CallerName>();
        debug_assert!(caller.is_some(), "the caller is known before the body is read");
        let caller = caller.map_or("", |caller| &*caller.0);
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let call = (parts.method.as_str(), path);
        let once = Once::new(&switch.vault.documents, (caller, key), call, json);
        // What is taken and forgotten may be what is no JSON after all.
        once.map(|once| Named(Some(once))).ok_or_else(body::not_json)
    }
}

/// The calls that name themselves and are under way.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<HashSet<String>>);

impl UnderWay {
    fn change<T>(&self, change: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The place of a call among those that are under way.
struct Place<'a>(&'a UnderWay, &'a str);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.change(|calls| calls.remove(self.1));
    }
}

/// A call that is carried out now.
pub(super) struct Begun<'a> {
    /// Who calls, and by what the call is known again.
    pub(super) call: Call<'a>,
    /// What it made when it came before.
    pub(super) made: Option<Made>,
    _place: Option<Place<'a>>,
}

impl Begun<'_> {
    /// The token of what it made when it came before; empty where that has none.
    pub(super) fn made_token(&self) -> Option<&str> {
        match &self.made {
            Some(Made::Token(token)) => Some(token),
            Some(Made::WeakPin | Made::Message { .. }) | None => None,
        }
    }
}

impl<W: Seams> Api<W> {
    /// Begins a call, or finds what it made before.
    pub(super) async fn begin<'a>(
        &'a self,
        actor: &'a Actor,
        Named(once): &'a Named,
    ) -> Result<Begun<'a>, Refused> {
        let call = Call { actor, once: once.as_ref() };
        let Some(once) = once else { return Ok(Begun { call, made: None, _place: None }) };
        if !self.under_way.change(|calls| calls.insert(once.name().to_owned())) {
            return Err(Refused::CallUnderWay);
        }
        let place = Some(Place(&self.under_way, once.name()));
        let made = once.made(&self.switch).await?;
        if made.is_some() {
            tracing::info!(target: "audit", action = "call repeated", %actor);
        }
        Ok(Begun { call, made, _place: place })
    }
}
