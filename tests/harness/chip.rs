//! A contact chip with Visa's CVN 0A under the demo's keys: the virtual card of `chip-card`.

use chip_card::card::{Application, ChipCard, IssuerKeys, Personalization};
use chip_card::terminal::{Otherwise, Payment, PinEntry, Purchase};
use iso_specs::tlv;

use crate::terminal::Fields;

const PIN: &str = "4071";

/// The chip of a request's card in its payment with this ATC: the PIN goes online, or the chip
/// verifies one itself.
fn pay(request: &Fields, sequence: u8, atc: u16, pin: PinEntry<'_>) -> (ChipCard, Payment) {
    let mut chip = ChipCard::new(&Personalization {
        application: Application::Visa0A,
        pan: &request.text(2),
        sequence,
        keys: IssuerKeys::DEMO_VISA,
        pin: PIN,
        tries_max: 3,
        // Nobody has heard of those before.
        atc: atc - 1,
    });
    let purchase = Purchase {
        amount: request.text(4).parse().unwrap(),
        currency: request.text(49).parse().unwrap(),
        date: [0x26, 0x11, 0x21],
        transaction_type: 0x00,
        unpredictable: [1, 2, 3, 4],
    };
    let payment = Payment::begin(&mut chip, &purchase, (pin, Otherwise::Fails));
    (chip, payment)
}

/// DE22, DE23 and DE55 of a request, for its card, amount and PIN block: the chip has verified a
/// PIN itself where none goes online.
pub fn set_chip_data(request: &mut Fields, sequence: u8, atc: u16, pin_is_wrong: bool) {
    let pin = match (request.values.contains_key(&52), pin_is_wrong) {
        (true, _) => PinEntry::Online,
        (false, true) => PinEntry::Offline(&["0000"]),
        (false, false) => PinEntry::Offline(&[PIN]),
    };
    let (_, payment) = pay(request, sequence, atc, pin);
    let sequence = format!("{sequence:03}");
    request.set(22, b"051").set(23, sequence.as_bytes()).set(55, &payment.chip_data());
}

/// Another cryptogram in DE55, as somebody makes one who has not the card.
pub fn forge_cryptogram(request: &mut Fields) {
    let data = request.values.get_mut(&55).unwrap();
    let cryptogram = tlv::find(data, 0x9F26).unwrap().to_vec();
    let at = data.windows(8).position(|bytes| bytes == cryptogram).unwrap();
    data[at] ^= 1;
}

/// DE55 without the sequence number of the card (5F34).
pub fn drop_sequence(request: &mut Fields) {
    let data = request.values.get_mut(&55).unwrap();
    let at = data.windows(3).position(|bytes| bytes == [0x5F, 0x34, 1]).unwrap();
    data.drain(at..at + 4);
}

/// Whether DE55 of an answer is the issuer's, for the chip of the request.
pub fn is_believed(request: &Fields, answer: &[u8]) -> bool {
    let data = &request.values[&55];
    let sequence = match tlv::find(data, 0x5F34) {
        None => 1,
        Some([digits]) => (digits >> 4) * 10 + (digits & 0xF),
        Some(other) => panic!("{other:?}"),
    };
    let atc = tlv::find(data, 0x9F36).unwrap();
    let atc = u16::from_be_bytes(atc.try_into().unwrap());
    // The card authenticates by the cryptogram, which the PIN is a part of.
    let entries: [PinEntry<'_>; 3] =
        [PinEntry::Online, PinEntry::Offline(&["0000"]), PinEntry::Offline(&[PIN])];
    entries.into_iter().any(|pin| {
        let (mut chip, payment) = pay(request, sequence, atc, pin);
        let mut made = Fields::new("0100");
        made.set(55, &payment.chip_data());
        if tlv::find(data, 0x5F34).is_none() {
            drop_sequence(&mut made);
        }
        made.values[&55] == *data
            && payment.finish(&mut chip, Some((true, answer))).is_authenticated == Some(true)
    })
}
