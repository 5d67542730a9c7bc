//! The rules of chips a second time, and simpler: what a card is on the side of the switch, and
//! what must come of each message. Nothing here knows bytes, keys or bits.

use std::collections::BTreeSet;

use super::mistake::Mistake;
use super::wait::{Carrier, Change, Report, Wait};

/// Seconds of a day.
pub const DAY: u64 = 24 * 3_600;

/// A PIN that no cardholder may set.
pub const WEAK: &str = "1234";

/// The rules of a product.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub ftpam: Option<u64>,
    pub ftpdy: Option<u64>,
    pub bypass_any: bool,
    pub ofpbe: u64,
    /// The chip holds the PIN.
    pub offline_pin: bool,
    /// A chip without tries passes only where another method held; else always, but below FTPAM.
    pub exhausted_needs_next: bool,
    /// A PIN that was not entered is as one that could not be.
    pub not_entered_passes: bool,
    /// A chip without tries passes where no PIN was wanted.
    pub locked_may_pass: bool,
    pub pin_required: bool,
    pub atm_unblocks: bool,
    pub sends_max: u8,
    /// 71 or 72.
    pub script_template: u32,
}

/// A card on the side of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub pin: String,
    pub tries: u8,
    pub is_suspended: bool,
    pub wait: Wait,
    seen: BTreeSet<u16>,
    /// May come once more, until two minutes after.
    again: Option<(u16, u64)>,
    /// The last answer, and when it was given.
    last: Option<(u32, Said, u64)>,
}

/// What the chip did with an offline PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    NotTried,
    Right,
    Wrong,
}

/// How the chip was read, by DE22.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Contact,
    Contactless,
    /// Anything else, or nothing.
    Other,
}

/// What became of a script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Refused,
    Lost,
    InDoubt,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Facts {
    pub number: u32,
    pub atc: u16,
    pub entry: Entry,
    /// The cryptogram is one by which the chip asks to go online.
    pub asks: bool,
    /// Chip data and cryptogram are as the chip made them.
    pub is_genuine: bool,
    pub is_cash: bool,
    pub amount: u64,
    pub is_own_currency: bool,
    /// In the product's currency.
    pub billed: Option<u64>,
    /// DE52.
    pub online: Option<String>,
    /// What the PIN is to be from now on.
    pub new_pin: Option<String>,
    pub offline: Offline,
    pub is_exhausted: bool,
    /// The terminal has seen it too.
    pub was_refused: bool,
    /// Another method held.
    pub is_otherwise_verified: bool,
    /// No verification was needed, says the terminal.
    pub is_none_needed: bool,
    /// A PIN was asked for, and none was entered.
    pub is_not_entered: bool,
    /// Nobody asked for a PIN.
    pub is_not_asked: bool,
    /// No method held.
    pub has_failed: bool,
    /// The terminal says that an offline PIN was right, whatever the chip says.
    pub claims_offline: bool,
    /// The terminal says that a PIN goes online.
    pub claims_online: bool,
    pub report: Report,
}

/// A message, or a command of the issuer.
#[derive(Clone, Debug)]
pub enum Event {
    Authorize(Facts),
    Repeat(Facts),
    /// An advice, or the reversal of the request with this number.
    Conclude(Conclusion),
    SetPin(String),
    Unblock,
    Activate,
}

/// What a message about a transaction that is over tells.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// The transaction.
    pub number: u32,
    pub is_reversal: bool,
    /// 9F5B: whether its script was carried out.
    pub script: Option<bool>,
    /// The terminal says that the answer was not the issuer's, or that a script failed before the
    /// last cryptogram.
    pub has_failed: bool,
}

/// An answer, as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Four digits.
    pub reason: String,
    /// The chip is told something.
    pub tells: bool,
    pub script: bool,
}

impl Said {
    fn only(reason: &str) -> Said {
        Said { reason: reason.to_owned(), tells: false, script: false }
    }
}

/// What surrounds an event.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    pub now: u64,
    pub hsm_is_down: bool,
    pub is_signed_on: bool,
    pub rules: Rules,
    pub mistake: Option<Mistake>,
}

impl Host {
    pub fn new(pin: &str, wait: Wait) -> Host {
        let seen = BTreeSet::new();
        let pin = pin.to_owned();
        Host { pin, tries: 0, is_suspended: false, wait, seen, again: None, last: None }
    }

