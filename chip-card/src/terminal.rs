//! A terminal with a contact chip: it lets the cardholder enter the PIN, asks the chip for a
//! cryptogram, and after the issuer's answer authenticates the issuer and carries out scripts
//! (EMV Book 3, 10.5 to 10.11).

use iso_specs::tlv::{self, Reader};

use crate::card::{ChipCard, Cryptogram, DONE, INTERCHANGE_PROFILE, TerminalData, Verified};

/// What is paid. Digits are packed where a chip wants them so.
#[derive(Clone, Copy, Debug)]
pub struct Purchase {
    /// Minor units.
    pub amount: u64,
    /// ISO 4217 numeric code.
    pub currency: u16,
    /// YYMMDD packed.
    pub date: [u8; 3],
    /// The first two digits of DE3.
    pub transaction_type: u8,
    /// The terminal's random number.
    pub unpredictable: [u8; 4],
}

/// What the cardholder does when asked for the PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinEntry<'a> {
    /// Enters these, one after another, until one is right or the chip is blocked.
    Offline(&'a [&'a str]),
    /// Enters one for the issuer.
    Online,
    /// Enters none.
    Skipped,
    /// There is nothing to enter it with.
    NoPad,
    /// Is not asked.
    NotAsked,
}

/// What verifies the cardholder where no PIN does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// The PIN, by the issuer.
    OnlinePin,
    /// A signature.
    Signature,
    /// Nothing is needed.
    NoCvm,
    /// Nothing that the chip allows.
    Fails,
}

/// Bits of the third byte of the terminal verification results.
const NOT_VERIFIED: u8 = 0x80;
const TRY_LIMIT_EXCEEDED: u8 = 0x20;
const NO_PIN_PAD: u8 = 0x10;
const PIN_NOT_ENTERED: u8 = 0x08;
const ONLINE_PIN: u8 = 0x04;

/// Bits of the fifth.
const ISSUER_NOT_AUTHENTICATED: u8 = 0x40;
const EARLY_SCRIPT_FAILED: u8 = 0x20;

/// A payment that waits for the issuer.
pub struct Payment {
    data: TerminalData,
    cvm_results: [u8; 3],
    offline_pin: Option<Verified>,
    first: Cryptogram,
    sequence: u8,
}

/// How a payment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whether chip and issuer approve.
    pub is_approved: bool,
    /// Whether the answer was the issuer's; nothing where the chip was told nothing.
    pub is_authenticated: Option<bool>,
    /// Of each script: 9F18, and whether all its commands were carried out.
    pub scripts: Vec<([u8; 4], bool)>,
    /// DE55 of a completion or a reversal.
    pub chip_data: Vec<u8>,
}

