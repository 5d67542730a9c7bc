//! One link: an address where a network connects, and what it speaks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use iso_specs::toml_keys::{Keys, Place, integer};
use iso_specs::{ResponseCodeColumn, Spec};

use super::limits::{CONNECTIONS_MAX, Limits};
use super::{File, SIMULATION, is_empty_list, listen, name_of};
use crate::authorization::dialect::check_dialect;
use crate::authorization::reversal::UnknownOriginal;
use crate::frame::{FrameFormat, Framing, Header};
use crate::hsm::software::key::Algorithm;
use crate::hsm::{KeyName, PinBlock, PinBlockFormat, PinBlockFormats};
use crate::place;

/// One link: an address where a network connects.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its name, in logs.
    pub name: Box<str>,
    /// The network behind it; links of one network share duplicates and metrics.
    pub network: Arc<str>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may connect.
    pub peers: Peers,
    /// Its share of the open connections.
    pub connections_max: usize,
    /// Open connections of one address.
    pub connections_per_address_max: usize,
    /// What its peer speaks.
    pub dialect: Arc<Spec>,
    /// What its frames look like.
    pub frames: FrameFormat,
    /// Whether only a signed-on connection may send requests.
    pub sign_on_required: bool,
    /// What a reversal is answered whose original nobody knows.
    pub unknown_original: UnknownOriginal,
    /// Whether a balance inquiry (DE3 30, 31) is answered like any request, though no balance is
    /// known; otherwise it is a function that is not supported.
    pub approves_balance_inquiry: bool,
    /// Whether a request is refused that says by DE7 that it is older than the answers that are
    /// known: nobody could tell whether it was answered or reversed before.
    pub refuse_older_than_window: bool,
    /// The zone PIN key of DE52.
    pub zpk: KeyName,
    /// Formats that its PIN blocks may have.
    pub pin_block_formats: PinBlockFormats,
}

impl LinkConfig {
    /// The algorithm that its zone PIN key must have: format 4 is AES.
    #[must_use]
    pub const fn zone_key_algorithm(&self) -> Algorithm {
        match self.pin_block_formats.contains(PinBlockFormat::Iso4) {
            true => Algorithm::Aes,
            false => Algorithm::Tdes,
        }
    }
}

/// Addresses that may connect to a link; where none is listed, any.
#[derive(Clone, Debug, Default)]
pub struct Peers(Vec<IpNet>);

impl Peers {
    /// Whether any address may.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one may; an IPv4 address in its own form.
    #[must_use]
    pub fn allow(&self, address: IpAddr) -> bool {
        self.0.is_empty() || self.0.iter().any(|network| network.contains(&address))
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("anywhere");
        }
        // A single address without its prefix.
        let text = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        f.write_str(&self.0.iter().map(text).collect::<Vec<_>>().join(" "))
    }
}

/// An address, or a network without bits beyond its prefix: such a one is a slip of the pen, and
/// would let in more than was meant.
fn peer(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse().map(IpAddr::into)).ok()?;
    let network = match network {
        IpNet::V6(network) => mapped(network).map_or(IpNet::V6(network), IpNet::V4),
        IpNet::V4(network) => IpNet::V4(network),
    };
    (network.addr() == network.network()).then_some(network)
}

/// The IPv4 network of one that is written as IPv6, `::ffff:192.0.2.0/120`.
fn mapped(network: Ipv6Net) -> Option<Ipv4Net> {
    let prefix = network.prefix_len().checked_sub(96)?;
    Ipv4Net::new(network.addr().to_ipv4_mapped()?, prefix).ok()
}

/// Reads all links of a file.
pub(super) struct Links<'f, 'a, 't> {
    file: &'f mut File<'a, 't>,
    is_demo: bool,
    names: Vec<(String, Place)>,
    /// Every address that something listens on.
    addresses: Vec<(SocketAddr, Place)>,
    /// The dialects met so far, or what is wrong with them: links share them. A file of one's own
    /// is known by its full path, however it is written.
    dialects: Vec<(PathBuf, Result<Arc<Spec>, String>)>,
}

impl<'f, 'a, 't> Links<'f, 'a, 't> {
    /// `addresses` are taken by others.
    pub(super) const fn new(
        file: &'f mut File<'a, 't>,
        is_demo: bool,
        addresses: Vec<(SocketAddr, Place)>,
    ) -> Self {
        Self { file, is_demo, names: Vec::new(), addresses, dialects: Vec::new() }
    }

