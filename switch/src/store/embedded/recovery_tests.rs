//! What opening a journal refuses, drops and repairs.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::journal::Append;
use super::segment::segment_path;
use super::test_support::{
    append, open, open_from, open_with, options, record, refusal, scratch, sync,
};
use super::types::{OpenError, Sequence};

fn change(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

const SECTOR: usize = 4096;

/// Ten records that were synced, and ten of 1,000 bytes that were only written, in sectors of
/// their own.
fn with_an_unsynced_tail(directory: &Path) -> Vec<u8> {
    let (journal, _, _) = open(directory);
    for _ in 0..10 {
        journal.lock().append(record(&[b'a'; 100])).unwrap();
    }
    sync(&journal, 10);
    for _ in 0..10 {
        journal.lock().append(record(&[b'b'; 1000])).unwrap();
    }
    journal.flush().unwrap();
    drop(journal);
    fs::read(segment_path(directory, 1)).unwrap()
}

#[test]
fn a_torn_tail_is_dropped_and_cannot_come_back() {
    let home = scratch();
    let directory = home.path().join("journal");
    with_an_unsynced_tail(&directory);
    let path = segment_path(&directory, 1);
    // Two pieces of a disk that no write reached, in records 13 and 14.
    change(&path, (2 * SECTOR + 2560) as u64, &[0; 1024]);
    let (journal, recovered, seen) = open(&directory);
    assert_eq!(seen.len(), 12);
    let dropped = recovered.dropped.unwrap();
    let end = (2 * SECTOR + 2 * 1030) as u64;
    // Three of them are in a sector.
    assert_eq!((dropped.offset, dropped.bytes), (end, (5 * SECTOR + 1030) as u64 - end));
    assert_eq!(recovered.last, Sequence::new(12));
    // Of the same length as the one that was there: 14 would fit behind it again.
    journal.lock().append(record(&[b'c'; 1000])).unwrap();
    journal.flush().unwrap();
    drop(journal);
    assert_eq!(open(&directory).2.len(), 13);
}

#[test]
fn what_no_power_failure_leaves_behind_is_a_refusal() {
    let home = scratch();
    let directory = home.path().join("journal");
    let whole = with_an_unsynced_tail(&directory);
    let path = segment_path(&directory, 1);
    let third = 2 * SECTOR + 2 * 1030;
    let refused = |what: &str, spoil: &dyn Fn(&mut [u8]), expected: String| {
        let mut bytes = whole.clone();
        spoil(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let text = refusal(&directory);
        assert!(text.contains(&expected), "{what}: {text}");
    };
    let at =
        |offset: usize, reason: &str| format!("0000000001.journal at offset {offset}: {reason}");
    let written = at(third, "record: CRC does not match, and it was written whole");
    refused("a bit of the tail", &|bytes| bytes[third + 500] ^= 1, written.clone());
    refused("a sector of the tail", &|bytes| bytes[third + 29..][..512].fill(0xA5), written);
    let head = at(third, "record: CRC of its head does not match, and it was written whole");
    refused("a head", &|bytes| bytes[third + 3] ^= 1, head);
    // The tail says that ten were on disk before it.
    let witness = "record 11 says that record 10 was on disk";
    let tenth = SECTOR + 9 * 130;
    let reason = at(tenth, &format!("record: CRC does not match; {witness}"));
    refused("a bit of what was synced", &|bytes| bytes[tenth + 50] ^= 1, reason);
    let witness = "record 11 says that record 1 was on disk";
    let reason = at(64, &format!("no record; {witness}"));
    refused("a whole sector of it", &|bytes| bytes[SECTOR..][..SECTOR].fill(0), reason);
    let reason = at(tenth + 130, "no record; record 11 follows behind something else");
    refused("padding", &|bytes| bytes[2 * SECTOR - 600..][..512].fill(0xA5), reason);
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(&directory).2.len(), 20);
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
    // One that begins a sector's worth behind the front, so that what is before it stays.
    let torn = lost.iter().find(|record| record.1.segment == 2 && record.1.offset > 4096).unwrap();
    let sector = u64::from(torn.1.offset).next_multiple_of(512) - 512;
    change(&segment_path(&directory, 2), sector, &[0; 512]);
    let (journal, recovered, seen) = open(&directory);
    let last = seen.last().unwrap();
    assert!(last.0 < torn.0 && last.1.segment == 2);
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
    change(&segment_path(&directory, 1), 16_384, &[0; 512]);
    let (_journal, recovered, seen) = open(&directory);
    assert!((10..100).contains(&seen.len()));
    assert_eq!(recovered.last, Sequence::new(seen.len() as u64));
    let next = fs::read(segment_path(&directory, 2)).unwrap();
    assert!(next.iter().all(|byte| *byte == 0));
}

/// Whatever of the sector that holds both was on the disk when the power failed.
#[test]
fn a_sector_that_was_written_again_is_dropped_as_it_was_before() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let unawaited = |length| {
        let bytes = vec![b'x'; length];
        let record = Append { is_awaited: false, ..record(&bytes) };
        journal.lock().append(record).unwrap();
        journal.flush().unwrap();
    };
    for length in [900, 900, 500] {
        unawaited(length);
    }
    sync(&journal, 3);
    let path = segment_path(&directory, 1);
    let before = fs::read(&path).unwrap();
    // The first fits behind them, the second does not.
    (0..3).for_each(|_| unawaited(900));
    drop(journal);
    let after = fs::read(&path).unwrap();
    for lost in SECTOR / 512..3 * SECTOR / 512 {
        let mut bytes = after.clone();
        bytes[lost * 512..][..512].copy_from_slice(&before[lost * 512..][..512]);
        fs::write(&path, bytes).unwrap();
        let copy = scratch();
        fs::create_dir(copy.path().join("journal")).unwrap();
        for name in fs::read_dir(&directory).unwrap().flatten() {
            fs::copy(name.path(), copy.path().join("journal").join(name.file_name())).unwrap();
        }
        let (_journal, _, seen) = open(&copy.path().join("journal"));
        assert!(seen.len() >= 3, "without piece {lost}: {}", seen.len());
    }
}

