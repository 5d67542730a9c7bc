//! Putting the parts together: from a checked configuration to a running switch.

mod products;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::admin::AdminListener;
use crate::api::ApiListener;
use crate::cache::{CardEntry, Products};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{ClockBehind, Config, LinkConfig};
use crate::control::{self, ControlListener};
use crate::demo;
use crate::event::Actor;
use crate::hex::from_hex;
use crate::hsm::software::PanVault;
use crate::hsm::software::key::KeyFault;
use crate::hsm::software::key::{Key, KeyAttributes, KeyUsage, Operation};
use crate::hsm::software::key_block::ProtectionKey;
use crate::hsm::software::keys::{
    Addition, CARD_DIGEST_KEY, KeySource, Keys, KeysError, OWN_KEYS, PAN_KEY, read_master_key,
};
use crate::hsm::software::public_keys;
use crate::hsm::software::{self, SoftwareHsm, ZoneKey};
use crate::hsm::{ChipKeys, Hsm, Kcv};
use crate::in_flight::InFlight;
use crate::issuing::{Refused, api_keys, audit, blocks, keys, pins};
use crate::listener::{Listening, Workers};
use crate::metrics::Metrics;
use crate::place;
use crate::shutdown::{Shutdown, StopSignals};
use crate::store::duplicates::DuplicateHasher;
use crate::store::embedded::{EmbeddedStore, OpenOptions, OpenStoreError, Recovery};
use crate::store::record::OwnKeys;
use crate::store::{Store, StoreError};
use crate::switch::Switch;

/// What the switch is put together of here.
pub type Parts<C = SystemClock, H = SoftwareHsm> = (C, H, EmbeddedStore);

/// The switch as it is put together here.
pub type PinSwitch<C = SystemClock, H = SoftwareHsm> = Switch<Parts<C, H>>;

/// Upkeep of metrics: without it, samples pile up.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long connections may say 91 after the store has failed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why the switch did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory.
    #[error("data directory: {0}")]
    DataDir(io::Error),
    /// A key.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store cannot be opened.
    #[error("the store was not opened: {0}")]
    Open(#[from] OpenStoreError),
    /// The store holds records, but the keys they need are not there.
    #[error("{0}: the store holds records, but this key is missing; put it back")]
    KeysLost(String),
    /// The key directory is not that of the store.
    #[error(
        "the keys in {directory} are not those that the store was made with: {name} has the check \
         value {found} and not {expected}; put the right ones back"
    )]
    ForeignKeys {
        /// The key directory.
        directory: String,
        /// A key's name.
        name: &'static str,
        /// Its check value there.
        found: Kcv,
        /// The check value that stands in the store.
        expected: Kcv,
    },
    /// The clock is behind what was written with it.
    #[error(
        "the clock says {now}, but the newest record was written at {newest}: set the clock, or \
         clock_behind = \"warn\" if it was wrong then"
    )]
    ClockBehind {
        /// The time of now.
        now: Timestamp,
        /// The time of the newest record.
        newest: Timestamp,
    },
    /// A demo key on an address that is not loopback.
    #[error("{0} has the demo's public value, which only loopback addresses may use")]
    DemoKey(String),
    /// An address cannot be bound, or a thread not started.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A product of the store or of the configuration.
    #[error("product {token}: {refused}")]
    Product {
        /// Its name.
        token: String,
        /// What is wrong.
        refused: Box<Refused>,
    },
    /// A demo card could not be made.
    #[error("{0}")]
    DemoCard(String),
    /// The store failed while running. Nothing that was answered is lost.
    #[error("stopped: {0}")]
    Store(#[from] StoreError),
}

impl From<KeyFault> for RunError {
    fn from(fault: KeyFault) -> RunError {
        RunError::Keys(KeysError::Key { name: "own".to_owned(), fault })
    }
}

