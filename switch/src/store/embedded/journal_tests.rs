//! What a journal promises: order, places, durability, recycling, and what is refused at open.

use std::fs::{self};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::journal::{Append, Journal, Retention, Unread};
use super::options::SEGMENT_BYTES_MIN;
use super::segment::{
    Found, RECORD_BYTES, Record, SECTOR_BYTES, SegmentInfo, Version, decode_record, encode_record,
    segment_path,
};
use super::test_support::{
    SECONDS, Seen, append, observed, open, open_from, open_with, options, record, scratch, sync,
};
use super::types::{AppendError, JournalReport, Position, ReadError, Sequence};

#[test]
fn what_was_synced_is_there_again() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, recovered, _) = open(&directory);
    assert_eq!((recovered.first, recovered.last), (Sequence::FIRST, Sequence::NONE));
    let written = append(&journal, 10);
    journal.flush().unwrap();
    assert_eq!(journal.synced_through(), Sequence::NONE);
    sync(&journal, 10);
    assert_eq!(journal.synced_through(), Sequence::new(10));
    let more = append(&journal, 5);
    for (sequence, position, bytes) in written.iter().chain(&more) {
        assert_eq!(journal.read(*position).unwrap(), (Sequence::new(*sequence), bytes.clone()));
    }
    journal.close().unwrap();
    journal.close().unwrap();
    assert!(matches!(journal.lock().append(record(b"x")), Err(AppendError::Failed(_))));
    drop(journal);

    let (journal, recovered, seen) = open(&directory);
    assert_eq!(seen, [written, more].concat());
    assert_eq!((recovered.last, recovered.visited), (Sequence::new(15), 15));
    assert!(recovered.dropped.is_none());
    assert_eq!(append(&journal, 1)[0].0, 16);
}

#[test]
fn a_drop_without_close_keeps_what_was_flushed() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let written = append(&journal, 7);
    journal.flush().unwrap();
    append(&journal, 3);
    drop(journal);
    let (journal, recovered, seen) = open(&directory);
    assert_eq!(seen, written);
    assert_eq!(journal.synced_through(), Sequence::new(7));
    assert!(recovered.dropped.is_none());
}

#[test]
fn many_segments_roll_and_places_are_exact() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let mut written = Vec::new();
    for _ in 0..40 {
        written.extend(append(&journal, 50));
        journal.flush().unwrap();
    }
    assert!(journal.segments().len() > 10);
    sync(&journal, 2000);
    drop(journal);
    let (journal, _, seen) = open(&directory);
    assert_eq!(seen, written);
    assert_eq!(journal.lock().next(), Sequence::new(2001));
    for (sequence, position, bytes) in &written {
        assert_eq!(Position::from_u64(position.to_u64()), *position);
        assert_eq!(journal.read(*position).unwrap(), (Sequence::new(*sequence), bytes.clone()));
    }
}

#[test]
fn one_large_batch_crosses_segments() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let written = append(&journal, 1000);
    sync(&journal, 1000);
    drop(journal);
    assert_eq!(open(&directory).2, written);
}

fn retire(directory: &Path, retention: Retention) -> (Journal, Vec<Seen>, JournalReport) {
    let mut options = options(directory);
    let events = observed(&mut options);
    let (journal, _, mut written) = open_with(options).unwrap();
    written.extend(append(&journal, 1000));
    let last = written.last().unwrap().0;
    sync(&journal, last);
    journal.retire(retention).unwrap();
    let retired =
        events.iter().find(|event| !matches!(event, JournalReport::Synced { .. })).unwrap();
    (journal, written, retired)
}

#[test]
fn old_segments_are_recycled_and_never_past_what_is_needed() {
    let home = scratch();
    let directory = home.path().join("journal");
    let over_size = Retention {
        keep_from: Sequence::new(700),
        created_before_unix_seconds: 0,
        bytes_max: 1,
        unread: None,
    };
    let (journal, written, event) = retire(&directory, over_size);
    let JournalReport::Retired { segments, oldest, .. } = event else { panic!("{event:?}") };
    let kept = journal.segments();
    assert_eq!((segments + 1, oldest), (kept[0].number as usize, kept[0].number));
    assert!(kept[0].first <= Sequence::new(700) && kept[1].first > Sequence::new(700));
    assert!(matches!(journal.read(written[0].1), Err(ReadError::Retired)));
    let spares = || fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.file_name());
    let spares = || spares().filter(|name| name.to_str().unwrap().ends_with(".spare")).count();
    assert_eq!(spares(), 2);
    // Both spares become segments again.
    let more = append(&journal, 300);
    journal.flush().unwrap();
    assert!(spares() < 2);
    drop(journal);

    let from = kept[0].first.get();
    let (_journal, recovered, seen) = open(&directory);
    let all = [written, more].concat();
    let wanted: Vec<Seen> = all.into_iter().filter(|record| record.0 >= from).collect();
    assert_eq!(seen, wanted);
    assert_eq!(recovered.first.get(), from);
    assert!(recovered.dropped.is_none());
}

