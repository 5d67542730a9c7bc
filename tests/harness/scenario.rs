//! Tables of steps that a card person can read and extend: `tests/scenarios/*.txt`.
//!
//! One line is one step; what must come of it stands behind `->`; `#` starts a comment.
//!
//! ```text
//! product debit pin_retry_limit=3       the issuer's rules; any setting of [[products]]
//! link sign_on_required=true            any setting of [[links]]
//! limits bad_pin_blocks_per_minute=9    any setting of [limits]
//! at 2026-11-21T12:00:00Z               the clock
//! card A debit pin=4071                 an active card; also: pin=none, new (not activated),
//!                                       plastic=2912/01, pan=...
//! 0100 A pin=1111 de4=000000000100      a request with defaults; dropNN leaves an element out;
//!                                       pin=none, pin=garbage, format=3, key=wrong; track2,
//!                                       track2=2912101: with this behind its separator;
//!                                       de90=0100__1: blanks as _
//!                                       via=2: over another link of the network, via=3: of
//!                                       another network
//! 0100 A pin=4071 new=5938              the cardholder sets another PIN (DE3 92, DE63)
//! 0100 A chip=7                         of a contact chip, with this ATC and a right cryptogram;
//!                                       offline=wrong: its PIN is wrong; forged: so is the
//!                                       cryptogram; drop5F34: without that, for the sequence
//!                                       number 1
//!   -> 00 arpc script                   the answer has the right issuer authentication data, and
//!                                       a script
//!   -> 55 1809                          DE39 and DE44; `none`: no answer; `same`: equal bytes
//! repeat 0101                           the last request with another MTI, and changes
//! reverse 0400                          a reversal of the last authorization or advice, known
//!                                       by DE90; `plain`: by its own DE7, DE11 and DE37
//! original 0101                         that authorization or advice again
//! show A -> SUSPENDED 22 tries=3        state, reason code, counter; atc: highest of its chip;
//!                                       sync: what waits for its chip
//! activate A, set-pin A 1234            the commands; `-> refused` where they are
//! transition A SUSPENDED API 10         `card transition`; `-`: without a reason code
//!   -> state.suspended                  what others are told; `none`; `refused` and the code
//! status A TERMINATED 01                a state, whatever it was before
//! reissue A 3112/02 embossed=0000       one more plastic, not activated; embossed with none, a
//!                                       version of the PIN, or `not` yet
//! 0100 A/02, show A/02, status A/02 ... the plastic of A with this sequence number, as `activate
//!                                       A/02`, which no command does; without it, the first
//! wait 61s, restart                     time passes; the switch is stopped and started
//! hsm down, hsm up                      the HSM is out of order, and works again; hsm no-arpc:
//!                                       it verifies, and has no answer for a chip
//! hsm takes 150ms                       for each verification
//! asked -> 3                            PINs that the HSM was asked about, since its start
//! view A -> ACTIVE 01 3112/02 plastics=2  what `card show` tells of it
//! event A/02 -> state.suspended         what A's last transaction told others of this plastic;
//!                                       event A -> pin.changed: of all of A; `none`
//! history A -> 0000 1809                the reasons of A's transactions, oldest first
//! ```

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use iso_specs::{Mti, Spec};
use switch::cards::{CardStatus, Embossed};
use switch::clock::Timestamp;
use switch::control::{self, Command, TransitionForm};
use switch::event::EventKind;
use switch::store::Store;
use switch::store::page::{PAGE_ITEMS_MAX, TransactionFilter};
use switch::store::record::{Event, EventId, Part, Told};
use tokio::io::DuplexStream;

use crate::chip::{drop_sequence, forge_cryptogram, is_believed, set_chip_data};
use crate::switch_under_test::{SwitchUnderTest, TestClock, execute};
use crate::terminal::{Fields, Reply, Terminal, WRONG_ZPK, ZPK, pan, pin_block};

/// Elements that an answer gives back.
const ECHOED: [u8; 14] = [2, 3, 4, 7, 11, 12, 13, 15, 32, 33, 37, 41, 42, 49];
const ECHOED_0810: [u8; 7] = [7, 11, 24, 33, 37, 41, 70];

/// The links of every table, with their networks.
const LINKS: [(&str, &str); 3] = [("one", "net"), ("two", "net"), ("three", "other")];

