//! `story`: cardholders change their PINs and pay with a chip that does not know it yet, until it
//! does. Every message is shown, masked, and every decision with its reasons.

use std::io::Write;

use chip_card::card::{Application, ChipCard, IssuerKeys, Personalization};
use chip_card::terminal::{Ending, Otherwise, Payment, PinEntry, Purchase};
use fastrand::Rng;
use iso_specs::tlv::{Object, Reader};
use iso_specs::{Decoded, Spec, decode};

use crate::cards::DemoCard;
use crate::clock::{Clock, packed_date};
use crate::control::{Control, ControlError};
use crate::link::Link;
use crate::numbers::{Numbers, start_micros};
use crate::request::Request;

const EUR: u16 = 978;

/// Below FTPAM of the product `demo-chip`, 50.00, and above it.
const SMALL: u64 = 2_000;
const LARGE: u64 = 8_000;

/// PIN tries of a chip.
const TRIES: u8 = 3;

/// Who plays: a card as it is made for the story, and the PIN that its holder changes to.
struct Part {
    card: DemoCard,
    product: &'static str,
    application: Application,
    keys: IssuerKeys,
}

const VISA: Part = Part {
    card: DemoCard {
        token: "story-visa",
        pan: "4761349000000010",
        expiry: "2912",
        pin: "3306",
        wrong_pin: "8114",
    },
    product: "demo-chip",
    application: Application::Visa0A,
    keys: IssuerKeys::DEMO_VISA,
};

const M_CHIP: Part = Part {
    card: DemoCard {
        token: "story-m-chip",
        pan: "5413339000000010",
        expiry: "2912",
        pin: "6150",
        wrong_pin: "9427",
    },
    product: "demo-mchip",
    application: Application::MChip14,
    keys: IssuerKeys::DEMO_M_CHIP,
};

/// A PIN of the story.
#[derive(Clone, Copy)]
enum Pin {
    Old,
    New,
}

impl Part {
    /// Until the change the new PIN is a wrong one.
    const fn pin(&self, pin: Pin) -> &'static str {
        match pin {
            Pin::Old => self.card.pin,
            Pin::New => self.card.wrong_pin,
        }
    }
}

/// What must come of a payment.
struct Expected {
    /// DE39.
    code: &'static str,
    /// Whether the chip carries out a script.
    script: bool,
    /// Which PIN the chip holds then, and its PIN tries.
    chip: (Pin, u8),
    /// What the switch believes then.
    chip_sync: &'static str,
}

/// Plays both ways in which a changed PIN comes to the chip; whether all went as it should.
///
/// # Errors
/// If the cards cannot be made, or looked at.
pub(crate) fn tell<W: Write>(
    spec: &Spec,
    link: Link,
    control: Control,
    out: W,
) -> Result<bool, ControlError> {
    let clock = Clock::start();
    let numbers = Numbers::of_one_thread(&clock);
    let dice = Rng::with_seed(start_micros(&clock));
    let mut story =
        Story { spec, link, control, clock, numbers, dice, out, step: 0, is_right: true };
    story.below_threshold()?;
    story.after_three_tries()?;
    let end = if story.is_right { "The chips hold the new PINs." } else { "Not as it should be." };
    story.say(&format!("\n{end}"));
    Ok(story.is_right)
}

struct Story<'a, W> {
    spec: &'a Spec,
    link: Link,
    control: Control,
    clock: Clock,
    numbers: Numbers,
    dice: Rng,
    out: W,
    step: u32,
    is_right: bool,
}

