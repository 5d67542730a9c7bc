//! One cardholder with one chip: what is drawn, what is sent, what comes of it, and whether that
//! may be.

use std::collections::{BTreeMap, VecDeque};

use chip_card::card::{Application, ChipCard};
use chip_card::terminal::{Ending, Otherwise, Payment, PinEntry};
use fastrand::Rng;
use switch::control::Command;
use switch::issuing::secret::PinText;
use switch::pin::ClearPin;
use switch::pin::weak::is_weak;
use tests::terminal::Fields;
use zeroize::Zeroizing;

use super::messages::{Sent, read, script_template, with_tag, without_tag};
use super::model::{Circumstances, Conclusion, Entry, Event, Facts, Host, Said, WEAK};
use super::wait::{Report, Wait};
use super::world::Line;

/// PIN tries of a chip.
pub const TRIES: u8 = 3;

/// What happens to the answer of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    IsLost,
    /// A byte of the script, or of tag 91, is another one.
    ScriptIsDamaged,
    AuthenticationIsDamaged,
    ScriptIsCutOff,
}

/// What comes next.
enum Action {
    Repeat(Sent, Option<Payment>),
    Conclude(Conclusion, Fields),
    /// The terminal asks for the PIN, and sends the same cryptogram with it.
    AskForPin(Sent, Payment),
}

pub struct Sequence {
    pub token: String,
    pub pan: String,
    pub pins: Vec<String>,
    pub(super) chip: ChipCard,
    application: Application,
    pub(super) ftpam: u64,
    pub(super) script_template: u32,
    pub(super) has_offline_pin: bool,
    /// What the switch can hold of the card: more than one only after a crash.
    pub hosts: Vec<Host>,
    pub(super) report: Report,
    pub(super) number: u32,
    pub(super) atc: u16,
    queue: VecDeque<Action>,
    /// Ids of the scripts that came.
    pub(super) scripts: Vec<[u8; 4]>,
    sent: Vec<Sent>,
    never_sent: Vec<Sent>,
    /// The request whose answer brought the chip the newest PIN.
    pub(super) has_pin: Option<u16>,
    pub(super) dice: Rng,
    pub tally: BTreeMap<&'static str, u64>,
    pub trace: Vec<String>,
}

pub(super) type Outcome = Result<(), String>;