/// Reads the master key and the keys of a configuration's data directory.
///
/// # Errors
/// If the directory cannot be made or trusted, or a key not be read.
pub fn open_keys(config: &Config) -> Result<Keys, RunError> {
    place::make_data_directory(&config.data_dir).map_err(RunError::DataDir)?;
    let value = match &config.master_key_file {
        Some(path) => read_master_key(path)?,
        None => Zeroizing::new(public_keys::MASTER_KEY),
    };
    if *value == public_keys::MASTER_KEY && !config.is_loopback_only() {
        return Err(RunError::DemoKey("the master key".to_owned()));
    }
    Ok(Keys::open(KeySource {
        directory: config.data_dir.join("keys"),
        master: ProtectionKey::master(&value)?,
        allows_public: config.is_loopback_only(),
    })?)
}

/// Gives a label to each key that an earlier version has left without one. Who calls it holds the
/// lock of the key directory, and has read the keys since.
///
/// # Errors
/// If a file cannot be written.
pub fn label_keys(keys: &mut Keys) -> Result<(), RunError> {
    for name in keys.label()? {
        let actor = Actor::switch("start");
        tracing::info!(target: "audit", action = "key labelled", name, %actor);
    }
    Ok(())
}

/// Opens keys, store and HSM; nothing listens yet.
///
/// # Errors
/// What is wrong, with the place.
pub fn open<C: Clock + Clone>(
    config: &Config,
    clock: C,
) -> Result<(PinSwitch<C>, Recovery), RunError> {
    let mut keys = open_keys(config)?;
    if keys.has_unlabelled() {
        let _lock = keys.lock()?;
        keys = open_keys(config)?;
        label_keys(&mut keys)?;
    }
    let metrics = Metrics::new();
    let (sync, synced_records) = metrics.sync();
    let products = Arc::new(Products::default());
    let dropped_unread = metrics.events_dropped_unread();
    let options = OpenOptions {
        data_dir: config.data_dir.clone(),
        config: config.store.clone(),
        products: Arc::clone(&products),
        networks: config.networks(),
        clock: Arc::new(clock.clone()),
        monotonic: || SystemClock.monotonic(),
        sync_observer: Arc::new(move |took: Duration, records| {
            sync.record(took.as_secs_f64());
            synced_records.increment(records);
        }),
        unread_observer: Arc::new(move |unread| dropped_unread.increment(unread)),
    };
    for directory in ["journal", "snapshots"] {
        place::check_tree(&config.data_dir.join(directory)).map_err(RunError::DataDir)?;
    }
    let is_new = keys.missing_own_keys().len() == OWN_KEYS.len() && options.is_untouched();
    let (store, recovery) = EmbeddedStore::open(&options, is_new)?;
    check_clock(config, &recovery, options.clock.now())?;
    prepare_keys(config, &mut keys, recovery.journal.last.get() > 0)?;
    let vault = PanVault::new(
        keys.get(CARD_DIGEST_KEY, KeyUsage::Hmac, Operation::Generate)?,
        keys.get(PAN_KEY, KeyUsage::DataEncryption, Operation::Encrypt)?,
    )?;
    bind(config, &keys, &store)?;
    let zone_keys = config.links.iter().map(|link| ZoneKey {
        name: link.zpk.clone(),
        algorithm: link.zone_key_algorithm(),
        under_older: metrics.under_older_zone_key(link.zpk.as_str()),
    });
    // Before the products of the configuration are written: one whose keys are not there is none.
    let hsm = SoftwareHsm::new(&keys, zone_keys.collect(), &keys::needs(&config.products))?;
    products::load(config, &store, &vault, &products, clock.now())?;
    let switch = Switch {
        clock,
        hsm,
        store,
        duplicates: DuplicateHasher::new(&vault.derive(b"duplicates")),
        vault,
        products,
        limits: config.limits,
        in_flight: InFlight::default(),
        log_transactions: config.log.transactions,
        metrics,
    };
    Ok((switch, recovery))
}

/// How far the clock may be behind the newest record: time services set it back by less.
const BEHIND_MAX: Duration = Duration::from_secs(60);

