//! A store with one random damage either refuses to open, naming file and offset, or has lost
//! nothing that was synced. After a power failure it opens, and has lost nothing that was synced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::journal::Retention;
use super::snapshot::SnapshotWriter;
use super::snapshot_read::read_newest;
use super::test_support::{
    Random, append, observed, open_from, open_with, options, payload, scratch, sync,
};
use super::types::{Event, Sequence};

const CASES_EACH: u64 = 1_050;
const PAGE_BYTES: usize = 4096;

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A store on disk, in memory, and how many of its records were synced.
struct Built {
    files: Files,
    synced: u64,
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
    journal.close().unwrap();
    drop(journal);
    Built { files: load(home.path()), synced: 500 }
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
    let retention = Retention { keep_from, created_before_unix_seconds: 0, bytes_max: 0 };
    journal.retire(retention).unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::Retired { .. })));
    append(&journal, 120);
    sync(&journal, 720);
    append(&journal, 10);
    journal.flush().unwrap();
    drop(journal);
    let files = load(home.path());
    assert!(files.keys().any(|path| path.extension().is_some_and(|end| end == "spare")));
    Built { files, synced: 720 }
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

/// One damage; says what was done.
fn damage(files: &mut Files, random: &mut Random) -> String {
    let index = random.index(files.len());
    let path = files.keys().nth(index).unwrap().clone();
    let bytes = files.get_mut(&path).unwrap();
    let at = random.index(bytes.len());
    let what = match random.below(4) {
        0 => {
            bytes[at] ^= 1 << random.below(8);
            format!("bit flipped at {at}")
        }
        1 => {
            bytes.truncate(at);
            format!("cut to {at}")
        }
        2 => {
            let page = at / PAGE_BYTES * PAGE_BYTES;
            let end = bytes.len().min(page + PAGE_BYTES);
            bytes[page..end].fill(0);
            format!("page zeroed at {page}")
        }
        _ => {
            files.remove(&path);
            "deleted".to_owned()
        }
    };
    format!("{}: {what}", path.display())
}

/// Opens the store as its owner would: snapshot, then journal. All records found, then as many
/// more appended, closed.
fn recover(home: &Path, more: u64) -> Result<BTreeMap<u64, Vec<u8>>, String> {
    let mut records = BTreeMap::new();
    let snapshot = read_newest(&home.join("snapshots"), &mut |record| {
        let (sequence, payload) = record.split_first_chunk().unwrap();
        records.insert(u64::from_le_bytes(*sequence), payload.to_vec());
        Ok(())
    });
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
    let (mut refused, mut recovered) = (0, 0);
    for case in 0..CASES_EACH {
        let mut files = built.files.clone();
        let what = damage(&mut files, &mut Random(seed + case));
        write(home.path(), &files);
        match recover(home.path(), 200) {
            Ok(records) => {
                check_records(&records, built.synced, &what);
                let last = records.len() as u64;
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
    println!("{refused} refused, {recovered} recovered");
    assert!(refused > 100 && recovered > 100);
}

#[test]
fn no_single_damage_is_a_silent_loss() {
    damage_all(&build_whole(), 1_000_000);
}

#[test]
fn no_single_damage_of_recycled_segments_is_a_silent_loss() {
    damage_all(&build_recycled(), 2_000_000);
}

/// The files when all was synced, and later, with records written over two segments and not
/// synced. The second of them was recycled.
fn build_unsynced() -> (Files, Files, u64) {
    let home = scratch();
    let mut options = options(&home.path().join("journal"));
    let events = observed(&mut options);
    let (journal, _, _) = open_with(options).unwrap();
    append(&journal, 600);
    sync(&journal, 600);
    snapshot(home.path(), 500, 510);
    let keep_from = Sequence::new(500);
    let retention = Retention { keep_from, created_before_unix_seconds: 0, bytes_max: 0 };
    journal.retire(retention).unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::Retired { .. })));
    let mut synced = 600;
    let current = journal.segments().last().unwrap().number;
    while !home.path().join(format!("journal/{:010}.journal", current + 1)).exists() {
        append(&journal, 1);
        synced += 1;
        sync(&journal, synced);
    }
    let before = load(home.path());
    while journal.segments().last().unwrap().number == current {
        append(&journal, 1);
        journal.flush().unwrap();
    }
    append(&journal, 40);
    journal.flush().unwrap();
    (before, load(home.path()), synced)
}

#[test]
fn a_power_failure_loses_nothing_synced() {
    let (before, after, synced) = build_unsynced();
    assert!(before.keys().eq(after.keys()));
    let home = scratch();
    let mut dropped = 0;
    for case in 0..CASES_EACH / 3 {
        let mut random = Random(3_000_000 + case);
        // Any page written since the last sync is on the disk, or is not.
        let mut files = before.clone();
        for (path, bytes) in &mut files {
            let pages = bytes.chunks_mut(PAGE_BYTES).zip(after[path].chunks(PAGE_BYTES));
            for (page, written) in pages.filter(|(old, new)| old != new) {
                if random.below(5) < 1 + case % 4 {
                    page.copy_from_slice(written);
                }
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
    }
    assert!((50..CASES_EACH / 3 - 50).contains(&dropped), "the cases should differ: {dropped}");
}
