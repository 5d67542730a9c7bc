//! The configuration: what may be set, and every limit with its unit. `RawConfig` is what the
//! file says; [`Config`] is what was checked. All mistakes of a file are reported at once, each
//! with its line and what was expected.

mod raw;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iso_specs::Spec;
use jiff::tz::Offset;
use toml::Spanned;

use crate::authorization::response::check_dialect;
use crate::authorization::{PinRequired, Product};
use crate::demo;
use crate::hsm::{KeyName, PinBlockFormat, PinBlockFormats};
use raw::{RawConfig, RawLink, RawPinRetryLimit, RawProduct};

/// Everything the switch is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where store, keys and control socket live.
    pub data_dir: PathBuf,
    /// File of the master key; `None` for the built-in one of the demo.
    pub master_key_file: Option<PathBuf>,
    /// Whether the demo's cards and keys are put in place.
    pub is_demo: bool,
    /// Where metrics and health are served.
    pub admin: SocketAddr,
    /// Limits of connections and requests.
    pub limits: Limits,
    /// The embedded store.
    pub store: StoreConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where networks connect.
    pub links: Vec<Arc<LinkConfig>>,
    /// The issuer's products.
    pub products: Vec<Arc<Product>>,
}

/// Limits of connections and requests. The units are in the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all links together; one more is accepted and closed at once.
    pub connections_max: usize,
    /// Largest frame, without its length header.
    pub frame_bytes_max: usize,
    /// Requests of one connection that wait for HSM or store; at this number it is not read.
    pub in_flight_per_connection_max: usize,
    /// How long a peer may leave our replies unread before the connection is closed.
    pub write_seconds_max: Duration,
    /// How long a stop waits for requests in flight.
    pub drain_seconds_max: Duration,
    /// Unusable PIN blocks of one card in a minute that the HSM is asked about.
    pub bad_pin_blocks_per_minute: u32,
    /// Threads that serve connections.
    pub threads: usize,
}

/// The embedded store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Which replies wait until the disk has their record.
    pub sync: SyncMode,
    /// Size of one journal segment.
    pub segment_bytes: u32,
    /// Journal written since the last snapshot that starts the next one.
    pub snapshot_bytes: u64,
    /// How long transaction records are kept at least, as far as `retention_bytes` allows.
    pub retention_days: u32,
    /// Size of the journal above which the oldest segments go, kept for days or not.
    pub retention_bytes: u64,
    /// Memory of the index of answers already given.
    pub duplicate_index_bytes_max: usize,
}

/// Which replies wait until the disk has their record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Those that change a card, or were decided on a change not yet on disk. The others are on
    /// disk within 10 ms.
    State,
    /// Every reply.
    All,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// One line for each transaction.
    pub transactions: bool,
}

/// One link: an address where a network connects.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its name, in logs.
    pub name: Box<str>,
    /// The network behind it; links of one network share duplicates and metrics.
    pub network: Box<str>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What its peer speaks.
    pub dialect: Arc<Spec>,
    /// Whether only a signed-on connection may send requests.
    pub sign_on_required: bool,
    /// The zone PIN key of DE52.
    pub zpk: KeyName,
    /// Formats that its PIN blocks may have.
    pub pin_block_formats: PinBlockFormats,
}

/// All mistakes of a configuration, one per line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// The built-in demo, with its data in `data_dir`.
    ///
    /// # Errors
    /// Never, unless the built-in text is wrong; a test reads it.
    pub fn demo(data_dir: Option<PathBuf>) -> Result<Config, ConfigError> {
        let mut config = Config::parse(demo::CONFIG, "demo", Path::new(""))?;
        config.data_dir = data_dir.unwrap_or(config.data_dir);
        Ok(config)
    }

    /// Reads a file. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// All its mistakes.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(vec![format!("{name}: {error}")]))?;
        Config::parse(&text, &name, path.parent().unwrap_or(Path::new(".")))
    }

    /// Reads a text; `name` stands before the line of each mistake.
    ///
    /// # Errors
    /// All its mistakes.
    pub fn parse(text: &str, name: &str, directory: &Path) -> Result<Config, ConfigError> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            ConfigError(vec![format!("{name}:{line}: {}", error.message())])
        })?;
        let mut check = Check { text, name, directory, mistakes: Vec::new() };
        let config = check.config(&raw);
        match check.mistakes.is_empty() {
            true => Ok(config),
            false => Err(ConfigError(check.mistakes)),
        }
    }

    /// Whether nothing can be reached from another machine.
    #[must_use]
    pub fn is_loopback_only(&self) -> bool {
        let links = self.links.iter().map(|link| link.listen);
        links.chain([self.admin]).all(|address| address.ip().is_loopback())
    }

    /// The product of this name.
    #[must_use]
    pub fn product(&self, name: &str) -> Option<&Arc<Product>> {
        self.products.iter().find(|product| &*product.name == name)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Turns what the file says into what is checked, and collects the mistakes.
struct Check<'a> {
    text: &'a str,
    name: &'a str,
    directory: &'a Path,
    mistakes: Vec<String>,
}

