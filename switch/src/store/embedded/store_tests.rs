//! The store with cards in it: what is answered for is there again, from the journal alone and
//! from a snapshot taken while cards changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::Offset;

use super::{EmbeddedStore, OpenOptions, snapshots};
use crate::authorization::{PinRequired, Product};
use crate::cards::cache::NewCard;
use crate::cards::{CardKey, CardState, Expiry, MaskedPan, Plastic, SealedPan};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{StoreConfig, SyncMode};
use crate::store::embedded::segment::SegmentInfo;
use crate::store::record::{self, Event, Part};
use crate::store::{AddCardError, Commit, CommitError, Store};

const CARDS: u8 = 40;

fn product() -> Arc<Product> {
    Arc::new(Product {
        name: "debit".into(),
        bins: vec!["476134".into()],
        currency: 978,
        utc_offset: Offset::UTC,
        pin_required: PinRequired::Cash,
        pin_retry_limit: None,
        limit_per_transaction: None,
        allowed_currencies: Vec::new(),
    })
}

fn options(data_dir: &Path) -> OpenOptions {
    OpenOptions {
        data_dir: data_dir.to_owned(),
        config: StoreConfig {
            sync: SyncMode::State,
            segment_bytes: 64 << 10,
            snapshot_bytes: u64::MAX,
            retention_days: 7,
            retention_bytes: u64::MAX,
            duplicate_index_bytes_max: 1 << 20,
        },
        products: vec![product()],
        clock: Arc::new(SystemClock),
        monotonic: || SystemClock.monotonic(),
        sync_observer: Arc::new(|_| ()),
    }
}

fn new_card(number: u8) -> NewCard {
    let plastic = Plastic { expiry: Expiry::parse(b"2912").unwrap(), sequence: 1 };
    NewCard {
        key: CardKey([number; 16]),
        token: format!("card-{number}").into(),
        masked_pan: MaskedPan::from_bytes(*b"4761340019"),
        sealed_pan: SealedPan([number; SealedPan::BYTES]),
        product: product(),
        state: CardState::new(plastic),
    }
}

/// One more wrong PIN; the new count.
async fn count(store: &EmbeddedStore, number: u8) -> u32 {
    loop {
        let card = store.load(&CardKey([number; 16])).await.unwrap().unwrap();
        let tries = card.state.pin.tries + 1;
        let change = Some(card.state.with_tries(tries));
        let time = Timestamp::from_seconds(1);
        let event = Some(Event::StateSuspended { time, card: card.entry.key });
        let commit = Commit { card: Some(&card), change, transaction: None, event };
        match store.commit(commit, &mut None).await {
            Ok(()) => return tries,
            Err(CommitError::CardChanged) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn states(store: &EmbeddedStore) -> BTreeMap<String, CardState> {
    let entries = store.cards().entries();
    entries
        .iter()
        .map(|entry| (entry.token.to_string(), CardState::clone(&entry.state())))
        .collect()
}

fn open(data_dir: &Path, create_new: bool) -> EmbeddedStore {
    EmbeddedStore::open(&options(data_dir), create_new).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_under_load_is_as_good_as_the_journal() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(directory.path(), true));
    for number in 0..CARDS {
        store.add_card(new_card(number)).await.unwrap();
    }
    let load = |half: u8, adds: bool| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for round in 0..50_u8 {
                for number in (half..CARDS).step_by(2) {
                    count(&store, number).await;
                }
                if adds {
                    store.add_card(new_card(CARDS + 2 * round + half)).await.unwrap();
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
    let expected = states(&store);
    Arc::into_inner(store).unwrap().close().unwrap();

    let from_snapshot = open(directory.path(), false);
    assert_eq!(states(&from_snapshot), expected);
    drop(from_snapshot);
    std::fs::remove_dir_all(options(directory.path()).snapshots()).unwrap();
    let from_journal = open(directory.path(), false);
    assert_eq!(states(&from_journal), expected);
}

#[tokio::test]
async fn a_commit_is_conditional_and_one_record_holds_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    store.add_card(new_card(1)).await.unwrap();
    assert!(matches!(store.add_card(new_card(1)).await, Err(AddCardError::Taken(_))));
    let stale = store.load_by_token("card-1").await.unwrap().unwrap();
    assert_eq!(count(&store, 1).await, 1);
    let change = Some(stale.state.with_tries(9));
    let commit = Commit { card: Some(&stale), change, transaction: None, event: None };
    assert_eq!(store.commit(commit, &mut None).await, Err(CommitError::CardChanged));
    let current = store.load_by_token("card-1").await.unwrap().unwrap();
    assert_eq!(current.state.pin.tries, 1);

    let position = super::Position { segment: 1, offset: first_record_after_the_card(&store) };
    let (sequence, payload) = store.shared.journal.read(position).unwrap();
    assert_eq!(sequence.get(), 2);
    let mut parts = Vec::new();
    record::read_entry(&payload, |part| parts.push(part)).unwrap();
    assert!(matches!(&parts[..], [Part::CardChanged(..), Part::Event(_)]), "{parts:?}");
}

/// Where the second record stands: behind the header and the first.
fn first_record_after_the_card(store: &EmbeddedStore) -> u32 {
    let info: SegmentInfo = store.shared.journal.segments()[0];
    let first = super::Position { segment: info.number, offset: 64 };
    let (_, payload) = store.shared.journal.read(first).unwrap();
    64 + 16 + u32::try_from(payload.len()).unwrap()
}

#[tokio::test]
async fn a_card_of_a_product_that_is_gone_is_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    store.add_card(new_card(1)).await.unwrap();
    store.close().unwrap();
    drop(store);
    let without = OpenOptions { products: Vec::new(), ..options(directory.path()) };
    let error = EmbeddedStore::open(&without, false).err().unwrap().to_string();
    assert!(error.contains("card-1") && error.contains("debit"), "{error}");
}
