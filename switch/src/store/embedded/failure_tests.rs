//! A failure is final, and everybody hears of it.

use std::fs::{self, OpenOptions};
use std::sync::Arc;

use super::journal::Journal;
use super::segment::{Segment, segment_path};
use super::test_support::{
    append, block_on, observed, open, open_with, options, payload, record, scratch, sync,
};
use super::types::{AppendError, JournalReport, Sequence};

#[test]
fn a_payload_out_of_limits_changes_nothing() {
    let home = scratch();
    let (journal, _, _) = open(&home.path().join("journal"));
    let mut tail = journal.lock();
    let next = tail.next();
    assert!(matches!(tail.append(record(&[])), Err(AppendError::Length { .. })));
    assert!(matches!(tail.append(record(&[0; 1025])), Err(AppendError::Length { .. })));
    assert_eq!(tail.next(), next);
    tail.append(record(&[0; 1024])).unwrap();
}

/// Puts another file under the current segment, as a device that fails from now on.
fn replace_device(journal: &Journal, device: &str) {
    let mut tail = journal.lock();
    let segment = &tail.state.batch.segment;
    let file = OpenOptions::new().read(true).write(true).open(device).unwrap();
    let (number, bytes) = (segment.number, segment.bytes);
    let failing = Segment { number, bytes, path: device.into(), file };
    tail.state.batch.segment = Arc::new(failing);
}

fn assert_dead(journal: &Journal, device: &str) {
    let text = block_on(journal.failed()).to_string();
    assert!(text.starts_with(device), "{text}");
    assert_eq!(journal.flush().unwrap_err().to_string(), text);
    assert_eq!(journal.lock().append(record(b"x")).unwrap_err().to_string(), text);
    assert_eq!(block_on(journal.synced(Sequence::FIRST)).unwrap_err().to_string(), text);
    assert_eq!(journal.close().unwrap_err().to_string(), text);
}

#[test]
fn a_failed_write_is_final() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    append(&journal, 5);
    sync(&journal, 5);
    let waiter = journal.synced(Sequence::new(6));
    replace_device(&journal, "/dev/full");
    append(&journal, 5);
    assert!(journal.flush().unwrap_err().to_string().starts_with("/dev/full: No space left"));
    assert!(block_on(waiter).is_err());
    assert_dead(&journal, "/dev/full");
    drop(journal);
    // What was answered before is there.
    assert_eq!(open(&directory).2.len(), 5);
}

#[test]
fn a_failed_sync_is_final() {
    let home = scratch();
    let (journal, _, _) = open(&home.path().join("journal"));
    // Takes every write, and knows no sync.
    replace_device(&journal, "/dev/null");
    append(&journal, 5);
    journal.flush().unwrap();
    let waiters: Vec<_> = (1..=5).map(|number| journal.synced(Sequence::new(number))).collect();
    for waiter in waiters {
        assert!(block_on(waiter).unwrap_err().to_string().starts_with("/dev/null: Invalid"));
    }
    assert_eq!(journal.synced_through(), Sequence::NONE);
    assert_dead(&journal, "/dev/null");
}

#[test]
fn no_place_for_the_next_segment_is_final_only_when_it_is_needed() {
    let home = scratch();
    let directory = home.path().join("journal");
    let mut options = options(&directory);
    let events = observed(&mut options);
    let (journal, _, _) = open_with(options).unwrap();
    // It is there ahead, whatever happens to the directory from now on.
    while !segment_path(&directory, 2).exists() {
        std::thread::yield_now();
    }
    fs::remove_dir_all(&directory).unwrap();
    let mut appended = 0;
    let failed = loop {
        match journal.lock().append(record(&payload(appended + 1))) {
            Ok(_) => appended += 1,
            Err(error) => break error.to_string(),
        }
        // The keeper has tried once the second has begun; appending goes on.
        if appended == 200 {
            assert!(matches!(events.recv().unwrap(), JournalReport::PrepareFailed(_)));
        }
    };
    assert!(appended > 200);
    assert!(failed.contains("0000000003.journal: cannot prepare the next segment"), "{failed}");
    assert_eq!(journal.flush().unwrap_err().to_string(), failed);
}

#[test]
fn waiters_of_a_closed_journal_are_let_go() {
    let home = scratch();
    let (journal, _, _) = open(&home.path().join("journal"));
    append(&journal, 1);
    let (first, never) = (journal.synced(Sequence::FIRST), journal.synced(Sequence::new(2)));
    journal.close().unwrap();
    block_on(first).unwrap();
    assert!(block_on(never).unwrap_err().to_string().ends_with("the journal is closed"));
    assert!(block_on(journal.synced(Sequence::new(2))).is_err());
}
