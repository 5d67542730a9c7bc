//! What is shown of a card and of a transaction: the same at every door.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change;
use crate::authorization::Reason;
use crate::cache::Card;
use crate::cards::Plastic;
use crate::cards::card::CardIdentity;
use crate::cards::chip_state::ChipSync;
use crate::hsm::software::PanVault;
use crate::store::record::{RecordId, TransactionRecord};
use crate::switch::{Seams, Switch};

/// A card as it counts now: without the changes whose time is over. It is shown as the plastic with
/// this token.
pub(super) fn card<W: Seams>(switch: &Switch<W>, card: &Card, token: &str) -> CardView {
    let (card, _) = change::as_it_counts(switch, card);
    CardView::of(&switch.vault, &card, change::place(&card.state, token))
}

/// A card with the names of GET /cards/{token}, as far as a card has these things yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CardView {
    /// The issuer's name for it.
    pub token: String,
    /// Its product.
    pub card_product_token: String,
    /// UNACTIVATED, ACTIVE, LIMITED, SUSPENDED or TERMINATED: the state of the plastic with this
    /// token; the card's own is that of its first. What follows is of the same plastic.
    pub state: String,
    /// Why it is in that state: two digits.
    pub reason_code: String,
    /// The same in words.
    pub state_reason: Option<String>,
    /// Whether a PIN is set.
    pub pin_is_set: bool,
    /// Consecutive wrong PINs.
    pub pin_try_counter: u32,
    /// First six digits, six underscores, last four.
    pub pan: String,
    /// Last four digits.
    pub last_four: String,
    /// YYMM.
    pub expiration: String,
    /// PAN sequence number.
    pub pan_sequence_number: String,
    /// What the host believes that the chip holds: in_sync, pending, sent, failed or expired, with
    /// the change.
    pub chip_sync: String,
    /// All plastics, the oldest first, where there is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plastics: Vec<PlasticView>,
}

/// One of several plastics of a card.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PlasticView {
    /// The issuer's name for it: the card's, unless it has one of its own.
    pub token: String,
    /// UNACTIVATED, ACTIVE, LIMITED, SUSPENDED or TERMINATED.
    pub state: String,
    /// Why it is in that state: two digits.
    pub reason_code: String,
    /// The same in words.
    pub state_reason: Option<String>,
    /// YYMM.
    pub expiration: String,
    /// PAN sequence number.
    pub pan_sequence_number: String,
    /// What the host believes that its chip holds.
    pub chip_sync: String,
}

/// A transaction record, masked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TransactionView {
    /// By which audit lines name it: twice eight hexadecimal digits, later ones higher.
    pub id: String,
    /// When it was decided, RFC 3339 in UTC.
    pub time: String,
    /// The network it came from.
    pub network: String,
    /// Its message type.
    pub mti: String,
    /// First six digits, six underscores, last four.
    pub pan: String,
    /// DE3.
    pub processing_code: String,
    /// DE4, in minor units.
    pub amount: u64,
    /// DE49: ISO 4217 numeric code.
    pub currency: u16,
    /// DE11.
    pub stan: String,
    /// DE37.
    pub rrn: Option<String>,
    /// The four-digit code of what was answered.
    pub reason_code: String,
    /// The same in words.
    pub memo: String,
    /// DE38.
    pub approval_code: Option<String>,
    /// What the HSM said of the PIN.
    pub pin: Option<String>,
    /// What the HSM said of the cryptogram.
    pub cryptogram: Option<String>,
    /// Why, step by step.
    pub trail: Vec<String>,
}

/// Why a transaction, or a check of a PIN outside one, came out as it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ResponseView {
    /// Four digits: 0000 is an approval, 1809 an invalid PIN, 1872 the PIN try limit.
    #[schema(pattern = "^[0-9]{4}$")]
    pub code: &'static str,
    /// The same in words.
    pub memo: &'static str,
}

impl ResponseView {
    pub(super) const fn of(reason: Reason) -> ResponseView {
        ResponseView { code: reason.code(), memo: reason.memo() }
    }
}

impl TransactionView {
    pub(super) fn of((id, record): &(RecordId, TransactionRecord)) -> TransactionView {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        TransactionView {
            id: id.to_string(),
            time: record.time.to_string(),
            network: record.network.to_string(),
            mti: record.mti.to_string(),
            pan: record.masked_pan.to_string(),
            processing_code: text(&record.processing_code),
            amount: record.amount.minor_units,
            currency: record.amount.currency,
            stan: text(&record.stan),
            rrn: record.rrn.map(|rrn| text(&rrn)),
            reason_code: record.answer.reason.code().to_owned(),
            memo: record.answer.reason.memo().to_owned(),
            approval_code: record.answer.approval_code.map(|code| text(&code)),
            pin: record.verification.map(|outcome| outcome.name().to_owned()),
            cryptogram: record.cryptogram.map(|outcome| outcome.name().to_owned()),
            trail: record.trail.iter().map(ToString::to_string).collect(),
        }
    }
}

impl PlasticView {
    fn of(plastic: &Plastic, card: &CardIdentity) -> PlasticView {
        let sync = plastic.chip().map_or(&ChipSync::InSync, |chip| &chip.sync);
        PlasticView {
            token: plastic.token().unwrap_or(&card.token).to_string(),
            state: plastic.status.name().to_owned(),
            reason_code: plastic.status_reason.to_string(),
            state_reason: plastic.status_reason.words().map(str::to_owned),
            expiration: plastic.expiry.to_string(),
            pan_sequence_number: format!("{:02}", plastic.sequence),
            chip_sync: sync.to_string(),
        }
    }
}

impl CardView {
    fn of(vault: &PanVault, Card { entry, state, .. }: &Card, place: usize) -> CardView {
        let identity = &entry.identity;
        let pan = vault.open(&identity.key, &identity.sealed_pan).map(|pan| pan.masked());
        let mut plastics: Vec<_> =
            state.plastics.iter().map(|plastic| PlasticView::of(plastic, identity)).collect();
        let current = plastics.get(place).cloned().unwrap_or_default();
        if plastics.len() == 1 {
            plastics.clear();
        }
        CardView {
            token: current.token,
            card_product_token: entry.product.name().to_owned(),
            state: current.state,
            reason_code: current.reason_code,
            state_reason: current.state_reason,
            pin_is_set: state.pin.reference.is_some(),
            pin_try_counter: state.pin.tries,
            pan: pan.map(|pan| pan.to_string()).unwrap_or_default(),
            last_four: pan.map(|pan| pan.last_four().to_owned()).unwrap_or_default(),
            expiration: current.expiration,
            pan_sequence_number: current.pan_sequence_number,
            chip_sync: current.chip_sync,
            plastics,
        }
    }
}
