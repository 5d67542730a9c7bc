//! TCP streams put in order: each direction of a connection, from its segments to its frames.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::BytesMut;
use jiff::Timestamp;

use super::capture::Segment;
use crate::frame::{self, Frame, FrameFormat, Searched};

/// One direction of one connection.
pub(super) struct Stream {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// Sequence number of its first byte, as far as the capture shows.
    first: u32,
    segments: Vec<Segment>,
}

/// A frame found in a stream.
pub(super) struct Found {
    /// The packet in which it ends.
    pub(super) packet: u64,
    pub(super) time: Option<Timestamp>,
    pub(super) frame: Frame,
}

/// What was found in a stream besides its frames.
#[derive(Default)]
pub(super) struct Report {
    pub(super) frames: Vec<Found>,
    pub(super) packets: usize,
    pub(super) retransmitted: usize,
    pub(super) out_of_order: usize,
    /// What keeps frames from being read, each with its packet.
    pub(super) losses: Vec<String>,
}

/// The streams of a capture. A new connection between the same ports is a stream of its own.
pub(super) fn streams(segments: Vec<Segment>) -> Vec<Stream> {
    let mut streams: Vec<Stream> = Vec::new();
    let mut newest: HashMap<(SocketAddr, SocketAddr), usize> = HashMap::new();
    for segment in segments {
        let first = segment.sequence.wrapping_add(u32::from(segment.is_syn));
        let ends = (segment.from, segment.to);
        let known = newest.get(&ends).copied();
        let known = known.filter(|index| {
            !segment.is_syn || streams.get(*index).is_some_and(|stream| stream.first == first)
        });
        let index = known.unwrap_or_else(|| {
            let (from, to) = ends;
            streams.push(Stream { from, to, first, segments: Vec::new() });
            newest.insert(ends, streams.len() - 1);
            streams.len() - 1
        });
        if let Some(stream) = streams.get_mut(index).filter(|_| !segment.data.is_empty()) {
            stream.segments.push(segment);
        }
    }
    streams
}

impl Stream {
    /// Puts the segments in order and cuts frames out of them. After a gap, and after what is no
    /// frame, reading goes on where the next segment begins.
    pub(super) fn read(mut self, format: FrameFormat, bytes_max: usize) -> Report {
        let mut report = Report { packets: self.segments.len(), ..Report::default() };
        let first = self.first;
        // The distance from the first byte; one that wraps is before it.
        let place = |segment: &Segment| {
            let distance = segment.sequence.wrapping_add(u32::from(segment.is_syn));
            i64::from(distance.wrapping_sub(first).cast_signed())
        };
        self.segments.sort_by_key(place);
        let mut next = self.segments.first().map_or(0, |segment| place(segment).min(0));
        let (mut newest, mut input) = ((0, None), BytesMut::new());
        let mut searched = Searched::default();
        for segment in &self.segments {
            let (start, length) = (place(segment), i64::try_from(segment.data.len()).unwrap_or(0));
            if start + length <= next {
                report.retransmitted += 1;
                continue;
            }
            report.out_of_order += usize::from(segment.packet < newest.0);
            newest = newest.max((segment.packet, segment.time));
            if start > next {
                let missing = start - next;
                let text = format!("{missing} bytes are missing before packet {}", segment.packet);
                report.losses.push(text);
                input.clear();
                searched = Searched::default();
                next = start;
            }
            // What was received twice counts once.
            let known = usize::try_from(next - start).unwrap_or(0);
            input.extend_from_slice(segment.data.get(known..).unwrap_or_default());
            next = start + length;
            report.take(&mut input, newest, |input| {
                frame::next_from(input, format, bytes_max, &mut searched)
            });
            if input.is_empty() {
                searched = Searched::default();
            }
        }
        if !input.is_empty() {
            report
                .losses
                .push(format!("it ends with {} bytes of an unfinished frame", input.len()));
        }
        report
    }
}