fn check_clock(config: &Config, recovery: &Recovery, now: Timestamp) -> Result<(), RunError> {
    let ahead = recovery.newest.filter(|newest| newest.since(now) > BEHIND_MAX);
    match (ahead, config.store.clock_behind) {
        (None, _) => Ok(()),
        (Some(newest), ClockBehind::Refuse) => Err(RunError::ClockBehind { now, newest }),
        (Some(newest), ClockBehind::Warn) => {
            tracing::error!(%now, %newest, "the clock is behind the newest record: it was wrong \
                then, or it is wrong now");
            Ok(())
        }
    }
}

/// A key directory of another store would find no card, and say so to every cardholder.
fn bind(config: &Config, keys: &Keys, store: &EmbeddedStore) -> Result<(), RunError> {
    let found = OwnKeys {
        card_digest: keys.newest(CARD_DIGEST_KEY)?.kcv(),
        pan: keys.newest(PAN_KEY)?.kcv(),
    };
    let known = store.bind(found)?;
    let pairs =
        [(CARD_DIGEST_KEY, found.card_digest, known.card_digest), (PAN_KEY, found.pan, known.pan)];
    match pairs.into_iter().find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((name, found, expected)) => {
            let directory = config.data_dir.join("keys").display().to_string();
            Err(RunError::ForeignKeys { directory, name, found, expected })
        }
    }
}

/// Whether each key that a configuration names is there and can be used; what is wrong, once
/// each. Without a key directory there is nothing to look at, and the demo brings its own keys.
///
/// # Errors
/// If the data directory cannot be trusted, or the keys not be read.
pub fn check_keys(config: &Config) -> Result<Option<Vec<KeysError>>, RunError> {
    match place::check_data_directory(&config.data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        checked => checked.map_err(RunError::DataDir)?,
    }
    if config.is_demo || !config.data_dir.join("keys").exists() {
        return Ok(None);
    }
    let keys = open_keys(config)?;
    let zone_keys = config
        .links
        .iter()
        .map(|link| software::check_zone_key(&keys, &link.zpk, link.zone_key_algorithm()));
    let methods = config.products.iter().flat_map(|product| product.pin_methods.iter());
    let pvks = methods.map(|method| software::check_pvk(&keys, method));
    let chips = chip_keys(config).map(|chip| software::check_chip_keys(&keys, chip));
    let all = zone_keys.chain(pvks).chain(chips);
    let mut faults: Vec<KeysError> = all.filter_map(Result::err).collect();
    faults.sort_by_key(KeysError::to_string);
    faults.dedup_by_key(|fault| fault.to_string());
    Ok(Some(faults))
}

fn chip_keys(config: &Config) -> impl Iterator<Item = &ChipKeys> {
    config.products.iter().filter_map(|product| Some(&product.chip.as_ref()?.keys))
}

fn prepare_keys(config: &Config, keys: &mut Keys, has_records: bool) -> Result<(), RunError> {
    match keys.missing_own_keys().first() {
        Some((name, _)) if has_records => return Err(RunError::KeysLost((*name).to_owned())),
        _ => keys.generate_own_keys()?,
    }
    for (name, usage, value) in demo::KEYS.into_iter().filter(|_| config.is_demo) {
        if keys.versions(name).is_err() {
            let value = from_hex(value).ok_or(KeyFault::Length)?;
            keys.add(name, Key::new(KeyAttributes::usual(usage), value)?, Addition::New)?;
        }
    }
    Ok(())
}

