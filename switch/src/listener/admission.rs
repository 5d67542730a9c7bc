//! Who may connect to a link, how many connections one address may have, and how fast they are
//! taken. What one address does too much of is held against that address only: the others neither
//! lose their places to it nor wait behind it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::LinkConfig;

/// Why a connection was closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its peer is none of the link's.
    Peer,
    /// Its address has as many connections as one may have.
    Address,
    /// The link has as many as it may have.
    Link,
}

impl Refused {
    /// All of them.
    pub const ALL: [Refused; 3] = [Refused::Peer, Refused::Address, Refused::Link];

    /// The name in the log and in metrics: one of `metrics::REFUSED_REASONS`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Refused::Peer => "peer",
            Refused::Address => "address",
            Refused::Link => "link",
        }
    }
}

/// The connections of one link: how many there are, of whom, and when the next ones are due.
pub(super) struct Admission {
    link: Arc<LinkConfig>,
    /// Of an address that has no connection yet.
    address_pace: Pace,
    table: Mutex<Table>,
}

struct Table {
    /// Open connections, those that wait for their turn among them.
    open: usize,
    /// Of all addresses together.
    pace: Pace,
    addresses: HashMap<IpAddr, Address>,
    /// At this number of addresses, those are forgotten of which nothing need be known.
    sweep_at: usize,
}

struct Address {
    open: usize,
    pace: Pace,
}

/// An address's part of the connections that a link takes in a second is one of so many: the
/// others have a turn at once as long as fewer than that storm together.
const ADDRESS_PARTS: u32 = 4;

/// Addresses that are known before any is forgotten.
const ADDRESSES_MIN: usize = 1_024;

