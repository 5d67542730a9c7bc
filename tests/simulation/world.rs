//! The world of one run: the clock, the switch that is put together from its seams, and its lives
//! from start to crash to start.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use switch::authorization::Product;
use switch::cache::Products;
use switch::cards::{CardState, CardStatus, Embossed, Expiry, Pan, Plastic};
use switch::clock::{Clock, Timestamp};
use switch::config::{Config, Limits};
use switch::connection::serve;
use switch::hsm::software::PanVault;
use switch::in_flight::InFlight;
use switch::metrics::{LinkMetrics, Metrics};
use switch::session::Session;
use switch::shutdown::Shutdown;
use switch::store::duplicates::DuplicateHasher;
use switch::store::record::{Entry, StoredCard};
use switch::switch::Switch;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::history::History;
use super::hsm::{SimulatedHsm, reference};
use super::model::Status;
use super::mutation::Mutation;
use super::plan::{CARDS, CHIP_PRODUCT, Ending, Plan, REFUSING_LINKS, TERMINALS, When, dice, pan};
use super::store::{Shared, SimulatedStore};

pub type SimulatedSwitch = Switch<(SimulatedClock, SimulatedHsm, SimulatedStore)>;

/// The time of the runtime, which stands still while anybody has something to do, and a civil
/// time that jumps.
#[derive(Clone)]
pub struct SimulatedClock {
    start: Instant,
    ahead_millis: Arc<AtomicI64>,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from((Instant::now() - self.start).as_micros()).unwrap_or(i64::MAX);
        let ahead = self.ahead_millis.load(Ordering::Relaxed) * 1_000;
        Timestamp::from_micros(Timestamp::from_seconds(START_SECONDS).micros() + elapsed + ahead)
    }

    fn monotonic(&self) -> Duration {
        Instant::now() - self.start
    }
}

/// 2026-11-21T12:00:00Z.
const START_SECONDS: i64 = 1_795_262_400;

/// How long a switch whose store has failed still says 91.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long the switch waits for its HSM.
pub const HSM_LIMIT: Duration = Duration::from_secs(2);

/// Longer than anything takes: after it nothing is under way any more.
const UNTIL_CALM: Duration = Duration::from_secs(30);

/// One life of the switch.
pub struct Running {
    pub switch: SimulatedSwitch,
    pub store: Arc<Shared>,
    /// Of each link.
    in_flight: Vec<Arc<InFlight>>,
    shutdown: Shutdown,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Running {
    /// Something that ends with the process.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.try_lock().expect("one thread, and nobody holds it").push(tokio::spawn(task));
    }

    async fn kill(&self) {
        let tasks =
            std::mem::take(&mut *self.tasks.try_lock().expect("one thread, and nobody holds it"));
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            end(task).await;
        }
    }
}

/// Ends a task. That it was ended is no failure; a panic in it is one.
pub async fn end(task: JoinHandle<()>) {
    task.abort();
    match task.await {
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        _ => {}
    }
}

pub struct World {
    pub plan: Plan,
    pub mutation: Option<Mutation>,
    pub config: &'static Config,
    pub clock: SimulatedClock,
    history: Mutex<History>,
    running: Mutex<Option<Arc<Running>>>,
    /// The first record of which events are kept: older ones went behind a snapshot.
    pub events_from: AtomicU64,
    calm: AtomicBool,
    done: Notify,
}

impl World {
    pub fn new(seed: u64, mutation: Option<Mutation>) -> Arc<World> {
        let (plan, start) = (Plan::new(seed), Instant::now());
        Arc::new(World {
            history: Mutex::new(History::new(&plan, start)),
            plan,
            mutation,
            config: config(),
            clock: SimulatedClock { start, ahead_millis: Arc::default() },
            running: Mutex::default(),
            events_from: AtomicU64::new(1),
            calm: AtomicBool::new(false),
            done: Notify::new(),
        })
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.try_lock().expect("one thread, and nobody holds it")
    }

    /// The switch, unless it is down.
    pub fn running(&self) -> Option<Arc<Running>> {
        self.running.try_lock().expect("one thread, and nobody holds it").clone()
    }