/// Runs the switch until it is told to stop (SIGTERM, SIGINT, SIGHUP). `dropped_lines` tells how
/// many log lines were dropped so far.
///
/// # Errors
/// Why it did not start, or that its store failed.
pub async fn run(
    config: Config,
    metrics: PrometheusHandle,
    dropped_lines: impl Fn() -> usize + Send + 'static,
) -> Result<(), RunError> {
    let (switch, recovery) = open(&config, SystemClock)?;
    let switch = Arc::new(switch);
    report(&config, &recovery);
    warn_of_places(&config);
    let control = ControlListener::bind(&config.data_dir)?;
    // Who changed a key before now could not tell us.
    switch.hsm.reload_keys(&keys::needs(&config.products))?;
    audit::of_keys(&Actor::switch("start"), "key in use", &switch.hsm.inventory());
    warn_of_lost_references(&switch);
    warn_of_products(&switch).await;
    if config.is_demo {
        demo::add_cards(&switch).await.map_err(RunError::DemoCard)?;
        let added = api_keys::add_demo_key(&switch, demo::API_KEY, demo::API_SECRET).await;
        added.map_err(|refused| RunError::DemoCard(refused.to_string()))?;
    }
    let mut signals = StopSignals::watch()?;
    let shutdown = Shutdown::default();
    let mut links = Vec::new();
    for link in &config.links {
        links.push(Listening::bind(link).await?);
    }
    let admin = AdminListener::bind(config.admin).await?;
    let api = config.api.as_ref().map(ApiListener::bind).transpose()?;
    if config.is_demo {
        let api = api.as_ref().map(ApiListener::address).transpose()?;
        demo::print_banner(&config, &links, admin.address()?, api)?;
    }
    let workers = Arc::new(Workers::start(&switch, &shutdown)?);
    let api_ended = api.map(|api| start_api(api, &switch, &shutdown)).transpose()?;
    for link in links {
        let address = link.address()?;
        tracing::info!(link = &*link.link().name, %address, "listening");
        tokio::spawn(link.accept(Arc::clone(&switch), Arc::clone(&workers), shutdown.clone()));
    }
    tokio::spawn(admin.serve(Arc::clone(&switch), metrics.clone(), shutdown.clone()));
    tokio::spawn(control.serve(Arc::clone(&switch), shutdown.clone()));
    let networks = config.networks();
    tokio::spawn(upkeep(Arc::clone(&switch), metrics, networks, dropped_lines));
    tokio::spawn(expire(Arc::clone(&switch)));
    tokio::select! {
        () = signals.received() => {}
        failed = switch.store.failed() => {
            tracing::error!(%failed, "no request can be decided any more");
            // Those who wait get their 91; nothing else is left to do.
            shutdown.stop.cancel();
            let _ = tokio::time::timeout(LAST_ANSWERS, workers.ended()).await;
            return Err(failed.into());
        }
    }
    let ended = async {
        workers.ended().await;
        if let Some(api) = api_ended {
            api.cancelled().await;
        }
    };
    stop(&config, &switch, ended, &shutdown, signals).await
}

fn start_api(
    api: ApiListener,
    switch: &Arc<PinSwitch>,
    shutdown: &Shutdown,
) -> io::Result<CancellationToken> {
    let address = api.address()?;
    tracing::info!(%address, "the API listens");
    api.start(switch, shutdown)
}

/// Accepts nothing new, finishes what is in flight up to the cap, and closes the store.
async fn stop(
    config: &Config,
    switch: &PinSwitch,
    ended: impl Future<Output = ()>,
    shutdown: &Shutdown,
    mut signals: StopSignals,
) -> Result<(), RunError> {
    tracing::info!("stopping: requests in flight are finished");
    shutdown.stop.cancel();
    let mut ended = std::pin::pin!(ended);
    let has_ended = tokio::select! {
        () = &mut ended => true,
        () = tokio::time::sleep(config.limits.drain_seconds_max) => false,
        () = signals.insisted() => false,
    };
    if !has_ended {
        tracing::warn!(
            "requests in flight are given up: the time is over, or a second signal came"
        );
        shutdown.abandon.cancel();
        ended.await;
    }
    switch.store.close()?;
    // Only our own socket: it is gone already if the data directory is.
    let _ = std::fs::remove_file(control::socket(&config.data_dir));
    tracing::info!("stopped");
    Ok(())
}

