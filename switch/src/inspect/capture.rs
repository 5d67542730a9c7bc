//! Captures: from a pcap or pcapng file to the TCP segments in it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use jiff::Timestamp;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::InspectError;

/// A TCP segment with data, or one that opens a connection.
pub(super) struct Segment {
    /// Number of its packet in the file, from 1.
    pub(super) packet: u64,
    pub(super) time: Option<Timestamp>,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) is_syn: bool,
    pub(super) data: Vec<u8>,
}

/// What a file holds, and what of it was left out.
#[derive(Default)]
pub(super) struct Capture {
    pub(super) segments: Vec<Segment>,
    /// Remarks, each with its packet.
    pub(super) remarks: Vec<String>,
    /// Link types of packets that could not be read.
    unknown_links: Vec<Linktype>,
    /// How many fragments of IP packets were left out, and the packet of the first.
    fragments: u64,
    first_fragment: u64,
}

/// Kinds of links that leave a remark, at most: a file may name any number of them.
const UNKNOWN_LINKS_MAX: usize = 16;

/// Room for the longest packet that is read, in bytes.
const PACKET_BYTES_MAX: usize = 1 << 20;

const READER_BYTES: usize = 1 << 10;
const ENDS_INSIDE: &str = "the file ends inside it";

/// Whether a file begins as a capture does.
pub(super) fn is_capture(bytes: &[u8]) -> bool {
    const MAGICS: [[u8; 4]; 6] = [
        [0xa1, 0xb2, 0xc3, 0xd4],
        [0xd4, 0xc3, 0xb2, 0xa1],
        [0xa1, 0xb2, 0x3c, 0x4d],
        [0x4d, 0x3c, 0xb2, 0xa1],
        [0x34, 0xcd, 0xb2, 0xa1],
        [0x0a, 0x0d, 0x0d, 0x0a],
    ];
    bytes.first_chunk().is_some_and(|head| MAGICS.contains(head))
}

/// Reads all packets; where `port` is given, only those from or to it.
pub(super) fn read(bytes: &[u8], port: Option<u16>) -> Result<Capture, InspectError> {
    // A short file needs no more room than it has, and a little for the reader.
    let room = PACKET_BYTES_MAX.min(bytes.len() + READER_BYTES);
    let mut reader = create_reader(room, bytes)
        .map_err(|_| InspectError::Capture { packet: 0, what: "not a pcap or pcapng file" })?;
    let mut capture = Capture::default();
    let mut interfaces = Interfaces::default();
    let mut packet = 0;
    loop {
        let what = match reader.next() {
            Ok((used, block)) => {
                if let Some(found) = interfaces.packet(&block) {
                    packet += 1;
                    capture.add(packet, &found, port);
                }
                reader.consume(used);
                continue;
            }
            Err(PcapError::Eof) => return Ok(capture.finished()),
            Err(PcapError::Incomplete(_) | PcapError::UnexpectedEof) => ENDS_INSIDE,
            Err(PcapError::BufferTooSmall) if room < PACKET_BYTES_MAX => ENDS_INSIDE,
            Err(PcapError::BufferTooSmall) => "it is longer than 1 MiB",
            Err(_) => "it is no packet of this kind of file",
        };
        let before = reader.data().len();
        if what == ENDS_INSIDE && !reader.reader_exhausted() && reader.refill().is_ok() {
            // Without more room or more data it would go round for ever.
            if reader.data().len() > before || reader.reader_exhausted() {
                continue;
            }
        }
        let what = format!("packet {}: {what}; nothing after it was read", packet + 1);
        capture.remarks.push(what);
        return Ok(capture.finished());
    }
}

/// A packet as it was captured.
struct Packet<'a> {
    link: Linktype,
    time: Option<Timestamp>,
    data: &'a [u8],
}

/// What the packets of a section are and how their time counts.
#[derive(Default)]
struct Interfaces {
    known: Vec<Interface>,
}

#[derive(Clone, Copy)]
struct Interface {
    link: Linktype,
    /// Units of a second.
    resolution: u64,
    /// Added to every time, in seconds.
    offset: i64,
}

impl Interfaces {
    fn packet<'a>(&mut self, block: &'a PcapBlockOwned<'_>) -> Option<Packet<'a>> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let resolution =
                    if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                self.known.push(Interface { link: header.network, resolution, offset: 0 });
                None
            }
            PcapBlockOwned::Legacy(packet) => {
                let interface = self.known.first()?;
                let parts = u64::from(packet.ts_usec);
                let ticks = u64::from(packet.ts_sec).checked_mul(interface.resolution)?;
                let time = interface.time(ticks.saturating_add(parts));
                Some(Packet { link: interface.link, time, data: packet.data })
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.known.clear();
                None
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(described)) => {
                self.known.push(Interface {
                    link: described.linktype,
                    resolution: described.ts_resolution().filter(|units| *units > 0).unwrap_or(1),
                    offset: described.ts_offset(),
                });
                None
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let interface = self.known.get(usize::try_from(packet.if_id).ok()?)?;
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let data = clip(packet.data, packet.caplen);
                Some(Packet { link: interface.link, time: interface.time(ticks), data })
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let interface = self.known.first()?;
                let data = clip(packet.data, packet.origlen);
                Some(Packet { link: interface.link, time: None, data })
            }
            PcapBlockOwned::NG(_) => None,
        }
    }
}

