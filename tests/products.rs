//! Products that change while cards use them: every answer is right by one of the rules that were
//! in force while it was made, and what must not change under cards is refused.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use iso_specs::Spec;
use switch::config::ProductSettings;
use switch::control::{Command, Reply};
use switch::event::Actor;
use switch::issuing::products::{self, ManagedBy};
use switch::issuing::{Code, Refused};
use switch::listener::{Listening, Workers};
use switch::run::RunError;
use switch::shutdown::Shutdown;
use switch::store::document::{DocumentChange, DocumentKind};
use switch::store::{Commit, Store};
use tests::switch_under_test::{SwitchUnderTest, TestClock, execute};
use tests::terminal::{Fields, Terminal, ZPK, pan, pin_block};
use tokio::net::TcpStream;

const RIGHT: &str = "4071";
const WRONG: &str = "1111";
/// Cards, each with a terminal that sends its next request when the last is answered.
const CARDS: usize = 24;
/// Requests of a terminal, and changes of the product meanwhile at least.
const REQUESTS: u32 = 300;
const CHANGES: u32 = 100;

fn config() -> String {
    "hsm.master_key_file = \"demo\"\nadmin.listen = \"127.0.0.1:0\"\nlimits.threads = 2\n\
     [store]\nsegment_mb = 4\nduplicate_index_mb_max = 4\n\
     [[links]]\nname = \"link\"\nnetwork = \"net\"\nlisten = \"127.0.0.1:0\"\n\
     dialect = \"iso8583-1987-ascii\"\nzpk = \"demo-zpk\"\n\
     [[products]]\nname = \"of-file\"\nbins = [\"541333\"]\ncurrency = 978\n"
        .to_owned()
}

fn settings(limit: &str, bins: &str, currency: u16) -> ProductSettings {
    let text =
        format!("{{\"bins\": [{bins}], \"currency\": {currency}, \"pin_retry_limit\": {limit}}}");
    serde_json::from_str(&text).unwrap()
}

fn debit(limit: u32) -> ProductSettings {
    settings(&limit.to_string(), "\"476134\"", 978)
}

async fn put(
    test: &SwitchUnderTest,
    token: &str,
    settings: ProductSettings,
) -> Result<u64, Refused> {
    let put = products::put(&test.switch, &Actor::user(0), token, settings, None).await;
    put.map(|view| view.version)
}

fn request(number: u32, pan: &str, pin: &str) -> Fields {
    let mut fields = Fields::new("0100");
    let (stan, rrn) = (format!("{:06}", number % 1_000_000), format!("{number:012}"));
    fields.set(2, pan.as_bytes()).set(3, b"000000").set(4, b"000000001250");
    fields.set(7, b"1121120000").set(11, stan.as_bytes()).set(37, rrn.as_bytes());
    fields.set(49, b"978").set(52, &pin_block(pin, pan, 0, ZPK));
    fields
}

async fn listen(test: &SwitchUnderTest) -> (SocketAddr, Shutdown) {
    let shutdown = Shutdown::default();
    let listening = Listening::bind(&test.config.links[0]).await.unwrap();
    let address = listening.address().unwrap();
    let workers = Arc::new(Workers::start(&test.switch, &shutdown).unwrap());
    tokio::spawn(listening.accept(Arc::clone(&test.switch), workers, shutdown.clone()));
    (address, shutdown)
}

/// The limits of the product: 3 and 5 by turns.
const LIMITS: [u32; 2] = [3, 5];

/// How many changes of the limit have begun, and how many of them are over.
#[derive(Default)]
struct Changes {
    begun: AtomicU32,
    over: AtomicU32,
}

impl Changes {
    /// The changes that are over now: after the last of them, its limit is in force.
    fn over(&self) -> u32 {
        self.over.load(Ordering::SeqCst)
    }

    /// The limits that were in force since so many changes were over.
    fn limits_since(&self, over: u32) -> impl Iterator<Item = u32> + Clone {
        (over..=self.begun.load(Ordering::SeqCst)).take(2).map(|count| LIMITS[count as usize % 2])
    }
}

/// What is known of a card by its answers.
#[derive(Clone, Copy, Default)]
struct Known {
    tries: u32,
    is_suspended: bool,
}

