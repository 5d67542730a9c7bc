//! What is read back in pages: events and transactions in their order, however they lie in the
//! journal; and documents.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::EmbeddedStore;
use super::journal::Retention;
use super::store_tests::{
    SetClock, add, count, decline, event, new_card, open, options, take_snapshot, transaction,
};
use crate::authorization::Reason;
use crate::cache::Card;
use crate::cards::CardKey;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::hsm::software::PanVault;
use crate::store::document::{DocumentChange, DocumentKind};
use crate::store::page::{Order, TransactionFilter};
use crate::store::readers::{READERS_MAX, ReaderError, ReaderName};
use crate::store::record::{EventId, RecordId, Told};
use crate::store::{
    Addition, Changed, Commit, CommitError, Events, Limit, NotDone, OtherCard, Removal, Store,
};

fn vault() -> PanVault {
    PanVault::new(&[1; 32], &[2; 32]).unwrap()
}

pub(super) fn write(token: &str, read: u64, length: usize) -> DocumentChange {
    let json = vec![b'7'; length];
    DocumentChange::write(&vault().documents, (DocumentKind::User, token), read, &json).unwrap()
}

/// All that is on disk, once that is all there is.
async fn all_events(store: &EmbeddedStore, max: usize) -> Vec<(EventId, Told)> {
    store.shared.journal.synced(store.shared.journal.appended_through()).await.unwrap();
    let (mut after, mut all) = (EventId::NONE, Vec::new());
    loop {
        let page = store.events(after, max).await.unwrap();
        assert!(page.items.len() <= max);
        all.extend(page.items);
        match page.next {
            Some(next) => after = next,
            None => return all,
        }
    }
}

