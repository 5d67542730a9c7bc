//! The script of one request: the only place where the order of steps lives.
//!
//! ```text
//! frame -> decode -> request -> route -> duplicate? -> load card -> required_checks
//!       -> hsm.verify (the cryptogram first; the PIN only if it is accepted) -> decide
//!       -> hsm.issuer_authenticate -> commit -> response -> encode -> frame
//! ```
//!
//! An advice leaves out the checks, and a reversal looks for its original instead; of both, what
//! they tell of a chip is read.

mod chip;
mod original;

pub(crate) use chip::chip_call;
use original::Refused;

use std::time::Duration;

use iso_specs::{Decoded, ElementSet, FramingError, Message, Mti, decode};

use crate::authorization::network_management::NetworkManagement;
use crate::authorization::response::ChipAnswer;
use crate::authorization::trail::Finding;
use crate::authorization::{
    Answer, Circumstances, CryptogramCheck, Decision, FormatError, Outcomes, Reason, Request,
    RequiredChecks, Route, accepts_cryptogram, decide, required_checks, response, reversal, route,
    trusted,
};
use crate::cards::{Card, CardKey, CardState, MaskedPan, Pan};
use crate::clock::{Clock, Timestamp, within};
use crate::config::LinkConfig;
use crate::event::{Actor, EventKind};
use crate::frame::{self, Frame};
use crate::hsm::{Hsm, PinReference, Verification, VerifyPin};
use crate::session::Session;
use crate::store::record::{Event, RecordId, RequestIdentity, TransactionRecord};
use crate::store::{
    Asked, COMMIT_ATTEMPTS_MAX, Claimed, Commit, CommitError, DuplicateKey, Named, Reversal, Store,
    StoreError,
};
use crate::switch::{Accounted, Seams, Switch};

/// Room for a usual reply, in bytes.
const REPLY_BYTES: usize = 256;

/// Part of the time for an answer that the HSM does not get.
const ANSWER_PART: u32 = 10;

/// A reply on its way out.
pub struct Reply {
    /// As it goes over the wire.
    pub frame: Vec<u8>,
    /// Whether the store has something that this reply speaks of, which must be written first.
    pub rests_on_store: bool,
}

/// What became of one message.
pub struct Responded {
    /// Its message type.
    pub mti: Mti,
    /// What it was answered; `None` where no answer is sent.
    pub reason: Option<Reason>,
    /// The answer.
    pub reply: Option<Reply>,
}

/// What is answered to one message.
struct Outcome {
    answer: Answer,
    fault: Option<FormatError>,
    /// DE55.
    chip: Option<Vec<u8>>,
    /// Whether it was answered before.
    repeat: bool,
    /// Of a reversal, whether its original is known.
    original: Option<bool>,
    rests_on_store: bool,
}

impl Outcome {
    /// Without the store.
    fn of(reason: Reason) -> Outcome {
        Outcome { rests_on_store: false, ..Outcome::kept(Answer::new(reason), None, false) }
    }

    fn malformed(fault: FormatError) -> Outcome {
        Outcome { fault: Some(fault), ..Outcome::of(Reason::FormatError) }
    }

    /// From the store, or decided now and committed.
    const fn kept(answer: Answer, chip: Option<Vec<u8>>, repeat: bool) -> Outcome {
        Outcome { answer, fault: None, chip, repeat, original: None, rests_on_store: true }
    }
}

impl<W: Seams> Switch<W> {
    /// One frame in, one frame out, or none where nothing is to be answered, or too late. It was
    /// read when the monotonic clock said `arrived`.
    ///
    /// # Errors
    /// If MTI or bitmap cannot be read: the link cannot go on.
    pub async fn respond(
        &self,
        session: &Session,
        frame: Frame,
        arrived: Duration,
    ) -> Result<Responded, FramingError> {
        let decoded = decode(&session.link.dialect, &frame.message)?;
        let message = &decoded.message;
        let mti = message.mti();
        let unanswered = Responded { mti, reason: None, reply: None };
        let outcome = match route(mti) {
            Route::Unanswered => return Ok(unanswered),
            Route::NotSupported => Outcome::of(Reason::FunctionNotSupported),
            Route::NetworkManagement => network_management(session, &decoded),
            _ if session.must_sign_on() => Outcome::of(Reason::Unavailable),
            _ if self.is_flooded(session) => {
                session.metrics.overloaded();
                Outcome::of(Reason::Unavailable)
            }
            route => self.transact(session, route, (&decoded, arrived)).await,
        };
        let trusted = trusted(&decoded, &frame.message);
        // The dialect was checked at start, so there is a reply.
        let reply = encode(session, &frame.header, (message, trusted), &outcome);
        let Some(frame) = reply else { return Ok(unanswered) };
        let Outcome { answer: Answer { reason, .. }, fault, repeat, original, .. } = outcome;
        let rests_on_store = outcome.rests_on_store;
        let took = self.clock.monotonic().saturating_sub(arrived);
        let late = took > self.limits.answer_milliseconds_max;
        let decided = rests_on_store && reason.is_kept();
        let how = Accounted { reason, repeat, fault, original, trusted, took, late, decided };
        self.account(session, &decoded, how);
        // The network has given the request up by now, and may have taken it back.
        if late {
            return Ok(unanswered);
        }
        let reply = Some(Reply { frame, rests_on_store });
        Ok(Responded { mti, reason: Some(reason), reply })
    }

