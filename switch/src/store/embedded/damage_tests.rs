//! A store with one random damage either refuses to open, naming file and offset, or has lost
//! nothing that was synced. After a power failure it opens, and has lost nothing that was synced;
//! with one bad bit besides, it refuses or has lost nothing. All of it with the tail mark of that
//! moment, and with the one that a power failure may leave on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::journal::{Append, Journal, Retention};
use super::snapshot::SnapshotWriter;
use super::snapshot_read::read_newest;
use super::test_support::{
    Random, append, observed, open_from, open_with, options, payload, record, scratch, sync,
};
use super::types::{JournalReport, Sequence};

/// Damages in each test; PINSWITCH_DAMAGES makes them many.
fn cases() -> u64 {
    std::env::var("PINSWITCH_DAMAGES").map_or(525, |number| number.parse().unwrap())
}

const PAGE_BYTES: usize = 4096;
/// What a disk writes whole or not at all.
const ATOM_BYTES: usize = 512;

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A store on disk, in memory, and how many of its records were synced.
struct Built {
    files: Files,
    /// The tail mark as it was when the newest segment began; it was synced then.
    old_mark: Vec<u8>,
    synced: u64,
    /// Synced before the last sync of all.
    synced_before: u64,
}

impl Built {
    fn with_old_mark(mut self) -> Built {
        self.files.insert(MARK.into(), self.old_mark.clone());
        self
    }
}

const MARK: &str = "journal/tail";

/// Syncs after each few records, past the beginning of a new segment; the mark of that beginning,
/// and how many records there are.
fn sync_into_a_new_segment(journal: &Journal, home: &Path, synced: u64) -> (Vec<u8>, u64) {
    let mut synced = synced;
    let mut next = |count| {
        append(journal, count);
        synced += count;
        sync(journal, synced);
        synced
    };
    let before = journal.segments().len();
    while journal.segments().len() == before {
        next(1);
    }
    let mark = fs::read(home.join(MARK)).unwrap();
    let synced = (1..=5).map(next).last().unwrap();
    (mark, synced)
}

fn snapshot(home: &Path, from: u64, through: u64) -> Sequence {
    let mut writer = SnapshotWriter::create(&home.join("snapshots"), Sequence::new(from)).unwrap();
    for sequence in 1..=through {
        let record = [&sequence.to_le_bytes()[..], &payload(sequence)].concat();
        writer.push(&record).unwrap();
    }
    writer.finish(Sequence::new(through)).unwrap().oldest_from
}

fn load(home: &Path) -> Files {
    let mut files = Files::new();
    for part in ["journal", "snapshots"] {
        for entry in fs::read_dir(home.join(part)).unwrap() {
            let path = entry.unwrap().path();
            files.insert(path.strip_prefix(home).unwrap().into(), fs::read(&path).unwrap());
        }
    }
    files
}

/// All segments from the first, closed in order.
fn build_whole() -> Built {
    let home = scratch();
    let (journal, _, _) = open_with(options(&home.path().join("journal"))).unwrap();
    append(&journal, 500);
    sync(&journal, 500);
    snapshot(home.path(), 180, 200);
    snapshot(home.path(), 390, 400);
    let (old_mark, synced_before) = sync_into_a_new_segment(&journal, home.path(), 500);
    let synced = synced_before + 8;
    append(&journal, 8);
    journal.close().unwrap();
    drop(journal);
    Built { files: load(home.path()), old_mark, synced, synced_before }
}

/// Retired and recycled segments, a spare, and a tail that was written and never synced.
fn build_recycled() -> Built {
    let home = scratch();
    let mut options = options(&home.path().join("journal"));
    let events = observed(&mut options);
    let (journal, _, _) = open_with(options).unwrap();
    append(&journal, 600);
    sync(&journal, 600);
    snapshot(home.path(), 310, 340);
    let keep_from = snapshot(home.path(), 500, 510);
    let retention =
        Retention { keep_from, created_before_unix_seconds: 0, bytes_max: 0, unread: None };
    journal.retire(retention).unwrap();
    assert!(events.iter().any(|event| matches!(event, JournalReport::Retired { .. })));
    append(&journal, 40);
    sync(&journal, 640);
    let (old_mark, synced) = sync_into_a_new_segment(&journal, home.path(), 640);
    append(&journal, 10);
    journal.flush().unwrap();
    drop(journal);
    let files = load(home.path());
    assert!(files.keys().any(|path| path.extension().is_some_and(|end| end == "spare")));
    // The tail proves all before it.
    Built { files, old_mark, synced, synced_before: synced }
}

fn write(home: &Path, files: &Files) {
    for part in ["journal", "snapshots"] {
        let directory = home.join(part);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
    }
    for (path, bytes) in files {
        fs::write(home.join(path), bytes).unwrap();
    }
}

