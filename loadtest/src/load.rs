//! `run`: right and wrong PINs over several connections, and what came of them.

mod chips;
mod connection;
mod mix;
mod report;
mod template;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use iso_specs::{EncodeError, Spec};

pub(crate) use chips::ChipUse;
pub(crate) use report::Outcome;

use crate::clock::Clock;
use crate::latency::NoHistogram;
use crate::numbers::{Numbers, start_micros};
use chips::Chips;
use mix::{Deck, Mix};
use report::Tally;
use template::Template;
use worker::{Shared, Worker};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What to send, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// At least one.
    pub(crate) connections: u16,
    /// Most requests in flight on each connection.
    pub(crate) pipeline: usize,
    pub(crate) until: Until,
    /// At least one, at most one for each connection; one with a rate.
    pub(crate) threads: u16,
    /// Open loop: so many requests a second over all connections. Closed loop without.
    pub(crate) rate: Option<u32>,
    /// So many seeded cards in place of the four of the demo.
    pub(crate) cards: Option<u32>,
    /// From 0 to 50, and 0 without seeded cards.
    pub(crate) wrong_pins_percent: f64,
    /// What the chips of the seeded cards do, and ATC of the first transaction of each.
    pub(crate) chips: Option<(ChipUse, u16)>,
    /// What the draws of wrong PINs begin from.
    pub(crate) seed: u64,
    /// Name of the dialect, for the report.
    pub(crate) dialect: &'static str,
    /// The other side gives every request back.
    pub(crate) echo: bool,
    /// How long is waited while no answer comes, and for the last answers.
    pub(crate) stragglers: Duration,
}

impl Plan {
    /// How many seeded cards it needs: one for each thread, and where PINs are wrong, one more
    /// than can be in flight, because a card in flight does not come again.
    pub(crate) fn cards_min(&self) -> u64 {
        let threads = u64::from(self.threads.max(1));
        let in_flight = if self.wrong_pins_percent > 0.0 {
            let pipeline = u64::try_from(self.pipeline).unwrap_or(u64::MAX);
            u64::from(self.connections).div_ceil(threads).saturating_mul(pipeline)
        } else {
            0
        };
        in_flight.saturating_add(1).saturating_mul(threads)
    }

    /// The cards of one thread.
    fn deck(&self, thread: u16) -> Deck {
        let Some(cards) = self.cards else { return Deck::Demo };
        let part = |thread: u16| {
            let end = u64::from(cards) * u64::from(thread) / u64::from(self.threads.max(1));
            u32::try_from(end).unwrap_or(cards)
        };
        Deck::Seeded(Range { start: part(thread), end: part(thread.saturating_add(1)) })
    }
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

    /// How many requests that are at a rate.
    fn requests_at(self, rate: u32) -> u64 {
        match self {
            Until::Elapsed(time) => time.as_secs().saturating_mul(rate.into()),
            Until::Requests(requests) => requests,
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
    /// The system refused to wait.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A thread ended by itself.
    #[error("a thread was given up")]
    GivenUp,
}

/// Carries a plan out.
pub(crate) fn run(spec: Spec, plan: &Plan) -> Result<Outcome, LoadError> {
    let template = Template::new(&spec, plan.chips.map(|(kind, _)| kind))?;
    let streams =
        (0..plan.connections).map(|_| open(plan.address)).collect::<Result<Vec<_>, _>>()?;
    let mixes: Vec<Mix> = (0..plan.threads)
        .map(|thread| {
            let seed = plan.seed.wrapping_add(thread.into());
            let deck = plan.deck(thread);
            let chips = plan.chips.map(|(kind, from)| Chips::new(kind, deck.len(), from, seed));
            Mix::new(deck, plan.wrong_pins_percent / 100.0, seed).with_chips(chips)
        })
        .collect();
    let shared = Shared { spec, template, plan: plan.clone(), clock: Clock::start() };
    let first_number = start_micros(&shared.clock);
    let mut workers = Vec::new();
    for (thread, mix) in (0..).zip(mixes) {
        let numbers = Numbers::new(first_number, thread, plan.threads);
        workers.push(Worker::new(&shared, mix, numbers, Tally::new()?));
    }
    for (index, stream) in (0..).zip(&streams) {
        if let Some(worker) = workers.get_mut(usize::from(index % plan.threads)) {
            worker.connect(stream, plan.until.share(index, plan.connections));
        }
    }
    Ok(Outcome { plan: plan.clone(), tally: drive(workers)? })
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

fn drive(workers: Vec<Worker<'_>>) -> Result<Tally, LoadError> {
    let mut tally = Tally::new()?;
    std::thread::scope(|scope| {
        let running: Vec<_> =
            workers.into_iter().map(|worker| scope.spawn(|| worker.drive())).collect();
        for thread in running {
            tally.add(&thread.join().map_err(|_| LoadError::GivenUp)??)?;
        }
        Ok(tally)
    })
}

#[cfg(test)]
mod tests;