/// The mark of this moment, as it lies on the disk.
fn mark_on_disk(directory: &Path) -> Vec<u8> {
    fs::read(directory.join("tail")).unwrap()
}

#[test]
fn a_segment_that_is_lost_whole_is_missed_by_an_old_mark_too() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let mut synced = 0;
    let mut next = || {
        append(&journal, 1);
        synced += 1;
        sync(&journal, synced);
    };
    while journal.segments().len() < 2 {
        next();
    }
    // It was synced before the first record of the segment was answered for.
    let old = mark_on_disk(&directory);
    (0..5).for_each(|_| next());
    journal.close().unwrap();
    drop(journal);
    fs::write(directory.join("tail"), old).unwrap();
    let path = segment_path(&directory, 2);
    let bytes = fs::read(&path).unwrap().len();
    fs::write(&path, vec![0; bytes]).unwrap();
    let text = refusal(&directory);
    assert!(text.contains("0000000001.journal at offset") && text.contains("is missing"), "{text}");
    fs::remove_file(segment_path(&directory, 3)).unwrap();
    fs::remove_file(&path).unwrap();
    let text = refusal(&directory);
    assert!(text.contains("0000000001.journal at offset") && text.contains("is missing"), "{text}");
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
fn what_a_prepared_segment_holds_of_its_former_life_never_passes() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let written = append(&journal, 300);
    journal.close().unwrap();
    let current = journal.segments().last().copied().unwrap();
    drop(journal);
    // As version 1 of the format recycled them: only the header is zero.
    let next = segment_path(&directory, current.number + 1);
    let mut old = fs::read(segment_path(&directory, 1)).unwrap();
    old[..64].fill(0);
    fs::write(&next, old).unwrap();
    let (_journal, _, seen) = open(&directory);
    assert_eq!(seen, written);
    assert!(fs::read(&next).unwrap().iter().all(|byte| *byte == 0));
}