    /// The card after an event, and what is said.
    pub fn after(&self, event: &Event, of: &Circumstances) -> (Host, Said) {
        let mut next = self.clone();
        let is_command = matches!(event, Event::SetPin(_) | Event::Unblock | Event::Activate);
        if is_command && of.mistake != Some(Mistake::CommandsSeeItLater) {
            next.expire(of);
        }
        let said = match event {
            Event::Authorize(facts) => next.authorize(facts, of),
            Event::Repeat(facts) => match &self.last {
                Some((number, said, at)) if *number == facts.number && of.now < at + DAY => {
                    self.again(said, of)
                }
                _ => next.authorize(facts, of),
            },
            Event::Conclude(conclusion) => {
                next.conclude(conclusion, of);
                Said::only("0000")
            }
            Event::SetPin(pin) => {
                next.set_pin(pin, of);
                Said::only("0000")
            }
            Event::Unblock => {
                next.unblock(of.now);
                Said::only("0000")
            }
            Event::Activate => {
                (next.tries, next.is_suspended) = (0, false);
                Said::only("0000")
            }
        };
        (next, said)
    }

    /// The highest counter, and which of the 32 up to it have come: bit n is n below.
    pub fn window(&self) -> (u16, u32) {
        let highest = self.seen.last().copied().unwrap_or_default();
        let near = self.seen.iter().filter(|atc| highest - **atc < 32);
        (highest, near.fold(0, |bits, atc| bits | 1 << (highest - atc)))
    }

    /// Without a change whose time is over.
    pub fn expire(&mut self, of: &Circumstances) -> bool {
        let is_over = self.is_over(of);
        let is_of_pin = self.wait.kept().is_some_and(|change| change.is_pin || change.pin_is_old)
            || of.mistake == Some(Mistake::UnblockExpiresPin);
        if is_over {
            self.wait = match &self.wait {
                _ if !is_of_pin => Wait::Nothing,
                Wait::Sent(Change { is_pin: true, .. }, carrier) => Wait::Expired(Some(*carrier)),
                _ => Wait::Expired(None),
            };
        }
        is_over
    }

    fn is_over(&self, of: &Circumstances) -> bool {
        let days = of.rules.ofpbe + u64::from(of.mistake == Some(Mistake::BlockKeptLonger));
        self.wait.kept().is_some_and(|change| of.now >= change.since + days * DAY)
    }

    /// An answer is given again; the script only while its change is kept.
    fn again(&self, said: &Said, of: &Circumstances) -> Said {
        match said.tells && of.hsm_is_down {
            true => Said::only(&said.reason),
            false => Said { script: said.script && self.wait.kept().is_some(), ..said.clone() },
        }
    }

    fn unblock(&mut self, now: u64) {
        self.wait = match std::mem::replace(&mut self.wait, Wait::Nothing) {
            Wait::GivenUp(change) if change.is_pin => {
                Wait::Pending(Change { sends: 0, is_doubtful: false, ..change })
            }
            Wait::Sent(change, carrier) if change.is_pin => {
                Wait::Sent(change, Carrier { unblock: Some(now), ..carrier })
            }
            Wait::Expired(Some(carrier)) => {
                Wait::Expired(Some(Carrier { unblock: Some(now), ..carrier }))
            }
            Wait::Pending(change) if change.is_pin => {
                Wait::Pending(Change { is_doubtful: false, ..change })
            }
            waits => {
                let pin_is_old = matches!(waits, Wait::Expired(_))
                    || waits.kept().is_some_and(|change| change.pin_is_old);
                Wait::Pending(Change { is_pin: false, pin_is_old, ..Change::of_pin(now) })
            }
        };
    }

    fn authorize(&mut self, facts: &Facts, of: &Circumstances) -> Said {
        let said = self.decide(facts, of);
        if said.reason != "9907" {
            self.last = Some((facts.number, said.clone(), of.now));
        }
        said
    }

