//! API keys: who may call the API, and for what. A secret is made here, shown once, and kept as a
//! keyed digest.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::listing::Pages;
use super::tokens::Token;
use super::{Call, Refused, audit};
use crate::clock::Clock;
use crate::event::Actor;
use crate::hsm::software::random;
use crate::store::document::{Document, DocumentChange, DocumentKind};
use crate::store::{Changed, Commit, CommitError, Store};
use crate::switch::{Seams, Switch};

/// Makes [`Scope`] of a table with a line for each. A name is a `tt`: utoipa does not see into a
/// `literal`, and would describe the names of the variants.
macro_rules! scopes {
    ($($(#[$doc:meta])* $scope:ident = $name:tt;)*) => {
        /// What a key may do.
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            Serialize,
            Deserialize,
            utoipa::ToSchema,
        )]
        pub enum Scope {
            $($(#[$doc])* #[serde(rename = $name)] $scope,)*
        }

        impl Scope {
            /// All of them.
            pub const ALL: &[Scope] = &[$(Scope::$scope,)*];

            /// As clients write it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Scope::$scope => $name,)*
                }
            }
        }
    };
}

scopes! {
    /// Read users, cards, their states and their transactions.
    CardsRead = "cards:read";
    /// Create and change users and cards.
    CardsWrite = "cards:write";
    /// Set, unblock and verify PINs.
    PinSet = "pin:set";
    /// Show PINs.
    PinView = "pin:view";
    /// Show PANs.
    PanRead = "pan:read";
    /// Create and change products.
    Products = "products";
    /// Order cards, and read what an embosser gets.
    Fulfilment = "fulfilment";
    /// Say where events are sent, and read them.
    Webhooks = "webhooks";
    /// Simulate transactions and the shipping of cards.
    Simulate = "simulate";
    /// Make and revoke API keys.
    Admin = "admin";
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What expected scopes are, for whoever names another.
const EXPECTED_SCOPES: &str = "cards:read, cards:write, pin:set, pin:view, pan:read, products, \
                               fulfilment, webhooks, simulate or admin";

impl FromStr for Scope {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Scope, Refused> {
        let known = Scope::ALL.iter().copied().find(|scope| scope.name() == text);
        known.ok_or(Refused::Field { name: "scopes", expected: EXPECTED_SCOPES })
    }
}

/// A key as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredApiKey {
    scopes: BTreeSet<Scope>,
    created_time: String,
    /// Keyed digest of the secret.
    digest: [u8; 32],
}

/// A key as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyView {
    /// Its id: the user name of HTTP Basic authentication.
    pub token: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made, RFC 3339 in UTC.
    pub created_time: String,
    /// Its secret, when it is made and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub secret: Option<Secret>,
}

/// The secret of a new key, on its way to whoever asked for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// As its owner writes it down.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Makes a key with these scopes, and its secret.
///
/// # Errors
/// If there is such a key, or the token or a scope is none.
pub async fn add<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    scopes: &[String],
) -> Result<ApiKeyView, Refused> {
    let added = add_unaudited(switch, call, token, scopes).await;
    let refused = added.as_ref().err().map(Refused::code);
    let key = added.as_ref().ok().map(|key| key.token.as_str());
    let (done, actor) = (added.is_ok(), call.actor);
    tracing::info!(target: "audit", action = "add api key", key, done, %actor, ?refused);
    added
}

async fn add_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    token: &str,
    scopes: &[String],
) -> Result<ApiKeyView, Refused> {
    Token::read(token)?;
    let scopes = scopes.iter().map(|scope| scope.parse()).collect::<Result<BTreeSet<_>, _>>()?;
    if scopes.is_empty() {
        return Err(Refused::Field { name: "scopes", expected: EXPECTED_SCOPES });
    }
    let bytes = Zeroizing::new(random::bytes::<SECRET_BYTES>().map_err(Refused::Sealing)?);
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
    let beside = call.made(switch, token)?;
    let added = write(switch, token, (scopes, &secret), beside).await?;
    Ok(ApiKeyView { secret: Some(Secret(secret)), ..added })
}

async fn write<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    (scopes, secret): (BTreeSet<Scope>, &str),
    beside: Option<DocumentChange>,
) -> Result<ApiKeyView, Refused> {
    let vault = &switch.vault.documents;
    let created_time = switch.clock.now().to_string();
    let digest = vault.digest(DIGEST_OF_SECRET, secret.as_bytes());
    let stored = StoredApiKey { scopes, created_time, digest };
    let json = Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default());
    debug_assert!(!json.is_empty(), "a key is a JSON object with texts as keys");
    let place = (DocumentKind::ApiKey, token);
    let change = DocumentChange::write(vault, place, 0, &json).map_err(Refused::Sealing)?;
    let documents = [change].into_iter().chain(beside).collect();
    match switch.store.commit(Commit { documents, ..Commit::default() }, &mut None).await {
        Ok(_) => Ok(stored.view(token)),
        Err(CommitError::Changed(Changed::Document(..))) => Err(Refused::ApiKeyTaken),
        Err(error) => Err(error.into()),
    }
}

