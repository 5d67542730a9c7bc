//! Control tokens: whoever has one may set, or see, the PIN of one card, for a while and once. Only
//! a keyed digest of it is kept. The newest of a card and purpose ends the one before. A card is a
//! plastic here, as everywhere on the API: one that is reissued has a token of its own.
//!
//! A token is 36 characters: 27 bytes as base64url without padding. They are
//!
//! ```text
//! place    8  where its document is: a keyed digest of card and purpose
//! ends     4  when it is over, in seconds since 1970
//! random   8
//! mac      7  over all before it: what does not fit was not made here
//! ```
//!
//! So a token tells by itself when it is over, and one without a document is over by use.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::change::{event, load, place, token_of};
use super::{Call, Made, Refused, audit};
use crate::cache::Card;
use crate::cards::{CardKey, CardStatus};
use crate::clock::{Clock, Timestamp};
use crate::event::EventKind;
use crate::hsm::software::{DocumentVault, random};
use crate::store::document::{Document, DocumentChange, DocumentKind};
use crate::store::{COMMIT_ATTEMPTS_MAX, Commit, CommitError, Store};
use crate::switch::{Seams, Switch};

/// What a control token is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Purpose {
    /// To set the PIN.
    #[default]
    SetPin,
    /// To see it. Clients of an older description write `SHOW_PIN`.
    #[serde(alias = "SHOW_PIN")]
    RevealPin,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Purpose::SetPin => "SET_PIN",
            Purpose::RevealPin => "REVEAL_PIN",
        }
    }

    /// How long a token lives, in seconds.
    const fn seconds(self) -> i64 {
        match self {
            Purpose::SetPin => 60 * 60,
            Purpose::RevealPin => 5 * 60,
        }
    }
}

/// Whether a call about the PIN of this card may go on, or its card has had too many lately.
pub type Admit<'a> = &'a (dyn Fn(&str) -> Result<(), Refused> + Send + Sync);

/// Weak PINs after which a token is used up.
const WEAK_PINS_MAX: u8 = 5;

/// Bytes of a token.
const TOKEN_BYTES: usize = 27;

/// What digests are made of, so that no other digest is ever taken for one of them.
const DIGEST_OF_PLACE: &[u8] = b"place of a control token";
const DIGEST_OF_FORM: &[u8] = b"form of a control token";
const DIGEST_OF_TOKEN: &[u8] = b"control token";

/// A token as it is kept.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    card_token: String,
    card_key: [u8; CardKey::BYTES],
    purpose: Purpose,
    /// Keyed digest of the token.
    digest: [u8; 32],
    /// Weak PINs that it was used for.
    weak_pins: u8,
}

/// A token that is good.
pub(super) struct Control {
    stored: Stored,
    document: Arc<Document>,
    ends: Timestamp,
}

/// Counts a call on the PIN of the card of a plastic: all of a card's plastics have one allowance.
pub(super) async fn admit_card<W: Seams>(
    switch: &Switch<W>,
    card_token: &str,
    admit: Admit<'_>,
) -> Result<(), Refused> {
    admit(&load(switch, card_token).await?.entry.identity.token)
}

/// The document of the tokens of a plastic for one purpose.
fn place_bytes(
    vault: &DocumentVault,
    (key, card_token, purpose): (&CardKey, &str, Purpose),
) -> [u8; 8] {
    let about = [&key.0, purpose.name().as_bytes(), b" ", card_token.as_bytes()].concat();
    let [a, b, c, d, e, f, g, h, ..] = vault.digest(DIGEST_OF_PLACE, &about);
    [a, b, c, d, e, f, g, h]
}

/// What goes with a plastic that is removed.
pub(super) async fn of_removed<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
    card_token: &str,
) -> Result<Vec<DocumentChange>, Refused> {
    let mut documents = Vec::new();
    for purpose in [Purpose::SetPin, Purpose::RevealPin] {
        let about = (&card.entry.identity.key, card_token, purpose);
        let place = URL_SAFE_NO_PAD.encode(place_bytes(&switch.vault.documents, about));
        let known = switch.store.document(DocumentKind::PinControl, &place).await?;
        documents.extend(known.map(|known| DocumentChange::remove(&known)));
    }
    Ok(documents)
}

/// The bytes of a token that was made here.
struct Token(Zeroizing<[u8; TOKEN_BYTES]>);

