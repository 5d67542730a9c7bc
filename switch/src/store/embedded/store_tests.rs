//! The store with cards in it: what is answered for is there again, from the journal alone and
//! from a snapshot taken while cards changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use iso_specs::Mti;

use super::page_tests::write;
use super::snapshot::SnapshotWriter;
use super::types::{Position, Sequence};
use super::{EmbeddedStore, OpenOptions, snapshots};
use crate::authorization::trail::Trail;
use crate::authorization::{Answer, Money, Product, Reason};
use crate::cache::Card;
use crate::cache::{NewCard, Products, Taken};
use crate::cards::card::CardIdentity;
use crate::cards::{CardKey, CardState, Expiry, MaskedPan, Plastic, SealedPan};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{ClockBehind, StoreConfig, SyncMode};
use crate::event::{Actor, EventKind};
use crate::store::document::{DocumentChange, DocumentKind};
use crate::store::duplicates::{MessageKind, Trace};
use crate::store::embedded::segment::SECTOR_BYTES;
use crate::store::embedded::test_support::scratch;
use crate::store::page::TransactionFilter;
use crate::store::readers::ReaderName;
use crate::store::record::{
    self, Event, EventId, Part, Reads, RecordId, Subject, TransactionRecord,
};
use crate::store::{
    Asked, BodyDigest, Changed, Claimed, Commit, CommitError, DuplicateKey, Events, Named, NotDone,
    Original, Reversal, Store,
};

const CARDS: u8 = 40;

fn products() -> Arc<Products> {
    let bins = vec!["476134".into()];
    let debit = Product { version: 1, bins, currency: 978, ..Product::unknown("debit") };
    Arc::new(Products::new([debit]))
}

pub(super) fn options(data_dir: &Path) -> OpenOptions {
    OpenOptions {
        data_dir: data_dir.to_owned(),
        config: StoreConfig {
            sync: SyncMode::State,
            segment_bytes: 64 << 10,
            snapshot_bytes: u64::MAX,
            retention_days: 7,
            retention_bytes: u64::MAX,
            unread_bytes_max: 0,
            page_scan_bytes_max: 1 << 20,
            document_bytes_max: 4_096,
            documents_bytes_max: 1 << 20,
            duplicate_index_bytes_max: 1 << 20,
            clock_settle_seconds: Duration::from_secs(3_600),
            clock_behind: ClockBehind::Warn,
            witness: None,
            accept_older_data: false,
        },
        products: products(),
        networks: vec!["net".into()],
        clock: Arc::new(SystemClock),
        monotonic: || SystemClock.monotonic(),
        sync_observer: Arc::new(|_, _| ()),
        unread_observer: Arc::new(|_| ()),
    }
}

pub(super) fn new_card(number: u8) -> NewCard {
    let plastic = Plastic::new(Expiry::parse(b"2912").unwrap(), 1);
    let identity = CardIdentity {
        key: CardKey([number; 16]),
        token: format!("card-{number}").into(),
        sealed_pan: SealedPan([number; SealedPan::BYTES]),
    };
    NewCard { identity, product: products().entry("debit"), state: CardState::new(plastic) }
}

pub(super) async fn add(store: &EmbeddedStore, card: NewCard) -> Result<(), NotDone> {
    store.add_cards(vec![card.into()]).await.unwrap().pop().unwrap()
}

/// An event that tells the count of wrong PINs by its time.
pub(super) fn event(card: &Card, after: &CardState) -> Event {
    let who = (Timestamp::from_seconds(after.pin.tries.into()), Actor::network("net"));
    let of = Subject { identity: &card.entry.identity, masked_pan: MaskedPan::NONE, plastic: 0 };
    Event::of_card(EventKind::StateSuspended, who, of, Some(&card.state), Some(after))
}

