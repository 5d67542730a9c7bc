//! What an authorization request, an advice or a reversal says, read once from the message and
//! checked.

use iso_specs::{ChipTag, Decoded, Field, Message, Mti, tlv};
use zeroize::Zeroizing;

use super::currency;
use super::format_error::{FormatError, FormatFault};
use super::icc_data::ChipData;
use super::reversal::{self, OriginalElements, Readings};
use super::routing::{Route, route};
use crate::cards::Expiry;
use crate::cards::pan::Pan;
use crate::hex::from_hex;
use crate::hsm::PinBlock;

/// Largest data element that is read here, in bytes: DE55 where its length has three digits.
pub(super) const VALUE_BYTES_MAX: usize = 999;

/// Longest element that is read as text here, in bytes: DE90.
const TEXT_BYTES_MAX: usize = 42;

/// A PAN sequence number that no plastic has, for a DE23 above them all (0-99).
const NO_SEQUENCE: u8 = u8::MAX;

/// An amount in the minor units of a currency, with its ISO 4217 numeric code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    /// Minor units, as DE4 and DE6 carry them.
    pub minor_units: u64,
    /// ISO 4217 numeric code.
    pub currency: u16,
}

/// DE3: what is asked for, by its first two digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessingCode(pub [u8; 6]);

impl ProcessingCode {
    /// The transaction type: the first two digits.
    #[must_use]
    pub const fn transaction_type(self) -> [u8; 2] {
        let [first, second, ..] = self.0;
        [first, second]
    }

    /// Goods 00, cash 01, goods with cash back 09, cash advance 17 and return 20 are served. So is
    /// a change of the PIN, by the type that the dialect gives it.
    #[must_use]
    pub const fn is_supported(self) -> bool {
        matches!(&self.transaction_type(), b"00" | b"01" | b"09" | b"17" | b"20")
    }

    /// Available funds 30 and balance 31: nothing is paid.
    #[must_use]
    pub const fn is_balance_inquiry(self) -> bool {
        matches!(&self.transaction_type(), b"30" | b"31")
    }

    /// Cash at an ATM (01) or a counter (17).
    #[must_use]
    pub const fn is_cash(self) -> bool {
        matches!(&self.transaction_type(), b"01" | b"17")
    }
}

/// What the PIN is to be from now on.
#[derive(Clone, Debug)]
pub struct PinChange {
    /// Its block; absent where it is missing or no block, which is no format error: the answer says
    /// what is wrong with the new PIN.
    pub new_block: Option<PinBlock>,
}

/// A request 0100 or 0200, an advice or a reversal of one, or a repeat of these. Clear data in it
/// masks itself when shown.
#[derive(Clone, Debug)]
pub struct Request {
    /// Message type.
    pub mti: Mti,
    /// DE2, or the PAN of track 2 (DE35). Only a reversal may be without it, until its original is
    /// found.
    pub pan: Option<Pan>,
    /// DE3; of a reversal without it, that of its original, or zeros.
    pub processing_code: ProcessingCode,
    /// DE4 in the currency of DE49. Of a reversal without these it is that of its original; there,
    /// and in a balance inquiry, it may be zero in the currency 000.
    pub amount: Money,
    /// DE6 in the currency of DE51.
    pub billing: Option<Money>,
    /// DE7: MMDDhhmmss.
    pub transmission_time: [u8; 10],
    /// DE11: system trace audit number (STAN).
    pub stan: [u8; 6],
    /// DE14, or the expiry of track 2.
    pub expiry: Option<Expiry>,
    /// DE18: merchant category code.
    pub merchant_category: Option<[u8; 4]>,
    /// Service code of track 2: three digits, of which the first is 2 or 6 where the card has a
    /// chip.
    pub service_code: Option<[u8; 3]>,
    /// DE22: how PAN and PIN came in.
    pub entry_mode: Option<[u8; 3]>,
    /// PAN sequence number: DE23, or 5F34 of DE55.
    pub sequence: Option<u8>,
    /// DE32: acquirer, up to 11 digits, filled with zero bytes; only these without it.
    pub acquirer: [u8; 11],
    /// DE37: retrieval reference number (RRN).
    pub rrn: Option<[u8; 12]>,
    /// DE52.
    pub pin_block: Option<PinBlock>,
    /// Of an authorization request by which a cardholder sets another PIN: what it is to be.
    pub pin_change: Option<PinChange>,
    /// DE55, or the elements that hold the same in some dialects; absent without them, and outside
    /// of an authorization request where they cannot be read or contradict DE22 or DE23.
    pub chip: Option<Box<ChipData>>,
    /// DE90 of a reversal, and what else it could mean; empty without it.
    pub original: Readings,
}