    async fn transact(
        &self,
        session: &Session,
        route: Route,
        (decoded, arrived): (&Decoded<'_>, Duration),
    ) -> Outcome {
        let mut request = match Request::parse(decoded) {
            Ok(request) => request,
            Err(fault) => return Outcome::malformed(fault),
        };
        // What was decided elsewhere is acknowledged, whatever it was.
        let code = request.processing_code;
        let is_served = code.is_supported()
            || code.is_balance_inquiry() && session.link.approves_balance_inquiry;
        if route == Route::Authorization && !is_served {
            return Outcome::of(Reason::FunctionNotSupported);
        }
        // Repeats have key and body as they came, whatever is found out about the rest.
        let network = &session.link.network;
        let card = request.pan.as_ref().map_or(CardKey::NONE, |pan| self.vault.card_key(pan));
        let key = self.duplicates.key(network, &card, &request);
        let body = self.duplicates.body(&request);
        let answered = match self.complete(session, route, (&mut request, card)).await {
            Ok(found) => {
                let (original, card) = found.map_or((None, card), |(of, card)| (Some(of), card));
                let place = RequestIdentity { network, card, key, body };
                let (searched, known) = (RecordId::NONE, Known::default());
                let request = &request;
                self.answer(Attempt {
                    session,
                    route,
                    request,
                    arrived,
                    place,
                    original,
                    searched,
                    known,
                })
                .await
            }
            Err(refused) => Err(refused),
        };
        answered.unwrap_or_else(|refused| match refused {
            Refused::Original => Outcome::malformed(FormatError { element: 90 }),
            // The store says itself why it failed, once; here it is one more 9907.
            Refused::Failed(StoreError::Unavailable(_) | StoreError::Failed(_)) => {
                Outcome::of(Reason::Unavailable)
            }
        })
    }

    async fn answer(&self, attempt: Attempt<'_>) -> Result<Outcome, Refused> {
        let Attempt { session, route, request, arrived, place, .. } = attempt;
        let RequestIdentity { network, card, key, body } = place;
        let parts = || self.duplicates.parts(network, &card, request);
        let asked = Asked { key, body, rrn: request.rrn, parts };
        let claim = match self.store.claim(network, asked).await? {
            Claimed::Repeat(answer) => {
                let of = (session, request, arrived);
                let chip = match answer.chip {
                    ChipAnswer::Nothing => None,
                    _ => self.answer_again(of, &card, answer).await?,
                };
                return Ok(Outcome::kept(answer, chip, true));
            }
            Claimed::Conflict => {
                let answer = Answer::new(Reason::DuplicateConflict);
                return Ok(Outcome::kept(answer, None, false));
            }
            // A repeat learns its answer, and a reversal is taken, however many wait.
            Claimed::First(_) if route == Route::Authorization && self.is_overloaded(session) => {
                session.metrics.overloaded();
                return Ok(Outcome::of(Reason::Unavailable));
            }
            Claimed::First(_)
                if route == Route::Authorization && self.is_too_old(session, request) =>
            {
                return Ok(Outcome::of(Reason::DuplicateConflict));
            }
            Claimed::First(claim) => claim,
        };
        self.carry_out(attempt, claim).await
    }

    /// Decides and commits, again where the card has changed meanwhile.
    async fn carry_out(
        &self,
        mut attempt: Attempt<'_>,
        claim: <W::Store as Store>::Claim,
    ) -> Result<Outcome, Refused> {
        let Attempt { session, route, request, place, .. } = attempt;
        let mut claim = Some(claim);
        for _ in 0..COMMIT_ATTEMPTS_MAX {
            let now = self.clock.now();
            let reverses = self.original(&attempt).await?;
            let card = self.load(request, &place.card).await?;
            let (decision, chip) = self.outcome(&mut attempt, reverses, card.as_ref(), now).await;
            let answer = answer_of(&decision, route, place.key);
            let state = card.as_ref().map(|card| &*card.state);
            let suspends = state.is_some_and(|state| decision.suspends(state));
            let is_bypass = decision.is_bypass();
            let trail = decision.trail.clone();
            let change = state.and_then(|state| decision.after(state));
            let suspended = card.as_ref().zip(change.as_ref()).filter(|_| suspends);
            let events = suspended.map(|(card, after)| suspension(&attempt, card, after, now));
            let commit = Commit {
                card: card.as_ref(),
                change,
                transaction: Some(TransactionRecord::new(
                    request,
                    place,
                    answer,
                    (attempt.known.outcomes(), decision.trail),
                    now,
                )),
                events: events.into_iter().collect(),
                documents: Vec::new(),
                reverses,
            };
            match self.store.commit(commit, &mut claim).await {
                Err(CommitError::Changed(_)) => {
                    if let Some(Reversal::InPart(in_part)) = reverses {
                        attempt.searched = RecordId(in_part.searched);
                    }
                    continue;
                }
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(CommitError::Limit(_)) => {
                    debug_assert!(false, "without documents a record has room");
                    return Ok(Outcome::of(Reason::SystemMalfunction));
                }
                Ok(id) => {
                    let audits = [
                        ("offline PIN bypassed", is_bypass),
                        ("suspended for PIN tries", suspends),
                    ];
                    audit(session, card.as_ref(), audits, id);
                }
            }
            self.metrics.suspended(suspends);
            self.metrics.decided(is_bypass, &trail);
            let original = reverses.map(|reversal| reversal.is_known());
            original.iter().for_each(|is_known| self.metrics.reversed(*is_known));
            return Ok(Outcome { original, ..Outcome::kept(answer, chip, false) });
        }
        Ok(Outcome::of(Reason::SystemMalfunction))
    }

    /// Whether an answer to it, or its reversal, would not be known any more.
    fn is_too_old(&self, session: &Session, request: &Request) -> bool {
        if !session.link.refuse_older_than_window {
            return false;
        }
        let now = self.clock.now();
        let sent = Timestamp::of_month_and_day(&request.transmission_time, now);
        let window = self.store.duplicate_window(&session.link.network);
        sent.is_none_or(|sent| now.since(sent) > window)
    }

    /// The decision, and what the chip is told of it.
    async fn outcome(
        &self,
        attempt: &mut Attempt<'_>,
        reverses: Option<Reversal>,
        card: Option<&Card>,
        now: Timestamp,
    ) -> (Decision, Option<Vec<u8>>) {
        let acknowledged = match (attempt.route, reverses) {
            (_, Some(reversal)) => {
                let unknown = attempt.session.link.unknown_original;
                Some(reversal::acknowledge(reversal.is_known(), unknown))
            }
            (Route::Advice, None) => Some(Reason::Approved),
            _ => None,
        };
        let (decision, chip) = match (acknowledged, card) {
            (Some(reason), Some(card)) => {
                let known = reverses.filter(Reversal::is_known);
                let reversed = known.map(|reversal| reversal.original().digest);
                (self.conclude(attempt, card, reason, reversed).await, None)
            }
            (None, Some(card)) => {
                let decision = self.decide(attempt, card, now).await;
                self.issuer_authenticate(attempt, card, decision).await
            }
            (acknowledged, None) => {
                (Decision::unchanged(acknowledged.unwrap_or(Reason::NoSuchCard)), None)
            }
        };
        let is_unknown = reverses.is_some_and(|reversal| !reversal.is_known());
        let finding = is_unknown.then_some(Finding::OriginalUnknown);
        (decision.with(finding), chip)
    }

    /// The card of a request; a PAN that no product of this issuer has is not even looked up.
    async fn load(&self, request: &Request, key: &CardKey) -> Result<Option<Card>, StoreError> {
        let Some(pan) = &request.pan else { return Ok(None) };
        let is_ours = self.products.iter().any(|product| product.has_bin_of(pan));
        if is_ours { self.store.load(key).await } else { Ok(None) }
    }

    async fn decide(&self, attempt: &mut Attempt<'_>, card: &Card, now: Timestamp) -> Decision {
        let (request, state, product) = (attempt.request, &card.state, &card.entry.product);
        let bad_pin_blocks = attempt.session.bad_pin_blocks.count(&card.entry, now);
        let circumstances = Circumstances {
            now,
            bad_pin_blocks_exhausted: bad_pin_blocks >= self.limits.bad_pin_blocks_per_minute,
            transaction: attempt.place.key.digest,
        };
        attempt.known = match required_checks(request, state, product, circumstances) {
            RequiredChecks::None(decision) => {
                attempt.known = Known::default();
                return *decision;
            }
            RequiredChecks::Verify { pin, cryptogram } => {
                self.verify(attempt, card, (pin, cryptogram), now).await
            }
        };
        decide(request, state, product, attempt.known.outcomes(), circumstances)
    }

    /// What the HSM says, now or in an earlier round. It is asked about the PIN only where no
    /// cryptogram is needed, or the one that came is accepted: who has no card could otherwise try
    /// PINs that no counter counts, or learn from the time of an answer whether a PIN block is one.
    async fn verify(
        &self,
        attempt: &Attempt<'_>,
        card: &Card,
        (pin, cryptogram): (Option<PinReference>, Option<CryptogramCheck>),
        now: Timestamp,
    ) -> Known {
        let Attempt { session, request, arrived, known, .. } = attempt;
        let mut time = HsmTime::of(*arrived);
        let known_cryptogram = known.cryptogram.filter(|(known, _)| Some(*known) == cryptogram);
        let cryptogram = match (cryptogram, known_cryptogram) {
            (Some(check), None) => {
                Some((check, self.verify_arqc((request, &mut time), card, &check).await))
            }
            (_, known) => known,
        };
        let accepts = |of: &_| accepts_cryptogram(request, &card.state, of, now);
        let Some(reference) = pin.filter(|_| cryptogram.as_ref().is_none_or(accepts)) else {
            return Known { pin: None, cryptogram };
        };
        let pin_version = card.state.pin.version;
        let is_same = |of: &VerifiedPin| of.reference == reference && of.pin_version == pin_version;
        if let Some(pin) = known.pin.filter(is_same) {
            return Known { pin: Some(pin), cryptogram };
        }
        let verification = self.verify_pin(attempt, card, &reference, &mut time).await;
        self.count_verification(session, card, verification, now);
        Known { pin: Some(VerifiedPin { pin_version, reference, verification }), cryptogram }
    }

    async fn verify_pin(
        &self,
        attempt: &Attempt<'_>,
        card: &Card,
        reference: &PinReference,
        time: &mut HsmTime,
    ) -> Verification {
        let Attempt { session, request: Request { pan, pin_block, .. }, .. } = attempt;
        let (Some(pan), Some(block)) = (pan, pin_block) else { return Verification::BadPinBlock };
        let LinkConfig { zpk, pin_block_formats: formats, .. } = &*session.link;
        let methods = &card.entry.product.pin_methods;
        let call = VerifyPin { block, zpk, formats: *formats, pan, reference, methods };
        let answered = self.in_time(time, self.hsm.verify_pin(call)).await;
        answered.unwrap_or(Verification::Unavailable)
    }

    /// What the HSM gives in time. A part of the time is kept for the answer that says 91, so that
    /// it leaves.
    async fn in_time<T>(&self, time: &mut HsmTime, call: impl Future<Output = T>) -> Option<T> {
        let now = self.clock.monotonic();
        let until = *time.until.get_or_insert_with(|| {
            let answer_in = self.limits.answer_milliseconds_max;
            let leaves = time.arrived.saturating_add(answer_in - answer_in / ANSWER_PART);
            leaves.min(now.saturating_add(self.limits.hsm_milliseconds_max))
        });
        let left = until.saturating_sub(now);
        if left.is_zero() { None } else { within(left, call).await }
    }
}

/// The time that the HSM has for what it is asked one after the other.
struct HsmTime {
    /// When the request was read, on the monotonic clock.
    arrived: Duration,
    /// The end of it, on the same clock, from the first call on.
    until: Option<Duration>,
}

impl HsmTime {
    const fn of(arrived: Duration) -> HsmTime {
        HsmTime { arrived, until: None }
    }
}

/// A request being answered, and what the HSM said of it in an earlier round.
struct Attempt<'a> {
    session: &'a Session,
    route: Route,
    request: &'a Request,
    /// When the request was read, on the monotonic clock.
    arrived: Duration,
    place: RequestIdentity<'a>,
    /// Of a reversal that left something to it, the original that was found.
    original: Option<Named>,
    /// Up to this record nothing is the original.
    searched: RecordId,
    known: Known,
}

