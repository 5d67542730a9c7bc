//! One link's connection: many requests in flight, replies in any order, one writer.
//!
//! Every complete frame of a read is taken, and each request runs as far as it can at once. What
//! is finished then leaves in one write; what must wait for HSM or disk is parked and joins a
//! later write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use iso_specs::FramingError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::{unconstrained, yield_now};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::frame::{self, Frame, FrameError, Searched};
use crate::hsm::Hsm;
use crate::shutdown::Shutdown;
use crate::store::{Store, StoreFailed};
use crate::switch::{Session, Switch};
use crate::transaction;

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
    /// The switch stopped before the peer had read its replies.
    #[error("the switch stopped before the peer had read its replies")]
    Stopped,
    /// The network.
    #[error(transparent)]
    Io(#[from] io::Error),
}

type Finished = Result<Option<transaction::Reply>, FramingError>;
type InFlight<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Finished> + Send + 'a>>>;

/// Serves one connection until its peer closes it, it breaks, or the switch stops.
///
/// # Errors
/// Why it ended, unless the peer closed it or the switch stopped. After a framing error the
/// replies in flight have left.
pub async fn serve<C: Clock, H: Hsm, S: Store>(
    switch: &Switch<C, H, S>,
    session: &Session,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shutdown: &Shutdown,
) -> Result<(), Ended> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut input = BytesMut::with_capacity(READ_BYTES);
    let mut window = Window {
        switch,
        session,
        in_flight: FuturesUnordered::new(),
        searched: Searched::default(),
        ended: None,
    };
    let mut output = Output::default();
    let mut drain = Drain { reads_left: DRAIN_READS_MAX };
    // Whether more may come; what has come is taken in any case.
    let mut open = true;
    loop {
        let more = window.take(&mut input, &mut output);
        window.collect_ready(&mut output);
        if let Err(reason) = output.send(switch, &mut writer, shutdown).await {
            window.end(reason);
        }
        if more && window.has_room() {
            continue;
        }
        open = open && window.ended.is_none();
        if !open && window.in_flight.is_empty() {
            close(&mut writer, &mut reader, shutdown).await;
            return window.ended.take().map_or(Ok(()), Err);
        }
        let room = window.has_room();
        if shutdown.stop.is_cancelled() && open && room {
            open = drain.read(&mut reader, &mut input).await;
            continue;
        }
        if input.capacity() - input.len() < READ_BYTES_MIN {
            input.reserve(READ_BYTES);
        }
        tokio::select! {
            biased;
            () = shutdown.abandon.cancelled() => return Ok(()),
            () = shutdown.stop.cancelled(), if open && room => {}
            Some(reply) = window.in_flight.next() => window.accept(reply, &mut output),
            read = reader.read_buf(&mut input), if open && room => match read {
                // The peer may close its side while its answers are still on their way.
                Ok(bytes) => open = bytes > 0,
                Err(error) => window.end(error.into()),
            },
        }
    }
}

/// Room made for reads, and the least room for one, in bytes.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_MIN: usize = 4 << 10;

/// Reads of a connection after the switch was told to stop.
const DRAIN_READS_MAX: u32 = 16;

/// What had arrived when the switch was told to stop is in flight, and is answered.
struct Drain {
    reads_left: u32,
}

impl Drain {
    /// Reads what is there; `false` when there is nothing more, or when a peer that does not stop
    /// sending has had its share.
    async fn read(&mut self, reader: &mut (impl AsyncRead + Unpin), input: &mut BytesMut) -> bool {
        self.reads_left = self.reads_left.saturating_sub(1);
        input.reserve(READ_BYTES);
        // The runtime asks the kernel what has arrived only between tasks.
        yield_now().await;
        let read = unconstrained(reader.read_buf(input)).now_or_never();
        self.reads_left > 0 && matches!(read, Some(Ok(bytes)) if bytes > 0)
    }
}

/// How long what a peer still sends is read after our last reply.
const LINGER: Duration = Duration::from_millis(500);

/// Closes our side, then reads and drops what still comes: closing a socket that has unread
/// bytes would take back the replies that the peer has not read yet.
async fn close(
    writer: &mut (impl AsyncWrite + Unpin),
    reader: &mut (impl AsyncRead + Unpin),
    shutdown: &Shutdown,
) {
    let mut dropped = [0; READ_BYTES_MIN];
    let drain = async {
        if writer.shutdown().await.is_ok() {
            while reader.read(&mut dropped).await.is_ok_and(|bytes| bytes > 0) {}
        }
    };
    tokio::select! {
        () = shutdown.abandon.cancelled() => {}
        // A peer that goes on sending has had its time.
        _ = timeout(LINGER, drain) => {}
    }
}

