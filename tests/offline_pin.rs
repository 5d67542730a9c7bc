//! The rules of the offline PIN, of scripts and of their bypass: each line of `offline_pin.txt` is
//! one transaction, judged by the rules alone.

#[path = "offline_pin/apart.rs"]
mod apart;
#[path = "offline_pin/two_plastics.rs"]
mod two_plastics;

use std::path::Path;
use std::time::Duration;

use iso_specs::{Spec, decode, tlv};
use switch::authorization::{
    Checks, Circumstances, CryptogramCheck, Decision, Evidence, Product, Request, RequiredChecks,
    VerifiedCryptogram, decide, required_checks,
};
use switch::cards::chip_state::{AtcWindow, Change, ChangeKind, Chip, ChipSync, Sent};
use switch::cards::{CardState, CardStatus, Embossed, Expiry, Plastic};
use switch::clock::Timestamp;
use switch::config::Config;
use switch::control::{Command, Reply};
use switch::event::{Actor, EventKind};
use switch::hsm::{Kcv, KeptPin, PinReference, ReferenceValue};
use switch::issuing::{Code, pins, secret::PinText};
use switch::outcome::{CryptogramOutcome, PinOutcome};
use switch::store::record::{Event, EventId, Told};
use switch::store::{Commit, Store};
use tests::switch_under_test::{SwitchUnderTest, TestClock, execute};
use tests::terminal::Fields;
use zeroize::Zeroizing;

/// When the PIN was changed.
const CHANGED: i64 = 1_800_000_000;
const SCRIPT: [u8; 4] = [1, 0, 0, 1];

/// The settings of a line: names, with a value or without.
struct Line<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Line<'a> {
    fn read(text: &'a str) -> Line<'a> {
        let word = |word: &'a str| word.split_once('=').unwrap_or((word, ""));
        let words = text.split_whitespace().map(word).collect::<Vec<_>>();
        const KNOWN: &str = "pin exhausted type tvr cvm de3 de18 de22 de4 9f02 de49 5f2a de6 \
                             de51 after online pending sent failed unblock oldpin expired \
                             reversed refused doubtful told unblocked scripts scriptfailed \
                             authfailed notcompleted result atc seen 9c without cvn zeros scripted";
        for (name, _) in &words {
            assert!(KNOWN.split_whitespace().any(|known| known == *name), "{name}?");
        }
        Line(words)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, name: &str, usual: T) -> T {
        self.get(name).map_or(usual, |value| value.parse().unwrap())
    }
}

/// Settings of a line "product" belong to the rules of its chips, but for `pin_required`; `covers`
/// is what the cryptograms cover.
fn product(settings: &str) -> Product {
    let mut keys = vec![
        ("offline_pin", "true".to_owned()),
        ("ftpam", "5000".to_owned()),
        ("ftpdy", "7".to_owned()),
    ];
    let mut row = String::new();
    for word in settings.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, "true"));
        if name == "covers" {
            let parts: Vec<&str> = value.split(',').collect();
            row = format!(
                "[[products.chip.cvn]]\nscheme = \"visa\"\ncvn = \"0A\"\ncovers = {parts:?}\n"
            );
            continue;
        }
        keys.retain(|(known, _)| *known != name);
        let is_word = value.parse::<u64>().is_err() && !matches!(value, "true" | "false");
        let value = if is_word { format!("{value:?}") } else { value.to_owned() };
        if value != "\"none\"" {
            keys.push((name, value));
        }
    }
    let (own, chip): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|(name, _)| *name == "pin_required");
    let lines = |keys: Vec<(&str, String)>| -> String {
        keys.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
    };
    let chip = lines(chip) + &row;
    let text = format!("data_dir = \"/nowhere\"\n{}", configuration(&lines(own), &chip));
    let config = Config::parse(&text, "table", Path::new("/")).unwrap();
    config.products[0].as_ref().clone()
}