impl Check<'_> {
    fn mistake<T>(&mut self, at: &Spanned<T>, expected: &str) {
        let line = line_of(self.text, at.span().start);
        self.mistakes.push(format!("{}:{line}: {expected}", self.name));
    }

    fn config(&mut self, raw: &RawConfig) -> Config {
        let (is_demo, master_key_file) = self.hsm(raw);
        let config = Config {
            data_dir: self.directory.join(&raw.data_dir),
            master_key_file,
            is_demo,
            admin: self.address(&raw.admin.listen, is_demo),
            limits: self.limits(raw),
            store: self.store(raw),
            log: LogConfig { json: raw.log.json, transactions: raw.log.transactions },
            links: raw
                .links
                .iter()
                .filter_map(|link| self.link(link, is_demo))
                .map(Arc::new)
                .collect(),
            products: raw.products.iter().map(|raw| Arc::new(self.product(raw))).collect(),
        };
        self.unique("links", raw.links.iter().map(|link| &link.name));
        self.unique("products", raw.products.iter().map(|product| &product.name));
        config
    }

    fn hsm(&mut self, raw: &RawConfig) -> (bool, Option<PathBuf>) {
        if raw.profile.get_ref() != "test" {
            let text = "profile: the software HSM is not a PCI HSM and serves only \"test\"; \
                        there is no override";
            self.mistake(&raw.profile, text);
        }
        let file = raw.hsm.master_key_file.get_ref();
        match file.as_str() {
            "demo" => (true, None),
            path => (false, Some(self.directory.join(path))),
        }
    }

    fn limits(&mut self, raw: &RawConfig) -> Limits {
        let limits = &raw.limits;
        Limits {
            connections_max: self.number(&limits.connections_max, 1..=100_000),
            frame_bytes_max: self.number(&limits.frame_bytes_max, 64..=65_535),
            in_flight_per_connection_max: self
                .number(&limits.in_flight_per_connection_max, 1..=100_000),
            write_seconds_max: self.seconds(&limits.write_seconds_max),
            drain_seconds_max: self.seconds(&limits.drain_seconds_max),
            bad_pin_blocks_per_minute: self
                .number(&limits.bad_pin_blocks_per_minute, 1..=1_000_000),
            threads: match limits.threads.as_ref() {
                Some(threads) => self.number(threads, 1..=256),
                None => std::thread::available_parallelism().map_or(1, usize::from),
            },
        }
    }

    fn store(&mut self, raw: &RawConfig) -> StoreConfig {
        let store = &raw.store;
        let mib = |count: u32| u64::from(count) << 20;
        let segment_mb: u32 = self.number(&store.segment_mb, 1..=1024);
        let index_mb: u32 = self.number(&store.duplicate_index_mb_max, 1..=4_096);
        StoreConfig {
            sync: match store.sync.get_ref().as_str() {
                "all" => SyncMode::All,
                "state" => SyncMode::State,
                _ => {
                    self.mistake(&store.sync, "sync: expected \"state\" or \"all\"");
                    SyncMode::State
                }
            },
            segment_bytes: segment_mb << 20,
            snapshot_bytes: mib(self.number(&store.snapshot_mb, 1..=1_048_576)),
            retention_days: self.number(&store.retention_days, 1..=3_650),
            retention_bytes: mib(self.number(&store.retention_gb, 1..=1_048_576)) << 10,
            duplicate_index_bytes_max: usize::try_from(mib(index_mb)).unwrap_or(usize::MAX),
        }
    }

    fn link(&mut self, raw: &RawLink, is_demo: bool) -> Option<LinkConfig> {
        self.name_of(&raw.name);
        self.name_of(&raw.network);
        let zpk = KeyName::parse(raw.zpk.get_ref());
        if zpk.is_none() {
            self.mistake(&raw.zpk, "zpk: expected a key name of letters, digits and hyphens");
        }
        let listen = self.address(&raw.listen, is_demo);
        let pin_block_formats = self.formats(&raw.pin_block_formats);
        Some(LinkConfig {
            name: raw.name.get_ref().as_str().into(),
            network: raw.network.get_ref().as_str().into(),
            listen,
            dialect: Arc::new(self.dialect(&raw.dialect)?),
            sign_on_required: raw.sign_on_required,
            zpk: zpk?,
            pin_block_formats,
        })
    }

    fn dialect(&mut self, raw: &Spanned<String>) -> Option<Spec> {
        let name = raw.get_ref();
        let text = match Spec::builtin(name) {
            Some(text) => Ok(text.to_owned()),
            None if name.ends_with(".toml") => std::fs::read_to_string(self.directory.join(name)),
            None => {
                let known = Spec::builtin_names().collect::<Vec<_>>().join(", ");
                Err(std::io::Error::other(format!("expected {known} or the path of a .toml file")))
            }
        };
        let spec = text
            .map_err(|error| error.to_string())
            .and_then(|text| Spec::from_toml(&text).map_err(|error| error.to_string()))
            .and_then(|spec| match check_dialect(&spec) {
                Ok(()) => Ok(spec),
                Err(error) => Err(format!("what the switch needs does not fit into it: {error}")),
            });
        spec.map_err(|error| self.mistake(raw, &format!("dialect {name}: {error}"))).ok()
    }

    fn formats(&mut self, raw: &Spanned<Vec<u8>>) -> PinBlockFormats {
        let formats: Option<Vec<_>> =
            raw.get_ref().iter().map(|digit| PinBlockFormat::from_control_digit(*digit)).collect();
        let formats = formats.filter(|formats| !formats.is_empty()).unwrap_or_else(|| {
            self.mistake(raw, "pin_block_formats: expected a list of 0 and 3");
            Vec::new()
        });
        PinBlockFormats::new(&formats)
    }

    fn product(&mut self, raw: &RawProduct) -> Product {
        self.name_of(&raw.name);
        let bin = |bin: &String| (4..=11).contains(&bin.len()) && bin.bytes().all(is_digit);
        if raw.bins.get_ref().is_empty() || !raw.bins.get_ref().iter().all(bin) {
            self.mistake(&raw.bins, "bins: expected a list of texts of 4 to 11 digits");
        }
        let offset = parse_offset(raw.utc_offset.get_ref());
        if offset.is_none() {
            self.mistake(&raw.utc_offset, "utc_offset: expected +HH:MM or -HH:MM");
        }
        Product {
            name: raw.name.get_ref().as_str().into(),
            bins: raw.bins.get_ref().iter().map(|bin| bin.as_str().into()).collect(),
            currency: self.number(&raw.currency, 1..=999),
            utc_offset: offset.unwrap_or(Offset::UTC),
            pin_required: self.pin_required(&raw.pin_required),
            pin_retry_limit: self.pin_retry_limit(&raw.pin_retry_limit),
            limit_per_transaction: raw.limit_per_transaction,
            allowed_currencies: raw
                .allowed_currencies
                .iter()
                .map(|currency| self.number(currency, 1..=999))
                .collect(),
        }
    }

    fn pin_required(&mut self, raw: &Spanned<String>) -> PinRequired {
        match raw.get_ref().as_str() {
            "cash" => PinRequired::Cash,
            "card_present" => PinRequired::CardPresent,
            "never" => PinRequired::Never,
            _ => {
                let text = "pin_required: expected \"cash\", \"card_present\" or \"never\"";
                self.mistake(raw, text);
                PinRequired::Cash
            }
        }
    }

    fn pin_retry_limit(&mut self, raw: &Spanned<RawPinRetryLimit>) -> Option<NonZeroU32> {
        match raw.get_ref() {
            RawPinRetryLimit::Word(word) if word == "none" => return None,
            RawPinRetryLimit::Number(number) => {
                let limit = u32::try_from(*number).ok().and_then(NonZeroU32::new);
                if limit.is_some() {
                    return limit;
                }
            }
            RawPinRetryLimit::Word(_) => {}
        }
        self.mistake(raw, "pin_retry_limit: expected a number from 1, or \"none\"");
        None
    }

    fn address(&mut self, raw: &Spanned<String>, is_demo: bool) -> SocketAddr {
        let fallback = SocketAddr::from(([127, 0, 0, 1], 0));
        let Ok(address) = raw.get_ref().parse::<SocketAddr>() else {
            self.mistake(raw, "listen: expected ADDRESS:PORT, such as 127.0.0.1:8583");
            return fallback;
        };
        if is_demo && !address.ip().is_loopback() {
            let text = "listen: the demo's keys are public, so with master_key_file = \"demo\" \
                        only a loopback address (127.0.0.0/8 or ::1) is allowed";
            self.mistake(raw, text);
        }
        address
    }

    fn number<T>(&mut self, raw: &Spanned<i64>, range: std::ops::RangeInclusive<i64>) -> T
    where
        T: TryFrom<i64> + Default,
    {
        let number = T::try_from(*raw.get_ref()).ok().filter(|_| range.contains(raw.get_ref()));
        number.unwrap_or_else(|| {
            let (low, high) = range.into_inner();
            self.mistake(raw, &format!("expected a number from {low} to {high}"));
            T::default()
        })
    }

    fn seconds(&mut self, raw: &Spanned<i64>) -> Duration {
        Duration::from_secs(self.number(raw, 1..=3_600))
    }

    fn name_of(&mut self, raw: &Spanned<String>) {
        let name = raw.get_ref();
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(valid) {
            self.mistake(raw, "expected a name of 1 to 64 letters, digits, '-', '_' and '.'");
        }
    }

    fn unique<'b>(&mut self, what: &str, names: impl Iterator<Item = &'b Spanned<String>>) {
        let mut seen = Vec::new();
        for name in names {
            if seen.contains(&name.get_ref()) {
                self.mistake(name, &format!("two {what} have the name {}", name.get_ref()));
            }
            seen.push(name.get_ref());
        }
        if seen.is_empty() {
            self.mistakes.push(format!("{}: expected at least one of [[{what}]]", self.name));
        }
    }
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