impl Request {
    /// Reads a decoded message.
    ///
    /// # Errors
    /// The data element that is missing or wrong. DE11 comes first, since no answer can be
    /// matched without it; then what the decoder found; then what is missing. The chip data of a
    /// reversal or an advice are never wrong.
    pub fn parse(decoded: &Decoded<'_>) -> Result<Request, FormatError> {
        let message = &decoded.message;
        check_elements(decoded, mandatory(message, is_named(message)))?;
        let track2 = Track2::read(message)?;
        let pan = pan(message, track2.as_ref())?;
        let expiry = optional(message, 14, Expiry::parse)?;
        let acquirer = optional(message, 32, zero_filled)?.unwrap_or_default();
        let entry_mode = optional(message, 22, exactly)?;
        let given = number(message, 23)?.map(|value| u8::try_from(value).unwrap_or(NO_SEQUENCE));
        let chip = chip_data(message, entry_mode, given);
        // What happened elsewhere is taken as it is: a reversal that is refused for its chip data
        // would leave the cardholder debited.
        let chip = match route(message.mti()) {
            Route::Authorization => chip?,
            _ => chip.ok().flatten(),
        };
        Ok(Request {
            mti: message.mti(),
            pan,
            processing_code: ProcessingCode(optional(message, 3, exactly)?.unwrap_or(*b"000000")),
            amount: Money {
                minor_units: number(message, 4)?.unwrap_or_default(),
                currency: currency(message, 49)?.unwrap_or_default(),
            },
            billing: billing(message)?,
            transmission_time: required(message, 7)?,
            stan: required(message, 11)?,
            expiry: expiry.or(track2.as_ref().and_then(|track| track.expiry)),
            service_code: track2.and_then(|track| track.service_code),
            merchant_category: optional(message, 18, exactly)?,
            entry_mode,
            // DE23 filled with zeros says nothing where the chip says more.
            sequence: chip.as_ref().and_then(|chip| chip.sequence).or(given),
            acquirer,
            rrn: optional(message, 37, exactly)?,
            pin_block: pin_block(message)?,
            pin_change: pin_change(message),
            chip,
            original: original(message, acquirer)?,
        })
    }

    /// 9C: the type of the transaction as its terminal told the chip. Most cryptograms cover it;
    /// Visa's CVN 11 does not, and rows of a product may not.
    #[must_use]
    pub fn terminal_type(&self) -> Option<u8> {
        self.chip.as_ref()?.transaction_type
    }

    /// A refund: DE3 says so (20), and 9C nothing else. Nothing covers DE3, and for a refund the
    /// holder is not verified.
    #[must_use]
    pub fn is_refund(&self) -> bool {
        self.processing_code.transaction_type() == *b"20"
            && self.terminal_type().is_none_or(|told| told == 0x20)
    }

    /// Whether a contact chip was read: DE22 05 or 95.
    #[must_use]
    pub fn is_contact_chip(&self) -> bool {
        matches!(self.pan_entry().as_ref(), Some(b"05" | b"95"))
    }

    /// Whether a chip was read without contact, in its EMV mode: DE22 07.
    #[must_use]
    pub fn is_contactless_chip(&self) -> bool {
        self.pan_entry().as_ref() == Some(b"07")
    }

    /// Whether a card was read without contact: DE22 07, or 91 for magnetic stripe data.
    #[must_use]
    pub fn is_contactless(&self) -> bool {
        matches!(self.pan_entry().as_ref(), Some(b"07" | b"91"))
    }

    /// Whether the stripe of a card that has a chip was read: DE22 80, or 90 where the service code
    /// says that it has one.
    #[must_use]
    pub fn is_fallback(&self) -> bool {
        match self.pan_entry().as_ref() {
            Some(b"80") => true,
            Some(b"90") => matches!(self.service_code, Some([b'2' | b'6', ..])),
            _ => false,
        }
    }

    /// The first two digits of DE22: how the PAN came in.
    #[must_use]
    pub fn pan_entry(&self) -> Option<[u8; 2]> {
        self.entry_mode.map(|[first, second, _]| [first, second])
    }
}

/// The rules that hold for every message: DE11 readable, no fault of the decoder, nothing
/// of `mandatory` missing.
///
/// # Errors
/// The element in the order of [`Request::parse`].
pub fn check_elements(decoded: &Decoded<'_>, mandatory: &[u8]) -> Result<(), FormatError> {
    let message = &decoded.message;
    let fault = decoded.fault.map(FormatError::from);
    let no_stan = !message.has(11);
    if no_stan && fault.is_none_or(|fault| fault.element != 11) {
        return Err(FormatError::missing(11));
    }
    let missing = || mandatory.iter().copied().find(|element| !message.has(*element));
    fault.or_else(|| missing().map(FormatError::missing)).map_or(Ok(()), Err)
}