impl Token {
    fn new(
        vault: &DocumentVault,
        (key, card_token, purpose): (&CardKey, &str, Purpose),
        ends: Timestamp,
    ) -> Result<Token, Refused> {
        let place = place_bytes(vault, (key, card_token, purpose));
        let ends = u32::try_from(ends.seconds()).unwrap_or(u32::MAX).to_be_bytes();
        let random = Zeroizing::new(random::bytes::<8>().map_err(Refused::Sealing)?);
        let body = place.iter().chain(&ends).chain(&*random);
        let mut token = Zeroizing::new([0; TOKEN_BYTES]);
        token.iter_mut().zip(body).for_each(|(to, from)| *to = *from);
        let mac = Token::mac(vault, &token);
        token.iter_mut().skip(20).zip(mac).for_each(|(to, from)| *to = from);
        Ok(Token(token))
    }

    /// `None` for what was not made here.
    fn read(vault: &DocumentVault, text: &str) -> Option<Token> {
        let mut token = Zeroizing::new([0; TOKEN_BYTES]);
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut *token).ok()?;
        let (_, mac) = token.split_last_chunk::<7>()?;
        let is_ours = bool::from(mac.ct_eq(&Token::mac(vault, &token)));
        (is_ours && length == TOKEN_BYTES).then_some(Token(token))
    }

    fn mac(vault: &DocumentVault, token: &[u8; TOKEN_BYTES]) -> [u8; 7] {
        let (body, _) = token.split_at(TOKEN_BYTES - 7);
        let [a, b, c, d, e, f, g, ..] = vault.digest(DIGEST_OF_FORM, body);
        [a, b, c, d, e, f, g]
    }

    /// The token of its document.
    fn place(&self) -> String {
        let [a, b, c, d, e, f, g, h, ..] = *self.0;
        URL_SAFE_NO_PAD.encode([a, b, c, d, e, f, g, h])
    }

    fn ends(&self) -> Timestamp {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *self.0;
        Timestamp::from_seconds(u32::from_be_bytes([a, b, c, d]).into())
    }

    fn digest(&self, vault: &DocumentVault) -> [u8; 32] {
        vault.digest(DIGEST_OF_TOKEN, &*self.0)
    }
}

/// Makes a token for one card and purpose, which is shown this once.
///
/// # Errors
/// Why not.
pub async fn create<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    (card_token, purpose): (&str, Purpose),
    admit: Admit<'_>,
) -> Result<Zeroizing<String>, Refused> {
    let made = create_unaudited(switch, call, (card_token, purpose), admit).await;
    let action = match purpose {
        Purpose::SetPin => "token to set the PIN",
        Purpose::RevealPin => "token to see the PIN",
    };
    audit::of_card(switch, call.actor, (action, card_token), made).await
}

async fn create_unaudited<W: Seams>(
    switch: &Switch<W>,
    call: Call<'_>,
    (card_token, purpose): (&str, Purpose),
    admit: Admit<'_>,
) -> Result<Zeroizing<String>, Refused> {
    let vault = &switch.vault.documents;
    admit_card(switch, card_token, admit).await?;
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, card_token).await?;
        let (key, plastic) = (card.entry.identity.key, place(&card.state, card_token));
        let own = token_of(&card, plastic);
        if card.state.plastics.get(plastic).is_none_or(|it| it.status == CardStatus::Terminated) {
            return Err(Refused::CardTerminated);
        }
        let ends = switch.clock.now().seconds().saturating_add(purpose.seconds());
        let ends = Timestamp::from_seconds(ends);
        let token = Token::new(vault, (&key, own, purpose), ends)?;
        let before = switch.store.document(DocumentKind::PinControl, &token.place()).await?;
        let stored = Stored {
            card_token: own.to_owned(),
            card_key: key.0,
            purpose,
            digest: token.digest(vault),
            weak_pins: 0,
        };
        let read = before.map_or(0, |before| before.version);
        let written = stored.write(vault, (&token.place(), read), ends)?;
        let told = event(switch, call.actor, &card, (EventKind::PinControl, plastic), &card.state);
        let commit = Commit {
            card: Some(&card),
            events: vec![told],
            documents: [written].into_iter().chain(call.made(switch, "")?).collect(),
            ..Commit::default()
        };
        match switch.store.commit(commit, &mut None).await {
            Ok(_) => return Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*token.0))),
            Err(CommitError::Changed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::Busy)
}