    fn decide(&mut self, facts: &Facts, of: &Circumstances) -> Said {
        if self.is_suspended {
            return Said::only("1872");
        }
        if !facts.asks {
            return Said::only("1029");
        }
        if of.hsm_is_down {
            return Said::only("9907");
        }
        if !facts.is_genuine {
            return Said::only("1029");
        }
        let is_asked = facts.online.is_some() || of.mistake == Some(Mistake::SecondEntryWithout);
        let Some(is_again) = self.accept(facts.atc, is_asked, of) else {
            return Said::only("1029");
        };
        let is_contact = facts.entry == Entry::Contact;
        if !is_again {
            self.observe(facts, of);
        }
        // What was given up for its age is taken out by others, a little later.
        let is_over = self.is_over(of);
        let mut waits = !is_over && self.wait.change().is_some();
        if of.mistake == Some(Mistake::ChipCountsOnline) && facts.offline == Offline::Wrong {
            self.tries += 1;
        }
        // An answer to a transaction that the chip has left behind reaches nobody.
        let is_newest = self.seen.last() == Some(&facts.atc);
        let can_carry = is_newest && is_contact;
        let reason = match (&facts.online, &facts.new_pin) {
            (Some(pin), None) => self.online(pin),
            (Some(pin), Some(new)) => self.online_and_new(pin, new, of, &mut waits),
            (None, Some(_)) => "1012",
            (None, None) => self.without_pin(facts, (waits, can_carry), of),
        };
        if matches!(reason, "1012" | "1809") {
            self.again = Some((facts.atc, of.now));
        }
        let carries = reason == "0000"
            && (is_contact || of.mistake == Some(Mistake::ContactlessGetsScript))
            && (is_newest || of.mistake == Some(Mistake::LateGetsScript));
        let unblocks = of.rules.atm_unblocks
            && of.rules.offline_pin
            && of.mistake != Some(Mistake::AtmDoesNotUnblock)
            && facts.online.is_some()
            && (facts.is_cash || of.mistake == Some(Mistake::UnblocksAtShops))
            && facts.is_exhausted
            && !is_over
            && self.wait.change().is_none();
        if carries && unblocks {
            self.unblock(of.now);
        }
        let script = match (&self.wait, carries && (waits || unblocks)) {
            (Wait::Pending(change), true) => {
                let change = Change { sends: change.sends + 1, ..change.clone() };
                let carrier = Carrier {
                    atc: facts.atc,
                    told: facts.report,
                    is_reversed: false,
                    unblock: None,
                    number: facts.number,
                    at: of.now,
                };
                self.wait = Wait::Sent(change, carrier);
                true
            }
            _ => false,
        };
        Said { reason: reason.to_owned(), tells: true, script }
    }

    /// Whether the counter may come; whether it is the same cryptogram again.
    fn accept(&mut self, atc: u16, is_asked: bool, of: &Circumstances) -> Option<bool> {
        let is_again = self.again.is_some_and(|(again, since)| {
            again == atc
                && is_asked
                && of.now - since < 120
                && of.mistake != Some(Mistake::SecondEntryIsReplay)
        });
        if is_again {
            self.again = None;
            return Some(true);
        }
        let window = if of.mistake == Some(Mistake::WindowIsWider) { 33 } else { 32 };
        let highest = self.seen.last().copied().unwrap_or_default();
        let is_replay = self.seen.contains(&atc) && of.mistake != Some(Mistake::ReplayIsAccepted);
        if is_replay || atc + window <= highest {
            return None;
        }
        self.seen.insert(atc);
        Some(false)
    }

    /// What became of the script, by what the chip tells later.
    fn observe(&mut self, facts: &Facts, of: &Circumstances) {
        let Some(carrier) = self.carrier(of).filter(|carrier| carrier.atc < facts.atc) else {
            return;
        };
        let Report { is_incomplete, authentication_failed, scripts, script_failed } = facts.report;
        // What it tells is of a transaction before the script, or just like it.
        let is_older = is_incomplete
            && match of.mistake {
                Some(Mistake::OldCountIsLost) => true,
                Some(Mistake::FailuresAreAlike) => scripts == carrier.told.scripts,
                _ => facts.report.is_like(&carrier.told),
            };
        let has_failed = authentication_failed || script_failed;
        let fate = match of.mistake {
            Some(Mistake::LostIsConfirmed) if !has_failed => Fate::Done,
            Some(Mistake::FailureIsConfirmed) if !is_older && scripts > 0 => Fate::Done,
            _ if (is_older || authentication_failed) && scripts > 0 && !script_failed => {
                Fate::InDoubt
            }
            _ if is_older => Fate::Lost,
            _ if has_failed => Fate::Refused,
            _ if scripts > 0 => Fate::Done,
            _ => Fate::Lost,
        };
        let is_contact = match of.mistake {
            Some(Mistake::SilenceIsLost) => true,
            Some(Mistake::OnlyContactIsHeard) if facts.entry != Entry::Contact => return,
            _ => facts.entry == Entry::Contact,
        };
        if is_contact || fate != Fate::Lost {
            self.settle(fate, of);
        }
    }