/// One request; the card after it.
async fn exchange(
    terminal: &mut Terminal<TcpStream>,
    spec: &Spec,
    (number, pan): (u32, &str),
    changes: &Changes,
    known: Known,
) -> Known {
    let is_right = number.is_multiple_of(7);
    let over = changes.over();
    terminal.send(&request(number, pan, if is_right { RIGHT } else { WRONG }).frame(spec)).await;
    let code = Fields::read(spec, &terminal.receive().await).text(39);
    let (mut limits, tries) = (changes.limits_since(over), known.tries + 1);
    let (may_be_55, may_be_75) =
        (limits.clone().any(|limit| tries < limit), limits.any(|limit| tries >= limit));
    match (&*code, known.is_suspended, is_right) {
        ("75", true, _) => known,
        ("00", false, true) => Known::default(),
        ("55", false, false) if may_be_55 => Known { tries, ..known },
        ("75", false, false) if may_be_75 => Known { tries, is_suspended: true },
        _ => panic!("{pan} after {} tries: {code}, since change {over}", known.tries),
    }
}

/// A closed loop of requests; a suspended card is made active again.
async fn play(
    (test, address): (Arc<SwitchUnderTest>, SocketAddr),
    card: usize,
    changes: Arc<Changes>,
) -> (u32, u32) {
    let spec = Arc::clone(&test.config.links[0].dialect);
    let (pan, token) = (pan("476134", card), format!("card-{card}"));
    let mut terminal = Terminal { stream: TcpStream::connect(address).await.unwrap() };
    let (mut known, mut suspensions, mut late) = (Known::default(), 0, 0);
    for request in 0..REQUESTS {
        let number = u32::try_from(card).unwrap() * REQUESTS + request;
        let was = known;
        known = exchange(&mut terminal, &spec, (number, &pan), &changes, known).await;
        if known.is_suspended && !was.is_suspended {
            suspensions += 1;
            late += u32::from(known.tries > 3);
        }
        if was.is_suspended {
            assert!(matches!(test.activate(&token).await, Reply::Card(_)));
            known = Known::default();
        }
    }
    (suspensions, late)
}

