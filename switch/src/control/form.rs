//! A new card, and a transition, as the command line and its files write it: texts, with the names
//! of the API.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::authorization::transition::ReasonText;
use crate::authorization::{Channel, Transition};
use crate::cards::{CardStatus, Expiry, Pan, StatusReason};
use crate::issuing::Refused;
use crate::issuing::cards::{AddCard, GivenPin};
use crate::issuing::secret::{PinText, secret};
use crate::pin::{Digits, PVKI, PVV_DIGITS};

/// A new card, with the names of the API.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardForm {
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

impl CardForm {
    /// The card that is written here.
    ///
    /// # Errors
    /// Which field is wrong, and what it may be.
    pub fn parse(&self) -> Result<AddCard, Refused> {
        let field = |name, expected| Refused::Field { name, expected };
        let pan = Pan::parse(self.pan.as_bytes());
        let expiry = Expiry::parse(self.expiration.as_bytes());
        let sequence = Some(&self.pan_sequence_number)
            .filter(|text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok());
        Ok(AddCard {
            token: self.token.as_str().into(),
            pan: pan.ok_or(field("pan", "13 to 19 digits with a right check digit"))?,
            expiry: expiry.ok_or(field("expiration", "YYMM"))?,
            sequence: sequence.ok_or(field("pan_sequence_number", "two digits"))?,
            product: self.card_product_token.as_str().into(),
            is_active: self.state == Some(NewState::Active),
            is_produced: true,
            pin: self.pin()?,
        })
    }

    fn pin(&self) -> Result<Option<GivenPin>, Refused> {
        let CardForm { pin, pvv, pvki, pin_offset, .. } = self;
        let given = match (pin, pvv, pvki, pin_offset) {
            (None, None, None, None) => return Ok(None),
            (Some(pin), None, None, None) => return Ok(Some(GivenPin::Clear(pin.parse()?))),
            (None, Some(pvv), Some(pvki), None) => pvv_of(pvv, pvki),
            (None, None, None, Some(offset)) => Digits::parse(offset).map(GivenPin::Offset),
            _ => return Err(Refused::Fields("one of pin, pvv with pvki, and pin_offset")),
        };
        let expected = "pvv: 4 digits, pvki: 1 to 6, pin_offset: 4 to 12 digits";
        given.map(Some).ok_or(Refused::Fields(expected))
    }
}

/// A transition of a card, with the names of the API.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransitionForm {
    /// The card's.
    pub token: String,
    /// ACTIVE, LIMITED, SUSPENDED or TERMINATED.
    pub state: String,
    /// API, IVR, FRAUD, ADMIN or SYSTEM.
    pub channel: String,
    /// Two digits; without them 00 for a first activation, and else 01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// The same in words, at most 255 bytes of UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl TransitionForm {
    /// What is asked for.
    ///
    /// # Errors
    /// Which field is wrong, and what it may be.
    pub fn parse(&self) -> Result<Transition, Refused> {
        let field = |name, expected| Refused::Field { name, expected };
        let state = CardStatus::from_name(&self.state);
        let channel = Channel::from_name(&self.channel);
        let code = |code: &String| {
            StatusReason::parse(code).ok_or(field("reason_code", "00 to 32, or 86"))
        };
        let words = |words: &String| {
            ReasonText::new(words.clone()).ok_or(field("reason", "at most 255 bytes of UTF-8"))
        };
        Ok(Transition {
            state: state.ok_or(field("state", "ACTIVE, LIMITED, SUSPENDED or TERMINATED"))?,
            channel: channel.ok_or(field("channel", "API, IVR, FRAUD, ADMIN or SYSTEM"))?,
            reason_code: self.reason_code.as_ref().map(code).transpose()?,
            reason: self.reason.as_ref().map(words).transpose()?,
        })
    }
}

fn pvv_of(pvv: &str, pvki: &str) -> Option<GivenPin> {
    let digits: [u8; PVV_DIGITS] = pvv.as_bytes().try_into().ok()?;
    let pvki = pvki.parse().ok().filter(|pvki| PVKI.contains(pvki))?;
    let valid = digits.iter().all(u8::is_ascii_digit);
    valid.then(|| GivenPin::Pvv(digits.map(|digit| digit - b'0'), pvki))
}