impl<W: Write> Story<'_, W> {
    fn below_threshold(&mut self) -> Result<(), ControlError> {
        use Pin::{New, Old};
        self.say("Below FTPAM, at once: demo-chip, FTPAM 50.00, FTPDY 7 days, Visa CVN 0A");
        let chip = &mut self.issue(&VISA)?;
        let expected =
            Expected { code: "00", script: false, chip: (Old, TRIES), chip_sync: "in_sync" };
        self.pay(&VISA, chip, (SMALL, &[Old], Otherwise::Fails), &expected)?;
        self.change_pin(&VISA)?;
        let expected = Expected { code: "00", script: true, chip: (New, TRIES), chip_sync: "sent" };
        self.pay(&VISA, chip, (SMALL, &[New], Otherwise::Fails), &expected)?;
        let expected =
            Expected { code: "00", script: false, chip: (New, TRIES), chip_sync: "in_sync" };
        self.pay(&VISA, chip, (LARGE, &[New], Otherwise::Fails), &expected)
    }

    fn after_three_tries(&mut self) -> Result<(), ControlError> {
        use Pin::New;
        self.say("\nAfter three failed tries: demo-mchip, no FTPAM, M/Chip CVN 14");
        let chip = &mut self.issue(&M_CHIP)?;
        self.change_pin(&M_CHIP)?;
        // The first two stay at the terminal: it asks again. The issuer hears of the third, after
        // which the terminal takes the signature, the next method of the card's list.
        let expected = Expected { code: "00", script: true, chip: (New, TRIES), chip_sync: "sent" };
        self.pay(&M_CHIP, chip, (LARGE, &[New; 3], Otherwise::Signature), &expected)?;
        let expected =
            Expected { code: "00", script: false, chip: (New, TRIES), chip_sync: "in_sync" };
        self.pay(&M_CHIP, chip, (LARGE, &[New], Otherwise::Signature), &expected)
    }

    fn issue(&mut self, part: &Part) -> Result<ChipCard, ControlError> {
        self.control.replace(&part.card, part.product)?;
        Ok(ChipCard::new(&Personalization {
            application: part.application,
            pan: part.card.pan,
            sequence: 1,
            keys: part.keys,
            pin: part.card.pin,
            tries_max: TRIES,
            atc: 0,
        }))
    }

    fn change_pin(&mut self, part: &Part) -> Result<(), ControlError> {
        self.begin_step("The cardholder changes the PIN with the issuer");
        let view = self.control.set_pin(part.card.token, part.pin(Pin::New))?;
        self.say(&format!("   switch    the change waits for the chip: {}", view.chip_sync));
        self.judge(&differences("pending", &view.chip_sync));
        Ok(())
    }

    /// A payment from the insertion of the card to its end. The PINs are entered one after another,
    /// until one is right; where none is, something else may verify the cardholder.
    fn pay(
        &mut self,
        part: &Part,
        chip: &mut ChipCard,
        (amount, pins, otherwise): (u64, &[Pin], Otherwise),
        expected: &Expected,
    ) -> Result<(), ControlError> {
        self.begin_step(&told_of_payment(amount, pins));
        let purchase = Purchase {
            amount,
            currency: EUR,
            date: packed_date(self.clock.since_epoch().as_secs()),
            transaction_type: 0x00,
            unpredictable: self.dice.u32(..).to_be_bytes(),
        };
        let entered: Vec<_> = pins.iter().map(|pin| part.pin(*pin)).collect();
        let before = chip.tries_left();
        let pins = (PinEntry::Offline(&entered), otherwise);
        let payment = Payment::begin(chip, &purchase, pins);
        self.say(&format!("   chip      {}", told_of_pins(chip, &entered, before)));
        if chip.tries_left() == 0 && otherwise == Otherwise::Signature {
            self.say("   terminal  takes a signature");
        }
        let trace = self.numbers.take(self.clock.transmission_time());
        let request = Request::purchase(&part.card, amount, &payment.chip_data(), &trace);
        let Some((code, data)) = self.exchange(&request) else { return Ok(()) };
        let ending = payment.finish(chip, Some((code == "00", &data)));
        let decision = self.control.last_decision(part.card.token)?;
        self.say(&format!("   decision  {}", decision.join("\n             - ")));
        self.say(&format!("   chip      {}", told_of_end(&ending, chip.tries_left())));
        let chip_sync = self.control.show(part.card.token)?.chip_sync;
        self.say(&format!("   switch    believes of the chip: {chip_sync}"));

        let script = ending.scripts.iter().any(|(_, is_done)| *is_done);
        let (holds, tries) = expected.chip;
        let is_as_expected = code == expected.code
            && ending.is_approved == (code == "00")
            && ending.is_authenticated == Some(true)
            && script == expected.script
            && chip.holds(part.pin(holds))
            && chip.tries_left() == tries;
        let mut wrong = differences(expected.chip_sync, &chip_sync);
        if !is_as_expected {
            wrong.push(format!("expected DE39 {} and a chip that agrees", expected.code));
        }
        self.judge(&wrong);
        Ok(())
    }

    /// DE39 and DE55 of the answer; both messages are shown.
    fn exchange(&mut self, request: &Request) -> Option<(String, Vec<u8>)> {
        let answer = match request.encode(self.spec) {
            Ok(frame) => {
                self.show("request ", &frame);
                self.link.exchange(&frame).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(answer) => self.show("answer  ", &answer),
            Err(error) => {
                self.judge(&[format!("expected an answer, got {error}")]);
                None
            }
        }
    }

    /// Prints a message, masked, and its chip data; gives back its DE39 and DE55.
    fn show(&mut self, what: &str, frame: &[u8]) -> Option<(String, Vec<u8>)> {
        let Ok(Decoded { message, .. }) = decode(self.spec, frame) else {
            self.judge(&["expected a readable message".to_owned()]);
            return None;
        };
        self.say(&format!("   {what}  {message}"));
        let mut buffer = [0; 256];
        let mut value = |element| {
            let field = message.field(element)?;
            field.canonical(&mut buffer).map(<[u8]>::to_vec)
        };
        let data = value(55).unwrap_or_default();
        let code = String::from_utf8(value(39).unwrap_or_default()).unwrap_or_default();
        for script in Reader::new(&data).flatten().filter(is_script) {
            self.say(&format!("   script    {}", readable(script)));
        }
        Some((code, data))
    }

    fn begin_step(&mut self, what: &str) {
        self.step += 1;
        self.say(&format!("\n{}. {what}", self.step));
    }

    fn judge(&mut self, wrong: &[String]) {
        self.is_right &= wrong.is_empty();
        match wrong.is_empty() {
            true => self.say("   pass"),
            false => self.say(&format!("   FAIL: {}", wrong.join("; "))),
        }
    }

    fn say(&mut self, line: &str) {
        // Who reads the output may go; the story is told all the same.
        let _ = writeln!(self.out, "{line}");
    }
}