impl Report {
    fn take(
        &mut self,
        input: &mut BytesMut,
        (packet, time): (u64, Option<Timestamp>),
        mut next: impl FnMut(&mut BytesMut) -> Result<Option<Frame>, frame::FrameError>,
    ) {
        loop {
            match next(input) {
                Ok(Some(frame)) => self.frames.push(Found { packet, time, frame }),
                Ok(None) => return,
                Err(error) => {
                    self.losses.push(format!("packet {packet}: {error}"));
                    input.clear();
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Framing, Header};

    const FORMAT: FrameFormat = FrameFormat { framing: Framing::Binary2, header: Header::None };

    fn segment(packet: u64, sequence: u32, data: &[u8]) -> Segment {
        let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (from, to, data) = (end(1), end(2), data.to_vec());
        Segment { packet, time: None, from, to, sequence, is_syn: data.is_empty(), data }
    }

    /// Frames with their packets, losses, and packets retransmitted and out of order.
    type Read = (Vec<(u64, Vec<u8>)>, Vec<String>, usize, usize);

    fn read(segments: Vec<Segment>) -> Vec<Read> {
        let reports = streams(segments).into_iter().map(|stream| stream.read(FORMAT, 100));
        let reports = reports.map(|report| {
            let frames =
                report.frames.iter().map(|found| (found.packet, found.frame.message.to_vec()));
            (frames.collect(), report.losses, report.retransmitted, report.out_of_order)
        });
        reports.collect()
    }

    #[test]
    fn segments_are_put_in_order_and_counted_once() {
        // The sequence numbers pass the end of 32 bits.
        let syn = u32::MAX - 2;
        let first = syn + 1;
        let found = read(vec![
            segment(1, syn, b""),
            segment(2, first.wrapping_add(3), b"b\x00\x01c"),
            segment(3, first, b"\x00\x02a"),
            segment(4, first, b"\x00\x02a"),
            segment(5, first.wrapping_add(5), b"\x01c\x00\x01d"),
        ]);
        let frames = vec![(3, b"ab".to_vec()), (3, b"c".to_vec()), (5, b"d".to_vec())];
        assert_eq!(found, [(frames, vec![], 1, 1)]);
    }

    #[test]
    fn reading_goes_on_after_a_gap_and_after_what_is_no_frame() {
        let found = read(vec![
            segment(1, 100, b"\x00\x02a"),
            segment(2, 110, b"\x00\x01b"),
            segment(3, 113, b"\xff\xff\xff"),
            segment(4, 116, b"\x00\x01c\x00"),
        ]);
        let losses = [
            "7 bytes are missing before packet 2",
            "packet 3: a frame of 65535 bytes is above the limit of 100",
            "it ends with 1 bytes of an unfinished frame",
        ];
        let frames = vec![(2, b"b".to_vec()), (4, b"c".to_vec())];
        assert_eq!(found, [(frames, losses.map(str::to_owned).to_vec(), 0, 0)]);
    }

    #[test]
    fn a_new_connection_between_the_same_ports_is_a_new_stream() {
        let found = read(vec![
            segment(1, 100, b""),
            segment(2, 101, b"\x00\x01a"),
            segment(3, 100, b""),
            segment(4, 5_000_000, b""),
            segment(5, 5_000_001, b"\x00\x01b"),
        ]);
        let frames = |packet, text: &[u8]| (vec![(packet, text.to_vec())], vec![], 0, 0);
        assert_eq!(found, [frames(2, b"a"), frames(5, b"b")]);
    }

    #[test]
    fn a_capture_may_begin_within_a_stream_and_out_of_order() {
        let found = read(vec![segment(1, 203, b"\x00\x01b"), segment(2, 200, b"\x00\x01a")]);
        let frames = vec![(2, b"a".to_vec()), (2, b"b".to_vec())];
        assert_eq!(found, [(frames, vec![], 0, 1)]);
    }
}