/// Plays one table; panics with file and line at the first step that goes otherwise.
pub async fn play(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let directory = tempfile::tempdir().unwrap();
    let mut player = Player::new(directory.path());
    for (number, line) in text.lines().enumerate() {
        let step = line.split('#').next().unwrap().trim();
        if !step.is_empty() {
            player.at = format!("{name}:{}: {step}", number + 1);
            player.step(step).await;
        }
    }
}

struct TestCard {
    pan: String,
    /// Expiry and sequence number of each.
    plastics: Vec<(String, u8)>,
}

struct Player {
    /// Where the table stands, for messages.
    at: String,
    directory: std::path::PathBuf,
    spec: Spec,
    clock: TestClock,
    products: String,
    link: String,
    limits: String,
    running: Option<(SwitchUnderTest, [Terminal<DuplexStream>; 3])>,
    cards: HashMap<String, TestCard>,
    requests: u32,
    last: Option<Fields>,
    /// The last that a reversal can take back.
    original: Option<Fields>,
    last_answer: Vec<u8>,
}

impl Player {
    fn new(directory: &Path) -> Player {
        let clock = TestClock::default();
        clock.set(instant("2026-11-21T12:00:00Z"));
        Player {
            at: String::new(),
            directory: directory.to_owned(),
            spec: Spec::from_toml(Spec::builtin("iso8583-1987-ascii").unwrap()).unwrap(),
            clock,
            products: String::new(),
            link: String::new(),
            limits: String::new(),
            running: None,
            cards: HashMap::new(),
            requests: 0,
            last: None,
            original: None,
            last_answer: Vec::new(),
        }
    }

    async fn step(&mut self, step: &str) {
        let (what, expected) = step.split_once("->").unwrap_or((step, ""));
        let words: Vec<&str> = what.split_whitespace().collect();
        let expected: Vec<&str> = expected.split_whitespace().collect();
        match words.as_slice() {
            ["product", name, settings @ ..] => self.product(name, settings),
            ["link", settings @ ..] => self.link += &settings_lines(settings),
            ["limits", settings @ ..] => self.limits += &settings_lines(settings),
            ["at", time] => self.clock.set(instant(time)),
            ["card", name, product, how @ ..] => self.card(name, product, how).await,
            ["show", card] => self.show(card, &expected).await,
            ["reissue", card, plastic, embossed] => self.reissue(card, plastic, embossed).await,
            ["activate", plastic] => {
                let token = self.token(plastic);
                let outcome = self.switch().activate(&token).await;
                self.check_outcome(&outcome, &expected);
            }
            ["set-pin", card, pin] => {
                let outcome = self.switch().set_pin(card, pin).await;
                self.check_outcome(&outcome, &expected);
            }
            ["reset-tries", plastic] => {
                let token = self.token(plastic);
                let outcome = self.switch().reset_tries(&token).await;
                self.check_outcome(&outcome, &expected);
            }
            ["status", plastic, status, reason] => {
                let known = CardStatus::ALL.into_iter().find(|known| known.name() == *status);
                let reason = reason.parse().unwrap();
                let (card, place) = self.place(plastic);
                self.switch().set_status(&card, place, known.unwrap(), reason).await;
            }
            ["transition", asked @ ..] => self.transition(asked, &expected).await,
            ["wait", time] => self.clock.advance(duration(time)),
            ["restart"] => self.restart().await,
            ["hsm", "takes", time] => self.switch().hsm.set_takes(duration(time)),
            ["asked"] => {
                let asked = self.switch().hsm.pins_asked().to_string();
                assert_eq!(expected, [asked], "{}", self.at);
            }
            ["hsm", state] => {
                let hsm = &self.switch().hsm;
                hsm.set_down(*state == "down");
                hsm.set_without_arpc(*state == "no-arpc");
            }
            ["view", card] => self.view(card, &expected).await,
            ["event", plastic] => self.event(plastic, &expected).await,
            ["history", card] => self.history(card, &expected).await,
            ["repeat", mti, changes @ ..] => {
                let last = self.last.clone().unwrap();
                self.repeat(last, mti, changes, &expected).await;
            }
            ["original", mti, changes @ ..] => {
                let original = self.original.clone().unwrap();
                self.repeat(original, mti, changes, &expected).await;
            }
            ["reverse", mti, changes @ ..] => {
                let reversal = self.reversal(changes.contains(&"plain"));
                self.repeat(reversal, mti, changes, &expected).await;
            }
            [mti, card, how @ ..] if mti.len() == 4 => {
                self.request(mti, card, how, &expected).await;
            }
            _ => panic!("{}: an unknown step", self.at),
        }
    }