/// What the HSM said: of use only while PIN, key and the rest are the same.
#[derive(Clone, Copy, Default)]
struct Known {
    pin: Option<VerifiedPin>,
    cryptogram: Option<(CryptogramCheck, Verification)>,
}

#[derive(Clone, Copy)]
struct VerifiedPin {
    pin_version: u32,
    reference: PinReference,
    verification: Verification,
}

impl Known {
    fn outcomes(&self) -> Outcomes {
        Outcomes { pin: self.pin.map(|known| known.verification), cryptogram: self.cryptogram }
    }
}

/// What others are told of a card that a transaction suspends.
fn suspension(of: &Attempt<'_>, card: &Card, after: &CardState, now: Timestamp) -> Event {
    let who = (now, Actor::network(&of.session.link.network));
    let pan = of.request.pan.as_ref().map_or(MaskedPan::NONE, Pan::masked);
    let card_of = (&card.entry.identity, pan);
    Event::of_card(EventKind::StateSuspended, who, card_of, Some(&card.state), Some(after))
}

/// A line for each of these that a transaction did to a card.
fn audit(session: &Session, card: Option<&Card>, done: [(&str, bool); 2], id: RecordId) {
    let Some(card) = card else { return };
    let (link, token) = (&*session.link.name, &*card.entry.identity.token);
    for (action, _) in done.into_iter().filter(|(_, is_done)| *is_done) {
        tracing::info!(target: "audit", action, link, token, transaction = %id);
    }
}

