//! One connection with its window of requests in flight. Everything that a read brings is taken
//! at once, and everything that is queued leaves in one write. Nothing here waits.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use iso_specs::{Message, Mti, Spec, decode};

use super::mix::Pick;
use super::template::Template;
use crate::frame;
use crate::numbers::Trace;

/// Room for a read: the longest frame with its header fits.
const INPUT_BYTES: usize = 2 + u16::MAX as usize;

/// DE11 and DE37, by which an answer is matched with its request.
type Key = ([u8; 6], [u8; 12]);

/// A request that waits for its answer.
pub(super) struct Sent {
    /// From when its latency is counted.
    pub(super) at: Duration,
    /// The place of its card.
    pub(super) place: u32,
    pub(super) pan: [u8; 16],
    /// Whether its PIN is wrong.
    pub(super) is_wrong: bool,
}

impl Sent {
    /// Whether this is the answer it must get: 00 or 55 for its own card.
    pub(super) fn expects(&self, answer: &Message<'_>) -> bool {
        let code = if self.is_wrong { b"55" } else { b"00" };
        answer.mti() == Mti::AUTHORIZATION_RESPONSE
            && answer.text::<2>(39).is_some_and(|text| text.as_slice() == code)
            && self.is_for_its_card(answer)
    }

    /// Whether this is the request itself, as an echo gives it back.
    pub(super) fn is_echoed(&self, answer: &Message<'_>) -> bool {
        answer.mti() == Mti::AUTHORIZATION_REQUEST && self.is_for_its_card(answer)
    }

    fn is_for_its_card(&self, answer: &Message<'_>) -> bool {
        answer.text::<19>(2).is_some_and(|pan| pan.as_slice() == self.pan)
    }
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the switch closed the connection")]
    Closed,
    #[error("an answer cannot be read: {0}")]
    Unreadable(#[from] iso_specs::FramingError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A connection and its window.
pub(super) struct Connection<'a> {
    /// Non-blocking.
    pub(super) stream: &'a TcpStream,
    /// Requests that are still to be sent.
    pub(super) left: u64,
    /// Cleared when it breaks.
    pub(super) is_open: bool,
    window: HashMap<Key, Sent>,
    input: Vec<u8>,
    /// Bytes of `input` that were read and not taken.
    filled: usize,
    output: Vec<u8>,
    /// Bytes of `output` that have left.
    written: usize,
}

impl<'a> Connection<'a> {
    pub(super) fn new(stream: &'a TcpStream, left: u64) -> Connection<'a> {
        Connection {
            stream,
            left,
            is_open: true,
            window: HashMap::new(),
            input: vec![0; INPUT_BYTES],
            filled: 0,
            output: Vec::new(),
            written: 0,
        }
    }

    /// Requests that wait for their answers.
    pub(super) fn in_flight(&self) -> usize {
        self.window.len()
    }

    /// Puts a request behind those that have not left.
    pub(super) fn queue(&mut self, template: &Template, trace: &Trace, pick: &Pick, at: Duration) {
        template.append(trace, pick, &mut self.output);
        let Pick { place, pan, is_wrong, .. } = *pick;
        self.window.insert((trace.stan, trace.rrn), Sent { at, place, pan, is_wrong });
    }

    /// Whether something has not left.
    pub(super) fn has_output(&self) -> bool {
        self.written < self.output.len()
    }

    /// Writes as much as goes.
    pub(super) fn write(&mut self) -> Result<(), Broken> {
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(Broken::Closed),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what is there, and hands over every complete answer with the request it belongs to.
    pub(super) fn read(
        &mut self,
        spec: &Spec,
        mut answered: impl FnMut(Option<Sent>, &Message<'_>),
    ) -> Result<(), Broken> {
        match self.stream.read(self.input.get_mut(self.filled..).unwrap_or_default()) {
            Ok(0) => return Err(Broken::Closed),
            Ok(read) => self.filled += read,
            Err(error)
                if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted]
                    .contains(&error.kind()) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let mut rest = self.input.get(..self.filled).unwrap_or_default();
        while let Some((frame, after)) = frame::split_first(rest) {
            rest = after;
            // An empty frame is a keep-alive.
            if !frame.is_empty() {
                let message = decode(spec, frame)?.message;
                let sent = key(&message).and_then(|key| self.window.remove(&key));
                answered(sent, &message);
            }
        }
        let left = rest.len();
        self.input.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
        Ok(())
    }
}

fn key(message: &Message<'_>) -> Option<Key> {
    let stan = message.text::<6>(11)?.as_slice().try_into().ok()?;
    let rrn = message.text::<12>(37)?.as_slice().try_into().ok()?;
    Some((stan, rrn))
}
