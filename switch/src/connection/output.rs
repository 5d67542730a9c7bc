//! Replies on their way to the peer.

use std::io;
use std::time::Duration;

use futures_util::future::FutureExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::Ended;
use crate::clock::Clock;
use crate::store::Store;
use crate::transaction::Reply;

/// Replies that have not left yet.
#[derive(Default)]
pub(super) struct Output {
    /// Those that may leave. They are dropped only when the stream has passed them on: one that
    /// encrypts takes bytes and keeps them while its own socket takes none.
    bytes: Vec<u8>,
    /// How many of these bytes the stream has taken.
    written: usize,
    /// Whether the stream may still keep some of them.
    is_unflushed: bool,
    /// Those that must not leave before the store has written what they speak of.
    resting_on_store: Vec<u8>,
    /// Since when the peer has taken nothing, on the monotonic clock.
    stalled: Option<Duration>,
    /// A write failed or was given up, perhaps within a frame: nothing more may follow it.
    is_broken: bool,
}

impl Output {
    pub(super) fn add(&mut self, reply: &Reply) {
        if self.is_broken {
            return;
        }
        let place = if reply.rests_on_store { &mut self.resting_on_store } else { &mut self.bytes };
        place.extend_from_slice(&reply.frame);
    }

    /// Whether everything that may leave has left: written, and passed on by the stream.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether some of it waits for [`Output::release`].
    pub(super) const fn rests_on_store(&self) -> bool {
        !self.resting_on_store.is_empty()
    }

    /// Lets go what rests on the store, after the store has it. If the store has failed, only
    /// what does not rest on it leaves: 91 for those who waited.
    pub(super) fn release(&mut self, store: &impl Store) {
        match store.flush() {
            Ok(()) if !self.is_broken => self.bytes.append(&mut self.resting_on_store),
            Ok(()) | Err(_) => self.resting_on_store.clear(),
        }
        self.resting_on_store.shrink_to(IDLE_BYTES);
    }

    /// Writes what the peer takes at once.
    pub(super) fn write_now(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Ended> {
        while !self.is_empty() {
            match self.write(writer).now_or_never() {
                Some(written) => written?,
                None => break,
            }
        }
        Ok(())
    }

    /// Does the next step as soon as the peer lets it: writes a part, or flushes what was written.
    /// Nothing was written if this is dropped before it is done.
    pub(super) async fn write(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Ended> {
        if self.is_unflushed {
            return self.flush(writer).await;
        }
        let rest = self.bytes.get(self.written..).unwrap_or_default();
        debug_assert!(!rest.is_empty(), "who has nothing to write does not come here");
        let written = match writer.write(rest).await {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        };
        self.written += written.map_err(|error| self.broken(error.into()))?;
        self.is_unflushed = true;
        Ok(())
    }

    /// The peer has taken what was written only when this is done.
    async fn flush(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), Ended> {
        writer.flush().await.map_err(|error| self.broken(error.into()))?;
        self.is_unflushed = false;
        self.stalled = None;
        if self.written >= self.bytes.len() {
            // A connection that waits holds no buffer of a burst.
            self.bytes.clear();
            self.bytes.shrink_to(IDLE_BYTES);
            self.written = 0;
        }
        Ok(())
    }

    /// The same, for a peer that may leave its replies for `limit`.
    pub(super) async fn write_within(
        &mut self,
        limit: Duration,
        writer: &mut (impl AsyncWrite + Unpin),
        clock: &impl Clock,
    ) -> Result<(), Ended> {
        let now = clock.monotonic();
        let since = *self.stalled.get_or_insert(now);
        let left = limit.saturating_sub(now.saturating_sub(since));
        let written = timeout(left, self.write(writer)).await;
        written.unwrap_or_else(|_| Err(self.broken(Ended::SlowReader)))
    }

    /// The switch does not wait any longer.
    pub(super) fn abandoned(&mut self) -> Result<(), Ended> {
        let all_left = self.is_empty();
        if all_left { Ok(()) } else { Err(self.broken(Ended::Stopped)) }
    }

    /// The connection is of no use any more: nothing follows.
    pub(super) fn broken(&mut self, reason: Ended) -> Ended {
        self.is_broken = true;
        self.bytes.clear();
        reason
    }
}

/// Room that is kept between two writes, in bytes.
const IDLE_BYTES: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, BufWriter, duplex};

    use super::*;
    use crate::clock::SystemClock;

    fn output(bytes: &[u8]) -> Output {
        Output { bytes: bytes.to_vec(), ..Output::default() }
    }

    /// As one that encrypts does, it takes all at once and passes it on only when it is flushed.
    #[tokio::test]
    async fn a_stream_that_buffers_passes_every_reply_on() {
        let (ours, mut theirs) = duplex(64);
        let mut writer = BufWriter::with_capacity(1 << 10, ours);
        let mut output = output(b"a reply");
        output.write_now(&mut writer).unwrap();
        assert!(output.is_empty());
        let mut read = [0; 7];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"a reply");
    }

    #[tokio::test]
    async fn what_a_stream_has_taken_and_keeps_has_not_left() {
        let (ours, mut theirs) = duplex(4);
        let mut writer = BufWriter::with_capacity(1 << 10, ours);
        let mut output = output(b"a reply");
        output.write_now(&mut writer).unwrap();
        assert!(!output.is_empty(), "the peer has room for four bytes");
        let mut read = [0; 7];
        let (written, taken) =
            tokio::join!(output.write(&mut writer), theirs.read_exact(&mut read));
        written.unwrap();
        taken.unwrap();
        assert!(output.is_empty());
        assert_eq!(&read, b"a reply");
    }

    /// However much the stream itself takes, a peer that reads nothing has its time, and no more.
    #[tokio::test]
    async fn a_slow_reader_behind_a_stream_that_buffers_is_seen() {
        let (ours, _theirs) = duplex(4);
        let mut writer = BufWriter::with_capacity(1 << 10, ours);
        let mut output = output(b"a reply");
        let limit = Duration::from_millis(50);
        let ended = loop {
            output.bytes.extend_from_slice(b"another");
            if let Err(ended) = output.write_within(limit, &mut writer, &SystemClock).await {
                break ended;
            }
        };
        assert!(matches!(ended, Ended::SlowReader) && output.is_broken);
    }
}