/// A configuration whose product has these settings, and these rules for its chips, without
/// `data_dir`.
fn configuration(own: &str, chip: &str) -> String {
    format!(
        "hsm.master_key_file = \"demo\"\nadmin.listen = \"127.0.0.1:0\"\n\
         [[links]]\nname = \"a\"\nnetwork = \"a\"\nlisten = \"127.0.0.1:0\"\nzpk = \"demo-zpk\"\n\
         dialect = \"iso8583-1987-ascii\"\n\
         [[products]]\nname = \"chip\"\nbins = [\"476134\"]\ncurrency = 978\n{own}\
         [products.chip]\nimk_ac = \"demo-visa-imk-ac\"\n\
         imk_smi = \"demo-visa-imk-smi\"\nimk_smc = \"demo-visa-imk-smc\"\n{chip}"
    )
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// DE55 of a card with Visa CVN 0A.
fn chip_data(line: &Line<'_>) -> Vec<u8> {
    let pin = line.get("pin");
    let types = line.get("type").map_or(0xA0, |types| u8::from_str_radix(types, 16).unwrap());
    let second =
        types | if pin.is_some() { 0x04 } else { 0 } | if pin == Some("wrong") { 2 } else { 0 };
    let exhausted = if line.has("exhausted") { 0x40 } else { 0 };
    let completed = if line.has("notcompleted") { 0x80 } else { 0 };
    let third = exhausted | completed | if line.has("authfailed") { 0x08 } else { 0 };
    let fourth =
        line.number::<u8>("scripts", 0) << 4 | if line.has("scriptfailed") { 8 } else { 0 };
    let cvm = match pin {
        Some("ok") => "410302",
        Some(_) => "410301",
        None => "1E0300",
    };
    let cvm = line.get("cvm").unwrap_or(cvm);
    let amount = format!("{:012}", line.number::<u64>("9f02", 1_000));
    let currency = format!("{:04}", line.number::<u16>("5f2a", 978));
    let tvr = format!("0000{}0000", line.get("tvr").unwrap_or("00"));
    let atc = format!("{:04X}", line.number::<u16>("atc", 2));
    let version = line.get("cvn").unwrap_or("0A");
    let iad = format!("0601{version}03{second:02X}{third:02X}{fourth:02X}");
    let mut data = Vec::new();
    let mut push = |tag, hex: &str| tlv::push(&mut data, tag, &bytes(hex)).unwrap();
    push(0x9F26, "1122334455667788");
    push(0x9F10, &iad);
    let has = |tag| line.get("without") != Some(tag);
    if has("9f02") {
        push(0x9F02, &amount);
    }
    if has("9f03") {
        push(0x9F03, "000000000000");
    }
    push(0x9F1A, "0276");
    push(0x95, &tvr);
    push(0x5F2A, &currency);
    push(0x9A, "261128");
    push(0x9C, line.get("9c").or(line.get("de3").map(|code| &code[..2])).unwrap_or("00"));
    push(0x9F37, "01020304");
    push(0x82, "1800");
    push(0x9F36, &atc);
    if cvm != "none" {
        push(0x9F34, cvm);
    }
    match line.get("result") {
        Some("ok") => push(0x9F5B, "2001000001"),
        Some("none") => push(0x9F5B, "0001000001"),
        Some(_) => push(0x9F5B, "1101000001"),
        None => {}
    }
    data
}

fn request(line: &Line<'_>, dialect: &Spec) -> Request {
    let frame = fields(line).frame(dialect);
    Request::parse(&decode(dialect, &frame[2..]).unwrap()).unwrap()
}

fn fields(line: &Line<'_>) -> Fields {
    let mut fields = Fields::new("0100");
    let amount = format!("{:012}", line.number::<u64>("de4", 1_000));
    fields.set(2, b"4761340000000027").set(3, line.get("de3").unwrap_or("000000").as_bytes());
    fields.set(4, amount.as_bytes()).set(7, b"1121120000").set(11, b"000001").set(14, b"2912");
    if line.get("de22") != Some("none") {
        fields.set(22, line.get("de22").unwrap_or("051").as_bytes());
    }
    fields.set(49, line.get("de49").unwrap_or("978").as_bytes()).set(55, &chip_data(line));
    if let Some(category) = line.get("de18") {
        fields.set(18, category.as_bytes());
    }
    if let Some(billing) = line.get("de6") {
        let billing = format!("{billing:0>12}");
        fields.set(6, billing.as_bytes()).set(51, line.get("de51").unwrap().as_bytes());
    }
    if line.has("online") {
        fields.set(52, &[7; 8]);
    }
    fields
}

fn card(line: &Line<'_>) -> CardState {
    let key = Kcv([0; 3]);
    let embossed = if line.has("zeros") { Embossed::Zeros } else { Embossed::Pin(1) };
    let plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 1).embossed_with(embossed);
    let mut card = CardState::new(plastic);
    card.plastics[0].status = CardStatus::Active;
    if line.get("online") != Some("none") {
        card = card.with_pin(PinReference { value: ReferenceValue::Block([7; 8]), key });
    }
    let kind = match line.has("unblock") {
        true => ChangeKind::Unblock { pin_is_old: line.has("oldpin") },
        false => ChangeKind::Pin { version: 1, pin: KeptPin { block: [7; 8], key } },
    };
    let sent = |times: &str| if times.is_empty() { 1 } else { times.parse().unwrap() };
    let attempts = line.get("sent").map_or(0, sent);
    let since = Some(Timestamp::from_seconds(CHANGED));
    let change = Change {
        attempts,
        was_refused: line.has("refused"),
        is_doubtful: line.has("doubtful"),
        ..Change::new(kind, since)
    };
    let transaction = Some(1).filter(|_| !line.has("reversed"));
    let unblock = since.filter(|_| line.has("unblocked"));
    let told = line.number("told", 0);
    let sent = Sent { script: SCRIPT, atc: 1, told, transaction, unblock };
    let sync = if line.has("expired") {
        ChipSync::Expired(Some(sent))
    } else if line.has("sent") {
        ChipSync::Sent(change, sent)
    } else if line.has("failed") {
        ChipSync::Failed(change)
    } else if line.has("pending") || line.has("unblock") {
        ChipSync::Pending(change)
    } else {
        ChipSync::InSync
    };
    let counters = AtcWindow { highest: line.number("seen", 0), seen: 1, ..AtcWindow::default() };
    card.with_chip(0, Chip { counters, sync, has_script_pin: line.has("scripted") })
}