/// Numbers of transactions, page after page.
async fn amounts(store: &EmbeddedStore, filter: &TransactionFilter, max: usize) -> Vec<u64> {
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let page = store.transactions(filter.clone(), after, max).await.unwrap();
        assert!(page.items.len() <= max);
        all.extend(page.items.iter().map(|(_, record)| record.amount.minor_units));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// Many small records, a few that are longer than a block's sectors, over several segments.
async fn fill(store: &EmbeddedStore, transactions: u64) {
    add(store, new_card(1)).await.unwrap();
    for number in 0..transactions {
        decline(store, number).await;
        if number % 97 == 0 {
            let documents = (0..3).map(|part| write(&format!("{number}-{part}"), 0, 3_000));
            let commit = Commit { documents: documents.collect(), ..Commit::default() };
            store.commit(commit, &mut None).await.unwrap();
        }
        if number % 50 == 0 {
            count(store, 1).await;
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_hold_everything_once_and_in_order() {
    const TRANSACTIONS: u64 = 1_500;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    fill(&store, TRANSACTIONS).await;
    assert!(store.shared.journal.segments().len() > 4);
    let all = TransactionFilter::default();
    let oldest_first = TransactionFilter { order: Order::OldestFirst, ..all.clone() };
    let expected: Vec<u64> = (0..TRANSACTIONS).collect();
    let reversed: Vec<u64> = expected.iter().rev().copied().collect();
    let of_card = TransactionFilter::of_card(CardKey([1; 16]));
    for max in [1, 7, 100, 10_000] {
        assert_eq!(amounts(&store, &all, max).await, reversed, "{max}");
        assert_eq!(amounts(&store, &oldest_first, max).await, expected, "{max}");
        assert_eq!(amounts(&store, &of_card, max).await, reversed, "{max}");
        let told = all_events(&store, max).await;
        let ids: BTreeSet<EventId> = told.iter().map(|(id, _)| *id).collect();
        assert!(ids.len() == told.len() && told.is_sorted_by_key(|(id, _)| *id));
        let amounts = told.iter().filter_map(|(_, told)| match told {
            Told::Transaction(record) => Some(record.amount.minor_units),
            Told::Event(..) => None,
        });
        assert_eq!(amounts.collect::<Vec<_>>(), expected, "{max}");
        assert_eq!(told.len() as u64, TRANSACTIONS + TRANSACTIONS / 50);
    }
    let none = TransactionFilter { code: Some(Reason::Approved), ..all.clone() };
    assert!(amounts(&store, &none, 10).await.is_empty());
    let other = TransactionFilter { network: Some("other".into()), ..all.clone() };
    assert!(amounts(&store, &other, 10).await.is_empty());
    let later = TransactionFilter { from: Some(SystemClock.now()), ..all.clone() };
    assert!(amounts(&store, &later, 10).await.is_empty());
    let earlier = TransactionFilter { to: Some(SystemClock.now()), ..all };
    assert_eq!(amounts(&store, &earlier, 1_000).await, reversed);
    let some = store.transactions(of_card, Some(RecordId(u64::MAX)), 2).await.unwrap();
    assert_eq!(some.items.len(), 2);
}

/// The newest segment is mostly empty: it costs no page anything.
#[tokio::test]
async fn what_was_never_written_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut large = options(directory.path());
    large.config.segment_bytes = 32 << 20;
    let (store, _) = EmbeddedStore::open(&large, true).unwrap();
    fill(&store, 20).await;
    let newest = store.transactions(TransactionFilter::default(), None, 30).await.unwrap();
    assert_eq!((newest.items.len(), newest.next), (20, None));
    store.shared.journal.synced(store.shared.journal.appended_through()).await.unwrap();
    let events = store.events(EventId::NONE, 30).await.unwrap();
    assert_eq!((events.items.len(), events.next), (21, None));
    let last = events.items.last().unwrap().0;
    let none = store.events(last, 30).await.unwrap();
    assert!(none.items.is_empty() && none.next.is_none());
}

/// Of a card that is removed, its transactions stay.
#[tokio::test]
async fn the_transactions_of_a_removed_card_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    fill(&store, 60).await;
    let card = store.load(&CardKey([1; 16])).await.unwrap().unwrap();
    assert_eq!(store.remove_cards(vec![card.into()]).await, Ok(vec![Ok(())]));
    let of_card = TransactionFilter::of_card(CardKey([1; 16]));
    assert_eq!(amounts(&store, &of_card, 10).await, (0..60).rev().collect::<Vec<_>>());
    let of_other = TransactionFilter::of_card(CardKey([2; 16]));
    assert!(amounts(&store, &of_other, 10).await.is_empty());
}

/// A card that is added in place of another, and the other, change in one record or not at all; and
/// each has its own history.
#[tokio::test]
async fn another_card_changes_in_the_same_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    count(&store, 1).await;
    let load = async |store: &EmbeddedStore, number| {
        store.load(&CardKey([number; 16])).await.unwrap().unwrap()
    };
    let stale = load(&store, 1).await;
    count(&store, 1).await;
    let other = |card: &Card, tries| {
        let state = card.state.with_tries(tries);
        let events = Events::from_iter([event(card, &state)]);
        (Some(Box::new(OtherCard { card: card.clone(), state })), events)
    };
    let addition = |card: &Card| {
        let (other, events) = other(card, 7);
        Addition { other, events, ..Addition::from(new_card(2)) }
    };
    let changed = Err(Changed::Card.into());
    assert_eq!(store.add_cards(vec![addition(&stale)]).await, Ok(vec![changed]));
    assert!(store.load(&CardKey([2; 16])).await.unwrap().is_none());
    let first = load(&store, 1).await;
    assert_eq!(store.add_cards(vec![addition(&first)]).await, Ok(vec![Ok(())]));

    count(&store, 2).await;
    let second = load(&store, 2).await;
    let commit = |card: &Card| {
        let (other, events) = other(card, 8);
        let state = second.state.with_tries(9);
        let events = [event(&second, &state)].into_iter().chain(events).collect();
        Commit { other, events, ..Commit::by_issuer(&second, state) }
    };
    let refused = store.commit(commit(&first), &mut None).await;
    assert_eq!(refused, Err(Changed::Card.into()));
    let first = load(&store, 1).await;
    store.commit(commit(&first), &mut None).await.unwrap();
    for _ in 0..2 {
        let tries = [(1, vec![8, 7, 2, 1]), (2, vec![9, 1])];
        for (number, wanted) in tries {
            let card = load(&store, number).await;
            assert_eq!(i64::from(card.state.pin.tries), wanted[0], "{number}");
            let events = store.card_events(&card, None, 10).await.unwrap().items;
            let times: Vec<_> = events.iter().map(|(_, event)| event.time.seconds()).collect();
            assert_eq!(times, wanted, "{number}");
        }
        drop(store);
        store = open(directory.path(), false);
    }
}

/// Transactions and changes by the issuer are links of one history.
#[tokio::test]
async fn the_events_of_a_card_are_found_among_its_transactions() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path(), true);
    fill(&store, 200).await;
    add(&store, new_card(2)).await.unwrap();
    count(&store, 2).await;
    for snapshots in 0..3 {
        let card = store.load(&CardKey([1; 16])).await.unwrap().unwrap();
        let (mut after, mut times) = (None, Vec::new());
        loop {
            let page = store.card_events(&card, after, 3).await.unwrap();
            assert!(page.items.len() <= 3);
            times.extend(page.items.iter().map(|(_, event)| event.time.seconds()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(times, [4, 3, 2, 1], "after {snapshots} snapshots");
        let filter = TransactionFilter::of_card(card.entry.identity.key);
        let wanted: Vec<_> = (0..200).rev().collect();
        assert_eq!(amounts(&store, &filter, 7).await, wanted);
        // The last record of its history, an event, is known again after a start, with or without a
        // snapshot.
        if snapshots == 1 {
            take_snapshot(&store, directory.path());
        }
        drop(store);
        store = open(directory.path(), false);
    }
}

#[tokio::test]
async fn cards_come_in_the_order_of_their_keys() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    for number in [5, 3, 9, 1, 7] {
        add(&store, new_card(number)).await.unwrap();
    }
    let page = |after: Option<u8>, max| {
        let after = after.map(|number| CardKey([number; 16]));
        let store = &store;
        async move {
            let page = Store::cards(store, after, max).await.unwrap();
            let numbers = page.items.iter().map(|(key, _)| key.0[0]).collect::<Vec<_>>();
            (numbers, page.next.map(|key| key.0[0]))
        }
    };
    assert_eq!(page(None, 2).await, (vec![1, 3], Some(3)));
    assert_eq!(page(Some(3), 2).await, (vec![5, 7], Some(7)));
    assert_eq!(page(Some(7), 2).await, (vec![9], None));
    assert_eq!(page(Some(4), 10).await, (vec![5, 7, 9], None));
}

fn reader(name: &str) -> ReaderName {
    ReaderName::new(name).unwrap()
}

#[tokio::test]
async fn acknowledgements_survive_and_are_only_of_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    fill(&store, 3).await;
    let told = all_events(&store, 100).await;
    let last = told.last().unwrap().0;
    let future = EventId { record: RecordId(last.record.0 + (1 << 32)), index: 0 };
    let refused = store.acknowledge(&reader("one"), future).await;
    assert_eq!(refused, Err(ReaderError::NotThere(future)));
    assert_eq!(store.events(future, 9).await, Err(ReaderError::NotThere(future)));
    assert_eq!(store.shared.readers.slowest(), None);
    // The second call waits for what the first has written.
    store.shared.append_acknowledgement(&reader("one"), last).unwrap();
    store.acknowledge(&reader("one"), last).await.unwrap();
    let journal = &store.shared.journal;
    assert_eq!(journal.synced_through(), journal.appended_through());
    let appended = store.shared.journal.appended_through();
    store.acknowledge(&reader("one"), told[0].0).await.unwrap();
    assert_eq!(store.shared.journal.appended_through(), appended, "going back writes nothing");
    for number in 1..READERS_MAX {
        store.acknowledge(&reader(&number.to_string()), told[1].0).await.unwrap();
    }
    let refused = store.acknowledge(&reader("more"), last).await;
    assert_eq!(refused, Err(ReaderError::TooMany));
    store.forget_reader(&reader("1")).await.unwrap();
    store.acknowledge(&reader("more"), last).await.unwrap();
    let expected = store.shared.readers.all();
    take_snapshot(&store, directory.path());
    store.close().unwrap();
    drop(store);
    let store = open(directory.path(), false);
    assert_eq!(store.shared.readers.all(), expected);
    assert_eq!(all_events(&store, 100).await, told);
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(options(directory.path()).snapshots()).unwrap();
    assert_eq!(open(directory.path(), false).shared.readers.all(), expected);
}

