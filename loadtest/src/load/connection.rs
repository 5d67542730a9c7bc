//! The generator: one connection with a window of requests in flight. Everything that a read
//! brings is taken at once, and everything that then fits the window leaves in one write.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream as BlockingStream;
use std::sync::Arc;
use std::time::Duration;

use iso_specs::{Message, Mti, Spec, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::Until;
use super::report::{NoHistogram, Tally};
use super::template::Template;
use crate::clock::Clock;
use crate::frame;
use crate::numbers::Numbers;

/// Room made for a read, in bytes.
const READ_BYTES: usize = 64 << 10;

/// What one connection has to do.
pub(super) struct Share {
    pub(super) spec: Arc<Spec>,
    /// At least one; taken in turns.
    pub(super) templates: Arc<[Template]>,
    pub(super) clock: Clock,
    pub(super) pipeline: usize,
    pub(super) until: Until,
    pub(super) stragglers: Duration,
}

/// DE11 and DE37, by which an answer is matched with its request.
type Key = ([u8; 6], [u8; 12]);

/// A request that waits for its answer.
struct Sent {
    at: Duration,
    template: usize,
}

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the switch closed the connection")]
    Closed,
    #[error("an answer cannot be read: {0}")]
    Unreadable(#[from] iso_specs::FramingError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A connection and its window.
pub(super) struct Connection {
    share: Share,
    numbers: Numbers,
    stream: BlockingStream,
    window: HashMap<Key, Sent>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that have left.
    written: usize,
    /// When the wait for answers began: at the last read, or when sending ended.
    waiting_since: Duration,
    sending: bool,
    tally: Tally,
}

impl Connection {
    /// Over a non-blocking stream.
    pub(super) fn new(
        share: Share,
        numbers: Numbers,
        stream: BlockingStream,
    ) -> Result<Connection, NoHistogram> {
        Ok(Connection {
            window: HashMap::with_capacity(share.pipeline),
            waiting_since: share.clock.elapsed(),
            share,
            numbers,
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            sending: true,
            tally: Tally::new()?,
        })
    }

    /// Sends and receives until all is done, nothing comes any more or the connection breaks.
    pub(super) async fn drive(mut self) -> io::Result<Tally> {
        let mut stream = TcpStream::from_std(self.stream.try_clone()?)?;
        let (mut reader, mut writer) = stream.split();
        self.waiting_since = self.share.clock.elapsed();
        loop {
            self.fill();
            if self.window.is_empty() {
                break;
            }
            let waited = self.share.clock.elapsed().saturating_sub(self.waiting_since);
            let patience = self.share.stragglers.saturating_sub(waited);
            match timeout(patience, self.turn(&mut reader, &mut writer)).await {
                Ok(Ok(())) => {}
                Ok(Err(broken)) => {
                    self.tally.broken(&broken.to_string());
                    break;
                }
                // What is still in the window is missing.
                Err(_) => break,
            }
        }
        self.tally.missing(self.window.len());
        Ok(self.tally)
    }

    /// Adds requests until the window is full or sending ends.
    fn fill(&mut self) {
        let now = self.share.clock.elapsed();
        if self.sending && self.is_done(now) {
            self.sending = false;
            self.waiting_since = now;
        }
        if !self.sending || self.window.len() >= self.share.pipeline {
            return;
        }
        let time = self.share.clock.transmission_time();
        while self.window.len() < self.share.pipeline && !self.is_done(now) {
            let trace = self.numbers.take(time);
            let template = self.tally.sent_in_turns(self.share.templates.len());
            if let Some(frame) = self.share.templates.get(template) {
                frame.append(&trace, &mut self.output);
            }
            self.window.insert((trace.stan, trace.rrn), Sent { at: now, template });
        }
    }

    fn is_done(&self, now: Duration) -> bool {
        match self.share.until {
            Until::Elapsed(time) => now >= time,
            Until::Requests(requests) => self.tally.sent() >= requests,
        }
    }

    /// One write or one read. Both are waited for together: a switch whose answers nobody reads
    /// stops reading requests.
    async fn turn(
        &mut self,
        reader: &mut ReadHalf<'_>,
        writer: &mut WriteHalf<'_>,
    ) -> Result<(), Broken> {
        let unwritten = self.output.get(self.written..).unwrap_or_default();
        self.input.reserve(READ_BYTES);
        tokio::select! {
            biased;
            written = writer.write(unwritten), if !unwritten.is_empty() => {
                self.written += written?;
                if self.written >= self.output.len() {
                    self.output.clear();
                    self.written = 0;
                }
                Ok(())
            }
            read = reader.read_buf(&mut self.input) => match read? {
                0 => Err(Broken::Closed),
                _ => self.take_answers(),
            },
        }
    }

    fn take_answers(&mut self) -> Result<(), Broken> {
        let now = self.share.clock.elapsed();
        if self.sending {
            self.waiting_since = now;
        }
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some((message, after)) = frame::split_first(rest) {
            rest = after;
            // An empty frame is a keep-alive.
            if !message.is_empty() {
                self.accept(message, now)?;
            }
        }
        let taken = input.len() - rest.len();
        self.input = input;
        self.input.drain(..taken);
        Ok(())
    }

    fn accept(&mut self, frame: &[u8], now: Duration) -> Result<(), Broken> {
        let spec = Arc::clone(&self.share.spec);
        let message = decode(&spec, frame)?.message;
        match key(&message).and_then(|key| self.window.remove(&key)) {
            None => self.tally.wrong(&message),
            Some(sent) => {
                self.tally.answered(&message, now.saturating_sub(sent.at), now);
                let pan = self.share.templates.get(sent.template).map(|template| template.pan());
                if !is_approval(&message, pan) {
                    self.tally.wrong(&message);
                }
            }
        }
        Ok(())
    }
}

fn key(message: &Message<'_>) -> Option<Key> {
    let stan = message.text::<6>(11)?.as_slice().try_into().ok()?;
    let rrn = message.text::<12>(37)?.as_slice().try_into().ok()?;
    Some((stan, rrn))
}

/// Whether it approves, and for the card that was asked about.
fn is_approval(message: &Message<'_>, pan: Option<&str>) -> bool {
    message.mti() == Mti::AUTHORIZATION_RESPONSE
        && message.text::<2>(39).is_some_and(|code| code.as_slice() == b"00")
        && message.text::<19>(2).as_ref().and_then(|text| text.as_str()) == pan
}