fn judged(line: &Line<'_>, product: &Product, dialect: &Spec) -> Decision {
    judged_request(line, &request(line, dialect), product)
}

fn judged_request(line: &Line<'_>, request: &Request, product: &Product) -> Decision {
    let card = card(line);
    let now = Timestamp::from_seconds(CHANGED + line.number::<i64>("after", 1));
    let circumstances = Circumstances { now, bad_pin_blocks_exhausted: false, transaction: 7 };
    match required_checks(request, &card, product, circumstances) {
        RequiredChecks::None(decision) => *decision,
        RequiredChecks::Verify(Checks { pin, cryptogram }) => {
            assert_eq!(cryptogram, CryptogramCheck::of_request(request, &card, product));
            let verified = match line.get("online") {
                Some("ok") => PinOutcome::Right,
                _ => PinOutcome::Wrong,
            };
            let outcome = CryptogramOutcome::Right;
            let evidence = Evidence {
                pin: pin.map(|_| verified),
                cryptogram: cryptogram.map(|check| VerifiedCryptogram { check, outcome }),
                new_pin: None,
            };
            decide(request, &card, product, &evidence, circumstances)
        }
    }
}

/// What came of a line, as the table says it.
fn outcome(decision: &Decision, dialect: &Spec, wanted: &[&str]) -> Vec<String> {
    let reason = decision.reason;
    let mut said = vec![reason.response_code(dialect).to_owned()];
    if reason.code() != "0000" {
        said.push(reason.code().to_owned());
    }
    let Some(chip) = &decision.chip else { return said };
    if chip.script().is_some() {
        said.push("script".to_owned());
    }
    // A line that does not tell the state of the chip asks for none.
    let states = ["in_sync", "pending", "sent", "failed", "expired"];
    if wanted.iter().any(|word| states.contains(word)) {
        said.push(chip.after.sync.name().to_owned());
    }
    let is_scripted = wanted.contains(&"scripted") && chip.after.has_script_pin;
    said.extend(is_scripted.then(|| "scripted".to_owned()));
    said
}

fn ascii() -> Spec {
    Spec::from_toml(Spec::builtin("iso8583-1987-ascii").unwrap()).unwrap()
}

#[test]
fn every_line_of_the_table() {
    let dialect = ascii();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("offline_pin.txt");
    let (mut rules, mut lines, mut wrong) = (product(""), 0, Vec::new());
    for (number, text) in std::fs::read_to_string(table).unwrap().lines().enumerate() {
        if text.starts_with('#') || text.is_empty() {
            continue;
        }
        if let Some(settings) = text.strip_prefix("product") {
            rules = product(settings);
            continue;
        }
        let (given, wanted) = text.split_once("->").expect("settings -> outcome");
        let wanted: Vec<&str> = wanted.split_whitespace().collect();
        let decision = judged(&Line::read(given), &rules, &dialect);
        let said = outcome(&decision, &dialect, &wanted);
        if said != wanted {
            let trail: Vec<String> = decision.trail().map(ToString::to_string).collect();
            let number = number + 1;
            wrong.push(format!("line {number}: {text}\n    {}: {trail:?}", said.join(" ")));
        }
        lines += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lines >= 100, "{lines}");
}

