//! Messages for a person to look at: out of text or a capture, decoded, masked and listed.
//!
//! Nothing of it serves requests. What is shown of an element is what [`iso_specs::redact`]
//! shows; no error holds anything of a message.

mod capture;
mod reading;
mod stream;
#[cfg(test)]
mod tests;
pub mod text;

use std::borrow::Cow;
use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use iso_specs::{Field, Spec, examine, mti, redact};

use crate::authorization::Reason;
use crate::frame::{self, Frame, FrameError, FrameFormat, Framing, Header};
use reading::{Fit, Reading};
use stream::Found;
use text::{TextForm, TextMessage};

/// Fixed header of BASE I without further fields, in bytes.
const BASE_I_BYTES: usize = 22;

/// Longest input, in bytes: 256 MiB.
pub const INPUT_BYTES_MAX: u64 = 256 << 20;

/// Longest frame, header and message together, in bytes.
const FRAME_BYTES_MAX: usize = 65_535;

const RESPONSE_CODE: u8 = 39;
/// Where answers have the number of a wrong element, and most dialects the reason.
const ADDITIONAL_RESPONSE_DATA: u8 = 44;
/// Longest element that holds nothing but such a code, in characters.
const CODE_CHARACTERS_MAX: usize = 99;

/// How the input is to be read.
pub struct Inspection {
    /// What the messages may be: of several, the one that fits best is taken.
    pub dialects: Vec<Spec>,
    /// How they are told apart.
    pub borders: Borders,
    /// What stands before each.
    pub header: Header,
    /// Only TCP connections with this port, in a capture.
    pub port: Option<u16>,
    /// What the input is; guessed where it is not said.
    pub form: Option<InputForm>,
}

/// How the messages of an input are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Borders {
    /// Nothing was said: 2-byte lengths in a capture, otherwise bare messages, or lengths of two
    /// bytes or four digits where these fit.
    Usual,
    /// Bare messages; a capture has none.
    Bare,
    /// By this framing.
    Framing(Framing),
}

/// What an input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputForm {
    /// Text.
    Text(TextForm),
    /// The messages themselves, one a line.
    Lines,
    /// The bytes of the message itself, or of a stream of frames.
    Raw,
    /// A pcap or pcapng file.
    Capture,
}

/// How many messages were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub messages: usize,
    /// Those with a fault.
    pub faulty: usize,
    /// Places where something could not be read.
    pub losses: usize,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A character that the form does not have.
    #[error("line {line}, column {column}: expected {form}")]
    Character {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What was expected.
        form: TextForm,
    },
    /// Half a byte.
    #[error("line {line}: an odd number of hexadecimal digits")]
    OddDigits {
        /// Where the message begins, from 1.
        line: usize,
    },
    /// Characters that base64 does not have at its end.
    #[error("line {line}: not a whole number of bytes in base64")]
    Base64 {
        /// Where the message begins, from 1.
        line: usize,
    },
    /// What looks like a dump whose offsets are not those of its bytes.
    #[error(
        "line {line}: an offset or data? Offsets of a dump are hexadecimal and count bytes, which \
         are two digits each; without offsets, put no space behind the first two digits"
    )]
    Ambiguous {
        /// Where the message begins, from 1.
        line: usize,
    },
    /// Lines that `*` stands for in dumps.
    #[error("line {line}: `*` stands for more than {} MiB in all", INPUT_BYTES_MAX >> 20)]
    Expanded {
        /// From 1.
        line: usize,
    },
    /// No text, where one was said to be.
    #[error("byte {offset}: no text")]
    NotText {
        /// Byte offset, from 0.
        offset: usize,
    },
    /// A capture that cannot be read.
    #[error("packet {packet}: {what}")]
    Capture {
        /// From 1; 0 is the head of the file.
        packet: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Inspection {
    /// Lists every message of `input` on `out`.
    ///
    /// # Errors
    /// Where the input as a whole cannot be read, and if `out` cannot be written.
    pub fn list(&self, input: &[u8], out: &mut impl Write) -> Result<Tally, InspectError> {
        let input = reading::without_mark(input);
        let Some(chosen) = reading::choose(self, &input) else { return Ok(Tally::default()) };
        for note in chosen.notes(self) {
            writeln!(out, "note: {note}")?;
        }
        let mut listing = Listing::new(self, chosen.reading, out);
        listing.input(&input)?;
        Ok(listing.tally)
    }
}

impl Reading<'_> {
    /// The frames of some bytes, and why they end before these do.
    fn frames(&self, bytes: &[u8], header: Header) -> (Vec<Frame>, Option<Unframed>) {
        let mut frames = Vec::new();
        let Some(framing) = self.framing else {
            let whole = Frame::whole(Bytes::copy_from_slice(bytes), header);
            let error = whole.map(|frame| frames.push(frame)).err();
            return (frames, error.map(Unframed::from));
        };
        let format = FrameFormat { framing, header };
        let mut input = BytesMut::from(bytes);
        loop {
            match frame::next(&mut input, format, FRAME_BYTES_MAX) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) if input.is_empty() => return (frames, None),
                Ok(None) => return (frames, Some(Unframed::Unfinished { bytes: input.len() })),
                Err(error) => return (frames, Some(error.into())),
            }
        }
    }

    fn is_message(&self, bytes: &[u8], header: Header) -> bool {
        let right = |frame: &Frame| {
            examine(self.dialect, &frame.message).is_ok_and(|examined| examined.faults.is_empty())
        };
        let (frames, error) = self.frames(bytes, header);
        error.is_none() && frames.iter().all(right)
    }
}

