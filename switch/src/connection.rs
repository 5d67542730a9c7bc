//! One link's connection: many requests in flight, replies in any order, one writer.
//!
//! Every complete frame of a read is taken, and each request runs as far as it can at once. What
//! is finished then leaves in one write; what must wait for HSM or disk is parked and joins a
//! later write. While the peer does not take its replies, it is not read.

mod input;
mod output;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use iso_specs::FramingError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::frame::{self, Frame, FrameError};
use crate::metrics::Tally;
use crate::session::Session;
use crate::shutdown::Shutdown;
use crate::switch::{Seams, Switch};
use crate::transaction::Responded;
use input::Input;
use output::Output;

/// Why a connection ended other than by its peer.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The stream cannot be cut into frames any further.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame has no readable MTI or bitmap.
    #[error("a frame cannot be read: {0}")]
    Framing(#[from] FramingError),
    /// The peer does not read our replies.
    #[error("the peer did not read its replies in time")]
    SlowReader,
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Idle,
    /// No whole message came since the connection began: keep-alives are none.
    #[error("no first message came in time")]
    NoMessage,
    /// The switch stopped before the peer had read its replies.
    #[error("the switch stopped before the peer had read its replies")]
    Stopped,
    /// The peer closed it without waiting for its replies: its own affair.
    #[error("the peer has reset the connection")]
    Reset,
    /// The network.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ended::Reset,
            _ => Ended::Io(error),
        }
    }
}

impl Ended {
    /// The name in metrics: one of `metrics::CLOSED_REASONS`.
    const fn name(&self) -> &'static str {
        match self {
            Ended::Frame(_) => "frame",
            Ended::Framing(_) => "message",
            Ended::SlowReader => "slow_reader",
            Ended::Idle => "idle",
            Ended::NoMessage => "no_message",
            Ended::Stopped => "stopped",
            Ended::Reset => "reset",
            Ended::Io(_) => "network",
        }
    }
}

type Finished = Result<Responded, FramingError>;
type InFlight<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Finished> + Send + 'a>>>;

/// Serves one connection until its peer closes it, it breaks, or the switch stops.
///
/// # Errors
/// Why it ended, unless the peer closed it or the switch stopped. After a framing error the
/// replies in flight have left.
pub async fn serve<W: Seams>(
    switch: &Switch<W>,
    session: &Session,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shutdown: &Shutdown,
) -> Result<(), Ended> {
    let Switch { clock, limits, .. } = switch;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut input = Input::new(limits.buffer_bytes_per_connection_max, clock);
    let mut window = Window::new(switch, session);
    let mut output = Output::default();
    let mut idle = pin!(sleep(limits.first_message_seconds_max));
    let mut abandon = pin!(shutdown.abandon.cancelled());
    let mut stop = pin!(shutdown.stop.cancelled());
    let mut stopping = false;
    // Whether more may come; what has come is taken in any case.
    let mut open = true;
    loop {
        let more = !output.is_empty() || window.take(&mut input, &mut output);
        window.collect_ready(&mut output);
        session.metrics.count(&mut window.tally);
        if output.rests_on_store() {
            others_first().await;
            output.release(&switch.store);
        }
        if let Err(reason) = output.write_now(&mut writer) {
            window.end(reason);
        }
        window.give_way().await;
        if more && window.has_room() && output.is_empty() {
            continue;
        }
        open = open && window.ended.is_none();
        if !open && window.in_flight.is_empty() && output.is_empty() && !more {
            close(&mut writer, &mut reader, shutdown).await;
            return window.ended.take().map_or(Ok(()), Err);
        }
        let reads = open && window.has_room() && output.is_empty();
        if stopping && reads {
            open = input.drain(&mut reader, clock).await;
            continue;
        }
        tokio::select! {
            biased;
            () = &mut abandon => return output.abandoned(),
            () = &mut stop, if !stopping => stopping = true,
            Some(reply) = window.in_flight.next() => window.finished(reply, &mut output),
            written = output.write_within(limits.write_seconds_max, &mut writer, clock),
                if !output.is_empty() =>
            {
                written.unwrap_or_else(|reason| window.end(reason));
            }
            read = input.read(&mut reader, clock), if reads => match read {
                // The peer may close its side while its answers are still on their way.
                Ok(more) => open = more,
                Err(error) => window.end(error.into()),
            },
            () = &mut idle => {
                let (quiet_max, reason) = match input.has_message {
                    true => (limits.idle_seconds_max, Ended::Idle),
                    false => (limits.first_message_seconds_max, Ended::NoMessage),
                };
                let left = quiet_max.saturating_sub(clock.monotonic().saturating_sub(input.busy));
                if left.is_zero() && reads && window.in_flight.is_empty() {
                    window.end(reason);
                }
                idle.set(sleep(left.max(IDLE_CHECK)));
            }
        }
    }
}