fn report(config: &Config, recovery: &Recovery) {
    tracing::warn!("the software HSM is not a PCI HSM: for tests only");
    for damaged in &recovery.damaged_snapshots {
        tracing::error!(%damaged, "a snapshot is damaged; an older one and the journal were used");
    }
    for damaged in &recovery.journal.repaired {
        tracing::error!(%damaged, "damage that cost nothing was repaired");
    }
    if let Some(dropped) = &recovery.journal.dropped {
        let (file, offset, bytes) = (&dropped.file, dropped.offset, dropped.bytes);
        tracing::warn!(file, offset, bytes, "records that nobody was answered for were dropped");
    }
    let open = |link: &&Arc<LinkConfig>| !link.listen.ip().is_loopback() && link.peers.is_any();
    for link in config.links.iter().filter(open) {
        tracing::warn!(link = &*link.name, "any address may connect: no peers are listed");
    }
    let data_dir = config.data_dir.display();
    tracing::info!(cards = recovery.cards, %data_dir, "the store is open");
}

/// Who could exchange the data directory or the master key file, though not what is in them.
fn warn_of_places(config: &Config) {
    let places = config.master_key_file.iter().chain([&config.data_dir]);
    let mut doubts: Vec<String> = places.flat_map(|place| place::doubts(place)).collect();
    doubts.sort_unstable();
    doubts.dedup();
    for doubt in doubts {
        tracing::warn!("{doubt}");
    }
}

/// Cards that no PIN can be verified for are declined with 91: somebody should know.
fn warn_of_lost_references(switch: &PinSwitch) {
    let is_lost = |entry: &CardEntry| {
        let reference = entry.state().pin.reference;
        let methods = &entry.product.rules().pin_methods;
        reference.is_some_and(|known| !switch.hsm.knows(&known, methods))
    };
    let cards = switch.store.cache().count(is_lost);
    if cards > 0 {
        tracing::error!(
            cards,
            "no key or method is there any more by which the PINs of these cards were set: every \
             PIN of theirs is answered with 91 (see earlier_pin_verification)"
        );
    }
}

/// Products whose keys are not there, and cards whose product is gone.
async fn warn_of_products(switch: &PinSwitch) {
    for product in switch.products.all() {
        let chip = product.chip.as_ref().map(|chip| &chip.keys);
        if let Err(missing) = switch.hsm.check_keys(&product.pin_methods, chip).await {
            let product = &*product.name;
            tracing::error!(product, %missing, "what it is needed for is answered with 91");
        }
    }
    let cards = switch.store.cache().count(|card| !card.product.rules().is_known());
    if cards > 0 {
        tracing::error!(
            cards,
            "the product of these cards is gone: each of theirs is declined 1015"
        );
    }
}

/// How often PIN changes are looked for whose time is over.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

/// Deletes PIN blocks that waited too long for a chip.
async fn expire(switch: Arc<PinSwitch>) {
    let actor = Actor::switch("expiry");
    let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        interval.tick().await;
        if !switch.store.may_forget() {
            continue;
        }
        // All cards are looked at: on a thread where that stops nobody.
        let (of, now) = (Arc::clone(&switch), switch.clock.now());
        let due = move || of.store.cache().those(|entry| pins::is_due(entry, now));
        let Ok(cards) = tokio::task::spawn_blocking(due).await else { continue };
        if let Err(error) = pins::expire_changes(&switch, &actor, &cards).await {
            tracing::error!(%error, "no PIN change was ended");
        }
        if let Err(error) = blocks::forget(&switch).await {
            tracing::error!(%error, "blocks of PINs that are over are still kept");
        }
    }
}

async fn upkeep(
    switch: Arc<PinSwitch>,
    metrics: PrometheusHandle,
    networks: Vec<Arc<str>>,
    dropped_lines: impl Fn() -> usize,
) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
        for network in &networks {
            switch.metrics.duplicate_window(network, switch.store.duplicate_window(network));
        }
        switch.metrics.clock_settled(switch.store.may_forget());
        switch.metrics.log_lines_dropped(dropped_lines());
    }
}
