//! The terminal of a chip that a simulation plays: the cardholder enters a PIN, the chip makes its
//! cryptogram, and after the answer it authenticates the issuer and carries out the script.

use chip_card::card::Verified;
use chip_card::terminal::{Ending, Otherwise, Payment, PinEntry, Purchase};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::message::Outgoing;
use super::virtual_chip::{InTerminal, VirtualChip, digits};
use super::{Answered, Simulator};
use crate::cache::Card;
use crate::clock::{Clock, Timestamp};
use crate::hex::hex;
use crate::hsm::software::random;
use crate::issuing::Refused;
use crate::issuing::secret::PinText;
use crate::pin::ClearPin;
use crate::store::document::DocumentChange;
use crate::switch::{Seams, Switch};

/// A chip of the card, which the switch plays, in a terminal with contacts. The product's keys must
/// be the public test keys.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChipForm {
    /// Always true: there is no chip but the one that the switch plays.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// What the cardholder enters for the chip, once: 4 to 12 digits. Left out, nothing is entered.
    /// Where it does not hold, or none is entered, the next method is the online PIN if `pin` is
    /// there, and otherwise the signature, which is not taken while the chip has PIN tries left.
    #[schema(value_type = Option<String>, write_only, pattern = "^[0-9]{4,12}$")]
    pub pin_entered: Option<PinText>,
    /// Whether the answer does not come to the terminal: the chip hears nothing of the issuer.
    #[serde(default)]
    pub answer_is_lost: bool,
}

impl ChipForm {
    /// What is entered for the chip.
    pub(super) fn pin(&self) -> Result<Option<Box<ClearPin>>, Refused> {
        if !self.is_virtual {
            return Err(Refused::Field { name: "chip/virtual", expected: "true" });
        }
        let expected = Refused::Field { name: "chip/pin_entered", expected: "4 to 12 digits" };
        let entered = self.pin_entered.as_ref().map(PinText::parse).transpose();
        entered.map_err(|_| expected)
    }
}

/// How the cardholder was verified, as the terminal says it (9F34).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CardholderMethod {
    /// By the chip.
    OfflinePin,
    /// By the issuer.
    OnlinePin,
    /// By a signature.
    Signature,
    /// No method held.
    Failed,
}

/// What the chip said to the PIN that was entered for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfflinePinResult {
    /// It is the chip's.
    Right,
    /// It is not.
    Wrong,
    /// The chip has no PIN try left, and did not look at it.
    Blocked,
    /// None was entered.
    NotEntered,
    /// The terminal did not ask for one.
    NotAsked,
}

/// An application cryptogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CryptogramType {
    /// Asks the issuer.
    Arqc,
    /// Approves.
    Tc,
    /// Declines.
    Aac,
}

/// What a chip made of the issuer's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IssuerAuthentication {
    /// The answer is the issuer's.
    Right,
    /// It is not.
    Failed,
    /// The chip was told nothing that it could authenticate.
    NotPerformed,
}

/// An issuer script that came to the chip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScriptResult {
    /// 9F18, in hexadecimal.
    pub id: String,
    /// Whether all its commands were carried out.
    pub done: bool,
}

/// What terminal and chip did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChipAnswer {
    /// How the cardholder was verified.
    pub cvm: CardholderMethod,
    /// The PIN that was entered for the chip.
    pub offline_pin: OfflinePinResult,
    /// PIN tries that the chip has left.
    pub pin_tries_left: u8,
    /// The chip's transaction counter.
    pub atc: u16,
    /// The first cryptogram: it always asks the issuer.
    pub first_cryptogram: CryptogramType,
    /// The second cryptogram.
    pub second_cryptogram: CryptogramType,
    /// Whether the chip believed the issuer's answer.
    pub issuer_authentication: IssuerAuthentication,
    /// The script that came with the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptResult>,
}

/// A chip in its terminal, that waits for the issuer.
pub(super) struct Inserted {
    chip: VirtualChip,
    payment: Payment,
    offline_pin: OfflinePinResult,
    answer_is_lost: bool,
    _in_terminal: InTerminal,
}

/// What is paid with a chip.
pub(super) struct Paid {
    /// DE4, in minor units.
    pub(super) amount: u64,
    /// The first two digits of DE3, packed.
    pub(super) transaction_type: u8,
    /// Whether a PIN goes online.
    pub(super) has_online_pin: bool,
}

/// Puts the chip of the plastic at this place into a terminal, up to its first cryptogram, and
/// writes what it says into the message.
pub(super) async fn insert<W: Seams>(
    switch: &Switch<W>,
    simulator: &Simulator,
    (card, plastic): (&Card, usize),
    (form, paid): (&ChipForm, Paid),
    outgoing: &mut Outgoing,
) -> Result<Inserted, Refused> {
    let entered = form.pin()?;
    let in_terminal = simulator.chips.insert(card, plastic)?;
    let mut chip = VirtualChip::find(switch, card, plastic).await?;
    let has_offline_pin = card.product.has_offline_pin();
    if entered.is_some() && !has_offline_pin {
        return Err(Refused::ChipHoldsNoPin);
    }
    let purchase = Purchase {
        amount: paid.amount,
        currency: card.product.currency,
        date: packed_date(switch.clock.now()),
        transaction_type: paid.transaction_type,
        unpredictable: random::bytes().map_err(Refused::Sealing)?,
    };
    let pin: Vec<&str> = entered.iter().map(|pin| digits(pin.digits())).collect();
    let (entry, otherwise) = match (pin.as_slice(), paid.has_online_pin) {
        ([], true) => (PinEntry::Online, Otherwise::OnlinePin),
        ([], false) if has_offline_pin => (PinEntry::Skipped, Otherwise::Signature),
        ([], false) => (PinEntry::NotAsked, Otherwise::Signature),
        (pin, true) => (PinEntry::Offline(pin), Otherwise::OnlinePin),
        // With the last try the terminal goes on to the next method; before, it asks again, and the
        // cardholder gives up.
        (pin, false) if chip.card.tries_left() <= 1 => {
            (PinEntry::Offline(pin), Otherwise::Signature)
        }
        (pin, false) => (PinEntry::Offline(pin), Otherwise::Fails),
    };
    let payment = Payment::begin(&mut chip.card, &purchase, (entry, otherwise));
    let offline_pin = OfflinePinResult::of(payment.offline_pin(), entry);
    outgoing.chip_data(&payment.chip_data());
    let answer_is_lost = form.answer_is_lost;
    Ok(Inserted { chip, payment, offline_pin, answer_is_lost, _in_terminal: in_terminal })
}

