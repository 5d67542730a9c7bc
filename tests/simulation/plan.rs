//! What happens in a run, drawn from its seed before it begins. Every concern has dice of its
//! own: another fault, or one more of the same, moves nothing else.

use std::ops::Range;

use fastrand::Rng;
use switch::config::SyncMode;

use super::model::{Call, Card, Entered, Pin, Status};

/// The PINs that there are; the first is the one most cards begin with.
pub const PINS: [&str; 4] = ["4071", "5938", "7206", "8264"];

/// Where terminals connect: the link of each, and its network.
pub const TERMINALS: [(usize, usize); 4] = [(0, 0), (1, 0), (2, 1), (0, 0)];

/// Links on which a reversal of what nobody knows is refused.
pub const REFUSING_LINKS: [usize; 2] = [1, 2];

/// Products of the cards, and how many wrong PINs in a row suspend them.
pub const CARDS: [(&str, Option<u32>); 4] =
    [("three", Some(3)), ("one", Some(1)), ("many", None), ("three", Some(3))];

/// The product whose cards have a chip.
pub const CHIP_PRODUCT: &str = "three";

/// The card that is removed and added again.
pub const REMOVED_CARD: usize = 3;

/// Dice for one concern of a run.
pub fn dice(seed: u64, concern: &str, number: usize) -> Rng {
    let mixed = concern.bytes().fold(seed ^ 0x9E37_79B9_7F4A_7C15, |mixed, byte| {
        (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
    });
    Rng::with_seed(mixed ^ (number as u64).wrapping_mul(0xD6E8_FEB8_6659_FD93))
}

/// Whether something with this chance of a hundred happens.
pub fn happens(dice: &mut Rng, percent: u32) -> bool {
    dice.u32(0..100) < percent
}

/// How a life of the switch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `kill -9`: what was written stays.
    Killed,
    /// What was not synced may be gone.
    PowerLost,
    /// A write or a sync failed: those who wait get 91, then the process ends.
    DiskFailed,
}

/// What the store has just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Appended,
    Written,
    SyncBegun,
    Synced,
}

/// When a life of the switch ends.
#[derive(Clone, Copy, Debug)]
pub enum When {
    After {
        millis: u64,
    },
    /// When this has happened so many times.
    At {
        moment: Moment,
        times: u32,
    },
}

/// Faults of the HSM.
#[derive(Clone, Debug)]
pub struct HsmPlan {
    pub millis_max: u64,
    pub late_percent: u32,
    pub unavailable_percent: u32,
    /// When it answers nothing, in milliseconds.
    pub down: Range<u64>,
}

/// Faults of the store.
#[derive(Clone, Copy, Debug)]
pub struct StorePlan {
    pub sync: SyncMode,
    pub sync_millis_max: u64,
    /// Chance that a call takes a moment.
    pub pause_percent: u32,
}

/// Faults of the links.
#[derive(Clone, Copy, Debug)]
pub struct LinkPlan {
    pub cut_percent: u32,
    pub pieces_percent: u32,
    pub slow_reader_percent: u32,
    /// Bytes that a connection holds in each direction.
    pub room: usize,
    /// Requests of a connection that the switch takes at a time.
    pub in_flight_max: usize,
    /// Requests of all connections that wait for HSM or store, before others are refused.
    pub in_flight_all_max: usize,
    /// Within how many milliseconds an answer leaves, or not at all.
    pub answer_millis_max: u64,
}

/// One sending of a request.
#[derive(Clone, Copy, Debug)]
pub struct SendingPlan {
    pub terminal: usize,
    pub at_millis: u64,
    /// The fourth digit of its MTI is 1.
    pub is_repeat: bool,
    /// With another amount than the request has.
    pub other_body: bool,
}

/// One request of a network.
#[derive(Clone, Debug)]
pub struct RequestPlan {
    pub card: usize,
    pub call: Call,
    pub network: usize,
    /// Another request may have the same on the other network.
    pub stan: usize,
    /// Version, class and function of its MTI.
    pub mti: &'static str,
    pub sendings: Vec<SendingPlan>,
}

/// One command of the issuer.
#[derive(Clone, Copy, Debug)]
pub struct CommandPlan {
    pub card: usize,
    pub call: Call,
    pub at_millis: u64,
}

