//! Pages of what the journal holds. All of it reads files, so it runs on threads for that.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::blocks::{self, BEYOND_BYTES, VisitRecord};
use super::segment::SegmentInfo;
use super::types::{Failed, Position, ReadError, Sequence};
use super::{Shared, failed};
use crate::cache::Card;
use crate::cards::{CardKey, MaskedPan};
use crate::clock::Timestamp;
use crate::event::Actor;
use crate::store::Found;
use crate::store::StoreError;
use crate::store::duplicates::{Sought, WINDOW};
use crate::store::page::{Order, Page, TransactionFilter};
use crate::store::record::{
    self, Event, EventId, Part, Reads, RecordId, Told, Transaction, TransactionRecord,
};

/// How many transactions of a card are looked at for one that a reversal speaks of.
const SEARCHED_MAX: usize = 64;
/// How many records of the card are read for them: not each is of a transaction.
const SEARCHED_RECORDS_MAX: usize = 1_024;
/// What reading one record at its place counts for, in bytes.
const ONE_RECORD_BYTES: u64 = 4_096;
/// How much earlier than its record a transaction may have been decided, in seconds: more than any
/// limit of an answer allows.
const DECIDED_BEFORE_SECONDS: u64 = 600;

/// A page that could not be read: the next one may be.
#[allow(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn unavailable(error: Failed) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

type Transactions = Page<RecordId, TransactionRecord>;

