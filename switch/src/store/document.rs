//! Documents: what the issuer keeps besides cards. Each has a kind, a token, a version and a body
//! of JSON, which is sealed where it may hold personal data or secrets.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use zeroize::Zeroizing;

use super::record::{DocumentRemoved, Entry, StoredDocument};
use crate::clock::Timestamp;
use crate::hsm::software::DocumentVault;
use crate::hsm::software::key::KeyFault;

/// Makes [`DocumentKind`] of a table with a line for each: its stored number, which never becomes
/// that of another one; its name; whether it is sealed; and how many seconds it lives at most.
macro_rules! document_kinds {
    ($($(#[$doc:meta])* $kind:ident = $number:literal, $name:literal, $is_sealed:literal,
       $seconds:expr;)*) => {
        /// What a document is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DocumentKind {
            $($(#[$doc])* $kind = $number,)*
        }

        impl DocumentKind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[DocumentKind] = &[$(DocumentKind::$kind,)*];

            /// Name, whether it is sealed, and seconds that it lives at most.
            const fn row(self) -> (&'static str, bool, Option<u64>) {
                match self {
                    $(DocumentKind::$kind => ($name, $is_sealed, $seconds),)*
                }
            }
        }
    };
}

const DAY_SECONDS: u64 = 24 * 3_600;

document_kinds! {
    /// A product that the API or the configuration has made.
    Product = 1, "product", false, None;
    /// A cardholder.
    User = 2, "user", true, None;
    /// What is known of the holder of a card, and of how it is sent out.
    CardDetails = 3, "card_details", true, None;
    /// A number that stands for a plastic: Galileo's CAD and PRN.
    PlasticNumber = 4, "plastic_number", false, None;
    /// Who may call the API. Its secret is kept as a keyed digest.
    ApiKey = 5, "api_key", true, None;
    /// An order of many cards at once.
    BulkOrder = 6, "bulk_order", true, None;
    /// An account with its holder.
    Account = 7, "account", true, None;
    /// Where events are sent, with the secret they are signed with.
    WebhookEndpoint = 8, "webhook_endpoint", true, None;
    /// What goes into the files of an embosser, with the PIN blocks that were drawn for it.
    EmbossRun = 9, "emboss_run", true, None;
    /// A token of a PIN page that was used, or a flow that it opened.
    ControlToken = 10, "control_token", true, Some(DAY_SECONDS);
    /// What an Idempotency-Key was answered.
    IdempotentAnswer = 11, "idempotent_answer", false, Some(DAY_SECONDS);
    /// An event that an endpoint did not take, and when it is tried next.
    Delivery = 12, "delivery", true, Some(30 * DAY_SECONDS);
    /// A PIN block that the issuer may have shown, of a card whose product says so.
    ViewablePin = 13, "viewable_pin", true, None;
    /// A card of a cardholder: its token is theirs, with a `/` between.
    CardOfUser = 14, "card_of_user", false, None;
    /// A transition of a card whose token the client chose.
    Transition = 15, "transition", true, Some(7 * DAY_SECONDS);
    /// The chip of a card that is played for simulations.
    VirtualChip = 16, "virtual_chip", true, None;
    /// A token by which the PIN of a card may be set or seen, as a keyed digest.
    PinControl = 17, "pin_control", true, Some(3_600);
}

impl DocumentKind {
    /// The stored number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with a stored number; `None` for a number that none has.
    #[must_use]
    pub fn from_number(number: u8) -> Option<DocumentKind> {
        DocumentKind::ALL.iter().copied().find(|kind| kind.number() == number)
    }

    /// The name in logs and counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// Whether its body may hold personal data or secrets, and is sealed.
    #[must_use]
    pub const fn is_sealed(self) -> bool {
        self.row().1
    }

    /// How long one lives at most; `None` for ever.
    #[must_use]
    pub const fn lifetime(self) -> Option<Duration> {
        match self.row().2 {
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => None,
        }
    }
}

/// A document as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub kind: DocumentKind,
    /// Its name among those of its kind.
    pub token: CompactString,
    /// Given by the store when it is written; no other version of it ever has the same.
    pub version: u64,
    /// The version that it replaced; 0 for none.
    pub replaces: u64,
    /// When it is over, and counts as removed.
    pub expires: Option<Timestamp>,
    /// JSON, or what seals it.
    pub(in crate::store) body: Arc<[u8]>,
}