    fn product(&mut self, name: &str, settings: &[&str]) {
        let head = format!(
            "[[products]]\nname = {name:?}\nbins = [\"476134\"]\n{}",
            if settings.iter().any(|word| word.starts_with("currency=")) {
                ""
            } else {
                "currency = 978\n"
            }
        );
        self.products += &(head + &settings_lines(settings));
    }

    fn config(&self) -> String {
        format!(
            "hsm.master_key_file = \"demo\"\nadmin.listen = \"127.0.0.1:0\"\n\
             [store]\nsegment_mb = 1\nduplicate_index_mb_max = 1\n\
             [limits]\n{}{}{}",
            self.limits,
            LINKS.map(|link| self.link(link)).concat(),
            self.products
        )
    }

    fn link(&self, (name, network): (&str, &str)) -> String {
        format!(
            "[[links]]\nname = {name:?}\nnetwork = {network:?}\nlisten = \"127.0.0.1:0\"\n\
             dialect = \"iso8583-1987-ascii\"\nzpk = \"demo-zpk\"\n{}",
            self.link
        )
    }

    /// The switch starts when the first card is made: until then its rules are collected.
    fn running(&mut self) -> &mut (SwitchUnderTest, [Terminal<DuplexStream>; 3]) {
        if self.running.is_none() {
            let switch =
                SwitchUnderTest::start(&self.config(), &self.directory, self.clock.clone());
            self.running = Some(connected(switch));
        }
        self.running.as_mut().unwrap()
    }

    fn switch(&mut self) -> &SwitchUnderTest {
        &self.running().0
    }

    async fn restart(&mut self) {
        let (switch, terminals) = self.running.take().unwrap();
        drop(terminals);
        // The connection ends when it sees that its peer has gone.
        while std::sync::Arc::strong_count(&switch.switch) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.running = Some(connected(switch.restart()));
    }

    async fn card(&mut self, name: &str, product: &str, how: &[&str]) {
        let number = self.cards.len() + 1;
        let pan = option(how, "pan=").map_or_else(|| pan("476134", number), str::to_owned);
        let (expiry, sequence) =
            option(how, "plastic=").unwrap_or("2912/01").split_once('/').unwrap();
        let plastic = (expiry.to_owned(), sequence.parse().unwrap());
        self.switch().add_card(name, &pan, product, (&plastic.0, plastic.1)).await;
        if let Some(pin) = option(how, "pin=").filter(|pin| *pin != "none") {
            let outcome = self.switch().set_pin(name, pin).await;
            self.check_outcome(&outcome, &[]);
        }
        if !how.contains(&"new") {
            let outcome = self.switch().activate(name).await;
            self.check_outcome(&outcome, &[]);
        }
        self.cards.insert(name.to_owned(), TestCard { pan, plastics: vec![plastic] });
    }

    async fn reissue(&mut self, card: &str, plastic: &str, embossed: &str) {
        let (expiry, sequence) = plastic.split_once('/').unwrap();
        let sequence = sequence.parse().unwrap();
        let embossed = match embossed.strip_prefix("embossed=").unwrap() {
            "not" => Embossed::NotProduced,
            "none" => Embossed::NoPin,
            "0000" => Embossed::Zeros,
            version => Embossed::Pin(version.parse().unwrap()),
        };
        self.switch().reissue(card, (expiry, sequence), embossed).await;
        self.cards.get_mut(card).unwrap().plastics.push((expiry.to_owned(), sequence));
    }

    /// The card of `A` or `A/02`, and the place of its plastic.
    fn place(&self, plastic: &str) -> (String, usize) {
        let Some((card, sequence)) = plastic.split_once('/') else { return (plastic.into(), 0) };
        let sequence: u8 = sequence.parse().unwrap();
        let place = self.cards[card].plastics.iter().position(|of| of.1 == sequence);
        (card.to_owned(), place.expect("a plastic of the card"))
    }

    /// The token of `A` or `A/02`.
    fn token(&self, plastic: &str) -> String {
        match self.place(plastic) {
            (card, 0) => card,
            (card, place) => format!("{card}-{}", self.cards[&card].plastics[place].1),
        }
    }