const DAY_SECONDS: i64 = 24 * 3_600;
const DAY: Duration = Duration::from_secs(DAY_SECONDS.unsigned_abs());
const PENDING: &str = "pending {change, attempts 0}";

/// Looks for changes that are over: of how many cards.
async fn expired(test: &SwitchUnderTest) -> usize {
    let cards = test.switch.store.cache().entries();
    pins::expire_changes(&test.switch, &Actor::switch("expiry"), &cards).await.unwrap()
}

fn chip_sync(outcome: &Reply) -> &str {
    let Reply::Card(card) = outcome else { panic!("{outcome:?}") };
    &card.chip_sync
}

async fn show(test: &SwitchUnderTest, token: &str) -> String {
    let outcome = execute(&*test.switch, Command::Show { token: token.to_owned() }).await;
    chip_sync(&outcome).to_owned()
}

/// How often readers of events are told that a change of a card has expired.
async fn told_expired(test: &SwitchUnderTest, token: &str) -> usize {
    let page = test.switch.store.events(EventId::NONE, 1_000).await.unwrap();
    let is_of = |it: &Event| it.kind == EventKind::PinChangeExpired && it.card_token == token;
    let told = |told: &Told| matches!(told, Told::Event(event, None) if is_of(event));
    page.items.iter().filter(|(_, it)| told(it)).count()
}

/// OFPBE counts from the change, and that of a first PIN from the activation of its card.
#[tokio::test]
async fn a_change_that_no_chip_took_is_given_up() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    clock.set(Timestamp::from_seconds(CHANGED));
    let rules = configuration("", "offline_pin = true\n");
    let mut test = SwitchUnderTest::start(&rules, directory.path(), clock.clone());
    test.add_card("card", "4761340000000027", "chip", ("2912", 1)).await;
    let sync =
        async |test: &SwitchUnderTest| test.card("card").await.state.chip(0).unwrap().sync.name();
    test.set_pin("card", "4711").await;
    clock.advance(DAY * 30);
    assert_eq!((expired(&test).await, sync(&test).await), (0, "pending"));
    test.activate("card").await;
    clock.advance(DAY * 7 - Duration::from_secs(1));
    assert_eq!((expired(&test).await, sync(&test).await), (0, "pending"));
    test = test.restart();
    clock.advance(Duration::from_secs(1));
    assert_eq!((expired(&test).await, sync(&test).await), (1, "expired"));
    assert_eq!(expired(&test).await, 0);
    test = test.restart();
    assert_eq!(sync(&test).await, "expired");
    test.set_pin("card", "4712").await;
    clock.advance(DAY * 7);
    assert_eq!((expired(&test).await, sync(&test).await), (1, "expired"));
    // The PIN block goes too if the product has no chips any more.
    test.set_pin("card", "4713").await;
    drop(test);
    let (without, _) = rules.split_once("[products.chip]").unwrap();
    test = SwitchUnderTest::start(without, directory.path(), clock.clone());
    clock.advance(DAY * 7);
    assert_eq!((expired(&test).await, sync(&test).await), (1, "expired"));
}

/// A first PIN waits for the activation of its card, but not for ever.
#[tokio::test]
async fn a_first_pin_of_a_card_that_nobody_activates_is_given_up() {
    for (setting, days) in [("", 90), ("unactivated_pin_block_days = 2\n", 2)] {
        let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
        clock.set(Timestamp::from_seconds(CHANGED));
        let rules = configuration("", &format!("offline_pin = true\n{setting}"));
        let mut test = SwitchUnderTest::start(&rules, directory.path(), clock.clone());
        for (token, pan) in [("idle", "4761340000000027"), ("late", "4761340000000035")] {
            test.add_card(token, pan, "chip", ("2912", 1)).await;
            assert_eq!(chip_sync(&test.set_pin(token, "4711").await), PENDING);
        }
        test = test.restart();
        clock.advance(DAY * days - Duration::from_secs(1));
        assert_eq!((expired(&test).await, show(&test, "idle").await), (0, PENDING.to_owned()));
        clock.advance(Duration::from_secs(1));
        // Who activates a card too late does not let its PIN begin to wait again.
        assert_eq!(chip_sync(&test.activate("late").await), "expired");
        assert_eq!(show(&test, "idle").await, "expired");
        assert_eq!((expired(&test).await, expired(&test).await), (1, 0));
        for token in ["idle", "late"] {
            assert!(test.card(token).await.state.pin.reference.is_some());
            assert_eq!(told_expired(&test, token).await, 1);
        }
        assert_eq!(chip_sync(&test.set_pin("idle", "4712").await), PENDING);
    }
}

