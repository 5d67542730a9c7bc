//! Keys of a card and of a transaction. They live as long as one call.

use des::Des;
use des::cipher::{Block, BlockCipherEncrypt, KeyInit};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::cards::pan::{PAN_DIGITS_MAX, Pan};
use crate::hsm::emv::{CardKeyMethod, MacPadding, SessionKeyMethod};
use crate::hsm::software::cipher::{TdesKey, set_odd_parity};

/// Digits of a PAN that option B hashes only above.
const OPTION_B_DIGITS: usize = 16;

/// A double-length triple DES key that was derived; wiped when dropped, never shown.
pub(crate) struct DerivedKey(Zeroizing<[u8; 16]>);

impl DerivedKey {
    fn of_halves(left: [u8; 8], right: [u8; 8]) -> DerivedKey {
        let mut whole = Zeroizing::new([0; 16]);
        whole.iter_mut().zip(left.into_iter().chain(right)).for_each(|(to, byte)| *to = byte);
        set_odd_parity(&mut *whole);
        DerivedKey(whole)
    }

    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> DerivedKey {
        DerivedKey(Zeroizing::new(bytes))
    }

    /// For explaining a calculation under a public test key.
    pub(crate) fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn halves(&self) -> ([u8; 8], [u8; 8]) {
        let (left, right) = self.0.split_at(8);
        (left.try_into().unwrap_or_default(), right.try_into().unwrap_or_default())
    }

    pub(crate) fn cipher(&self) -> TdesKey {
        TdesKey::double(&self.0)
    }

    /// The MAC of ISO/IEC 9797-1, algorithm 3, with DES: eight bytes.
    pub(crate) fn mac(&self, parts: &[&[u8]], padding: MacPadding) -> [u8; 8] {
        let (left, _) = self.halves();
        let single = Des::new(&left.into());
        let mut state = [0_u8; 8];
        let mut filled = 0;
        let bytes = parts.iter().copied().flatten();
        let bit: &[u8] = if padding == MacPadding::Bit { &[0x80] } else { &[] };
        for byte in bytes.chain(bit) {
            // The last block waits for what comes behind it.
            if filled == state.len() {
                let mut block = Block::<Des>::from(state);
                single.encrypt_block(&mut block);
                (state, filled) = (block.into(), 0);
            }
            if let Some(place) = state.get_mut(filled) {
                *place ^= byte;
            }
            filled += 1;
        }
        self.cipher().encrypt(&state)
    }
}

/// The card's master key.
pub(crate) fn card_key(
    issuer: &TdesKey,
    method: CardKeyMethod,
    pan: &Pan,
    sequence: u8,
) -> DerivedKey {
    let hashes = method == CardKeyMethod::B && pan.digits().len() > OPTION_B_DIGITS;
    let seed = if hashes { hashed_digits(pan, sequence) } else { last_digits(pan, sequence) };
    DerivedKey::of_halves(issuer.encrypt(&seed), issuer.encrypt(&seed.map(|byte| !byte)))
}

/// The digits of PAN and PAN sequence number, each 0 to 9.
fn digits(pan: &Pan, sequence: u8) -> impl DoubleEndedIterator<Item = u8> {
    let sequence = [sequence / 10 % 10, sequence % 10];
    pan.digits().iter().map(|digit| digit - b'0').chain(sequence)
}

/// The 16 rightmost digits, packed, filled with zeros on the left.
fn last_digits(pan: &Pan, sequence: u8) -> [u8; 8] {
    let mut last = [0; 16];
    last.iter_mut().rev().zip(digits(pan, sequence).rev()).for_each(|(to, digit)| *to = digit);
    packed(&last)
}

/// 16 decimal digits of the SHA-1 of all digits: those that are decimal, then the others as
/// A = 0 to F = 5.
fn hashed_digits(pan: &Pan, sequence: u8) -> [u8; 8] {
    let mut all = [0; PAN_DIGITS_MAX + 3];
    let length = (pan.digits().len() + 2).next_multiple_of(2);
    let used = all.get_mut(..length).unwrap_or_default();
    used.iter_mut().rev().zip(digits(pan, sequence).rev()).for_each(|(to, digit)| *to = digit);
    let bytes = used.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    let hash = Sha1::digest(bytes.collect::<Vec<u8>>());
    let nibbles = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    let decimal = nibbles.clone().filter(|nibble| *nibble < 10);
    let others = nibbles.filter(|nibble| *nibble >= 10).map(|nibble| nibble - 10);
    let mut found = [0; 16];
    found.iter_mut().zip(decimal.chain(others)).for_each(|(to, digit)| *to = digit);
    packed(&found)
}

