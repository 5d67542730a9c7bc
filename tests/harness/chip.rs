//! A contact chip with Visa's CVN 0A under the demo's keys. Its cryptogram and what it expects of
//! the issuer are made here from the standard's text, not with the switch's code.

use des::Des;
use des::cipher::{Block, BlockCipherEncrypt, KeyInit};
use iso_specs::tlv;

use crate::terminal::{Fields, bytes, encrypt};

/// IMK-AC of the demo's cards with a Visa application.
const IMK_AC: &str = "6201618CB9C4F823B67AFE7A62804AAE";

/// DE22, DE23 and DE55 of a request, for its card, amount and PIN block: the chip has verified a
/// PIN itself where none goes online.
pub fn set_chip_data(request: &mut Fields, sequence: u8, atc: u16, pin_is_wrong: bool) {
    let is_online = request.values.contains_key(&52);
    let (cvr, cvm) = match (is_online, pin_is_wrong) {
        (true, _) => ("03A00000", "420300"),
        (false, true) => ("03A60000", "410301"),
        (false, false) => ("03A40000", "410302"),
    };
    let (amount, atc) = (request.text(4), format!("{atc:04X}"));
    let covered = [
        (0x9F02, &*amount),
        (0x9F03, "000000000000"),
        (0x9F1A, "0276"),
        (0x95, "0000000000"),
        (0x5F2A, "0978"),
        (0x9A, "261121"),
        (0x9C, "00"),
        (0x9F37, "01020304"),
        (0x82, "1800"),
        (0x9F36, &atc),
    ];
    let values: String = covered.iter().map(|(_, value)| *value).chain([cvr]).collect();
    let cryptogram = mac(&card_key(&request.text(2), sequence), &bytes(&values));
    let mut data = Vec::new();
    let mut push = |tag, value: &[u8]| tlv::push(&mut data, tag, value).unwrap();
    push(0x9F26, &cryptogram);
    push(0x9F27, &[0x80]);
    push(0x9F10, &bytes(&format!("06010A{cvr}")));
    push(0x9F34, &bytes(cvm));
    covered.into_iter().for_each(|(tag, value)| push(tag, &bytes(value)));
    let sequence = format!("{sequence:03}");
    request.set(22, b"051").set(23, sequence.as_bytes()).set(55, &data);
}

/// What DE55 of the answer to such a request begins with: 91, of method 1 under the card's master
/// key.
pub fn answer_to(request: &Fields, code: &str) -> Vec<u8> {
    let sequence = request.text(23).parse().unwrap();
    let arqc = tlv::find(&request.values[&55], 0x9F26).unwrap();
    let mut block: [u8; 8] = arqc.try_into().unwrap();
    block.iter_mut().zip(code.as_bytes()).for_each(|(byte, other)| *byte ^= other);
    let arpc = encrypt(block, &card_key(&request.text(2), sequence));
    let mut data = Vec::new();
    tlv::push(&mut data, 0x91, &[&arpc, code.as_bytes()].concat()).unwrap();
    data
}

/// The card's master key (EMV Book 2, A1.4.1), in hexadecimal.
fn card_key(pan: &str, sequence: u8) -> String {
    let digits = format!("{pan}{sequence:02}");
    let seed: [u8; 8] = bytes(&digits[digits.len() - 16..]).try_into().unwrap();
    let halves = [seed, seed.map(|byte| !byte)].map(|half| encrypt(half, IMK_AC));
    halves.as_flattened().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// ISO/IEC 9797-1, algorithm 3, padding method 1.
fn mac(key: &str, data: &[u8]) -> [u8; 8] {
    let first = Des::new_from_slice(&bytes(&key[..16])).unwrap();
    let mut state = [0; 8];
    let blocks = data.chunks(8);
    let last = blocks.len() - 1;
    for (number, block) in blocks.enumerate() {
        state.iter_mut().zip(block).for_each(|(byte, other)| *byte ^= other);
        state = if number == last { encrypt(state, key) } else { single(&first, state) };
    }
    state
}

fn single(cipher: &Des, block: [u8; 8]) -> [u8; 8] {
    let mut block = Block::<Des>::from(block);
    cipher.encrypt_block(&mut block);
    block.into()
}