/// What a reader does not acknowledge stays as far as there is room, and is counted where it goes;
/// the reader goes on with the oldest that is left.
#[tokio::test]
async fn a_reader_that_never_acknowledges_fills_no_disk() {
    const SEGMENT_BYTES: u64 = 64 << 10;
    let directory = tempfile::tempdir().unwrap();
    let dropped = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&dropped);
    let mut options = options(directory.path());
    options.unread_observer = Arc::new(move |unread| {
        counted.fetch_add(unread, Relaxed);
    });
    let config = &mut options.config;
    (config.snapshot_bytes, config.retention_bytes) = (SEGMENT_BYTES, 2 * SEGMENT_BYTES);
    config.unread_bytes_max = 3 * SEGMENT_BYTES;
    let (store, _) = EmbeddedStore::open(&options, true).unwrap();
    fill(&store, 10).await;
    let first = all_events(&store, 10).await[0].0;
    store.acknowledge(&reader("slow"), first).await.unwrap();
    let (mut number, mut most) = (10, 0);
    let segments = || store.shared.journal.segments();
    while dropped.load(Relaxed) == 0 || segments().len() > 6 {
        assert!(number < 20_000, "nothing is dropped, or too little");
        for _ in 0..100 {
            decline(&store, number).await;
            number += 1;
        }
        most = most.max(segments().len());
        // Less than a segment from one snapshot to the next: what is behind both may go.
        let is_full = dropped.load(Relaxed) > 0;
        let pause = if is_full { 1_100 } else { 100 };
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
    }
    assert!(most > 5, "{most}");
    store.snapshots.stop();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let page = store.events(first, 10).await.unwrap();
    assert_eq!(page.items[0].0.record.0 >> 32, u64::from(segments()[0].number));
    let left = all_events(&store, 1_000).await.len() as u64;
    // One event beside the transactions; the first of all was acknowledged.
    assert_eq!(dropped.load(Relaxed) + left, number + 1 - 1);
}

