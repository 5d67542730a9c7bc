//! The response: what comes back from the request, and what the switch adds.

use iso_specs::tlv::{self, Reader};
use iso_specs::{ChipTag, ElementSet, EncodeError, Message, Mti, OutgoingMessage, Spec};

use super::decision::{ChipOutcome, Decision};
use super::format_error::FormatError;
use super::response_code::Reason;
use crate::cards::chip_state::ScriptId;
use crate::hsm::Authenticated;

/// DE44 carries the number of a wrong element, in every dialect.
const ADDITIONAL_RESPONSE_DATA: u8 = 44;

/// What is answered to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The outcome.
    pub reason: Reason,
    /// DE38, six digits; on approvals of a transaction only.
    pub approval_code: Option<[u8; 6]>,
    /// What DE55 says to the chip. It is made again for a repeat, from the same cryptogram.
    pub chip: ChipAnswer,
}

/// What an answer says to the chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChipAnswer {
    /// Nothing: there is none, or its cryptogram is not known to be right.
    #[default]
    Nothing,
    /// Issuer authentication data (91).
    Authentication,
    /// Issuer authentication data, and the script of this id.
    Script(ScriptId),
}

impl Answer {
    /// An answer without an approval code.
    #[must_use]
    pub const fn new(reason: Reason) -> Answer {
        Answer { reason, approval_code: None, chip: ChipAnswer::Nothing }
    }

    /// The answer of a decision. DE38 of an approval is made of `approval_number`, where there is
    /// one.
    #[must_use]
    pub fn of(decision: &Decision, approval_number: Option<u128>) -> Answer {
        let reason = decision.reason;
        let number = approval_number.filter(|_| reason == Reason::Approved);
        let chip = match decision.chip.as_deref().map(ChipOutcome::script) {
            None => ChipAnswer::Nothing,
            Some(None) => ChipAnswer::Authentication,
            Some(Some((id, _))) => ChipAnswer::Script(id),
        };
        Answer { reason, approval_code: number.map(last_six_digits), chip }
    }
}

/// The last six decimal digits of a number, in ASCII.
fn last_six_digits(number: u128) -> [u8; 6] {
    let [a, b, c, d, ..] = (number % 1_000_000).to_le_bytes();
    let mut rest = u32::from_le_bytes([a, b, c, d]);
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        let [last, ..] = (rest % 10).to_le_bytes();
        *digit += last;
        rest /= 10;
    }
    digits
}

/// Longest DE55 of an answer, in bytes: 91 with 16 bytes, 8A, and a template with the id of a
/// script and a command of 29 bytes.
const DE55_BYTES_MAX: usize = 18 + 4 + 2 + 7 + 2 + 29;

/// Shortest and longest value of 91, and of a template with a script: it unblocks, or changes the
/// PIN too.
const TAG_91_BYTES: [usize; 2] = [8, 10];
const SCRIPT_BYTES: [usize; 2] = [2 + 7 + 2 + 13, 2 + 7 + 2 + 29];

/// What goes back in DE55: 91, then a script in its template with its id (9F18) and its command
/// (86); and 8A where the dialect wants it.
#[must_use]
pub fn de55(
    authenticated: &Authenticated,
    script: Option<(ScriptId, u8)>,
    response_code: Option<[u8; 2]>,
) -> Vec<u8> {
    let mut data = Vec::with_capacity(64);
    let push = |to: &mut Vec<u8>, tag: u32, value: &[u8]| {
        let pushed = tlv::push(to, tag, value);
        debug_assert!(pushed.is_ok(), "short values under fixed tags");
    };
    push(&mut data, 0x91, &authenticated.tag_91);
    if let Some(code) = response_code {
        push(&mut data, 0x8A, &code);
    }
    if let Some(((id, template), command)) = script.zip(authenticated.command.as_ref()) {
        let mut inside = Vec::with_capacity(48);
        push(&mut inside, 0x9F18, &id);
        push(&mut inside, 0x86, command);
        push(&mut data, template.into(), &inside);
    }
    data
}

