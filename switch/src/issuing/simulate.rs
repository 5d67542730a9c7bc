//! Simulated transactions: what an issuer's program tries its cards with. A message is encoded,
//! goes through the script of every request as a frame of a link does, and its answer is decoded.
//! It comes from a network of its own, so that no link can repeat or reverse it.

mod card_transaction;
mod chip_terminal;
mod form;
mod fulfillment;
mod message;
mod simulated;
pub(super) mod virtual_chip;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use iso_specs::{Mti, Spec, decode};
use serde::Serialize;
use utoipa::ToSchema;

use super::change::{load, place};
use super::pin_control::Admit;
use super::transactions::{self, TransactionAnswer};
use super::{Call, Made, Refused, audit};
use crate::authorization::reversal::UnknownOriginal;
use crate::cache::{BadPinBlocks, Card};
use crate::clock::{Clock, Timestamp};
use crate::config::{LinkConfig, Peers, SIMULATION};
use crate::frame::{Frame, FrameFormat, Framing, Header};
use crate::hsm::{KeyName, PinBlockFormat, PinBlockFormats};
use crate::in_flight::InFlight;
use crate::metrics::{LinkMetrics, Tally};
use crate::pin::ClearPin;
use crate::session::Session;
use crate::store::document::DocumentChange;
use crate::store::record::{RecordId, TransactionRecord};
use crate::store::{Commit, Store};
use crate::switch::{Seams, Switch};
use crate::transaction::Responded;
pub use card_transaction::{CardTransactionForm, CardTransactionType};
pub use chip_terminal::{ChipAnswer, ChipForm};
use chip_terminal::{Inserted, insert};
pub use form::{
    AdviceForm, AuthorizationForm, BalanceInquiryForm, ClearingForm, FinancialForm, ReversalForm,
};
pub use fulfillment::{FulfillmentForm, fulfil};
use message::{Outgoing, Trace};
pub use simulated::Simulated;
use simulated::{First, FollowUp, Task};
use virtual_chip::InTerminals;
pub use virtual_chip::emboss;

/// What the simulated network speaks.
const DIALECT: &str = "iso8583-1987-ascii";

/// No key has this name: PINs of simulated transactions come in clear.
const NO_KEY: &str = "own-simulation";

/// The link that simulated transactions come by.
pub struct Simulator {
    link: Arc<LinkConfig>,
    metrics: Arc<LinkMetrics>,
    in_flight: Arc<InFlight>,
    bad_pin_blocks: Arc<BadPinBlocks>,
    chips: InTerminals,
    /// DE11 of the next message, before it is cut to six digits.
    stan: AtomicU32,
}

impl Simulator {
    /// Its link. The first DE11 follows from the time, so that it is another one after each start.
    /// `None` without the built-in dialect.
    #[must_use]
    pub fn new(now: Timestamp) -> Option<Simulator> {
        let dialect = Arc::new(Spec::from_toml(Spec::builtin(DIALECT)?).ok()?);
        let link = LinkConfig {
            name: SIMULATION.into(),
            network: SIMULATION.into(),
            // Nothing listens there: only what is simulated comes by it.
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            peers: Peers::default(),
            connections_max: 0,
            connections_per_address_max: 0,
            dialect,
            frames: FrameFormat { framing: Framing::Binary2, header: Header::None },
            sign_on_required: false,
            unknown_original: UnknownOriginal::Refuse,
            approves_balance_inquiry: true,
            refuse_older_than_window: false,
            zpk: KeyName::parse(NO_KEY)?,
            pin_block_formats: PinBlockFormats::new(&[PinBlockFormat::Iso0]),
        };
        let [a, b, c, ..] = (now.micros() / 1_000).to_le_bytes();
        Some(Simulator {
            metrics: LinkMetrics::new(&link.network, &link.name),
            link: Arc::new(link),
            in_flight: Arc::default(),
            bad_pin_blocks: Arc::default(),
            chips: InTerminals::default(),
            stan: AtomicU32::new(u32::from_le_bytes([a, b, c, 0])),
        })
    }

