//! Contact chips under load: each request has a cryptogram of its own.
//!
//! The cards are those of `pinswitch seed`, with chips that are made when they first come. Their
//! product must have the demo's keys for Visa chips, and offline PINs.

use chip_card::card::{Application, ChipCard, IssuerKeys, Personalization};
use chip_card::terminal::{Otherwise, Payment, PinEntry, Purchase};
use clap::ValueEnum;
use iso_specs::{Message, tlv};

/// Of every request: 10.00 EUR.
pub(super) const AMOUNT: u64 = 1_000;

/// Longest chip data of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 255;

/// What the chips do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChipUse {
    /// They verify the right PIN themselves: ARQC and ARPC.
    OfflinePin,
    /// They have no PIN try left, and the right PIN goes online at an ATM: ARQC, PIN, ARPC, and a
    /// script that unblocks. The product must have atm_unblocks_chip.
    Unblock,
}

impl ChipUse {
    /// The name on the command line and in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ChipUse::OfflinePin => "offline-pin",
            ChipUse::Unblock => "unblock",
        }
    }

    /// Whether an answer tells the chip what it must.
    pub(super) fn is_told(self, answer: &Message<'_>) -> bool {
        let mut room = [0; ANSWER_BYTES_MAX];
        let data = answer.field(55).and_then(|field| field.canonical(&mut room));
        let has = |tag| data.is_some_and(|data| tlv::find(data, tag).is_some());
        has(0x91) && (self == ChipUse::OfflinePin || has(0x72) || has(0x71))
    }
}

/// The chips of a thread.
pub(super) struct Chips {
    pub(super) kind: ChipUse,
    /// ATC before the first transaction.
    atc: u16,
    cards: Vec<Option<ChipCard>>,
    random: fastrand::Rng,
}

impl Chips {
    pub(super) fn new(kind: ChipUse, count: u32, atc_from: u16, seed: u64) -> Chips {
        let count = usize::try_from(count).unwrap_or_default();
        Chips {
            kind,
            atc: atc_from.saturating_sub(1),
            cards: (0..count).map(|_| None).collect(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// DE55 of the next transaction of the card at a place.
    pub(super) fn chip_data(&mut self, place: u32, pan: &[u8; 16], pin: &[u8; 4]) -> Vec<u8> {
        let Chips { kind, atc, cards, random } = self;
        let (Ok(pan), Ok(pin)) = (std::str::from_utf8(pan), std::str::from_utf8(pin)) else {
            return Vec::new();
        };
        let place = usize::try_from(place).ok().and_then(|place| cards.get_mut(place));
        let Some(card) = place else { return Vec::new() };
        let card = card.get_or_insert_with(|| new_card(*kind, *atc, pan, pin));
        let purchase = Purchase {
            amount: AMOUNT,
            currency: 978,
            date: [0x26, 0x01, 0x01],
            transaction_type: if *kind == ChipUse::Unblock { 0x01 } else { 0x00 },
            unpredictable: random.u32(..).to_be_bytes(),
        };
        let entry = match kind {
            ChipUse::OfflinePin => PinEntry::Offline(&[pin]),
            ChipUse::Unblock => PinEntry::Online,
        };
        Payment::begin(card, &purchase, (entry, Otherwise::Fails)).chip_data()
    }
}

fn new_card(kind: ChipUse, atc: u16, pan: &str, pin: &str) -> ChipCard {
    ChipCard::new(&Personalization {
        application: Application::Visa0A,
        pan,
        sequence: 1,
        keys: IssuerKeys::DEMO_VISA,
        pin,
        tries_max: if kind == ChipUse::Unblock { 0 } else { 3 },
        atc,
    })
}