impl OfflinePinResult {
    const fn of(verified: Option<Verified>, entry: PinEntry<'_>) -> OfflinePinResult {
        match (verified, entry) {
            (Some(Verified::Right), _) => OfflinePinResult::Right,
            (Some(Verified::Wrong(_)), _) => OfflinePinResult::Wrong,
            (Some(Verified::Blocked), _) => OfflinePinResult::Blocked,
            (None, PinEntry::Skipped) => OfflinePinResult::NotEntered,
            (None, _) => OfflinePinResult::NotAsked,
        }
    }
}

impl Inserted {
    /// The chip remembers what it has done, before anything is sent; with another document in the
    /// same commit.
    pub(super) async fn keep<W: Seams>(
        &mut self,
        switch: &Switch<W>,
        card: &Card,
        beside: Option<DocumentChange>,
    ) -> Result<(), Refused> {
        self.chip.keep(switch, card, beside).await
    }

    /// Whether a PIN that is there for the issuer is asked for: not once the chip has found one
    /// right.
    pub(super) fn asks_for_online_pin(&self) -> bool {
        self.offline_pin != OfflinePinResult::Right
    }

    /// Gives the answer to the chip, up to the end of the transaction. The chip remembers it.
    pub(super) async fn finish<W: Seams>(
        self,
        switch: &Switch<W>,
        card: &Card,
        answered: &Answered,
    ) -> Result<ChipAnswer, Refused> {
        let Inserted { mut chip, payment, offline_pin, answer_is_lost, _in_terminal } = self;
        let method = CardholderMethod::of(payment.cvm_results());
        let answer = (answered.approves, &*answered.chip_data);
        let ending = payment.finish(&mut chip.card, Some(answer).filter(|_| !answer_is_lost));
        if !answer_is_lost {
            chip.ended(answered.id, &ending.chip_data);
            match chip.keep(switch, card, None).await {
                // The card was removed meanwhile, and its chip with it.
                Ok(()) | Err(Refused::ChipInUse) => {}
                Err(refused) => return Err(refused),
            }
        }
        Ok(ChipAnswer::of(&chip, &ending, (method, offline_pin)))
    }
}

impl CardholderMethod {
    /// By the method and the result of 9F34.
    const fn of([method, _, result]: [u8; 3]) -> CardholderMethod {
        const SUCCESSFUL: u8 = 0x02;
        match (method & 0x3F, result) {
            (0x01, SUCCESSFUL) => CardholderMethod::OfflinePin,
            (0x02, _) => CardholderMethod::OnlinePin,
            (0x1E, _) => CardholderMethod::Signature,
            _ => CardholderMethod::Failed,
        }
    }
}

impl ChipAnswer {
    fn of(
        chip: &VirtualChip,
        ending: &Ending,
        (cvm, offline_pin): (CardholderMethod, OfflinePinResult),
    ) -> ChipAnswer {
        let script = ending.scripts.first();
        ChipAnswer {
            cvm,
            offline_pin,
            pin_tries_left: chip.card.tries_left(),
            atc: chip.card.memory().atc,
            first_cryptogram: CryptogramType::Arqc,
            second_cryptogram: match ending.is_approved {
                true => CryptogramType::Tc,
                false => CryptogramType::Aac,
            },
            issuer_authentication: match ending.is_authenticated {
                Some(true) => IssuerAuthentication::Right,
                Some(false) => IssuerAuthentication::Failed,
                None => IssuerAuthentication::NotPerformed,
            },
            script: script.map(|(id, done)| ScriptResult { id: hex(id), done: *done }),
        }
    }
}

/// YYMMDD packed.
fn packed_date(now: Timestamp) -> [u8; 3] {
    let text = now.to_string();
    // RFC 3339 begins with the century.
    let mut digits = text.bytes().filter(u8::is_ascii_digit).skip(2).map(|digit| digit - b'0');
    let mut next = || digits.next().unwrap_or_default();
    [(); 3].map(|()| next() << 4 | next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_packed() {
        // 2026-11-18, after nine in the morning.
        assert_eq!(packed_date(Timestamp::from_seconds(1_794_996_000)), [0x26, 0x11, 0x18]);
    }

    #[test]
    fn methods_are_told_by_their_results() {
        let rows = [
            ([0x41, 0x03, 0x02], CardholderMethod::OfflinePin),
            ([0x41, 0x03, 0x01], CardholderMethod::Failed),
            ([0x42, 0x03, 0x00], CardholderMethod::OnlinePin),
            ([0x1E, 0x03, 0x00], CardholderMethod::Signature),
            ([0x3F, 0x00, 0x01], CardholderMethod::Failed),
        ];
        for (results, method) in rows {
            assert_eq!(CardholderMethod::of(results), method);
        }
    }
}