    /// Whether faults are over.
    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Everybody has been answered, or has given up: no more faults.
    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
        self.done.notify_one();
    }

    /// A connection of a terminal, with its number.
    pub fn connect(self: &Arc<Self>, terminal: usize) -> Option<(usize, DuplexStream)> {
        let running = self.running().filter(|running| !running.shutdown.stop.is_cancelled())?;
        let connection = self.history().connected(terminal);
        let (ours, theirs) = duplex(self.plan.links.room);
        let (link, _) = TERMINALS[terminal];
        let metrics = Arc::clone(&link_metrics()[link]);
        let in_flight = Arc::clone(&running.in_flight[link]);
        let config = Arc::clone(&self.config.links[link]);
        let session = Session::new(config, metrics, in_flight, Arc::default(), "terminal");
        let (world, serving) = (Arc::clone(self), Arc::clone(&running));
        running.spawn(async move {
            let ended = serve(&serving.switch, &session, theirs, &serving.shutdown).await;
            let how = ended.map_or_else(|why| why.to_string(), |()| "by its peer".to_owned());
            world.history().note("close", &format!("{connection}: {how}"));
        });
        Some((connection, ours))
    }

    /// Lives of the switch, one after another, until everybody is done.
    pub async fn live(self: Arc<Self>) {
        let mut records = first_cards(&self.plan);
        let mut restart = dice(self.plan.seed, "restart", 0);
        for life in 0.. {
            let is_over = self.live_once(records, self.plan.stops.get(life).copied()).await;
            records = match is_over {
                None => return,
                Some(records) => records,
            };
            sleep(Duration::from_millis(restart.u64(0..20))).await;
        }
    }

    /// What its end leaves on the disk; `None` where it was the last.
    async fn live_once(
        self: &Arc<Self>,
        records: Vec<Vec<u8>>,
        stop: Option<(When, Ending)>,
    ) -> Option<Vec<Vec<u8>>> {
        let running = self.start(records, stop);
        *self.running.try_lock().expect("one thread, and nobody holds it") =
            Some(Arc::clone(&running));
        let (time, ending) = match stop {
            Some((When::After { millis }, ending)) => (Duration::from_millis(millis), ending),
            _ => (Duration::MAX, Ending::Killed),
        };
        tokio::select! {
            biased;
            () = running.store.is_over() => {}
            () = self.done.notified() => {
                sleep(UNTIL_CALM).await;
                if !self.plan.ends_without_power || self.history().had_last_power_failure {
                    self.done.notify_one();
                    return None;
                }
                self.history().had_last_power_failure = true;
                self.done.notify_one();
                running.store.end(Ending::PowerLost);
            }
            () = sleep(time) => running.store.end(ending),
        }
        if running.store.has_failed() {
            running.shutdown.stop.cancel();
            sleep(LAST_ANSWERS).await;
        }
        *self.running.try_lock().expect("one thread, and nobody holds it") = None;
        let left = running.store.left();
        running.kill().await;
        Some(left)
    }

    fn start(
        self: &Arc<Self>,
        records: Vec<Vec<u8>>,
        stop: Option<(When, Ending)>,
    ) -> Arc<Running> {
        let life = self.history().lives.len();
        let survivors = records.len();
        let store = SimulatedStore::open(self, records, stop);
        self.history().began(survivors);
        let shared = Arc::clone(&store.shared);
        let vault = vault();
        let switch = Switch {
            clock: self.clock.clone(),
            hsm: SimulatedHsm::new(self, life),
            store,
            duplicates: DuplicateHasher::new(&vault.derive(b"duplicates")),
            vault,
            products: Arc::clone(&shared.products),
            limits: Limits {
                in_flight_per_connection_max: self.plan.links.in_flight_max,
                answer_milliseconds_max: Duration::from_millis(self.plan.links.answer_millis_max),
                in_flight_max: self.plan.links.in_flight_all_max,
                hsm_milliseconds_max: HSM_LIMIT,
                ..self.config.limits
            },
            in_flight: InFlight::default(),
            log_transactions: false,
            metrics: Metrics::new(),
        };
        let (tasks, shutdown) = (Mutex::default(), Shutdown::default());
        let in_flight = self.config.links.iter().map(|_| Arc::default()).collect();
        let store = Arc::clone(&shared);
        let running = Running { switch, store, in_flight, shutdown, tasks };
        running.spawn(shared.keep_synced());
        Arc::new(running)
    }

    /// The civil time jumps.
    pub async fn jump(self: Arc<Self>) {
        let mut jumps = self.plan.jumps.clone();
        jumps.sort_unstable();
        let mut passed = 0;
        for (at, by) in jumps {
            sleep(Duration::from_millis(at - passed)).await;
            passed = at;
            self.clock.ahead_millis.fetch_add(by, Ordering::Relaxed);
            self.history().note("jump", &format!("{by} ms"));
        }
    }

    /// Lets go of the switch, which holds this world.
    pub async fn close(&self) {
        let last = self.running.try_lock().expect("one thread, and nobody holds it").take();
        if let Some(last) = last {
            last.kill().await;
        }
    }
}

