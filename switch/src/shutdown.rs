//! Stopping: one token that everything which accepts or reads watches, and one that ends what
//! is still in flight when the time for it is over.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// What asks the switch to stop: SIGTERM and SIGINT.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Watches for them from now on. A signal that comes during this call may be lost, so it is
    /// called before anybody can know that the switch runs.
    ///
    /// # Errors
    /// If the signals cannot be watched.
    pub fn watch() -> io::Result<StopSignals> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(StopSignals { terminate, interrupt })
    }

    /// Resolves at the next one.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