fn documents(store: &EmbeddedStore) -> Vec<(String, u64)> {
    let all = store.shared.documents.page_of_all(DocumentKind::User, None, 1_000);
    all.iter().map(|document| (document.token.to_string(), document.version)).collect()
}

async fn commit(store: &EmbeddedStore, change: DocumentChange) -> Result<(), CommitError> {
    let commit = Commit { documents: vec![change], ..Commit::default() };
    store.commit(commit, &mut None).await.map(drop)
}

async fn version(store: &EmbeddedStore, token: &str) -> u64 {
    store.document(DocumentKind::User, token).await.unwrap().unwrap().version
}

#[tokio::test]
async fn documents_are_conditional_and_are_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    commit(&store, write("a", 0, 10)).await.unwrap();
    let changed = || Changed::Document(DocumentKind::User, "a".into());
    assert_eq!(commit(&store, write("a", 0, 10)).await, Err(changed().into()));
    let first = version(&store, "a").await;
    commit(&store, write("a", first, 20)).await.unwrap();
    assert_eq!(commit(&store, write("a", first, 10)).await, Err(changed().into()));
    let document = store.document(DocumentKind::User, "a").await.unwrap().unwrap();
    assert_eq!(document.json(&vault().documents).unwrap().len(), 20);
    assert_eq!(commit(&store, write("b", 0, 5_000)).await, Err(Limit::Document.into()));
    for length in [0, 129, 300] {
        let token = "x".repeat(length);
        assert_eq!(commit(&store, write(&token, 0, 10)).await, Err(Limit::Token.into()));
    }
    commit(&store, DocumentChange::remove(&document)).await.unwrap();
    // Whoever read an earlier one does not overwrite what came after its removal.
    commit(&store, write("a", 0, 30)).await.unwrap();
    assert_eq!(commit(&store, write("a", document.version, 10)).await, Err(changed().into()));
    take_snapshot(&store, directory.path());
    commit(&store, write("c", 0, 30)).await.unwrap();
    let a = store.document(DocumentKind::User, "a").await.unwrap().unwrap();
    commit(&store, DocumentChange::remove(&a)).await.unwrap();
    let many = (0..6).map(|number| write(&number.to_string(), 0, 4_000)).collect();
    let too_long = Commit { documents: many, ..Commit::default() };
    assert_eq!(store.commit(too_long, &mut None).await, Err(Limit::Record.into()));
    let expected = documents(&store);
    assert_eq!(expected.len(), 1);
    store.close().unwrap();
    drop(store);
    let store = open(directory.path(), false);
    assert_eq!(documents(&store), expected);
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(options(directory.path()).snapshots()).unwrap();
    assert_eq!(documents(&open(directory.path(), false)), expected);
}

