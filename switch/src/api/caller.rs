//! Who calls: an API key and its secret, by HTTP Basic or as `Bearer id:secret`, and what it may
//! do. Who is not known learns nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use compact_str::CompactString;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ObjectBuilder, Required, Type};
use zeroize::Zeroizing;

use super::Api;
use super::problem::{Door, Mistake, Problem};
use crate::config::Profile;
use crate::event::Actor;
use crate::issuing::api_keys::{self, Scope};
use crate::switch::Seams;

/// For whom the owner of the key acts: a name of his own, for the audit.
const AUDIT_USER: HeaderName = HeaderName::from_static("x-audit-user");
const AUDIT_USER_BYTES_MAX: usize = 64;
/// Fewer digits than a PAN has.
const AUDIT_USER_DIGITS_MAX: usize = 12;

/// Who calls.
pub(super) struct Caller {
    actor: Actor,
    scopes: BTreeSet<Scope>,
    profile: Profile,
}

/// The id of the API key by which a call is made.
#[derive(Clone)]
pub(super) struct CallerName(pub(super) Arc<str>);

impl Caller {
    /// Who calls, where he may do this.
    pub(super) fn may(&self, scope: Scope) -> Result<&Actor, Problem> {
        self.may_one_of(&[scope])
    }

    /// Who calls, where he may do this, and the switch is not in production.
    pub(super) fn may_in_test(&self, scope: Scope) -> Result<&Actor, Problem> {
        match self.profile {
            Profile::Test => self.may(scope),
            Profile::Production => {
                let text = "a switch in production neither simulates nor shows a PIN in clear";
                Err(Problem::new(Door::NotInProduction, text))
            }
        }
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
                let audit_user = audit_user(&parts.headers)?;
                let actor = Actor { audit_user, ..Actor::api_key(key, address) };
                parts.extensions.insert(CallerName(key.as_str().into()));
                Ok(Caller { actor, scopes, profile: api.profile })
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

fn audit_user(headers: &HeaderMap) -> Result<Option<CompactString>, Problem> {
    let mut given = headers.get_all(AUDIT_USER).iter();
    let Some(name) = given.next() else { return Ok(None) };
    let is_once = given.next().is_none();
    let name = name.to_str().ok().filter(|name| is_once && is_audit_user(name));
    let detail = "expected it once, 1 to 64 printable ASCII characters, 12 digits at most";
    let mistake = Mistake { pointer: "X-Audit-User".to_owned(), detail: detail.to_owned() };
    name.map(|name| Some(name.into())).ok_or_else(|| Problem::all(vec![mistake]))
}

fn is_audit_user(name: &str) -> bool {
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    (1..=AUDIT_USER_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && digits <= AUDIT_USER_DIGITS_MAX
}

/// The same, as the description of the API has it.
pub(super) fn audit_user_parameter() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(AUDIT_USER_BYTES_MAX))
        .pattern(Some("^([!-/:-~][ -/:-~]*)?([0-9][ -/:-~]*){0,12}$"));
    ParameterBuilder::new()
        .name("X-Audit-User")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "For whom the owner of the API key acts: the audit and the events name it beside the \
             key.",
        ))
        .schema(Some(schema))
        .build()
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
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn nothing_is_simulated_and_no_pin_shown_in_clear_in_production() {
        let caller = |profile| {
            let actor = Actor::api_key("test", IpAddr::from([127, 0, 0, 1]));
            Caller { actor, scopes: Scope::ALL.iter().copied().collect(), profile }
        };
        let status = |caller: &Caller, scope| match caller.may_in_test(scope) {
            Ok(_) => StatusCode::OK,
            Err(problem) => problem.into_response().status(),
        };
        for scope in [Scope::Simulate, Scope::PinView] {
            assert_eq!(status(&caller(Profile::Test), scope), StatusCode::OK);
            assert_eq!(status(&caller(Profile::Production), scope), StatusCode::FORBIDDEN);
            assert!(caller(Profile::Production).may(scope).is_ok());
        }
    }

    #[test]
    fn who_is_acted_for_is_a_name() {
        let longest = "a".repeat(64);
        for name in ["ada", "Ada \"Lovelace\" <a@b>", "123456789012", &longest] {
            assert!(is_audit_user(name), "{name}");
        }
        let pan = "4761340000000019";
        let spaced = "4761 3400 0000 0019";
        for name in ["", "a\tb", "a\nb", "\u{e4}", pan, spaced, &format!("{longest}b")] {
            assert!(!is_audit_user(name), "{name}");
        }
    }

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
