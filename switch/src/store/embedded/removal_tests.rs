//! Removed cards: gone for good, whatever was read of them before, and whatever moment a
//! snapshot was taken at.

use std::borrow::Cow;
use std::path::Path;

use super::journal::Append;
use super::snapshot::SnapshotWriter;
use super::store_tests::{add, count, new_card, open, options, states};
use super::types::Sequence;
use super::{EmbeddedStore, check};
use crate::cache::{NewCard, Taken};
use crate::cards::CardKey;
use crate::store::{Changed, Commit, NotDone, Store, record};

async fn remove(store: &EmbeddedStore, number: u8) {
    let card = store.load(&CardKey([number; 16])).await.unwrap().unwrap();
    assert_eq!(store.remove_cards(vec![card.into()]).await, Ok(vec![Ok(())]));
}

/// The card of this number under the token of another.
fn named(number: u8, token: &str) -> NewCard {
    let mut card = new_card(number);
    card.identity.token = token.into();
    card
}

#[tokio::test]
async fn nothing_is_committed_on_a_removed_card() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    let read = store.load(&CardKey([1; 16])).await.unwrap().unwrap();
    remove(&store, 1).await;
    let commit = Commit::by_issuer(&read, read.state.with_tries(1));
    assert_eq!(store.commit(commit, &mut None).await, Err(Changed::Card.into()));
    // Nor a second time by who read it before.
    assert_eq!(store.remove_cards(vec![read.into()]).await, Ok(vec![Err(NotDone::Gone)]));
    assert!(store.load_by_token("card-1").await.unwrap().is_none());
    assert_eq!(add(&store, named(2, "card-1")).await, Ok(()));
    assert_eq!(add(&store, new_card(2)).await, Err(Taken::Pan.into()));
    assert_eq!(add(&store, new_card(1)).await, Err(Taken::Token.into()));
    let expected = states(&store);
    store.close().unwrap();
    drop(store);
    assert_eq!(states(&open(directory.path(), false)), expected);
}

/// What a snapshot of this moment would hold.
fn snapshot_of(store: &EmbeddedStore) -> Vec<Vec<u8>> {
    store.shared.cards.entries().iter().map(|entry| record::snapshot_card(entry)).collect()
}

/// Cards that come and go, with one PAN and one token more than once. One record each.
async fn play(store: &EmbeddedStore) -> Vec<Vec<Vec<u8>>> {
    let mut moments = vec![snapshot_of(store)];
    for step in 0..12 {
        match step {
            0 => add(store, new_card(1)).await.unwrap(),
            1 | 2 | 8 => drop(count(store, 1).await),
            3 | 10 => remove(store, 1).await,
            4 => add(store, named(2, "card-1")).await.unwrap(),
            5 => drop(count(store, 2).await),
            6 => remove(store, 2).await,
            7 => add(store, new_card(1)).await.unwrap(),
            9 => add(store, new_card(2)).await.unwrap(),
            _ => add(store, named(3, "card-1")).await.unwrap(),
        }
        moments.push(snapshot_of(store));
    }
    moments
}

fn write_snapshot(data_dir: &Path, from: usize, cards: &[Vec<u8>], through: usize) {
    let _ = std::fs::remove_dir_all(options(data_dir).snapshots());
    let sequence = |number: usize| Sequence::new(number as u64);
    let path = options(data_dir).snapshots();
    let mut writer = SnapshotWriter::create(&path, sequence(from)).unwrap();
    cards.iter().for_each(|card| writer.push(card).unwrap());
    writer.finish(sequence(through)).unwrap();
}

/// A snapshot says from where the journal goes on, and may hold what came later: replay settles
/// it for every such pair of moments.
#[tokio::test]
async fn a_snapshot_of_any_moment_and_the_journal_give_the_same_cards() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    let moments = play(&store).await;
    let expected = states(&store);
    store.close().unwrap();
    drop(store);
    for (through, cards) in moments.iter().enumerate() {
        for from in 1..=through + 1 {
            write_snapshot(directory.path(), from, cards, through);
            let opened = open(directory.path(), false);
            assert_eq!(states(&opened), expected, "from {from}, state after record {through}");
        }
    }
}

/// A change to a card that is nowhere, and is not removed later, is a damaged store.
#[tokio::test]
async fn a_card_that_a_snapshot_has_lost_is_a_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    add(&store, new_card(1)).await.unwrap();
    count(&store, 1).await;
    store.close().unwrap();
    drop(store);
    write_snapshot(directory.path(), 2, &[], 1);
    let error = EmbeddedStore::open(&options(directory.path()), false).err().unwrap().to_string();
    assert!(error.contains(".journal") && error.contains("does not exist"), "{error}");
}

/// What a start refuses, `check-store` finds.
#[tokio::test]
async fn a_change_of_a_card_that_was_never_added_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), true);
    let NewCard { identity, state, .. } = new_card(1);
    let (key, state) = (identity.key, Cow::Owned(state));
    let entry = record::Entry::of(&record::CardChanged { key, state });
    let record = Append { payload: entry.bytes(), is_awaited: true, keeps_answer: false };
    store.shared.journal.lock().append(record).unwrap();
    store.close().unwrap();
    drop(store);
    let reason = "it changes a card that does not exist";
    let refused = EmbeddedStore::open(&options(directory.path()), false).err().unwrap();
    assert!(refused.to_string().contains(reason), "{refused}");
    let checked = check::check(directory.path()).unwrap();
    assert!(checked.is_damaged, "{:?}", checked.lines);
    let expected = refused.to_string();
    assert!(checked.lines.contains(&format!("damaged: {expected}")), "{:?}", checked.lines);
}
