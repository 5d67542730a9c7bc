//! Many wrong and right PINs for one card at once, over several connections: the answers must
//! equal those of some one-by-one order, and that order must respect who had been answered
//! before whom. The journal gives the order; a model of a few lines gives the answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iso_specs::Spec;
use switch::authorization::Reason;
use switch::cards::{CardStatus, Embossed};
use switch::control::{self, CardForm, Command};
use switch::listener::{Listening, Workers};
use switch::shutdown::Shutdown;
use switch::store::Store;
use switch::store::page::TransactionFilter;
use tests::switch_under_test::execute;
use tests::switch_under_test::{SwitchUnderTest, TestClock};
use tests::terminal::{Fields, Reply, Terminal, ZPK, pin_block};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

const PAN: &str = "4761340000000019";
const RIGHT: &str = "4071";
const CONNECTIONS: u32 = 8;
const IN_FLIGHT: usize = 3;
const WRONG_PINS: u32 = 200;
const RIGHT_PINS: u32 = 20;

struct Exchange {
    stan: String,
    right: bool,
    sent: Instant,
    answered: Instant,
    code: String,
}

fn config(limit: &str) -> String {
    format!(
        "hsm.master_key_file = \"demo\"\nadmin.listen = \"127.0.0.1:0\"\n[limits]\nthreads = 2\n\
         [store]\nsegment_mb = 1\nduplicate_index_mb_max = 1\n\
         [[links]]\nname = \"link\"\nnetwork = \"net\"\nlisten = \"127.0.0.1:0\"\n\
         dialect = \"iso8583-1987-ascii\"\nzpk = \"demo-zpk\"\n\
         [[products]]\nname = \"debit\"\nbins = [\"476134\"]\ncurrency = 978\n\
         pin_retry_limit = {limit}\n"
    )
}

/// Expiries of the plastics of the card: a request speaks of one by DE14.
const EXPIRIES: [&str; 2] = ["2912", "3112"];

fn request_with(plastic: usize, stan: u32, pin: &str) -> Fields {
    let mut fields = request(stan, pin);
    fields.set(14, EXPIRIES[plastic].as_bytes());
    fields
}

fn request(stan: u32, pin: &str) -> Fields {
    let mut fields = Fields::new("0100");
    let stan = format!("{stan:06}");
    fields.set(2, PAN.as_bytes()).set(3, b"000000").set(4, b"000000001250");
    fields.set(7, b"1121120000").set(11, stan.as_bytes()).set(49, b"978");
    fields.set(52, &pin_block(pin, PAN, 0, ZPK));
    fields
}

/// One connection: a few requests are in flight, answers are read as they come. With `plastics`
/// they speak of each of these in turn.
async fn play(
    address: SocketAddr,
    spec: Arc<Spec>,
    pins: Vec<(u32, bool)>,
    plastics: usize,
) -> Vec<Exchange> {
    let mut terminal = Terminal { stream: TcpStream::connect(address).await.unwrap() };
    let mut open = HashMap::new();
    let mut exchanges = Vec::new();
    let mut pins = pins.into_iter();
    loop {
        for (stan, right) in pins.by_ref().take(IN_FLIGHT - open.len()) {
            let plastic = stan as usize / CONNECTIONS as usize % plastics;
            let pin = if right { RIGHT } else { "1111" };
            let frame = request_with(plastic, stan, pin).frame(&spec);
            open.insert(format!("{stan:06}"), (right, Instant::now()));
            terminal.send(&frame).await;
        }
        if open.is_empty() {
            break;
        }
        let answer = Fields::read(&spec, &terminal.receive().await);
        let (stan, code) = (answer.text(11), answer.text(39));
        let (right, sent) = open.remove(&stan).expect("one answer for each request");
        exchanges.push(Exchange { stan, right, sent, answered: Instant::now(), code });
    }
    exchanges
}

/// Answers of the rules, one by one.
fn model(order: &[&Exchange], limit: Option<u32>) -> Vec<&'static str> {
    let (mut tries, mut suspended) = (0, false);
    let answer = |exchange: &&Exchange| {
        if suspended {
            return "75";
        }
        tries = if exchange.right { 0 } else { tries + 1 };
        suspended = limit.is_some_and(|limit| tries >= limit);
        match (suspended, exchange.right) {
            (true, _) => "75",
            (false, true) => "00",
            (false, false) => "55",
        }
    };
    order.iter().map(answer).collect()
}

