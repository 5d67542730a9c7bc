//! One connection with its window of requests in flight. Everything that a read brings is taken
//! at once, and everything that is queued leaves in one write. Nothing here waits.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use iso_specs::{Message, Mti, Spec, decode};

use super::chips::ChipUse;
use super::mix::Pick;
use super::template::Template;
use crate::clock::Clock;
use crate::frame;
use crate::numbers::Trace;

/// Room for a read: the longest frame with its header fits.
const INPUT_BYTES: usize = 2 + u16::MAX as usize;

/// DE11 and DE37, by which an answer is matched with its request.
type Key = ([u8; 6], [u8; 12]);

/// A request that waits for its answer.
pub(super) struct Sent {
    /// From when its latency is counted: when it was due, or else just before the first write after
    /// it was queued.
    pub(super) at: Duration,
    /// The place of its card.
    pub(super) place: u32,
    pub(super) pan: [u8; 16],
    /// Whether its PIN is wrong.
    pub(super) is_wrong: bool,
    pub(super) chip: Option<ChipUse>,
}

impl Sent {
    /// Whether this is the answer it must get: 00 or 55 for its own card.
    pub(super) fn expects(&self, answer: &Message<'_>) -> bool {
        let code = if self.is_wrong { b"55" } else { b"00" };
        answer.mti() == Mti::AUTHORIZATION_RESPONSE
            && answer.text::<2>(39).is_some_and(|text| text.as_slice() == code)
            && self.is_for_its_card(answer)
            && self.chip.is_none_or(|chip| chip.is_told(answer))
    }

    /// Whether this is the request itself, as an echo gives it back.
    pub(super) fn is_echoed(&self, answer: &Message<'_>) -> bool {
        answer.mti() == Mti::AUTHORIZATION_REQUEST && self.is_for_its_card(answer)
    }

    fn is_for_its_card(&self, answer: &Message<'_>) -> bool {
        answer.text::<19>(2).is_some_and(|pan| pan.as_slice() == self.pan)
    }
}

/// A request of which not all has left.
struct Queued {
    /// Where it ends in the output.
    end: usize,
    /// When it was to leave, in an open loop.
    due: Option<Duration>,
    key: Key,
    sent: Sent,
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
    queued: VecDeque<Queued>,
    /// Those that have left.
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
            queued: VecDeque::new(),
            window: HashMap::new(),
            input: vec![0; INPUT_BYTES],
            filled: 0,
            output: Vec::new(),
            written: 0,
        }
    }

    /// Requests that were queued and have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.queued.len() + self.window.len()
    }

    /// Puts a request behind those that have not left. In an open loop it was `due` at a time.
    pub(super) fn queue(
        &mut self,
        template: &Template,
        trace: &Trace,
        pick: &Pick,
        due: Option<Duration>,
    ) {
        template.append(trace, pick, &mut self.output);
        let Pick { place, pan, is_wrong, .. } = *pick;
        let at = due.unwrap_or(Duration::MAX);
        let sent = Sent { at, place, pan, is_wrong, chip: template.chip };
        let key = (trace.stan, trace.rrn);
        self.queued.push_back(Queued { end: self.output.len(), due, key, sent });
    }

    /// Whether something has not left.
    pub(super) fn has_output(&self) -> bool {
        self.written < self.output.len()
    }

    /// Writes as much as goes. Hands over, for each request that had a time and has left to its
    /// last byte, how long after that time this was.
    pub(super) fn write(
        &mut self,
        clock: &Clock,
        mut left_late: impl FnMut(Duration),
    ) -> Result<(), Broken> {
        let before = clock.elapsed();
        for Queued { sent, .. } in &mut self.queued {
            sent.at = sent.at.min(before);
        }
        let outcome = self.write_output();
        let after = clock.elapsed();
        while self.queued.front().is_some_and(|first| first.end <= self.written)
            && let Some(Queued { due, key, sent, .. }) = self.queued.pop_front()
        {
            if let Some(due) = due {
                left_late(after.saturating_sub(due));
            }
            self.window.insert(key, sent);
        }
        if self.queued.is_empty() {
            self.output.clear();
            self.written = 0;
        }
        outcome
    }

    fn write_output(&mut self) -> Result<(), Broken> {
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(Broken::Closed),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::load::mix::{Deck, Mix};
    use crate::numbers::Numbers;

    /// More than the sockets of both sides hold.
    const REQUESTS: usize = 200_000;

    #[test]
    fn what_the_socket_does_not_take_at_once_is_late_until_it_leaves() {
        let spec = Spec::from_toml(Spec::builtin(crate::DIALECT).unwrap()).unwrap();
        let template = Template::new(&spec, None).unwrap();
        let clock = Clock::start();
        let mut numbers = Numbers::of_one_thread(&clock);
        let pick = Mix::new(Deck::Demo, 0.0, 1).pick().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut connection = Connection::new(&stream, 0);
        let due = clock.elapsed();
        for _ in 0..REQUESTS {
            let trace = numbers.take(clock.transmission_time());
            connection.queue(&template, &trace, &pick, Some(due));
        }
        let mut at_once = Vec::new();
        connection.write(&clock, |late| at_once.push(late)).unwrap();
        assert!(connection.has_output() && !at_once.is_empty());
        assert_eq!(connection.in_flight(), REQUESTS);

        let (mut peer, _) = listener.accept().unwrap();
        let waited = clock.elapsed() - due;
        std::thread::spawn(move || io::copy(&mut peer, &mut io::sink()));
        let mut later = Vec::new();
        while connection.has_output() {
            connection.write(&clock, |late| later.push(late)).unwrap();
        }
        assert_eq!(at_once.len() + later.len(), REQUESTS);
        assert!(at_once.iter().all(|late| *late <= waited));
        assert!(later.iter().all(|late| *late >= waited));
        assert_eq!(connection.in_flight(), REQUESTS);
        assert!(connection.window.values().all(|sent| sent.at == due));
    }

    #[test]
    fn a_request_without_a_time_counts_from_its_first_write() {
        let spec = Spec::from_toml(Spec::builtin(crate::DIALECT).unwrap()).unwrap();
        let template = Template::new(&spec, None).unwrap();
        let clock = Clock::start();
        let trace = Numbers::of_one_thread(&clock).take(clock.transmission_time());
        let pick = Mix::new(Deck::Demo, 0.0, 1).pick().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut connection = Connection::new(&stream, 0);
        connection.queue(&template, &trace, &pick, None);
        let queued = clock.elapsed();
        connection.write(&clock, |late| panic!("{late:?}")).unwrap();
        let sent = connection.window.values().next().unwrap();
        assert!((queued..=clock.elapsed()).contains(&sent.at));
        assert!(!connection.has_output());
    }
}
