//! What is put reads back, and what is cut short does not.

use super::*;

const OWN: OwnKeys = OwnKeys { card_digest: Kcv([1, 2, 3]), pan: Kcv([4, 5, 6]) };

fn reference(value: ReferenceValue) -> PinReference {
    PinReference { value, key: Kcv([1, 2, 3]) }
}

fn state() -> CardState {
    let plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
    CardState::new(plastic).with_pin(reference(ReferenceValue::Block(*b"ABCDEFGH"))).with_tries(2)
}

fn record() -> TransactionRecord {
    let findings = (0..=u8::MAX).filter_map(Finding::from_number);
    TransactionRecord {
        time: Timestamp::from_seconds(1_800_000_000),
        card: CardKey([7; 16]),
        masked_pan: MaskedPan::from_bytes(*b"4761340019"),
        network: "demo".into(),
        mti: Mti::AUTHORIZATION_REQUEST,
        processing_code: *b"000000",
        amount: Money { minor_units: 1_250, currency: 978 },
        transmission_time: *b"1121210000",
        stan: *b"000001",
        acquirer: *b"12345678901",
        rrn: Some(*b"000000000001"),
        answer: Answer {
            reason: Reason::Approved,
            approval_code: Some(*b"123456"),
            chip: ChipAnswer::Script([1, 0, 0, 7]),
        },
        verification: Some(PinOutcome::Right),
        cryptogram: Some(CryptogramOutcome::Wrong),
        trail: findings.map(|finding| Note::of(finding, 7, u64::MAX)).collect(),
        is_kept: true,
        duplicate_key: DuplicateKey {
            digest: 5,
            trace: Trace::of(b"1121210000", b"000001"),
            rrn: 6,
            kind: MessageKind::of(*b"0100"),
        },
        body: BodyDigest(6),
        previous: None,
    }
}

#[test]
fn entries_read_back_and_cut_ones_do_not() {
    let mut out = Vec::new();
    let event = Event::StateSuspended { time: Timestamp::from_seconds(1), card: CardKey([7; 16]) };
    begin_entry(&mut out);
    put_card_changed(&mut out, &CardKey([7; 16]), &state());
    put_transaction(&mut out, &record(), Some(99));
    put_event(&mut out, &event);
    put_card_removed(&mut out, &CardKey([7; 16]));
    put_own_keys(&mut out, &OWN);
    let time = Timestamp::from_seconds(2);
    put_clock_jump(&mut out, time, -7);
    let kind = Some(MessageKind::of(*b"0200"));
    let originals = [(kind, None), (None, Some(8)), (None, None)];
    let originals = originals.map(|(kind, rrn)| Original { digest: 1 << 100, kind, rrn });
    originals.iter().for_each(|original| put_reversal(&mut out, original, time));
    let mut parts = Vec::new();
    read_entry(&out, |part| parts.push(part)).unwrap();
    let transaction = TransactionRecord { previous: Some(99), ..record() };
    let expected = [
        Part::CardChanged(CardKey([7; 16]), state()),
        Part::Transaction(Box::new(transaction)),
        Part::Event(event),
        Part::CardRemoved(CardKey([7; 16])),
        Part::OwnKeys(OWN),
        Part::ClockJump(Timestamp::from_seconds(2), -7),
    ];
    let reversals = originals.map(|original| Part::Reversal(original, time));
    let expected = expected.into_iter().chain(reversals).collect::<Vec<_>>();
    assert_eq!(parts, expected);
    for length in 0..out.len() {
        let mut count = 0;
        let read = read_entry(&out[..length], |_| count += 1);
        assert!(read.is_err() || count < expected.len(), "{length}");
    }
}

#[test]
fn every_kind_of_pin_reference_reads_back() {
    let kinds = [
        ReferenceValue::Block([7; 8]),
        ReferenceValue::Pvv { pvv: [0, 9, 1, 2], pvki: 6 },
        ReferenceValue::Offset { digits: Digits::parse("12345").unwrap(), parameters: [7, 8] },
    ];
    for given in kinds.map(reference).map(Some).into_iter().chain([None]) {
        let mut out = Vec::new();
        put_reference(&mut out, given.as_ref());
        let mut rest = &out[..];
        assert_eq!(read_reference(&mut rest), Ok(given));
        assert!(rest.is_empty());
        assert!(read_reference(&mut &out[..out.len() - 1]).is_err());
    }
    assert!(read_reference(&mut &[9; 20][..]).is_err());
}

#[test]
fn every_reason_reads_back() {
    for reason in Reason::ALL {
        let answer = Answer::new(reason);
        let mut out = Vec::new();
        begin_entry(&mut out);
        put_transaction(&mut out, &TransactionRecord { answer, ..record() }, None);
        let mut found = None;
        read_entry(&out, |part| found = Some(part)).unwrap();
        let Some(Part::Transaction(read)) = found else { panic!() };
        assert_eq!(read.answer, answer);
    }
}
