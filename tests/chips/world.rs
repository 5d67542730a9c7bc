//! A switch with many cardholders, and time: rounds in which everybody does one thing, days that
//! pass, an HSM that is down, crashes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chip_card::card::{Application, ChipCard, IssuerKeys, Personalization};
use fastrand::Rng;
use futures_util::future::{join, join_all};
use iso_specs::Spec;
use switch::clock::Timestamp;
use switch::control::{CardForm, Command, NewState, Reply};
use switch::event::Actor;
use switch::issuing::pins;
use switch::issuing::secret::PinText;
use tests::switch_under_test::execute;
use tests::switch_under_test::{SwitchUnderTest, TestClock};
use tests::terminal::{Fields, Terminal, pan};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::mistake::Mistake;
use super::model::{Circumstances, DAY, Host, Rules};
use super::sequence::{Sequence, TRIES};
use super::wait::{Change, Wait};

/// Sequences of a world.
pub const SEQUENCES: usize = 100;

/// Things that each cardholder does.
const ROUNDS: usize = 40;

/// 2026-11-28T12:00:00Z, in seconds.
const START: u64 = 1_795_867_200;

/// What ends with the switch.
type Tasks = Mutex<Vec<JoinHandle<()>>>;

/// The way from one cardholder to the switch.
pub struct Line<'a> {
    test: &'a SwitchUnderTest,
    terminal: &'a mut Terminal<DuplexStream>,
    tasks: &'a Tasks,
    pub dialect: Arc<Spec>,
}

impl Line<'_> {
    /// The answer; nothing where the switch ends meanwhile.
    pub async fn exchange(&mut self, fields: &Fields) -> Option<Vec<u8>> {
        self.terminal.ask(&fields.frame(&self.dialect)).await
    }

    /// Whether a command was carried out; nothing where the switch ends meanwhile.
    pub async fn command(&mut self, command: Command) -> Option<bool> {
        let switch = Arc::clone(&self.test.switch);
        let (sender, outcome) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            // Who asked waits for it.
            let _ = sender.send(execute(&*switch, command).await);
        });
        self.tasks.lock().unwrap().push(task);
        outcome.await.ok().map(|outcome| !matches!(outcome, Reply::Refused(_)))
    }
}

type Failed = String;

pub struct World {
    /// Nothing only between a crash and the next start.
    test: Option<SwitchUnderTest>,
    clock: TestClock,
    now: u64,
    is_signed_on: bool,
    rules: [Rules; 2],
    mistake: Option<Mistake>,
    sequences: Vec<Sequence>,
    terminals: Vec<Terminal<DuplexStream>>,
    tasks: Tasks,
    dice: Rng,
    tally: BTreeMap<&'static str, u64>,
    _directory: tempfile::TempDir,
}