/// Elements of a request that must be there; DE35 may stand for DE2. A balance inquiry and a change
/// of the PIN have no amount, and of a reversal whose DE90 names the original that tells the rest.
fn mandatory(message: &Message<'_>, is_named: bool) -> &'static [u8] {
    let code = message.field(3).and_then(|field| field.number());
    let pays_nothing = code.is_some_and(is_balance_inquiry) || pin_change(message).is_some();
    match (is_named, message.has(35)) {
        (true, _) => &[7, 11],
        (_, true) if pays_nothing => &[35, 3, 7, 11],
        (_, false) if pays_nothing => &[2, 3, 7, 11],
        (_, true) => &[35, 3, 4, 7, 11, 49],
        (_, false) => &[2, 3, 4, 7, 11, 49],
    }
}

/// Of DE3 as a number: 30 available funds, 31 balance (ISO 8583:1987, table A1).
const fn is_balance_inquiry(processing_code: u64) -> bool {
    matches!(processing_code / 10_000, 30 | 31)
}

/// Whether a message leaves to its DE90 what a request must have.
fn is_named(message: &Message<'_>) -> bool {
    let has_all =
        (message.has(2) || message.has(35)) && [3, 4, 49].iter().all(|it| message.has(*it));
    // A DE32 that cannot be read is refused when it is read for good.
    let acquirer = || optional(message, 32, zero_filled).ok().flatten().unwrap_or_default();
    message.mti().is_reversal() && !has_all && reversal::is_whole(message, acquirer())
}

/// Track 2 (ISO/IEC 7813): PAN, separator, expiry YYMM, service code and more.
struct Track2 {
    pan: Pan,
    expiry: Option<Expiry>,
    service_code: Option<[u8; 3]>,
}

impl Track2 {
    fn read(message: &Message<'_>) -> Result<Option<Track2>, FormatError> {
        let is_separator = |byte: &u8| matches!(byte, b'=' | b'D');
        optional(message, 35, |text| {
            let (digits, rest) = text.split_at_checked(text.iter().position(is_separator)?)?;
            let expiry = rest.get(1..5).and_then(Expiry::parse);
            // A separator in the place of the expiry says that there is none.
            let behind = if rest.get(1).is_some_and(is_separator) { 2 } else { 5 };
            let service_code = rest.get(behind..).and_then(|rest| rest.first_chunk()).copied();
            Some(Track2 { pan: Pan::parse(digits)?, expiry, service_code })
        })
    }
}

fn pan(message: &Message<'_>, track2: Option<&Track2>) -> Result<Option<Pan>, FormatError> {
    let pan = optional(message, 2, Pan::parse)?;
    match (pan, track2) {
        (Some(pan), Some(track2)) if pan != track2.pan => {
            Err(FormatError { element: 35, fault: FormatFault::OtherPan })
        }
        (pan, track2) => Ok(pan.or(track2.map(|track2| track2.pan.clone()))),
    }
}

fn billing(message: &Message<'_>) -> Result<Option<Money>, FormatError> {
    let (amount, currency) = (number(message, 6)?, currency(message, 51)?);
    Ok(amount.zip(currency).map(|(minor_units, currency)| Money { minor_units, currency }))
}

fn currency(message: &Message<'_>, element: u8) -> Result<Option<u16>, FormatError> {
    optional(message, element, |text| {
        let numeric = text.len() == 3 && text.iter().all(u8::is_ascii_digit);
        if !numeric {
            return currency::numeric(text);
        }
        Some(text.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0')))
    })
}

fn number(message: &Message<'_>, element: u8) -> Result<Option<u64>, FormatError> {
    let Some(field) = message.field(element) else { return Ok(None) };
    field.number().map(Some).ok_or(FormatError::value(element))
}

fn pin_block(message: &Message<'_>) -> Result<Option<PinBlock>, FormatError> {
    let Some(field) = message.field(52) else { return Ok(None) };
    let mut buffer = [0; PinBlock::BYTES_MAX];
    let block = field.bytes(&mut buffer).and_then(PinBlock::new);
    block.map(Some).ok_or(FormatError::value(52))
}

/// What another PIN is to be, where an authorization request asks for one.
fn pin_change(message: &Message<'_>) -> Option<PinChange> {
    let rule = message.spec().pin_change()?;
    let asks = route(message.mti()) == Route::Authorization
        && message.field(3)?.number()? / 10_000 == transaction_type(rule.transaction_type);
    asks.then(|| {
        let field = message.field(rule.new_pin_block);
        PinChange { new_block: field.and_then(|field| new_pin_block(&field)) }
    })
}

fn transaction_type([tens, ones]: [u8; 2]) -> u64 {
    u64::from(tens - b'0') * 10 + u64::from(ones - b'0')
}

fn new_pin_block(field: &Field<'_>) -> Option<PinBlock> {
    let mut buffer = Zeroizing::new([0; 2 * PinBlock::BYTES_MAX]);
    if let Some(raw) = field.bytes(&mut *buffer) {
        return PinBlock::new(raw);
    }
    let digits = field.text(&mut *buffer)?;
    PinBlock::new(&Zeroizing::new(from_hex(str::from_utf8(digits).ok()?)?))
}

/// What was typed, or read from a stripe, has no chip data; and 5F34 says the same as DE23, which
/// is `sequence`, unless that is filled with zeros.
fn chip_data(
    message: &Message<'_>,
    entry_mode: Option<[u8; 3]>,
    sequence: Option<u8>,
) -> Result<Option<Box<ChipData>>, FormatError> {
    let (element, data) = match message.field(55) {
        Some(field) => {
            let mut buffer = [0; VALUE_BYTES_MAX];
            (55, field.bytes(&mut buffer).and_then(ChipData::read))
        }
        None => match chip_elements(message)? {
            Some((element, data)) => (element, ChipData::read(&data)),
            None => return Ok(None),
        },
    };
    if matches!(entry_mode, Some([b'0', b'1' | b'2', _] | [b'9', b'0', _])) {
        return Err(FormatError { element, fault: FormatFault::NoChipRead });
    }
    let data = data.ok_or(FormatError { element, fault: FormatFault::ChipData })?;
    match sequence.filter(|given| *given != 0).zip(data.sequence) {
        Some((given, of_chip)) if given != of_chip => {
            Err(FormatError { element: 23, fault: FormatFault::OtherSequence })
        }
        _ => Ok(Some(Box::new(data))),
    }
}

/// The chip data of a message that has them in elements of their own, as they would stand in DE55;
/// and the first of these elements. Without a cryptogram and without script results there are none.
fn chip_elements(message: &Message<'_>) -> Result<Option<(u8, Vec<u8>)>, FormatError> {
    let (mut data, mut first, mut tells) = (Vec::new(), None, false);
    for (element, tag) in message.spec().chip_elements() {
        let ChipTag::Value(tag) = *tag else { continue };
        let Some(field) = message.field(*element) else { continue };
        let wrong = FormatError { element: *element, fault: FormatFault::ChipData };
        let (mut buffer, start) = ([0; VALUE_BYTES_MAX], data.len());
        match field.bytes(&mut buffer) {
            Some(bytes) => tlv::push(&mut data, tag, bytes).map_err(|_| wrong)?,
            None => {
                let packed = packed(field.text(&mut buffer).ok_or(wrong)?);
                tlv::push(&mut data, tag, &packed).map_err(|_| wrong)?;
            }
        }
        // The first that cannot be read is the one at fault.
        data.get(start..).and_then(ChipData::read).ok_or(wrong)?;
        first.get_or_insert(*element);
        tells |= matches!(tag, 0x9F26 | 0x9F5B);
    }
    Ok(first.filter(|_| tells).map(|first| (first, data)))
}

/// Digits two a byte, with a zero before an odd number of them.
fn packed(digits: &[u8]) -> Vec<u8> {
    let nibbles: Vec<u8> = (digits.len() % 2 == 1)
        .then_some(0)
        .into_iter()
        .chain(digits.iter().map(|digit| digit & 0x0F))
        .collect();
    nibbles.chunks(2).map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble)).collect()
}

