//! Accepting connections, and the threads that serve them. One acceptor gives each connection to
//! the thread with the fewest: a network has a handful of long-lived links, which the kernel
//! would spread badly.

mod admission;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::Counter;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use crate::cache::BadPinBlocks;
use crate::clock::Clock;
use crate::config::LinkConfig;
use crate::connection::serve_and_log;
use crate::in_flight::InFlight;
use crate::metrics::{DoorMetrics, LinkMetrics};
use crate::session::Session;
use crate::shutdown::Shutdown;
use crate::switch::{Seams, Switch};
pub use admission::Refused;
pub(crate) use admission::Shares;
use admission::{Admission, Place};

/// Pause after a failed accept, for example when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What peers can cause in any number is said at most this often.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// When the same thing was last said in the log, and how often it was not said since.
#[derive(Default)]
pub(crate) struct Said {
    next: Duration,
    unsaid: u64,
}

impl Said {
    /// How many were not said since the last one, if this one is to be said now.
    fn again(&mut self, now: Duration) -> Option<u64> {
        if now < self.next {
            self.unsaid += 1;
            return None;
        }
        self.next = now + SAID_EVERY;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// What a listener does when the system gives it no connection: every such error passes, a lack
/// of descriptors or of memory as well as a peer that has gone, so it waits and tries again.
pub(crate) struct Failures {
    listener: Box<str>,
    counter: Counter,
    said: Said,
}

impl Failures {
    pub(crate) fn new(listener: &str, counter: Counter) -> Failures {
        Failures { listener: listener.into(), counter, said: Said::default() }
    }

    /// Counts and says one, and waits.
    pub(crate) async fn pause(&mut self, error: &io::Error, clock: &impl Clock) {
        self.counter.increment(1);
        if let Some(unsaid) = self.said.again(clock.monotonic()) {
            let listener = &*self.listener;
            let text = "no connection can be accepted; it is tried again";
            tracing::error!(listener, %error, unsaid, "{text}");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// A door beside the links: so many connections at most, so that whoever can reach it does not
/// take the file descriptors of the links.
pub(crate) struct Door {
    places: Arc<Semaphore>,
    metrics: Arc<DoorMetrics>,
    failures: Failures,
    refused: Said,
}

impl Door {
    pub(crate) fn new(connections_max: usize, metrics: &Arc<DoorMetrics>) -> Door {
        Door {
            places: Arc::new(Semaphore::new(connections_max)),
            metrics: Arc::clone(metrics),
            failures: Failures::new(metrics.name, metrics.accept_failures.clone()),
            refused: Said::default(),
        }
    }

    /// The connection that was accepted, with its place for as long as it lives; `None` if there
    /// is no place for it, or none came.
    pub(crate) async fn enter<T>(
        &mut self,
        accepted: io::Result<T>,
        clock: &impl Clock,
    ) -> Option<(T, OwnedSemaphorePermit)> {
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                self.failures.pause(&error, clock).await;
                return None;
            }
        };
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some((connection, place));
        }
        self.refuse(clock);
        None
    }

    /// Counts and says that a connection is closed at once.
    pub(crate) fn refuse(&mut self, clock: &impl Clock) {
        self.metrics.refused.increment(1);
        if let Some(unsaid) = self.refused.again(clock.monotonic()) {
            let door = self.metrics.name;
            let text = "too many connections: one was closed at once";
            tracing::warn!(target: "connection", door, unsaid, "{text}");
        }
    }
}

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
    place: Place,
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
    pub fn start<W: Seams>(switch: &Arc<Switch<W>>, shutdown: &Shutdown) -> io::Result<Workers> {
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

    fn give(&self, stream: TcpStream, session: Session, place: Place) -> io::Result<()> {
        let least = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        let Some(worker) = least else { return Ok(()) };
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let counted = Counted::new(&worker.open);
        let accepted = Accepted { stream: stream.into_std()?, session, place, counted };
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

/// How long a peer may be silent before the kernel asks whether it is still there, how often it
/// asks, and how many times without an answer before the connection is over. A peer whose way was
/// cut without a word would otherwise keep its places until it is idle for too long.
const SILENT: Duration = Duration::from_secs(60);
const ASKED_AGAIN: Duration = Duration::from_secs(10);
const ASKED_TIMES: u32 = 3;

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(stream, SILENT)?;
    sockopt::set_tcp_keepintvl(stream, ASKED_AGAIN)?;
    sockopt::set_tcp_keepcnt(stream, ASKED_TIMES)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

async fn work<W: Seams>(
    switch: Arc<Switch<W>>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    shutdown: Shutdown,
    connections: TaskTracker,
) {
    while let Some(Accepted { stream, session, place, counted }) = accepted.recv().await {
        let (switch, shutdown) = (Arc::clone(&switch), shutdown.clone());
        connections.spawn(async move {
            let _held = (place, counted);
            match TcpStream::from_std(stream) {
                Ok(stream) => serve_and_log(switch, session, stream, shutdown).await,
                Err(error) => tracing::error!(%error, "a connection could not be taken over"),
            }
        });
    }
}

/// Connections that may wait in the kernel to be accepted, as far as its own limit allows.
const BACKLOG: u32 = 4_096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A link that listens.
pub struct Listening {
    listener: TcpListener,
    link: Arc<LinkConfig>,
    metrics: Arc<LinkMetrics>,
    in_flight: Arc<InFlight>,
    bad_pin_blocks: Arc<BadPinBlocks>,
}

impl Listening {
    /// Binds the link's address.
    ///
    /// # Errors
    /// If the address cannot be bound; the text names link and address.
    pub async fn bind(link: &Arc<LinkConfig>) -> io::Result<Listening> {
        let listener = listen(link.listen).map_err(|error| {
            let text = format!("link {}: {}: {error}", link.name, link.listen);
            io::Error::new(error.kind(), text)
        })?;
        let metrics = LinkMetrics::new(&link.network, &link.name);
        let (in_flight, bad_pin_blocks) = Default::default();
        Ok(Listening { listener, link: Arc::clone(link), metrics, in_flight, bad_pin_blocks })
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

    /// Accepts connections until the switch stops: all that come, so that none waits in the
    /// kernel's queue behind those of others.
    pub async fn accept<W: Seams>(
        self,
        switch: Arc<Switch<W>>,
        workers: Arc<Workers>,
        shutdown: Shutdown,
    ) {
        let per_second = switch.limits.connections_per_second_max;
        let admission = Admission::new(&self.link, per_second);
        let mut failures = Failures::new(&self.link.name, self.metrics.accept_failures.clone());
        let mut refusals = Refusals::default();
        loop {
            let accepted = tokio::select! {
                () = shutdown.stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    failures.pause(&error, &switch.clock).await;
                    continue;
                }
            };
            // A listener of IPv6 sees an IPv4 address in its IPv6 form.
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            let now = switch.clock.monotonic();
            let (place, pause) = match admission.admit(peer.ip(), now) {
                Ok(admitted) => admitted,
                Err(refused) => {
                    self.metrics.refused(refused.name());
                    refusals.say(refused, &self.link.name, peer.ip(), now);
                    continue;
                }
            };
            let (link, metrics) = (Arc::clone(&self.link), Arc::clone(&self.metrics));
            let (in_flight, blocks) = (self.in_flight.clone(), self.bad_pin_blocks.clone());
            let session = Session::new(link, metrics, in_flight, blocks, &peer.to_string());
            let (switch, workers) = (Arc::clone(&switch), Arc::clone(&workers));
            let stop = shutdown.stop.clone();
            tokio::spawn(async move {
                let waiting = session.metrics.waiting.clone();
                waiting.increment(1.0);
                let turn = stop.run_until_cancelled(turn(&switch.clock, &place, pause)).await;
                waiting.decrement(1.0);
                if turn.is_some() {
                    // Fails for a peer that has gone already.
                    let _ = workers.give(stream, session, place);
                }
            });
        }
    }
}

/// Waits until a connection may be served: first behind those of its own address, then behind
/// those of all, and nearly always not at all.
async fn turn(clock: &impl Clock, place: &Place, pause: Option<Duration>) {
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
    if let Some(pause) = place.turn(clock.monotonic()) {
        tokio::time::sleep(pause).await;
    }
}

/// What was said of connections that were closed at once, for each reason.
#[derive(Default)]
struct Refusals([Said; Refused::ALL.len()]);

impl Refusals {
    fn say(&mut self, refused: Refused, link: &str, peer: IpAddr, now: Duration) {
        for (known, said) in Refused::ALL.iter().zip(&mut self.0) {
            if *known == refused
                && let Some(unsaid) = said.again(now)
            {
                let (text, reason) = ("a connection was closed at once", refused.name());
                tracing::warn!(target: "connection", link, %peer, reason, unsaid, "{text}");
            }
        }
    }
}