impl Shared {
    /// What was committed together at a position; nothing if its segment is kept no more.
    pub(super) fn entry(&self, position: u64) -> Result<Vec<Part>, StoreError> {
        let payload = match self.journal.read(Position::from_u64(position)) {
            Ok((_, payload)) => payload,
            Err(ReadError::Retired) => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::Unavailable(error.to_string())),
        };
        let mut parts = Vec::new();
        let read = record::read_entry(&payload, Reads::History, |part| parts.push(part));
        read.map(|()| parts).map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    /// The transaction at a position; none if its segment is kept no more.
    pub(super) fn transaction(
        &self,
        position: u64,
    ) -> Result<Option<Transaction<'static>>, StoreError> {
        let mut parts = self.entry(position)?.into_iter();
        Ok(parts.find_map(|part| match part {
            Part::Transaction(transaction) => Some(*transaction),
            _ => None,
        }))
    }

    /// A card's history from this record on, newest first: of each record its transaction, if it
    /// is of one.
    fn chain(
        &self,
        card: CardKey,
        first: u64,
    ) -> impl Iterator<Item = Result<(RecordId, Option<TransactionRecord>), StoreError>> {
        let mut position = first;
        std::iter::from_fn(move || {
            let at = RecordId(std::mem::take(&mut position));
            if at.0 == 0 {
                return None;
            }
            let parts = match self.entry(at.0) {
                Ok(parts) => parts,
                Err(error) => return Some(Err(error)),
            };
            position = previous(card, &parts);
            let found = parts.into_iter().find_map(|part| match part {
                Part::Transaction(found) => Some(found.record.into_owned()),
                _ => None,
            });
            Some(Ok((at, found)))
        })
    }

    /// What others are told of a card, newest first, from behind this one on; of a record that is
    /// kept no more, nothing, and of what stands before it neither.
    pub(super) fn card_events(
        &self,
        card: &Card,
        after: Option<EventId>,
        max: usize,
    ) -> Result<Page<EventId, Event>, StoreError> {
        let key = card.entry.identity.key;
        let newest = card.entry.last_record();
        let mut position = after.map_or(newest, |after| after.record.0.min(newest));
        let mut page = Page { items: Vec::new(), next: None };
        let mut read = 0;
        while position != 0 {
            let at = RecordId(position);
            let parts = self.entry(at.0)?;
            position = previous(key, &parts);
            let events = parts.into_iter().filter_map(|part| match part {
                Part::Event(event) => Some(event),
                _ => None,
            });
            let events = (1..=u8::MAX).zip(events).map(|(index, mut event)| {
                self.complete(&mut event, None);
                (EventId { record: at, index }, *event)
            });
            let mut events: Vec<_> = events.filter(|(_, event)| event.card == key).collect();
            events.retain(|(id, _)| after.is_none_or(|after| *id < after));
            page.items.extend(events.into_iter().rev());
            read += ONE_RECORD_BYTES;
            if page.items.len() > max {
                page.items.truncate(max);
                page.next = page.items.last().map(|(id, _)| *id);
                break;
            }
            if read >= self.page_scan_bytes_max && position != 0 {
                page.next = Some(EventId { record: at, index: 0 });
                break;
            }
        }
        Ok(page)
    }

    /// The one that a reversal speaks of, among these places.
    pub(super) fn only_at(
        &self,
        network: &str,
        (sought, newest): (&Sought, RecordId),
        positions: impl Iterator<Item = u64>,
    ) -> Result<Found, StoreError> {
        let records = positions.map(|at| self.transaction(at));
        let records = records.filter_map(Result::transpose);
        let records = records.map(|found| found.map(|found| found.record.into_owned()));
        only(network, (sought, newest), records)
    }

    /// The same, among the newest of a card.
    pub(super) fn only_of_card(
        &self,
        network: &str,
        (sought, newest): (&Sought, RecordId),
        (card, after): (&Card, RecordId),
    ) -> Result<Found, StoreError> {
        let now = self.clock.now();
        let is_new = |found: &Result<(RecordId, Option<TransactionRecord>), StoreError>| {
            let Ok((id, record)) = found else { return true };
            let is_young = |record: &TransactionRecord| now.since(record.time) < WINDOW;
            *id > after && record.as_ref().is_none_or(is_young)
        };
        let records = self.chain(card.entry.identity.key, card.entry.last_record());
        let records = records.take(SEARCHED_RECORDS_MAX).take_while(is_new);
        let records = records.filter_map(|found| found.map(|(_, record)| record).transpose());
        only(network, (sought, newest), records.take(SEARCHED_MAX))
    }

    pub(super) fn transactions(
        &self,
        filter: &TransactionFilter,
        after: Option<RecordId>,
        max: usize,
    ) -> Result<Transactions, StoreError> {
        if max == 0 {
            return Ok(Page { items: Vec::new(), next: after });
        }
        let card = filter.card.and_then(|key| self.cards.load(&key));
        match (filter.order, card) {
            (Order::NewestFirst, Some(card)) => self.of_card(filter, (&card, after), max),
            (Order::NewestFirst, None) => self.newest_first(filter, after, max),
            (Order::OldestFirst, _) => self.oldest_first(filter, after, max),
        }
    }

    fn of_card(
        &self,
        filter: &TransactionFilter,
        (card, after): (&Card, Option<RecordId>),
        max: usize,
    ) -> Result<Transactions, StoreError> {
        let is_own = |found: &Transaction<'_>| found.record.card == card.entry.identity.key;
        let first = match after {
            // The one behind which the page begins tells of the one before it.
            Some(after) if after.0 <= card.entry.last_record() => {
                match self.transaction(after.0).ok().flatten().filter(is_own) {
                    Some(found) => found.previous.unwrap_or_default(),
                    // It is kept no more, or cannot be read, or is no place of a record: to begin
                    // with the newest once more would tell some of them twice.
                    None => return self.newest_first(filter, Some(after), max),
                }
            }
            _ => card.entry.last_record(),
        };
        let mut page = Page { items: Vec::new(), next: None };
        let (mut read, mut last) = (0, None);
        for found in self.chain(card.entry.identity.key, first) {
            if page.items.len() >= max || read >= self.page_scan_bytes_max {
                page.next = last;
                break;
            }
            let (id, record) = match found {
                Ok(found) => found,
                Err(error) => {
                    // What stands before it is found without it.
                    tracing::error!(%error, "a record of a card's transactions cannot be read");
                    let left = max - page.items.len();
                    let before = self.newest_first(filter, last.or(after), left)?;
                    page.items.extend(before.items);
                    return Ok(Page { next: before.next, ..page });
                }
            };
            (read, last) = (read + ONE_RECORD_BYTES, Some(id));
            let wanted = record.filter(|record| filter.takes(record));
            if after.is_none_or(|after| id < after) {
                page.items.extend(wanted.map(|record| (id, record)));
            }
        }
        Ok(page)
    }

    fn newest_first(
        &self,
        filter: &TransactionFilter,
        after: Option<RecordId>,
        max: usize,
    ) -> Result<Transactions, StoreError> {
        self.journal.flush().map_err(failed)?;
        let end = after.unwrap_or(RecordId(u64::MAX));
        let (mut page, mut read) = (Page { items: Vec::new(), next: None }, 0);
        let mut reached = end;
        // Behind the newest record its segment holds zeros, perhaps very many.
        let newest = self.newest.load(Ordering::Acquire);
        let last = Position::from_u64(end.0.saturating_sub(1).min(newest));
        for info in self.segments_of(filter).into_iter().rev() {
            let blocks = match info.number.cmp(&last.segment) {
                std::cmp::Ordering::Less => blocks::count(&info),
                std::cmp::Ordering::Equal => blocks::holding(&info, last.offset.into()) + 1,
                std::cmp::Ordering::Greater => 0,
            };
            for block in (0..blocks.min(blocks::count(&info))).rev() {
                if read >= self.page_scan_bytes_max {
                    page.next = Some(reached);
                    return Ok(page);
                }
                let mut found = VecDeque::new();
                let mut first = None;
                let visited = self.journal.read_block(&info, block, &mut |_, position, payload| {
                    let id = RecordId(position.to_u64());
                    first = first.or(Some(id));
                    if id < end {
                        found.extend(wanted(filter, payload).map(|record| (id, record)));
                    }
                    // The last of them come first: those before are for later pages.
                    if found.len() > max.saturating_add(1) {
                        found.pop_front();
                    }
                    ControlFlow::Continue(())
                });
                let _: ControlFlow<()> = visited.map_err(unavailable)?;
                let range = blocks::range(&info, block);
                read += range.end - range.start;
                page.items.extend(found.into_iter().rev());
                if page.items.len() > max {
                    return Ok(Page::first(page.items, max));
                }
                reached = first.unwrap_or_else(|| beyond(&info, range.start)).min(reached);
            }
        }
        Ok(page)
    }

    fn oldest_first(
        &self,
        filter: &TransactionFilter,
        after: Option<RecordId>,
        max: usize,
    ) -> Result<Transactions, StoreError> {
        let segments = self.segments_of(filter);
        let mut items = Vec::new();
        let next =
            self.forwards(&segments, after.unwrap_or(RecordId::NONE), &mut |_, at, bytes| {
                let id = RecordId(at.to_u64());
                if after.is_none_or(|after| id > after) {
                    items.extend(wanted(filter, bytes).map(|record| (id, record)));
                }
                if items.len() > max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        Ok(match items.len() > max {
            true => Page::first(items, max),
            false => Page { items, next },
        })
    }

    /// Visits records from about this one on, as many as a page may read; from where it goes on, if
    /// that was not all.
    fn forwards(
        &self,
        segments: &[SegmentInfo],
        from: RecordId,
        visit: &mut VisitRecord<'_>,
    ) -> Result<Option<RecordId>, StoreError> {
        // What is appended later may be found in part.
        let complete = self.journal.appended_through();
        self.journal.flush().map_err(failed)?;
        let from = Position::from_u64(from.0);
        let (mut read, mut reached) = (0, RecordId(from.to_u64()));
        let (mut expected, mut is_all) = (None, false);
        let mut before = None;
        for info in segments.iter().filter(|info| info.number >= from.segment) {
            if before.replace(info.number).is_some_and(|before| before + 1 != info.number) {
                expected = None;
            }
            // A record that lies behind a long one is found from the start of that.
            let offset = u64::from(from.offset).saturating_sub(BEYOND_BYTES);
            let first = if info.number == from.segment { offset } else { 0 };
            for block in blocks::holding(info, first)..blocks::count(info) {
                if read >= self.page_scan_bytes_max {
                    return Ok(Some(reached));
                }
                let range = blocks::range(info, block);
                let visited = self.journal.read_block(info, block, &mut |sequence, at, bytes| {
                    if sequence > complete {
                        is_all = true;
                        return ControlFlow::Break(());
                    }
                    self.miss(expected, sequence, at);
                    expected = Some(sequence.next());
                    reached = reached.max(RecordId(at.to_u64()));
                    visit(sequence, at, bytes)?;
                    // What follows in the newest segment is zeros, perhaps very many.
                    is_all = sequence >= complete;
                    if is_all { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                if visited.map_err(unavailable)?.is_break() {
                    return Ok(Some(reached).filter(|_| !is_all));
                }
                read += range.end - range.start;
                let last = u32::try_from(range.end - 1).unwrap_or(u32::MAX);
                let last = Position { segment: info.number, offset: last };
                reached = reached.max(RecordId(last.to_u64()));
            }
        }
        Ok(None)
    }

    /// Says that records are missing: one that is damaged is passed over, and so is a segment that
    /// is retired meanwhile, of which nothing needs to be said.
    fn miss(&self, expected: Option<Sequence>, found: Sequence, at: Position) {
        let Some(expected) = expected.filter(|expected| *expected < found) else { return };
        let oldest = self.journal.segments().first().map(|oldest| oldest.first);
        if oldest.is_some_and(|oldest| oldest <= expected) {
            let (first, before) = (expected.get(), RecordId(at.to_u64()));
            let records = found.get() - first;
            tracing::error!(first, records, %before, "records of the journal cannot be read");
        }
    }

    /// The segments that may hold what a filter wants, oldest first. The clock may have been set
    /// meanwhile: one is left out only if it begins and ends on the same side of the time.
    fn segments_of(&self, filter: &TransactionFilter) -> Vec<SegmentInfo> {
        let all = self.journal.segments();
        let seconds = |time: Timestamp| u64::try_from(time.seconds()).unwrap_or_default();
        let from = filter.from.map_or(0, seconds);
        let to = filter.to.map_or(u64::MAX, seconds).saturating_add(DECIDED_BEFORE_SECONDS);
        let ends = all.iter().skip(1).map(|next| next.created_unix_seconds).map(Some);
        let times = all.iter().zip(ends.chain([None]));
        let may_hold = |(info, end): &(&SegmentInfo, Option<u64>)| {
            let begin = info.created_unix_seconds;
            let is_before = begin < from && end.is_some_and(|end| end < from);
            let is_after = begin > to && end.is_none_or(|end| end > to);
            !is_before && !is_after
        };
        times.filter(may_hold).map(|(info, _)| *info).collect()
    }

    pub(super) fn events(
        &self,
        after: EventId,
        max: usize,
    ) -> Result<Page<EventId, Told>, StoreError> {
        if max == 0 {
            return Ok(Page { items: Vec::new(), next: Some(after) });
        }
        // What is not on disk could be lost, and its place be taken by something else.
        let synced = self.journal.synced_through();
        let (mut items, mut is_all) = (Vec::new(), false);
        let segments = self.journal.segments();
        let next = self.forwards(&segments, after.record, &mut |sequence, at, bytes| {
            let id = RecordId(at.to_u64());
            if sequence > synced {
                is_all = true;
                return ControlFlow::Break(());
            }
            if id >= after.record {
                items.extend(self.told(id, bytes).into_iter().filter(|(id, _)| *id > after));
            }
            if items.len() > max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if items.len() > max {
            return Ok(Page::first(items, max));
        }
        // Where the newest record cannot be read, zeros were read behind it.
        let newest = RecordId(self.newest.load(Ordering::Acquire));
        let next = next.filter(|next| !is_all && *next <= newest);
        let next = next.map(|record| EventId { record, index: u8::MAX });
        Ok(Page { items, next: next.map(|next| next.max(after)) })
    }

    /// What a record tells.
    fn told(&self, id: RecordId, bytes: &[u8]) -> Vec<(EventId, Told)> {
        let mut told = record::told(id, bytes).unwrap_or_else(|error| {
            tracing::error!(%error, record = %id, "a record that is to be told cannot be read");
            Vec::new()
        });
        let mut cause = None;
        for (_, one) in &mut told {
            match one {
                Told::Transaction(record) => cause = Some((record.masked_pan, &record.network)),
                Told::Event(event, _) => self.complete(event, cause),
            }
        }
        told
    }

    /// An event of an earlier release names its card by its key alone.
    fn complete(&self, event: &mut Event, cause: Option<(MaskedPan, &Arc<str>)>) {
        if !event.card_token.is_empty() {
            return;
        }
        if let Some(card) = self.cards.load(&event.card) {
            event.card_token = card.entry.identity.token.clone();
            // Cards had one plastic then.
            event.expiry = card.state.plastics.first().map(|plastic| plastic.expiry);
        }
        if let Some((masked_pan, network)) = cause {
            (event.masked_pan, event.actor) = (masked_pan, Actor::network(network));
        }
    }
}

/// Where the record before stands in the history of this card. One record may be of two cards.
fn previous(card: CardKey, parts: &[Part]) -> u64 {
    let link = parts.iter().find_map(|part| match part {
        Part::Transaction(transaction) => transaction.previous,
        Part::CardHistory(link) if link.card == card => Some(link.previous),
        _ => None,
    });
    link.unwrap_or_default()
}

/// Where records of the block before one that begins here cannot reach.
fn beyond(info: &SegmentInfo, start: u64) -> RecordId {
    let offset = u32::try_from(start + BEYOND_BYTES).unwrap_or(u32::MAX);
    RecordId(Position { segment: info.number, offset }.to_u64())
}

/// The transaction of a record, if it is wanted.
fn wanted(filter: &TransactionFilter, bytes: &[u8]) -> Option<TransactionRecord> {
    let mut found = None;
    let read = record::read_entry(bytes, Reads::History, |part| {
        if let Part::Transaction(transaction) = part {
            found = Some(transaction.record.into_owned());
        }
    });
    if let Err(error) = read {
        tracing::error!(%error, "a record that is wanted cannot be read");
    }
    found.filter(|record| filter.takes(record))
}

/// The only one of these that is sought. Requests that differ in DE37 alone are one: all of them
/// are reversed where it does not count.
fn only(
    network: &str,
    (sought, newest): (&Sought, RecordId),
    records: impl Iterator<Item = Result<TransactionRecord, StoreError>>,
) -> Result<Found, StoreError> {
    let mut found: Option<TransactionRecord> = None;
    for record in records {
        let record = record?;
        if !record.is(network, sought) {
            continue;
        }
        let digest = record.duplicate_key.digest;
        match &found {
            Some(known) if known.duplicate_key.digest != digest => return Ok(Found::Several),
            Some(_) => {}
            None => found = Some(record),
        }
    }
    Ok(found.map_or(Found::Nothing(newest), |record| Found::One(record.into())))
}
