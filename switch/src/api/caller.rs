//! Who calls: an API key and its secret, by HTTP Basic or as `Bearer id:secret`, and what it may
//! do. Who is not known learns nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Api;
use super::problem::{Door, Problem};
use crate::event::Actor;
use crate::issuing::api_keys::{self, Scope};
use crate::switch::Seams;

/// Who calls.
pub(super) struct Caller {
    actor: Actor,
    scopes: BTreeSet<Scope>,
}

/// The id of the API key by which a call is made.
#[derive(Clone)]
pub(super) struct CallerName(pub(super) Arc<str>);

impl Caller {
    /// Who calls, where he may do this.
    pub(super) fn may(&self, scope: Scope) -> Result<&Actor, Problem> {
        self.may_one_of(&[scope])
    }

    /// Who calls, where one of these scopes is enough.
    pub(super) fn may_one_of(&self, scopes: &[Scope]) -> Result<&Actor, Problem> {
        match scopes.iter().any(|scope| self.scopes.contains(scope)) {
            true => Ok(&self.actor),
            false => {
                let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
                let (scope, actor) = (names.join(" or "), &self.actor);
                tracing::warn!(target: "audit", action = "scope missing", %scope, %actor);
                let text = format!("the API key has not the scope {scope}");
                Err(Problem::new(Door::Forbidden, &text))
            }
        }
    }
}

impl<W: Seams> FromRequestParts<Arc<Api<W>>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api<W>>) -> Result<Caller, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        debug_assert!(peer.is_some(), "each connection says where it comes from");
        let address = peer.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let header = parts.headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
        let Some(credentials) = header.and_then(Credentials::read) else {
            return Err(Problem::unauthorized());
        };
        let Credentials { key, secret } = &credentials;
        match api_keys::scopes_of(&api.switch, key, secret).await? {
            Some(scopes) => {
                api.limits.call(key)?;
                parts.extensions.insert(CallerName(key.as_str().into()));
                Ok(Caller { actor: Actor::api_key(key, address), scopes })
            }
            None => {
                let wait = api.limits.wrong_secret(address);
                tracing::warn!(target: "audit", action = "wrong api secret", %address);
                wait?;
                Err(Problem::unauthorized())
            }
        }
    }
}

/// What a header says of the caller.
struct Credentials {
    key: String,
    secret: Zeroizing<Vec<u8>>,
}

impl Credentials {
    fn read(header: &str) -> Option<Credentials> {
        let (scheme, rest) = header.split_once(' ')?;
        let pair = match scheme {
            _ if scheme.eq_ignore_ascii_case("basic") => {
                Zeroizing::new(STANDARD.decode(rest.trim()).ok()?)
            }
            _ if scheme.eq_ignore_ascii_case("bearer") => {
                Zeroizing::new(rest.trim().as_bytes().to_vec())
            }
            _ => return None,
        };
        let colon = pair.iter().position(|byte| *byte == b':')?;
        let (key, secret) = pair.split_at_checked(colon)?;
        let key = std::str::from_utf8(key).ok()?.to_owned();
        Some(Credentials { key, secret: Zeroizing::new(secret.get(1..)?.to_vec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_in_both_forms() {
        for header in ["Basic ZGVtbzpkZTpt", "basic  ZGVtbzpkZTpt", "Bearer demo:de:m"] {
            let read = Credentials::read(header).unwrap();
            assert_eq!((&*read.key, &**read.secret), ("demo", &b"de:m"[..]), "{header}");
        }
        for header in ["", "Basic", "Basic !", "Basic ZGVtbw==", "Bearer demo", "Digest a:b"] {
            assert!(Credentials::read(header).is_none(), "{header}");
        }
    }
}
