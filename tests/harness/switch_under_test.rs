//! A whole switch in this process: real store, real HSM, a clock that the test moves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use switch::cache::Card;
use switch::cache::NewCard;
use switch::cards::{CardState, CardStatus, Embossed, Expiry, Pan, Plastic, StatusReason};
use switch::clock::{Clock, SystemClock, Timestamp};
use switch::config::Config;
use switch::connection::serve_and_log;
use switch::control::{self, Command, Reply};
use switch::event::Actor;
use switch::hsm::software::SoftwareHsm;
use switch::hsm::{
    AcceptPin, AcceptPinError, AcceptedPin, Authenticated, ChipCall, ChipKeys, ClearPin, Hsm,
    HsmUnavailable, IssuerAuthenticate, MissingKey, MovePin, MovePinError, PinMethods, RevealPin,
    TestKeys, VerifyPin,
};
use switch::issuing::card_details::CardDetails;
use switch::issuing::secret::PinText;
use switch::metrics::LinkMetrics;
use switch::outcome::{CryptogramOutcome, PinOutcome};
use switch::run::{PinSwitch, RunError, open};
use switch::session::Session;
use switch::shutdown::Shutdown;
use switch::store::{Commit, Store};
use switch::switch::{Seams, Switch};
use tokio::io::DuplexStream;
use tokio::sync::watch;
use zeroize::Zeroizing;

/// A civil time that stands still until it is moved. Time that passes does so for the monotonic
/// clock too, which runs besides.
#[derive(Clone, Default)]
pub struct TestClock {
    civil: Arc<AtomicI64>,
    passed: Arc<AtomicU64>,
}

impl TestClock {
    /// Sets the civil time.
    pub fn set(&self, now: Timestamp) {
        self.civil.store(now.micros(), Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap();
        self.civil.fetch_add(micros.cast_signed(), Ordering::SeqCst);
        self.passed.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.civil.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + Duration::from_micros(self.passed.load(Ordering::SeqCst))
    }
}

/// The software HSM behind a door: it can be out of order or slow, and answers can be held back.
pub struct TestHsm {
    inner: SoftwareHsm,
    door: HsmDoor,
}

/// What the test does with the HSM.
#[derive(Clone)]
pub struct HsmDoor {
    down: Arc<AtomicBool>,
    without_arpc: Arc<AtomicBool>,
    held: Arc<watch::Sender<bool>>,
    waiting: Arc<AtomicUsize>,
    pins_asked: Arc<AtomicUsize>,
    takes_millis: Arc<AtomicU64>,
}

impl Default for HsmDoor {
    fn default() -> HsmDoor {
        let (held, _) = watch::channel(false);
        let (down, without_arpc, waiting) = Default::default();
        let (pins_asked, takes_millis) = Default::default();
        HsmDoor { down, without_arpc, held: Arc::new(held), waiting, pins_asked, takes_millis }
    }
}

impl HsmDoor {
    /// Out of order, or working again.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Verifies, but has no answer for a chip; or has one again.
    pub fn set_without_arpc(&self, without: bool) {
        self.without_arpc.store(without, Ordering::SeqCst);
    }