/// A switch with one card, listening on a free port with two threads.
async fn listening(config: &str, data_dir: &Path) -> (SwitchUnderTest, SocketAddr, Shutdown) {
    let test = SwitchUnderTest::start(config, data_dir, TestClock::default());
    test.add_card("card", PAN, "debit", ("2912", 1)).await;
    test.set_pin("card", RIGHT).await;
    test.activate("card").await;
    let shutdown = Shutdown::default();
    let listening = Listening::bind(&test.config.links[0]).await.unwrap();
    let address = listening.address().unwrap();
    let workers = Arc::new(Workers::start(&test.switch, &shutdown).unwrap());
    tokio::spawn(listening.accept(Arc::clone(&test.switch), workers, shutdown.clone()));
    (test, address, shutdown)
}

async fn storm(limit: &str, seed: u32, plastics: usize) {
    let directory = tempfile::tempdir().unwrap();
    let (test, address, shutdown) = listening(&config(limit), directory.path()).await;
    if plastics == 2 {
        test.reissue("card", (EXPIRIES[1], 2), Embossed::Pin(1)).await;
        test.activate("card-2").await;
    }

    // A seeded shuffle: right PINs lie anywhere among the wrong ones.
    let mut pins: Vec<(u32, bool)> =
        (0..WRONG_PINS + RIGHT_PINS).map(|stan| (stan, stan < RIGHT_PINS)).collect();
    pins.sort_by_key(|(stan, _)| {
        (stan + 1).wrapping_mul(seed | 1).wrapping_mul(2_654_435_761) >> 7
    });
    let spec = Arc::clone(&test.config.links[0].dialect);
    let of = |connection| {
        let own = pins.iter().filter(move |(stan, _)| stan % CONNECTIONS == connection);
        tokio::spawn(play(address, Arc::clone(&spec), own.copied().collect(), plastics))
    };
    let playing: Vec<_> = (0..CONNECTIONS).map(of).collect();
    let mut exchanges = HashMap::new();
    for connection in playing {
        let played = connection.await.unwrap();
        exchanges.extend(played.into_iter().map(|exchange| (exchange.stan.clone(), exchange)));
    }
    shutdown.stop.cancel();

    let card = test.card("card").await;
    let filter = TransactionFilter::of_card(card.entry.identity.key);
    let page = test.switch.store.transactions(filter, None, 10_000).await.unwrap();
    let mut records = page.items;
    records.reverse();
    let order: Vec<&Exchange> = records
        .iter()
        .map(|(_, record)| &exchanges[std::str::from_utf8(&record.stan).unwrap()])
        .collect();
    assert_eq!(order.len(), exchanges.len(), "every request has one record");
    let limit = limit.parse().ok();
    let answers = model(&order, limit);
    for (place, (exchange, answer)) in order.iter().zip(&answers).enumerate() {
        assert_eq!(exchange.code, *answer, "record {place}");
    }
    let mut latest_sent = order[0].sent;
    for exchange in &order {
        assert!(exchange.answered >= latest_sent, "answered before an earlier one was sent");
        latest_sent = latest_sent.max(exchange.sent);
    }
    let suspensions = records.iter().filter(|(_, record)| {
        record.answer.reason == Reason::PinTryLimitExceeded && record.verification.is_some()
    });
    let reached = answers.contains(&"75");
    assert_eq!(suspensions.count(), usize::from(reached), "suspended once or not at all");
    assert_eq!(card.state.plastics.len(), plastics);
    assert!(card.state.plastics.iter().all(|it| it.is_suspended_for_pin_tries() == reached));
    assert!(reached || limit != Some(3), "three wrong ones in a row are among them");
}

#[tokio::test]
async fn answers_equal_a_one_by_one_order() {
    for seed in 1..=10 {
        storm("3", seed, 1).await;
        storm("40", seed, 1).await;
    }
    storm("\"none\"", 1, 1).await;
}

/// Two plastics of one card are guessed side by side: they have one counter and one limit.
#[tokio::test]
async fn two_plastics_have_one_limit_together() {
    for seed in 1..=3 {
        storm("3", seed, 2).await;
        storm("40", seed, 2).await;
    }
    storm("\"none\"", 1, 2).await;
}