fn differences(expected: &str, found: &str) -> Vec<String> {
    let is_same = found.split(' ').next() == Some(expected);
    if is_same { Vec::new() } else { vec![format!("expected {expected}, got {found}")] }
}

fn told_of_payment(amount: u64, pins: &[Pin]) -> String {
    let (euros, cents) = (amount / 100, amount % 100);
    let which = match pins.last() {
        Some(Pin::New) => "new",
        _ => "old",
    };
    let times = match pins.len() {
        1 => String::new(),
        times => format!(", {times} times"),
    };
    format!("Pays {euros}.{cents:02} EUR and enters the {which} PIN{times}")
}

/// What the chip says to each PIN, until one is right; so many tries were left before.
fn told_of_pins(chip: &ChipCard, entered: &[&str], before: u8) -> String {
    let (mut told, mut left) = (Vec::new(), before);
    for pin in entered {
        if chip.holds(pin) {
            told.push("offline PIN right".to_owned());
            break;
        }
        left = left.saturating_sub(1);
        told.push(match left {
            0 => "offline PIN wrong, and no try is left".to_owned(),
            left => format!("offline PIN wrong, tries left: {left}"),
        });
    }
    told.join("\n             ")
}

fn told_of_end(ending: &Ending, tries_left: u8) -> String {
    let mut told = vec![if ending.is_approved { "approves" } else { "declines" }.to_owned()];
    told.push(match ending.is_authenticated {
        Some(true) => "the answer is the issuer's".to_owned(),
        Some(false) => "the answer is not the issuer's".to_owned(),
        None => "the issuer said nothing to the chip".to_owned(),
    });
    for (id, is_done) in &ending.scripts {
        let what = if *is_done { "carried out" } else { "refused" };
        told.push(format!("script {} {what}, tries left: {tries_left}", hex(id)));
    }
    told.join("; ")
}

const fn is_script(object: &Object<'_>) -> bool {
    matches!(object.tag, 0x71 | 0x72)
}

/// What is in a script as TAG=VALUE. Of a command only its head is shown: the PIN is in the rest.
fn readable(script: Object<'_>) -> String {
    let shown = |object: Object<'_>| match object.value.split_at_checked(5) {
        Some((head, rest)) if object.tag == 0x86 => {
            format!("86={}[{} bytes]", hex(head), rest.len())
        }
        _ => format!("{:X}={}", object.tag, hex(object.value)),
    };
    let objects: Vec<_> = Reader::new(script.value).flatten().map(shown).collect();
    format!("{:X}={{{}}}", script.tag, objects.join(" "))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
