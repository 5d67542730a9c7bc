//! Whether what came of a message may be, and what is counted of it.

use chip_card::terminal::Ending;
use switch::cards::chip_state::AtcWindow;
use switch::cards::{CardState, CardStatus};

use super::kept::is_same;
use super::messages::Sent;
use super::model::{Entry, Event, Host, Offline, Said};
use super::sequence::{Fate, Outcome, Sequence};
use super::wait::Wait;

impl Sequence {
    /// What the switch keeps of the card is what the model has, and no belief is an error.
    pub fn check(&mut self, card: &CardState) -> Outcome {
        let is_like = |host: &Host| {
            let chip = card.chip(0).cloned().unwrap_or_default();
            let AtcWindow { highest, seen, .. } = chip.counters;
            let is_suspended = card.plastics[0].status == CardStatus::Suspended;
            is_same(&host.wait, &chip.sync)
                && host.window() == (highest, seen)
                && host.is_suspended == is_suspended
                && u32::from(host.tries) == card.pin.tries
        };
        if !self.hosts.iter().any(is_like) {
            let pin = (card.pin.tries, card.plastics[0].status);
            let chip = card.chip(0).map(|chip| chip.sync.to_string());
            return Err(self.wrong(&format!("the switch keeps {chip:?} {pin:?}")));
        }
        self.hosts.retain(is_like);
        let is_mistaken = |host: &Host| host.wait == Wait::Nothing && self.is_behind(host);
        match self.hosts.iter().any(is_mistaken) {
            true => Err(self.wrong("the chip does not hold the PIN that the switch believes in")),
            false => Ok(()),
        }
    }

    /// Whether the chip should hold the PIN, and does not.
    pub(super) fn is_behind(&self, host: &Host) -> bool {
        self.has_offline_pin && !self.chip.holds(&host.pin)
    }

    /// An approval that arrives whole leaves chip and switch with one PIN, unless the change was
    /// given up.
    pub(super) fn must_heal(
        &self,
        (sent, said): (&Sent, &Said),
        ending: &Ending,
        fate: Fate,
    ) -> Outcome {
        let is_contact = sent.facts.entry == Entry::Contact;
        let is_whole = said.reason == "0000" && said.tells && is_contact && fate == Fate::Arrives;
        if is_whole && ending.is_authenticated != Some(true) {
            return Err(self.wrong("the chip does not believe the issuer"));
        }
        let carries = |host: &Host| match &host.wait {
            Wait::Nothing => true,
            Wait::Sent(change, _) => !change.pin_is_old,
            Wait::Pending(_) | Wait::GivenUp(_) | Wait::Expired(_) => false,
        };
        let apart = |host: &Host| carries(host) && self.is_behind(host);
        match is_whole && self.hosts.iter().any(apart) {
            true => Err(self.wrong("an approval that carries nothing leaves the chip behind")),
            false => Ok(()),
        }
    }

    /// Nobody passes without the PIN once the chip has it by a script, and has told so; unless its
    /// tries are over, and an unblock was asked for.
    pub(super) fn must_not_pass(&mut self, event: &Event, before: &[Host], said: &Said) -> Outcome {
        let (Event::Authorize(facts), Some(atc)) = (event, self.has_pin) else {
            return Ok(());
        };
        let unblocks = facts.is_exhausted && before.iter().any(|host| host.wait.is_unblock());
        // Where no PIN was wanted, a product may let a chip pass that has no try left.
        let is_blocked = facts.is_exhausted && !(facts.is_none_needed && facts.is_not_asked);
        let has_no_pin = facts.offline == Offline::Wrong || facts.has_failed || is_blocked;
        let lacks_pin = facts.online.is_none() && facts.entry == Entry::Contact && has_no_pin;
        if facts.atc <= atc || !lacks_pin || unblocks {
            return Ok(());
        }
        match &*said.reason {
            "0000" => Err(self.wrong("a PIN was not needed although the chip has the newest one")),
            "1809" | "1872" => {
                self.count("kept out");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Counts what happened.
    pub(super) fn tell(&mut self, event: &Event, before: &Host, said: &Said) {
        let reasons = ["1012", "1029", "1048", "1809", "1872", "9907"];
        if let Some(reason) = reasons.into_iter().find(|reason| *reason == said.reason) {
            self.count(reason);
        }
        let after = self.hosts[0].clone();
        if after.is_suspended && !before.is_suspended {
            self.count("suspended");
        }
        match (&before.wait, &after.wait) {
            (Wait::Sent(..), Wait::Nothing) => self.count("script confirmed"),
            (Wait::Expired(_), Wait::Nothing) => self.count("script confirmed late"),
            (Wait::Sent(_, carrier), Wait::Sent(_, later))
                if later.is_reversed && !carrier.is_reversed =>
            {
                self.count("script reversed");
            }
            (Wait::Sent(..), Wait::GivenUp(_)) => self.count("given up"),
            (Wait::Sent(..), Wait::Pending(_)) => self.count("script lost"),
            (Wait::Sent(_, carrier), Wait::Sent(_, later)) if carrier != later => {
                self.count("script lost");
            }
            _ => {}
        }
        if let (Event::Authorize(facts), "0000") = (event, &*said.reason) {
            self.count("approved");
            if facts.new_pin.is_some() {
                self.count("PIN set at a terminal");
            }
            let has_failed = facts.offline == Offline::Wrong || facts.has_failed;
            let is_read = facts.online.is_none() && facts.entry != Entry::Contactless;
            if is_read && has_failed && !facts.is_exhausted {
                self.count("bypassed");
            }
        }
    }
}
