//! Transactions as the API shows them, with the names of Marqeta's transaction, and with the
//! reasons of the switch.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::change;
use super::listing::Listed;
use super::views::ResponseView;
use super::{Refused, audit, card_details, issuance};
use crate::authorization::currency;
use crate::authorization::{Money, Reason};
use crate::cards::CardKey;
use crate::clock::Timestamp;
use crate::event::Actor;
use crate::outcome::PinOutcome;
use crate::store::page::{PAGE_ITEMS_MAX, TransactionFilter};
use crate::store::record::{RecordId, TransactionRecord};
use crate::store::{Original, Store};
use crate::switch::{Seams, Switch};

/// Parts of the journal that one call reads, each of `page_scan_mb_max` at most.
const PARTS_MAX: usize = 8;

/// What a transaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransactionState {
    /// Approved, and its clearing is still to come.
    Pending,
    /// Done: approved in one message, or a message that only tells something.
    Completion,
    /// Declined.
    Declined,
    /// Nothing could be decided.
    Error,
}

impl TransactionState {
    /// All states.
    pub const ALL: [TransactionState; 4] = [
        TransactionState::Pending,
        TransactionState::Completion,
        TransactionState::Declined,
        TransactionState::Error,
    ];

    /// As clients write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TransactionState::Pending => "PENDING",
            TransactionState::Completion => "COMPLETION",
            TransactionState::Declined => "DECLINED",
            TransactionState::Error => "ERROR",
        }
    }

    fn of(record: &TransactionRecord) -> TransactionState {
        match record.answer.reason {
            Reason::Approved if is_single(record) => TransactionState::Completion,
            Reason::Approved => TransactionState::Pending,
            // The standard's 99xx: the system, and not the card, is why.
            reason if reason.code().starts_with("99") => TransactionState::Error,
            _ => TransactionState::Declined,
        }
    }
}

/// Who sent a transaction.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AcquirerView {
    /// DE32.
    pub institution_id_code: String,
    /// DE37.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval_reference_number: Option<String>,
    /// DE11.
    pub system_trace_audit_number: String,
}

/// How the cardholder was verified.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PosView {
    /// Whether an online PIN came with it.
    pub pin_present: bool,
}

/// A transaction, with the names of Marqeta's.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TransactionAnswer {
    /// By which audit lines and events name it: twice eight hexadecimal digits, later ones higher.
    pub token: String,
    /// Such as `authorization` or `pindebit.atm.withdrawal`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What it came to.
    pub state: TransactionState,
    /// Why.
    pub response: ResponseView,
    /// Why, step by step.
    pub trail: Vec<String>,
    /// Token of the plastic that it was about, the card's where none fits; empty where there is no
    /// such card, or no longer.
    pub card_token: String,
    /// Its cardholder; empty for a card of the command line.
    pub user_token: String,
    /// The same.
    pub acting_user_token: String,
    /// Its product; empty where there is no such card.
    pub card_product_token: String,
    /// First six digits, six underscores, last four.
    pub pan: String,
    /// DE4 in the currency's units.
    #[schema(value_type = f64)]
    pub amount: Box<RawValue>,
    /// The same.
    #[schema(value_type = f64)]
    pub request_amount: Box<RawValue>,
    /// DE49: ISO 4217 numeric code.
    #[schema(pattern = "^[0-9]{3}$")]
    pub currency_code: String,
    /// DE38.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_code: Option<String>,
    /// The network that it came from.
    pub network: String,
    /// Message type of the request.
    #[schema(pattern = "^[0-9]{4}$")]
    pub mti: String,
    /// DE3.
    pub processing_code: String,
    /// Who sent it.
    pub acquirer: AcquirerView,
    /// How the cardholder was verified.
    pub pos: PosView,
    /// When it was decided, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    pub created_time: String,
    /// The same.
    #[schema(format = DateTime)]
    pub user_transaction_time: String,
}

/// Which transactions are wanted; by default all.
#[derive(Clone, Debug, Default)]
pub struct Sought {
    /// Of the card with this token.
    pub card: Option<String>,
    /// Of the cards of this holder.
    pub user: Option<String>,
    /// That belong to the one with this token, which is not among them.
    pub related_to: Option<String>,
    /// That came to one of these; empty for any.
    pub states: Vec<TransactionState>,
    /// Of this type.
    pub kind: Option<String>,
    /// Decided at this time or later.
    pub from: Option<Timestamp>,
    /// Decided before this time.
    pub to: Option<Timestamp>,
    /// From the newest of these on that is older than this one.
    pub after: Option<RecordId>,
    /// How many are left out before the first.
    pub start_index: usize,
    /// How many at most.
    pub count: usize,
}

/// A transaction.
///
/// # Errors
/// [`Refused::NoSuchTransaction`], or it cannot be read.
pub async fn show<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    token: &str,
) -> Result<TransactionAnswer, Refused> {
    audit::of_reading(actor, "transaction", shown(switch, token).await)
}