#[tokio::test]
async fn a_retry_limit_changes_under_traffic_and_every_answer_is_right_by_one_of_both() {
    let directory = tempfile::tempdir().unwrap();
    let test = SwitchUnderTest::start(&config(), directory.path(), TestClock::default());
    put(&test, "debit", debit(3)).await.unwrap();
    for card in 0..CARDS {
        let (token, pan) = (format!("card-{card}"), pan("476134", card));
        test.add_card(&token, &pan, "debit", ("2912", 1)).await;
        test.set_pin(&token, RIGHT).await;
        test.activate(&token).await;
    }
    let (test, changes) = (Arc::new(test), Arc::new(Changes::default()));
    let (address, shutdown) = listen(&test).await;
    let played =
        |card| tokio::spawn(play((Arc::clone(&test), address), card, Arc::clone(&changes)));
    let terminals: Vec<_> = (0..CARDS).map(played).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let changer = tokio::spawn({
        let (test, changes, is_over) = (Arc::clone(&test), Arc::clone(&changes), is_over.clone());
        async move {
            while changes.over() < CHANGES || !is_over.load(Ordering::SeqCst) {
                let next = changes.begun.fetch_add(1, Ordering::SeqCst) + 1;
                put(&test, "debit", debit(LIMITS[next as usize % 2])).await.unwrap();
                changes.over.store(next, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let (mut suspensions, mut late) = (0, 0);
    for terminal in terminals {
        let (found, found_late) = terminal.await.unwrap();
        (suspensions, late) = (suspensions + found, late + found_late);
    }
    is_over.store(true, Ordering::SeqCst);
    changer.await.unwrap();
    // Both rules have suspended: cards at their third, and cards that had more under the other.
    assert!(late > 0 && suspensions > late, "{suspensions} {late}");
    shutdown.stop.cancel();
}

/// From 5 to 3 with cards at 4 tries: the next wrong PIN suspends each of them.
#[tokio::test]
async fn no_card_beyond_a_lowered_limit_is_never_suspended() {
    let directory = tempfile::tempdir().unwrap();
    let test = SwitchUnderTest::start(&config(), directory.path(), TestClock::default());
    put(&test, "debit", debit(5)).await.unwrap();
    let (address, shutdown) = listen(&test).await;
    let spec = Arc::clone(&test.config.links[0].dialect);
    let mut terminal = Terminal { stream: TcpStream::connect(address).await.unwrap() };
    let mut number = 0;
    let mut ask = async |pan: &str, pin: &str| {
        number += 1;
        terminal.send(&request(number, pan, pin).frame(&spec)).await;
        Fields::read(&spec, &terminal.receive().await).text(39)
    };
    for card in 0..4 {
        let (token, pan) = (format!("card-{card}"), pan("476134", card));
        test.add_card(&token, &pan, "debit", ("2912", 1)).await;
        test.set_pin(&token, RIGHT).await;
        test.activate(&token).await;
        for _ in 0..4 {
            assert_eq!(ask(&pan, WRONG).await, "55");
        }
    }
    put(&test, "debit", debit(3)).await.unwrap();
    for card in 0..4 {
        let pan = pan("476134", card);
        // A right PIN is still right: the card was never suspended.
        if card == 0 {
            assert_eq!(ask(&pan, RIGHT).await, "00");
            assert_eq!(ask(&pan, WRONG).await, "55");
            continue;
        }
        assert_eq!(ask(&pan, WRONG).await, "75");
        assert_eq!(ask(&pan, RIGHT).await, "75");
    }
    shutdown.stop.cancel();
}

#[tokio::test]
async fn what_must_not_change_under_cards_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let test = SwitchUnderTest::start(&config(), directory.path(), TestClock::default());
    let both = "\"476134\", \"476135\"";
    put(&test, "debit", settings("3", both, 978)).await.unwrap();
    // Without cards everything may change.
    put(&test, "debit", settings("3", both, 840)).await.unwrap();
    put(&test, "debit", settings("3", both, 978)).await.unwrap();
    test.add_card("card", &pan("476135", 1), "debit", ("2912", 1)).await;
    let refusals = [
        (settings("3", both, 840), Code::ProductHasCards),
        (settings("3", "\"476134\"", 978), Code::ProductHasCards),
        (settings("0", both, 978), Code::InvalidSettings),
        (settings("3", "\"47\"", 978), Code::InvalidSettings),
    ];
    for (settings, code) in refusals {
        let refused = put(&test, "debit", settings).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    // A BIN that no card has may go, and one that is a part of another may come in its place.
    put(&test, "debit", settings("3", "\"4761\"", 978)).await.unwrap();
    put(&test, "debit", settings("3", "\"476135\"", 978)).await.unwrap();
    let refused = put(&test, "of-file", debit(3)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ProductOfFile);
    for token in ["", "with blank", "../product"] {
        assert_eq!(put(&test, token, debit(3)).await.unwrap_err().code(), Code::InvalidField);
    }
    let chip = r#"{"bins": ["476134"], "currency": 978, "chip": {"imk_ac": "no-such-key",
        "imk_smi": "no-such-key", "imk_smc": "no-such-key"}}"#;
    let refused = put(&test, "chip", serde_json::from_str(chip).unwrap()).await.unwrap_err();
    assert_eq!(refused.code(), Code::KeyMissing);
}

/// Two doors that change one product at once: none of both is lost without being told.
#[tokio::test]
async fn of_two_changes_from_one_version_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let test = Arc::new(SwitchUnderTest::start(&config(), directory.path(), TestClock::default()));
    let mut version = put(&test, "debit", debit(3)).await.unwrap();
    for round in 0..20 {
        let change = |limit| {
            let test = Arc::clone(&test);
            tokio::spawn(async move {
                let (switch, actor) = (&test.switch, Actor::user(0));
                products::put(switch, &actor, "debit", debit(limit), Some(version)).await
            })
        };
        let (one, other) = tokio::join!(change(2 * round + 4), change(2 * round + 5));
        let results = [one.unwrap(), other.unwrap()].into_iter();
        let (done, refused): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (1, 1));
        let (done, refused) = (done.into_iter().next().unwrap(), refused.into_iter().next());
        assert_eq!(refused.unwrap().unwrap_err().code(), Code::ProductChanged);
        let shown = products::show(&test.switch, &Actor::user(0), "debit").await.unwrap();
        assert_eq!(shown, done.unwrap());
        version = shown.version;
    }
}

/// Products of the issuer are there after a restart; those that left the file stay in force.
#[tokio::test]
async fn products_outlive_the_process_and_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let test = SwitchUnderTest::start(&config(), directory.path(), TestClock::default());
    put(&test, "debit", debit(4)).await.unwrap();
    let before = products::list(&test.switch, &Actor::user(0)).await.unwrap();
    let test = test.restart();
    assert_eq!(products::list(&test.switch, &Actor::user(0)).await.unwrap(), before);
    let limit = |test: &SwitchUnderTest, name: &str| {
        test.switch.products.product(name).unwrap().pin_retry_limit.map(u32::from)
    };
    assert_eq!((limit(&test, "debit"), limit(&test, "of-file")), (Some(4), Some(3)));
    test.switch.store.close().unwrap();
    drop(test);
    let other = config().replace("\"of-file\"", "\"another\"");
    let test = SwitchUnderTest::start(&other, directory.path(), TestClock::default());
    let tokens = products::list(&test.switch, &Actor::user(0)).await.unwrap().into_iter();
    let tokens: Vec<_> = tokens.map(|view| (view.token, view.managed_by)).collect();
    let [file, api] = [ManagedBy::File, ManagedBy::Api];
    let wanted = [("another", file), ("debit", api), ("of-file", file)];
    assert_eq!(tokens, wanted.map(|(token, by)| (token.to_owned(), by)));
    assert_eq!(limit(&test, "of-file"), Some(3));
    let added = Command::Products;
    assert!(matches!(execute(&*test.switch, added).await, Reply::Products(all) if all.len() == 3));
}