/// Lets the other connections of this thread run that are ready now, so that the first of them
/// writes the journal for all. It costs no system call, as a yield would.
async fn others_first() {
    let mut is_second = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_second, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// How often an idle connection is looked at that still has requests in flight.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// Frames that a connection takes before others of its thread have their turn.
const FRAMES_PER_TURN: u32 = 256;

/// Bytes that are read at once to be dropped.
const DROPPED_BYTES: usize = 1 << 10;

/// How long what a peer still sends is read after our last reply.
const LINGER: Duration = Duration::from_millis(500);

/// Closes our side, then reads and drops what still comes: closing a socket that has unread
/// bytes would take back the replies that the peer has not read yet.
async fn close(
    writer: &mut (impl AsyncWrite + Unpin),
    reader: &mut (impl AsyncRead + Unpin),
    shutdown: &Shutdown,
) {
    let mut dropped = [0; DROPPED_BYTES];
    let drain = async {
        if writer.shutdown().await.is_ok() {
            while reader.read(&mut dropped).await.is_ok_and(|bytes| bytes > 0) {}
        }
    };
    tokio::select! {
        biased;
        () = shutdown.abandon.cancelled() => {}
        // A peer that goes on sending has had its time.
        _ = timeout(LINGER, drain) => {}
    }
}

/// The requests of a connection that are being answered.
struct Window<'a, W: Seams> {
    switch: &'a Switch<W>,
    session: &'a Session,
    /// Those that wait for HSM or store.
    in_flight: InFlight<'a>,
    tally: Tally,
    taken: u32,
    ended: Option<Ended>,
}

impl<'a, W: Seams> Window<'a, W> {
    fn new(switch: &'a Switch<W>, session: &'a Session) -> Self {
        let (in_flight, tally) = (FuturesUnordered::new(), Tally::default());
        Window { switch, session, in_flight, tally, taken: 0, ended: None }
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.switch.limits.in_flight_per_connection_max
    }

    /// Takes complete frames while there is room; `true` if there may be more of them.
    fn take(&mut self, input: &mut Input, output: &mut Output) -> bool {
        let limits = &self.switch.limits;
        let frames = self.session.link.frames;
        // Frames may have waited for room.
        let now = self.switch.clock.monotonic();
        let waited = now.saturating_sub(input.arrived);
        while self.ended.is_none() && self.has_room() {
            if self.taken >= FRAMES_PER_TURN {
                return true;
            }
            let Input { bytes, searched, arrived, .. } = input;
            let length = bytes.len();
            match frame::next_from(bytes, frames, limits.frame_bytes_max, searched) {
                Ok(Some(frame)) => match frames.header.reject_code(&frame.header) {
                    None if waited > limits.answer_milliseconds_max => {
                        self.session.metrics.late(false);
                    }
                    None => self.begin(frame, *arrived, output),
                    Some(code) => self.session.rejected(code),
                },
                Ok(None) => {
                    // Keep-alives are no frames, but a sign of life of who has once said something.
                    let is_alive = input.has_message && bytes.len() < length;
                    input.busy = if is_alive { now } else { input.busy };
                    return false;
                }
                Err(error) => self.end(error.into()),
            }
            (input.busy, input.has_message) = (now, true);
            self.taken += 1;
        }
        self.ended.is_none()
    }

    /// After many frames at once, lets other connections have their turn.
    async fn give_way(&mut self) {
        if self.taken >= FRAMES_PER_TURN {
            self.taken = 0;
            yield_now().await;
        }
    }

    /// Takes no more frames. What is in flight goes on to its end, heard or not: it may be
    /// counting a wrong PIN.
    fn end(&mut self, reason: Ended) {
        self.ended.get_or_insert(reason);
    }

    /// Runs a request as far as it goes at once, and parks it if it has to wait.
    fn begin(&mut self, frame: Frame, arrived: Duration, output: &mut Output) {
        let mut reply = self.switch.respond(self.session, frame, arrived).boxed();
        match (&mut reply).now_or_never() {
            Some(reply) => self.accept(reply, output),
            None => {
                self.switch.in_flight.add();
                self.session.in_flight.add();
                self.session.metrics.in_flight.increment(1.0);
                self.in_flight.push(reply);
            }
        }
    }

    fn accept(&mut self, reply: Finished, output: &mut Output) {
        match reply {
            Ok(Responded { mti, reason, reply, .. }) => {
                self.tally.add(mti, reason);
                reply.into_iter().for_each(|reply| output.add(&reply));
            }
            Err(framing) => self.end(framing.into()),
        }
    }

    /// One that was parked.
    fn finished(&mut self, reply: Finished, output: &mut Output) {
        self.no_longer_in_flight(1);
        self.accept(reply, output);
    }

    fn collect_ready(&mut self, output: &mut Output) {
        while let Some(Some(reply)) = self.in_flight.next().now_or_never() {
            self.finished(reply, output);
        }
    }
}

impl<W: Seams> Window<'_, W> {
    fn no_longer_in_flight(&self, count: usize) {
        self.switch.in_flight.remove(count);
        self.session.in_flight.remove(count);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.session.metrics.in_flight.decrement(f64::from(count));
    }
}

impl<W: Seams> Drop for Window<'_, W> {
    fn drop(&mut self) {
        self.no_longer_in_flight(self.in_flight.len());
    }
}

/// Serves a connection and says in the log why it ended, if there is a reason to know.
pub async fn serve_and_log<W: Seams>(
    switch: Arc<Switch<W>>,
    session: Session,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shutdown: Shutdown,
) {
    session.metrics.connections.increment(1.0);
    // Of its own, so that connections of different threads do not wait for each other to look.
    let shutdown = shutdown.child();
    let ended = serve(&switch, &session, stream, &shutdown).await;
    session.metrics.connections.decrement(1.0);
    if let Err(reason) = ended {
        session.metrics.closed(reason.name());
        let (link, peer) = (&*session.link.name, &*session.peer);
        tracing::warn!(target: "connection", link, peer, %reason, "a connection was closed");
    }
}
