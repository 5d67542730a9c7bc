//! Cards with two plastics whose chips wait for a script: what a message tells of which of them.

use switch::authorization::icc_data::Tvr;
use switch::authorization::{
    Conclusion, CryptogramCheck, Decision, Product, Reason, Request, VerifiedCryptogram, conclude,
    concluding_cryptogram,
};
use switch::cards::chip_state::{Chip, ChipSync, Sent};
use switch::cards::{CardState, Expiry, Plastic};
use switch::outcome::CryptogramOutcome;

use super::{Line, ascii, card, product, request};

fn expiry(yymm: &[u8; 4]) -> Expiry {
    Expiry::parse(yymm).unwrap()
}

/// The first has 2912 and 1, and its script rode on the transaction 1; the second has 2912 and 2,
/// and one of the same id with the same ATC, or another, rode on the transaction 2.
fn two(atc: u16) -> CardState {
    let mut card = card(&Line::read("sent zeros"));
    let ChipSync::Sent(change, sent) = card.chip(0).unwrap().sync.clone() else { panic!() };
    let sync = ChipSync::Sent(change, Sent { transaction: Some(2), atc, ..sent });
    card.plastics.push(Plastic::new(expiry(b"2912"), 2));
    card.with_chip(1, Chip { sync, ..Chip::default() })
}

fn named(line: &str, (yymm, sequence): (Option<&[u8; 4]>, Option<u8>)) -> Request {
    let request = request(&Line::read(line), &ascii());
    Request { expiry: yymm.map(expiry), sequence, ..request }
}

/// What a message comes to on a link that has signed on.
fn concluded(
    request: &Request,
    card: &CardState,
    rules: &Product,
    reversed: Option<u128>,
    right: Option<CryptogramCheck>,
) -> Decision {
    let outcome = CryptogramOutcome::Right;
    let cryptogram = right.map(|check| VerifiedCryptogram { check, outcome });
    let reason = Reason::Approved;
    let of = Conclusion { reason, cryptogram, reversed, is_signed_on: true };
    conclude(request, card, rules, of)
}

fn syncs(decision: &Decision, card: &CardState) -> [&'static str; 2] {
    let after = decision.change.as_ref().unwrap_or(card);
    [0, 1].map(|place| after.chip(place).unwrap().sync.name())
}

/// Both scripts have one id and one ATC, and DE14 is the same.
#[test]
fn what_is_told_of_one_chip_is_never_put_down_to_another() {
    let (rules, card) = (product(""), two(1));
    // With the ATC of both, and with none.
    let without_atc = |mut request: Request| {
        request.chip.as_mut().unwrap().atc = None;
        request
    };
    for of in [(Some(b"2912"), None), (None, None), (Some(b"2912"), Some(0))] {
        let ok = named("atc=1 result=ok", of);
        for request in [without_atc(ok.clone()), ok] {
            let told = |reversed| {
                let decision = concluded(&request, &card, &rules, reversed, None);
                let after = decision.change.as_ref().unwrap_or(&card);
                let has_pin = [0, 1].map(|place| after.chip(place).unwrap().has_script_pin);
                (syncs(&decision, &card), has_pin)
            };
            assert_eq!(told(Some(1)), (["in_sync", "sent"], [true, false]), "{of:?}");
            assert_eq!(told(Some(2)), (["sent", "in_sync"], [false, true]), "{of:?}");
            // Neither an advice says which it is, nor the reversal of another transaction.
            assert_eq!(told(Some(3)), (["sent", "sent"], [false, false]), "{of:?}");
            assert_eq!(told(None), (["sent", "sent"], [false, false]), "{of:?}");
        }
    }
    // The id says it where only one with it, or with it and this ATC, is on its way.
    let advice = named("atc=4 result=ok", (Some(b"2912"), None));
    let other = two(4);
    let decision = concluded(&advice, &other, &rules, None, None);
    assert_eq!(syncs(&decision, &other), ["sent", "in_sync"]);
    let one = card.with_chip(0, Chip::default());
    let advice = without_atc(advice);
    assert_eq!(syncs(&concluded(&advice, &one, &rules, None, None), &one), ["in_sync", "in_sync"]);
}