    pub(super) fn read(
        mut self,
        limits: &Limits,
        mut tables: Vec<Keys<'a, 't>>,
    ) -> Vec<Arc<LinkConfig>> {
        let shares = self.shares(limits.connections_max, &mut tables);
        let links = tables.into_iter().zip(shares).filter_map(|(mut keys, share)| {
            let link = self.link(&mut keys, limits)?;
            Some(Arc::new(LinkConfig { connections_max: share, ..link }))
        });
        let links = links.collect();
        self.file.unique("links", &self.names);
        for (index, (address, place)) in self.addresses.iter().enumerate() {
            if self.addresses.iter().take(index).any(|(earlier, _)| overlap(*earlier, *address)) {
                self.file.mistakes.add(place, "something else listens on this address already");
            }
        }
        links
    }

    /// How many connections each link may have: what it says, and of the rest of `connections_max`
    /// an equal part where it says nothing. Together they are never more.
    fn shares(&self, connections_max: usize, tables: &mut [Keys<'a, 't>]) -> Vec<usize> {
        let key = "connections_max";
        let said: Vec<Option<usize>> =
            tables.iter_mut().map(|keys| keys.optional_number(key, 1..=CONNECTIONS_MAX)).collect();
        let mut left = connections_max;
        for (keys, said) in tables.iter().zip(&said) {
            let of_all = format!("the links share connections_max = {connections_max} of [limits]");
            match (said, left) {
                (Some(said), left) if *said > left => {
                    keys.mistake_of(key, format!("expected no more than {left}: {of_all}"));
                    break;
                }
                (None, 0) => {
                    keys.mistake_of(key, format!("no connection is left for this link: {of_all}"));
                    break;
                }
                _ => left = left.saturating_sub(said.unwrap_or(1)),
            }
        }
        let silent = said.iter().filter(|said| said.is_none()).count();
        let rest = left + silent;
        let (each, more) = (rest / silent.max(1), rest % silent.max(1));
        let mut parts = (0..silent).map(|place| each + usize::from(place < more));
        said.iter().map(|said| said.or_else(|| parts.next()).unwrap_or(1)).collect()
    }

    fn link(&mut self, keys: &mut Keys<'a, 't>, limits: &Limits) -> Option<LinkConfig> {
        let name = name_of(keys, "name");
        let network = name_of(keys, "network");
        if network.as_ref().is_some_and(|(name, _)| name == SIMULATION) {
            keys.mistake_of(
                "network",
                "expected another name: simulated transactions have this one",
            );
        }
        let listen = listen(keys, self.is_demo);
        let network_of = "an IP address or a network without bits beyond its prefix, such as \
                          192.0.2.7, 192.0.2.0/24 or 2001:db8::/32";
        let peers = keys.optional_items("peers", network_of, |value| peer(value.as_str()?));
        let per_address = keys.optional_number("connections_per_address_max", 1..=CONNECTIONS_MAX);
        let dialect = keys.text("dialect").and_then(|name| self.dialect(keys, &name));
        let frames = frames(keys, dialect.as_deref());
        let dialect = dialect.map(|dialect| match frames.framing {
            Framing::StxEtx => Arc::new(dialect.within_stx_etx()),
            _ => dialect,
        });
        let sign_on_required = keys.optional_boolean("sign_on_required");
        let unknown =
            keys.optional_name("unknown_original", "\"accept\" or \"refuse\"", |name| match name {
                "accept" => Some(UnknownOriginal::Accept),
                "refuse" => Some(UnknownOriginal::Refuse),
                _ => None,
            });
        let refused = "\"refuse\" or \"approve\"";
        let balance_inquiry = keys.optional_name("balance_inquiry", refused, |name| match name {
            "refuse" => Some(false),
            "approve" => Some(true),
            _ => None,
        });
        let refuse_older_than_window = keys.optional_boolean("refuse_older_than_window");
        let zpk = "the name of a key that was brought in: letters, digits and hyphens, not own-*";
        let is_zpk = |name: &KeyName| !name.as_str().starts_with("own-");
        let zpk = keys.name("zpk", zpk, |name| KeyName::parse(name).filter(is_zpk));
        let pin_block_formats = pin_block_formats(keys, dialect.as_deref());
        keys.finish();
        self.names.extend(name.clone());
        self.addresses.extend(listen.clone());
        Some(LinkConfig {
            name: name?.0.into(),
            network: network?.0.into(),
            listen: listen?.0,
            peers: Peers(peers.unwrap_or_default()),
            connections_max: limits.connections_max,
            connections_per_address_max: per_address.unwrap_or(limits.connections_per_address_max),
            dialect: dialect?,
            frames,
            sign_on_required: sign_on_required.unwrap_or(false),
            unknown_original: unknown.unwrap_or_default(),
            approves_balance_inquiry: balance_inquiry.unwrap_or(false),
            refuse_older_than_window: refuse_older_than_window.unwrap_or(false),
            zpk: zpk?,
            pin_block_formats,
        })
    }