impl Sequence {
    pub fn new(
        (token, pan): (String, String),
        (chip, application): (ChipCard, Application),
        host: Host,
        (ftpam, script_template, has_offline_pin): (u64, u32, bool),
        dice: Rng,
    ) -> Sequence {
        Sequence {
            token,
            pan,
            pins: vec![host.pin.clone()],
            chip,
            application,
            ftpam,
            script_template,
            has_offline_pin,
            hosts: vec![host],
            report: Report::default(),
            number: 0,
            atc: 0,
            queue: VecDeque::new(),
            scripts: Vec::new(),
            sent: Vec::new(),
            never_sent: Vec::new(),
            has_pin: None,
            dice,
            tally: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    /// The next thing that happens.
    pub async fn step(&mut self, line: &mut Line<'_>, of: Circumstances) -> Outcome {
        if let Some(action) = self.queue.pop_front() {
            return match action {
                Action::Repeat(sent, payment) => self.repeat(line, &of, sent, payment).await,
                Action::Conclude(conclusion, fields) => {
                    self.conclude(line, &of, conclusion, &fields).await
                }
                Action::AskForPin(sent, payment) => {
                    self.ask_for_pin(line, &of, (sent, payment)).await
                }
            };
        }
        match self.dice.u8(0..100) {
            0..12 => {
                let pin = format!("{:04}", self.dice.u16(0..10_000));
                self.pins.push(pin.clone());
                let text = PinText::new(Zeroizing::new(pin.clone()));
                let command = Command::SetPin { token: self.token.clone(), pin: text };
                self.command(line, &of, command, &Event::SetPin(pin)).await
            }
            12..16 if of.rules.offline_pin => {
                let command = Command::Unblock { token: self.token.clone() };
                self.command(line, &of, command, &Event::Unblock).await
            }
            16..24 => {
                let command = Command::Activate { token: self.token.clone() };
                let is_suspended = self.hosts.iter().any(|host| host.is_suspended);
                match is_suspended {
                    true => self.command(line, &of, command, &Event::Activate).await,
                    false => self.pay(line, &of).await,
                }
            }
            24..30 => self.play_again(line, &of).await,
            30 => {
                self.go_abroad();
                self.play_again(line, &of).await
            }
            _ => self.pay(line, &of).await,
        }
    }

    /// Two payments with the right online PIN, whose answers arrive: after them chip and switch
    /// are of one mind, or the switch knows that it has given up.
    pub async fn calm(&mut self, line: &mut Line<'_>, of: Circumstances) -> Outcome {
        while !self.queue.is_empty() {
            self.step(line, of).await?;
        }
        if self.hosts.iter().any(|host| host.is_suspended) {
            let command = Command::Activate { token: self.token.clone() };
            self.command(line, &of, command, &Event::Activate).await?;
        }
        for _ in 0..2 {
            let pin = Some(self.pin());
            let entry = (PinEntry::Online, Otherwise::Fails);
            let (payment, sent) = self.begin(entry, 1_000, (pin, None));
            self.authorize(line, &of, (sent, Some(payment)), Fate::Arrives).await?;
            self.queue.clear();
        }
        let must_be_one = |host: &Host| match host.wait {
            // Whose tries are over stays blocked, unless a right online PIN unblocks.
            Wait::Nothing => {
                let unblocks = of.rules.offline_pin && of.rules.atm_unblocks;
                !self.is_behind(host) && (self.chip.tries_left() > 0 || !unblocks)
            }
            Wait::GivenUp(_) | Wait::Expired(_) => true,
            // Given up already; what is kept of it goes with the next look at it.
            Wait::Pending(_) => host.clone().expire(&of),
            Wait::Sent(..) => false,
        };
        match self.hosts.iter().all(must_be_one) {
            true => Ok(()),
            false => Err(self.wrong("chip and switch stay apart")),
        }
    }

    /// The PIN that the cardholder has set last, as far as it was heard of.
    fn pin(&self) -> String {
        self.hosts[0].pin.clone()
    }

    /// What has happened up to something wrong.
    pub(super) fn wrong(&self, what: &str) -> String {
        let Sequence { token, application, trace, hosts, .. } = self;
        format!("{what}: {token}, {application:?}\n{}\n{hosts:?}", trace.join("\n"))
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    async fn command(
        &mut self,
        line: &mut Line<'_>,
        of: &Circumstances,
        command: Command,
        event: &Event,
    ) -> Outcome {
        self.trace.push(format!("{} {event:?}", of.now));
        let said = match line.command(command).await {
            Some(true) => Some(Said { reason: "0000".to_owned(), tells: false, script: false }),
            Some(false) => return Err(self.wrong("a command was refused")),
            None => None,
        };
        self.happened(event, of, said)
    }

    /// A payment of any kind.
    async fn pay(&mut self, line: &mut Line<'_>, of: &Circumstances) -> Outcome {
        let newest = self.pin();
        let dice = &mut self.dice;
        let any = self.pins[dice.usize(0..self.pins.len())].clone();
        let wrong = format!("{:04}", dice.u16(0..10_000));
        let entered: [&str; 3] = [&newest, &any, &wrong].map(|pin| pin.as_str());
        let otherwise = match dice.u8(0..4) {
            0 => Otherwise::Signature,
            1 => Otherwise::NoCvm,
            _ => Otherwise::Fails,
        };
        let one = [entered[[0, 0, 0, 1, 2][dice.usize(0..5)]]];
        let many = [entered[2], entered[1], entered[2]];
        let (entry, online) = match dice.u8(0..20) {
            0..9 => (PinEntry::Offline(&one), None),
            9 => (PinEntry::NotAsked, None),
            10..12 => (PinEntry::Offline(&many), None),
            12 => (PinEntry::Skipped, None),
            13 => (PinEntry::NoPad, None),
            14 => (PinEntry::Online, None),
            15..19 => (PinEntry::Online, Some(newest.clone())),
            _ => (PinEntry::Online, Some(wrong.clone())),
        };
        let amount = match dice.u8(0..8) {
            0 => self.ftpam,
            1 => self.ftpam + 1,
            2 => self.ftpam - 1,
            3..6 => 1 + dice.u64(0..self.ftpam),
            _ => self.ftpam + dice.u64(0..100_000),
        };
        let new = (entry == PinEntry::Online && self.dice.u8(0..4) == 0).then(|| self.new_pin());
        let (payment, sent) = self.begin((entry, otherwise), amount, (online, new));
        if self.dice.u8(0..20) == 0 {
            self.never_sent.push(sent);
            return Ok(());
        }
        let fate = self.fate();
        self.authorize(line, of, (sent, Some(payment)), fate).await
    }

    /// A PIN that the cardholder would like better; now and then one that he may not have.
    fn new_pin(&mut self) -> String {
        if self.dice.u8(0..6) == 0 {
            return WEAK.to_owned();
        }
        let is_good = |pin: &String| {
            let clear = ClearPin::parse(pin.as_bytes()).unwrap();
            !is_weak(&clear, self.pan.as_bytes())
        };
        let dice = &mut self.dice;
        let drawn = std::iter::repeat_with(|| format!("{:04}", dice.u16(0..10_000)));
        let pin = drawn.into_iter().find(is_good).unwrap();
        self.pins.push(pin.clone());
        pin
    }

    fn fate(&mut self) -> Fate {
        match self.dice.u8(0..20) {
            0..12 => Fate::Arrives,
            12..16 => Fate::IsLost,
            16 => Fate::AuthenticationIsDamaged,
            17 => Fate::ScriptIsCutOff,
            _ => Fate::ScriptIsDamaged,
        }
    }

    async fn authorize(
        &mut self,
        line: &mut Line<'_>,
        of: &Circumstances,
        (sent, payment): (Sent, Option<Payment>),
        fate: Fate,
    ) -> Outcome {
        self.sent.push(sent.clone());
        let event = Event::Authorize(sent.facts.clone());
        let answer = self.exchange(line, of, (&sent.fields, &event)).await?;
        self.answered(sent, payment, answer, fate)
    }

    async fn repeat(
        &mut self,
        line: &mut Line<'_>,
        of: &Circumstances,
        sent: Sent,
        payment: Option<Payment>,
    ) -> Outcome {
        self.count("repeated");
        let mut again = sent.fields.clone();
        again.mti = "0101".to_owned();
        let event = Event::Repeat(sent.facts.clone());
        let answer = self.exchange(line, of, (&again, &event)).await?;
        let fate = self.fate();
        self.answered(sent, payment, answer, fate)
    }

    async fn ask_for_pin(
        &mut self,
        line: &mut Line<'_>,
        of: &Circumstances,
        (sent, payment): (Sent, Payment),
    ) -> Outcome {
        let is_right = self.dice.u8(0..4) > 0;
        let wrong = format!("{:04}", self.dice.u16(0..10_000));
        let pin = if is_right { self.pin() } else { wrong };
        let mut facts = sent.facts;
        facts.online = Some(pin);
        let data = sent.fields.values[&55].clone();
        let fields = self.request(&facts, &data);
        let sent = self.numbered(Sent { fields, facts });
        let fate = self.fate();
        self.authorize(line, of, (sent, Some(payment)), fate).await
    }

    /// Many transactions that the switch never hears of, or of the first one late.
    fn go_abroad(&mut self) {
        for number in 0..self.dice.u8(28..36) {
            let (_, sent) = self.begin((PinEntry::Skipped, Otherwise::NoCvm), 1_000, (None, None));
            if number == 0 {
                self.never_sent = vec![sent];
            }
        }
    }

    /// A message that came before, or one that comes late, under a new number.
    async fn play_again(&mut self, line: &mut Line<'_>, of: &Circumstances) -> Outcome {
        let is_late = !self.never_sent.is_empty() && self.dice.bool();
        let sent = match is_late {
            true => self.never_sent.swap_remove(0),
            false if self.sent.is_empty() => return self.pay(line, of).await,
            false => {
                let last = self.sent.len();
                self.sent[self.dice.usize(last.saturating_sub(40)..last)].clone()
            }
        };
        if is_late {
            self.count("came late");
        }
        let sent = self.numbered(sent);
        self.trace.push(format!("ATC {} comes again", sent.facts.atc));
        self.authorize(line, of, (sent, None), Fate::IsLost).await
    }

    async fn conclude(
        &mut self,
        line: &mut Line<'_>,
        of: &Circumstances,
        conclusion: Conclusion,
        fields: &Fields,
    ) -> Outcome {
        self.count(if conclusion.is_reversal { "reversed" } else { "completed" });
        let event = Event::Conclude(conclusion);
        self.exchange(line, of, (fields, &event)).await.map(drop)
    }

    /// What comes of an answer: the chip's part, and what follows.
    fn answered(
        &mut self,
        sent: Sent,
        payment: Option<Payment>,
        answer: Option<(Said, Vec<u8>)>,
        fate: Fate,
    ) -> Outcome {
        let Some((said, data)) = answer.filter(|_| fate != Fate::IsLost) else {
            self.count("answer lost");
            self.trace.push("  no answer arrives".to_owned());
            match (self.dice.u8(0..4), payment) {
                (0, payment) => self.queue.push_back(Action::Repeat(sent, payment)),
                (1, payment) => {
                    let ending = payment.map(|payment| payment.finish(&mut self.chip, None));
                    self.follow(&sent, ending.as_ref(), true);
                }
                // The card is drawn out, or the terminal gives up and tells nobody.
                (2, Some(payment)) => drop(payment.finish(&mut self.chip, None)),
                _ => {}
            }
            return Ok(());
        };
        let Some(payment) = payment else { return Ok(()) };
        if matches!(&*said.reason, "1012" | "1809") && self.dice.bool() {
            self.queue.push_back(Action::AskForPin(sent, payment));
            return Ok(());
        }
        if said.script && script_template(&data) != self.script_template {
            return Err(self.wrong("the script is in the other template"));
        }
        let data = match fate {
            Fate::ScriptIsDamaged => with_tag(&data, script_template(&data), |script| {
                let last = script.len() - 1 - self.dice.usize(0..8);
                script[last] ^= 1;
            }),
            Fate::AuthenticationIsDamaged => with_tag(&data, 0x91, |value| value[0] ^= 1),
            Fate::ScriptIsCutOff => without_tag(&data, script_template(&data)),
            _ => data,
        };
        let tries = self.chip.tries_left();
        let approves = said.reason == "0000";
        let ending = payment.finish(&mut self.chip, Some((approves, &data)));
        self.remember(&ending);
        self.scripts.extend(ending.scripts.iter().map(|(id, _)| *id));
        self.trace.push(format!("  the chip: {:?} {:?}", ending.is_authenticated, ending.scripts));
        let is_done = ending.scripts.iter().any(|(_, is_done)| *is_done);
        if is_done && self.chip.holds(&self.pin()) {
            self.has_pin.get_or_insert(sent.facts.atc);
        }
        match ending.scripts.is_empty() {
            false if is_done => self.count("script carried out"),
            false => self.count("script refused"),
            true => {}
        }
        if is_done && tries == 0 {
            self.count("chip unblocked");
        }
        self.must_heal((&sent, &said), &ending, fate)?;
        let is_reversed = approves && !ending.is_approved;
        if is_reversed || self.dice.u8(0..3) == 0 {
            self.follow(&sent, Some(&ending), is_reversed);
        }
        Ok(())
    }

    /// What the chip keeps of an answer, to tell it in the next request.
    fn remember(&mut self, ending: &Ending) {
        let scripts = ending.scripts.len();
        let script_failed = ending.scripts.iter().any(|(_, is_done)| !is_done);
        match ending.is_authenticated {
            Some(true) => self.report = Report { scripts, script_failed, ..Report::default() },
            Some(false) => {
                self.count("answer not the issuer's");
                self.report.authentication_failed = true;
                self.report.scripts += scripts;
                self.report.script_failed |= script_failed;
            }
            None => {}
        }
    }

    /// The completion or the reversal of a payment comes next.
    fn follow(&mut self, sent: &Sent, ending: Option<&Ending>, is_reversal: bool) {
        // Without contact there is no second cryptogram.
        let is_contact = sent.facts.entry != Entry::Contactless;
        if let Some(ending) = ending.filter(|_| is_contact && self.dice.u8(0..6) == 0) {
            self.keep_second_cryptogram(sent, ending);
        }
        let (conclusion, fields) = self.conclusion(sent, ending, is_reversal);
        self.queue.push_back(Action::Conclude(conclusion, fields));
    }

    /// The second cryptogram of a transaction, which somebody sends as if it were a first one.
    fn keep_second_cryptogram(&mut self, sent: &Sent, ending: &Ending) {
        let mut forged = sent.clone();
        let data = with_tag(&ending.chip_data, 0x9F27, |value| value[0] = 0x80);
        forged.fields.set(55, &data);
        forged.facts.asks = false;
        self.sent.push(forged);
    }

    /// Sends a message and compares what is said with what the model says. Nothing comes back
    /// where the switch ends meanwhile.
    async fn exchange(
        &mut self,
        line: &mut Line<'_>,
        of: &Circumstances,
        (fields, event): (&Fields, &Event),
    ) -> Result<Option<(Said, Vec<u8>)>, String> {
        self.trace.push(format!("{} {event:?}", of.now));
        let answer = line.exchange(fields).await;
        let answer = answer.map(|frame| read(&line.dialect, &frame));
        let said = answer.as_ref().map(|(said, _)| said.clone());
        self.trace.push(format!("  {said:?}"));
        self.happened(event, of, said)?;
        Ok(answer)
    }

    fn happened(&mut self, event: &Event, of: &Circumstances, said: Option<Said>) -> Outcome {
        let waits = self.hosts.iter().any(|host| host.wait != Wait::Nothing);
        let sets = match event {
            Event::SetPin(_) => true,
            // An answer that did not come may have been this one.
            Event::Authorize(Facts { new_pin: Some(_), .. })
            | Event::Repeat(Facts { new_pin: Some(_), .. }) => {
                said.as_ref().is_none_or(|said| said.reason == "0000")
            }
            _ => false,
        };
        // With an unblock somebody says that the holder is to be believed, if a PIN still waits.
        if sets || waits && matches!(event, Event::Unblock) {
            self.has_pin = None;
        }
        let after: Vec<(Host, Said)> =
            self.hosts.iter().map(|host| host.after(event, of)).collect();
        let Some(said) = said else {
            self.count("cut off by a crash");
            self.hosts.extend(after.into_iter().map(|(host, _)| host));
            return Ok(());
        };
        let before = self.hosts.clone();
        let expected: Vec<Said> = after.iter().map(|(_, expected)| expected.clone()).collect();
        let agree = after.into_iter().filter(|(_, expected)| *expected == said);
        self.hosts = agree.map(|(host, _)| host).collect();
        if self.hosts.is_empty() {
            self.hosts = before;
            return Err(self.wrong(&format!("expected {expected:?}, got {said:?}")));
        }
        self.tell(event, &before[0], &said);
        self.must_not_pass(event, &before, &said)
    }
}
