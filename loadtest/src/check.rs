//! `check`: plays the steps of [`steps`], one after another on one connection, and judges every
//! answer.

mod expected;
mod steps;

use std::io::Write;

use iso_specs::{Decoded, Spec, decode};

use crate::cards::{CARDS, DemoCard};
use crate::clock::Clock;
use crate::control::{Control, ControlError};
use crate::link::Link;
use crate::numbers::{Numbers, Trace};
use crate::request::Request;
use expected::Expected;

/// How many steps went as expected, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

/// Plays all steps and brings the cards back, whatever came of the steps.
///
/// # Errors
/// If the cards cannot be made active before the first step.
pub(crate) fn check<W: Write>(
    spec: &Spec,
    link: Link,
    control: Control,
    out: W,
) -> Result<Tally, ControlError> {
    let clock = Clock::start();
    let numbers = Numbers::of_one_thread(&clock);
    let mut check = Check { spec, link, control, clock, numbers, out, tally: Tally::default() };
    // An earlier run that was broken off may have left a card suspended.
    check.activate_all()?;
    steps::play(&mut check);
    if let Err(error) = check.activate_all() {
        check.judge("cards made active again", &[error.to_string()]);
    }
    let Tally { passed, failed } = check.tally;
    check.say(&format!("\n{passed} passed, {failed} failed"));
    Ok(check.tally)
}

/// A conversation with the switch.
struct Check<'a, W> {
    spec: &'a Spec,
    link: Link,
    control: Control,
    clock: Clock,
    numbers: Numbers,
    out: W,
    tally: Tally,
}

impl<W: Write> Check<'_, W> {
    /// The numbers of a new request.
    fn trace(&mut self) -> Trace {
        self.numbers.take(self.clock.transmission_time())
    }

    /// Sends a request and judges its answer, which is returned if one came.
    fn exchange(&mut self, name: &str, request: &Request, expected: Expected) -> Option<Vec<u8>> {
        self.say(&format!("\n{name}"));
        let frame = match request.encode(self.spec) {
            Ok(frame) => frame,
            Err(error) => {
                self.judge_shown(&[format!("expected a request that can be sent, got {error}")]);
                return None;
            }
        };
        self.show("request", &frame);
        match self.link.exchange(&frame) {
            Ok(answer) => {
                self.show("answer ", &answer);
                let differences = self.compare(&frame, &answer, expected);
                self.judge_shown(&differences);
                Some(answer)
            }
            Err(error) => {
                self.judge_shown(&[format!("expected an answer, got {error}")]);
                None
            }
        }
    }

    fn compare(&self, request: &[u8], answer: &[u8], expected: Expected) -> Vec<String> {
        let Ok(Decoded { message: request, .. }) = decode(self.spec, request) else {
            return vec!["expected a readable request".to_owned()];
        };
        match decode(self.spec, answer) {
            Ok(answer) => expected.differences(&request, &answer),
            Err(error) => vec![format!("expected a readable answer, got {error}")],
        }
    }

    /// Judges what the switch's command line shows of a card, in the words of
    /// [`crate::control::CardView`].
    fn card_is(&mut self, name: &str, card: &DemoCard, expected: &str) {
        self.say(&format!("\n{name}"));
        let shown = match self.control.show(card.token) {
            Ok(view) => view.to_string(),
            Err(error) => error.to_string(),
        };
        self.say(&format!("  card     {}: {shown}", card.token));
        let difference = (shown != expected).then(|| format!("expected {expected}, got {shown}"));
        self.judge_shown(difference.as_slice());
    }

    fn activate_all(&mut self) -> Result<(), ControlError> {
        CARDS.iter().try_for_each(|card| self.control.activate(card.token).map(|_| ()))
    }

    /// Counts and prints a step that shows nothing else.
    fn judge(&mut self, name: &str, differences: &[String]) {
        self.say(&format!("\n{name}"));
        self.judge_shown(differences);
    }

    fn judge_shown(&mut self, differences: &[String]) {
        if differences.is_empty() {
            self.tally.passed += 1;
            self.say("  pass");
        } else {
            self.tally.failed += 1;
            self.say(&format!("  FAIL: {}", differences.join("; ")));
        }
    }

    /// Prints a message, masked.
    fn show(&mut self, what: &str, frame: &[u8]) {
        let shown = match decode(self.spec, frame) {
            Ok(decoded) => format!("{decoded:?}"),
            Err(error) => format!("{} bytes: {error}", frame.len()),
        };
        self.say(&format!("  {what}  {shown}"));
    }

    fn say(&mut self, line: &str) {
        // Who reads the output may go; the cards must be brought back all the same.
        let _ = writeln!(self.out, "{line}");
    }
}