/// What nobody has read stays as far as there is room for it, and is counted where it goes.
#[test]
fn what_is_unread_is_kept_for_a_while() {
    let home = scratch();
    let unread = |after: Position, bytes_max| {
        Some(Unread { reader: "slow".into(), after, bytes_max, count: |_| 2 })
    };
    let (keep_from, created_before_unix_seconds) = (Sequence::new(u64::MAX), 0);
    let over_size = |unread| Retention {
        keep_from,
        created_before_unix_seconds,
        bytes_max: 2 * u64::from(SEGMENT_BYTES_MIN),
        unread,
    };
    let directory = home.path().join("kept");
    let first = Position { segment: 1, offset: 0 };
    let room = 4 * u64::from(SEGMENT_BYTES_MIN);
    let (journal, written, event) = retire(&directory, over_size(unread(first, room)));
    let JournalReport::Retired { unread: dropped, oldest, reader, .. } = event else { panic!() };
    assert_eq!(reader.as_deref(), Some("slow"));
    let gone = written.iter().filter(|(_, position, _)| position.segment < oldest).count();
    assert_eq!(dropped, 2 * gone as u64);
    // Each is counted before it goes, so that only some go at once.
    assert!(oldest == 3 && journal.segments().len() > 6, "{oldest}");
    for _ in 0..100 {
        journal.retire(over_size(unread(first, room))).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(journal.segments().len(), 6);
    drop(journal);
    // What was read goes as ever, and is not counted.
    let last = Position { segment: u32::MAX, offset: 0 };
    let directory = home.path().join("read");
    let (journal, _, event) = retire(&directory, over_size(unread(last, room)));
    assert!(matches!(event, JournalReport::Retired { unread: 0, .. }));
    assert_eq!(journal.segments().len(), 2);
}

#[test]
fn retired_segments_are_told_from_lost_ones() {
    let home = scratch();
    let directory = home.path().join("journal");
    let keep_from = Sequence::new(500);
    let over_size =
        Retention { keep_from, created_before_unix_seconds: 0, bytes_max: 1, unread: None };
    let (journal, _, _) = retire(&directory, over_size);
    let oldest = journal.segments()[0];
    drop(journal);
    let from = |start| open_from(options(&directory), Some(Sequence::new(start)), &|_, _| false);
    assert!(from(900).is_ok());
    let text = from(oldest.first.get() - 1).err().unwrap().to_string();
    assert!(text.contains(" at offset 0: ") && text.contains("the journal begins at"), "{text}");
    // Not read at all with this start, and missed nevertheless.
    fs::remove_file(segment_path(&directory, oldest.number)).unwrap();
    let text = from(900).err().unwrap().to_string();
    let name = format!("{:010}.journal at offset 0: the segment is missing", oldest.number);
    assert!(text.ends_with(&name), "{text}");
}

fn info(version: Version, number: u32) -> SegmentInfo {
    let first = Sequence::FIRST;
    SegmentInfo {
        version,
        number,
        first,
        created_unix_seconds: SECONDS,
        bytes: 65_536,
        answers_before: 0,
    }
}

#[test]
fn a_record_is_valid_in_its_own_segment_only() {
    let mut bytes = Vec::new();
    encode_record(&mut bytes, 7, Sequence::new(3), Sequence::new(2), b"card");
    let Found::Record(found) = decode_record(&bytes, &info(Version::V2, 7)) else { panic!() };
    let Record { sequence, synced, payload, bytes: size } = found;
    assert_eq!((sequence, synced), (Sequence::new(3), Sequence::new(2)));
    assert_eq!((payload, size), (&b"card"[..], bytes.len()));
    for other in [info(Version::V2, 8), info(Version::V1, 7)] {
        assert!(matches!(decode_record(&bytes, &other), Found::Bad { .. }));
    }
}

#[test]
fn every_bit_of_a_record_counts() {
    let mut bytes = Vec::new();
    encode_record(&mut bytes, 7, Sequence::new(256), Sequence::NONE, &[b'x'; 256]);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let found = decode_record(&bytes, &info(Version::V2, 7));
        assert!(matches!(found, Found::Bad { .. }), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn what_was_answered_for_is_never_in_a_sector_that_is_written_again() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, _, _) = open(&directory);
    let sector = |position: Position| u64::from(position.offset) / SECTOR_BYTES;
    let mut sectors = Vec::new();
    for round in 1..=20 {
        sectors.push(sector(append(&journal, 1)[0].1));
        sync(&journal, round);
    }
    assert_eq!(sectors, (1..16).chain(0..5).collect::<Vec<_>>(), "a sector each");
    // Nobody waited for these: a quiet journal stays packed.
    let (mut seen, quiet) = (Vec::new(), b"quiet");
    for round in 21..=40 {
        let unawaited = Append { is_awaited: false, ..record(quiet) };
        seen.push(sector(journal.lock().append(unawaited).unwrap().1));
        sync(&journal, round);
    }
    assert_eq!(seen, [5; 20]);
    drop(journal);
    // What was found at start is synced, and somebody may be told of it.
    let (journal, _, seen) = open(&directory);
    assert_eq!(seen.len(), 40);
    assert_eq!(sector(append(&journal, 1)[0].1), 6);
}

/// Whatever is left of a sector: nothing, less than a head, or just one.
#[test]
fn padding_of_every_length_is_passed_over() {
    for left in 0..=RECORD_BYTES + 1 {
        let home = scratch();
        let directory = home.path().join("journal");
        let (journal, _, _) = open(&directory);
        let sector = usize::try_from(SECTOR_BYTES).unwrap();
        let long = 256 * 4;
        let rest = sector - left - 3 * (RECORD_BYTES + long) - RECORD_BYTES;
        for length in [long, long, long, rest] {
            journal.lock().append(record(&vec![b'x'; length])).unwrap();
        }
        sync(&journal, 4);
        append(&journal, 1);
        sync(&journal, 5);
        // And without an answer, where the last one would reach into the next sector.
        for length in [long, long, long, rest, long] {
            let bytes = vec![b'x'; length];
            let unawaited = Append { is_awaited: false, ..record(&bytes) };
            journal.lock().append(unawaited).unwrap();
        }
        sync(&journal, 10);
        drop(journal);
        assert_eq!(open(&directory).2.len(), 10, "{left}");
    }
}

#[test]
fn headers_count_the_answers_that_are_kept() {
    let home = scratch();
    let directory = home.path().join("journal");
    let (journal, recovered, _) = open(&directory);
    assert_eq!(recovered.answers, 0);
    let written = append(&journal, 1_000);
    sync(&journal, 1_000);
    let before = |limit: u64| {
        let kept = |(sequence, _, bytes): &&Seen| *sequence < limit && record(bytes).keeps_answer;
        written.iter().filter(kept).count() as u64
    };
    let segments = journal.segments();
    assert!(segments.len() > 5);
    for segment in &segments {
        assert_eq!(segment.answers_before, before(segment.first.get()));
    }
    drop(journal);
    // Also where reading begins in the middle.
    let start = Some(segments[4].first);
    let (journal, recovered, _) = open_from(options(&directory), start, &|_, _| false).unwrap();
    assert_eq!(recovered.answers, before(u64::MAX));
    assert_eq!(journal.segments(), segments);
}

#[test]
fn segments_go_by_age() {
    let home = scratch();
    let directory = home.path().join("journal");
    let by_age = |created_before_unix_seconds| Retention {
        keep_from: Sequence::new(u64::MAX),
        created_before_unix_seconds,
        bytes_max: u64::MAX,
        unread: None,
    };
    let (journal, _, event) = retire(&directory, by_age(SECONDS + 1));
    assert!(matches!(event, JournalReport::Retired { .. }));
    assert_eq!(journal.segments().len(), 1);
    journal.retire(by_age(SECONDS)).unwrap();
    journal.close().unwrap();
    assert_eq!(journal.segments().len(), 1);
}

#[test]
fn sixty_four_waiters_share_syncs() {
    let home = scratch();
    let mut options = options(&home.path().join("journal"));
    let events = observed(&mut options);
    let journal = Arc::new(open_with(options).unwrap().0);
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let journal = Arc::clone(&journal);
            runtime.spawn(async move {
                for _ in 0..50 {
                    let sequence = append(&journal, 1)[0].0;
                    journal.flush().unwrap();
                    journal.synced(Sequence::new(sequence)).await.unwrap();
                    assert!(journal.synced_through() >= Sequence::new(sequence));
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    journal.close().unwrap();
    let sum = events.try_iter().fold((0, 0), |sum, event| match event {
        JournalReport::Synced { records, waiters, .. } => (sum.0 + records, sum.1 + waiters),
        _ => sum,
    });
    assert_eq!(sum.0, 3200);
    assert!(sum.1 <= 3200);
}

#[test]
fn without_a_waiter_the_interval_syncs() {
    let home = scratch();
    let mut options = options(&home.path().join("journal"));
    options.sync_interval = Duration::from_millis(5);
    let events = observed(&mut options);
    let (journal, _, _) = open_with(options).unwrap();
    append(&journal, 3);
    let event = events.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(event, JournalReport::Synced { records: 1..=3, waiters: 0, .. }));
}
