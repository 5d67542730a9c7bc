//! One thread of the generator: sends what is due, writes, reads what is there, waits. A single
//! thread carries all connections of an open loop, so that the other cores are the switch's.
//!
//! In a closed loop a connection sends when its window has room. In an open loop a request is
//! sent when it is due, whatever became of those before it: its latency counts from then. One
//! that would not fit the window of its connection is not sent but counted, because the switch
//! does not keep up; the schedule goes on.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use iso_specs::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Broken, Connection};
use super::mix::{Mix, Pick};
use super::report::Tally;
use super::template::Template;
use super::{Plan, Until};
use crate::clock::{Clock, TransmissionTime, thread_cpu};
use crate::numbers::Numbers;
use crate::pacer::Pacer;

/// Most requests that a connection has in flight while cards get their right PIN at the end.
const SETTLING_IN_FLIGHT: usize = 64;

/// From the making of the schedule to its first request, which would be late otherwise.
const SETTING_OUT: Duration = Duration::from_millis(1);

/// What all threads of a run share.
pub(super) struct Shared {
    pub(super) spec: Spec,
    pub(super) template: Template,
    pub(super) plan: Plan,
    pub(super) clock: Clock,
}

/// What is being done.
enum Phase {
    Closed,
    Open(Pacer),
    /// Cards whose last PIN was wrong get the right one. Not measured.
    Settling,
}

