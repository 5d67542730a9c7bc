//! What a peer sends may be a PIN. hyper reads it into buffers of its own and never wipes them: so
//! each piece of a body is held here until hyper has let go of its buffer, and is wiped then, with
//! all that stands behind it in the same buffer.
//!
//! hyper takes a new buffer before each read while a piece of the last one is held. So what was
//! read is wiped at the next read of the connection, which begins when a call is answered, or at
//! the connection's end. What the kernel still holds, nobody here can wipe. Nor what rustls holds:
//! over TLS, what it has decrypted passes through buffers of its own, which it uses again but does
//! not wipe.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use zeroize::Zeroize;

/// Pieces that are held of one connection: above it, those that others still share are given up.
/// Usually there is one.
const PIECES_MAX: usize = 64;

/// How long the rest of a body that nobody has read is waited for. What has arrived comes at once.
const REST_WAIT: Duration = Duration::from_millis(20);

/// The pieces of bodies that came over a connection, the oldest first.
#[derive(Clone, Default)]
pub(super) struct Pieces(Arc<Mutex<Vec<Bytes>>>);

impl Pieces {
    fn hold(&self, piece: Bytes) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.push(piece);
        if held.len() > PIECES_MAX {
            wipe_all(&mut held);
        }
    }

    /// Wipes those whose buffer nobody else has.
    fn wipe(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain_mut(|piece| match wipe(std::mem::take(piece)) {
            Ok(()) => false,
            Err(shared) => {
                *piece = shared;
                true
            }
        });
    }

    /// Wipes all of them, when hyper has gone.
    pub(super) fn end(&self) {
        wipe_all(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// From the newest on, so that of several in one buffer the oldest is left alone with it: what is
/// wiped with that one are the others too.
fn wipe_all(held: &mut Vec<Bytes>) {
    while let Some(piece) = held.pop() {
        drop(wipe(piece));
    }
}

/// Wipes a piece and what stands behind it in its buffer, or gives it back where somebody else has
/// the buffer too.
fn wipe(piece: Bytes) -> Result<(), Bytes> {
    let mut memory = piece.try_into_mut()?;
    memory.resize(memory.capacity(), 0);
    memory.as_mut().zeroize();
    Ok(())
}

/// The body of a call, each piece of which is held.
pub(super) struct HeldBody {
    body: Arc<Mutex<Incoming>>,
    pieces: Pieces,
}

impl HeldBody {
    pub(super) fn new(body: Incoming, pieces: Pieces) -> HeldBody {
        HeldBody { body: Arc::new(Mutex::new(body)), pieces }
    }

    /// The same body, for who reads what is left of it.
    pub(super) fn share(&self) -> HeldBody {
        HeldBody { body: Arc::clone(&self.body), pieces: self.pieces.clone() }
    }

    /// Reads what a call has left unread, as far as it has arrived: hyper would drop it unwiped.
    pub(super) async fn read_rest(mut self, bytes_max: usize) {
        let rest = async {
            let mut read = 0;
            while read <= bytes_max && !self.is_end_stream() {
                let next = std::future::poll_fn(|context| Pin::new(&mut self).poll_frame(context));
                let Some(Ok(frame)) = next.await else { return };
                read += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        // In all, or a peer that sends it slowly would keep its place for as long.
        let _ = timeout(REST_WAIT, rest).await;
    }
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if let Some(piece) = frame.iter().flatten().find_map(Frame::data_ref) {
            self.pieces.hold(piece.clone());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// A connection whose pieces are wiped before each read.
pub(super) struct WipingStream<S> {
    pub(super) stream: S,
    pub(super) pieces: Pieces,
}

impl<S: AsyncRead + Unpin> AsyncRead for WipingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pieces.wipe();
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WipingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    /// hyper copies no body together with its head then.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn a_piece_is_held_until_nobody_else_has_its_buffer() {
        let mut buffer = BytesMut::with_capacity(64);
        buffer.extend_from_slice(b"head5803rest");
        let head = buffer.split_to(4).freeze();
        let pieces = Pieces::default();
        pieces.hold(buffer.split_to(4).freeze());
        pieces.wipe();
        assert_eq!(pieces.0.lock().unwrap().len(), 1);
        drop(buffer);
        pieces.wipe();
        assert_eq!(pieces.0.lock().unwrap().len(), 1);
        drop(head);
        pieces.wipe();
        assert!(pieces.0.lock().unwrap().is_empty());
    }

    #[test]
    fn several_pieces_of_one_buffer_are_wiped_at_the_end() {
        let mut buffer = BytesMut::with_capacity(64);
        buffer.extend_from_slice(b"one-two-");
        let pieces = Pieces::default();
        for _ in 0..2 {
            pieces.hold(buffer.split_to(4).freeze());
        }
        drop(buffer);
        pieces.wipe();
        assert_eq!(pieces.0.lock().unwrap().len(), 2);
        pieces.end();
        assert!(pieces.0.lock().unwrap().is_empty());
    }
}