/// The same wrong PINs over every connection at once: each counts once, and all of its copies
/// get the same answer, whether the first was still being answered or not.
#[tokio::test]
async fn a_request_that_comes_eight_times_counts_once() {
    const REQUESTS: u32 = 40;
    let directory = tempfile::tempdir().unwrap();
    let (test, address, shutdown) = listening(&config("\"none\""), directory.path()).await;
    let spec = Arc::clone(&test.config.links[0].dialect);
    let pins: Vec<(u32, bool)> = (0..REQUESTS).map(|stan| (stan, stan == 20)).collect();
    let playing: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(play(address, Arc::clone(&spec), pins.clone(), 1)))
        .collect();
    for connection in playing {
        for exchange in connection.await.unwrap() {
            assert_eq!(exchange.code, if exchange.right { "00" } else { "55" });
        }
    }
    shutdown.stop.cancel();
    let card = test.card("card").await;
    let filter = TransactionFilter::of_card(card.entry.identity.key);
    let page = test.switch.store.transactions(filter, None, 10_000).await.unwrap();
    let records = page.items;
    assert_eq!(records.len(), REQUESTS as usize, "one record for each request");
}

/// What the right PIN is answered when something happens while the HSM has it.
async fn answer_after(
    limit: &str,
    meanwhile: impl AsyncFnOnce(&SwitchUnderTest),
) -> (Fields, SwitchUnderTest) {
    let directory = tempfile::tempdir().unwrap();
    let (test, address, shutdown) = listening(&config(limit), directory.path()).await;
    let spec = Arc::clone(&test.config.links[0].dialect);
    let mut terminal = Terminal { stream: TcpStream::connect(address).await.unwrap() };
    test.hsm.hold(true);
    terminal.send(&request(1, RIGHT).frame(&spec)).await;
    while test.hsm.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    meanwhile(&test).await;
    test.hsm.hold(false);
    let answer = Fields::read(&spec, &terminal.receive().await);
    shutdown.stop.cancel();
    (answer, test)
}

/// The HSM compares with the old PIN while the PIN is changed: that answer is worth nothing.
#[tokio::test]
async fn an_old_pin_is_never_approved_on_a_stale_verification() {
    let set_pin = async |test: &SwitchUnderTest| drop(test.set_pin("card", "2580").await);
    let (answer, test) = answer_after("3", set_pin).await;
    assert_eq!(answer.text(39), "55");
    assert_eq!(test.card("card").await.state.pin.tries, 1);
}

/// A reversal that overtakes its original's answer waits for it, and then takes it back.
#[tokio::test]
async fn a_reversal_waits_for_its_original() {
    let directory = tempfile::tempdir().unwrap();
    let (test, address, shutdown) = listening(&config("3"), directory.path()).await;
    let spec = Arc::clone(&test.config.links[0].dialect);
    let connect = async || Terminal { stream: TcpStream::connect(address).await.unwrap() };
    let (mut one, mut other) = (connect().await, connect().await);
    test.hsm.hold(true);
    one.send(&request(1, "1111").frame(&spec)).await;
    while test.hsm.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut reversal = request(2, "1111");
    reversal.mti = "0400".to_owned();
    let original = format!("01000000011121120000{}", "0".repeat(22));
    reversal.set(90, original.as_bytes()).values.remove(&52);
    other.send(&reversal.frame(&spec)).await;
    assert_eq!(other.answer_or_silence().await, Reply::Silence);
    test.hsm.hold(false);
    assert_eq!(Fields::read(&spec, &one.receive().await).text(39), "55");
    assert_eq!(Fields::read(&spec, &other.receive().await).text(39), "00");
    other.send(&request(1, "1111").frame(&spec)).await;
    assert_eq!(Fields::read(&spec, &other.receive().await).text(39), "94");
    shutdown.stop.cancel();
    assert_eq!(test.card("card").await.state.pin.tries, 1, "no PIN try is given back");
}

/// The demo's configuration with one more limit.
fn config_with(limit: &str) -> String {
    config("3").replace("threads = 2", &format!("threads = 2\n{limit}"))
}

/// An HSM that is too slow is as good as none: 91 in time, and nothing is counted.
#[tokio::test]
async fn a_slow_hsm_is_an_hsm_that_is_unavailable() {
    slow_hsm("hsm_milliseconds_max = 50").await;
    // It is not given all of the time in which an answer must leave.
    slow_hsm("answer_milliseconds_max = 300\nhsm_milliseconds_max = 300").await;
}

