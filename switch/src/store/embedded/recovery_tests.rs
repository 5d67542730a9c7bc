//! What opening a journal refuses, drops and repairs.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::segment::{SegmentInfo, segment_path};
use super::test_support::{append, open, open_from, open_with, options, refusal, scratch, sync};
use super::types::{OpenError, Sequence};

fn change(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[test]
fn a_torn_tail_is_dropped_and_cannot_come_back() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    for _ in 0..10 {
        journal.lock().append(&[b'a'; 100]).unwrap();
    }
    sync(&journal, 4);
    for _ in 0..10 {
        journal.lock().append(&[b'b'; 100]).unwrap();
    }
    journal.flush().unwrap();
    drop(journal);
    // Record 13 of 20 is damaged; 1 to 10 were synced.
    let path = segment_path(&directory, 1);
    change(&path, 64 + 12 * 116 + 50, b"!");
    let (journal, recovered, seen) = open(&directory);
    assert_eq!(seen.len(), 12);
    let dropped = recovered.dropped.unwrap();
    assert_eq!((dropped.offset, dropped.bytes), (64 + 12 * 116, 8 * 116));
    assert_eq!(recovered.last, Sequence::new(12));
    // Of the same length as the one that was there: 14 would fit behind it again.
    journal.lock().append(&[b'c'; 100]).unwrap();
    journal.flush().unwrap();
    drop(journal);
    assert_eq!(open(&directory).2.len(), 13);
    // The same damage before the mark is a refusal.
    change(&path, 64 + 9 * 116 + 50, b"!");
    let text = refusal(&directory);
    assert!(text.contains("0000000001.journal at offset 1108: record: CRC"), "{text}");
}

#[test]
fn unsynced_segments_behind_a_tear_are_removed() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    append(&journal, 10);
    sync(&journal, 10);
    let lost = append(&journal, 400);
    journal.flush().unwrap();
    drop(journal);
    let torn = lost.iter().find(|record| record.1.segment == 2).unwrap();
    change(&segment_path(&directory, 2), u64::from(torn.1.offset) + 16, &[torn.2[0] ^ 1]);
    let (journal, recovered, seen) = open(&directory);
    assert_eq!(seen.last().unwrap().0, torn.0 - 1);
    assert!(recovered.dropped.unwrap().file.ends_with("0000000002.journal"));
    let written = append(&journal, 400);
    journal.close().unwrap();
    drop(journal);
    assert_eq!(open(&directory).2, [seen, written].concat());
}

#[test]
fn a_dropped_segment_keeps_nothing_of_what_it_held() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let lost = append(&journal, 200);
    journal.flush().unwrap();
    drop(journal);
    assert_eq!(lost.last().unwrap().1.segment, 2);
    change(&segment_path(&directory, 1), u64::from(lost[50].1.offset), b"\xff\xff");
    let (_journal, recovered, seen) = open(&directory);
    assert_eq!((seen.len(), recovered.last), (50, Sequence::new(50)));
    let next = fs::read(segment_path(&directory, 2)).unwrap();
    assert!(next.iter().all(|byte| *byte == 0));
}

#[test]
fn an_empty_start_happens_only_when_asked_for() {
    let home = scratch();
    let directory = home.path().join("journal");
    let open_new = |create_new| open_with(options(&directory).tap(create_new)).map(drop);
    assert!(matches!(open_new(false), Err(OpenError::Absent(_))));
    fs::create_dir(&directory).unwrap();
    assert!(matches!(open_new(false), Err(OpenError::Absent(_))));
    open_new(true).unwrap();
    assert!(matches!(open_new(true), Err(OpenError::NotEmpty(_))));
    let (journal, _, _) = open(&directory);
    assert!(matches!(open_new(false), Err(OpenError::InUse(_))));
    journal.close().unwrap();
    open_new(false).unwrap();
}

impl super::options::Options {
    fn tap(mut self, create_new: bool) -> Self {
        self.create_new = create_new;
        self
    }
}

#[test]
fn a_lost_mark_is_a_refusal_and_a_lost_slot_is_repaired() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    append(&journal, 10);
    journal.close().unwrap();
    drop(journal);
    let mark = directory.join("tail");
    change(&mark, 4100, b"!");
    let (journal, recovered, seen) = open(&directory);
    assert_eq!((seen.len(), recovered.repaired[0].offset), (10, 4096));
    drop(journal);
    assert!(open(&directory).1.repaired.is_empty());
    change(&mark, 4, b"!");
    change(&mark, 4100, b"!");
    assert!(refusal(&directory).contains("tail at offset 0"));
    fs::remove_file(&mark).unwrap();
    assert!(refusal(&directory).contains("tail at offset 0"));
}

#[test]
fn reading_begins_where_the_caller_says() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    append(&journal, 1000);
    journal.close().unwrap();
    let segments = journal.segments();
    drop(journal);
    let start = segments[4].first;
    let from = |start, needed: &dyn Fn(&_, &_) -> bool| {
        open_from(options(&directory), Some(start), needed)
            .map(|(_, recovered, seen)| (recovered, seen[0].0))
    };
    assert_eq!(from(start, &|_, _| false).unwrap().1, start.get());
    let (recovered, first) = from(start, &|following, _| following.number > 3).unwrap();
    assert_eq!((first, recovered.first), (segments[2].first.get(), Sequence::FIRST));
    assert!(from(Sequence::new(1001), &|_, _| false).is_ok());
    let text = from(Sequence::new(1002), &|_, _| false).unwrap_err().to_string();
    assert!(text.contains("offset") && text.contains("the journal ends at"), "{text}");
}

#[test]
fn old_records_of_a_recycled_segment_never_pass() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let written = append(&journal, 300);
    journal.close().unwrap();
    drop(journal);
    // The prepared next segment holds, right behind its header, whole records of the first one,
    // and a valid header with the sequence that comes next.
    let (journal, _, _) = open(&directory);
    let next = journal.lock().next();
    let current = journal.segments().last().copied().unwrap();
    journal.close().unwrap();
    drop(journal);
    let mut old = fs::read(segment_path(&directory, 1)).unwrap();
    let info = SegmentInfo { number: current.number + 1, first: next.0, ..current };
    old.splice(..64, info.encode());
    fs::write(segment_path(&directory, current.number + 1), old).unwrap();
    let (_journal, recovered, seen) = open(&directory);
    assert_eq!(seen, written);
    assert!(recovered.dropped.is_some());
    assert!(File::open(segment_path(&directory, current.number + 1)).is_ok());
}