/// The token that is shown here, if it is good for this.
///
/// # Errors
/// Why it is not.
pub(super) async fn find<W: Seams>(
    switch: &Switch<W>,
    purpose: Purpose,
    text: &str,
) -> Result<Control, Refused> {
    let vault = &switch.vault.documents;
    let token = Token::read(vault, text).ok_or(Refused::ControlInvalid)?;
    let (ends, digest) = (token.ends(), token.digest(vault));
    if ends <= switch.clock.now() {
        return Err(Refused::ControlExpired);
    }
    let document = switch.store.document(DocumentKind::PinControl, &token.place()).await?;
    let document = document.ok_or(Refused::ControlUsed)?;
    let stored = Stored::read(vault, &document)?;
    if !bool::from(stored.digest.ct_eq(&digest)) {
        return Err(Refused::ControlUsed);
    }
    match stored.purpose == purpose {
        true => Ok(Control { stored, document, ends }),
        false => Err(Refused::ControlInvalid),
    }
}

impl Stored {
    fn read(vault: &DocumentVault, document: &Document) -> Result<Stored, Refused> {
        let json = document.json(vault).map_err(Refused::Sealing)?;
        serde_json::from_slice(&json).map_err(|_| Refused::DocumentUnreadable("control token"))
    }

    fn write(
        &self,
        vault: &DocumentVault,
        (place, read): (&str, u64),
        ends: Timestamp,
    ) -> Result<DocumentChange, Refused> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        debug_assert!(!json.is_empty(), "it is a JSON object with texts as keys");
        let place = (DocumentKind::PinControl, place);
        let written = DocumentChange::write(vault, place, read, &json);
        written.map(|written| written.until(ends)).map_err(Refused::Sealing)
    }
}

impl Control {
    /// Token of the plastic that it is of.
    pub(super) fn card_token(&self) -> &str {
        &self.stored.card_token
    }

    /// Whether it is of the card with this key: meanwhile its token may stand for another one.
    pub(super) fn is_of(&self, key: &CardKey) -> bool {
        self.stored.card_key == key.0
    }

    /// It is used up: for the commit that does what it is for.
    pub(super) fn used(&self) -> DocumentChange {
        DocumentChange::remove(&self.document)
    }

    /// It was used for a weak PIN: the last that it may be used for ends it.
    ///
    /// # Errors
    /// If somebody else has used it meanwhile.
    pub(super) async fn count_weak_pin<W: Seams>(
        &self,
        switch: &Switch<W>,
        call: Call<'_>,
    ) -> Result<(), Refused> {
        let weak_pins = self.stored.weak_pins.saturating_add(1);
        let counted = Stored { weak_pins, ..self.stored.clone() };
        let place = (&*self.document.token, self.document.version);
        let change = match weak_pins >= WEAK_PINS_MAX {
            true => self.used(),
            false => counted.write(&switch.vault.documents, place, self.ends)?,
        };
        let answer = call.answered(switch, &Made::WeakPin)?;
        let documents = [change].into_iter().chain(answer).collect();
        switch.store.commit(Commit { documents, ..Commit::default() }, &mut None).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::software::PanVault;

    #[test]
    fn a_token_is_known_as_ours_and_tells_when_it_is_over() {
        let vaults = [1, 3].map(|key| PanVault::new(&[key; 32], &[2; 32]).unwrap().documents);
        let [vault, other] = &vaults;
        let (key, ends) = (CardKey([7; 16]), Timestamp::from_seconds(1_800_000_000));
        let made = |purpose| Token::new(vault, (&key, "card", purpose), ends).unwrap();
        let (set, again, reveal) =
            (made(Purpose::SetPin), made(Purpose::SetPin), made(Purpose::RevealPin));
        assert_eq!(set.place(), again.place());
        assert_ne!(set.place(), reveal.place());
        assert_ne!(set.digest(vault), again.digest(vault));
        let text = URL_SAFE_NO_PAD.encode(*set.0);
        assert_eq!(text.len(), 36);
        let read = Token::read(vault, &text).unwrap();
        assert_eq!((read.ends(), &*read.0), (ends, &*set.0));
        assert!(Token::read(other, &text).is_none());
        for place in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(Token::read(vault, &changed).is_none(), "{place}");
        }
        for wrong in ["", "A", &text[..35], &format!("{text}A"), &format!("{text}AAAA")] {
            assert!(Token::read(vault, wrong).is_none(), "{wrong}");
        }
    }
}