impl World {
    /// Plays one world to its end: how often each kind of thing happened.
    ///
    /// # Errors
    /// What was wrong.
    pub fn play(
        seed: u64,
        sequences: usize,
        mistake: Option<Mistake>,
    ) -> Result<BTreeMap<&'static str, u64>, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let played = runtime.block_on(async {
            let mut world = World::new(seed, mistake).await;
            world.issue(sequences).await;
            for _ in 0..ROUNDS {
                world.round().await?;
            }
            world.calm().await?;
            Ok(world.tally())
        });
        played.map_err(|wrong: Failed| format!("world {seed}: {wrong}"))
    }

    async fn new(seed: u64, mistake: Option<Mistake>) -> World {
        let mut dice = Rng::with_seed(seed);
        let rules = [rules(&mut dice), rules(&mut dice)];
        let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::default());
        clock.set(Timestamp::from_seconds(START.try_into().unwrap()));
        let config = configuration(&rules);
        let test = SwitchUnderTest::start(&config, directory.path(), clock.clone());
        World {
            test: Some(test),
            clock,
            now: START,
            is_signed_on: dice.bool(),
            rules,
            mistake,
            sequences: Vec::new(),
            terminals: Vec::new(),
            tasks: Tasks::default(),
            dice,
            tally: BTreeMap::new(),
            _directory: directory,
        }
    }

    /// Makes the cards: with their PIN on the chip, or with one that a script brings.
    async fn issue(&mut self, count: usize) {
        for number in 0..count {
            let application = Application::ALL[self.dice.usize(0..Application::ALL.len())];
            let (product, keys, bin) = match application.is_visa() {
                true => ("visa", IssuerKeys::DEMO_VISA, "476134"),
                false => ("m-chip", IssuerKeys::DEMO_M_CHIP, "541333"),
            };
            let (token, pan) = (format!("card-{number}"), pan(bin, number));
            let pin = format!("{:04}", self.dice.u16(0..10_000));
            let is_by_script = self.dice.u8(0..8) == 0;
            let text = || PinText::new(Zeroizing::new(pin.clone()));
            let card = CardForm {
                token: token.clone(),
                pan: Zeroizing::new(pan.clone()),
                expiration: "2912".to_owned(),
                pan_sequence_number: "01".to_owned(),
                card_product_token: product.to_owned(),
                state: Some(NewState::Active).filter(|_| !is_by_script),
                pin: (!is_by_script).then(text),
                pvv: None,
                pvki: None,
                pin_offset: None,
            };
            let mut commands = vec![Command::Add(Box::new(card))];
            if is_by_script {
                commands.push(Command::SetPin { token: token.clone(), pin: text() });
                commands.push(Command::Activate { token: token.clone() });
            }
            for command in commands {
                let outcome = execute(&*self.test().switch, command).await;
                assert!(!matches!(outcome, Reply::Refused(_)), "{outcome:?}");
            }
            let rules = self.rules_of(application);
            let wait = match is_by_script && rules.offline_pin {
                true => Wait::Pending(Change::of_pin(self.now)),
                false => Wait::Nothing,
            };
            let product = (rules.ftpam.unwrap_or(5_000), rules.script_template, rules.offline_pin);
            let personalization = Personalization {
                application,
                pan: &pan,
                sequence: 1,
                keys,
                pin: if is_by_script { "unknown" } else { &pin },
                tries_max: TRIES,
                atc: 0,
            };
            let chip = (ChipCard::new(&personalization), application);
            let host = Host::new(&pin, wait);
            let dice = Rng::with_seed(self.dice.u64(..));
            self.sequences.push(Sequence::new((token, pan), chip, host, product, dice));
        }
        self.connect().await;
    }

    fn test(&self) -> &SwitchUnderTest {
        self.test.as_ref().expect("a switch that runs")
    }

    fn rules_of(&self, application: Application) -> &Rules {
        &self.rules[usize::from(!application.is_visa())]
    }

    async fn connect(&mut self) {
        self.terminals = Vec::new();
        for _ in &self.sequences {
            let test = self.test();
            let (stream, serving) = test.connect(0);
            let mut terminal = Terminal { stream };
            if self.is_signed_on {
                let mut sign_on = Fields::new("0800");
                sign_on.set(7, b"1128120000").set(11, b"000001").set(70, b"001");
                let answer = terminal.ask(&sign_on.frame(&test.config.links[0].dialect)).await;
                assert!(answer.is_some());
            }
            self.terminals.push(terminal);
            self.tasks.lock().unwrap().push(serving);
        }
    }

    fn circumstances(&self, sequence: usize, hsm_is_down: bool) -> Circumstances {
        let is_visa = self.sequences[sequence].pan.starts_with('4');
        Circumstances {
            now: self.now,
            hsm_is_down,
            is_signed_on: self.is_signed_on,
            rules: self.rules[usize::from(!is_visa)],
            mistake: self.mistake,
        }
    }

    /// Everybody does one thing.
    async fn round(&mut self) -> Result<(), Failed> {
        self.pass_time().await?;
        let hsm_is_down = self.dice.u8(0..25) == 0;
        let is_crash = self.dice.u8(0..20) == 0;
        self.test().hsm.set_down(hsm_is_down);
        let after = if is_crash { self.dice.usize(0..60) } else { usize::MAX };
        self.everybody(hsm_is_down, Some(after).filter(|_| is_crash)).await?;
        self.test().hsm.set_down(false);
        *self.tally.entry("HSM down").or_default() += u64::from(hsm_is_down);
        if is_crash {
            self.restart().await;
        }
        self.check().await
    }

    /// Each sequence takes a step; the switch ends after so many turns of its tasks.
    async fn everybody(&mut self, hsm: bool, ends_after: Option<usize>) -> Result<(), Failed> {
        let of: Vec<Circumstances> =
            (0..self.sequences.len()).map(|number| self.circumstances(number, hsm)).collect();
        let (test, tasks) = (self.test.as_ref().expect("a switch that runs"), &self.tasks);
        let dialect = &test.config.links[0].dialect;
        let steps = self.sequences.iter_mut().zip(&mut self.terminals).zip(of);
        let steps = steps.map(|((sequence, terminal), of)| async move {
            let mut line = Line { test, terminal, tasks, dialect: Arc::clone(dialect) };
            sequence.step(&mut line, of).await
        });
        let end = async {
            for _ in 0..ends_after.unwrap_or_default() {
                tokio::task::yield_now().await;
            }
            if ends_after.is_some() {
                tasks.lock().unwrap().iter().for_each(JoinHandle::abort);
            }
        };
        let (stepped, ()) = join(join_all(steps), end).await;
        stepped.into_iter().collect()
    }

    /// Seconds, hours or days; now and then somebody looks for changes that are too old.
    async fn pass_time(&mut self) -> Result<(), Failed> {
        let seconds = match self.dice.u8(0..12) {
            0 => 1 + self.dice.u64(0..DAY),
            1 => DAY * self.dice.u64(1..3),
            2 => 60 + self.dice.u64(0..120),
            _ => 1 + self.dice.u64(0..50),
        };
        self.now += seconds;
        self.clock.advance(Duration::from_secs(seconds));
        if self.dice.u8(0..6) > 0 {
            return Ok(());
        }
        let cards = self.test().switch.store.cache().entries();
        let expired =
            pins::expire_changes(&self.test().switch, &Actor::switch("expiry"), &cards).await;
        let mut expected = 0;
        for number in 0..self.sequences.len() {
            let of = self.circumstances(number, false);
            let hosts = self.sequences[number].hosts.iter_mut();
            let expired = hosts.filter_map(|host| host.expire(&of).then_some(()));
            expected += usize::from(expired.count() > 0);
        }
        *self.tally.entry("expired").or_default() += expected as u64;
        match expired {
            Ok(count) if count == expected => Ok(()),
            other => Err(format!("expected {expected} expired changes, got {other:?}")),
        }
    }

    /// The process ends without a word, and starts again on what it has written.
    async fn restart(&mut self) {
        *self.tally.entry("crash").or_default() += 1;
        self.terminals.clear();
        for task in std::mem::take(self.tasks.get_mut().unwrap()) {
            task.abort();
            // It was ended, or had come to its end.
            let _ = task.await;
        }
        self.test = self.test.take().map(SwitchUnderTest::crash);
        self.connect().await;
    }

    async fn check(&mut self) -> Result<(), Failed> {
        for sequence in &mut self.sequences {
            let test = self.test.as_ref().expect("a switch that runs");
            let card = test.card(&sequence.token).await;
            sequence.check(&card.state)?;
        }
        Ok(())
    }

    async fn calm(&mut self) -> Result<(), Failed> {
        for number in 0..self.sequences.len() {
            let of = self.circumstances(number, false);
            let test = self.test.as_ref().expect("a switch that runs");
            let mut line = Line {
                test,
                terminal: &mut self.terminals[number],
                tasks: &self.tasks,
                dialect: Arc::clone(&test.config.links[0].dialect),
            };
            self.sequences[number].calm(&mut line, of).await?;
        }
        self.check().await
    }

    fn tally(self) -> BTreeMap<&'static str, u64> {
        let mut tally = self.tally;
        for (what, times) in self.sequences.into_iter().flat_map(|sequence| sequence.tally) {
            *tally.entry(what).or_default() += times;
        }
        tally
    }
}