/// Only a reversal has one; whatever else brings DE90 is not asked what it means.
fn original(message: &Message<'_>, acquirer: [u8; 11]) -> Result<Readings, FormatError> {
    match message.mti().is_reversal() && message.has(90) {
        true => OriginalElements::read(message, acquirer),
        false => Ok(Readings::new()),
    }
}

/// The text of an element that must be there, with exactly this length.
///
/// # Errors
/// The element.
pub(super) fn required<const N: usize>(
    message: &Message<'_>,
    element: u8,
) -> Result<[u8; N], FormatError> {
    optional(message, element, exactly)?.ok_or(FormatError::missing(element))
}

/// Reads the text of an element if it is there; what `read` does not take is a format error.
fn optional<T>(
    message: &Message<'_>,
    element: u8,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, FormatError> {
    let Some(field) = message.field(element) else { return Ok(None) };
    let mut buffer = [0; TEXT_BYTES_MAX];
    // What a rule reads is never free text, whatever its dialect says.
    let text = field.text(&mut buffer).filter(|_| field.is_plain());
    text.and_then(read).map(Some).ok_or(FormatError::value(element))
}

fn exactly<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    text.try_into().ok()
}

fn zero_filled<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut filled = [0; N];
    filled.get_mut(..text.len())?.copy_from_slice(text);
    Some(filled)
}