/// Why the bytes of a text are no frames.
#[derive(Debug, thiserror::Error)]
enum Unframed {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{bytes} bytes of an unfinished frame")]
    Unfinished { bytes: usize },
}

/// The output, and what was counted so far.
struct Listing<'a, W> {
    inspection: &'a Inspection,
    reading: Reading<'a>,
    /// Whether the input is only the beginning of one: its last frame may not be whole.
    is_sample: bool,
    out: &'a mut W,
    tally: Tally,
    fit: Fit,
}

impl<'a, W: Write> Listing<'a, W> {
    fn new(inspection: &'a Inspection, reading: Reading<'a>, out: &'a mut W) -> Self {
        let (tally, fit) = (Tally::default(), Fit::default());
        Listing { inspection, reading, is_sample: false, out, tally, fit }
    }

    fn input(&mut self, input: &[u8]) -> Result<(), InspectError> {
        let (reading, header) = (self.reading, self.inspection.header);
        let is_message = |bytes: &[u8]| reading.is_message(bytes, header);
        match reading.form {
            InputForm::Capture => self.capture(input),
            InputForm::Text(form) => {
                let text = str::from_utf8(input)
                    .map_err(|error| InspectError::NotText { offset: error.valid_up_to() })?;
                text::read(text, form, is_message, |TextMessage { line, bytes }| {
                    Ok(self.bytes(&format!("line {line}"), &bytes)?)
                })
            }
            InputForm::Lines => {
                let mut lines = reading::lines(input, is_message);
                lines.try_for_each(|TextMessage { line, bytes }| {
                    Ok(self.bytes(&format!("line {line}"), &bytes)?)
                })
            }
            InputForm::Raw if input.is_empty() => Ok(()),
            InputForm::Raw => Ok(self.bytes("raw", reading::raw(input, is_message))?),
        }
    }

    /// The bytes of one message, or of its frames.
    fn bytes(&mut self, place: &str, bytes: &[u8]) -> io::Result<()> {
        let (frames, error) = self.reading.frames(bytes, self.inspection.header);
        frames.iter().try_for_each(|frame| self.message(place, frame))?;
        match error {
            Some(Unframed::Unfinished { .. }) if self.is_sample && !frames.is_empty() => Ok(()),
            Some(error) => self.loss(&format!("{place}: {error}")),
            None => Ok(()),
        }
    }