/// A release that did not keep when a first PIN was set: its time begins when it is seen.
#[tokio::test]
async fn a_first_pin_of_which_nobody_knows_the_time_is_given_up_too() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
    clock.set(Timestamp::from_seconds(CHANGED));
    let rules = configuration("", "offline_pin = true\n");
    let mut test = SwitchUnderTest::start(&rules, directory.path(), clock.clone());
    for (token, pan) in [("idle", "4761340000000027"), ("late", "4761340000000035")] {
        test.add_card(token, pan, "chip", ("2912", 1)).await;
        test.set_pin(token, "4711").await;
        let card = test.card(token).await;
        let mut chip = card.state.chip(0).unwrap().clone();
        let ChipSync::Pending(change) = &mut chip.sync else { panic!() };
        assert!(change.set_at.take().is_some());
        let commit = Commit::by_issuer(&card, card.state.with_chip(0, chip));
        test.switch.store.commit(commit, &mut None).await.unwrap();
    }
    test = test.restart();
    clock.advance(DAY * 400);
    assert_eq!((expired(&test).await, show(&test, "idle").await), (0, PENDING.to_owned()));
    test.activate("late").await;
    clock.advance(DAY * 7);
    assert_eq!((expired(&test).await, show(&test, "late").await), (1, "expired".to_owned()));
    clock.advance(DAY * 83 - Duration::from_secs(1));
    test = test.restart();
    assert_eq!((expired(&test).await, show(&test, "idle").await), (0, PENDING.to_owned()));
    assert_eq!(told_expired(&test, "idle").await, 0);
    clock.advance(Duration::from_secs(1));
    assert_eq!((expired(&test).await, show(&test, "idle").await), (1, "expired".to_owned()));
    assert_eq!(told_expired(&test, "idle").await, 1);
}

/// What is over is over for every command at once, and others are told of it once.
#[tokio::test]
async fn a_change_that_is_over_is_over_for_every_command() {
    type Asked = fn(&str) -> Command;
    let set_pin: Asked = |card| {
        let pin = PinText::new(Zeroizing::new("4712".to_owned()));
        Command::SetPin { token: card.to_owned(), pin }
    };
    let commands: [(Asked, &str, bool); 4] = [
        (|card| Command::Show { token: card.to_owned() }, "expired", false),
        (|card| Command::Unblock { token: card.to_owned() }, "pending {unblock, attempts 0}", true),
        (|card| Command::Activate { token: card.to_owned() }, "expired", true),
        (set_pin, PENDING, true),
    ];
    for (command, wanted, commits) in commands {
        let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
        clock.set(Timestamp::from_seconds(CHANGED));
        let rules = configuration("", "offline_pin = true\n");
        let test = SwitchUnderTest::start(&rules, directory.path(), clock.clone());
        test.add_card("card", "4761340000000027", "chip", ("2912", 1)).await;
        test.activate("card").await;
        test.set_pin("card", "4711").await;
        clock.advance(DAY * 7 - Duration::from_secs(1));
        assert_eq!(show(&test, "card").await, PENDING);
        clock.advance(Duration::from_secs(1));
        // Whoever set the clock wrongly for a moment has lost nothing.
        clock.set(Timestamp::from_seconds(CHANGED + 8 * DAY_SECONDS));
        assert_eq!(show(&test, "card").await, PENDING);
        let unblock = Command::Unblock { token: "card".to_owned() };
        let refused = execute(&*test.switch, unblock).await;
        assert!(matches!(refused, Reply::Refused(why) if why.code == Code::ClockNotSettled));
        clock.set(Timestamp::from_seconds(CHANGED + 7 * DAY_SECONDS));
        assert_eq!(chip_sync(&execute(&*test.switch, command("card")).await), wanted);
        assert_eq!((expired(&test).await == 0, expired(&test).await), (commits, 0));
        assert_eq!(told_expired(&test, "card").await, 1, "{wanted}");
        assert_eq!(show(&test, "card").await, wanted);
    }
}
