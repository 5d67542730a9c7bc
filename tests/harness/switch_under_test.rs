//! A whole switch in this process: real store, real HSM, a clock that the test moves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use switch::cards::cache::NewCard;
use switch::cards::{Card, CardState, CardStatus, Expiry, Pan, Plastic, StatusReason};
use switch::clock::{Clock, Timestamp};
use switch::config::Config;
use switch::connection::serve_and_log;
use switch::control::{self, Command, Outcome, PinText};
use switch::metrics::LinkMetrics;
use switch::run::{PinSwitch, open};
use switch::shutdown::Shutdown;
use switch::store::{Commit, Store};
use switch::switch::Session;
use tokio::io::DuplexStream;
use zeroize::Zeroizing;

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    /// Sets the time.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.micros(), Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// The switch, and how to start it again.
pub struct SwitchUnderTest {
    pub switch: Arc<PinSwitch<TestClock>>,
    pub config: Config,
    clock: TestClock,
}

impl SwitchUnderTest {
    /// Starts a switch; `config` is a configuration text without `data_dir`.
    pub fn start(config: &str, data_dir: &Path, clock: TestClock) -> SwitchUnderTest {
        let text = format!("data_dir = {:?}\n{config}", data_dir.display().to_string());
        let config = Config::parse(&text, "test", Path::new("/")).unwrap();
        let (switch, _) = open(&config, clock.clone()).unwrap();
        SwitchUnderTest { switch: Arc::new(switch), config, clock }
    }

    /// Stops and starts it on the same data.
    pub fn restart(self) -> SwitchUnderTest {
        self.switch.store.close().unwrap();
        let SwitchUnderTest { switch, config, clock } = self;
        drop(Arc::into_inner(switch).expect("every connection has ended"));
        let (switch, _) = open(&config, clock.clone()).unwrap();
        SwitchUnderTest { switch: Arc::new(switch), config, clock }
    }

    /// A connection to its first link.
    pub fn connect(&self) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let link = Arc::clone(&self.config.links[0]);
        let metrics = LinkMetrics::new(&link.network, &link.name);
        let session = Session::new(link, metrics, "terminal");
        let switch = Arc::clone(&self.switch);
        let serve = serve_and_log(switch, session, theirs, Shutdown::default());
        (ours, tokio::spawn(serve))
    }

    /// A card without a PIN, as a product's issuer creates it.
    pub async fn add_card(&self, token: &str, pan: &str, product: &str, plastic: (&str, u8)) {
        let pan = Pan::parse(pan.as_bytes()).unwrap();
        let key = self.switch.vault.card_key(&pan);
        let expiry = Expiry::parse(plastic.0.as_bytes()).unwrap();
        let state = CardState::new(Plastic { expiry, sequence: plastic.1 });
        let card = NewCard {
            key,
            token: token.into(),
            masked_pan: pan.masked(),
            sealed_pan: self.switch.vault.seal(&key, &pan).unwrap(),
            product: Arc::clone(self.config.product(product).expect("a product of the table")),
            state,
        };
        self.switch.store.add_card(card).await.unwrap();
    }

    /// The card as it is.
    pub async fn card(&self, token: &str) -> Card {
        self.switch.store.load_by_token(token).await.unwrap().expect("a card of the table")
    }

    /// Puts a card into a state that no command leads to yet.
    pub async fn set_status(&self, token: &str, status: CardStatus, reason: u8) {
        let card = self.card(token).await;
        let status_reason = StatusReason(reason);
        let change = CardState { status, status_reason, ..CardState::clone(&card.state) };
        let commit =
            Commit { card: Some(&card), change: Some(change), transaction: None, event: None };
        self.switch.store.commit(commit, &mut None).await.unwrap();
    }

    /// `pinswitch card activate`.
    pub async fn activate(&self, token: &str) -> Outcome {
        control::execute(&self.switch, Command::Activate { token: token.to_owned() }).await
    }

    /// `pinswitch card set-pin`.
    pub async fn set_pin(&self, token: &str, pin: &str) -> Outcome {
        let pin = PinText::new(Zeroizing::new(pin.to_owned()));
        control::execute(&self.switch, Command::SetPin { token: token.to_owned(), pin }).await
    }
}
