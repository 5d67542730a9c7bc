//! The card against the published vectors, and its counters.

use serde_json::Value;

use super::*;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/crypto.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let hex = value.as_str().unwrap();
    let pairs = (0..hex.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// The names of the tool that made the vectors count in decimal.
fn application(vector: &Value) -> Option<Application> {
    Some(match vector["profile"].as_str().unwrap() {
        "VisaCVN10" => Application::Visa0A,
        "VisaCVN18" => Application::Visa12,
        "VisaCVN22" => Application::Visa22,
        "MasterCardCVN16" => Application::MChip10,
        "MasterCardCVN17" => Application::MChip11,
        "MasterCardCVN20" => Application::MChip14,
        "MasterCardCVN21" => Application::MChip15,
        _ => return None,
    })
}

/// Whether the PAN is one that this card can have.
fn has_short_pan(vector: &Value) -> bool {
    vector["pan"].as_str().unwrap().len() <= 16
}

/// The card of a vector; `None` for what this card is not made for.
fn card(vector: &Value) -> Option<ChipCard> {
    Some(ChipCard::new(&Personalization {
        application: application(vector)?,
        pan: vector["pan"].as_str().unwrap(),
        sequence: vector["psn"].as_str().unwrap().parse().unwrap(),
        keys: IssuerKeys {
            cryptograms: array(&vector["imk_ac"]),
            script_integrity: array(&vector["imk_smi"]),
            script_confidentiality: array(&vector["imk_smc"]),
        },
        pin: vector["current_pin"].as_str().unwrap_or("0000"),
        tries_max: 3,
        atc: 0,
    }))
}

/// In the transaction of an ARQC vector.
fn in_transaction(vector: &Value) -> Option<ChipCard> {
    let mut card = card(vector)?;
    let key = array(&vector["icc_mk_ac"]);
    if has_short_pan(vector) {
        assert!(Key::new(key).halves() == card.cryptogram_key.halves(), "{}", vector["id"]);
    }
    card.cryptogram_key = Key::new(key);
    card.memory.atc = u16::from_be_bytes(array(&vector["tags"]["9F36"]));
    card.transaction.unpredictable = array(&vector["tags"]["9F37"]);
    card.transaction.arqc = array(&vector["arqc"]);
    Some(card)
}

#[test]
fn cryptograms_are_those_of_the_vectors() {
    let mut count = 0;
    for vector in vectors()["arqc"].as_array().unwrap() {
        let Some(card) = in_transaction(vector) else { continue };
        let data = bytes(&vector["tag_9F10"]);
        let covered = verification::covered(card.application, &data);
        assert_eq!(covered, bytes(&vector["iad_part_in_mac"]), "{}", vector["id"]);
        let value = card.mac(&bytes(&vector["mac_input_unpadded"]));
        assert_eq!(value, array(&vector["arqc"]), "{}", vector["id"]);
        count += 1;
    }
    assert_eq!(count, 7);
}

#[test]
fn only_the_answer_of_the_issuer_is_believed() {
    let vectors = vectors();
    let mut count = 0;
    for vector in vectors["arpc"].as_array().unwrap() {
        let mut originals = vectors["arqc"].as_array().unwrap().iter();
        let Some(original) = originals.find(|arqc| arqc["id"] == vector["arqc_ref"]) else {
            continue;
        };
        let Some(mut card) = in_transaction(original) else { continue };
        let mut tag_91 = bytes(&vector["tag_91"]);
        assert!(card.authenticate_issuer(&tag_91), "{}", vector["id"]);
        for place in 0..tag_91.len() * 8 {
            tag_91[place / 8] ^= 1 << (place % 8);
            assert!(!card.authenticate_issuer(&tag_91), "{} bit {place}", vector["id"]);
            tag_91[place / 8] ^= 1 << (place % 8);
        }
        count += 1;
    }
    assert_eq!(count, 7);
}

#[test]
fn scripts_of_the_vectors_are_carried_out_and_changed_ones_are_not() {
    let (mut changes, mut unblocks) = (0, 0);
    for vector in vectors()["issuer_scripts"].as_array().unwrap() {
        let Some(mut card) = card(vector).filter(|_| has_short_pan(vector)) else { continue };
        card.memory.atc = u16::from_be_bytes(array(&vector["atc"]));
        card.transaction.arqc = array(&vector["arqc"]);
        card.memory.tries_left = 0;
        let mut command = bytes(&vector["apdu"]);
        assert_eq!(
            card.carry_out(&command),
            Err(match command[1] {
                0x24 => NOT_NOW,
                _ => UNKNOWN_COMMAND,
            })
        );
        card.transaction.is_authenticated = Some(true);
        for place in 5..command.len() {
            command[place] ^= 0x40;
            assert_ne!(card.carry_out(&command), Ok(()), "{} byte {place}", vector["id"]);
            command[place] ^= 0x40;
        }
        if command[1] != 0x24 {
            continue;
        }
        assert_eq!(card.carry_out(&command), Ok(()), "{}", vector["id"]);
        assert_eq!(card.tries_left(), 3);
        match vector["new_pin"].as_str() {
            Some(pin) => {
                assert!(card.holds(pin), "{}", vector["id"]);
                changes += 1;
            }
            None => unblocks += 1,
        }
    }
    assert!(changes >= 7 && unblocks >= 2, "{changes} {unblocks}");
}

#[test]
fn tries_count_down_and_a_blocked_pin_is_not_looked_at() {
    let all = vectors();
    let mut card = card(&all["arqc"][0]).unwrap();
    assert_eq!(card.verify("1111"), Verified::Wrong(2));
    assert_eq!(card.verify("0000"), Verified::Right);
    for left in [2, 1, 0] {
        assert_eq!(card.verify("1111"), Verified::Wrong(left));
    }
    card.select();
    assert_eq!(card.verify("0000"), Verified::Blocked);
    assert_eq!(card.transaction.offline_pin, None);
}

/// What comes before a script command is whole and plain nonsense: it is refused, and the chip
/// says so in its next cryptogram.
#[test]
fn nonsense_is_refused_and_remembered() {
    let all = vectors();
    for vector in all["arqc"].as_array().unwrap() {
        let Some(mut card) = card(vector) else { continue };
        card.transaction.is_authenticated = Some(true);
        for command in [&[][..], &[0x84; 4], &[0x84, 0x24, 0, 0, 9, 1], &[0x84, 0x24, 0, 0, 0]] {
            assert_ne!(card.script_command(command), DONE, "{command:?}");
        }
        assert!(card.holds("0000"));
        assert!(card.memory.before.script_failed && card.memory.before.scripts == 4);
    }
}

/// A card that is put together anew goes on where it was: tries, counter, PIN, and what it tells of
/// the transaction before.
#[test]
fn what_a_card_keeps_is_all_that_it_needs() {
    let all = vectors();
    let make = || card(&all["arqc"][0]).unwrap();
    let data = TerminalData {
        amount: [0; 6],
        other_amount: [0; 6],
        country: [0x02, 0x76],
        verification_results: [0; 5],
        currency: [0x09, 0x78],
        date: [0x26, 0x12, 0x01],
        transaction_type: 0,
        unpredictable: [1, 2, 3, 4],
    };
    let mut first = make();
    first.select();
    assert_eq!(first.verify("1111"), Verified::Wrong(2));
    first.first_cryptogram(&data);
    let mut second = make().with_memory(first.memory().clone());
    assert!(second.memory() == first.memory() && second.memory().before.is_incomplete);
    let cryptograms = [&mut first, &mut second].map(|card| {
        card.select();
        assert_eq!(card.verify("2222"), Verified::Wrong(1));
        card.first_cryptogram(&data)
    });
    assert_eq!(cryptograms[0], cryptograms[1]);
    assert_eq!(cryptograms[0].atc, [0, 2]);
}

#[test]
fn a_card_without_a_pin_matches_none() {
    let all = vectors();
    let mut vector = all["arqc"][0].clone();
    vector["current_pin"] = "".into();
    let mut card = card(&vector).unwrap();
    assert_eq!(card.verify("0000"), Verified::Wrong(2));
    assert_eq!(card.verify("1234"), Verified::Wrong(1));
}
