//! The response: what comes back from the request, and what the switch adds.

use iso_specs::{ElementSet, EncodeError, Message, Mti, OutgoingMessage, Spec};

use super::request::FormatError;
use super::response_code::Reason;

/// DE44 carries the number of a wrong element, in every dialect.
const ADDITIONAL_RESPONSE_DATA: u8 = 44;

/// What is answered to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The outcome.
    pub reason: Reason,
    /// DE38, six digits; on approvals of a transaction only.
    pub approval_code: Option<[u8; 6]>,
}

impl Answer {
    /// An answer without an approval code.
    #[must_use]
    pub const fn new(reason: Reason) -> Answer {
        Answer { reason, approval_code: None }
    }
}

/// Appends the response to `message`: its elements that are echoed, as far as they are `trusted`,
/// DE38, DE39, and DE44 or the dialect's field for the four-digit reason.
///
/// # Errors
/// If the dialect cannot carry an element; nothing was appended then.
pub fn encode(
    message: &Message<'_>,
    trusted: ElementSet,
    answer: Answer,
    fault: Option<FormatError>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let dialect = message.spec();
    let Answer { reason, approval_code } = answer;
    let number = fault.map(|fault| format!("{:03}", fault.element));
    let echoed = dialect.echo(message.mti()).intersection(trusted);
    let mut response = OutgoingMessage::echo(message.mti().response(), message, echoed);
    if let Some(code) = &approval_code {
        response.set(38, code);
    }
    response.set(39, reason.response_code(dialect).as_bytes());
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

/// Whether a dialect can carry everything that answers bring back and add.
///
/// # Errors
/// The data element that the dialect cannot carry, and why.
pub(super) fn check_answers(dialect: &Spec) -> Result<(), EncodeError> {
    for reason in Reason::ALL {
        let mut answer = OutgoingMessage::new(Mti::AUTHORIZATION_RESPONSE);
        answer.set(38, b"000000").set(39, reason.response_code(dialect).as_bytes());
        answer.set(ADDITIONAL_RESPONSE_DATA, b"000").encode(dialect, &mut Vec::new())?;
        if let Some(field) = dialect.reason_code_field() {
            answer.set(field, reason.code().as_bytes()).encode(dialect, &mut Vec::new())?;
        }
    }
    Ok(())
}