    /// The next message, or the one that was sent when the call came before.
    fn message(&self, now: Timestamp, before: Option<&Made>) -> (Timestamp, u32) {
        match before {
            Some(Made::Message { sent, number }) => (Timestamp::from_micros(*sent), *number),
            _ => (now, self.stan.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn session(&self, pin: Option<Box<ClearPin>>) -> Session {
        let (link, metrics) = (Arc::clone(&self.link), Arc::clone(&self.metrics));
        let (in_flight, blocks) = (self.in_flight.clone(), self.bad_pin_blocks.clone());
        let mut session = Session::new(link, metrics, in_flight, blocks, SIMULATION);
        session.clear_pin = pin;
        session
    }
}

/// A simulated transaction.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SimulatedAnswer {
    /// What it came to.
    pub transaction: TransactionAnswer,
    /// The two messages; not where the call is repeated with its Idempotency-Key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_iso8583: Option<RawMessages>,
    /// What chip and terminal did, where there was a chip; not where the call is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chip: Option<ChipAnswer>,
}

/// The messages of a simulated transaction.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RawMessages {
    /// What was sent.
    pub request: RawMessage,
    /// What was answered.
    pub response: RawMessage,
}

/// A message of ISO 8583:1987.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RawMessage {
    /// Message type.
    #[schema(pattern = "^[0-9]{4}$")]
    pub mti: String,
    /// Its data elements by number, as they may be shown: the PAN masked, and of what is secret the
    /// length only.
    #[schema(value_type = BTreeMap<String, String>)]
    pub elements: BTreeMap<u8, String>,
}

/// DE39 of an approval.
const APPROVED: &[u8] = b"00";

/// Longest DE55, in bytes.
const CHIP_DATA_BYTES_MAX: usize = 255;

/// The PIN block of a message: whatever it holds, it is not shown.
const PIN_BLOCK: u8 = 52;

impl RawMessage {
    fn read(dialect: &Spec, frame: &[u8]) -> Option<RawMessage> {
        let message = decode(dialect, frame).ok()?.message;
        let shown = message.elements().filter_map(|field| {
            let number = field.element().number();
            let text = field.to_string();
            // It begins with the number.
            let (_, value) = text.split_once('=').filter(|_| number != PIN_BLOCK)?;
            Some((number, value.to_owned()))
        });
        Some(RawMessage { mti: message.mti().to_string(), elements: shown.collect() })
    }
}