/// A card, its transaction, its documents and its events are one record.
#[tokio::test]
async fn all_of_a_commit_is_kept_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    commit(&store, write("taken", 0, 10)).await.unwrap();
    let addition = |token: &str| {
        let documents = vec![write(token, 0, 10)];
        Addition { documents, ..Addition::from(new_card(1)) }
    };
    let taken: NotDone = Changed::Document(DocumentKind::User, "taken".into()).into();
    assert_eq!(store.add_cards(vec![addition("taken")]).await, Ok(vec![Err(taken.clone())]));
    assert!(store.load(&CardKey([1; 16])).await.unwrap().is_none());
    assert_eq!(store.add_cards(vec![addition("of-card-1")]).await, Ok(vec![Ok(())]));
    let card = store.load(&CardKey([1; 16])).await.unwrap().unwrap();
    let after = card.state.with_tries(1);
    let events = || Events::from_iter([event(&card, &after), event(&card, &after)]);
    let record = transaction(7, Timestamp::from_seconds(7));
    let change = |documents| Commit {
        card: Some(&card),
        change: Some(after.clone()),
        transaction: Some(&record),
        other: None,
        events: events(),
        documents,
        product: None,
        reverses: None,
    };
    let refused = store.commit(change(vec![write("taken", 0, 10)]), &mut None).await;
    assert!(matches!(refused, Err(CommitError::Changed(Changed::Document(..)))));
    assert_eq!(store.load(&CardKey([1; 16])).await.unwrap().unwrap().state.pin.tries, 0);
    assert!(all_events(&store, 9).await.is_empty());
    let id = store.commit(change(vec![write("new", 0, 10)]), &mut None).await.unwrap();
    let told = all_events(&store, 9).await;
    let at = |index| EventId { record: id, index };
    assert_eq!(told.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [at(0), at(1), at(2)]);
    assert!(matches!(&told[1].1, Told::Event(told, Some(cause)) if *cause == id
        && told.card_token == "card-1" && told.before.is_some()));
    assert_eq!(version(&store, "of-card-1").await, 2);
    let current = store.load(&CardKey([1; 16])).await.unwrap().unwrap();
    let removal = |documents| Removal { documents, events: events(), card: current.clone() };
    let removed = store.remove_cards(vec![removal(vec![write("taken", 0, 1)])]).await;
    assert_eq!(removed, Ok(vec![Err(taken)]));
    assert_eq!(store.remove_cards(vec![removal(Vec::new())]).await, Ok(vec![Ok(())]));
    assert_eq!(all_events(&store, 9).await.len(), 5);
}

/// Documents whose time is over go by themselves, once the clock is believed.
#[tokio::test]
async fn documents_go_when_their_time_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    let soon = SystemClock.now().shifted(300_000);
    for number in 0..150 {
        commit(&store, write(&number.to_string(), 0, 10).until(soon)).await.unwrap();
    }
    commit(&store, write("stays", 0, 10)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(310)).await;
    assert!(store.document(DocumentKind::User, "7").await.unwrap().is_none());
    let shared = Arc::clone(&store.shared);
    tokio::task::spawn_blocking(move || shared.sweep_documents()).await.unwrap().unwrap();
    assert_eq!(documents(&store).len(), 1);
    store.close().unwrap();
    drop(store);
    assert_eq!(documents(&open(directory.path(), false)).len(), 1);
}

