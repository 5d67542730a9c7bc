//! What the issuer does with cards: add, activate, set a PIN, remove. Each change is committed
//! durably, or refused with a text that holds no secret.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::authorization::{ChipData, Product, decision};
use crate::cards::cache::NewCard;
use crate::cards::pan::PAN_DIGITS_MIN;
use crate::cards::{Card, CardEntry, CardState, CardStatus, Expiry, MaskedPan, Pan, Plastic};
use crate::clock::{Clock, Timestamp};
use crate::event::{Actor, EventKind};
use crate::hsm::key::from_hex;
use crate::hsm::pin_method::{Digits, PVKI, PVV_DIGITS};
use crate::hsm::{AcceptPin, AcceptedPin, ClearPin, GivenReference, Hsm, PinReference};
use crate::store::record::Event;
use crate::store::{COMMIT_ATTEMPTS_MAX, Commit, CommitError, Store};
use crate::switch::{Seams, Switch};
use crate::transaction::chip_call;

/// Why a change was refused.
pub type Refusal = String;

/// How a PIN or PAN is refused that is none in JSON.
pub const SECRET_IS_TEXT: &str = "pin and pan are texts in quotation marks, without escapes";

/// A secret of a JSON text that is in memory. It is taken as it stands there: the parser would copy
/// an escape into a buffer, and a number into the text of its error, which nobody wipes.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
    let text = text.filter(|text| !text.contains('\\'));
    text.map(|text| Zeroizing::new(text.to_owned()))
        .ok_or_else(|| serde::de::Error::custom(SECRET_IS_TEXT))
}

/// Whether JSON was refused because a PIN or PAN in it is no text. Any other error may quote what
/// was sent.
#[must_use]
pub fn is_secret_refused(error: &serde_json::Error) -> bool {
    Zeroizing::new(error.to_string()).starts_with(SECRET_IS_TEXT)
}

/// A PIN on its way to the HSM; wiped from memory when dropped, never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PinText(#[serde(deserialize_with = "secret")] Zeroizing<String>);

impl PinText {
    /// Takes a text over.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> PinText {
        PinText(text)
    }
}

impl std::fmt::Debug for PinText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PinText(..)")
    }
}

/// A new card, with the names of the API.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddCard {
    /// The issuer's name for it: 1 to 36 letters, digits, `-`, `_` and `.`.
    pub token: String,
    /// 13 to 19 digits with a right check digit, of a BIN of the product.
    #[serde(deserialize_with = "secret")]
    pub pan: Zeroizing<String>,
    /// YYMM.
    pub expiration: String,
    /// Two digits.
    pub pan_sequence_number: String,
    /// The product.
    pub card_product_token: String,
    /// UNACTIVATED if left out, or ACTIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<NewState>,
    /// The PIN, 4 to 12 digits. Of this, `pvv` and `pin_offset` one at most; with none of them
    /// the card has no PIN yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinText>,
    /// A Visa PVV that was computed elsewhere with the product's PVK: four digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvv: Option<String>,
    /// PIN verification key index of `pvv`: one digit, 1 to 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvki: Option<String>,
    /// An IBM 3624 offset that was computed elsewhere with the product's PVK: 4 to 12 digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_offset: Option<String>,
}

/// State that a card may begin in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NewState {
    /// Waits for its activation.
    Unactivated,
    /// In use at once.
    Active,
}

pub(crate) async fn load<W: Seams>(switch: &Switch<W>, token: &str) -> Result<Card, Refusal> {
    let card = switch.store.load_by_token(token).await.map_err(|error| error.to_string())?;
    card.ok_or_else(no_card)
}

pub(crate) async fn activate<W: Seams>(switch: &Switch<W>, token: &str) -> Result<Card, Refusal> {
    let terminated = || "the card is TERMINATED, which is final".to_owned();
    let now = switch.clock.now();
    change(switch, token, |card| card.state.activated(now).ok_or_else(terminated)).await
}

pub(crate) async fn set_pin<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    pin: &PinText,
) -> Result<Card, Refusal> {
    let CardEntry { identity, product, .. } = &*load(switch, token).await?.entry;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    let pan = pan.map_err(|fault| fault.to_string())?;
    let AcceptedPin { reference, kept } = accept_pin(switch, product, &pan, pin).await?;
    let now = switch.clock.now();
    change(switch, token, |card| {
        // Meanwhile the token may stand for another card, of another PAN.
        let is_same = card.entry.identity.key == identity.key;
        let changed = is_same.then(|| card.state.with_pin(reference)).ok_or_else(no_card)?;
        Ok(match has_offline_pin(product) {
            true => changed.with_pin_for_chips(&kept, now),
            false => changed,
        })
    })
    .await
}