fn parse_offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two_digits = |text: &str| {
        let valid = text.len() == 2 && text.bytes().all(is_digit);
        text.parse::<i32>().ok().filter(|_| valid)
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let valid = hours <= 14 && minutes <= 59;
    Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok().filter(|_| valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(from: &str, to: &str) -> String {
        assert!(demo::CONFIG.contains(from), "{from}");
        let text = demo::CONFIG.replacen(from, to, 1);
        Config::parse(&text, "file", Path::new(".")).unwrap_err().to_string()
    }

    #[test]
    fn the_demo_is_right() {
        let config = Config::demo(None).unwrap();
        assert!(config.is_demo);
        assert_eq!(config.products.len(), 4);
        assert_eq!(config.product("demo-nolimit").unwrap().pin_retry_limit, None);
    }

    #[test]
    fn a_mistake_names_its_line_and_what_was_expected() {
        let unknown = mistakes("sync = \"state\"", "sink = \"state\"");
        assert!(unknown.starts_with("file:") && unknown.contains("sink"), "{unknown}");
        let wrong = mistakes("sync = \"state\"", "sync = \"never\"");
        let line = line_of(demo::CONFIG, demo::CONFIG.find("sync = ").unwrap());
        assert_eq!(wrong, format!("file:{line}: sync: expected \"state\" or \"all\""));
        assert!(mistakes("sync = \"state\"", "sync = 1").contains("string"));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let text = demo::CONFIG
            .replacen("sync = \"state\"", "sync = \"never\"", 1)
            .replacen("pin_retry_limit = 3", "pin_retry_limit = 0", 1)
            .replacen("currency = 978", "currency = 97800", 1);
        let error = Config::parse(&text, "file", Path::new(".")).unwrap_err();
        assert_eq!(error.0.len(), 3, "{error}");
    }

    #[test]
    fn demo_keys_only_on_loopback() {
        let text = mistakes("127.0.0.1:8583", "0.0.0.0:8583");
        assert!(text.contains("loopback"), "{text}");
        assert!(mistakes("127.0.0.1:9464", "[::]:9464").contains("loopback"));
    }

    #[test]
    fn the_software_hsm_refuses_production() {
        assert!(mistakes("profile = \"test\"", "profile = \"production\"").contains("PCI HSM"));
    }

    #[test]
    fn offsets() {
        assert_eq!(parse_offset("+01:00"), Some(Offset::constant(1)));
        assert_eq!(parse_offset("-03:30").unwrap().seconds(), -12_600);
        for wrong in ["01:00", "+1:00", "+-1:00", "+01:60", "+15:00", "+01:0", "+01:000", "UTC"] {
            assert_eq!(parse_offset(wrong), None, "{wrong}");
        }
    }
}