/// A terminal on the first link of a switch.
struct Link {
    spec: Arc<Spec>,
    terminal: Terminal<tokio::io::DuplexStream>,
}

impl Link {
    fn of(test: &SwitchUnderTest) -> Link {
        let spec = Arc::clone(&test.config.links[0].dialect);
        Link { spec, terminal: Terminal { stream: test.connect(0).0 } }
    }

    async fn send(&mut self, number: u32, pan: &str, pin: &str) {
        self.terminal.send(&request(number, pan, pin).frame(&self.spec)).await;
    }

    /// DE39 and DE44 of the next answer.
    async fn answer(&mut self) -> (String, String) {
        let fields = Fields::read(&self.spec, &self.terminal.receive().await);
        (fields.text(39), fields.text(44))
    }
}

/// A switch with a product that suspends at the third wrong PIN, and a card of it in use, whose PAN
/// this is.
async fn with_card_in_use(data_dir: &Path) -> (SwitchUnderTest, String) {
    let test = SwitchUnderTest::start(&config(), data_dir, TestClock::default());
    put(&test, "debit", debit(3)).await.unwrap();
    let pan = pan("476134", 0);
    test.add_card("card", &pan, "debit", ("2912", 1)).await;
    test.set_pin("card", RIGHT).await;
    test.activate("card").await;
    (test, pan)
}

/// What the HSM said under the rules of before is not used under the new ones, which may name
/// other keys: it is asked anew, and the PIN is counted once.
#[tokio::test]
async fn a_product_changed_between_decision_and_commit_has_the_pin_verified_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (test, pan) = with_card_in_use(directory.path()).await;
    let mut link = Link::of(&test);
    for (number, limit, code) in [(1, 5, "1809"), (2, 2, "1872")] {
        let asked = test.hsm.pins_asked();
        test.hsm.hold(true);
        link.send(number, &pan, WRONG).await;
        while test.hsm.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        put(&test, "debit", debit(limit)).await.unwrap();
        test.hsm.hold(false);
        assert_eq!(link.answer().await.1, code);
        assert_eq!(test.hsm.pins_asked(), asked + 2);
        assert_eq!(test.card("card").await.state.pin.tries, number);
    }
}

/// Cards of a product that nobody knows any more decline, whatever their BIN, until it is back.
#[tokio::test]
async fn a_card_of_a_product_that_is_gone_declines() {
    let directory = tempfile::tempdir().unwrap();
    let test = SwitchUnderTest::start(&config(), directory.path(), TestClock::default());
    test.switch.products.entry("debit");
    let pan = pan("476134", 0);
    test.add_card("card", &pan, "debit", ("2912", 1)).await;
    let mut link = Link::of(&test);
    let answer = |code: &str, reason: &str| (code.to_owned(), reason.to_owned());
    link.send(1, &pan, RIGHT).await;
    assert_eq!(link.answer().await, answer("40", "1015"));
    put(&test, "debit", debit(3)).await.unwrap();
    test.set_pin("card", RIGHT).await;
    test.activate("card").await;
    link.send(2, &pan, RIGHT).await;
    assert_eq!(link.answer().await.0, "00");
}