async fn slow_hsm(limits: &str) {
    let directory = tempfile::tempdir().unwrap();
    let config = config_with(limits);
    let (test, address, shutdown) = listening(&config, directory.path()).await;
    let spec = Arc::clone(&test.config.links[0].dialect);
    let mut terminal = Terminal { stream: TcpStream::connect(address).await.unwrap() };
    test.hsm.hold(true);
    for pin in ["1111", RIGHT] {
        terminal.send(&request(1, pin).frame(&spec)).await;
        assert_eq!(Fields::read(&spec, &terminal.receive().await).text(39), "91");
    }
    test.hsm.hold(false);
    terminal.send(&request(1, "1111").frame(&spec)).await;
    assert_eq!(Fields::read(&spec, &terminal.receive().await).text(39), "55");
    shutdown.stop.cancel();
    assert_eq!(test.card("card").await.state.pin.tries, 1);
}

/// A peer that reads nothing while its wrong PIN is with the HSM: the PIN counts when the HSM has
/// answered, and a repeat over another connection does not wait for the peer.
#[tokio::test]
async fn a_peer_that_does_not_read_holds_no_request_up() {
    let directory = tempfile::tempdir().unwrap();
    let config = config_with(
        "write_seconds_max = 3600\nanswer_milliseconds_max = 600000\nhsm_milliseconds_max = 500000",
    );
    let (test, address, shutdown) = listening(&config, directory.path()).await;
    let spec = Arc::clone(&test.config.links[0].dialect);
    let connect = async || Terminal { stream: TcpStream::connect(address).await.unwrap() };
    let (mut slow, mut other) = (connect().await, connect().await);
    test.hsm.hold(true);
    slow.send(&request(1, "1111").frame(&spec)).await;
    while test.hsm.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut echo = Fields::new("0800");
    echo.set(7, b"1121120000").set(11, b"000009").set(70, b"301");
    let echoes = echo.frame(&spec).repeat(1_000);
    while timeout(Duration::from_millis(300), slow.send(&echoes)).await.is_ok() {}
    test.hsm.hold(false);
    other.send(&request(1, "1111").frame(&spec)).await;
    assert_eq!(Fields::read(&spec, &other.receive().await).text(39), "55");
    assert_eq!(test.card("card").await.state.pin.tries, 1);
    drop(slow);
    shutdown.stop.cancel();
}

/// A right PIN that lost the race against the suspension answers 1872.
#[tokio::test]
async fn a_right_pin_that_lost_the_race_is_not_approved() {
    let suspend =
        async |test: &SwitchUnderTest| test.set_status("card", 0, CardStatus::Suspended, 22).await;
    let (answer, _) = answer_after("1", suspend).await;
    assert_eq!((answer.text(39), answer.text(44)), ("75".to_owned(), "1872".to_owned()));
}

/// A change waits for its sync; in that time the card is removed.
#[tokio::test]
async fn what_was_carried_out_is_not_refused_because_the_card_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let test = SwitchUnderTest::start(&config("3"), directory.path(), TestClock::default());
    let add = || {
        Command::Add(Box::new(CardForm {
            token: "card".to_owned(),
            pan: Zeroizing::new(PAN.to_owned()),
            expiration: "2912".to_owned(),
            pan_sequence_number: "01".to_owned(),
            card_product_token: "debit".to_owned(),
            state: None,
            pin: None,
            pvv: None,
            pvki: None,
            pin_offset: None,
        }))
    };
    let remove = || execute(&test.switch, Command::Remove { tokens: vec!["card".to_owned()] });
    for _ in 0..10 {
        let (added, removed) = tokio::join!(biased; execute(&test.switch, add()), remove());
        assert!(matches!(added, control::Reply::Card(_) | control::Reply::Done), "{added:?}");
        assert!(matches!(removed, control::Reply::Each { refused } if refused.is_empty()));

        assert!(matches!(execute(&test.switch, add()).await, control::Reply::Card(_)));
        let (activated, removed) = tokio::join!(biased; test.activate("card"), remove());
        let control::Reply::Card(card) = activated else { panic!("{activated:?}") };
        assert_eq!(card.state, "ACTIVE");
        assert!(matches!(removed, control::Reply::Each { refused } if refused.is_empty()));
    }
}