    async fn show(&mut self, plastic: &str, expected: &[&str]) {
        let (card, place) = self.place(plastic);
        let state = self.switch().card(&card).await.state;
        let (plastic, chip) = (&state.plastics[place], state.chip(place));
        let found = format!(
            "{} {} tries={} pin_version={} atc={} sync={}",
            plastic.status.name(),
            plastic.status_reason,
            state.pin.tries,
            state.pin.version,
            chip.map_or(0, |chip| chip.counters.highest),
            chip.map_or("in_sync", |chip| chip.sync.name())
        );
        let missing = expected.iter().find(|word| !found.split(' ').any(|found| found == **word));
        assert!(missing.is_none() && !expected.is_empty(), "{}: found {found}", self.at);
    }

    /// What the command line shows of a card.
    async fn view(&mut self, plastic: &str, expected: &[&str]) {
        let show = Command::Show { token: self.token(plastic) };
        let shown = execute(&self.switch().switch, show).await;
        let control::Reply::Card(shown) = shown else { panic!("{}: {shown:?}", self.at) };
        let plastic = format!("{}/{}", shown.expiration, shown.pan_sequence_number);
        let plastics = format!("plastics={}", shown.plastics.len());
        let found = [shown.state, shown.reason_code, plastic, plastics];
        assert_eq!(expected, found, "{}", self.at);
    }

    /// A transition, and the event of its commit.
    async fn transition(&mut self, asked: &[&str], expected: &[&str]) {
        let asked: [&str; 4] = asked.try_into().expect("card, state, channel and reason code");
        let [plastic, state, channel, reason_code] = asked.map(str::to_owned);
        let token =
            if self.cards.contains_key(&plastic[..1]) { self.token(&plastic) } else { plastic };
        let reason_code = Some(reason_code).filter(|code| code != "-");
        let form = TransitionForm { token, state, channel, reason_code, reason: None };
        let told = async |switch: &SwitchUnderTest| {
            let page = switch.switch.store.events(EventId::NONE, PAGE_ITEMS_MAX).await.unwrap();
            let of_calls = page.items.into_iter().filter_map(|(_, told)| match told {
                Told::Event(event, None) => Some(*event),
                _ => None,
            });
            of_calls.collect::<Vec<_>>()
        };
        let before = told(self.switch()).await;
        let outcome = execute(&self.switch().switch, Command::Transition(form)).await;
        let told = told(self.switch()).await.split_off(before.len());
        let found = match (outcome, told.as_slice()) {
            (control::Reply::Refused(why), []) => {
                let code = serde_json::to_value(why.code).unwrap();
                format!("refused {}", code.as_str().unwrap())
            }
            (control::Reply::Card(_), []) => "none".to_owned(),
            (control::Reply::Card(_), [event]) => {
                assert_eq!(event.after.unwrap().status.name(), asked[1], "{}", self.at);
                event.kind.name().replace("cardtransition.", "")
            }
            other => panic!("{}: {other:?}", self.at),
        };
        assert_eq!(found, expected.join(" "), "{}", self.at);
    }

    /// What the last transaction of a card told others, of a plastic where one is named.
    async fn event(&mut self, of: &str, expected: &[&str]) {
        let (card, place) = self.place(of);
        let card = self.switch().card(&card).await;
        let plastic = &card.state.plastics[place];
        let token = plastic.token().unwrap_or(&card.entry.identity.token);
        let parts = self.switch().switch.store.entry(card.entry.last_record()).unwrap();
        let is_told = |event: &Event| !of.contains('/') || event.card_token == *token;
        let events = parts.iter().filter_map(|part| match part {
            Part::Event(event) if is_told(event) => Some(event),
            _ => None,
        });
        let mut found = Vec::new();
        for event in events {
            assert_eq!(event.expiry, Some(plastic.expiry), "{}", self.at);
            let states = [event.before, event.after].map(|state| state.unwrap().status);
            let suspends = event.kind == EventKind::StateSuspended;
            let after = if suspends { CardStatus::Suspended } else { CardStatus::Active };
            assert_eq!(states, [CardStatus::Active, after], "{}", self.at);
            found.push(event.kind.name().split_once('.').unwrap().1);
        }
        let found = if found.is_empty() { vec!["none"] } else { found };
        assert_eq!(expected, found, "{}", self.at);
    }

    /// The reasons of a card's transactions, oldest first.
    async fn history(&mut self, card: &str, expected: &[&str]) {
        let card = self.switch().card(card).await;
        let filter = TransactionFilter::of_card(card.entry.identity.key);
        let page = self.switch().switch.store.transactions(filter, None, 1_000).await.unwrap();
        let records = page.items;
        let found: Vec<_> =
            records.iter().rev().map(|(_, record)| record.answer.reason.code()).collect();
        assert_eq!(found, expected, "{}", self.at);
    }