async fn shown<W: Seams>(switch: &Switch<W>, token: &str) -> Result<TransactionAnswer, Refused> {
    let id: RecordId = token.parse().map_err(|_| Refused::NoSuchTransaction)?;
    of(switch, id).await
}

/// The transaction at a place of the journal.
pub(super) async fn of<W: Seams>(
    switch: &Switch<W>,
    id: RecordId,
) -> Result<TransactionAnswer, Refused> {
    let record = record(switch, id).await?;
    view(switch, id, &record).await
}

/// Its record.
pub(super) async fn record<W: Seams>(
    switch: &Switch<W>,
    id: RecordId,
) -> Result<TransactionRecord, Refused> {
    switch.store.transaction(id).await?.ok_or(Refused::NoSuchTransaction)
}

/// Transactions, the newest first. A call reads only so much: a part may have fewer than were asked
/// for, and more to come.
///
/// # Errors
/// [`Refused::NoSuchCard`], or they cannot be read.
pub async fn list<W: Seams>(
    switch: &Switch<W>,
    actor: &Actor,
    sought: &Sought,
) -> Result<Listed<TransactionAnswer>, Refused> {
    audit::of_reading(actor, "transactions", listed(switch, sought).await)
}

async fn listed<W: Seams>(
    switch: &Switch<W>,
    sought: &Sought,
) -> Result<Listed<TransactionAnswer>, Refused> {
    let first = match &sought.related_to {
        Some(token) => {
            let id: RecordId = token.parse().map_err(|_| Refused::NoSuchTransaction)?;
            Some((id, record(switch, id).await?))
        }
        None => None,
    };
    let first = first.as_ref().map(|(id, first)| (*id, first));
    let reverses = match first {
        Some((id, first)) if first.mti.is_reversal() => switch.store.reversed(id).await?,
        _ => None,
    };
    let network = first.map(|(_, first)| Arc::clone(&first.network));
    let (from, to) = (sought.from, sought.to);
    let filter = TransactionFilter { network, from, to, ..TransactionFilter::default() };
    let wanted = sought.start_index.saturating_add(sought.count);
    let (mut found, mut unread) = (Vec::new(), None);
    for card in histories(switch, sought, first.map(|(_, first)| first.card)).await? {
        let filter = TransactionFilter { card, ..filter.clone() };
        let (part, rest) = walk(switch, sought, (filter, wanted), (first, &reverses)).await?;
        found.extend(part);
        unread = unread.max(rest);
    }
    found.sort_unstable_by_key(|(id, _)| Reverse(*id));
    // What is older may have others between that were not read.
    found.retain(|(id, _)| unread.is_none_or(|unread| *id >= unread));
    let mut items = Vec::new();
    for (id, record) in found.iter().take(wanted).skip(sought.start_index) {
        items.push(view(switch, *id, record).await?);
    }
    let last = found.get(wanted.saturating_sub(1)).filter(|_| found.len() > wanted);
    let next = last.map(|(id, _)| *id).or(unread);
    Ok(Listed { items, next: next.map(|next| next.to_string()) })
}

/// The cards whose histories are looked through; `None` for all of them together.
async fn histories<W: Seams>(
    switch: &Switch<W>,
    sought: &Sought,
    related: Option<CardKey>,
) -> Result<Vec<Option<CardKey>>, Refused> {
    let card = match &sought.card {
        Some(token) => Some(change::load(switch, token).await?.entry.identity.key),
        None => related,
    };
    let Some(user) = &sought.user else { return Ok(vec![card]) };
    let mut keys = BTreeSet::new();
    for token in issuance::cards_of_user(switch, user).await? {
        match change::load(switch, &token).await {
            Ok(own) => keys.insert(own.entry.identity.key),
            // It was removed meanwhile.
            Err(Refused::NoSuchCard) => false,
            Err(refused) => return Err(refused),
        };
    }
    Ok(keys.into_iter().filter(|own| card.is_none_or(|card| card == *own)).map(Some).collect())
}