/// One more wrong PIN; the new count.
pub(super) async fn count(store: &EmbeddedStore, number: u8) -> u32 {
    loop {
        let card = store.load(&CardKey([number; 16])).await.unwrap().unwrap();
        let tries = card.state.pin.tries + 1;
        let after = card.state.with_tries(tries);
        let events = Events::from_iter([event(&card, &after)]);
        let commit = Commit { events, ..Commit::by_issuer(&card, after) };
        match store.commit(commit, &mut None).await {
            Ok(_) => return tries,
            Err(CommitError::Changed(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) fn states(store: &EmbeddedStore) -> BTreeMap<String, CardState> {
    let entries = store.shared.cards.entries();
    entries
        .iter()
        .map(|entry| (entry.identity.token.to_string(), CardState::clone(&entry.state())))
        .collect()
}

pub(super) fn open(data_dir: &Path, create_new: bool) -> EmbeddedStore {
    EmbeddedStore::open(&options(data_dir), create_new).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_under_load_is_as_good_as_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(directory.path(), true));
    for number in 0..CARDS {
        add(&store, new_card(number)).await.unwrap();
    }
    let load = |half: u8, adds: bool| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for round in 0..50_u8 {
                for number in (half..CARDS).step_by(2) {
                    count(&store, number).await;
                }
                if adds {
                    add(&store, new_card(CARDS + 2 * round + half)).await.unwrap();
                    change_document_and_reader(&store, round, half).await;
                }
            }
        })
    };
    let loads = [load(0, true), load(1, true), load(0, false)];
    let shared = Arc::clone(&store.shared);
    let path = options(directory.path()).snapshots();
    let taking = tokio::task::spawn_blocking(move || {
        for _ in 0..5 {
            snapshots::take(&shared, &path).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    for load in loads {
        load.await.unwrap();
    }
    taking.await.unwrap();
    let all = |store: &EmbeddedStore| {
        let documents = store.documents_of(DocumentKind::User);
        (states(store), documents, store.shared.readers.all())
    };
    let expected = all(&store);
    assert_eq!((expected.1.len(), expected.2.len()), (52, 2));
    Arc::into_inner(store).unwrap().close().unwrap();

    let from_snapshot = open(directory.path(), false);
    assert_eq!(all(&from_snapshot), expected);
    drop(from_snapshot);
    std::fs::remove_dir_all(options(directory.path()).snapshots()).unwrap();
    let from_journal = open(directory.path(), false);
    assert_eq!(all(&from_journal), expected);
}

/// Every second document is removed a round later, one is changed in each round, and the reader
/// comes a step further.
async fn change_document_and_reader(store: &EmbeddedStore, round: u8, half: u8) {
    let read = |token: &str| store.document_of(DocumentKind::User, token);
    let kept = format!("kept-{half}");
    let version = read(&kept).map_or(0, |document| document.version);
    let before = round.checked_sub(1).filter(|before| before % 2 == 0);
    let before = before.and_then(|before| read(&format!("{before}-{half}")));
    let changes = [write(&format!("{round}-{half}"), 0, 20), write(&kept, version, 30)];
    let documents = changes.into_iter().chain(before.iter().map(|it| DocumentChange::remove(it)));
    let commit = Commit { documents: documents.collect(), ..Commit::default() };
    let record = store.commit(commit, &mut None).await.unwrap();
    let reader = ReaderName::new(&format!("reader-{half}")).unwrap();
    store.acknowledge(&reader, EventId { record, index: 0 }).await.unwrap();
}

#[tokio::test]
async fn a_commit_is_conditional_and_one_record_holds_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    assert_eq!(add(&store, new_card(1)).await, Err(Taken::Pan.into()));
    let stale = store.load_by_token("card-1").await.unwrap().unwrap();
    assert_eq!(count(&store, 1).await, 1);
    let commit = Commit::by_issuer(&stale, stale.state.with_tries(9));
    assert_eq!(store.commit(commit, &mut None).await, Err(Changed::Card.into()));
    let current = store.load_by_token("card-1").await.unwrap().unwrap();
    assert_eq!(current.state.pin.tries, 1);

    // Each was answered for, so each is in a sector of its own, behind that of the header.
    let offset = 2 * u32::try_from(SECTOR_BYTES).unwrap();
    let position = Position { segment: 1, offset };
    let (sequence, payload) = store.shared.journal.read(position).unwrap();
    assert_eq!(sequence.get(), 2);
    let mut parts = Vec::new();
    record::read_entry(&payload, Reads::State, |part| parts.push(part)).unwrap();
    let is_whole =
        matches!(&parts[..], [Part::CardChanged(..), Part::Event(_), Part::CardHistory(_)]);
    assert!(is_whole, "{parts:?}");
}

/// DE7 of all requests.
const SENT: &[u8; 10] = b"1121120000";

/// DE11.
fn stan(number: u64) -> [u8; 6] {
    format!("{number:06}").as_bytes().try_into().unwrap()
}

fn key(number: u64) -> DuplicateKey {
    let (kind, trace) = (MessageKind::of(*b"0100"), Trace::of(SENT, &stan(number)));
    DuplicateKey { digest: number.into(), trace, rrn: 0, kind }
}

/// With others that no reversal speaks of.
fn alone(key: DuplicateKey, body: u64) -> Asked<impl Fn() -> [DuplicateKey; 3] + Send> {
    let parts = move || [DuplicateKey { digest: u128::MAX, ..key }; 3];
    Asked { key, body: BodyDigest(body), rrn: None, parts }
}

pub(super) fn transaction(number: u64, time: Timestamp) -> TransactionRecord {
    TransactionRecord {
        time,
        card: CardKey([1; 16]),
        plastic: None,
        masked_pan: MaskedPan::from_bytes(*b"4761340019"),
        network: "net".into(),
        mti: Mti::AUTHORIZATION_REQUEST,
        processing_code: *b"000000",
        amount: Money { minor_units: number, currency: 978 },
        transmission_time: *SENT,
        stan: stan(number),
        acquirer: [0; 11],
        rrn: None,
        answer: Answer::new(Reason::InvalidPin),
        verification: None,
        cryptogram: None,
        trail: Trail::new(),
        is_kept: true,
        duplicate_key: key(number),
        body: BodyDigest(number),
    }
}

pub(super) async fn decline(store: &EmbeddedStore, number: u64) {
    let Ok(Claimed::First(claim)) = store.claim("net", alone(key(number), number)).await else {
        panic!("{number}")
    };
    let card = store.load_by_token("card-1").await.unwrap().unwrap();
    let record = transaction(number, SystemClock.now());
    let commit = Commit { card: Some(&card), transaction: Some(&record), ..Commit::default() };
    let mut claim = Some(claim);
    store.commit(commit, &mut claim).await.unwrap();
    assert!(claim.is_none(), "the answer is kept");
}

fn reversal(number: u64, is_known: bool) -> Reversal {
    let DuplicateKey { digest, kind, .. } = key(number);
    let original = Original { digest, kind: Some(kind), rrn: None };
    Reversal::Whole(Named { original, trace: key(number).trace }, is_known)
}

fn named_by(reversal: Reversal) -> Named {
    let Reversal::Whole(named, _) = reversal else { panic!("{reversal:?}") };
    named
}

/// Commits the record of a reversal, with a key that nobody else has.
async fn reverse(
    store: &EmbeddedStore,
    number: u64,
    reverses: Reversal,
) -> Result<RecordId, CommitError> {
    let key = DuplicateKey { kind: MessageKind::of(*b"0400"), ..key(number) };
    let record = TransactionRecord { duplicate_key: key, ..transaction(0, SystemClock.now()) };
    let (transaction, reverses) = (Some(&record), Some(&reverses));
    store.commit(Commit { transaction, reverses, ..Commit::default() }, &mut None).await
}

/// Between the question whether the original is known and the commit, the original may come.
#[tokio::test]
async fn a_reversal_is_conditional_on_what_is_known_of_its_original() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    let unknown = reversal(1, false);
    assert!(!store.knows("net", named_by(unknown)).await.unwrap());
    let Ok(Claimed::First(claim)) = store.claim("net", alone(key(1), 1)).await else { panic!() };
    let changed = reverse(&store, 1, unknown).await;
    assert_eq!(changed, Err(Changed::Original.into()), "it is being answered");
    drop(claim);
    decline(&store, 1).await;
    assert_eq!(reverse(&store, 1, unknown).await, Err(Changed::Original.into()), "it was answered");
    assert!(store.knows("net", named_by(unknown)).await.unwrap());
    reverse(&store, 1, reversal(1, true)).await.unwrap();
    let claimed = store.claim("net", alone(key(1), 1)).await.unwrap();
    assert!(matches!(claimed, Claimed::Conflict));
}

/// Reversals of before the newest snapshot, of known and of unknown originals.
#[tokio::test]
async fn reversals_of_before_a_snapshot_are_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    for number in 0..500 {
        if number % 2 == 0 {
            decline(&store, number).await;
        }
        let reversal = reversal(number, number % 2 == 0);
        reverse(&store, number, reversal).await.unwrap();
    }
    assert!(store.shared.journal.segments().len() > 1);
    take_snapshot(&store, directory.path());
    decline(&store, 1_000).await;
    store.close().unwrap();
    drop(store);
    let store = open(directory.path(), false);
    for number in 0..500 {
        let claimed = store.claim("net", alone(key(number), number)).await.unwrap();
        assert!(matches!(claimed, Claimed::Conflict), "{number}");
    }
    let claimed = store.claim("net", alone(key(1_000), 1_000)).await.unwrap();
    assert!(matches!(claimed, Claimed::Repeat(..)));
}