impl Payment {
    /// From the insertion of the card to the request.
    #[must_use]
    pub fn begin(
        card: &mut ChipCard,
        purchase: &Purchase,
        (pin, otherwise): (PinEntry<'_>, Otherwise),
    ) -> Payment {
        card.select();
        let offline_pin = match pin {
            PinEntry::Offline(pins) => enter(card, pins),
            _ => None,
        };
        let (bits, cvm_results) = verify_cardholder((pin, offline_pin), otherwise);
        let data = TerminalData {
            amount: packed(purchase.amount),
            other_amount: [0; 6],
            country: packed(276),
            verification_results: [0x80, 0, bits, 0x80, 0],
            currency: packed(purchase.currency.into()),
            date: purchase.date,
            transaction_type: purchase.transaction_type,
            unpredictable: purchase.unpredictable,
        };
        let first = card.first_cryptogram(&data);
        Payment { data, cvm_results, offline_pin, first, sequence: card.sequence() }
    }

    /// What the last offline PIN that was entered came to.
    #[must_use]
    pub const fn offline_pin(&self) -> Option<Verified> {
        self.offline_pin
    }

    /// 9F34: the last method that was performed, its condition, and its result.
    #[must_use]
    pub const fn cvm_results(&self) -> [u8; 3] {
        self.cvm_results
    }

    /// DE55 of the request.
    #[must_use]
    pub fn chip_data(&self) -> Vec<u8> {
        self.chip_data_with(&self.first, &self.data)
    }

    /// From the answer to the end: whether the issuer approves, with DE55 of the answer. Nothing
    /// where none came.
    #[must_use]
    pub fn finish(self, card: &mut ChipCard, answer: Option<(bool, &[u8])>) -> Ending {
        let mut data = self.data;
        let (approves, told) = answer.unwrap_or_default();
        let told = Told::read(told).unwrap_or_default();
        let is_authenticated = told.tag_91.map(|tag_91| card.authenticate_issuer(tag_91));
        let [.., last] = &mut data.verification_results;
        if is_authenticated == Some(false) {
            *last |= ISSUER_NOT_AUTHENTICATED;
        }
        let mut scripts = Vec::new();
        for script in &told.early_scripts {
            scripts.push(carry_out(card, script));
        }
        if scripts.iter().any(|(_, is_done, _)| !is_done) {
            *last |= EARLY_SCRIPT_FAILED;
        }
        let second = card.second_cryptogram(&data, (approves, answer.is_some()));
        for script in &told.late_scripts {
            scripts.push(carry_out(card, script));
        }
        let mut chip_data = self.chip_data_with(&second, &data);
        let results: Vec<u8> = scripts.iter().flat_map(|(.., result)| *result).collect();
        if !results.is_empty() {
            push(&mut chip_data, 0x9F5B, &results);
        }
        Ending {
            is_approved: second.information == 0x40,
            is_authenticated,
            scripts: scripts.into_iter().map(|(id, is_done, _)| (id, is_done)).collect(),
            chip_data,
        }
    }

    fn chip_data_with(&self, cryptogram: &Cryptogram, data: &TerminalData) -> Vec<u8> {
        let mut chip_data = Vec::new();
        for (tag, value) in [
            (0x9F26, &cryptogram.value[..]),
            (0x9F27, &[cryptogram.information]),
            (0x9F10, &cryptogram.application_data),
            (0x9F37, &data.unpredictable),
            (0x9F36, &cryptogram.atc),
            (0x95, &data.verification_results),
            (0x9A, &data.date),
            (0x9C, &[data.transaction_type]),
            (0x9F02, &data.amount),
            (0x5F2A, &data.currency),
            (0x82, &INTERCHANGE_PROFILE),
            (0x9F1A, &data.country),
            (0x9F03, &data.other_amount),
            (0x9F34, &self.cvm_results),
            (0x5F34, &packed::<1>(self.sequence.into())),
        ] {
            push(&mut chip_data, tag, value);
        }
        chip_data
    }
}

/// Bits of the terminal verification results, and the CVM results.
fn verify_cardholder(
    (pin, offline): (PinEntry<'_>, Option<Verified>),
    otherwise: Otherwise,
) -> (u8, [u8; 3]) {
    /// Offline PIN, with the next method if it does not hold.
    const OFFLINE_PIN: u8 = 0x41;
    const NOT_PERFORMED: u8 = 0x3F;
    /// If the terminal supports it.
    const CONDITION: u8 = 0x03;
    /// The terminal does not know what comes of it.
    const ONLINE_PIN_RESULTS: [u8; 3] = [0x42, CONDITION, 0x00];
    let (bits, performed) = match pin {
        PinEntry::Online => return (ONLINE_PIN, ONLINE_PIN_RESULTS),
        PinEntry::Offline(_) => match offline {
            Some(Verified::Right) => return (0, [OFFLINE_PIN, CONDITION, 0x02]),
            Some(Verified::Wrong(0) | Verified::Blocked) => (TRY_LIMIT_EXCEEDED, OFFLINE_PIN),
            Some(Verified::Wrong(_)) => (0, OFFLINE_PIN),
            None => (PIN_NOT_ENTERED, OFFLINE_PIN),
        },
        PinEntry::Skipped => (PIN_NOT_ENTERED, OFFLINE_PIN),
        PinEntry::NoPad => (NO_PIN_PAD, OFFLINE_PIN),
        PinEntry::NotAsked => (0, NOT_PERFORMED),
    };
    match otherwise {
        Otherwise::OnlinePin => (bits | ONLINE_PIN, ONLINE_PIN_RESULTS),
        Otherwise::Signature => (bits, [0x1E, CONDITION, 0x00]),
        Otherwise::NoCvm => (bits, [0x1F, CONDITION, 0x02]),
        Otherwise::Fails => (bits | NOT_VERIFIED, [performed, CONDITION, 0x01]),
    }
}

/// What the last PIN that was entered came to.
fn enter(card: &mut ChipCard, pins: &[&str]) -> Option<Verified> {
    let mut last = None;
    for pin in pins {
        let verified = card.verify(pin);
        last = Some(verified);
        if !matches!(verified, Verified::Wrong(1..)) {
            break;
        }
    }
    last
}

/// What an issuer tells a chip.
#[derive(Default)]
struct Told<'a> {
    tag_91: Option<&'a [u8]>,
    /// Templates 71 and 72.
    early_scripts: Vec<&'a [u8]>,
    late_scripts: Vec<&'a [u8]>,
}

impl<'a> Told<'a> {
    fn read(data: &'a [u8]) -> Option<Told<'a>> {
        let mut told = Told::default();
        for object in Reader::new(data) {
            let object = object.ok()?;
            match object.tag {
                0x91 => told.tag_91 = Some(object.value),
                0x71 => told.early_scripts.push(object.value),
                0x72 => told.late_scripts.push(object.value),
                _ => {}
            }
        }
        Some(told)
    }
}

/// The commands of a script, up to the first that fails: its id, whether all were carried out,
/// and its entry of 9F5B (EMV Book 4, A5).
fn carry_out(card: &mut ChipCard, script: &[u8]) -> ([u8; 4], bool, [u8; 5]) {
    let objects: Vec<_> = Reader::new(script).flatten().collect();
    let id = objects.iter().find(|object| object.tag == 0x9F18).map(|object| object.value);
    let id: [u8; 4] = id.and_then(|id| id.try_into().ok()).unwrap_or_default();
    let mut commands = objects.iter().filter(|object| object.tag == 0x86);
    let failed = commands.position(|command| card.script_command(command.value) != DONE);
    let result = match failed {
        None => 0x20,
        Some(place) => 0x10 | u8::try_from(place + 1).unwrap_or(0x0F).min(0x0F),
    };
    let [a, b, c, d] = id;
    (id, failed.is_none(), [result, a, b, c, d])
}

fn push(chip_data: &mut Vec<u8>, tag: u32, value: &[u8]) {
    // Every value is far shorter than what a length can say.
    let _ = tlv::push(chip_data, tag, value);
}

/// The last digits of a number, two a byte.
fn packed<const N: usize>(mut number: u64) -> [u8; N] {
    let mut bytes = [0; N];
    for byte in bytes.iter_mut().rev() {
        let pair = u8::try_from(number % 100).unwrap_or_default();
        *byte = ((pair / 10) << 4) | (pair % 10);
        number /= 100;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::{Application, IssuerKeys, Personalization};

    #[test]
    fn after_a_wrong_offline_pin_the_next_method_is_the_online_one() {
        let mut card = ChipCard::new(&Personalization {
            application: Application::Visa0A,
            pan: "4761340000000027",
            sequence: 1,
            keys: IssuerKeys::DEMO_VISA,
            pin: "5938",
            tries_max: 2,
            atc: 0,
        });
        let purchase = Purchase {
            amount: 100,
            currency: 978,
            date: [0x26, 0x12, 0x01],
            transaction_type: 0,
            unpredictable: [1; 4],
        };
        let rows: [(&[&str], _, _, _); 3] = [
            (&["5938"], Verified::Right, [0x41, 0x03, 0x02], 0x00),
            (&["1111"], Verified::Wrong(1), [0x42, 0x03, 0x00], ONLINE_PIN),
            (&["1111"], Verified::Wrong(0), [0x42, 0x03, 0x00], ONLINE_PIN | TRY_LIMIT_EXCEEDED),
        ];
        for (pins, verified, cvm_results, bits) in rows {
            let methods = (PinEntry::Offline(pins), Otherwise::OnlinePin);
            let payment = Payment::begin(&mut card, &purchase, methods);
            assert_eq!(
                (payment.offline_pin(), payment.cvm_results()),
                (Some(verified), cvm_results)
            );
            assert_eq!(payment.data.verification_results, [0x80, 0, bits, 0x80, 0]);
        }
    }
}