    /// Holds answers back, or lets them go.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Verifications that are held back.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Lets each verification take this long.
    pub fn set_takes(&self, time: Duration) {
        self.takes_millis.store(time.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    /// How many PINs it was asked about, whatever it said.
    pub fn pins_asked(&self) -> usize {
        self.pins_asked.load(Ordering::SeqCst)
    }

    async fn take_time(&self) {
        let millis = self.takes_millis.load(Ordering::SeqCst);
        if millis > 0 {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}

impl Hsm for TestHsm {
    async fn verify_pin(&self, call: VerifyPin<'_>) -> PinOutcome {
        self.door.pins_asked.fetch_add(1, Ordering::SeqCst);
        self.door.take_time().await;
        if self.door.down.load(Ordering::SeqCst) {
            return PinOutcome::Unavailable;
        }
        // The answer is the one of the moment when it was asked for.
        let verification = self.inner.verify_pin(call).await;
        self.door.waiting.fetch_add(1, Ordering::SeqCst);
        self.door.held.subscribe().wait_for(|held| !held).await.unwrap();
        self.door.waiting.fetch_sub(1, Ordering::SeqCst);
        verification
    }

    async fn accept_pin(&self, call: AcceptPin<'_>) -> Result<AcceptedPin, AcceptPinError> {
        self.inner.accept_pin(call).await
    }

    async fn move_pin(&self, call: MovePin<'_>) -> Result<AcceptedPin, MovePinError> {
        match self.door.down.load(Ordering::SeqCst) {
            true => Err(AcceptPinError::Unavailable.into()),
            false => self.inner.move_pin(call).await,
        }
    }

    async fn reveal_clear(&self, call: RevealPin<'_>) -> Result<Box<ClearPin>, HsmUnavailable> {
        if self.door.down.load(Ordering::SeqCst) {
            return Err(HsmUnavailable("it is down".to_owned()));
        }
        self.inner.reveal_clear(call).await
    }

    async fn verify_arqc(&self, call: ChipCall<'_>) -> CryptogramOutcome {
        self.door.take_time().await;
        if self.door.down.load(Ordering::SeqCst) {
            return CryptogramOutcome::Unavailable;
        }
        self.inner.verify_arqc(call).await
    }

    async fn issuer_authenticate(
        &self,
        call: IssuerAuthenticate<'_>,
    ) -> Result<Authenticated, HsmUnavailable> {
        let without_arpc = self.door.without_arpc.load(Ordering::SeqCst);
        if without_arpc || self.door.down.load(Ordering::SeqCst) {
            return Err(HsmUnavailable("it is down".to_owned()));
        }
        self.inner.issuer_authenticate(call).await
    }

    async fn test_keys(&self, keys: &ChipKeys) -> Option<TestKeys> {
        self.inner.test_keys(keys).await
    }

    async fn check_keys(
        &self,
        methods: &PinMethods,
        chip: Option<&ChipKeys>,
    ) -> Result<(), MissingKey> {
        self.inner.check_keys(methods, chip).await
    }

    async fn health(&self) -> Result<(), HsmUnavailable> {
        self.inner.health().await
    }
}

/// The switch, and how to start it again.
pub struct SwitchUnderTest {
    pub switch: Arc<PinSwitch<TestClock, TestHsm>>,
    pub config: Config,
    pub hsm: HsmDoor,
    clock: TestClock,
}

fn open_with(
    config: &Config,
    clock: TestClock,
    door: HsmDoor,
) -> Result<Arc<PinSwitch<TestClock, TestHsm>>, RunError> {
    let (switch, _) = open(config, clock)?;
    Ok(Arc::new(Switch {
        hsm: TestHsm { inner: switch.hsm, door },
        clock: switch.clock,
        store: switch.store,
        vault: switch.vault,
        duplicates: switch.duplicates,
        products: switch.products,
        limits: switch.limits,
        in_flight: switch.in_flight,
        log_transactions: switch.log_transactions,
        metrics: switch.metrics,
    }))
}

impl SwitchUnderTest {
    /// Starts a switch; `config` is a configuration text without `data_dir`.
    pub fn start(config: &str, data_dir: &Path, clock: TestClock) -> SwitchUnderTest {
        Self::try_start(config, data_dir, clock).unwrap()
    }

    /// The same, or why it does not start.
    ///
    /// # Errors
    /// What [`open`] says.
    pub fn try_start(
        config: &str,
        data_dir: &Path,
        clock: TestClock,
    ) -> Result<SwitchUnderTest, RunError> {
        let text = format!("data_dir = {:?}\n{config}", data_dir.display().to_string());
        let config = Config::parse(&text, "test", Path::new("/")).unwrap();
        let hsm = HsmDoor::default();
        let switch = open_with(&config, clock.clone(), hsm.clone())?;
        Ok(SwitchUnderTest { switch, config, hsm, clock })
    }

    /// Stops and starts it on the same data.
    pub fn restart(self) -> SwitchUnderTest {
        self.switch.store.close().unwrap();
        self.crash()
    }

    /// Ends it as a process ends that is killed, with what it has not written, and starts it on
    /// the same data.
    pub fn crash(self) -> SwitchUnderTest {
        let SwitchUnderTest { switch, config, hsm, clock } = self;
        drop(Arc::into_inner(switch).expect("every connection has ended"));
        let switch = open_with(&config, clock.clone(), hsm.clone()).unwrap();
        SwitchUnderTest { switch, config, hsm, clock }
    }

    /// A connection to one of its links, counted from 0.
    pub fn connect(&self, link: usize) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let link = Arc::clone(&self.config.links[link]);
        let metrics = LinkMetrics::new(&link.network, &link.name);
        let session = Session::new(link, metrics, Arc::default(), Arc::default(), "terminal");
        let switch = Arc::clone(&self.switch);
        let serve = serve_and_log(switch, session, theirs, Shutdown::default());
        (ours, tokio::spawn(serve))
    }

    /// A card without a PIN, as a product's issuer creates it.
    pub async fn add_card(&self, token: &str, pan: &str, product: &str, plastic: (&str, u8)) {
        let pan = Pan::parse(pan.as_bytes()).unwrap();
        let expiry = Expiry::parse(plastic.0.as_bytes()).unwrap();
        let state = CardState::new(Plastic::new(expiry, plastic.1));
        let identity = self.switch.vault.identify(token, &pan).unwrap();
        let product = self.switch.products.get(product).expect("a product of the table");
        let card = NewCard { identity, product, state };
        let added = self.switch.store.add_cards(vec![card.into()]).await.unwrap();
        assert_eq!(added, [Ok(())]);
    }

    /// The card as it is.
    pub async fn card(&self, token: &str) -> Card {
        self.switch.store.load_by_token(token).await.unwrap().expect("a card of the table")
    }

    /// Changes a card as no command does yet.
    pub async fn change(&self, token: &str, next: impl FnOnce(&CardState) -> CardState) {
        let card = self.card(token).await;
        let commit = Commit::by_issuer(&card, next(&card.state));
        self.switch.store.commit(commit, &mut None).await.unwrap();
    }

    /// Puts the plastic of a card at this place into a state.
    pub async fn set_status(&self, token: &str, plastic: usize, status: CardStatus, reason: u8) {
        let reason = StatusReason(reason);
        self.change(token, |card| card.with_status(plastic, status, reason)).await;
    }

    /// Gives a card one more plastic, which is not activated and has a token of its own: that of
    /// the card, `-` and its sequence number.
    pub async fn reissue(&self, token: &str, plastic: (&str, u8), embossed: Embossed) {
        let expiry = Expiry::parse(plastic.0.as_bytes()).unwrap();
        let own = format!("{token}-{}", plastic.1);
        let details = CardDetails::new(token, self.clock.now());
        let documents = vec![details.write(&self.switch, &own, 0).unwrap()];
        let plastic = Plastic::new(expiry, plastic.1).embossed_with(embossed);
        let card = self.card(token).await;
        let mut state = CardState::clone(&card.state);
        state.plastics.push(plastic.with_token(own.into()));
        let commit = Commit { documents, ..Commit::by_issuer(&card, state) };
        self.switch.store.commit(commit, &mut None).await.unwrap();
    }

    /// `pinswitch card activate`.
    pub async fn activate(&self, token: &str) -> Reply {
        execute(&self.switch, Command::Activate { token: token.to_owned() }).await
    }

    /// `pinswitch card reset-pin-tries`.
    pub async fn reset_tries(&self, token: &str) -> Reply {
        execute(&self.switch, Command::ResetPinTries { token: token.to_owned() }).await
    }

    /// `pinswitch card set-pin`.
    pub async fn set_pin(&self, token: &str, pin: &str) -> Reply {
        let pin = PinText::new(Zeroizing::new(pin.to_owned()));
        execute(&self.switch, Command::SetPin { token: token.to_owned(), pin }).await
    }
}

/// Carries out a command of the command line.
pub async fn execute<W: Seams>(switch: &Switch<W>, command: Command) -> Reply {
    control::execute(switch, &Actor::user(0), command).await
}
