//! Whether what was seen in a run may be seen. It trusts nothing that the switch or its store
//! says of itself: only answers, in the order in which they were seen.

use std::collections::BTreeMap;

use switch::config::SyncMode;
use switch::event::EventKind;

use super::history::{Answer, Command, End, Heard, History, Life, Request, Sending};
use super::linearizability::{Earlier, Step, is_linearizable};
use super::model::{Call, Entered, Reply};
use super::plan::{CARDS, Ending, Plan, REFUSING_LINKS};
use super::world::token;

/// What is wrong with a run, if anything is.
pub fn judge(plan: &Plan, history: &History) -> Result<(), String> {
    if let Some(wrong) = history.wrongs.first() {
        return Err(wrong.clone());
    }
    let judge = Judge { plan, history };
    judge.each_sending_has_its_answer()?;
    for (number, request) in history.requests.iter().enumerate() {
        let checks = [
            judge.answers_are_whole(request),
            judge.answers_are_equal(request),
            judge.conflicts_have_a_cause(number, request),
            judge.no_answer_without_hsm_and_store(request),
            judge.what_is_reversed_is_refused(number, request),
            judge.what_nobody_knows_is_refused(request),
            judge.answers_come_in_time(request),
        ];
        for check in checks {
            check.map_err(|why| format!("request {number}: {why}"))?;
        }
    }
    (0..CARDS.len()).try_for_each(|card| judge.suspensions_are_told(card))?;
    (0..CARDS.len()).try_for_each(|card| judge.card_is_linearizable(card))
}

struct Judge<'a> {
    plan: &'a Plan,
    history: &'a History,
}

