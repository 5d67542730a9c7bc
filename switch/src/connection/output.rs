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
    bytes: Vec<u8>,
    written: usize,
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

    /// Whether everything that may leave has left.
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

    /// Writes a part as soon as the peer takes one. Nothing was written if this is dropped
    /// before it is done.
    pub(super) async fn write(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Ended> {
        let rest = self.bytes.get(self.written..).unwrap_or_default();
        let written = match writer.write(rest).await {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        };
        self.written += written.map_err(|error| self.broken(error.into()))?;
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