fn has_offline_pin(product: &Product) -> bool {
    product.chip.as_ref().is_some_and(|rules| rules.offline_pin)
}

/// Gives up the changes that no chip took within OFPBE, and raises an event for each card whose
/// PIN block is deleted with them; how many cards. A first PIN that waits since nobody knows when
/// waits from now on.
///
/// # Errors
/// If the store has failed.
pub async fn expire_changes<W: Seams>(
    switch: &Switch<W>,
    cards: &[Arc<CardEntry>],
) -> Result<usize, Refusal> {
    let now = switch.clock.now();
    let mut count = 0;
    for entry in cards.iter().filter(|entry| is_due(entry, now)) {
        // If it changes meanwhile, its turn comes again.
        let card = switch.store.load(&entry.identity.key).await;
        let Some(card) = card.map_err(|failed| failed.to_string())? else { continue };
        let ended = ended(switch, &card.entry, &card.state, now);
        let ends = usize::from(ended.is_some());
        let dated = || card.state.with_dated_changes(now).map(|dated| (dated, None));
        let Some((changed, event)) = ended.or_else(dated) else { continue };
        match commit(switch, &card, changed, event).await {
            Ok(()) => count += ends,
            Err(CommitError::Changed(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(count)
}

/// Commits a change of a card, with what others are told of it. The audit says the same.
async fn commit<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
    changed: CardState,
    event: Option<Event>,
) -> Result<(), CommitError> {
    let is_told = event.is_some();
    let events = event.into_iter().collect();
    let commit = Commit { events, ..Commit::by_issuer(card, changed) };
    let id = switch.store.commit(commit, &mut None).await?;
    if is_told {
        let token = &*card.entry.identity.token;
        tracing::info!(target: "audit", action = "PIN change expired", token, id = %id);
    }
    Ok(())
}

/// A card without the changes whose time is over, and what others are told of it; `None` where
/// there are none of these.
fn ended<W: Seams>(
    switch: &Switch<W>,
    entry: &CardEntry,
    state: &CardState,
    now: Timestamp,
) -> Option<(CardState, Option<Event>)> {
    let (after, is_of_pin) = state.with_expired_changes(entry.product.retention(), now)?;
    let event = is_of_pin.then(|| {
        let identity = &entry.identity;
        let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
        let pan = pan.map_or(MaskedPan::NONE, |pan| pan.masked());
        let (kind, who) = (EventKind::PinChangeExpired, (now, Actor::switch("expiry")));
        Event::of_card(kind, who, (identity, pan), Some(state), Some(&after))
    });
    Some((after, event))
}

/// Whether [`expire_changes`] has something to do on a card.
#[must_use]
pub fn is_due(entry: &CardEntry, now: Timestamp) -> bool {
    let state = entry.state();
    let retention = entry.product.retention();
    state.with_expired_changes(retention, now).is_some() || state.with_dated_changes(now).is_some()
}

/// The card without the changes whose time is over, and what others are told when it is committed.
/// They end for every command at once, and not only when they are looked for; but while the clock
/// is not believed none of them does.
pub(crate) fn as_it_counts<W: Seams>(switch: &Switch<W>, card: &Card) -> (Card, Option<Event>) {
    let is_believed = switch.store.may_forget();
    match ended(switch, &card.entry, &card.state, switch.clock.now()).filter(|_| is_believed) {
        Some((state, event)) => (Card { state: Arc::new(state), ..card.clone() }, event),
        None => (card.clone(), None),
    }
}

/// Every intermediate value of the cryptogram in a DE55 of a card.
///
/// # Errors
/// If DE55 cannot be read or verified, or the keys are no public test keys.
pub(crate) async fn explain_cryptogram<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    chip_data: &str,
) -> Result<Vec<(String, String)>, Refusal> {
    let card = load(switch, token).await?;
    let CardEntry { identity, product, .. } = &*card.entry;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan);
    let pan = pan.map_err(|fault| fault.to_string())?;
    let bytes = from_hex(chip_data.trim()).ok_or("DE55: expected hexadecimal digits")?;
    let chip = ChipData::read(&bytes)
        .ok_or("DE55: expected BER-TLV, tags that are read, once and of their length")?;
    let rules = product.chip.as_ref().ok_or("the product has no keys for chips")?;
    let (_, plastic) = card.state.plastic(None, chip.sequence).ok_or("no plastic has this 5F34")?;
    let sequence = chip.sequence.unwrap_or(plastic.sequence);
    let check = decision::check_of(&chip, rules, (0, sequence));
    let check = check.map_err(|note| note.to_string())?;
    let call = chip_call(rules, &chip, &pan, &check);
    let call = call.ok_or("DE55 lacks what its cryptogram covers")?;
    let explained = switch.hsm.explain_arqc(call);
    let explained = explained.ok_or("the issuer master key is no public test key")?;
    let covers: Vec<String> = check.cvn.covers.parts().map(|part| part.to_string()).collect();
    let covers = ("covers".to_owned(), covers.join(" "));
    Ok([covers].into_iter().chain(explained).collect())
}

/// Queues a script that sets the PIN try counter of the card's chips back.
pub(crate) async fn unblock<W: Seams>(switch: &Switch<W>, token: &str) -> Result<Card, Refusal> {
    let now = switch.clock.now();
    change(switch, token, |card| {
        if !has_offline_pin(&card.entry.product) {
            return Err("the chips of this product hold no PIN".to_owned());
        }
        // The unblock would wait behind a PIN that is deleted as soon as the clock is believed.
        if let Some((_, Some(_))) = ended(switch, &card.entry, &card.state, now) {
            return Err(CLOCK_NOT_SETTLED.to_owned());
        }
        Ok(card.state.with_unblock(now))
    })
    .await
}

/// How an unblock is refused where the PIN that waits seems to be over.
const CLOCK_NOT_SETTLED: &str = "the PIN that waits for the chip is over, but the clock was set \
                                 lately and is not believed yet (clock_settle_seconds): try again \
                                 later, or set the PIN";

/// How it is refused.
pub const NO_CARD: &str = "there is no card with this token";

fn no_card() -> Refusal {
    NO_CARD.to_owned()
}

/// Changes a card, again if somebody else changed it meanwhile. What waits on it beyond its time is
/// ended first, and told in the same commit.
async fn change<W: Seams>(
    switch: &Switch<W>,
    token: &str,
    next: impl Fn(&Card) -> Result<CardState, Refusal>,
) -> Result<Card, Refusal> {
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let (counts, event) = as_it_counts(switch, &card);
        let changed = next(&counts)?;
        match commit(switch, &card, changed.clone(), event).await {
            // As it was committed: by now it may have been changed again, or removed.
            Ok(()) => return Ok(Card { state: Arc::new(changed), ..card }),
            Err(CommitError::Changed(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("the card is changing all the time; try again".to_owned())
}

async fn accept_pin<W: Seams>(
    switch: &Switch<W>,
    product: &Product,
    pan: &Pan,
    pin: &PinText,
) -> Result<AcceptedPin, Refusal> {
    let clear = ClearPin::parse(pin.0.trim_end().as_bytes());
    let clear = clear.ok_or_else(|| "pin: expected 4 to 12 digits".to_owned())?;
    let block = switch.hsm.entry_key().wrap(&clear, pan);
    drop(clear);
    let block = block.ok_or_else(|| "pan: expected 13 to 19 digits".to_owned())?;
    let call = AcceptPin { block: &block, pan, method: &product.pin_methods.current };
    let accepted = switch.hsm.accept_pin(call).await;
    accepted.map_err(|error| error.to_string())
}

/// Adds cards, each or not: for each whether it was added, or why not.
///
/// # Errors
/// If the store has failed: nobody knows which were kept.
pub(crate) async fn add<W: Seams>(
    switch: &Switch<W>,
    requests: &[AddCard],
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let mut cards = Vec::with_capacity(requests.len());
    let mut outcomes = Vec::with_capacity(requests.len());
    for request in requests {
        let card = new_card(switch, request).await;
        outcomes.push(card.map(|card| cards.push(card.into())));
    }
    let added = switch.store.add_cards(cards).await.map_err(|failed| failed.to_string())?;
    let accepted = outcomes.iter_mut().filter(|outcome| outcome.is_ok());
    accepted.zip(added).for_each(|(outcome, added)| {
        *outcome = added.map_err(|refused| refused.to_string());
    });
    Ok(outcomes)
}

async fn new_card<W: Seams>(switch: &Switch<W>, request: &AddCard) -> Result<NewCard, Refusal> {
    let product = switch.products.iter().find(|known| *known.name == request.card_product_token);
    let product = product.ok_or("card_product_token: there is no such product")?;
    let (pan, mut state) = checked(request)?;
    if !product.has_bin_of(&pan) {
        return Err("pan: it starts with no BIN of the product".to_owned());
    }
    if let Some(reference) = reference(switch, product, &pan, request).await? {
        state = state.with_pin(reference);
    }
    if request.state == Some(NewState::Active) {
        state.status = CardStatus::Active;
    }
    let identity =
        switch.vault.identify(&request.token, &pan).map_err(|fault| fault.to_string())?;
    Ok(NewCard { identity, product: Arc::clone(product), state })
}

async fn reference<W: Seams>(
    switch: &Switch<W>,
    product: &Product,
    pan: &Pan,
    request: &AddCard,
) -> Result<Option<PinReference>, Refusal> {
    let AddCard { pin, pvv, pvki, pin_offset, .. } = request;
    let value = match (pin, pvv, pvki, pin_offset) {
        (None, None, None, None) => return Ok(None),
        (Some(pin), None, None, None) => {
            let accepted = accept_pin(switch, product, pan, pin).await?;
            return Ok(Some(accepted.reference));
        }
        (None, Some(pvv), Some(pvki), None) => pvv_of(pvv, pvki),
        (None, None, None, Some(offset)) => Digits::parse(offset).map(GivenReference::Offset),
        _ => return Err("expected one of pin, pvv with pvki, and pin_offset".to_owned()),
    };
    let value = value.ok_or("expected pvv: 4 digits, pvki: 1 to 6, pin_offset: 4 to 12 digits")?;
    let adopted = switch.hsm.adopt_reference(&product.pin_methods.current, value, pan).await;
    adopted.map(Some).map_err(|error| error.to_string())
}

fn pvv_of(pvv: &str, pvki: &str) -> Option<GivenReference> {
    let digits: [u8; PVV_DIGITS] = pvv.as_bytes().try_into().ok()?;
    let pvki = pvki.parse().ok().filter(|pvki| PVKI.contains(pvki))?;
    let valid = digits.iter().all(u8::is_ascii_digit);
    valid.then(|| GivenReference::Pvv(digits.map(|digit| digit - b'0'), pvki))
}

/// Removes cards; for each whether there was one.
///
/// # Errors
/// If the store has failed: nobody knows which are gone.
pub(crate) async fn remove<W: Seams>(
    switch: &Switch<W>,
    tokens: &[String],
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let mut cards = Vec::with_capacity(tokens.len());
    let mut outcomes = Vec::with_capacity(tokens.len());
    for token in tokens {
        let card = load(switch, token).await;
        outcomes.push(card.map(|card| cards.push(card.into())));
    }
    let removed = switch.store.remove_cards(cards).await.map_err(|failed| failed.to_string())?;
    let found = outcomes.iter_mut().filter(|outcome| outcome.is_ok());
    // One that is named twice is there once.
    found.zip(removed).filter(|(_, removed)| removed.is_err()).for_each(|(outcome, _)| {
        *outcome = Err(no_card());
    });
    Ok(outcomes)
}

fn checked(request: &AddCard) -> Result<(Pan, CardState), Refusal> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let AddCard { token, pan, expiration, pan_sequence_number, .. } = request;
    if !(1..=36).contains(&token.len()) || !token.bytes().all(valid) {
        return Err("token: expected 1 to 36 letters, digits, '-', '_' and '.'".to_owned());
    }
    // Tokens are shown and stored in clear.
    let reads_as_pan =
        |pan: Pan| pan.digits().len() >= PAN_DIGITS_MIN && pan.has_valid_check_digit();
    if Pan::parse(token.as_bytes()).is_some_and(reads_as_pan) {
        return Err("token: it reads as a PAN".to_owned());
    }
    let pan = Pan::parse(pan.as_bytes())
        .filter(|pan| pan.digits().len() >= PAN_DIGITS_MIN && pan.has_valid_check_digit())
        .ok_or("pan: expected 13 to 19 digits with a right check digit")?;
    let expiry = Expiry::parse(expiration.as_bytes()).ok_or("expiration: expected YYMM")?;
    let sequence = Some(pan_sequence_number)
        .filter(|text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or("pan_sequence_number: expected two digits")?;
    Ok((pan, CardState::new(Plastic::new(expiry, sequence))))
}