/// Those of a history that are sought, the newest first: one more than are wanted, if there are so
/// many, or as many as may be read, and then from where on nothing was read.
async fn walk<W: Seams>(
    switch: &Switch<W>,
    sought: &Sought,
    (filter, wanted): (TransactionFilter, usize),
    (first, reverses): (Option<(RecordId, &TransactionRecord)>, &Option<Original>),
) -> Result<(Vec<(RecordId, TransactionRecord)>, Option<RecordId>), Refused> {
    let (mut found, mut after) = (Vec::new(), sought.after);
    for _ in 0..PARTS_MAX {
        let page = switch.store.transactions(filter.clone(), after, PAGE_ITEMS_MAX).await?;
        for (id, record) in page.items {
            let is_sought = is_sought(sought, &record)
                && match first {
                    Some(first) => {
                        is_related(switch, first, reverses.as_ref(), (id, &record)).await?
                    }
                    None => true,
                };
            if is_sought {
                found.push((id, record));
            }
            if found.len() > wanted {
                return Ok((found, None));
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok((found, after))
}

/// Whether two transactions of a card and a network are of one purchase: one has reversed the
/// other, or both have one DE37, as an authorization, its advices and its clearing have. The first
/// one reverses `reverses`.
async fn is_related<W: Seams>(
    switch: &Switch<W>,
    (first_id, first): (RecordId, &TransactionRecord),
    reverses: Option<&Original>,
    (id, other): (RecordId, &TransactionRecord),
) -> Result<bool, Refused> {
    if first_id == id {
        return Ok(false);
    }
    if first.acquirer == other.acquirer && first.rrn.is_some() && first.rrn == other.rrn {
        return Ok(true);
    }
    if reverses.is_some_and(|original| original.is(&other.duplicate_key)) {
        return Ok(true);
    }
    if !other.mti.is_reversal() {
        return Ok(false);
    }
    let original = switch.store.reversed(id).await?;
    Ok(original.is_some_and(|original| original.is(&first.duplicate_key)))
}

fn is_sought(sought: &Sought, record: &TransactionRecord) -> bool {
    let state = TransactionState::of(record);
    (sought.states.is_empty() || sought.states.contains(&state))
        && sought.kind.as_ref().is_none_or(|wanted| wanted == kind(record))
}

async fn view<W: Seams>(
    switch: &Switch<W>,
    id: RecordId,
    record: &TransactionRecord,
) -> Result<TransactionAnswer, Refused> {
    let Holder { card, user, product } = holder(switch, record).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let without_zeros = |bytes: &[u8]| text(bytes).trim_end_matches('\0').to_owned();
    let amount = decimal(record.amount);
    Ok(TransactionAnswer {
        token: id.to_string(),
        kind: kind(record),
        state: TransactionState::of(record),
        response: ResponseView::of(record.answer.reason),
        trail: record.trail.iter().map(ToString::to_string).collect(),
        card_token: card,
        acting_user_token: user.clone(),
        user_token: user,
        card_product_token: product,
        pan: record.masked_pan.to_string(),
        request_amount: amount.clone(),
        amount,
        currency_code: format!("{:03}", record.amount.currency),
        approval_code: record.answer.approval_code.map(|code| text(&code)),
        network: record.network.to_string(),
        mti: record.mti.to_string(),
        processing_code: text(&record.processing_code),
        acquirer: AcquirerView {
            institution_id_code: without_zeros(&record.acquirer),
            retrieval_reference_number: record.rrn.map(|rrn| text(&rrn)),
            system_trace_audit_number: text(&record.stan),
        },
        pos: PosView {
            pin_present: record.verification.is_some_and(|it| it != PinOutcome::Unavailable),
        },
        created_time: record.time.to_string(),
        user_transaction_time: record.time.to_string(),
    })
}

/// Whose a transaction is; empty texts where nobody knows.
#[derive(Default)]
struct Holder {
    card: String,
    user: String,
    product: String,
}

async fn holder<W: Seams>(
    switch: &Switch<W>,
    record: &TransactionRecord,
) -> Result<Holder, Refused> {
    let Some(card) = switch.store.load(&record.card).await? else { return Ok(Holder::default()) };
    let place = record.plastic.map_or(0, usize::from);
    let token = change::token_of(&card, place).to_owned();
    let details = card_details::of(switch, &token).await?;
    let user = details.and_then(|(details, _)| details.user_token);
    let user = user.map(|user| user.as_str().to_owned()).unwrap_or_default();
    Ok(Holder { card: token, user, product: card.entry.product.name().to_owned() })
}

/// An amount in the units of its currency, with all digits of its exponent (ISO 4217).
pub(super) fn decimal(Money { minor_units, currency }: Money) -> Box<RawValue> {
    let exponent = currency::exponent(currency).unwrap_or(2);
    let unit = 10_u64.pow(exponent.into());
    let (whole, rest) = (minor_units / unit, minor_units % unit);
    let text = match exponent {
        0 => whole.to_string(),
        digits => format!("{whole}.{rest:0digits$}", digits = usize::from(digits)),
    };
    let number = RawValue::from_string(text);
    debug_assert!(number.is_ok(), "digits with a point are a number in JSON");
    number.unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Whether it is a financial message, or one that only tells something: nothing follows it.
fn is_single(record: &TransactionRecord) -> bool {
    let [_, class, function, _] = record.mti.digits();
    class != b'1' || function != b'0'
}

/// Marqeta's name of a kind of transaction.
fn kind(record: &TransactionRecord) -> &'static str {
    let [_, class, function, _] = record.mti.digits();
    let is_cash = record.processing_code.starts_with(b"01");
    match (class, function) {
        (b'4', _) => "authorization.reversal",
        (_, b'2') => "authorization.advice",
        (b'2', _) if is_cash => "pindebit.atm.withdrawal",
        (b'2', _) => "pindebit",
        (_, _) if is_cash => "authorization.atm.withdrawal",
        (_, _) if record.processing_code.starts_with(b"09") => "authorization.cashback",
        (_, _) if record.processing_code.starts_with(b"20") => "refund.authorization",
        (_, _) => "authorization",
    }
}