/// Simulates a transaction. A decline is an answer too. Where the call came before and nobody knows
/// what became of it, its message is sent once more: the switch knows it if it was decided.
///
/// # Errors
/// If there is no such card or transaction, a field is wrong, or nothing could be decided.
pub async fn transact<W: Seams>(
    switch: &Switch<W>,
    simulator: &Simulator,
    (call, before): (Call<'_>, Option<&Made>),
    simulated: Simulated,
    admit: Admit<'_>,
) -> Result<SimulatedAnswer, Refused> {
    if let Some(Made::Token(id)) = before {
        return repeated(switch, id).await;
    }
    let mut token = String::new();
    let (sent, number) = simulator.message(switch.clock.now(), before);
    let done = async {
        if before.is_some() && simulated.has_chip() {
            // The chip would make another cryptogram.
            return Err(Refused::ChipOutcomeUnknown);
        }
        let trace = Trace::of(sent, number);
        let prepared = prepare(switch, simulator, simulated, &trace, (admit, &mut token)).await?;
        let sending = match before {
            None => call.answered(switch, &Made::Message { sent: sent.micros(), number })?,
            Some(_) => None,
        };
        let prepared = prepared.kept(switch, sending).await?;
        let answer = carry_out(switch, simulator, prepared).await?;
        if let Some(once) = call.once {
            once.keep(switch, &Made::Token(answer.transaction.token.clone())).await?;
        }
        Ok(answer)
    };
    let done = done.await;
    audit::of_card(switch, call.actor, ("simulate", &token), done).await
}

/// What a call made before. Neither its messages nor what its chip did are kept.
async fn repeated<W: Seams>(switch: &Switch<W>, id: &str) -> Result<SimulatedAnswer, Refused> {
    let id = id.parse().map_err(|_| Refused::NoSuchTransaction)?;
    let transaction = transactions::of(switch, id).await?;
    Ok(SimulatedAnswer { transaction, raw_iso8583: None, chip: None })
}

async fn carry_out<W: Seams>(
    switch: &Switch<W>,
    simulator: &Simulator,
    prepared: Prepared,
) -> Result<SimulatedAnswer, Refused> {
    let Prepared { outgoing, pin, card, chip } = prepared;
    let mut answered = send(switch, simulator, outgoing, pin).await?;
    if let Some(inserted) = chip {
        answered.answer.chip = Some(inserted.finish(switch, &card, &answered).await?);
    }
    Ok(answered.answer)
}

/// A message that is ready to be sent.
struct Prepared {
    outgoing: Outgoing,
    /// The PIN that goes with it.
    pin: Option<Box<ClearPin>>,
    card: Card,
    /// The chip that waits for the answer.
    chip: Option<Box<Inserted>>,
}

impl Prepared {
    /// Writes, in one commit and before anything is sent, what the chip has done and which message
    /// it is that a repeat of the call means.
    async fn kept<W: Seams>(
        mut self,
        switch: &Switch<W>,
        sending: Option<DocumentChange>,
    ) -> Result<Prepared, Refused> {
        if let Some(chip) = &mut self.chip {
            chip.keep(switch, &self.card, sending).await?;
        } else if let Some(sending) = sending {
            let documents = vec![sending];
            switch.store.commit(Commit { documents, ..Commit::default() }, &mut None).await?;
        }
        Ok(self)
    }
}

/// The message, and what goes with it; `token` becomes that of its card.
async fn prepare<W: Seams>(
    switch: &Switch<W>,
    simulator: &Simulator,
    simulated: Simulated,
    trace: &Trace,
    (admit, token): (Admit<'_>, &mut String),
) -> Result<Prepared, Refused> {
    match simulated.task {
        Task::First(first) => {
            let card = load(switch, &first.card_token).await?;
            token.clone_from(&first.card_token);
            if first.has_pin() {
                admit(&card.entry.identity.token)?;
            }
            let pin = first.pin.as_ref().map(|pin| pin.parse()).transpose()?;
            let mut outgoing = begin(switch, &card, simulated.mti, trace)?;
            let amount = first_message(&card, &first, &mut outgoing)?;
            let Some(form) = &first.chip else {
                return Ok(Prepared { outgoing, pin, card, chip: None });
            };
            let plastic = (&card, place(&card.state, &first.card_token));
            let form = (form, first.paid(amount)?);
            let chip = insert(switch, simulator, plastic, form, &mut outgoing).await?;
            let pin = pin.filter(|_| chip.asks_for_online_pin());
            Ok(Prepared { outgoing, pin, card, chip: Some(Box::new(chip)) })
        }
        Task::FollowUp(follow_up) => {
            let (card, id, record) = original(switch, &follow_up).await?;
            token.push_str(&card.entry.identity.token);
            let mut outgoing = begin(switch, &card, simulated.mti, trace)?;
            follow_up_message(&follow_up, &record, &mut outgoing)?;
            if let Some(data) = virtual_chip::end_of(switch, &card, id).await? {
                outgoing.chip_data(&data);
            }
            Ok(Prepared { outgoing, pin: None, card, chip: None })
        }
    }
}

/// A message of this type about a card.
fn begin<W: Seams>(
    switch: &Switch<W>,
    card: &Card,
    mti: Mti,
    trace: &Trace,
) -> Result<Outgoing, Refused> {
    let identity = &card.entry.identity;
    let pan = switch.vault.open(&identity.key, &identity.sealed_pan).map_err(Refused::SealedPan)?;
    Ok(Outgoing::new(mti, &pan, trace))
}

/// Writes what begins a transaction; gives back DE4, in minor units.
fn first_message(card: &Card, first: &First, outgoing: &mut Outgoing) -> Result<u64, Refused> {
    let plastic = card.state.plastics.get(place(&card.state, &first.card_token));
    let plastic = plastic.ok_or(Refused::NoSuchCard)?;
    let currency = card.product.currency;
    let expiry = first.expiry()?.unwrap_or(plastic.expiry);
    outgoing.plastic(expiry, plastic.sequence);
    outgoing.currency(currency);
    let amount = first.amount.as_ref().map(|amount| amount.minor_units("amount", currency));
    let amount = amount.transpose()?;
    if let Some(amount) = amount {
        outgoing.amount(amount);
        if let Some(cash_back) = &first.cash_back_amount {
            let cash_back = cash_back.minor_units("cash_back_amount", currency)?;
            if cash_back > amount {
                let expected = "no more than the amount, of which it is a part";
                return Err(Refused::Field { name: "cash_back_amount", expected });
            }
            outgoing.cash_back(cash_back, currency);
        }
    }
    first.describe(outgoing)?;
    Ok(amount.unwrap_or_default())
}

/// The card of the transaction that a message follows, its id and its record.
async fn original<W: Seams>(
    switch: &Switch<W>,
    follow_up: &FollowUp,
) -> Result<(Card, RecordId, TransactionRecord), Refused> {
    let id: RecordId = follow_up.original.parse().map_err(|_| Refused::NoSuchTransaction)?;
    let record = transactions::record(switch, id).await?;
    if &*record.network != SIMULATION || record.mti.is_reversal() {
        let expected = "a simulated transaction that is no reversal";
        return Err(Refused::Field { name: follow_up.name, expected });
    }
    let card = switch.store.load(&record.card).await?.ok_or(Refused::NoSuchCard)?;
    Ok((card, id, record))
}

fn follow_up_message(
    follow_up: &FollowUp,
    record: &TransactionRecord,
    outgoing: &mut Outgoing,
) -> Result<(), Refused> {
    let amount = match &follow_up.amount {
        Some(amount) => amount.minor_units("amount", record.amount.currency)?,
        None => record.amount.minor_units,
    };
    outgoing.currency(record.amount.currency);
    if outgoing.mti().is_reversal() {
        let Some(rest) = record.amount.minor_units.checked_sub(amount) else {
            let expected = "no more than the amount of the original";
            return Err(Refused::Field { name: "amount", expected });
        };
        outgoing.amount(record.amount.minor_units);
        outgoing.reverses(record, rest);
    } else {
        outgoing.amount(amount);
    }
    outgoing.follows(record);
    follow_up.describe(outgoing)
}

/// A request that waits for HSM or store, as those of the links do.
struct Waiting<'a>(&'a InFlight, &'a InFlight);

impl<'a> Waiting<'a> {
    fn new(all: &'a InFlight, own: &'a InFlight) -> Waiting<'a> {
        all.add();
        own.add();
        Waiting(all, own)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.remove(1);
        self.1.remove(1);
    }
}

/// What was answered.
struct Answered {
    answer: SimulatedAnswer,
    /// Id of the transaction.
    id: RecordId,
    /// Whether DE39 says so.
    approves: bool,
    /// DE55; empty where there is none.
    chip_data: Vec<u8>,
}

async fn send<W: Seams>(
    switch: &Switch<W>,
    simulator: &Simulator,
    mut outgoing: Outgoing,
    pin: Option<Box<ClearPin>>,
) -> Result<Answered, Refused> {
    if pin.is_some() {
        outgoing.pin();
    }
    let dialect = &simulator.link.dialect;
    let message = Bytes::from(outgoing.encode(dialect)?);
    let frame = Frame { header: Bytes::new(), message: message.clone() };
    let session = simulator.session(pin);
    let arrived = switch.clock.monotonic();
    let waiting = Waiting::new(&switch.in_flight, &simulator.in_flight);
    let responded = switch.respond(&session, frame, arrived).await;
    drop(waiting);
    let Responded { mti, reason, reply, record } = responded.map_err(|_| Refused::NotDecided)?;
    let mut tally = Tally::default();
    tally.add(mti, reason);
    simulator.metrics.count(&mut tally);
    // As for a reply to a link: it leaves when the store has what it speaks of.
    switch.store.flush()?;
    let (reply, id) = reply.zip(record).ok_or(Refused::NotDecided)?;
    let answer = message::without_length(&reply.frame).ok_or(Refused::NotDecided)?;
    let read = |frame| RawMessage::read(dialect, frame).ok_or(Refused::NotDecided);
    let raw_iso8583 = Some(RawMessages { request: read(&message)?, response: read(answer)? });
    let transaction = transactions::of(switch, id).await?;
    let answered = decode(dialect, answer).map_err(|_| Refused::NotDecided)?.message;
    let value = |element| {
        let mut buffer = [0; CHIP_DATA_BYTES_MAX];
        let field = answered.field(element)?;
        field.canonical(&mut buffer).map(<[u8]>::to_vec)
    };
    Ok(Answered {
        id,
        approves: value(39).as_deref() == Some(APPROVED),
        chip_data: value(55).unwrap_or_default(),
        answer: SimulatedAnswer { transaction, raw_iso8583, chip: None },
    })
}