impl Document {
    /// Its JSON, wiped from memory when it is dropped.
    ///
    /// # Errors
    /// If it was sealed with another key, for another place, or was altered.
    pub fn json(&self, vault: &DocumentVault) -> Result<Zeroizing<Vec<u8>>, KeyFault> {
        match self.kind.is_sealed() {
            true => vault.open(&place_of(self.kind, &self.token, self.replaces), &self.body),
            false => Ok(Zeroizing::new(self.body.to_vec())),
        }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// What the seal of a document covers besides its text. The version is known only when the record
/// is written, so it is the one that was replaced.
fn place_of(kind: DocumentKind, token: &str, replaces: u64) -> Vec<u8> {
    let head = [kind.number()];
    [&head[..], &replaces.to_be_bytes(), token.as_bytes()].concat()
}

/// A document that is written or removed in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentChange {
    /// What it is.
    pub kind: DocumentKind,
    /// Its name among those of its kind: 1 to [`TOKEN_BYTES_MAX`] bytes.
    pub token: CompactString,
    /// The version that was read; 0 where there must be none.
    pub read: u64,
    /// What becomes of it; `None` removes it.
    pub(in crate::store) body: Option<Arc<[u8]>>,
    /// When it is over. Of a kind with a lifetime it is that much from the commit on at most.
    pub expires: Option<Timestamp>,
}

/// Longest token of a document, in bytes.
pub const TOKEN_BYTES_MAX: usize = 128;

impl DocumentChange {
    /// Writes a document, sealed if its kind is.
    ///
    /// # Errors
    /// Never for a body that a commit takes.
    pub fn write(
        vault: &DocumentVault,
        (kind, token): (DocumentKind, &str),
        read: u64,
        json: &[u8],
    ) -> Result<DocumentChange, KeyFault> {
        let body = match kind.is_sealed() {
            true => vault.seal(&place_of(kind, token, read), json)?.into(),
            false => json.into(),
        };
        Ok(DocumentChange { kind, token: token.into(), read, body: Some(body), expires: None })
    }

    /// The same, over at this time.
    #[must_use]
    pub fn until(self, expires: Timestamp) -> DocumentChange {
        DocumentChange { expires: Some(expires), ..self }
    }

    /// Removes a document.
    #[must_use]
    pub fn remove(document: &Document) -> DocumentChange {
        let (kind, token, read) = (document.kind, document.token.clone(), document.version);
        DocumentChange { kind, token, read, body: None, expires: None }
    }

    /// Appends it to an entry. It is over then.
    pub fn put(&self, expires: Option<Timestamp>, entry: &mut Entry) {
        let (kind, token) = (self.kind, Cow::Borrowed(&*self.token));
        match &self.body {
            None => entry.put(&DocumentRemoved { kind, token }),
            Some(body) => {
                let (replaces, body) = (self.read, Arc::clone(body));
                entry.put(&StoredDocument { kind, token, replaces, expires, body });
            }
        }
    }

    /// When it is over, if it is committed at `now`.
    pub(in crate::store) fn over_at(&self, now: Timestamp) -> Option<Timestamp> {
        let longest = self
            .kind
            .lifetime()
            .map(|lifetime| now.shifted(i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX)));
        match (self.expires, longest) {
            (Some(expires), Some(longest)) => Some(expires.min(longest)),
            (expires, longest) => expires.or(longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::software::PanVault;

    #[test]
    fn every_number_and_every_name_is_of_one_kind() {
        for kind in DocumentKind::ALL {
            assert_eq!(DocumentKind::from_number(kind.number()), Some(*kind));
        }
        assert_eq!(DocumentKind::from_number(0), None);
        let names: std::collections::BTreeSet<_> =
            DocumentKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), DocumentKind::ALL.len());
    }

    fn written(change: DocumentChange) -> Document {
        let DocumentChange { kind, token, read, body, expires } = change;
        Document { kind, token, version: 9, replaces: read, expires, body: body.unwrap() }
    }

    #[test]
    fn a_sealed_document_opens_in_its_place_only() {
        let pans = PanVault::new(&[1; 32], &[2; 32]).unwrap();
        let (vault, json) = (&pans.documents, b"{\"name\": \"Ada\"}");
        let change = DocumentChange::write(vault, (DocumentKind::User, "u"), 3, json).unwrap();
        let sealed = written(change);
        assert!(!sealed.body.windows(3).any(|part| part == b"Ada"));
        assert_eq!(&**sealed.json(vault).unwrap(), json);
        let others = [
            Document { kind: DocumentKind::Account, ..sealed.clone() },
            Document { token: "v".into(), ..sealed.clone() },
            Document { replaces: 4, ..sealed.clone() },
        ];
        assert!(others.iter().all(|other| other.json(vault).is_err()));
        let other_key = PanVault::new(&[3; 32], &[2; 32]).unwrap();
        assert!(sealed.json(&other_key.documents).is_err());
        let change = DocumentChange::write(vault, (DocumentKind::Product, "p"), 0, json).unwrap();
        assert_eq!(&*written(change).body, json);
    }

    #[test]
    fn no_document_outlives_its_kind() {
        let (now, day) = (Timestamp::from_seconds(1_000), 24 * 3_600);
        let vault = PanVault::new(&[1; 32], &[2; 32]).unwrap().documents;
        let change = |kind| DocumentChange::write(&vault, (kind, "t"), 0, b"{}").unwrap();
        let answer = change(DocumentKind::IdempotentAnswer);
        let at = |seconds| Some(Timestamp::from_seconds(seconds));
        assert_eq!(answer.over_at(now), at(1_000 + day));
        let early = answer.clone().until(Timestamp::from_seconds(1_030));
        assert_eq!(early.over_at(now), at(1_030));
        let late = answer.until(Timestamp::from_seconds(i64::from(u32::MAX)));
        assert_eq!(late.over_at(now), at(1_000 + day));
        assert_eq!(change(DocumentKind::Product).over_at(now), None);
    }
}
