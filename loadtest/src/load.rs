//! `run`: right PINs in a closed loop over several connections, and what came of them.

mod connection;
mod report;
mod template;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use iso_specs::{EncodeError, Spec};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

pub(crate) use report::Outcome;

use crate::cards::CARDS;
use crate::clock::Clock;
use crate::numbers::{Numbers, start_micros};
use connection::{Connection, Share};
use report::{NoHistogram, Tally};
use template::Template;

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What to send, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// At least one.
    pub(crate) connections: u16,
    /// Requests in flight on each connection.
    pub(crate) pipeline: usize,
    pub(crate) until: Until,
    /// At least one, at most one for each connection.
    pub(crate) threads: u16,
    /// How long is waited while no answer comes, and for the last answers.
    pub(crate) stragglers: Duration,
}

/// When sending ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After this many requests of all connections together.
    Requests(u64),
}

impl Until {
    /// What of it is for one of several connections.
    fn share(self, connection: u16, connections: u16) -> Until {
        let (connection, connections) = (u64::from(connection), u64::from(connections).max(1));
        match self {
            Until::Elapsed(time) => Until::Elapsed(time),
            Until::Requests(all) => {
                let rest = u64::from(connection < all % connections);
                Until::Requests(all / connections + rest)
            }
        }
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// Nobody is there.
    #[error("{address}: {source}; is the switch running?")]
    Connect { address: SocketAddr, source: io::Error },
    /// A request cannot be written in the dialect.
    #[error("a request cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// A request does not have the elements that change from one to the next.
    #[error("a request has no place for its numbers")]
    NoPlace,
    /// There is no room to measure in.
    #[error(transparent)]
    Histogram(#[from] NoHistogram),
    /// No thread or runtime.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A thread ended by itself.
    #[error("a connection was given up")]
    GivenUp,
}

/// Carries a plan out.
pub(crate) fn run(spec: Spec, plan: &Plan) -> Result<Outcome, LoadError> {
    let spec = Arc::new(spec);
    let mut templates = Vec::new();
    for card in CARDS {
        templates.push(Template::new(&spec, card)?);
    }
    let templates: Arc<[Template]> = templates.into();
    let streams =
        (0..plan.connections).map(|_| open(plan.address)).collect::<Result<Vec<_>, _>>()?;
    let clock = Clock::start();
    let first_number = start_micros(&clock);
    let mut threads: Vec<Vec<Connection>> = (0..plan.threads).map(|_| Vec::new()).collect();
    for (index, stream) in (0..).zip(streams) {
        let share = Share {
            spec: Arc::clone(&spec),
            templates: Arc::clone(&templates),
            clock,
            pipeline: plan.pipeline,
            until: plan.until.share(index, plan.connections),
            stragglers: plan.stragglers,
        };
        let numbers = Numbers::new(first_number, index, plan.connections);
        let connection = Connection::new(share, numbers, stream)?;
        if let Some(thread) = threads.get_mut(usize::from(index % plan.threads)) {
            thread.push(connection);
        }
    }
    Ok(Outcome { plan: *plan, tally: run_threads(threads)? })
}

fn open(address: SocketAddr) -> Result<TcpStream, LoadError> {
    let connect = || {
        let stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    connect().map_err(|source| LoadError::Connect { address, source })
}

fn run_threads(threads: Vec<Vec<Connection>>) -> Result<Tally, LoadError> {
    let mut tally = Tally::new()?;
    std::thread::scope(|scope| {
        let running: Vec<_> = threads
            .into_iter()
            .map(|connections| scope.spawn(|| run_connections(connections)))
            .collect();
        for thread in running {
            tally.add(&thread.join().map_err(|_| LoadError::GivenUp)??)?;
        }
        Ok(tally)
    })
}

/// Runs connections side by side on the thread that calls.
fn run_connections(connections: Vec<Connection>) -> Result<Tally, LoadError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut running: JoinSet<_> = connections.into_iter().map(Connection::drive).collect();
        let mut tally = Tally::new()?;
        while let Some(ended) = running.join_next().await {
            tally.add(&ended.map_err(|_| LoadError::GivenUp)??)?;
        }
        Ok(tally)
    })
}

#[cfg(test)]
mod tests;