/// The requests of a connection that are being answered.
struct Window<'a, C, H, S> {
    switch: &'a Switch<C, H, S>,
    session: &'a Session,
    in_flight: InFlight<'a>,
    /// Of the input.
    searched: Searched,
    ended: Option<Ended>,
}

impl<C: Clock, H: Hsm, S: Store> Window<'_, C, H, S> {
    fn has_room(&self) -> bool {
        self.in_flight.len() < self.switch.limits.in_flight_per_connection_max
    }

    /// Takes complete frames while there is room; `true` if there may be more of them.
    fn take(&mut self, input: &mut BytesMut, output: &mut Output) -> bool {
        while self.ended.is_none() && self.has_room() {
            let frames = self.session.link.frames;
            let bytes_max = self.switch.limits.frame_bytes_max;
            match frame::next_from(input, frames, bytes_max, &mut self.searched) {
                Ok(Some(frame)) => match frames.header.reject_code(&frame.header) {
                    None => self.begin(frame, output),
                    Some(code) => self.session.rejected(code),
                },
                Ok(None) => return false,
                Err(error) => self.end(error.into()),
            }
        }
        self.ended.is_none()
    }

    /// Takes no more frames. What is in flight goes on to its end, heard or not: it may be
    /// counting a wrong PIN.
    fn end(&mut self, reason: Ended) {
        self.ended.get_or_insert(reason);
    }

    /// Runs a request as far as it goes at once, and parks it if it has to wait.
    fn begin(&mut self, frame: Frame, output: &mut Output) {
        let mut reply = self.switch.respond(self.session, frame).boxed();
        self.session.metrics.in_flight.increment(1.0);
        match (&mut reply).now_or_never() {
            Some(reply) => self.accept(reply, output),
            None => self.in_flight.push(reply),
        }
    }

    fn accept(&mut self, reply: Finished, output: &mut Output) {
        self.session.metrics.in_flight.decrement(1.0);
        match reply {
            Ok(reply) => reply.into_iter().for_each(|reply| output.add(&reply)),
            Err(framing) => self.end(framing.into()),
        }
    }

    fn collect_ready(&mut self, output: &mut Output) {
        while let Some(Some(reply)) = self.in_flight.next().now_or_never() {
            self.accept(reply, output);
        }
    }
}

impl<C, H, S> Drop for Window<'_, C, H, S> {
    fn drop(&mut self) {
        let given_up = u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX);
        self.session.metrics.in_flight.decrement(f64::from(given_up));
    }
}

/// Replies on their way to the peer.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// Those that must not leave before the store has written what they speak of.
    resting_on_store: Vec<u8>,
    /// A write failed or was given up, perhaps within a frame: nothing more may follow it.
    broken: bool,
}

impl Output {
    fn add(&mut self, reply: &transaction::Reply) {
        let place = if reply.rests_on_store { &mut self.resting_on_store } else { &mut self.bytes };
        place.extend_from_slice(&reply.frame);
    }

    /// Writes what has gathered, after the store has it. If the store has failed, only what
    /// does not rest on it leaves: 91 for those who waited.
    async fn send<C: Clock, H: Hsm, S: Store>(
        &mut self,
        switch: &Switch<C, H, S>,
        writer: &mut (impl AsyncWrite + Unpin),
        shutdown: &Shutdown,
    ) -> Result<(), Ended> {
        if self.broken {
            (self.bytes, self.resting_on_store) = (Vec::new(), Vec::new());
        }
        if !self.resting_on_store.is_empty() {
            match switch.store.flush() {
                Ok(()) => self.bytes.append(&mut self.resting_on_store),
                Err(StoreFailed(_)) => self.resting_on_store.clear(),
            }
        }
        if !self.bytes.is_empty() {
            let write = timeout(switch.limits.write_seconds_max, writer.write_all(&self.bytes));
            let written = tokio::select! {
                biased;
                () = shutdown.abandon.cancelled() => Err(Ended::Stopped),
                written = write => match written {
                    Ok(written) => written.map_err(Ended::Io),
                    Err(_) => Err(Ended::SlowReader),
                },
            };
            self.bytes.clear();
            self.broken = written.is_err();
            return written;
        }
        Ok(())
    }
}

/// Serves a connection and says in the log why it ended, if there is a reason to know.
pub async fn serve_and_log<C: Clock, H: Hsm, S: Store>(
    switch: Arc<Switch<C, H, S>>,
    session: Session,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shutdown: Shutdown,
) {
    session.metrics.connections.increment(1.0);
    let ended = serve(&switch, &session, stream, &shutdown).await;
    session.metrics.connections.decrement(1.0);
    if let Err(reason) = ended {
        let (link, peer) = (&*session.link.name, &*session.peer);
        tracing::warn!(target: "connection", link, peer, %reason, "a connection was closed");
    }
}
