//! Stopping: one token that everything which accepts or reads watches, and one that ends what
//! is still in flight when the time for it is over.

use std::future::pending;
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

/// What asks the switch to stop: SIGTERM, SIGINT and SIGHUP.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Absent where whoever started the switch ignores it, as `nohup` does.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Watches for them from now on. A signal that comes during this call may be lost, so it is
    /// called before anybody can know that the switch runs.
    ///
    /// # Errors
    /// If the signals cannot be watched.
    pub fn watch() -> io::Result<StopSignals> {
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(StopSignals { terminate, interrupt, hangup })
    }

    /// Resolves at the next one that insists, once the switch stops: a shell that ends sends SIGHUP
    /// more than once.
    pub async fn insisted(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Resolves at the next one.
    pub async fn received(&mut self) {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hung_up => {}
        }
    }
}

/// Whether SIGHUP was ignored when this process began: watching it would undo that.
fn ignores_hangup() -> bool {
    // Where there is no such file, nobody ignores it.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = 1 << (SignalKind::hangup().as_raw_value() - 1);
    ignored.is_some_and(|mask| mask & bit != 0)
}
