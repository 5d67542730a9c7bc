//! What snapshots promise: whole or not at all, and one to fall back to.

use std::fs;
use std::path::Path;

use super::snapshot::{Finished, SnapshotInfo, SnapshotWriter};
use super::snapshot_read::{SnapshotRead, read_newest, remove_drafts};
use super::test_support::{payload, scratch};
use super::types::Sequence;

fn write(directory: &Path, from: u64, records: u64) -> Finished {
    let mut writer = SnapshotWriter::create(directory, Sequence::new(from)).unwrap();
    for number in 0..records {
        writer.push(&payload(from + number)).unwrap();
    }
    writer.finish(Sequence::new(from + 5)).unwrap()
}

fn read(directory: &Path) -> (SnapshotRead, Vec<Vec<u8>>) {
    let mut seen = Vec::new();
    let read = read_newest(
        directory,
        &mut |payload| {
            seen.push(payload.to_vec());
            Ok(())
        },
        &|_, _| {},
    );
    (read.unwrap(), seen)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn info(from: u64) -> SnapshotInfo {
    SnapshotInfo { from: Sequence::new(from), through: Sequence::new(from + 5) }
}

#[test]
fn the_newest_is_read_and_two_are_kept() {
    let home = scratch();
    let directory = home.path().join("snapshots");
    assert_eq!(read(&directory).0.info, None);
    write(&directory, 100, 3);
    write(&directory, 200, 0);
    let finished = write(&directory, 300, 50);
    assert_eq!(finished, Finished { info: info(300), oldest_from: Sequence::new(200) });
    assert_eq!(
        names(&directory),
        ["snapshot-00000000000000000200.snap", "snapshot-00000000000000000300.snap"]
    );
    let (found, seen) = read(&directory);
    assert_eq!((found.info, found.damaged.len()), (Some(info(300)), 0));
    assert_eq!(seen, (300..350).map(payload).collect::<Vec<_>>());
    assert!(info(300).check_journal(&directory, Sequence::new(305)).is_ok());
    assert!(info(300).check_journal(&directory, Sequence::new(304)).is_err());
}

#[test]
fn an_unfinished_one_leaves_nothing() {
    let home = scratch();
    let mut writer = SnapshotWriter::create(home.path(), Sequence::new(7)).unwrap();
    writer.push(b"card").unwrap();
    assert!(writer.push(b"").is_err());
    drop(writer);
    assert!(names(home.path()).is_empty());
    fs::write(home.path().join("snapshot-00000000000000000007.snap.new"), b"half").unwrap();
    assert_eq!(read(home.path()).0.info, None);
    remove_drafts(home.path()).unwrap();
    assert!(names(home.path()).is_empty());
}

#[test]
fn any_single_damage_falls_back_to_the_older_one() {
    let home = scratch();
    write(home.path(), 100, 4);
    write(home.path(), 200, 3);
    let path = home.path().join("snapshot-00000000000000000200.snap");
    let whole = fs::read(&path).unwrap();
    let mut damages: Vec<Vec<u8>> = vec![[whole.as_slice(), b"\0"].concat()];
    for at in 0..whole.len() {
        damages.push(whole[..at].to_vec());
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        damages.push(flipped);
    }
    for damage in damages {
        fs::write(&path, &damage).unwrap();
        let (found, seen) = read(home.path());
        assert_eq!(found.info, Some(info(100)));
        assert_eq!(seen, (100..104).map(payload).collect::<Vec<_>>());
        let text = found.damaged[0].to_string();
        assert!(text.contains("00200.snap at offset "), "{text}");
    }
    fs::write(home.path().join("snapshot-00000000000000000100.snap"), b"").unwrap();
    let (found, seen) = read(home.path());
    assert_eq!((found.info, found.damaged.len(), seen.len()), (None, 2, 0));
}