impl Interface {
    fn time(&self, ticks: u64) -> Option<Timestamp> {
        let seconds = i64::try_from(ticks / self.resolution).ok()?.checked_add(self.offset)?;
        let parts = u128::from(ticks % self.resolution) * 1_000_000_000;
        let nanoseconds = i32::try_from(parts / u128::from(self.resolution)).ok()?;
        Timestamp::new(seconds, nanoseconds).ok()
    }
}

/// A packet without the padding behind it.
fn clip(data: &[u8], bytes: u32) -> &[u8] {
    usize::try_from(bytes).ok().and_then(|bytes| data.get(..bytes)).unwrap_or(data)
}

impl Capture {
    /// With one remark for all fragments: there may be millions.
    fn finished(mut self) -> Self {
        let (packet, fragments) = (self.first_fragment, self.fragments);
        if fragments > 0 {
            let text = "fragments of IP packets are left out";
            self.remarks.push(format!("packet {packet} and after: {fragments} {text}"));
        }
        self
    }

    fn add(&mut self, packet: u64, found: &Packet<'_>, port: Option<u16>) {
        let Some(sliced) = slice(found) else {
            // Once for all packets of a kind: there may be millions.
            let text = format!("packet {packet}: headers of link type {}", found.link.0);
            let is_room = self.unknown_links.len() < UNKNOWN_LINKS_MAX;
            if is_room && !self.unknown_links.contains(&found.link) {
                self.unknown_links.push(found.link);
                self.remarks.push(text);
            }
            return;
        };
        let (source, destination, fragmented) = match &sliced.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                let header = ip.header();
                let addresses = (header.source_addr(), header.destination_addr());
                (IpAddr::V4(addresses.0), IpAddr::V4(addresses.1), ip.is_payload_fragmented())
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                let header = ip.header();
                let addresses = (header.source_addr(), header.destination_addr());
                (IpAddr::V6(addresses.0), IpAddr::V6(addresses.1), ip.is_payload_fragmented())
            }
            _ => return,
        };
        let payload = sliced.net.as_ref().and_then(LaxNetSlice::ip_payload_ref);
        if fragmented && payload.is_some_and(|payload| payload.ip_number == IpNumber::TCP) {
            if self.fragments == 0 {
                self.first_fragment = packet;
            }
            self.fragments += 1;
        }
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return };
        let (from, to) = (tcp.source_port(), tcp.destination_port());
        let wanted = port.is_none_or(|port| port == from || port == to);
        if !wanted || (tcp.payload().is_empty() && !tcp.syn()) {
            return;
        }
        self.segments.push(Segment {
            packet,
            time: found.time,
            from: SocketAddr::new(source, from),
            to: SocketAddr::new(destination, to),
            sequence: tcp.sequence_number(),
            is_syn: tcp.syn(),
            data: tcp.payload().to_vec(),
        });
    }
}

/// Bytes of the family before a packet of the loopback link types.
const LOOPBACK_BYTES: usize = 4;
/// Bytes of the header of a Linux cooked capture, versions 1 and 2.
const COOKED_BYTES: usize = 16;
const COOKED_2_BYTES: usize = 20;

/// The headers of a packet, by link type (<https://www.tcpdump.org/linktypes.html>).
fn slice<'a>(packet: &Packet<'a>) -> Option<LaxSlicedPacket<'a>> {
    let data = packet.data;
    let ip = |data: &'a [u8]| LaxSlicedPacket::from_ip(data).ok();
    let ether = |kind: &[u8], data: &'a [u8]| {
        let kind = u16::from_be_bytes(*kind.first_chunk()?);
        Some(LaxSlicedPacket::from_ether_type(EtherType(kind), data))
    };
    match packet.link.0 {
        // Ethernet.
        1 => LaxSlicedPacket::from_ethernet(data).ok(),
        // Loopback of BSD and OpenBSD.
        0 | 108 => ip(data.get(LOOPBACK_BYTES..)?),
        // IP without a link layer: of several systems, version 4, version 6.
        12 | 14 | 101 | 228 | 229 => ip(data),
        // Linux cooked: the kind stands at its end in version 1, at its head in version 2.
        113 => ether(data.get(COOKED_BYTES - 2..)?, data.get(COOKED_BYTES..)?),
        276 => ether(data, data.get(COOKED_2_BYTES..)?),
        _ => None,
    }
}