/// A document that is read is on disk: what rests on it is answered at once.
#[tokio::test]
async fn a_document_that_is_read_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    let written = || store.shared.journal.appended_through();
    for token in ["a", "b"] {
        let commit = Commit { documents: vec![write(token, 0, 10)], ..Commit::default() };
        store.shared.append_commit(commit, &mut None).unwrap();
        match token {
            "a" => drop(store.document(DocumentKind::User, token).await.unwrap()),
            _ => drop(store.documents(DocumentKind::User, None, 9).await.unwrap()),
        }
        assert_eq!(store.shared.journal.synced_through(), written());
    }
}

/// While the clock is not believed, no document is over, whatever the clock says.
#[tokio::test]
async fn documents_outlive_a_clock_that_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock::default());
    let mut options = options(directory.path());
    options.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let (store, _) = EmbeddedStore::open(&options, true).unwrap();
    commit(&store, write("a", 0, 10).until(Timestamp::from_seconds(1_000))).await.unwrap();
    let first = version(&store, "a").await;
    store.shared.settled.doubt(&*clock);
    clock.0.store(2_000, Relaxed);
    assert_eq!(version(&store, "a").await, first);
    let page = Store::documents(&store, DocumentKind::User, None, 9).await.unwrap();
    assert_eq!((page.items.len(), store.documents_of(DocumentKind::User).len()), (1, 1));
    assert!(commit(&store, write("a", 0, 10)).await.is_err());
    // An hour after the doubt.
    clock.0.store(4_000, Relaxed);
    assert!(store.document(DocumentKind::User, "a").await.unwrap().is_none());
    assert_eq!(commit(&store, write("a", 0, 10)).await, Ok(()));
}

/// A page that is damaged since it was written costs no reader the others.
#[tokio::test]
async fn a_damaged_record_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    fill(&store, 30).await;
    let told = all_events(&store, 100).await;
    spoil(&options(directory.path()).journal(), told[10].0.record);
    let left = all_events(&store, 100).await;
    assert!(!left.is_empty() && left.len() < told.len());
    assert!(left.iter().all(|one| told.contains(one)));
    assert_eq!(left.last(), told.last());
    // A card's records lead from one to the other, so that only the damaged one is missing.
    let amount = |(_, told): &(EventId, Told)| match told {
        Told::Transaction(record) => Some(record.amount.minor_units),
        Told::Event(..) => None,
    };
    let damaged = amount(&told[10]);
    let expected: Vec<u64> = (0..30).rev().filter(|number| Some(*number) != damaged).collect();
    assert_eq!(expected.len(), 29);
    let of_card = TransactionFilter::of_card(CardKey([1; 16]));
    for max in [1, 2, 7, 100] {
        assert_eq!(amounts(&store, &of_card, max).await, expected, "{max}");
    }
}

/// Whoever reads so slowly that the place of the last page is kept no more has read all there is.
#[tokio::test]
async fn a_page_behind_what_is_kept_no_more_is_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.config.page_scan_bytes_max = 40_960;
    let (store, _) = EmbeddedStore::open(&options, true).unwrap();
    fill(&store, 1_000).await;
    let of_card = TransactionFilter::of_card(CardKey([1; 16]));
    let oldest = TransactionFilter { order: Order::OldestFirst, ..TransactionFilter::default() };
    let first = store.transactions(oldest, None, 5).await.unwrap();
    retire_all(&store).await;
    let after = first.items.last().map(|(id, _)| *id);
    let page = store.transactions(of_card, after, 100).await.unwrap();
    assert_eq!((page.items, page.next), (Vec::new(), None));
}

/// All segments but the newest go.
async fn retire_all(store: &EmbeddedStore) {
    let journal = &store.shared.journal;
    for _ in 0..500 {
        journal.retire(Retention::of_everything()).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        if journal.segments().len() == 1 {
            return;
        }
    }
    panic!("segments stay");
}

fn spoil(journal: &Path, record: RecordId) {
    let path = journal.join(format!("{:010}.journal", record.0 >> 32));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[usize::try_from(record.0 & 0xFFFF_FFFF).unwrap() + 40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}