#[test]
fn a_cryptogram_speaks_of_its_own_chip_alone() {
    let (rules, card) = (product(""), two(1));
    let mut advice = named("atc=1", (Some(b"2912"), None));
    advice.chip.as_mut().unwrap().tvr = Some(Tvr([0, 0, 0, 0, 0x10]));
    let check = CryptogramCheck::of_request(&advice, &card, &rules).unwrap();
    for (plastic, wanted) in [(0, ["pending", "sent"]), (1, ["sent", "pending"])] {
        let right = Some(CryptogramCheck { plastic, ..check });
        let decision = concluded(&advice, &card, &rules, None, right);
        assert_eq!(syncs(&decision, &card), wanted);
        let refused = decision.change.unwrap();
        assert!(refused.chip(plastic).unwrap().sync.change().unwrap().was_refused);
        // Of the one whose transaction is reversed it says nothing.
        let of_other = Some(2 - plastic as u128);
        let decision = concluded(&advice, &card, &rules, of_other, right);
        let after = decision.change.unwrap();
        let told = [0, 1].map(|place| after.chip(place).unwrap().sync.change().unwrap());
        assert!(told.iter().all(|change| !change.was_refused));
        assert_eq!(after.chip(plastic), card.chip(plastic));
    }
}

/// The first is in use.
#[test]
fn a_cryptogram_is_verified_for_the_chip_that_a_message_tells_of() {
    let rules = product("");
    for (atc, line, reversed, wanted) in [
        (1, "atc=1", None, 0),
        (1, "atc=1", Some(1), 0),
        (1, "atc=1", Some(2), 1),
        (1, "atc=1 result=ok", None, 0),
        (4, "atc=1 result=ok", None, 0),
        (4, "atc=4 result=ok", None, 1),
        (4, "atc=4", None, 0),
    ] {
        let (card, request) = (two(atc), named(line, (Some(b"2912"), None)));
        let check = concluding_cryptogram(&request, &card, &rules, reversed).unwrap();
        let number = card.plastics[wanted].sequence;
        assert_eq!((check.plastic, check.sequence), (wanted, number), "{line} {reversed:?}");
    }
    // A plastic that it does not name it does not tell of.
    let request = named("atc=4 result=ok", (Some(b"2912"), Some(1)));
    let check = concluding_cryptogram(&request, &two(4), &rules, None).unwrap();
    assert_eq!(check.plastic, 0);
}

/// Scripts of two plastics of a card may have one id: what is told of one is not told of the other.
#[test]
fn what_an_advice_or_a_reversal_tells_of_a_plastic_changes_no_other() {
    let rules = product("");
    // The first has 2912 and 1, and its script rode on the transaction 1.
    let mut card = card(&Line::read("sent"));
    let ChipSync::Sent(change, sent) = card.chip(0).unwrap().sync.clone() else { panic!() };
    let sync = ChipSync::Sent(change, Sent { transaction: Some(2), ..sent });
    card.plastics.push(Plastic::new(expiry(b"3112"), 2));
    let card = card.with_chip(1, Chip { sync, ..Chip::default() });

    let after = |line: &str, named: (Option<&[u8; 4]>, Option<u8>), reversed: Option<u128>| {
        let request = self::named(line, named);
        let chip = request.chip.clone().filter(|_| reversed.is_none());
        let request = Request { chip, ..request };
        let decision = concluded(&request, &card, &rules, reversed, None);
        decision.change.unwrap_or_else(|| card.clone())
    };
    let told = |line: &str, named, reversed| {
        let after = after(line, named, reversed);
        [0, 1].map(|place| after.chip(place).unwrap().sync.name())
    };
    let first = [(Some(b"2912"), None), (None, Some(1)), (Some(b"2912"), Some(1))];
    let second = [(Some(b"3112"), None), (None, Some(2)), (Some(b"3112"), Some(2))];
    for named in first {
        assert_eq!(told("atc=1 result=ok", named, None), ["in_sync", "sent"], "{named:?}");
        assert_eq!(told("atc=1 result=failed", named, None), ["pending", "sent"], "{named:?}");
        assert_eq!(told("atc=1 result=none", named, None), ["pending", "sent"], "{named:?}");
        assert_eq!(told("", named, Some(1)), ["pending", "sent"], "{named:?}");
        assert_eq!(told("", named, Some(2)), ["sent", "sent"], "{named:?}");
    }
    for named in second {
        assert_eq!(told("atc=1 result=ok", named, None), ["sent", "in_sync"], "{named:?}");
        assert_eq!(told("atc=1 result=failed", named, None), ["sent", "pending"], "{named:?}");
        assert_eq!(told("", named, Some(2)), ["sent", "pending"], "{named:?}");
        assert_eq!(told("", named, Some(1)), ["sent", "sent"], "{named:?}");
    }
    // A script that the chip did not get is no refused one.
    for (result, was_refused) in [("atc=1 result=failed", true), ("atc=1 result=none", false)] {
        let after = after(result, first[0], None);
        assert_eq!(after.chip(0).unwrap().sync.change().unwrap().was_refused, was_refused);
    }
    assert!(after("atc=1 result=ok", first[0], None).chip(0).unwrap().has_script_pin);
    // Without a name the script tells of which it is.
    assert_eq!(told("", (None, None), Some(1)), ["pending", "sent"]);
    assert_eq!(told("", (None, None), Some(2)), ["sent", "pending"]);
}
