//! What the terminal of a cardholder sends, and how answers are read: the only place that knows
//! bytes.

use chip_card::terminal::{Ending, Otherwise, Payment, PinEntry, Purchase};
use fastrand::Rng;
use iso_specs::Spec;
use iso_specs::tlv::{self, Reader};
use tests::terminal::{Fields, ZPK, pin_block};

use super::model::{Conclusion, Entry, Facts, Offline, Said};
use super::sequence::Sequence;

/// A request as it was sent, for when it comes again.
#[derive(Clone)]
pub struct Sent {
    pub fields: Fields,
    pub facts: Facts,
}

impl Sequence {
    /// The chip's part of a payment, and the request of it.
    pub(super) fn begin(
        &mut self,
        (entry, otherwise): (PinEntry<'_>, Otherwise),
        amount: u64,
        (online, new_pin): (Option<String>, Option<String>),
    ) -> (Payment, Sent) {
        let is_quiet = online.is_some() && amount == 1_000;
        let draw = |dice: &mut Rng, of: u8| !is_quiet && dice.u8(0..of) == 0;
        let entry_mode = match self.dice.u8(0..24) {
            _ if is_quiet => Entry::Contact,
            0 | 1 => Entry::Contactless,
            2 => Entry::Other,
            _ => Entry::Contact,
        };
        // At the end, at an ATM, where a right PIN unblocks.
        let is_cash = is_quiet || draw(&mut self.dice, 12) && new_pin.is_none();
        let is_own_currency = !draw(&mut self.dice, 10);
        let billed = draw(&mut self.dice, 8).then(|| self.dice.u64(1..2 * self.ftpam));
        let tries = self.chip.tries_left();
        let offline = match entry {
            PinEntry::Offline(pins) if tries > 0 => {
                let looked_at = pins.iter().take(tries.into());
                let is_right = looked_at.into_iter().any(|pin| self.chip.holds(pin));
                if is_right { Offline::Right } else { Offline::Wrong }
            }
            _ => Offline::NotTried,
        };
        let purchase = Purchase {
            amount,
            currency: if is_own_currency { 978 } else { 840 },
            date: [0x26, 0x11, 0x28],
            transaction_type: if new_pin.is_some() { 0x92 } else { u8::from(is_cash) },
            unpredictable: self.dice.u32(..).to_be_bytes(),
        };
        let payment = Payment::begin(&mut self.chip, &purchase, (entry, otherwise));
        self.atc += 1;
        let is_online = entry == PinEntry::Online;
        let mut facts = Facts {
            number: 0,
            atc: self.atc,
            entry: entry_mode,
            asks: true,
            is_genuine: true,
            is_cash,
            amount,
            is_own_currency,
            billed,
            online,
            new_pin,
            offline,
            is_exhausted: self.chip.tries_left() == 0,
            was_refused: matches!(entry, PinEntry::Offline(_))
                && offline != Offline::Right
                && self.chip.tries_left() == 0,
            is_otherwise_verified: !is_online && otherwise != Otherwise::Fails,
            is_none_needed: !is_online
                && offline != Offline::Right
                && otherwise == Otherwise::NoCvm,
            is_not_entered: entry == PinEntry::Skipped,
            is_not_asked: entry == PinEntry::NotAsked,
            has_failed: !is_online && offline != Offline::Right && otherwise == Otherwise::Fails,
            claims_offline: offline == Offline::Right,
            claims_online: is_online,
            report: self.report,
        };
        self.report.is_incomplete = true;
        let mut data = payment.chip_data();
        if !is_quiet {
            data = self.tamper(&mut facts, data);
        }
        let fields = self.request(&facts, &data);
        let sent = self.numbered(Sent { fields, facts });
        (payment, sent)
    }

    /// Now and then somebody changes what the chip made.
    fn tamper(&mut self, facts: &mut Facts, mut data: Vec<u8>) -> Vec<u8> {
        match self.dice.u8(0..30) {
            0 => {
                // Of what the cryptogram covers, or the cryptogram itself.
                let (tag, bit) = (self.covered_tag(), self.dice.u8(0..8));
                data = with_tag(&data, tag, |value| value[0] ^= 1 << bit);
                facts.is_genuine = false;
            }
            1 => {
                data = with_tag(&data, 0x9F34, |value| value.copy_from_slice(&[0x44, 3, 2]));
                facts.claims_offline = true;
                facts.claims_online &= self.has_online_bit(&data);
                facts.is_otherwise_verified = false;
                facts.is_none_needed = false;
            }
            2 => self.forge_result(&mut data),
            _ => {}
        }
        data
    }

    /// A tag under the cryptogram, whose first byte can change and is still what it must be: the
    /// amounts stay digits, and the shape of 9F10 and the counter stay known.
    fn covered_tag(&mut self) -> u32 {
        [0x9F26, 0x9F37, 0x95, 0x9F1A, 0x82][self.dice.usize(0..5)]
    }

    /// 9F5B is under no cryptogram: anybody can say that a script worked, or did not.
    fn forge_result(&mut self, data: &mut Vec<u8>) {
        if let Some([a, b, c, d]) = self.scripts.last().copied() {
            let result = if self.dice.bool() { 0x20 } else { 0x11 };
            tlv::push(data, 0x9F5B, &[result, a, b, c, d]).unwrap();
        }
    }

    fn has_online_bit(&self, data: &[u8]) -> bool {
        let results = Reader::new(data).flatten().find(|object| object.tag == 0x95);
        results.is_some_and(|object| object.value[2] & 0x04 != 0)
    }

    pub(super) fn request(&self, facts: &Facts, data: &[u8]) -> Fields {
        let mut fields = Fields::new("0100");
        let amount = format!("{:012}", facts.amount);
        let currency: &[u8] = if facts.is_own_currency { b"978" } else { b"840" };
        let code: &[u8] = if facts.is_cash { b"010000" } else { b"000000" };
        fields.set(2, self.pan.as_bytes()).set(3, code).set(4, amount.as_bytes());
        fields.set(7, b"1128120000").set(14, b"2912").set(18, b"5411");
        match facts.entry {
            Entry::Contact => drop(fields.set(22, b"051")),
            Entry::Contactless => drop(fields.set(22, b"071")),
            Entry::Other if facts.atc.is_multiple_of(2) => drop(fields.set(22, b"801")),
            Entry::Other => {}
        }
        if let Some(billed) = facts.billed {
            fields.set(6, format!("{billed:012}").as_bytes()).set(51, b"978");
        }
        fields.set(23, b"001").set(32, b"12345").set(41, b"TERM0001").set(49, currency);
        fields.set(55, data);
        if let Some(pin) = &facts.online {
            fields.set(52, &pin_block(pin, &self.pan, 0, ZPK));
        }
        if let Some(pin) = &facts.new_pin {
            let block = pin_block(pin, &self.pan, 0, ZPK);
            let digits = block.map(|byte| format!("{byte:02x}")).concat();
            fields.set(3, b"920000").set(63, digits.as_bytes());
        }
        fields
    }

    /// The completion or the reversal of a payment.
    pub(super) fn conclusion(
        &mut self,
        sent: &Sent,
        ending: Option<&Ending>,
        is_reversal: bool,
    ) -> (Conclusion, Fields) {
        let mut fields = sent.fields.clone();
        fields.mti = if is_reversal { "0400" } else { "0120" }.to_owned();
        fields.values.remove(&52);
        fields.values.remove(&63);
        let tells = ending.filter(|_| !is_reversal || self.dice.u8(0..3) > 0);
        let names_script = self.dice.u8(0..4) > 0;
        match tells {
            Some(ending) => {
                let data = match names_script {
                    true => ending.chip_data.clone(),
                    false => without_tag(&ending.chip_data, 0x9F5B),
                };
                fields.set(55, &data);
            }
            None => drop(fields.values.remove(&55)),
        }
        let number = sent.facts.number;
        if is_reversal {
            let known = format!("0100{number:06}1128120000{:011}{:011}", 12_345, 0);
            fields.set(90, known.as_bytes());
        }
        self.number += 1;
        fields.set(11, format!("{:06}", self.number).as_bytes());
        let conclusion = Conclusion {
            number,
            is_reversal,
            script: tells
                .filter(|_| names_script)
                .and_then(|ending| ending.scripts.first())
                .map(|(_, is_done)| *is_done),
            has_failed: tells.is_some_and(|ending| {
                let is_early = self.script_template == 0x71;
                ending.is_authenticated == Some(false)
                    || is_early && ending.scripts.iter().any(|(_, is_done)| !is_done)
            }),
        };
        (conclusion, fields)
    }

    /// With a number of its own.
    pub(super) fn numbered(&mut self, mut sent: Sent) -> Sent {
        self.number += 1;
        sent.facts.number = self.number;
        sent.fields.set(11, format!("{:06}", self.number).as_bytes());
        sent.fields.set(37, format!("{:012}", self.number).as_bytes());
        sent
    }
}

/// An answer as the model sees it, and its DE55.
pub fn read(dialect: &Spec, frame: &[u8]) -> (Said, Vec<u8>) {
    let fields = Fields::read(dialect, frame);
    let data = fields.values.get(&55).cloned().unwrap_or_default();
    let has = |tag| Reader::new(&data).flatten().any(|object| object.tag == tag);
    let reason = match &*fields.text(39) {
        "00" => "0000".to_owned(),
        "91" => "9907".to_owned(),
        _ => fields.text(44),
    };
    (Said { reason, tells: has(0x91), script: has(0x71) || has(0x72) }, data)
}

/// The template of the script in chip data: 71 or 72.
pub fn script_template(data: &[u8]) -> u32 {
    if tlv::find(data, 0x71).is_some() { 0x71 } else { 0x72 }
}

/// Chip data in which one value is changed, if it is there.
pub fn with_tag(data: &[u8], tag: u32, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let (mut changed, mut change) = (Vec::new(), Some(change));
    for object in Reader::new(data).flatten() {
        let mut value = object.value.to_vec();
        if let Some(change) = change.take_if(|_| object.tag == tag) {
            change(&mut value);
        }
        tlv::push(&mut changed, object.tag, &value).unwrap();
    }
    changed
}

pub fn without_tag(data: &[u8], tag: u32) -> Vec<u8> {
    let mut kept = Vec::new();
    for object in Reader::new(data).flatten().filter(|object| object.tag != tag) {
        tlv::push(&mut kept, object.tag, object.value).unwrap();
    }
    kept
}