    fn capture(&mut self, input: &[u8]) -> Result<(), InspectError> {
        let Some(framing) = self.reading.framing else {
            let what = "the streams of a capture need a framing";
            return Err(InspectError::Capture { packet: 0, what });
        };
        let format = FrameFormat { framing, header: self.inspection.header };
        let capture::Capture { segments, remarks, .. } =
            capture::read(input, self.inspection.port)?;
        let mut found = Vec::new();
        let mut summaries = Vec::new();
        for stream in stream::streams(segments) {
            let ends = format!("{} -> {}", stream.from, stream.to);
            let report = stream.read(format, FRAME_BYTES_MAX);
            if report.packets > 0 {
                summaries.push((ends.clone(), report.packets, report.frames.len()));
            }
            let order = (report.retransmitted, report.out_of_order);
            found.extend(report.frames.into_iter().map(|frame| (ends.clone(), frame)));
            if order != (0, 0) {
                let (again, late) = order;
                let text = format!("{ends}: {again} packets retransmitted, {late} out of order");
                writeln!(self.out, "note: {text}")?;
            }
            for loss in report.losses {
                self.loss(&format!("{ends}: {loss}"))?;
            }
        }
        for remark in remarks {
            self.loss(&remark)?;
        }
        for (ends, packets, frames) in summaries {
            writeln!(self.out, "stream: {ends}: {packets} packets with data, {frames} messages")?;
        }
        // In the order of the packets that complete them.
        found.sort_by_key(|(_, Found { packet, .. })| *packet);
        for (ends, Found { packet, time, frame }) in found {
            let time = time.map_or("without time".to_owned(), |time| time.to_string());
            self.message(&format!("packet {packet}, {time}, {ends}"), &frame)?;
        }
        Ok(())
    }

    fn loss(&mut self, what: &str) -> io::Result<()> {
        self.tally.losses += 1;
        writeln!(self.out, "not read: {what}")
    }

    fn message(&mut self, place: &str, frame: &Frame) -> io::Result<()> {
        self.tally.messages += 1;
        let number = self.tally.messages;
        writeln!(self.out, "\nmessage {number}: {place}, {} bytes", frame.message.len())?;
        let header = self.inspection.header;
        if header != Header::None {
            // Of a frame that is another than was said, it could hold anything.
            write!(self.out, "{header}, {} bytes", frame.header.len())?;
            if let Some(code) = header.reject_code(&frame.header) {
                writeln!(self.out, ", rejected with code {code:04X}")?;
                return self.rejected(&frame.message);
            }
            writeln!(self.out)?;
        }
        self.examined(&frame.message)
    }

    /// Behind a reject header stands our message with the header that it had.
    fn rejected(&mut self, original: &[u8]) -> io::Result<()> {
        match after_header(original) {
            Some(message) => {
                writeln!(self.out, "its own header, {BASE_I_BYTES} bytes")?;
                self.examined(message)
            }
            None => self.loss(&format!("{} bytes behind a reject header", original.len())),
        }
    }

    fn examined(&mut self, message: &[u8]) -> io::Result<()> {
        let dialect = self.reading.dialect;
        match examine(dialect, message) {
            Ok(examined) => {
                self.fit.add(&examined);
                self.tally.faulty += usize::from(!examined.faults.is_empty());
                let listing = redact::listing(&examined, |field| remark(field, dialect));
                writeln!(self.out, "{listing}")
            }
            Err(error) => {
                self.tally.faulty += 1;
                if let Some(mti) = mti(dialect, message) {
                    writeln!(self.out, "MTI    {mti}  {}", mti.words().join(", "))?;
                }
                writeln!(self.out, "fault  {error}")
            }
        }
    }
}

/// The message behind a whole BASE I header, which says both its own length and the total.
fn after_header(original: &[u8]) -> Option<&[u8]> {
    let (header, message) = original.split_at_checked(BASE_I_BYTES)?;
    let &[length, _, _, high, low, ..] = header else { return None };
    let total = usize::from(u16::from_be_bytes([high, low]));
    let is_header = usize::from(length) == BASE_I_BYTES && total == original.len();
    is_header.then_some(message)
}

/// What the codes of an answer mean: DE39, the four-digit reason beside it, and the element that
/// DE44 names where the format is wrong.
fn remark<'a>(field: &Field<'_>, dialect: &'a Spec) -> Option<Cow<'a, str>> {
    let number = field.element().number();
    let mut room = [0; CODE_CHARACTERS_MAX];
    let code = str::from_utf8(field.text(&mut room)?.trim_ascii()).ok()?;
    let is_digits = code.bytes().all(|digit| digit.is_ascii_digit());
    if number == RESPONSE_CODE {
        return Reason::from_response_code(code, dialect).map(|reason| reason.memo().into());
    }
    match code.len() {
        4 if is_digits && Some(number) == dialect.reason_code_field() => {
            Reason::from_number(code.parse().ok()?).map(|reason| reason.memo().into())
        }
        3 if is_digits && number == ADDITIONAL_RESPONSE_DATA => {
            let wrong = dialect.element(code.parse().ok()?)?;
            Some(format!("DE{} is missing or wrong: {}", wrong.number(), wrong.name()).into())
        }
        _ => None,
    }
}