fn packed(digits: &[u8; 16]) -> [u8; 8] {
    let mut bytes = [0; 8];
    let (pairs, _) = digits.as_chunks::<2>();
    bytes.iter_mut().zip(pairs).for_each(|(to, [high, low])| *to = high << 4 | low);
    bytes
}

/// The key of an application cryptogram.
pub(crate) fn session_key(
    card: &DerivedKey,
    method: SessionKeyMethod,
    atc: [u8; 2],
    unpredictable: [u8; 4],
) -> DerivedKey {
    let [high, low] = atc;
    match method {
        SessionKeyMethod::None => DerivedKey(card.0.clone()),
        SessionKeyMethod::Common => common_session_key(card, [high, low, 0, 0, 0, 0, 0, 0]),
        SessionKeyMethod::Skd => {
            let [a, b, c, d] = unpredictable;
            common_session_key(card, [high, low, 0, 0, a, b, c, d])
        }
        SessionKeyMethod::Emv2000 => {
            let shape = Tree { height: 8, branch_factor: 4 };
            emv2000_session_key(card, u16::from_be_bytes(atc), shape)
        }
    }
}

/// EMV Book 2, A1.3.1: the third byte of what it comes from is F0 for the left half and 0F for
/// the right one.
pub(crate) fn common_session_key(card: &DerivedKey, diversifier: [u8; 8]) -> DerivedKey {
    let cipher = card.cipher();
    let half = |third| {
        let [a, b, _, d, e, f, g, h] = diversifier;
        cipher.encrypt(&[a, b, third, d, e, f, g, h])
    };
    DerivedKey::of_halves(half(0xF0), half(0x0F))
}

/// Visa: the card's master key with the ATC in its left half and its complement in its right one.
pub(crate) fn visa_script_key(card: &DerivedKey, atc: [u8; 2]) -> DerivedKey {
    let (left, right) = card.halves();
    let with = |half: [u8; 8], atc: [u8; 2]| {
        let ([a, b, c, d, e, f, g, h], [high, low]) = (half, atc);
        [a, b, c, d, e, f, g ^ high, h ^ low]
    };
    DerivedKey::of_halves(with(left, atc), with(right, atc.map(|byte| !byte)))
}

/// The tree of EMV 2000.
#[derive(Clone, Copy)]
pub(crate) struct Tree {
    pub(crate) height: u32,
    pub(crate) branch_factor: u16,
}

/// EMV 4.0 Book 2, A1.3: from the card's master key down a tree, with an initial value of zero.
pub(crate) fn emv2000_session_key(card: &DerivedKey, atc: u16, shape: Tree) -> DerivedKey {
    let Tree { height, branch_factor } = shape;
    let place_at = |level: u32| {
        let below = height.saturating_sub(level);
        (0..below).fold(atc, |place, _| place / branch_factor.max(1))
    };
    let (mut grandparent, mut parent) = (Zeroizing::new([0; 16]), card.0.clone());
    for level in 1..height {
        let child = child(&parent, &grandparent, place_at(level) % branch_factor.max(1));
        grandparent = std::mem::replace(&mut parent, child);
    }
    let mut key = child(&parent, &grandparent, atc % branch_factor.max(1));
    key.iter_mut().zip(grandparent.iter()).for_each(|(byte, other)| *byte ^= other);
    set_odd_parity(&mut *key);
    DerivedKey(key)
}

fn child(parent: &[u8; 16], grandparent: &[u8; 16], branch: u16) -> Zeroizing<[u8; 16]> {
    let cipher = TdesKey::double(parent);
    let branch = u64::from(branch);
    let (left, right) = grandparent.split_at(8);
    let half = |half: &[u8], number: u64| {
        let value = u64::from_be_bytes(half.try_into().unwrap_or_default()) ^ number;
        u64::from_be_bytes(cipher.encrypt(&value.to_be_bytes()))
    };
    let whole = u128::from(half(left, branch)) << 64 | u128::from(half(right, branch ^ 0xF0));
    Zeroizing::new(whole.to_be_bytes())
}
