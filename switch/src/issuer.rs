//! What the issuer does with cards: add, activate, set a PIN. Each change is committed durably, or
//! refused with a text that holds no secret.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authorization::Product;
use crate::cards::cache::NewCard;
use crate::cards::pan::PAN_DIGITS_MIN;
use crate::cards::{Card, CardState, Expiry, Pan, Plastic};
use crate::clock::Clock;
use crate::hsm::{AcceptPin, ClearPin, Hsm, PinReference};
use crate::store::{AddCardError, COMMIT_ATTEMPTS_MAX, Commit, CommitError, Store};
use crate::switch::Switch;

/// Why a change was refused.
pub type Refusal = String;

/// A PIN on its way to the HSM; wiped from memory when dropped, never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PinText(Zeroizing<String>);

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
    pub pan: Zeroizing<String>,
    /// YYMM.
    pub expiration: String,
    /// Two digits.
    pub pan_sequence_number: String,
    /// The product.
    pub card_product_token: String,
    /// 4 to 12 digits.
    pub pin: PinText,
}

pub(crate) async fn load<C, H, S: Store>(
    switch: &Switch<C, H, S>,
    token: &str,
) -> Result<Card, Refusal> {
    let card = switch.store.load_by_token(token).await.map_err(|error| error.to_string())?;
    card.ok_or_else(|| "there is no card with this token".to_owned())
}

pub(crate) async fn activate<C, H, S: Store>(
    switch: &Switch<C, H, S>,
    token: &str,
) -> Result<Card, Refusal> {
    let terminated = || "the card is TERMINATED, which is final".to_owned();
    change(switch, token, |card| card.activated().ok_or_else(terminated)).await
}

pub(crate) async fn set_pin<C: Clock, H: Hsm, S: Store>(
    switch: &Switch<C, H, S>,
    token: &str,
    pin: &PinText,
) -> Result<Card, Refusal> {
    let card = load(switch, token).await?;
    let pan = switch.vault.open(&card.entry.identity.key, &card.entry.identity.sealed_pan);
    let pan = pan.map_err(|fault| fault.to_string())?;
    let reference = accept_pin(switch, &card.entry.product, &pan, pin).await?;
    change(switch, token, |card| Ok(card.with_pin(reference))).await
}

/// Changes a card, again if somebody else changed it meanwhile.
async fn change<C, H, S: Store>(
    switch: &Switch<C, H, S>,
    token: &str,
    next: impl Fn(&CardState) -> Result<CardState, Refusal>,
) -> Result<Card, Refusal> {
    for _ in 0..COMMIT_ATTEMPTS_MAX {
        let card = load(switch, token).await?;
        let change = Some(next(&card.state)?);
        let commit = Commit { card: Some(&card), change, transaction: None, event: None };
        match switch.store.commit(commit, &mut None).await {
            Ok(()) => return load(switch, token).await,
            Err(CommitError::CardChanged) => {}
            Err(CommitError::Failed(failed)) => return Err(failed.to_string()),
        }
    }
    Err("the card is changing all the time; try again".to_owned())
}

async fn accept_pin<C: Clock, H: Hsm, S: Store>(
    switch: &Switch<C, H, S>,
    product: &Product,
    pan: &Pan,
    pin: &PinText,
) -> Result<PinReference, Refusal> {
    let clear = ClearPin::parse(pin.0.trim_end().as_bytes());
    let clear = clear.ok_or_else(|| "pin: expected 4 to 12 digits".to_owned())?;
    let block = switch.hsm.entry_key().wrap(&clear, pan);
    drop(clear);
    let block = block.ok_or_else(|| "pan: expected 13 to 19 digits".to_owned())?;
    let call = AcceptPin { block: &block, pan, method: &product.pin_method };
    let accepted = switch.hsm.accept_pin(call).await;
    accepted.map_err(|error| error.to_string())
}

pub(crate) async fn add<C: Clock, H: Hsm, S: Store>(
    switch: &Switch<C, H, S>,
    request: &AddCard,
) -> Result<Card, Refusal> {
    let product = switch.products.iter().find(|known| *known.name == request.card_product_token);
    let product = product.ok_or("card_product_token: there is no such product")?;
    let (pan, state) = checked(request)?;
    if !product.has_bin_of(&pan) {
        return Err("pan: it starts with no BIN of the product".to_owned());
    }
    let reference = accept_pin(switch, product, &pan, &request.pin).await?;
    let identity =
        switch.vault.identify(&request.token, &pan).map_err(|fault| fault.to_string())?;
    let card = NewCard { identity, product: Arc::clone(product), state: state.with_pin(reference) };
    switch.store.add_card(card).await.map_err(|error: AddCardError| error.to_string())?;
    load(switch, &request.token).await
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
    Ok((pan, CardState::new(Plastic { expiry, sequence })))
}