/// Answers of before the newest snapshot are in segments that hold no newer state of a card.
#[tokio::test]
async fn answers_and_history_of_before_a_snapshot_are_there_after_it() {
    const DECLINES: u64 = 2_000;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    for number in 0..DECLINES {
        decline(&store, number).await;
    }
    assert!(store.shared.journal.segments().len() > 3);
    take_snapshot(&store, directory.path());
    store.close().unwrap();
    drop(store);
    let store = open(directory.path(), false);
    for number in 0..DECLINES {
        let claimed = store.claim("net", alone(key(number), number)).await.unwrap();
        assert!(matches!(claimed, Claimed::Repeat(..)), "{number}");
    }
    let card = store.load_by_token("card-1").await.unwrap().unwrap();
    let filter = TransactionFilter::of_card(card.entry.identity.key);
    // A page reads so many records, and the next one goes on behind them.
    let (mut numbers, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.transactions(filter.clone(), after, usize::MAX).await.unwrap();
        numbers.extend(page.items.iter().map(|(_, record)| record.amount.minor_units));
        (after, pages) = (page.next, pages + 1);
        if after.is_none() {
            break;
        }
    }
    assert!(pages > 3, "{pages}");
    assert_eq!(numbers, (0..DECLINES).rev().collect::<Vec<_>>());
}