    /// The request with the last script, as long as nobody knows what became of it.
    fn carrier(&self, of: &Circumstances) -> Option<Carrier> {
        match &self.wait {
            Wait::Sent(_, carrier) => Some(*carrier),
            Wait::Expired(carrier) => {
                carrier.filter(|_| of.mistake != Some(Mistake::ExpiredIsForever))
            }
            _ => None,
        }
    }

    fn settle(&mut self, fate: Fate, of: &Circumstances) {
        let more = u8::from(of.mistake == Some(Mistake::OneSendMore));
        let unblock = self.carrier(of).and_then(|carrier| carrier.unblock);
        self.wait = match (std::mem::replace(&mut self.wait, Wait::Nothing), fate) {
            (Wait::Sent(change, _), Fate::Done) if change.pin_is_old => Wait::Expired(None),
            (_, Fate::Done) => Wait::Nothing,
            (Wait::Sent(mut change, _), fate) => {
                change.was_refused |= fate == Fate::Refused;
                change.is_doubtful |= fate == Fate::InDoubt;
                match change.sends >= of.rules.sends_max + more {
                    true => Wait::GivenUp(change),
                    false => Wait::Pending(change),
                }
            }
            (_, _) => Wait::Expired(None),
        };
        if let Some(since) = unblock.filter(|_| of.mistake != Some(Mistake::UnblockIsLost)) {
            self.unblock(since);
        }
    }

    fn set_pin(&mut self, pin: &str, of: &Circumstances) {
        pin.clone_into(&mut self.pin);
        self.tries = 0;
        if of.rules.offline_pin {
            self.wait = Wait::Pending(Change::of_pin(of.now));
        }
    }

    /// The cardholder sets another PIN, which waits from now on.
    fn online_and_new(
        &mut self,
        pin: &str,
        new: &str,
        of: &Circumstances,
        waits: &mut bool,
    ) -> &'static str {
        let is_weak = new == WEAK && of.mistake != Some(Mistake::WeakPinIsSet);
        match self.online(pin) {
            "0000" if is_weak => "1048",
            "0000" => {
                self.set_pin(new, of);
                *waits = of.rules.offline_pin && of.mistake != Some(Mistake::NewPinComesLater);
                "0000"
            }
            reason => reason,
        }
    }

    fn online(&mut self, pin: &str) -> &'static str {
        if pin == self.pin {
            self.tries = 0;
            return "0000";
        }
        self.tries += 1;
        self.is_suspended = self.tries >= 3;
        if self.is_suspended { "1872" } else { "1809" }
    }

    fn conclude(&mut self, conclusion: &Conclusion, of: &Circumstances) {
        let Some(Carrier { number, at, .. }) = self.carrier(of) else { return };
        if conclusion.number != number {
            return;
        }
        // A cryptogram that is right, or a network that has signed on.
        let is_believed = !of.hsm_is_down || of.is_signed_on;
        let named = conclusion.script.filter(|_| is_believed);
        let has_failed = conclusion.has_failed && !of.hsm_is_down;
        // Its original is known for a day, and longer if it was repeated meanwhile.
        let answered = [Some((number, at)), self.last.as_ref().map(|(n, _, at)| (*n, *at))];
        let is_known = answered
            .into_iter()
            .flatten()
            .any(|(answered, at)| answered == number && of.now < at + DAY);
        let reverses =
            conclusion.is_reversal && is_known && of.mistake != Some(Mistake::ReversalKeepsScript);
        if named.is_some() || has_failed {
            let fate = if named == Some(true) { Fate::Done } else { Fate::Refused };
            return self.settle(fate, of);
        }
        match &mut self.wait {
            Wait::Sent(..) if reverses && of.mistake == Some(Mistake::ReversalIsLost) => {
                self.settle(Fate::Lost, of);
            }
            Wait::Sent(_, carrier) => carrier.is_reversed |= reverses,
            _ => {}
        }
    }
}