    fn check_outcome(&self, outcome: &control::Reply, expected: &[&str]) {
        let refused = matches!(outcome, control::Reply::Refused(_));
        assert_eq!(refused, expected == ["refused"], "{}: {outcome:?}", self.at);
    }

    async fn request(&mut self, mti: &str, card: &str, how: &[&str], expected: &[&str]) {
        self.requests += 1;
        let mut fields = Fields::new(mti);
        let stan = format!("{:06}", self.requests);
        fields.set(7, b"1121120000").set(11, stan.as_bytes());
        if !mti.starts_with("08") {
            let (card, place) = self.place(card);
            let card = &self.cards[&card];
            let plastic = &card.plastics[place];
            let rrn = format!("{:012}", self.requests);
            fields.set(2, card.pan.as_bytes()).set(3, b"000000").set(4, b"000000001250");
            fields.set(14, plastic.0.as_bytes()).set(22, b"901").set(32, b"12345");
            fields.set(37, rrn.as_bytes()).set(41, b"TERM0001").set(49, b"978");
            self.set_pin_block(&mut fields, how);
            if let Some(atc) = option(how, "chip=") {
                let pin_is_wrong = option(how, "offline=") == Some("wrong");
                set_chip_data(&mut fields, plastic.1, atc.parse().unwrap(), pin_is_wrong);
            }
        }
        self.change(&mut fields, how);
        self.exchange(fields, how, expected).await;
    }

    /// The last authorization or advice taken back, without its MTI.
    fn reversal(&mut self, is_plain: bool) -> Fields {
        let mut fields = self.original.clone().unwrap();
        fields.values.remove(&52);
        if !is_plain {
            let text = |element| fields.text(element);
            let acquirer = format!("{:0>11}", text(32));
            let elements = [fields.mti.clone(), text(11), text(7), acquirer, "0".repeat(11)];
            self.requests += 1;
            let stan = format!("{:06}", self.requests);
            let rrn = format!("{:012}", self.requests);
            fields.set(90, elements.concat().as_bytes());
            fields.set(11, stan.as_bytes()).set(37, rrn.as_bytes()).set(7, b"1121120500");
        }
        fields
    }

    async fn repeat(&mut self, mut fields: Fields, mti: &str, changes: &[&str], expected: &[&str]) {
        fields.mti = mti.to_owned();
        self.set_pin_block(&mut fields, changes);
        self.change(&mut fields, changes);
        self.exchange(fields, changes, expected).await;
    }