fn rules(dice: &mut Rng) -> Rules {
    Rules {
        ftpam: (dice.u8(0..4) > 0).then(|| dice.u64(1_000..10_000)),
        ftpdy: (dice.u8(0..3) > 0).then(|| dice.u64(1..4)),
        bypass_any: dice.bool(),
        ofpbe: dice.u64(1..8),
        offline_pin: dice.u8(0..8) > 0,
        exhausted_needs_next: dice.bool(),
        not_entered_passes: dice.bool(),
        locked_may_pass: dice.bool(),
        pin_required: dice.bool(),
        atm_unblocks: dice.bool(),
        sends_max: dice.u8(1..6),
        // Before or after the chip's last cryptogram.
        script_template: if dice.bool() { 0x71 } else { 0x72 },
    }
}

fn configuration(rules: &[Rules; 2]) -> String {
    let product = |name: &str, kind: &str, bin: &str, rules: &Rules| {
        let number = |name: &str, value: Option<u64>| {
            value.map_or(String::new(), |value| format!("{name} = {value}\n"))
        };
        let (ftpam, ftpdy) = (number("ftpam", rules.ftpam), number("ftpdy", rules.ftpdy));
        let mode = if rules.bypass_any { "any" } else { "table" };
        let exhausted = if rules.exhausted_needs_next { "next_cvm" } else { "always" };
        let policy = if rules.pin_required { "required" } else { "cvm_list" };
        let not_entered = if rules.not_entered_passes { "cvm_list" } else { "decline" };
        let locked = if rules.locked_may_pass { "where_pin_required" } else { "decline" };
        let Rules { ofpbe, offline_pin, atm_unblocks, sends_max, script_template, .. } = rules;
        let resends = sends_max - 1;
        format!(
            "[[products]]\nname = {name:?}\nbins = [{bin:?}]\ncurrency = 978\n\
             [products.chip]\nimk_ac = \"demo-{kind}-imk-ac\"\nimk_smi = \"demo-{kind}-imk-smi\"\n\
             imk_smc = \"demo-{kind}-imk-smc\"\noffline_pin = {offline_pin}\n\
             bypass_mode = {mode:?}\n\
             {ftpam}{ftpdy}ofpbe = {ofpbe}\napprove_exhausted = {exhausted:?}\n\
             pin_not_entered = {not_entered:?}\nlocked_chip = {locked:?}\n\
             no_pin_policy = {policy:?}\natm_unblocks_chip = {atm_unblocks}\n\
             script_resends_max = {resends}\nscript_template = {script_template:x}\n"
        )
    };
    format!(
        "hsm.master_key_file = \"demo\"\nadmin.listen = \"127.0.0.1:0\"\nstore.segment_mb = 1\n\
         [[links]]\nname = \"a\"\nnetwork = \"a\"\nlisten = \"127.0.0.1:0\"\nzpk = \"demo-zpk\"\n\
         dialect = \"iso8583-1987-ascii\"\n{}{}",
        product("visa", "visa", "476134", &rules[0]),
        product("m-chip", "mchip", "541333", &rules[1]),
    )
}