    fn dialect(&mut self, keys: &Keys<'_, '_>, name: &str) -> Option<Arc<Spec>> {
        let path = self.file.directory.join(name);
        let full = match Spec::builtin(name) {
            Some(_) => PathBuf::from(name),
            None if name.ends_with(".toml") => path.canonicalize().unwrap_or(path.clone()),
            None => {
                let known = Spec::builtin_names().collect::<Vec<_>>().join(", ");
                let text = format!("expected {known} or the path of a .toml file");
                keys.mistake_of("dialect", text);
                return None;
            }
        };
        let known = self.dialects.iter().position(|(known, _)| *known == full);
        let index = known.unwrap_or_else(|| {
            let spec = self.new_dialect(name, &path).map(Arc::new);
            self.dialects.push((full, spec));
            self.dialects.len() - 1
        });
        let (_, spec) = self.dialects.get(index)?;
        let spec = spec.as_ref().map_err(|mistake| {
            keys.mistake_of("dialect", format!("{name}: {mistake}"));
        });
        spec.ok().cloned()
    }

    /// A dialect that no link before had. Its own mistakes have the lines of its own file.
    fn new_dialect(&mut self, name: &str, path: &Path) -> Result<Spec, String> {
        let text = match Spec::builtin(name) {
            Some(text) => text.to_owned(),
            None => place::read_text(path).map_err(|error| error.to_string())?,
        };
        let spec = Spec::from_toml(&text).map_err(|errors| {
            self.file.in_dialects.extend(errors.mistakes().iter().map(|mistake| {
                let line = mistake.line.unwrap_or(1);
                format!("{}:{line}: {}: {}", path.display(), mistake.place, mistake.expected)
            }));
            "it has mistakes; they have lines of their own here".to_owned()
        })?;
        if let Some(mistake) = unserved(&spec) {
            let key = "response_code_column";
            let line = text.lines().position(|line| line.trim_start().starts_with(key));
            let line = line.map_or(1, |before| before + 1);
            self.file.in_dialects.push(format!("{}:{line}: {key}: {mistake}", path.display()));
            return Err(mistake);
        }
        check_dialect(&spec)
            .map_err(|error| format!("what the switch needs does not fit into it: {error}"))?;
        Ok(spec)
    }
}

/// What is said of a dialect of another edition than 1987, whose messages have other elements.
fn unserved(dialect: &Spec) -> Option<String> {
    let edition = match dialect.response_code_column() {
        ResponseCodeColumn::Y1987 => return None,
        ResponseCodeColumn::Y1993 => "1993",
        ResponseCodeColumn::Y2003 => "2003",
    };
    Some(format!("messages of ISO 8583:{edition} are not served yet; a link takes \"1987\""))
}

fn frames(keys: &mut Keys<'_, '_>, dialect: Option<&Spec>) -> FrameFormat {
    let names = Framing::ALL.map(|(name, _)| format!("{name:?}")).join(", ");
    let framing = keys.optional_name("framing", &format!("one of {names}"), Framing::from_name);
    let framing = framing.unwrap_or(Framing::Binary2);
    let header_bytes = keys.optional_number("header_bytes", 1..=u8::MAX);
    let named = keys.optional_name("header", Header::NAMES, |name| match name {
        "none" => Some(Header::None),
        "tpdu" => Some(Header::Tpdu),
        "base-i" => Some(Header::BaseI),
        "echo" => Some(Header::Echo(header_bytes.unwrap_or_default())),
        _ => None,
    });
    // What is no header at all is one mistake, not two.
    let is_wrong = named.is_none() && keys.get("header").is_some();
    let header = named.unwrap_or(Header::None);
    let is_echo = matches!(header, Header::Echo(_));
    if is_echo && keys.get("header_bytes").is_none() {
        keys.mistake_of("header", "\"echo\" needs header_bytes, a number from 1 to 255");
    }
    if !is_echo && !is_wrong && keys.get("header_bytes").is_some() {
        keys.mistake_of("header_bytes", "only header = \"echo\" has it");
    }
    if framing == Framing::StxEtx {
        if header != Header::None {
            keys.mistake_of("header", "framing \"stx-etx\" allows none: a header may hold 03");
        }
        if dialect.is_some_and(|dialect| !dialect.is_text()) {
            let text = "\"stx-etx\" is for dialects that are text throughout: bytes may be 03";
            keys.mistake_of("framing", text);
        }
    }
    FrameFormat { framing, header }
}