/// The answer of a decision. DE38 of an approval is six digits of the request's keyed digest:
/// a request always has the same one. What is acknowledged has none.
fn answer_of(decision: &Decision, route: Route, key: DuplicateKey) -> Answer {
    let number = key.digest ^ u128::from(key.rrn) ^ u128::from(key.kind.to_byte()) << 32;
    let approved = decision.reason == Reason::Approved && route == Route::Authorization;
    let approval_code = approved.then(|| six_digits(number));
    let chip = match &decision.chip {
        Some(chip) => {
            chip.script().map_or(ChipAnswer::Authentication, |(id, _)| ChipAnswer::Script(id))
        }
        None => ChipAnswer::Nothing,
    };
    Answer { reason: decision.reason, approval_code, chip }
}

/// The last six decimal digits of a number, in ASCII.
fn six_digits(number: u128) -> [u8; 6] {
    let mut rest = u32::try_from(number % 1_000_000).unwrap_or_default();
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    digits
}

fn network_management(session: &Session, decoded: &Decoded<'_>) -> Outcome {
    let request = match NetworkManagement::parse(decoded) {
        Ok(request) => request,
        Err(fault) => return Outcome::malformed(fault),
    };
    let reason = match request {
        NetworkManagement::NotSupported => Reason::FunctionNotSupported,
        NetworkManagement::Echo | NetworkManagement::Told => Reason::Approved,
        NetworkManagement::SignOn | NetworkManagement::SignOff => {
            session.sign(request == NetworkManagement::SignOn);
            Reason::Approved
        }
    };
    Outcome::of(reason)
}

fn encode(
    session: &Session,
    header: &[u8],
    (message, trusted): (&Message<'_>, ElementSet),
    outcome: &Outcome,
) -> Option<Vec<u8>> {
    let Outcome { answer, fault, chip, .. } = outcome;
    let mut reply = Vec::with_capacity(REPLY_BYTES);
    let written = frame::append(&mut reply, session.link.frames, header, |out| {
        response::encode(message, trusted, *answer, (*fault, chip.as_deref()), out)
    });
    let link = &*session.link.name;
    match written {
        Ok(Some(())) => Some(reply),
        Ok(None) => {
            let text = "a reply is longer than the framing can say";
            tracing::error!(target: "transaction", link, text);
            None
        }
        Err(error) => {
            tracing::error!(target: "transaction", link, %error, "a reply cannot be encoded");
            None
        }
    }
}