/// A journal that was put back from an older copy lacks what the snapshot knows.
#[tokio::test]
async fn a_journal_that_ends_before_its_snapshot_is_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    store.close().unwrap();
    drop(store);
    let journal = options(directory.path()).journal();
    let copy = directory.path().join("copy");
    copy_files(&journal, &copy);
    let store = open(directory.path(), false);
    count(&store, 1).await;
    take_snapshot(&store, directory.path());
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(&journal).unwrap();
    copy_files(&copy, &journal);
    let error = EmbeddedStore::open(&options(directory.path()), false).err().unwrap().to_string();
    assert!(error.contains("the journal ends at"), "{error}");
}

/// On a thread of its own, as the store does it.
pub(super) fn take_snapshot(store: &EmbeddedStore, data_dir: &Path) {
    let path = options(data_dir).snapshots();
    std::thread::scope(|scope| {
        scope.spawn(|| snapshots::take(&store.shared, &path).unwrap()).join().unwrap();
    });
}

/// A snapshot under load may hold records up to its end: a journal that ends before is refused.
#[tokio::test]
async fn a_journal_without_the_last_records_of_a_snapshot_is_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    let path = options(directory.path()).snapshots();
    let mut writer = SnapshotWriter::create(&path, Sequence::FIRST).unwrap();
    writer.push(&record::snapshot_card(&store.shared.cards.entries()[0])).unwrap();
    writer.finish(Sequence::new(2)).unwrap();
    store.close().unwrap();
    drop(store);
    let error = EmbeddedStore::open(&options(directory.path()), false).err().unwrap().to_string();
    assert!(error.contains("the journal ends at record 1, before record 2"), "{error}");
}

