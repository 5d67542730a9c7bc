//! Stopping: one token that everything which accepts or reads watches, and one that ends what
//! is still in flight when the time for it is over.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Both tokens.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled: nothing new is accepted or read.
    pub stop: CancellationToken,
    /// Cancelled: what is in flight is given up.
    pub abandon: CancellationToken,
}

impl Shutdown {
    /// One that follows this one.
    #[must_use]
    pub fn child(&self) -> Shutdown {
        Shutdown { stop: self.stop.child_token(), abandon: self.abandon.child_token() }
    }
}

/// Resolves at SIGTERM or SIGINT.
///
/// # Errors
/// If the signals cannot be watched.
pub async fn signalled() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