/// What a response says.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The answer.
    pub answer: Answer,
    /// The data element at fault.
    pub fault: Option<FormatError>,
    /// What the chip is told.
    pub de55: Option<&'a [u8]>,
}

/// Appends the response to `message`: its elements that are echoed, as far as they are `trusted`,
/// DE38, DE39, DE44 or the dialect's field for the four-digit reason, and DE55.
///
/// # Errors
/// If the dialect cannot carry an element; nothing was appended then.
pub fn encode(
    message: &Message<'_>,
    trusted: ElementSet,
    response: Response<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let dialect = message.spec();
    let Response { answer: Answer { reason, approval_code, .. }, fault, de55 } = response;
    let number = fault.map(|fault| format!("{:03}", fault.element));
    let echoed = dialect.echo(message.mti()).intersection(trusted);
    // Where something is missing or wrong, the bytes of free text may be those of a PIN block.
    let echoed = if fault.is_some() { echoed.intersection(message.plain()) } else { echoed };
    let mut response = OutgoingMessage::echo(message.mti().response(), message, echoed);
    if let Some(code) = &approval_code {
        response.set(38, code);
    }
    response.set(39, reason.response_code(dialect).as_bytes());
    if let Some(de55) = de55 {
        let apart = dialect.chip_elements();
        if apart.is_empty() || message.has(55) {
            response.set(55, de55);
        } else {
            set_apart(&mut response, apart, de55);
        }
    }
    match (&number, dialect.reason_code_field()) {
        (Some(number), _) => {
            response.set(ADDITIONAL_RESPONSE_DATA, number.as_bytes());
        }
        (None, Some(field)) if reason != Reason::Approved => {
            response.set(field, reason.code().as_bytes());
        }
        (None, _) => {}
    }
    response.encode(dialect, out)
}

/// What would stand in DE55 in the elements of its tags, as the request had them. What is in none
/// is left out.
fn set_apart<'a>(response: &mut OutgoingMessage<'a>, of_tags: &[(u8, ChipTag)], de55: &'a [u8]) {
    let element =
        |tag| of_tags.iter().find(|(_, known)| *known == tag).map(|(element, _)| *element);
    for object in Reader::new(de55).map_while(Result::ok) {
        let (tag, value) = match (object.tag, de55.get(object.offset..)) {
            // Scripts are the last of all, and go into their element with tag and length.
            (0x71 | 0x72, Some(scripts)) => (ChipTag::Scripts, scripts),
            (tag, _) => (ChipTag::Value(tag), object.value),
        };
        if let Some(element) = element(tag) {
            response.set(element, value);
        }
    }
}

/// Whether a dialect can carry everything that answers bring back and add.
///
/// # Errors
/// The data element that the dialect cannot carry, and why.
pub(super) fn check_answers(dialect: &Spec) -> Result<(), EncodeError> {
    check_chip_elements(dialect)?;
    for reason in Reason::ALL {
        let mut answer = OutgoingMessage::new(Mti::AUTHORIZATION_RESPONSE);
        answer.set(38, b"000000").set(39, reason.response_code(dialect).as_bytes());
        if dialect.element(55).is_some() {
            answer.set(55, &[0; DE55_BYTES_MAX]);
        }
        answer.set(ADDITIONAL_RESPONSE_DATA, b"000").encode(dialect, &mut Vec::new())?;
        if let Some(field) = dialect.reason_code_field() {
            answer.set(field, reason.code().as_bytes()).encode(dialect, &mut Vec::new())?;
        }
    }
    Ok(())
}

fn check_chip_elements(dialect: &Spec) -> Result<(), EncodeError> {
    for (element, tag) in dialect.chip_elements() {
        let lengths = match tag {
            ChipTag::Value(0x91) => TAG_91_BYTES,
            ChipTag::Value(0x8A) => [2; 2],
            ChipTag::Scripts => SCRIPT_BYTES,
            ChipTag::Value(_) => continue,
        };
        for length in lengths {
            let value = vec![0; length];
            let mut answer = OutgoingMessage::new(Mti::AUTHORIZATION_RESPONSE);
            answer.set(*element, &value).encode(dialect, &mut Vec::new())?;
        }
    }
    Ok(())
}