    fn set_pin_block(&self, fields: &mut Fields, how: &[&str]) {
        let pan = fields.text(2);
        let format = option(how, "format=").map_or(0, |format| format.parse().unwrap());
        let zpk = if option(how, "key=") == Some("wrong") { WRONG_ZPK } else { ZPK };
        let block = |pin: &str| match pin {
            // Under the right key, but with the control digit of no format.
            "garbage" => crate::terminal::encrypt([0xEE; 8], ZPK),
            pin => pin_block(pin, &pan, format, zpk),
        };
        if let Some(pin) = option(how, "pin=").filter(|pin| *pin != "none") {
            fields.set(52, &block(pin));
        }
        if let Some(pin) = option(how, "new=") {
            let digits =
                block(pin).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02X}"));
            fields.set(3, b"920000").set(63, digits.as_bytes());
        }
    }

    fn change(&self, fields: &mut Fields, how: &[&str]) {
        for word in how {
            if let Some((element, value)) =
                word.strip_prefix("de").and_then(|rest| rest.split_once('='))
            {
                let element = element.parse().unwrap();
                let hex = element == 55 || element == 52;
                let value = if hex { crate::terminal::bytes(value) } else { text(value) };
                fields.set(element, &value);
            } else if *word == "drop5F34" {
                drop_sequence(fields);
            } else if let Some(element) = word.strip_prefix("drop") {
                fields.values.remove(&element.parse().unwrap());
            } else if *word == "track2" {
                let track = format!("{}={}2010000000000", fields.text(2), fields.text(14));
                fields.set(35, track.as_bytes());
            } else if let Some(rest) = word.strip_prefix("track2=") {
                fields.set(35, format!("{}={rest}", fields.text(2)).as_bytes());
            } else if *word == "forged" {
                forge_cryptogram(fields);
            } else if *word != "plain" {
                let known = ["pin=", "new=", "format=", "key=", "via=", "chip=", "offline="];
                let known = known.iter().any(|key| word.starts_with(key));
                assert!(known, "{}: unknown word {word}", self.at);
            }
        }
    }

    async fn exchange(&mut self, fields: Fields, how: &[&str], expected: &[&str]) {
        let frame = fields.frame(&self.spec);
        let link: usize = option(how, "via=").map_or(1, |link| link.parse().unwrap());
        let terminal = &mut self.running().1[link - 1];
        terminal.send(&frame).await;
        if expected == ["none"] {
            let reply = terminal.answer_or_silence().await;
            assert_eq!(reply, Reply::Silence, "{}", self.at);
            return;
        }
        let answer = terminal.receive().await;
        if expected.contains(&"same") {
            assert_eq!(answer, self.last_answer, "{}: other bytes than before", self.at);
        }
        let read = Fields::read(&self.spec, &answer);
        self.check(&fields, &read, expected);
        if matches!(fields.mti.as_bytes(), [b'0', b'1' | b'2', ..]) {
            self.original = Some(fields.clone());
        }
        (self.last, self.last_answer) = (Some(fields), answer);
    }

    fn check(&self, request: &Fields, answer: &Fields, expected: &[&str]) {
        let found = format!("{} {}", answer.text(39), answer.text(44));
        let of_code = |word: &&&str| !["same", "arpc", "script"].contains(*word);
        let wanted: Vec<_> = expected.iter().filter(of_code).copied().collect();
        assert!(!wanted.is_empty(), "{}: nothing is expected", self.at);
        assert_eq!(found.trim(), wanted.join(" "), "{}", self.at);
        let mti = Mti::new(request.mti.as_bytes().try_into().unwrap()).unwrap();
        assert_eq!(answer.mti, mti.response().to_string(), "{}", self.at);
        let echoed: &[u8] = if mti.is_network_management() { &ECHOED_0810 } else { &ECHOED };
        for element in echoed {
            assert_eq!(request.values.get(element), answer.values.get(element), "{}", self.at);
        }
        let is_arpc = |data: &[u8]| is_believed(request, data);
        let found = match answer.values.get(&55).map(|data| data.split_at(12)) {
            None => "",
            Some((arpc, [])) if is_arpc(arpc) => "arpc",
            Some((arpc, [0x72, ..])) if is_arpc(arpc) => "arpc script",
            Some(_) => "something else",
        };
        let wanted = expected.iter().filter(|word| ["arpc", "script"].contains(*word));
        let wanted: Vec<_> = wanted.copied().collect();
        assert_eq!(found, wanted.join(" "), "{}: DE55", self.at);
        let own = |element: &u8| [38, 39, 44, 55].contains(element) || echoed.contains(element);
        assert!(answer.values.keys().all(own), "{}: {:?}", self.at, answer.values.keys());
        // What is only acknowledged has no approval code.
        let decided = matches!((mti.class(), mti.function()), (1 | 2, 0));
        let approved = answer.text(39) == "00" && decided;
        let code = answer.text(38);
        let digits = code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit());
        assert_eq!((approved, digits), (!code.is_empty(), approved), "{}: DE38 {code}", self.at);
    }
}

fn connected(switch: SwitchUnderTest) -> (SwitchUnderTest, [Terminal<DuplexStream>; 3]) {
    let terminals = [0, 1, 2].map(|link| Terminal { stream: switch.connect(link).0 });
    (switch, terminals)
}

/// A value of a table, where blanks are written as `_`.
fn text(value: &str) -> Vec<u8> {
    value.replace('_', " ").into_bytes()
}

fn option<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key))
}

/// `key=value` as lines of TOML; a value that is no number, list or truth is a text.
fn settings_lines(settings: &[&str]) -> String {
    settings.iter().fold(String::new(), |mut lines, setting| {
        let (key, value) = setting.split_once('=').expect("key=value");
        let bare = value.parse::<i64>().is_ok_and(|_| !value.starts_with('+'))
            || value.starts_with('[')
            || ["true", "false"].contains(&value);
        let quote = if bare { "" } else { "\"" };
        writeln!(lines, "{key} = {quote}{value}{quote}").unwrap();
        lines
    })
}

fn instant(text: &str) -> Timestamp {
    let time: jiff::Timestamp = text.parse().expect("a time such as 2026-11-21T12:00:00Z");
    Timestamp::from_micros(time.as_microsecond())
}

fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|letter: char| letter.is_alphabetic()).unwrap());
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => panic!("a time such as 150ms, 61s, 24h or 40d"),
    };
    Duration::from_millis(number.parse::<u64>().unwrap() * millis)
}