/// A thread with its connections and cards.
pub(super) struct Worker<'a> {
    shared: &'a Shared,
    connections: Vec<Connection<'a>>,
    mix: Mix,
    numbers: Numbers,
    phase: Phase,
    tally: Tally,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared, mix: Mix, numbers: Numbers, tally: Tally) -> Worker<'a> {
        let phase = match (shared.plan.rate, shared.plan.until) {
            (Some(rate), until) => {
                let total = until.requests_at(rate);
                Phase::Open(Pacer::new(shared.clock.elapsed() + SETTING_OUT, rate, total))
            }
            (None, _) => Phase::Closed,
        };
        Worker { shared, connections: Vec::new(), mix, numbers, phase, tally }
    }

    /// Adds a non-blocking connection, which sends so many requests in a closed loop.
    pub(super) fn connect(&mut self, stream: &'a TcpStream, until: Until) {
        let left = match until {
            Until::Requests(requests) => requests,
            Until::Elapsed(_) => u64::MAX,
        };
        self.connections.push(Connection::new(stream, left));
    }

    /// Sends and receives until all is done or nothing comes any more.
    pub(super) fn drive(mut self) -> io::Result<Tally> {
        let (start, cpu) = (self.shared.clock.elapsed(), thread_cpu());
        self.exchange()?;
        let spent = thread_cpu().saturating_sub(cpu);
        self.tally.worked(spent, self.shared.clock.elapsed().saturating_sub(start));
        if let Phase::Open(pacer) = &self.phase {
            self.tally.not_sent(pacer.left());
        }
        // An echo counts no PINs.
        if self.in_flight() == 0 && !self.shared.plan.echo {
            self.phase = Phase::Settling;
            self.exchange()?;
        }
        self.tally.missing(self.in_flight());
        Ok(self.tally)
    }

    fn in_flight(&self) -> usize {
        self.connections.iter().map(Connection::in_flight).sum()
    }

    fn exchange(&mut self) -> io::Result<()> {
        let mut polls = Vec::new();
        let mut was_sending = true;
        let mut waiting_since = self.shared.clock.elapsed();
        loop {
            let now = self.shared.clock.elapsed();
            let is_sending = self.fill(now);
            self.write();
            let waits = self.in_flight() > 0;
            if !is_sending && !waits {
                return Ok(());
            }
            if !waits || (was_sending && !is_sending) {
                waiting_since = now;
            }
            was_sending = is_sending;
            let patience =
                self.shared.plan.stragglers.saturating_sub(now.saturating_sub(waiting_since));
            if patience.is_zero() {
                return Ok(());
            }
            self.wait(&mut polls, patience)?;
            if self.read(&polls) && is_sending {
                waiting_since = self.shared.clock.elapsed();
            }
        }
    }

    /// Queues what may be sent at `now`. Gives whether there will be more.
    fn fill(&mut self, now: Duration) -> bool {
        if !self.connections.iter().any(|connection| connection.is_open) {
            return false;
        }
        match self.phase {
            Phase::Closed => self.fill_windows(now),
            Phase::Open(_) => self.fill_due(now),
            Phase::Settling => self.fill_owed(),
        }
    }

    fn fill_windows(&mut self, now: Duration) -> bool {
        if matches!(self.shared.plan.until, Until::Elapsed(time) if now >= time) {
            return false;
        }
        let time = self.shared.clock.transmission_time();
        for index in 0..self.connections.len() {
            while let Some(connection) = self.connections.get_mut(index)
                && connection.left > 0
                && connection.is_open
                && connection.in_flight() < self.shared.plan.pipeline
                && let Some(pick) = self.mix.pick()
            {
                connection.left -= 1;
                self.queue(index, &pick, time, None);
            }
        }
        self.connections.iter().any(|connection| connection.is_open && connection.left > 0)
    }

    fn fill_due(&mut self, now: Duration) -> bool {
        let Phase::Open(pacer) = &mut self.phase else { return false };
        let due: Vec<_> = std::iter::from_fn(|| pacer.take(now)).collect();
        let is_sending = pacer.next().is_some();
        if due.is_empty() {
            return is_sending;
        }
        let time = self.shared.clock.transmission_time();
        for (number, at) in due {
            let count = u64::try_from(self.connections.len()).unwrap_or(u64::MAX);
            let turn = number.checked_rem(count).unwrap_or_default();
            let index = usize::try_from(turn).unwrap_or_default();
            let has_room = self.connections.get(index).is_some_and(|connection| {
                connection.is_open && connection.in_flight() < self.shared.plan.pipeline
            });
            match if has_room { self.mix.pick() } else { None } {
                Some(pick) => self.queue(index, &pick, time, Some(at)),
                None => self.tally.not_sent(1),
            }
        }
        is_sending
    }

    fn fill_owed(&mut self) -> bool {
        let time = self.shared.clock.transmission_time();
        let room = self.shared.plan.pipeline.min(SETTLING_IN_FLIGHT);
        for index in 0..self.connections.len() {
            while let Some(connection) = self.connections.get(index)
                && connection.is_open
                && connection.in_flight() < room
            {
                let Some(pick) = self.mix.owed() else { return false };
                self.queue(index, &pick, time, None);
            }
        }
        true
    }

    fn queue(&mut self, index: usize, pick: &Pick, time: TransmissionTime, due: Option<Duration>) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        connection.queue(&self.shared.template, &self.numbers.take(time), pick, due);
        if !matches!(self.phase, Phase::Settling) {
            self.tally.sent();
        }
    }

    fn write(&mut self) {
        let Worker { shared, connections, tally, .. } = self;
        for connection in connections {
            if connection.is_open && connection.has_output() {
                let written = connection.write(&shared.clock, |late| tally.sent_late(late));
                end_if_broken(connection, written, tally);
            }
        }
    }

    /// Waits until something can be read or written, a request is nearly due, or `patience` is
    /// over. Near the time of a request it only looks.
    fn wait(&self, polls: &mut Vec<PollFd<'a>>, patience: Duration) -> io::Result<()> {
        let timeout = match &self.phase {
            // Building and writing have taken time since the turn began.
            Phase::Open(pacer) => pacer.sleep(self.shared.clock.elapsed()).min(patience),
            Phase::Closed | Phase::Settling => patience,
        };
        polls.clear();
        polls.extend(self.connections.iter().filter(|connection| connection.is_open).map(
            |connection| {
                let writes =
                    if connection.has_output() { PollFlags::OUT } else { PollFlags::empty() };
                PollFd::new(connection.stream, PollFlags::IN | writes)
            },
        ));
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(polls, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the answers that are there. Gives whether there were any.
    fn read(&mut self, polls: &[PollFd<'_>]) -> bool {
        let Worker { shared, connections, mix, phase, tally, .. } = self;
        let is_measured = !matches!(phase, Phase::Settling);
        let mut any = false;
        let open = connections.iter_mut().filter(|connection| connection.is_open);
        for (connection, ready) in open.zip(polls) {
            if !ready.revents().intersects(!PollFlags::OUT) {
                continue;
            }
            let mut came = None;
            let read = connection.read(&shared.spec, |sent, message| {
                any = true;
                let now = *came.get_or_insert_with(|| shared.clock.elapsed());
                let Some(sent) = sent else { return tally.unexpected(message) };
                mix.answered(sent.place);
                match is_measured {
                    true => tally.answered(message, sent.is_wrong, (sent.at, now)),
                    false => tally.settled(),
                }
                let is_expected = match shared.plan.echo {
                    true => sent.is_echoed(message),
                    false => sent.expects(message),
                };
                if !is_expected {
                    tally.unexpected(message);
                }
            });
            end_if_broken(connection, read, tally);
        }
        any
    }
}

fn end_if_broken(connection: &mut Connection<'_>, outcome: Result<(), Broken>, tally: &mut Tally) {
    if let Err(broken) = outcome {
        connection.is_open = false;
        tally.broken(&broken.to_string());
    }
}
