//! Accepting connections, and the threads that serve them. One acceptor gives each connection to
//! the thread with the fewest: a network has a handful of long-lived links, which the kernel
//! would spread badly.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::LinkConfig;
use crate::connection::serve_and_log;
use crate::hsm::Hsm;
use crate::metrics::LinkMetrics;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::switch::{InFlight, Session, Switch};

/// Pause after a failed accept, for example when there are no file descriptors left.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The threads that serve connections.
pub struct Workers {
    workers: Vec<Worker>,
    /// The connections of all of them.
    connections: TaskTracker,
}

struct Worker {
    accepted: mpsc::UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
}

struct Accepted {
    stream: std::net::TcpStream,
    session: Session,
    counted: Counted,
}

/// One open connection of a worker, for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Counted {
        open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start<C: Clock, H: Hsm, S: Store>(
        switch: &Arc<Switch<C, H, S>>,
        shutdown: &Shutdown,
    ) -> io::Result<Workers> {
        let connections = TaskTracker::new();
        let start = |number: usize| {
            let (accepted, receiver) = mpsc::unbounded_channel();
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let switch = Arc::clone(switch);
            let (shutdown, tracker) = (shutdown.clone(), connections.clone());
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || runtime.block_on(work(switch, receiver, shutdown, tracker)))?;
            Ok(Worker { accepted, open: Arc::default() })
        };
        let workers = (0..switch.limits.threads).map(start).collect::<io::Result<_>>()?;
        Ok(Workers { workers, connections })
    }

    fn open(&self) -> usize {
        self.workers.iter().map(|worker| worker.open.load(Ordering::Relaxed)).sum()
    }

    fn give(&self, stream: TcpStream, session: Session) -> io::Result<()> {
        let least = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        let Some(worker) = least else { return Ok(()) };
        stream.set_nodelay(true)?;
        let counted = Counted::new(&worker.open);
        let accepted = Accepted { stream: stream.into_std()?, session, counted };
        // Fails only when the worker has ended, and then the switch is stopping.
        let _ = worker.accepted.send(accepted);
        Ok(())
    }

    /// Waits until every connection has ended.
    pub async fn ended(&self) {
        self.connections.close();
        self.connections.wait().await;
    }
}

async fn work<C: Clock, H: Hsm, S: Store>(
    switch: Arc<Switch<C, H, S>>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    shutdown: Shutdown,
    connections: TaskTracker,
) {
    while let Some(Accepted { stream, session, counted }) = accepted.recv().await {
        let (switch, shutdown) = (Arc::clone(&switch), shutdown.clone());
        connections.spawn(async move {
            let _counted = counted;
            match TcpStream::from_std(stream) {
                Ok(stream) => serve_and_log(switch, session, stream, shutdown).await,
                Err(error) => tracing::error!(%error, "a connection could not be taken over"),
            }
        });
    }
}

/// A link that listens.
pub struct Listening {
    listener: TcpListener,
    link: Arc<LinkConfig>,
    metrics: Arc<LinkMetrics>,
    in_flight: Arc<InFlight>,
}

impl Listening {
    /// Binds the link's address.
    ///
    /// # Errors
    /// If the address cannot be bound; the text names link and address.
    pub async fn bind(link: &Arc<LinkConfig>) -> io::Result<Listening> {
        let listener = TcpListener::bind(link.listen).await.map_err(|error| {
            let text = format!("link {}: {}: {error}", link.name, link.listen);
            io::Error::new(error.kind(), text)
        })?;
        let metrics = LinkMetrics::new(&link.network, &link.name);
        Ok(Listening { listener, link: Arc::clone(link), metrics, in_flight: Arc::default() })
    }

    /// Where it really listens: port 0 in the configuration takes any free port.
    ///
    /// # Errors
    /// As of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its configuration.
    #[must_use]
    pub fn link(&self) -> &LinkConfig {
        &self.link
    }

    /// Accepts connections until the switch stops.
    pub async fn accept<C: Clock, H: Hsm, S: Store>(
        self,
        switch: Arc<Switch<C, H, S>>,
        workers: Arc<Workers>,
        shutdown: Shutdown,
    ) {
        let mut pace = Pace::new(switch.limits.connections_per_second_max);
        loop {
            let accepted = tokio::select! {
                () = shutdown.stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            if let Some(pause) = pace.take(switch.clock.monotonic()) {
                tokio::time::sleep(pause).await;
            }
            let given = accepted.and_then(|(stream, peer)| {
                if workers.open() >= switch.limits.connections_max {
                    switch.metrics.connection_refused();
                    return Ok(());
                }
                let (link, metrics) = (Arc::clone(&self.link), Arc::clone(&self.metrics));
                let in_flight = Arc::clone(&self.in_flight);
                workers.give(stream, Session::new(link, metrics, in_flight, &peer.to_string()))
            });
            if let Err(error) = given {
                let link = &*self.link.name;
                tracing::warn!(target: "connection", link, %error, "it was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Spreads connections over time, so that a storm of them leaves the processors to the requests.
struct Pace {
    per_interval: u32,
    taken: u32,
    /// On the monotonic clock.
    began: Duration,
}

/// So many intervals are a second.
const PACE_INTERVALS: u32 = 100;

impl Pace {
    fn new(per_second: u32) -> Pace {
        Pace { per_interval: per_second.div_ceil(PACE_INTERVALS), taken: 0, began: Duration::ZERO }
    }

    /// Takes a place in the interval of `now`; if that is full, in the next one, after a pause.
    fn take(&mut self, now: Duration) -> Option<Duration> {
        let interval = Duration::from_secs(1) / PACE_INTERVALS;
        let passed = now.saturating_sub(self.began);
        if passed >= interval {
            (self.began, self.taken) = (now, 0);
        }
        self.taken += 1;
        let is_full = self.taken > self.per_interval;
        if is_full {
            (self.began, self.taken) = (self.began + interval, 1);
        }
        is_full.then(|| self.began.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_spread_over_time() {
        let mut pace = Pace::new(1_000);
        let mut now = Duration::from_secs(100);
        let mut taken = Vec::new();
        for _ in 0..101 {
            now += pace.take(now).unwrap_or_default();
            taken.push((now - Duration::from_secs(100)).as_millis());
        }
        // Ten at once in each hundredth of a second.
        let expected = (0..101).map(|number| number / 10 * 10).collect::<Vec<_>>();
        assert_eq!(taken, expected);
        // Who comes slowly never waits.
        let slowly = (1..100).map(|number| now + Duration::from_millis(number));
        assert!(slowly.into_iter().all(|now| pace.take(now).is_none()));
    }
}
