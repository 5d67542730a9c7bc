//! Secure messages to the chip: commands with a MAC, and a PIN in them (EMV Book 2, 9).

use zeroize::Zeroizing;

use super::derive::{DerivedKey, common_session_key, visa_script_key};
use crate::hsm::ClearPin;
use crate::hsm::emv::{MacPadding, ScriptKeyMethod, ScriptPinMethod};

/// Bytes of the MAC behind a command.
pub(crate) const MAC_BYTES: usize = 8;

/// The session key of a script's command, of which `number` came before it.
pub(crate) fn script_key(
    card: &DerivedKey,
    method: ScriptKeyMethod,
    atc: [u8; 2],
    arqc: [u8; 8],
    number: u16,
) -> DerivedKey {
    match method {
        ScriptKeyMethod::VisaAtc => visa_script_key(card, atc),
        ScriptKeyMethod::Common { counts } => {
            let [a, b, rest @ ..] = arqc;
            let more = if counts { number } else { 0 };
            let [a, b] = u16::from_be_bytes([a, b]).wrapping_add(more).to_be_bytes();
            let [c, d, e, f, g, h] = rest;
            common_session_key(card, [a, b, c, d, e, f, g, h])
        }
    }
}

/// A command with its MAC behind it: `head` is CLA INS P1 P2, and the length that is written
/// counts data and MAC. The MAC covers head and length, ATC, cryptogram and data.
pub(crate) fn command(
    integrity: &DerivedKey,
    head: [u8; 4],
    data: &[u8],
    (atc, arqc): ([u8; 2], [u8; 8]),
) -> Vec<u8> {
    // A command's data is a PIN block or nothing.
    let length = u8::try_from(data.len() + MAC_BYTES).unwrap_or(u8::MAX);
    let [cla, ins, p1, p2] = head;
    let head = [cla, ins, p1, p2, length];
    let mac = integrity.mac(&[&head, &atc, &arqc, data], MacPadding::Bit);
    [&head, data, &mac].concat()
}

/// The data of PIN CHANGE: the enciphered PIN, and before encipherment also the current one where
/// the card wants it.
pub(crate) fn enciphered_pin(
    confidentiality: &DerivedKey,
    card: &DerivedKey,
    method: ScriptPinMethod,
    (new, current): (&ClearPin, Option<&ClearPin>),
) -> Vec<u8> {
    let block = match method {
        ScriptPinMethod::Vis => vis_block(card, new, current),
        ScriptPinMethod::Iso2Padded | ScriptPinMethod::Iso2 | ScriptPinMethod::Iso2Chained => {
            iso2_block(new)
        }
    };
    let cipher = confidentiality.cipher();
    match method {
        ScriptPinMethod::Iso2 => return cipher.encrypt(&block).to_vec(),
        ScriptPinMethod::Iso2Chained => {
            let [a, rest @ ..] = cipher.encrypt(&block);
            let [b, c, d, e, f, g, h] = rest;
            let second = cipher.encrypt(&[a ^ 0x80, b, c, d, e, f, g, h]);
            return [[a, b, c, d, e, f, g, h], second].concat();
        }
        ScriptPinMethod::Vis | ScriptPinMethod::Iso2Padded => {}
    }
    let mut padded = Zeroizing::new([0; 16]);
    let plain = [8_u8].into_iter().chain(block.iter().copied()).chain([0x80]);
    padded.iter_mut().zip(plain).for_each(|(to, byte)| *to = byte);
    let (blocks, _) = padded.as_chunks::<8>();
    blocks.iter().flat_map(|block| cipher.encrypt(block)).collect()
}

/// ISO 9564-1 format 2: 2, the length, the PIN, filled with F.
fn iso2_block(pin: &ClearPin) -> Zeroizing<[u8; 8]> {
    let mut block = pin_and_fill(pin);
    block.iter_mut().take(1).for_each(|byte| *byte |= 0x20);
    block
}

/// 0, the length, the PIN, filled with F.
fn pin_and_fill(pin: &ClearPin) -> Zeroizing<[u8; 8]> {
    let length = u8::try_from(pin.digits().len()).unwrap_or_default();
    let digits = pin.digits().iter().map(|digit| digit - b'0');
    packed([0, length].into_iter().chain(digits), 0xF)
}

/// VIS: four zero bytes and the last four of the left half of the card's master key for
/// cryptograms, with the PIN, and the current one from the left, filled with zeros.
fn vis_block(card: &DerivedKey, new: &ClearPin, current: Option<&ClearPin>) -> Zeroizing<[u8; 8]> {
    let ([_, _, _, _, a, b, c, d], _) = card.halves();
    let mut block = pin_and_fill(new);
    block.iter_mut().zip([0, 0, 0, 0, a, b, c, d]).for_each(|(byte, key)| *byte ^= key);
    if let Some(current) = current {
        let current = packed(current.digits().iter().map(|digit| digit - b'0'), 0);
        block.iter_mut().zip(current.iter()).for_each(|(byte, other)| *byte ^= other);
    }
    block
}

/// Up to 16 digits, two a byte, and what fills the rest.
fn packed(digits: impl Iterator<Item = u8>, fill: u8) -> Zeroizing<[u8; 8]> {
    let mut nibbles = Zeroizing::new([fill; 16]);
    nibbles.iter_mut().zip(digits).for_each(|(to, digit)| *to = digit);
    let mut block = Zeroizing::new([0; 8]);
    let (pairs, _) = nibbles.as_chunks::<2>();
    block.iter_mut().zip(pairs).for_each(|(to, [high, low])| *to = high << 4 | low);
    block
}
