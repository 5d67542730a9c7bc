//! Copies that take long: what happens to the store meanwhile, and what is in them.

use super::backup::mark_of_backup;
use super::journal::Retention;
use super::store_tests::{add, count, decline, new_card, options, states};
use super::test_support::block_on;
use super::{EmbeddedStore, OpenOptions};

/// Changes cards and fills segments.
fn fill(store: &EmbeddedStore, numbers: std::ops::Range<u64>) {
    block_on(async {
        for number in numbers {
            decline(store, number).await;
        }
        count(store, 1).await;
    });
}

/// Until the copy is done no snapshot is taken and no segment goes, and what comes later is not in
/// it.
#[test]
fn segments_that_fill_during_a_copy_change_nothing_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, copy) = (directory.path().join("data"), directory.path().join("copy"));
    let mut options = options(&data_dir);
    (options.config.snapshot_bytes, options.config.retention_bytes) = (64 << 10, 0);
    let (store, _) = EmbeddedStore::open(&options, true).unwrap();
    block_on(add(&store, new_card(1))).unwrap();
    fill(&store, 0..20);
    let expected = states(&store);
    let copying = store.shared.begin_copy(&copy).unwrap();
    fill(&store, 20..1_000);
    assert!(store.shared.journal.segments().len() > 3);
    store.shared.journal.retire(Retention::of_everything()).unwrap();
    // Longer than the thread of snapshots waits from look to look.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(store.shared.journal.segments()[0].number, 1);
    assert!(!options.snapshots().exists() || options.snapshots().read_dir().unwrap().count() == 0);
    copying.complete().unwrap();
    let mut accepted = OpenOptions { data_dir: copy.clone(), ..options };
    accepted.config.accept_older_data = true;
    let (copied, _) = EmbeddedStore::open(&accepted, false).unwrap();
    assert_eq!(states(&copied), expected);
    assert!(!mark_of_backup(&copy).exists());
    store.shared.journal.retire(Retention::of_everything()).unwrap();
    let went = || store.shared.journal.segments()[0].number > 1;
    assert!((0..100).any(|_| went() || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        false
    }));
}

/// Another process may write to the segments as soon as the store is closed.
#[test]
fn a_copy_does_not_outlive_its_store() {
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, copy) = (directory.path().join("data"), directory.path().join("copy"));
    let (store, _) = EmbeddedStore::open(&options(&data_dir), true).unwrap();
    let copying = store.shared.begin_copy(&copy).unwrap();
    store.close().unwrap();
    let error = copying.complete().unwrap_err().to_string();
    assert!(error.contains("the journal is closed"), "{error}");
    assert!(!copy.exists());
}

/// The last card that needs a version of a key may get another PIN while segments are copied.
#[test]
fn a_copy_has_the_keys_of_the_moment_where_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (data_dir, copy) = (directory.path().join("data"), directory.path().join("copy"));
    let (store, _) = EmbeddedStore::open(&options(&data_dir), true).unwrap();
    let key = |place: &std::path::Path| place.join("keys/own-pek.key");
    std::fs::create_dir(data_dir.join("keys")).unwrap();
    std::fs::write(key(&data_dir), "both versions").unwrap();
    let copying = store.shared.begin_copy(&copy).unwrap();
    std::fs::write(key(&data_dir), "the newer one").unwrap();
    copying.complete().unwrap();
    assert_eq!(std::fs::read_to_string(key(&copy)).unwrap(), "both versions");
}
