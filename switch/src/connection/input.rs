//! What a peer sends: read in large pieces, held only until it is taken.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::ready;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::FutureExt;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::{unconstrained, yield_now};

use crate::clock::Clock;
use crate::frame::Searched;

thread_local! {
    /// Every read of a thread goes through one buffer, so that a connection that waits has none.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads of a connection after the switch was told to stop.
const DRAIN_READS_MAX: u32 = 16;

/// What was read and not taken yet: less than a frame, unless too many requests are in flight.
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    pub(super) searched: Searched,
    /// When the last of it was read, on the monotonic clock.
    pub(super) arrived: Duration,
    /// When the last whole frame was taken; before that, when the connection began.
    pub(super) busy: Duration,
    /// Whether a whole frame was ever taken.
    pub(super) has_message: bool,
    bytes_max: usize,
    drain_reads_left: u32,
}

impl Input {
    /// Reads at most `bytes_max` at a time.
    pub(super) fn new(bytes_max: usize, clock: &impl Clock) -> Input {
        Input {
            bytes: BytesMut::new(),
            searched: Searched::default(),
            arrived: Duration::ZERO,
            busy: clock.monotonic(),
            has_message: false,
            bytes_max,
            drain_reads_left: DRAIN_READS_MAX,
        }
    }

    /// Reads what is there, or waits for the first of it; `false` at the end of the stream.
    /// Nothing is lost if this is dropped before it is done.
    pub(super) async fn read(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        clock: &impl Clock,
    ) -> io::Result<bool> {
        // What was taken goes, so that less than a frame does not hold what a burst needed.
        self.bytes = BytesMut::from(&self.bytes[..]);
        let Input { bytes, bytes_max, .. } = self;
        let count = poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                buffer.resize(buffer.len().max(*bytes_max), 0);
                let mut read = ReadBuf::new(buffer.get_mut(..*bytes_max).unwrap_or_default());
                ready!(Pin::new(&mut *reader).poll_read(context, &mut read))?;
                bytes.extend_from_slice(read.filled());
                Ok::<_, io::Error>(read.filled().len()).into()
            })
        });
        let count = count.await?;
        self.arrived = clock.monotonic();
        Ok(count > 0)
    }

    /// What had arrived when the switch was told to stop is still answered. Reads what is there;
    /// `false` when there is nothing more, or when a peer that does not stop sending has had its
    /// share.
    pub(super) async fn drain(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
        clock: &impl Clock,
    ) -> bool {
        self.drain_reads_left = self.drain_reads_left.saturating_sub(1);
        // The runtime asks the kernel what has arrived only between tasks.
        yield_now().await;
        let read = unconstrained(self.read(reader, clock)).now_or_never();
        self.drain_reads_left > 0 && matches!(read, Some(Ok(true)))
    }
}