impl Admission {
    pub(super) fn new(link: &Arc<LinkConfig>, per_second: u32) -> Arc<Admission> {
        Arc::new(Admission {
            link: Arc::clone(link),
            address_pace: Pace::new(per_second / ADDRESS_PARTS),
            table: Mutex::new(Table {
                open: 0,
                pace: Pace::new(per_second),
                addresses: HashMap::new(),
                sweep_at: ADDRESSES_MIN,
            }),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a connection its place, and tells how long its address has to wait. Who is refused
    /// takes nothing of what the others share.
    pub(super) fn admit(
        self: &Arc<Admission>,
        peer: IpAddr,
        now: Duration,
    ) -> Result<(Place, Option<Duration>), Refused> {
        if !self.link.peers.allow(peer) {
            return Err(Refused::Peer);
        }
        let address = counted_as(peer);
        let mut table = self.table();
        let known = table.addresses.get(&address).map_or(0, |known| known.open);
        if known >= self.link.connections_per_address_max {
            return Err(Refused::Address);
        }
        if table.open >= self.link.connections_max {
            return Err(Refused::Link);
        }
        table.forget(now);
        table.open += 1;
        let new = Address { open: 0, pace: self.address_pace };
        let known = table.addresses.entry(address).or_insert(new);
        known.open += 1;
        let pause = known.pace.take(now);
        Ok((Place { admission: Arc::clone(self), address }, pause))
    }
}

impl Table {
    /// Forgets addresses, so that they do not become more and more: those without a connection
    /// that would not have to wait either. If that is not enough, the others without a connection
    /// too: then so many addresses come that only the pace of all is left to hold them.
    fn forget(&mut self, now: Duration) {
        if self.addresses.len() < self.sweep_at {
            return;
        }
        self.addresses.retain(|_, address| address.open > 0 || address.pace.next > now);
        if self.addresses.len() >= self.sweep_at {
            self.addresses.retain(|_, address| address.open > 0);
        }
        // Twice what must be known, so that looking through it is rare.
        self.sweep_at = ADDRESSES_MIN.max(self.addresses.len() * 2);
    }
}

/// What counts as one address: of IPv6 the first 64 bits, since whoever has one such address
/// usually has all that begin with them.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// The place of one open connection, for as long as it lives.
pub(super) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Place {
    /// How long the connection has to wait beside those of other addresses, after its own has let
    /// it go.
    pub(super) fn turn(&self, now: Duration) -> Option<Duration> {
        self.admission.table().pace.take(now)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.admission.table();
        table.open -= 1;
        if let Some(address) = table.addresses.get_mut(&self.address) {
            address.open -= 1;
        }
    }
}

/// The connections of a door that each address may have, so that one that is silent does not keep
/// the others out.
pub(crate) struct Shares {
    each_max: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Shares {
    pub(crate) fn new(each_max: usize) -> Arc<Shares> {
        Arc::new(Shares { each_max, open: Mutex::default() })
    }

    /// A place in the share of an address; `None` where that is used up.
    pub(crate) fn take(self: &Arc<Shares>, peer: IpAddr) -> Option<Share> {
        let address = counted_as(peer);
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(address).or_default();
        (*open < self.each_max).then(|| {
            *open += 1;
            Share { shares: Arc::clone(self), address }
        })
    }
}

/// One connection's place in the share of its address, for as long as it lives.
pub(crate) struct Share {
    shares: Arc<Shares>,
    address: IpAddr,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.shares.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = all.entry(self.address) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// Spreads connections over time, so that a storm of them leaves the processors to the requests.
#[derive(Clone, Copy)]
struct Pace {
    /// Between two connections.
    interval: Duration,
    /// When the next one would be due, on the monotonic clock.
    next: Duration,
}

/// Connections that are taken at once after a quiet time.
const BURST: u32 = 256;

/// What the timer counts; a shorter pause is none.
const TICK: Duration = Duration::from_millis(1);

impl Pace {
    fn new(per_second: u32) -> Pace {
        Pace { interval: Duration::from_secs(1) / per_second.max(1), next: Duration::ZERO }
    }

    /// Takes the place of a connection that came now; a pause if there were too many.
    fn take(&mut self, now: Duration) -> Option<Duration> {
        self.next = self.next.max(now) + self.interval;
        let burst = self.interval * BURST;
        Some(self.next.saturating_sub(now + burst)).filter(|pause| *pause >= TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const NOW: Duration = Duration::from_secs(7);

    fn admission(per_second: u32, change: impl FnOnce(&mut LinkConfig)) -> Arc<Admission> {
        let mut link = LinkConfig::clone(&Config::demo(None).unwrap().links[0]);
        change(&mut link);
        Admission::new(&Arc::new(link), per_second)
    }

    fn refused(admission: &Arc<Admission>, peer: &str) -> Option<Refused> {
        admission.admit(peer.parse().unwrap(), NOW).err()
    }

    #[test]
    fn a_storm_is_spread_over_time() {
        for per_second in [100, 1_000, 50_000] {
            let mut pace = Pace::new(per_second);
            // The clock begins with the process, and that is when all peers come back.
            let start = Duration::ZERO;
            let mut now = start;
            for number in 1..=3 * per_second + BURST {
                now += pace.take(now).unwrap_or_default();
                // The burst at once, then no more than the rate allows, and the timer's tick.
                let due = pace.interval * number.saturating_sub(BURST);
                assert!(now - start + TICK >= due, "{number} of {per_second}/s");
                assert!(now - start <= due + TICK, "{number} of {per_second}/s");
            }
            // Who comes slowly never waits.
            let apart = pace.interval * 2;
            assert!((1..100).all(|number| pace.take(now + apart * number).is_none()));
        }
    }

    #[test]
    fn a_storm_of_one_address_lets_no_other_wait() {
        let admission = admission(1_000, |link| {
            (link.connections_max, link.connections_per_address_max) = (10_000, 5_000);
        });
        let storm = "127.0.0.2".parse().unwrap();
        let mut admitted: Vec<_> =
            (0..5_000).map(|_| admission.admit(storm, NOW).unwrap()).collect();
        assert_eq!(admission.admit(storm, NOW).err(), Some(Refused::Address));
        admitted.sort_by_key(|(_, pause)| *pause);
        let (_, longest) = admitted.last().unwrap();
        assert_eq!(*longest, Some(Duration::from_millis(4 * (5_000 - 256))));
        // While the storm has one turn after the other, somebody else comes each second.
        let other = "127.0.0.3".parse().unwrap();
        let mut seconds = 0;
        for (place, pause) in &admitted {
            let now = NOW + pause.unwrap_or_default();
            assert!(place.turn(now) <= Some(TICK), "{pause:?}");
            if now >= NOW + Duration::from_secs(seconds) {
                seconds += 1;
                let (place, pause) = admission.admit(other, now).unwrap();
                assert_eq!(pause, None);
                assert!(place.turn(now) <= Some(2 * TICK), "{now:?}");
            }
        }
        assert_eq!(seconds, 19);
    }

    #[test]
    fn an_address_has_its_number_and_the_link_its_own() {
        let admission = admission(1_000, |link| {
            (link.connections_max, link.connections_per_address_max) = (5, 2);
        });
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut held: Vec<_> = [one, one, other].map(|peer| admission.admit(peer, NOW)).into();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(refused(&admission, "192.0.2.1"), Some(Refused::Address));
        // One network of IPv6.
        held.extend(
            ["2001:db8::1", "2001:db8::2"].map(|peer| admission.admit(peer.parse().unwrap(), NOW)),
        );
        assert_eq!(refused(&admission, "2001:db8::ffff:0:0:3"), Some(Refused::Address));
        assert_eq!(refused(&admission, "2001:db8:0:1::1"), Some(Refused::Link));
        assert_eq!(refused(&admission, "192.0.2.2"), Some(Refused::Link));
        drop(held.remove(0));
        held.push(admission.admit(one, NOW));
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(refused(&admission, "192.0.2.2"), Some(Refused::Link));
        held.clear();
        assert_eq!(admission.table().open, 0);
    }

    #[test]
    fn the_table_of_addresses_does_not_grow_with_those_who_have_gone() {
        let admission = admission(1_000, |_| {});
        let stays = admission.admit("192.0.2.1".parse().unwrap(), NOW).unwrap();
        for number in 0..100_000_u32 {
            let peer = std::net::Ipv4Addr::from_bits(0x0A00_0000 + number).into();
            admission.admit(peer, NOW + TICK * number / 10).unwrap();
            assert!(admission.table().addresses.len() <= ADDRESSES_MIN);
        }
        assert_eq!(admission.table().open, 1);
        drop(stays);
        assert_eq!(admission.table().open, 0);
        assert!(admission.table().addresses.values().all(|address| address.open == 0));
    }
}