/// One damage; says what was done, and whether all that it left of a piece is zeros.
fn damage(files: &mut Files, random: &mut Random) -> (String, bool) {
    let index = random.index(files.len());
    let path = files.keys().nth(index).unwrap().clone();
    let bytes = files.get_mut(&path).unwrap();
    let at = random.index(bytes.len());
    let kind = random.below(6);
    let piece = if random.below(2) == 0 { PAGE_BYTES } else { ATOM_BYTES };
    let from = at / piece * piece;
    let to = bytes.len().min(from + piece);
    let what = match kind {
        0 | 1 => {
            bytes[at] ^= 1 << random.below(8);
            format!("bit flipped at {at}")
        }
        2 => {
            bytes.truncate(at);
            format!("cut to {at}")
        }
        3 => {
            bytes[from..to].fill(0);
            format!("{piece} bytes zeroed at {from}")
        }
        4 => {
            bytes[from..to].fill_with(|| random.next().to_le_bytes()[0]);
            format!("{piece} bytes spoilt at {from}")
        }
        _ => {
            files.remove(&path);
            "deleted".to_owned()
        }
    };
    (format!("{}: {what}", path.display()), kind == 3)
}

/// Opens the store as its owner would: snapshot, then journal. All records found, then as many
/// more appended, closed.
fn recover(home: &Path, more: u64) -> Result<BTreeMap<u64, Vec<u8>>, String> {
    let mut records = BTreeMap::new();
    let snapshot = read_newest(
        &home.join("snapshots"),
        &mut |record| {
            let (sequence, payload) = record.split_first_chunk().unwrap();
            records.insert(u64::from_le_bytes(*sequence), payload.to_vec());
            Ok(())
        },
        &|_, _| {},
    );
    let info = snapshot.map_err(|error| error.to_string())?.info;
    let start = info.map_or(Sequence::FIRST, |info| info.from);
    let directory = home.join("journal");
    let opened =
        open_from(options(&directory), Some(start), &|following, _| following.number % 2 == 0);
    let (journal, recovered, seen) = opened.map_err(|error| error.to_string())?;
    if let Some(info) = info {
        let checked = info.check_journal(&directory, recovered.last);
        checked.map_err(|error| error.to_string())?;
    }
    for (before, after) in seen.iter().zip(seen.iter().skip(1)) {
        assert_eq!(before.0 + 1, after.0);
    }
    for (sequence, position, payload) in seen {
        let again = journal.read(position).unwrap();
        assert_eq!(again, (Sequence::new(sequence), payload.clone()));
        records.insert(sequence, payload);
    }
    append(&journal, more);
    journal.close().unwrap();
    Ok(records)
}

fn check_records(records: &BTreeMap<u64, Vec<u8>>, through: u64, what: &str) {
    for sequence in 1..=through {
        let found = records.get(&sequence);
        assert_eq!(found, Some(&payload(sequence)), "record {sequence} after {what}");
    }
    let last = records.keys().last().copied().unwrap_or(0);
    assert_eq!(last, records.len() as u64, "gap after {what}");
}

fn damage_all(built: &Built, seed: u64) {
    let home = scratch();
    write(home.path(), &built.files);
    check_records(&recover(home.path(), 0).unwrap(), built.synced, "no damage");
    let (mut refused, mut recovered, mut zeroed) = (0, 0, 0);
    for case in 0..cases() {
        let mut files = built.files.clone();
        let (what, is_zeroed) = damage(&mut files, &mut Random(seed + case));
        write(home.path(), &files);
        match recover(home.path(), 200) {
            Ok(records) => {
                let last = records.len() as u64;
                // Zeros in the place of what was synced last of all, with nothing written since
                // and an old mark: a power failure in the middle of that sync looks the same.
                let cannot_be_told = is_zeroed && last < built.synced;
                zeroed += u64::from(cannot_be_told);
                let sure = if cannot_be_told { built.synced_before } else { built.synced };
                assert!(last >= sure, "{} are lost after {what}", built.synced - last);
                check_records(&records, last, &what);
                // What was repaired stays whole when it is written on.
                let again = recover(home.path(), 0).unwrap();
                check_records(&again, last + 200, &what);
                assert_eq!(again.len() as u64, last + 200, "after {what}");
                recovered += 1;
            }
            Err(text) => {
                let file = [".journal", "tail", ".snap"].iter().any(|name| text.contains(name));
                assert!(file && text.contains(" at offset "), "{what} gave: {text}");
                refused += 1;
            }
        }
    }
    println!("{refused} refused, {recovered} recovered, {zeroed} like a power failure");
    assert!(refused > cases() / 5 && recovered > cases() / 10);
    let is_old = built.files[Path::new(MARK)] == built.old_mark;
    assert!(zeroed <= if is_old { cases() / 100 } else { 0 });
}

#[test]
fn no_single_damage_is_a_silent_loss() {
    damage_all(&build_whole(), 1_000_000);
}

#[test]
fn no_single_damage_is_a_silent_loss_with_an_old_mark() {
    damage_all(&build_whole().with_old_mark(), 4_000_000);
}

#[test]
fn no_single_damage_of_recycled_segments_is_a_silent_loss() {
    damage_all(&build_recycled(), 2_000_000);
}

#[test]
fn no_single_damage_of_recycled_segments_is_a_silent_loss_with_an_old_mark() {
    damage_all(&build_recycled().with_old_mark(), 5_000_000);
}