/// Format 4 has 16 bytes and the others 8, as DE52 of the dialect: they never share a link.
fn pin_block_formats(keys: &mut Keys<'_, '_>, dialect: Option<&Spec>) -> PinBlockFormats {
    let (key, expected) = ("pin_block_formats", "0, 1, 3 or 4");
    let formats = keys
        .optional_items(key, expected, |value| PinBlockFormat::from_control_digit(integer(value)?));
    if is_empty_list(keys, key) {
        keys.mistake_of(key, "expected a list of 0, 1 and 3, or of 4 alone");
    }
    let pin_block = dialect.and_then(|dialect| dialect.element(52));
    let is_aes = pin_block.is_some_and(|element| element.max() == PinBlock::AES_BYTES);
    let usual = match is_aes {
        true => vec![PinBlockFormat::Iso4],
        false => vec![PinBlockFormat::Iso0, PinBlockFormat::Iso3],
    };
    let formats = formats.unwrap_or(usual);
    if pin_block.is_some()
        && formats.iter().any(|format| is_aes != (*format == PinBlockFormat::Iso4))
    {
        keys.mistake_of(
            key,
            match is_aes {
                true => "expected 4 alone: DE52 of the dialect has 16 bytes",
                false => "4 needs a dialect whose DE52 has 16 bytes",
            },
        );
    }
    PinBlockFormats::new(&formats)
}

/// Whether no two can listen there together. Port 0 takes any free port.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` takes IPv4 too, unless the system is told otherwise.
    let covers = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    let same_host = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    one.port() != 0 && one.port() == other.port() && same_host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_allows_the_addresses_and_networks_that_it_lists() {
        let allow = |listed: &[&str], address: &str| {
            let listed = listed.iter().map(|text| peer(text).unwrap()).collect();
            Peers(listed).allow(address.parse::<IpAddr>().unwrap().to_canonical())
        };
        assert!(allow(&[], "192.0.2.7") && allow(&[], "2001:db8::7"));
        let listed = ["192.0.2.7", "198.51.100.0/25", "2001:db8:1::/48", "2001:db8:2::7"];
        for address in ["192.0.2.7", "198.51.100.0", "198.51.100.127", "2001:db8:1::"] {
            assert!(allow(&listed, address), "{address}");
        }
        for address in ["2001:db8:1:ffff::1", "2001:db8:2::7", "::ffff:198.51.100.127"] {
            assert!(allow(&listed, address), "{address}");
        }
        for address in ["192.0.2.8", "198.51.100.128", "2001:db8:2::8", "::ffff:192.0.2.6", "::"] {
            assert!(!allow(&listed, address), "{address}");
        }
        // IPv4 in its IPv6 form, and all of one kind.
        assert!(allow(&["::ffff:192.0.2.0/120"], "192.0.2.255"));
        assert!(!allow(&["::ffff:192.0.2.0/120"], "192.0.3.0"));
        assert!(allow(&["0.0.0.0/0"], "::ffff:192.0.2.7"));
        assert!(!allow(&["0.0.0.0/0"], "2001:db8::7") && !allow(&["::/0"], "192.0.2.7"));
    }

    #[test]
    fn what_is_no_address_or_network_is_none_of_a_link() {
        let networks =
            ["192.0.2.7/24", "192.0.2.0/33", "192.0.2", "2001:db8::1/64", "::ffff:0:1/96"];
        for text in networks.into_iter().chain(["", "*", "host", "192.0.2.7:80", "192.0.2.0/"]) {
            assert!(peer(text).is_none(), "{text}");
        }
    }

    #[test]
    fn two_listen_on_one_address_in_every_form_of_it() {
        let overlap =
            |one: &str, other: &str| overlap(one.parse().unwrap(), other.parse().unwrap());
        for other in ["127.0.0.1:1", "0.0.0.0:1", "[::]:1"] {
            assert!(overlap("127.0.0.1:1", other) && overlap(other, "127.0.0.1:1"), "{other}");
        }
        for other in ["127.0.0.1:2", "127.0.0.2:1", "[::1]:1", "0.0.0.0:2"] {
            assert!(!overlap("127.0.0.1:1", other), "{other}");
        }
        assert!(!overlap("0.0.0.0:1", "[::1]:1"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
    }
}