/// The whole store, as the switch opens it, with one file damaged at random: refused with file
/// and offset, or there with every answered change.
#[tokio::test]
async fn no_single_damage_is_a_silent_loss() {
    const DAMAGES: u64 = 400;
    let home = scratch();
    let data_dir = home.path().join("data");
    let store = open(&data_dir, true);
    for number in 0..CARDS {
        add(&store, new_card(number)).await.unwrap();
    }
    for round in 0..3 {
        for number in (0..CARDS).cycle().take(120) {
            count(&store, number).await;
        }
        if round < 2 {
            take_snapshot(&store, &data_dir);
        }
    }
    let expected = states(&store);
    store.close().unwrap();
    drop(store);

    let (mut refused, mut whole) = (0, 0);
    for seed in 1..=DAMAGES {
        let copy = home.path().join("copy");
        for part in ["journal", "snapshots"] {
            copy_files(&data_dir.join(part), &copy.join(part));
        }
        let damage = damage(&copy, seed);
        match EmbeddedStore::open(&options(&copy), false) {
            Ok((store, _)) => {
                assert_eq!(states(&store), expected, "{damage}");
                whole += 1;
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("/copy/") && text.contains("offset"), "{damage}: {text}");
                refused += 1;
            }
        }
        std::fs::remove_dir_all(&copy).unwrap();
    }
    assert!(refused > 0 && whole > 0, "{refused} refused, {whole} whole");
}

/// Flips a bit, cuts, zeroes a page or removes: one of these, in one file.
fn damage(copy: &Path, seed: u64) -> String {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % limit as u64).unwrap()
    };
    let mut files: Vec<_> = ["journal", "snapshots"]
        .iter()
        .flat_map(|part| std::fs::read_dir(copy.join(part)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let path = &files[below(files.len())];
    let mut bytes = std::fs::read(path).unwrap();
    let (at, kind) = (below(bytes.len()), below(8));
    match kind {
        0 => std::fs::remove_file(path).unwrap(),
        1 => bytes.truncate(at),
        2 => bytes.iter_mut().skip(at & !4095).take(4096).for_each(|byte| *byte = 0),
        _ => bytes[at] ^= 1 << below(8),
    }
    if kind > 0 {
        std::fs::write(path, bytes).unwrap();
    }
    format!("seed {seed}: {}, kind {kind} at {at}", path.display())
}

/// A clock whose time passes by hand.
#[derive(Default)]
pub(super) struct SetClock(pub(super) AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed).unsigned_abs())
    }
}

/// Once a day a snapshot is taken, however little was written, and what is too old goes.
#[tokio::test]
async fn segments_go_by_age() {
    const DAY_SECONDS: i64 = 24 * 3_600;
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock::default());
    let mut options = options(directory.path());
    options.clock = Arc::clone(&clock) as Arc<dyn Clock>;
    options.config.retention_days = 2;
    let (store, _) = EmbeddedStore::open(&options, true).unwrap();
    add(&store, new_card(1)).await.unwrap();
    let oldest = || store.shared.journal.segments().first().unwrap().number;
    for number in 0..2_000 {
        decline(&store, number).await;
    }
    let (mut number, mut days) = (2_000, 0);
    while oldest() == 1 && days < 10 {
        days += 1;
        clock.0.store(days * DAY_SECONDS, Ordering::Relaxed);
        decline(&store, number).await;
        number += 1;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
    }
    assert!((3..10).contains(&days), "gone after {days} days");
    store.close().unwrap();
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// The snapshot thread takes them by itself, and what they make superfluous goes by size.
#[tokio::test]
async fn old_segments_go_behind_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    options.config.snapshot_bytes = 64 << 10;
    options.config.retention_bytes = 128 << 10;
    let (store, _) = EmbeddedStore::open(&options, true).unwrap();
    add(&store, new_card(1)).await.unwrap();
    let mut number = 0;
    while store.shared.journal.segments().first().unwrap().number == 1 {
        assert!(number < 200_000, "no segment was retired");
        for _ in 0..100 {
            decline(&store, number).await;
            number += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((1..=2).contains(&std::fs::read_dir(options.snapshots()).unwrap().count()));
    store.close().unwrap();
    drop(store);
    let (store, _) = EmbeddedStore::open(&options, false).unwrap();
    assert_eq!(store.shared.cards.len(), 1);
}

/// Its rules are those of a product that declines everything, until there is one of its name.
#[tokio::test]
async fn a_card_of_a_product_that_is_gone_is_there_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    store.close().unwrap();
    drop(store);
    let without = OpenOptions { products: Arc::default(), ..options(directory.path()) };
    let (store, _) = EmbeddedStore::open(&without, false).unwrap();
    let card = store.load_by_token("card-1").await.unwrap().unwrap();
    assert_eq!((card.entry.product.name(), card.product.is_known()), ("debit", false));
}