/// Test keys; nothing of a run depends on them.
pub fn vault() -> PanVault {
    PanVault::new(&[1; 32], &[2; 32]).expect("keys of 32 bytes")
}

/// The same, made once: making one takes longer than reading a document.
pub static VAULT: LazyLock<PanVault> = LazyLock::new(vault);

/// The records of the cards that are there at the beginning.
fn first_cards(plan: &Plan) -> Vec<Vec<u8>> {
    let vault = vault();
    let entry = |(number, card): (usize, &super::model::Card)| {
        let pan = Pan::parse(pan(number).as_bytes()).expect("a PAN");
        let expiry = Expiry::parse(b"2912").expect("a date");
        let mut plastic = Plastic::new(expiry, 1);
        if card.status == Status::Active {
            plastic.status = CardStatus::Active;
        }
        let state = match card.pin {
            None => CardState::new(plastic),
            Some(pin) => CardState::new(plastic.embossed_with(Embossed::Pin(1)))
                .with_pin(reference(pin, pan.digits())),
        };
        let identity = vault.identify(&token(number), &pan).expect("a PAN");
        let product = config().product(CARDS[number].0).expect("a product");
        let card = StoredCard {
            identity: Cow::Owned(identity),
            product: Cow::Borrowed(&product.name),
            state: Cow::Owned(state),
        };
        Entry::of(&card).bytes().to_owned()
    };
    plan.cards.iter().enumerate().map(entry).collect()
}

/// The products as a life of the switch finds them, before its store knows better.
pub fn products() -> Arc<Products> {
    Arc::new(Products::new(config().products.iter().map(|product| Product::clone(product))))
}

/// The issuer's name for a card.
pub fn token(card: usize) -> String {
    format!("card-{card}")
}

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let link = |number: usize, network: &str, dialect: &str| {
            let unknown = if REFUSING_LINKS.contains(&number) { "refuse" } else { "accept" };
            format!(
                "[[links]]\nname = \"link-{number}\"\nnetwork = {network:?}\n\
                 listen = \"127.0.0.1:0\"\ndialect = {dialect:?}\nzpk = \"demo-zpk\"\n\
                 unknown_original = {unknown:?}\n"
            )
        };
        let product = |name: &str, limit: &str| {
            format!(
                "[[products]]\nname = {name:?}\nbins = [\"476134\"]\ncurrency = 978\n\
                 pin_retry_limit = {limit}\n"
            )
        };
        let text = [
            "data_dir = \"/nowhere\"\nhsm.master_key_file = \"demo\"\n\
             admin.listen = \"127.0.0.1:0\"\nlimits.bad_pin_blocks_per_minute = 255\n"
                .to_owned(),
            link(0, "alpha", "iso8583-1987-ascii"),
            link(1, "alpha", "iso8583-1987-ascii"),
            link(2, "beta", "iso8583-1987-binary"),
            product(CHIP_PRODUCT, "3"),
            "[products.chip]\nimk_ac = \"demo-visa-imk-ac\"\n\
             imk_smi = \"demo-visa-imk-smi\"\nimk_smc = \"demo-visa-imk-smc\"\n\
             offline_pin = false\n"
                .to_owned(),
            product("one", "1"),
            product("many", "\"none\""),
        ];
        Config::parse(&text.concat(), "simulation", Path::new("/")).expect("a configuration")
    })
}

fn link_metrics() -> &'static [Arc<LinkMetrics>] {
    static METRICS: OnceLock<Vec<Arc<LinkMetrics>>> = OnceLock::new();
    METRICS.get_or_init(|| {
        let links = config().links.iter();
        links.map(|link| LinkMetrics::new(&link.network, &link.name)).collect()
    })
}