/// All of it.
pub struct Plan {
    pub seed: u64,
    pub cards: Vec<Card>,
    pub hsm: HsmPlan,
    pub store: StorePlan,
    pub links: LinkPlan,
    pub stops: Vec<(When, Ending)>,
    /// Whether the power fails once more when everybody is done.
    pub ends_without_power: bool,
    /// When the civil time jumps, and by how many milliseconds.
    pub jumps: Vec<(u64, i64)>,
    pub requests: Vec<RequestPlan>,
    /// Of each of the issuer's clerks, in order.
    pub commands: Vec<Vec<CommandPlan>>,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let of = |concern| dice(seed, concern, 0);
        // How long there is traffic: the shorter, the more of it meets.
        let millis = *of("length").choice(&[20, 60, 200, 600]).unwrap_or(&60);
        Plan {
            seed,
            cards: cards(&mut of("cards")),
            hsm: hsm(seed, millis),
            store: store(seed),
            links: links(seed),
            stops: stops(&mut of("stops"), millis),
            ends_without_power: of("last power failure").bool(),
            jumps: jumps(&mut of("jumps"), millis),
            requests: {
                let mut requests = requests(&mut of("requests"), millis);
                forge_some(seed, &mut requests);
                add_advices(&mut of("advices"), &mut requests, millis);
                add_reversals(&mut of("reversals"), &mut requests);
                requests
            },
            commands: (0..2)
                .map(|clerk| commands(&mut dice(seed, "clerk", clerk), millis))
                .collect(),
        }
    }

    /// How long after an answer its record may be missing on the disk at most.
    pub fn unsynced_millis_max(&self) -> u64 {
        10 + 2 * self.store.sync_millis_max + 5
    }
}

/// The PAN of a card.
pub fn pan(card: usize) -> String {
    tests::terminal::pan("476134", card + 1)
}

/// One of these, the first in half of all seeds: a run has some faults, not a little of each.
fn setting<T: Copy>(seed: u64, concern: &str, usual: T, others: &[T]) -> T {
    let mut dice = dice(seed, concern, 0);
    let other = dice.choice(others).copied().unwrap_or(usual);
    if dice.bool() { usual } else { other }
}

fn cards(dice: &mut Rng) -> Vec<Card> {
    let card = Card { exists: true, status: Status::Active, pin: Some(0), tries: 0 };
    let mut cards = vec![card; CARDS.len()];
    cards[REMOVED_CARD].pin = Some(0).filter(|_| dice.bool());
    cards[REMOVED_CARD].status = if dice.bool() { Status::New } else { Status::Active };
    cards
}

fn hsm(seed: u64, millis: u64) -> HsmPlan {
    let mut down = dice(seed, "hsm down", 0);
    let from = down.u64(0..millis);
    let length = if happens(&mut down, 25) { down.u64(1..millis) } else { 0 };
    HsmPlan {
        millis_max: setting(seed, "hsm", 0, &[1, 3, 20]),
        late_percent: setting(seed, "hsm late", 0, &[2, 20]),
        unavailable_percent: setting(seed, "hsm unavailable", 0, &[0, 5, 30]),
        down: from..from + length,
    }
}

fn store(seed: u64) -> StorePlan {
    StorePlan {
        sync: setting(seed, "sync", SyncMode::State, &[SyncMode::State, SyncMode::All]),
        sync_millis_max: setting(seed, "sync time", 2, &[0, 10, 100, 100]),
        pause_percent: setting(seed, "store pause", 0, &[10, 50]),
    }
}

fn links(seed: u64) -> LinkPlan {
    LinkPlan {
        cut_percent: setting(seed, "cut", 0, &[3, 15]),
        pieces_percent: setting(seed, "pieces", 0, &[20, 80]),
        slow_reader_percent: setting(seed, "slow reader", 0, &[10, 60]),
        in_flight_max: setting(seed, "in flight", 1_024, &[1, 3]),
        in_flight_all_max: setting(seed, "overload", 1_024, &[1_024, 1_024, 2, 5]),
        answer_millis_max: setting(seed, "deadline", 30_000, &[30_000, 30_000, 60, 2_500]),
        room: setting(seed, "room", 1 << 14, &[40, 200]),
    }
}

fn stops(dice: &mut Rng, millis: u64) -> Vec<(When, Ending)> {
    let count = *dice.choice(&[0, 1, 1, 2, 3]).unwrap_or(&0);
    let stop = |dice: &mut Rng| {
        let moments = [Moment::Appended, Moment::Written, Moment::SyncBegun, Moment::Synced];
        let moment = *dice.choice(&moments).unwrap_or(&Moment::Synced);
        let when = match dice.bool() {
            true => When::After { millis: dice.u64(0..millis + 20) },
            false => When::At { moment, times: dice.u32(1..20) },
        };
        let endings = [Ending::Killed, Ending::PowerLost, Ending::PowerLost, Ending::DiskFailed];
        (when, *dice.choice(&endings).unwrap_or(&Ending::Killed))
    };
    (0..count).map(|_| stop(dice)).collect()
}

fn jumps(dice: &mut Rng, millis: u64) -> Vec<(u64, i64)> {
    let count = dice.usize(0..3);
    let jumps = (0..count).map(|_| (dice.u64(0..millis), dice.i64(-90_000..90_000)));
    jumps.collect()
}