/// Every bit of what was synced last, with nothing behind it and an old mark.
#[test]
fn no_bit_of_the_last_sync_is_a_silent_loss() {
    let built = build_whole().with_old_mark();
    let path = built.files.keys().filter(|path| path.ends_with_journal()).rev().nth(1).unwrap();
    let home = scratch();
    let whole = built.files[path].clone();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut random = Random(6_000_000);
    let mut refused = 0;
    for _ in 0..300 {
        let mut files = built.files.clone();
        let at = end - random.index(3_000);
        files.get_mut(path).unwrap()[at] ^= 1 << random.below(8);
        write(home.path(), &files);
        match recover(home.path(), 0) {
            Ok(records) => check_records(&records, built.synced, "a bit"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 250, "{refused}");
}

trait EndsWithJournal {
    fn ends_with_journal(&self) -> bool;
}

impl EndsWithJournal for PathBuf {
    fn ends_with_journal(&self) -> bool {
        self.extension().is_some_and(|end| end == "journal")
    }
}

/// The files when all was synced, and at several moments later, with records written over two
/// segments and not synced. The second of them was recycled.
fn build_unsynced() -> (Vec<Files>, u64) {
    let home = scratch();
    let mut options = options(&home.path().join("journal"));
    let events = observed(&mut options);
    let (journal, _, _) = open_with(options).unwrap();
    append(&journal, 600);
    sync(&journal, 600);
    snapshot(home.path(), 500, 510);
    let keep_from = Sequence::new(500);
    let retention =
        Retention { keep_from, created_before_unix_seconds: 0, bytes_max: 0, unread: None };
    journal.retire(retention).unwrap();
    assert!(events.iter().any(|event| matches!(event, JournalReport::Retired { .. })));
    let mut synced = 600;
    let current = journal.segments().last().unwrap().number;
    while !home.path().join(format!("journal/{:010}.journal", current + 1)).exists() {
        append(&journal, 1);
        synced += 1;
        sync(&journal, synced);
    }
    // Nobody waits for the last ones, so their sector is written again.
    append_unawaited(&journal, 5);
    synced += 5;
    sync(&journal, synced);
    let mut moments = vec![load(home.path())];
    while journal.segments().last().unwrap().number == current {
        append_unawaited(&journal, 3);
        append(&journal, 3);
        journal.flush().unwrap();
        moments.push(load(home.path()));
    }
    append(&journal, 40);
    journal.flush().unwrap();
    drop(journal);
    moments.push(load(home.path()));
    (moments, synced)
}

fn append_unawaited(journal: &Journal, count: u64) {
    for _ in 0..count {
        let mut tail = journal.lock();
        let bytes = payload(tail.next().get());
        tail.append(Append { is_awaited: false, ..record(&bytes) }).unwrap();
    }
}

#[test]
fn a_power_failure_loses_nothing_synced() {
    let (mut moments, synced) = build_unsynced();
    let after = moments.pop().unwrap();
    let mut before = moments.remove(0);
    // What was prepared meanwhile, of a spare, is synced by itself.
    before.retain(|path, _| after.contains_key(path));
    let prepared = after.iter().filter(|(path, _)| !before.contains_key(*path));
    let prepared: Files = prepared.map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
    assert!(prepared.values().flatten().all(|byte| *byte == 0));
    before.extend(prepared);
    let home = scratch();
    let (mut dropped, mut refused) = (0, 0);
    for case in 0..cases() / 2 {
        let mut random = Random(3_000_000 + case);
        // Anything written since the last sync is on the disk as it was at some moment, or is not.
        let mut files = before.clone();
        for (path, bytes) in &mut files {
            for at in (0..bytes.len()).step_by(ATOM_BYTES) {
                let end = bytes.len().min(at + ATOM_BYTES);
                if bytes[at..end] == after[path][at..end] || random.below(5) > case % 4 {
                    continue;
                }
                let moment = random.index(moments.len() + 1);
                let moment = moments.get(moment).and_then(|files| files.get(path));
                bytes[at..end].copy_from_slice(&moment.unwrap_or(&after[path])[at..end]);
            }
        }
        write(home.path(), &files);
        let records = recover(home.path(), 100).unwrap();
        check_records(&records, synced, "a power failure");
        let last = records.len() as u64;
        let again = recover(home.path(), 0).unwrap();
        check_records(&again, last + 100, "a power failure");
        assert_eq!(again.len() as u64, last + 100);
        dropped += u64::from(last == synced);
        // And one bad bit of what had been written.
        let path = files.keys().filter(|path| path.ends_with_journal()).nth(random.index(3));
        let bytes = files.get_mut(&path.unwrap().clone()).unwrap();
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        bytes[random.index(written)] ^= 1 << random.below(8);
        write(home.path(), &files);
        match recover(home.path(), 0) {
            Ok(records) => check_records(&records, synced, "a power failure and a bad bit"),
            Err(text) => {
                assert!(text.contains(" at offset "), "{text}");
                refused += 1;
            }
        }
    }
    let share = cases() / 10;
    assert!((share..cases() / 2 - share).contains(&dropped), "the cases should differ: {dropped}");
    assert!(refused > share, "{refused}");
}