/// A start that finds a product which the configuration must not change is refused, and has
/// changed nothing; what may change is changed.
#[tokio::test]
async fn a_configuration_that_takes_from_cards_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let test = SwitchUnderTest::start(&config(), directory.path(), TestClock::default());
    put(&test, "debit", debit(3)).await.unwrap();
    test.add_card("card", &pan("541333", 1), "of-file", ("2912", 1)).await;
    test.switch.store.close().unwrap();
    drop(test);
    let refusals = [
        (config().replace("978", "840"), Code::ProductHasCards),
        (config().replace("541333", "541334"), Code::ProductHasCards),
        (config().replace("\"of-file\"", "\"debit\""), Code::ProductOfApi),
    ];
    for (config, code) in refusals {
        let clock = TestClock::default();
        match SwitchUnderTest::try_start(&config, directory.path(), clock).map(drop) {
            Err(RunError::Product { refused, .. }) => assert_eq!(refused.code(), code),
            other => panic!("{other:?}"),
        }
    }
    let changed = config().replace("978", "978\npin_retry_limit = 7");
    let test = SwitchUnderTest::start(&changed, directory.path(), TestClock::default());
    let rules = test.switch.products.product("of-file").unwrap();
    assert_eq!(rules.pin_retry_limit.map(u32::from), Some(7));
}

/// Writes a product as another release would, whose settings are none to this one.
async fn write_foreign(test: &SwitchUnderTest, token: &str, json: &str) {
    let vault = &test.switch.vault.documents;
    let before = test.switch.store.document(DocumentKind::Product, token).await.unwrap();
    let read = before.map_or(0, |before| before.version);
    let place = (DocumentKind::Product, token);
    let change = DocumentChange::write(vault, place, read, json.as_bytes()).unwrap();
    let commit = Commit { documents: vec![change], ..Commit::default() };
    test.switch.store.commit(commit, &mut None).await.unwrap();
}

/// Settings that this release does not know stop no start. What they say of currency and BINs holds
/// all the same, and whoever may change the product can repair it.
#[tokio::test]
async fn a_product_with_settings_of_another_release_can_be_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let (test, pan) = with_card_in_use(directory.path()).await;
    let settings = r#""settings": {"bins": ["476134"], "currency": 978, "of_later": true}"#;
    write_foreign(&test, "debit", &format!(r#"{{"managed_by": "api", {settings}}}"#)).await;
    let of_file = settings.replace("476134", "541333");
    write_foreign(&test, "of-file", &format!(r#"{{"managed_by": "file", {of_file}}}"#)).await;
    test.add_card("other", &tests::terminal::pan("541333", 1), "of-file", ("2912", 1)).await;
    test.switch.store.close().unwrap();
    drop(test);
    let taking = config().replace("978", "840");
    match SwitchUnderTest::try_start(&taking, directory.path(), TestClock::default()).map(drop) {
        Err(RunError::Product { refused, .. }) => assert_eq!(refused.code(), Code::ProductHasCards),
        other => panic!("{other:?}"),
    }
    let test = SwitchUnderTest::start(&config(), directory.path(), TestClock::default());
    let mut link = Link::of(&test);
    link.send(1, &pan, RIGHT).await;
    assert_eq!(link.answer().await.1, "1015");
    for wrong in [settings_of("476134", 840), settings_of("476135", 978)] {
        assert_eq!(put(&test, "debit", wrong).await.unwrap_err().code(), Code::ProductHasCards);
    }
    put(&test, "debit", debit(3)).await.unwrap();
    link.send(2, &pan, RIGHT).await;
    assert_eq!(link.answer().await.0, "00");
    // What is no product at all is not listed, and does not keep the others from being.
    write_foreign(&test, "debit", "{}").await;
    let listed = products::list(&test.switch, &Actor::user(0)).await.unwrap();
    assert_eq!(listed.iter().map(|it| &*it.token).collect::<Vec<_>>(), ["of-file"]);
}

fn settings_of(bin: &str, currency: u16) -> ProductSettings {
    settings("3", &format!("\"{bin}\""), currency)
}