fn requests(dice: &mut Rng, millis: u64) -> Vec<RequestPlan> {
    let count = dice.usize(8..36);
    // Of all requests, so that some runs guess and others know.
    let right_percent = dice.u32(5..60);
    let mut requests: Vec<RequestPlan> = Vec::new();
    for stan in 0..count {
        let network = usize::from(happens(dice, 25));
        let card = dice.usize(0..CARDS.len());
        let (entered, is_cash) = (entered(dice, right_percent), dice.bool());
        let call = Call::Authorization { entered, is_cash, is_forged: false };
        let mti = if happens(dice, 20) { "020" } else { "010" };
        let sendings = sendings(dice, network, 0..millis);
        requests.push(RequestPlan { card, call, network, stan, mti, sendings });
        if happens(dice, 5) {
            // The same from the other network is another request.
            let (other, mut twin) = (1 - network, requests[requests.len() - 1].clone());
            twin.network = other;
            twin.sendings = self::sendings(dice, other, 0..millis);
            requests.push(twin);
        }
    }
    requests
}

/// Some come with a cryptogram that no card has made: of cards that have a chip.
fn forge_some(seed: u64, requests: &mut [RequestPlan]) {
    let percent = setting(seed, "forgery", 0, &[5, 20]);
    let mut dice = dice(seed, "forgeries", 0);
    for RequestPlan { card, call, .. } in requests {
        if let Call::Authorization { is_forged, .. } = call {
            *is_forged = CARDS[*card].0 == CHIP_PRODUCT && happens(&mut dice, percent);
        }
    }
}

/// Numbers that no authorization has.
const OWN_STANS: usize = 500;

/// Some requests are taken back: before they come, while they are answered, or later; and some
/// come once more after that.
fn add_reversals(dice: &mut Rng, requests: &mut Vec<RequestPlan>) {
    for of in 0..requests.len() {
        let mut has_plain = false;
        while happens(dice, 30) {
            let original = &requests[of];
            let first = original.sendings[0].at_millis;
            let at =
                (first + dice.u64(0..30)).saturating_sub(*dice.choice(&[0, 10, 30]).unwrap_or(&0));
            let by_de90 = has_plain || happens(dice, 70);
            has_plain |= !by_de90;
            let RequestPlan { card, network, .. } = *original;
            let stan = if by_de90 { OWN_STANS + requests.len() } else { original.stan };
            let mti = if dice.bool() { "040" } else { "042" };
            let call = Call::Reversal { of, by_de90 };
            let sendings = sendings(dice, network, at..at + 1);
            requests.push(RequestPlan { card, call, network, stan, mti, sendings });
            if dice.bool() {
                let late = at + dice.u64(5..80);
                let again = self::sendings(dice, network, late..late + 1);
                requests[of].sendings.extend(again.first());
            }
        }
    }
}

fn add_advices(dice: &mut Rng, requests: &mut Vec<RequestPlan>, millis: u64) {
    for _ in 0..dice.usize(0..3) {
        let network = usize::from(happens(dice, 25));
        let (card, stan) = (dice.usize(0..CARDS.len()), OWN_STANS + requests.len());
        let mti = if dice.bool() { "012" } else { "022" };
        let sendings = sendings(dice, network, 0..millis);
        requests.push(RequestPlan { card, call: Call::Advice, network, stan, mti, sendings });
    }
}

fn entered(dice: &mut Rng, right_percent: u32) -> Entered {
    match dice.u32(0..100) {
        0..7 => Entered::Broken,
        7..17 => Entered::Nothing,
        _ if happens(dice, right_percent) => Entered::Pin(0),
        _ => Entered::Pin(dice.u8(1..PINS.len() as Pin)),
    }
}

fn sendings(dice: &mut Rng, network: usize, when: Range<u64>) -> Vec<SendingPlan> {
    let terminals = |dice: &mut Rng| loop {
        let terminal = dice.usize(0..TERMINALS.len());
        if TERMINALS[terminal].1 == network {
            return terminal;
        }
    };
    let at_millis = dice.u64(when);
    let terminal = terminals(dice);
    let mut all = vec![SendingPlan { terminal, at_millis, is_repeat: false, other_body: false }];
    while happens(dice, 25) && all.len() < 4 {
        let at_millis = at_millis + *dice.choice(&[0, 0, 1, 5, 50]).unwrap_or(&0);
        let terminal = terminals(dice);
        let (is_repeat, other_body) = (dice.bool(), happens(dice, 20));
        all.push(SendingPlan { terminal, at_millis, is_repeat, other_body });
    }
    all
}

fn commands(dice: &mut Rng, millis: u64) -> Vec<CommandPlan> {
    let mut commands: Vec<CommandPlan> = (0..dice.usize(0..6))
        .map(|_| {
            let card = dice.usize(0..CARDS.len());
            let pin = *dice.choice(&[0, 0, 1]).unwrap_or(&0);
            let call = match dice.u32(0..10) {
                0..4 => Call::SetPin(pin),
                4..8 => Call::Activate,
                8 if card == REMOVED_CARD => Call::Remove,
                _ if card == REMOVED_CARD => Call::Add(pin),
                _ => Call::Activate,
            };
            CommandPlan { card, call, at_millis: dice.u64(0..millis) }
        })
        .collect();
    commands.sort_by_key(|command| command.at_millis);
    commands
}