impl Judge<'_> {
    /// As often as somebody was answered that a card is suspended for wrong PINs, after it was
    /// activated in between, a reader was told.
    fn suspensions_are_told(&self, card: usize) -> Result<(), String> {
        let told = format!("{} of {}", EventKind::StateSuspended, token(card));
        let count = self.history.told.values().filter(|what| **what == told).count();
        let (mut suspended, mut after) = (0, Some(0));
        while let Some(answered) = after.and_then(|after| self.first_suspended(card, after)) {
            suspended += 1;
            after = self.first_activated(card, answered);
        }
        if count < suspended {
            return Err(format!("card {card} was suspended {suspended} times, and {count} told"));
        }
        Ok(())
    }

    /// When a request that was sent after this moment was first answered that the card is
    /// suspended.
    fn first_suspended(&self, card: usize, after: u64) -> Option<u64> {
        let of_card = |request: &&Request| {
            let began = request.sendings.iter().map(|sending| sending.order).min();
            request.plan.card == card && began.is_some_and(|began| began > after)
        };
        let answers = self.history.requests.iter().filter(of_card).flat_map(|it| &it.sendings);
        let answers = answers.filter_map(|sending| sending.answer.as_ref());
        answers.filter(|answer| &answer.code == b"75").map(|answer| answer.order).min()
    }

    /// When a card was active by a command that began after this moment.
    fn first_activated(&self, card: usize, after: u64) -> Option<u64> {
        let commands = self.history.commands.iter().filter(|command| {
            command.card == card && command.call == Call::Activate && command.begin > after
        });
        let done = commands.filter_map(|command| match command.heard {
            Some((order, Heard::Reply(_))) => Some(order),
            _ => None,
        });
        done.min()
    }

    /// As many answers as sendings on a connection that nothing ended before its time, but those
    /// that would have been too late; more than one was found out when it came.
    fn each_sending_has_its_answer(&self) -> Result<(), String> {
        // An HSM that gives no answer is not waited for too long.
        let Plan { store, hsm, .. } = self.plan;
        let takes_time = !self.links_are_fast()
            || store.sync_millis_max > 2
            || store.pause_percent > 0
            || hsm.millis_max > 0;
        for (number, connection) in self.history.connections.iter().enumerate() {
            let Some(end) = connection.whole else { continue };
            // An answer goes to the first sending of its request, so they are counted.
            let mut missing = BTreeMap::<usize, i64>::new();
            for (request, sending) in &connection.sent {
                let Sending { answer, millis, .. } =
                    &self.history.requests[*request].sendings[*sending];
                let may_be_late = takes_time && end - millis > self.plan.links.answer_millis_max;
                *missing.entry(*request).or_default() +=
                    i64::from(answer.is_none()) - i64::from(may_be_late);
            }
            if let Some((request, _)) = missing.into_iter().find(|(_, count)| *count > 0) {
                return Err(format!("request {request} was not answered on {number}"));
            }
        }
        Ok(())
    }

    /// DE38 on approvals only, and DE44 as it belongs to DE39.
    fn answers_are_whole(&self, request: &Request) -> Result<(), String> {
        for answer in request.sendings.iter().filter_map(|sending| sending.answer.as_ref()) {
            let reason = match &answer.code {
                b"00" => "",
                b"14" => "1011",
                b"25" if is_reversal(request) => "9914",
                b"55" => "1809",
                b"59" => "1029",
                b"70" => "1012",
                b"75" => "1872",
                b"78" => "1025",
                b"81" => "1026",
                b"91" => "9907",
                b"94" => "9913",
                _ => return Err(format!("a code that no rule gives: {answer:?}")),
            };
            let digits = answer.approval.bytes().filter(u8::is_ascii_digit).count();
            let approved = if &answer.code == b"00" && is_decision(request) { 6 } else { 0 };
            if answer.reason != reason || digits != approved || answer.approval.len() != digits {
                return Err(format!("an answer that does not fit together: {answer:?}"));
            }
        }
        Ok(())
    }

    /// The times between power failures: only they can take an answered record, and only where
    /// not every reply waits for a sync.
    fn era(&self, life: usize) -> usize {
        let lost = |ending: Ending| ending != Ending::Killed;
        let lives = self.history.lives.iter().take(life);
        match self.plan.store.sync {
            SyncMode::All => 0,
            SyncMode::State => {
                lives.filter(|life| life.end.is_some_and(|end| lost(end.ending))).count()
            }
        }
    }

    /// A request has one answer, however often it was sent.
    fn answers_are_equal(&self, request: &Request) -> Result<(), String> {
        let mut first: Option<(usize, bool, &Answer)> = None;
        let kept = decided(request).into_iter().filter(|(_, answer)| is_kept(answer));
        for (sending, answer) in kept {
            let era = self.era(sending.life);
            match first {
                Some((known, other_body, before)) if known == era => {
                    let of = |answer: &Answer| {
                        (answer.code, answer.reason.clone(), answer.approval.clone())
                    };
                    if of(answer) != of(before) {
                        return Err(format!("answered {before:?} and {answer:?}"));
                    }
                    if sending.other_body != other_body {
                        return Err(format!("both bodies were answered: {before:?}, {answer:?}"));
                    }
                }
                _ => first = Some((era, sending.other_body, answer)),
            }
        }
        Ok(())
    }

    /// 94 only where the other body had been sent, or a reversal.
    fn conflicts_have_a_cause(&self, number: usize, request: &Request) -> Result<(), String> {
        for sending in &request.sendings {
            let Some(answer) = sending.answer.as_ref().filter(|it| &it.code == b"94") else {
                continue;
            };
            let is_cause = |other: &Sending| {
                other.other_body != sending.other_body && other.order < answer.order
            };
            let mut reversals = self.reversals(number).flat_map(|reversal| &reversal.sendings);
            // An advice is acknowledged, reversed or not.
            let is_reversed =
                is_decision(request) && reversals.any(|reversal| reversal.order < answer.order);
            if !is_reversed && !request.sendings.iter().any(is_cause) {
                return Err("94 without another body or a reversal".to_owned());
            }
        }
        Ok(())
    }

    fn reversals(&self, number: usize) -> impl Iterator<Item = &Request> {
        let takes_back = move |request: &&Request| match request.plan.call {
            Call::Reversal { of, .. } => of == number,
            _ => false,
        };
        self.history.requests.iter().filter(takes_back)
    }

    /// What is sent after a reversal was answered is not decided. And what a reversal did not
    /// know was not decided before it, unless a power failure took that.
    fn what_is_reversed_is_refused(&self, number: usize, request: &Request) -> Result<(), String> {
        if !is_decision(request) {
            return Ok(());
        }
        let answered = |reversal: &Request| {
            let answers = reversal
                .sendings
                .iter()
                .filter_map(|sending| Some((self.era(sending.life), sending.answer.clone()?)));
            answers.filter(|(_, answer)| matches!(&answer.code, b"00" | b"25")).collect::<Vec<_>>()
        };
        for (era, reversal) in self.reversals(number).flat_map(answered) {
            for (sending, answer) in decided(request) {
                if sending.order > reversal.order {
                    return Err(format!("{answer:?} after it was reversed: {reversal:?}"));
                }
                let is_same_era = self.era(sending.life) == era;
                if &reversal.code == b"25" && is_same_era && is_kept(answer) {
                    return Err(format!("{answer:?} although its reversal was {reversal:?}"));
                }
            }
        }
        Ok(())
    }

    /// A reversal that comes before its original, and before any other reversal of it, is refused
    /// on a link that refuses what nobody knows.
    fn what_nobody_knows_is_refused(&self, request: &Request) -> Result<(), String> {
        let Call::Reversal { of, .. } = request.plan.call else { return Ok(()) };
        let Some((_, answer)) = decided(request).into_iter().min_by_key(|(_, it)| it.order) else {
            return Ok(());
        };
        let before = |request: &Request| {
            let sent = request.sendings.iter().filter(|sending| sending.order < answer.order);
            sent.map(|sending| sending.link).collect::<Vec<_>>()
        };
        let refuses = |link| REFUSING_LINKS.contains(link);
        let sent_before = self.reversals(of).map(before).filter(|sent| !sent.is_empty()).count();
        let is_first = before(&self.history.requests[of]).is_empty() && sent_before == 1;
        if is_first && before(request).iter().all(refuses) && &answer.code != b"25" {
            return Err(format!("{answer:?} for a reversal of what nobody knows"));
        }
        Ok(())
    }

    /// No answer leaves too late, and one that says 91 for want of time leaves before that; where
    /// the store has failed it may leave until then. Where the link itself takes time nobody can
    /// tell, nor which of two sendings an answer is for.
    fn answers_come_in_time(&self, request: &Request) -> Result<(), String> {
        if let [sending @ Sending { answer: Some(answer), .. }] = &*request.sendings
            && self.links_are_fast()
        {
            let limit = self.plan.links.answer_millis_max;
            let took = answer.millis - sending.millis;
            let failed = self.history.lives[sending.life].failed;
            let is_for_time = failed.is_none_or(|failed| failed.order > answer.order);
            if took > limit || &answer.code == b"91" && took == limit && is_for_time {
                return Err(format!("{answer:?} after {took} ms"));
            }
        }
        Ok(())
    }

    fn links_are_fast(&self) -> bool {
        let links = &self.plan.links;
        links.slow_reader_percent == 0
            && links.pieces_percent == 0
            && links.room > 1_000
            && links.in_flight_max > 1_000
    }

    /// Whether so many others may have been waited for that this one was refused, or whether it
    /// took so long that the HSM was not waited for.
    fn is_overload(&self, sending: &Sending, answer: &Answer, is_new: bool) -> bool {
        let plan = &self.plan.links;
        let waits = |other: &&Sending| {
            let is_open = |theirs: &Answer| theirs.order > sending.order;
            other.life == sending.life
                && other.order < answer.order
                && other.answer.as_ref().is_none_or(is_open)
        };
        let all = self.history.requests.iter().flat_map(|request| &request.sendings);
        // Repeats, reversals and advices are taken up to twice as many.
        let limit = plan.in_flight_all_max * if is_new { 1 } else { 2 };
        // It counts itself where it has waited for the store before. The HSM has nine tenths of
        // the time.
        all.filter(waits).count() >= limit
            || answer.millis - sending.millis >= plan.answer_millis_max * 9 / 10
    }

    /// 91 has its cause, and what needs HSM or store is not answered without them.
    fn no_answer_without_hsm_and_store(&self, request: &Request) -> Result<(), String> {
        let first_sent = request.sendings.first().map_or(0, |sending| sending.millis);
        let brings_pin = match request.plan.call {
            Call::Authorization { entered, .. } => entered != Entered::Nothing,
            _ => false,
        };
        // Of a request that was answered before in this life.
        let is_repeat = |sending: &Sending| {
            let is_earlier = |(other, answer): &(&Sending, &Answer)| {
                other.life == sending.life && answer.order < sending.order
            };
            decided(request).iter().any(is_earlier)
        };
        for sending in &request.sendings {
            let Some(answer) = &sending.answer else { continue };
            let failed = self.history.lives[sending.life].failed;
            if failed.is_some_and(|failed| failed.order < sending.order) && &answer.code != b"91" {
                return Err(format!("{answer:?} although the store had failed"));
            }
            let during = |order: &u64| (sending.order..answer.order).contains(order);
            // Reversals and advices do not ask the HSM.
            let asks = is_decision(request);
            let is_caused = asks && self.history.hsm_unavailable.iter().any(during)
                || failed.is_some_and(|failed| failed.order < answer.order)
                || self.is_overload(sending, answer, asks && !is_repeat(sending));
            if &answer.code == b"91" && !is_caused {
                return Err(format!("{answer:?} although HSM and store worked"));
            }
            let down = &self.plan.hsm.down;
            let had_no_hsm = down.contains(&first_sent) && down.contains(&answer.millis);
            let needs_hsm = &answer.code == b"59"
                || brings_pin && matches!(&answer.code, b"00" | b"55" | b"81");
            if had_no_hsm && needs_hsm {
                return Err(format!("{answer:?} although the HSM was down"));
            }
        }
        Ok(())
    }

    /// All that was seen of a card has an order by which the rules give these answers.
    fn card_is_linearizable(&self, card: usize) -> Result<(), String> {
        let mut steps = Vec::new();
        let own = |request: &&Request| {
            request.plan.card == card && matches!(request.plan.call, Call::Authorization { .. })
        };
        for request in self.history.requests.iter().filter(own) {
            self.steps_of(request, &mut steps);
        }
        let own = self.history.commands.iter().filter(|command| command.card == card);
        steps.extend(own.filter_map(|command| self.step_of(command)));
        if is_linearizable(self.plan.cards[card], CARDS[card].1, &steps) {
            return Ok(());
        }
        steps.sort_by_key(|step| step.begin);
        let steps: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
        let card = format!("card {card}, {:?}, limit {:?}", self.plan.cards[card], CARDS[card].1);
        Err(format!("no one-by-one order gives these answers: {card}\n{}", steps.join("\n")))
    }

    fn step_of(&self, command: &Command) -> Option<Step> {
        let reply = match command.heard {
            Some((_, Heard::Reply(reply))) => Some(reply),
            None => None,
            Some((_, Heard::Refused)) => return None,
        };
        let heard = command.heard.map_or(u64::MAX, |(order, _)| order);
        let end = heard.min(self.end_of(command.life));
        Some(Step { call: command.call, reply, begin: command.begin, end, repeats: None })
    }

    /// The number of the event by which a life ended.
    fn end_of(&self, life: usize) -> u64 {
        self.history.lives[life].end.map_or(u64::MAX, |end| end.order)
    }

    /// A request is one operation, unless a power failure may have taken its record: then there
    /// is one for each time between power failures in which it was answered.
    fn steps_of(&self, request: &Request, steps: &mut Vec<Step>) {
        let call = request.plan.call;
        // What was sent to a switch that had ended already reached nobody.
        let reached = |sending: &&Sending| sending.order < self.end_of(sending.life);
        let sent: Vec<&Sending> = request.sendings.iter().filter(reached).collect();
        let (Some(first), Some(last)) = (sent.first(), sent.last()) else { return };
        let mut known: Option<(usize, usize, &Answer)> = None;
        let mut unkept = None;
        for (sending, answer) in decided(request) {
            let era = self.era(sending.life);
            if !is_kept(answer) {
                // A decision of its own, and nothing that a repeat is bound to. One of each time is
                // looked at: there is room for some dozens of steps.
                if unkept.replace(era) != Some(era) {
                    let end = answer.order.min(self.end_of(sending.life));
                    let reply = Some(Reply::Code(answer.code));
                    steps.push(Step { call, reply, begin: sending.order, end, repeats: None });
                }
                continue;
            }
            if known.is_some_and(|(_, known, _)| known == era) {
                continue;
            }
            let of_era = |other: &&&Sending| self.era(other.life) == era;
            let begin = match known {
                None => first.order,
                Some(_) => sent.iter().find(of_era).map_or(sending.order, |it| it.order),
            };
            let end = answer.order.min(self.end_of(sending.life));
            let repeats = known.map(|(step, era, before)| self.earlier(step, era, before));
            let reply = Some(Reply::Code(answer.code));
            steps.push(Step { call, reply, begin, end, repeats });
            known = Some((steps.len() - 1, era, answer));
        }
        match known {
            None if self.has_no_effect(&sent) => {}
            None => {
                let end = self.end_of(last.life);
                steps.push(Step { call, reply: None, begin: first.order, end, repeats: None });
            }
            // It may have been decided anew, and nobody heard of it.
            Some((step, era, before)) if self.era(last.life) > era => {
                let earlier = self.earlier(step, era, before);
                let later = |it: &&&Sending| self.era(it.life) > era;
                let begin = sent.iter().find(later).unwrap_or(last).order;
                let end = self.end_of(last.life);
                steps.push(Step { call, reply: None, begin, end, repeats: Some(earlier) });
            }
            Some(_) => {}
        }
    }

    /// Whether the power failed soon enough after an answer for its record to be missing.
    fn earlier(&self, step: usize, era: usize, answer: &Answer) -> Earlier {
        let lost = |life: &&Life| life.end.is_some_and(|end| end.ending != Ending::Killed);
        let life = self.history.lives.iter().filter(lost).nth(era);
        // Nothing was synced any more from there on.
        let last_sync = life.and_then(|life| life.failed.or(life.end));
        let passed = |end: End| end.millis.saturating_sub(answer.millis);
        let may_be_lost =
            last_sync.is_some_and(|end| passed(end) <= self.plan.unsynced_millis_max());
        Earlier { step, may_be_lost }
    }

    /// Each sending was refused with 94, or answered with 91 because of the HSM, which counts
    /// nothing.
    fn has_no_effect(&self, sent: &[&Sending]) -> bool {
        sent.iter().all(|sending| {
            let failed = self.history.lives[sending.life].failed;
            let is_none = |answer: &Answer| match &answer.code {
                b"91" => failed.is_none_or(|failed| failed.order > answer.order),
                code => code == b"94",
            };
            sending.answer.as_ref().is_some_and(is_none)
        })
    }
}

const fn is_decision(request: &Request) -> bool {
    matches!(request.plan.call, Call::Authorization { .. })
}

const fn is_reversal(request: &Request) -> bool {
    matches!(request.plan.call, Call::Reversal { .. })
}

/// What rests on no card is not kept: it is decided anew each time, and no reversal knows it.
fn is_kept(answer: &Answer) -> bool {
    &answer.code != b"14"
}

/// The answers of a request that decided something, in the order in which they came.
fn decided<'a>(request: &'a Request) -> Vec<(&'a Sending, &'a Answer)> {
    let answered = |sending: &'a Sending| {
        let Sending { answer, .. } = sending;
        answer.as_ref().filter(|answer| answer.decides()).map(|answer| (sending, answer))
    };
    let mut decided: Vec<(&Sending, &Answer)> =
        request.sendings.iter().filter_map(answered).collect();
    decided.sort_by_key(|(sending, answer)| (sending.life, answer.order));
    decided
}
