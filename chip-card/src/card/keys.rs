//! Keys of a chip and what is computed with them: triple DES with keys of double length
//! (EMV Book 2, annex A1).

use des::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use des::{Des, TdesEde2};

/// A block of the cipher.
pub(crate) type Block = [u8; 8];

/// A triple-DES key of double length.
#[derive(Clone, Copy)]
pub(crate) struct Key([u8; 16]);

/// How a message is filled up to whole blocks before its MAC is computed.
#[derive(Clone, Copy)]
pub(crate) enum Padding {
    /// Zeros, none if it is whole (ISO 9797-1 method 1).
    Zeros,
    /// 80, then zeros (ISO 9797-1 method 2).
    Bit,
}

impl Key {
    pub(crate) const fn new(key: [u8; 16]) -> Key {
        Key(key)
    }

    fn of_halves(left: Block, right: Block) -> Key {
        let mut key = [0; 16];
        let both = left.into_iter().chain(right);
        key.iter_mut().zip(both).for_each(|(to, byte)| *to = odd_parity(byte));
        Key(key)
    }

    pub(crate) fn halves(&self) -> (Block, Block) {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        ([a, b, c, d, e, f, g, h], rest)
    }

    pub(crate) fn encrypt(&self, block: Block) -> Block {
        let mut block = Array::from(block);
        TdesEde2::new(&Array::from(self.0)).encrypt_block(&mut block);
        block.into()
    }

    pub(crate) fn decrypt(&self, block: Block) -> Block {
        let mut block = Array::from(block);
        TdesEde2::new(&Array::from(self.0)).decrypt_block(&mut block);
        block.into()
    }

    /// The MAC of a message: single DES with the left half from block to block, triple DES over
    /// the last (ISO 9797-1, algorithm 3).
    pub(crate) fn mac(&self, message: &[u8], padding: Padding) -> Block {
        let mut message = message.to_vec();
        if matches!(padding, Padding::Bit) {
            message.push(0x80);
        }
        message.resize(message.len().next_multiple_of(8), 0);
        let (left, right) = self.halves();
        let (left, right) = (Des::new(&Array::from(left)), Des::new(&Array::from(right)));
        let mut state = Array::from([0; 8]);
        let (blocks, _) = message.as_chunks::<8>();
        for block in blocks {
            state.iter_mut().zip(block).for_each(|(to, byte)| *to ^= byte);
            left.encrypt_block(&mut state);
        }
        right.decrypt_block(&mut state);
        left.encrypt_block(&mut state);
        state.into()
    }

    /// The key of a card under this issuer master key: option A, and option B too where the PAN
    /// has up to 16 digits (EMV Book 2, annex A1.4).
    pub(crate) fn of_card(&self, pan: &str, sequence: u8) -> Key {
        let digits = format!("{pan}{sequence:02}");
        let last = digits.bytes().rev().chain(std::iter::repeat(b'0')).take(16);
        let number = last
            .enumerate()
            .fold(0_u64, |number, (place, digit)| number | u64::from(digit & 0x0F) << (4 * place));
        let block = number.to_be_bytes();
        Key::of_halves(self.encrypt(block), self.encrypt(block.map(|byte| !byte)))
    }

    /// A session key: the third byte of what makes it different tells its halves apart (EMV Book
    /// 2, annex A1.3).
    pub(crate) fn session(&self, diversifier: Block) -> Key {
        let [a, b, _, rest @ ..] = diversifier;
        let half = |third: u8| {
            let [d, e, f, g, h] = rest;
            self.encrypt([a, b, third, d, e, f, g, h])
        };
        Key::of_halves(half(0xF0), half(0x0F))
    }

    /// VIS: the ATC is mixed into the card's key, its complement into the right half.
    pub(crate) fn visa_script(&self, atc: [u8; 2]) -> Key {
        let mix = |half: Block, [x, y]: [u8; 2]| {
            let [a, b, c, d, e, f, g, h] = half;
            [a, b, c, d, e, f, g ^ x, h ^ y]
        };
        let (left, right) = self.halves();
        Key::of_halves(mix(left, atc), mix(right, atc.map(|byte| !byte)))
    }
}

const fn odd_parity(byte: u8) -> u8 {
    match byte.count_ones() % 2 {
        0 => byte ^ 1,
        _ => byte,
    }
}