/// Randomness of a secret, in bytes.
const SECRET_BYTES: usize = 32;

/// What a digest is made of, so that no other digest is ever taken for it.
const DIGEST_OF_SECRET: &[u8] = b"api secret";

/// The demo's key, which everybody knows: it may do everything.
///
/// # Errors
/// If the store has failed.
pub async fn add_demo_key<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    secret: &str,
) -> Result<(), Refused> {
    match write(switch, token, (Scope::ALL.iter().copied().collect(), secret), None).await {
        Ok(_) | Err(Refused::ApiKeyTaken) => Ok(()),
        Err(refused) => Err(refused),
    }
}

/// A key, without its secret.
///
/// # Errors
/// If there is no such key.
pub async fn show<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<ApiKeyView, Refused> {
    let document = switch.store.document(DocumentKind::ApiKey, token).await?;
    let shown = document.ok_or(Refused::NoSuchApiKey);
    let shown = shown.and_then(|it| Ok(StoredApiKey::read(switch, &it)?.view(token)));
    audit::of_reading(actor, "api key", shown)
}

/// All keys, without their secrets.
///
/// # Errors
/// If they cannot be read.
pub async fn list<W: Seams>(switch: &Switch<W>, actor: &Actor) -> Result<Vec<ApiKeyView>, Refused> {
    audit::of_reading(actor, "api keys", all(switch).await)
}

async fn all<W: Seams>(switch: &Switch<W>) -> Result<Vec<ApiKeyView>, Refused> {
    let (mut views, mut pages) = (Vec::new(), Pages::of(DocumentKind::ApiKey));
    while let Some(page) = pages.next(switch).await? {
        for (token, document) in &page {
            views.push(StoredApiKey::read(switch, document)?.view(token));
        }
    }
    Ok(views)
}

/// A key may do nothing from now on.
///
/// # Errors
/// If there is no such key.
pub async fn revoke<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<(), Refused> {
    let revoked = revoke_unaudited(switch, token).await;
    let refused = revoked.as_ref().err().map(Refused::code);
    let (done, key) = (revoked.is_ok(), revoked.is_ok().then_some(token));
    tracing::info!(target: "audit", action = "revoke api key", key, done, %actor, ?refused);
    revoked
}

async fn revoke_unaudited<W: Seams>(switch: &Switch<W>, token: &str) -> Result<(), Refused> {
    let document = switch.store.document(DocumentKind::ApiKey, token).await?;
    let document = document.ok_or(Refused::NoSuchApiKey)?;
    let documents = vec![DocumentChange::remove(&document)];
    match switch.store.commit(Commit { documents, ..Commit::default() }, &mut None).await {
        Ok(_) => Ok(()),
        // Somebody else has revoked it meanwhile: keys are never changed.
        Err(CommitError::Changed(_)) => Err(Refused::NoSuchApiKey),
        Err(error) => Err(error.into()),
    }
}

/// What whoever names this key and this secret may do; nothing where they do not belong together.
/// An unknown key takes as long as a wrong secret.
///
/// # Errors
/// If the store cannot be read.
pub async fn scopes_of<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    secret: &[u8],
) -> Result<Option<BTreeSet<Scope>>, Refused> {
    let document = switch.store.document(DocumentKind::ApiKey, token).await?;
    let stored = document.map(|document| StoredApiKey::read(switch, &document)).transpose()?;
    let digest = switch.vault.documents.digest(DIGEST_OF_SECRET, secret);
    let known = stored.as_ref().map_or([0; 32], |stored| stored.digest);
    let is_right = bool::from(known.ct_eq(&digest));
    Ok(stored.filter(|_| is_right).map(|stored| stored.scopes))
}

impl StoredApiKey {
    fn read<W: Seams>(switch: &Switch<W>, document: &Document) -> Result<StoredApiKey, Refused> {
        let json = document.json(&switch.vault.documents).map_err(Refused::Sealing)?;
        serde_json::from_slice(&json).map_err(|_| Refused::DocumentUnreadable("api key"))
    }

    fn view(&self, token: &str) -> ApiKeyView {
        ApiKeyView {
            token: token.to_owned(),
            scopes: self.scopes.iter().copied().collect(),
            created_time: self.created_time.clone(),
            secret: None,
        }
    }
}
