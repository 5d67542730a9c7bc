//! The configuration: what may be set, and every limit with its unit. All mistakes of a file are
//! reported at once, each with its line, its place and what was expected.

mod api;
mod chip;
mod cvn;
mod limits;
mod link;
mod marqeta;
mod parameters;
mod product;
mod product_settings;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iso_specs::toml_keys::{Keys, Mistakes, Place};

use crate::authorization::Product;
use crate::hsm::software::keys::read_master_key;
use crate::place;
pub use api::{ApiConfig, TlsFiles};
pub use limits::{ApiLimits, DoorLimits, Limits};
use link::Links;
pub use link::{LinkConfig, Peers};
pub use product_settings::{ProductSettings, WrongSetting};

/// The demo's configuration; it is also the commented example of all settings.
pub const DEMO: &str = include_str!("../demo.toml");

/// The network that simulated transactions come from; no link can have it.
pub const SIMULATION: &str = "simulation";

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
    /// Where the HTTP API is served, if it is.
    pub api: Option<ApiConfig>,
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
    /// Their settings, in the same order.
    pub product_settings: Vec<ProductSettings>,
}

/// What a switch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Test cards under test keys: their transactions may be simulated, their PINs shown in clear.
    Test,
    /// Cards that people pay with.
    Production,
}

/// The embedded store.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// How much larger the journal may be for events that a reader has not acknowledged.
    pub unread_bytes_max: u64,
    /// How much of the journal one page of transactions or events reads.
    pub page_scan_bytes_max: u64,
    /// Longest document, as it is stored.
    pub document_bytes_max: usize,
    /// All documents together, each with its token and 256 bytes.
    pub documents_bytes_max: usize,
    /// Memory of the index of answers already given.
    pub duplicate_index_bytes_max: usize,
    /// How long nothing is deleted by its age after the civil time has jumped.
    pub clock_settle_seconds: Duration,
    /// What happens where the clock is behind the newest record at start.
    pub clock_behind: ClockBehind,
    /// A file outside the data directory that says how far the store was.
    pub witness: Option<PathBuf>,
    /// Whether a start on data that are older than what was answered is accepted: of the command
    /// line, not of a file.
    pub accept_older_data: bool,
}

/// What happens where the clock is behind the newest record at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockBehind {
    /// The switch starts and says it as an error.
    Warn,
    /// It does not start.
    Refuse,
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
        let mut config = Config::parse(DEMO, "demo", Path::new(""))?;
        config.data_dir = data_dir.unwrap_or(config.data_dir);
        Ok(config)
    }

    /// Reads a file. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// All its mistakes.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let name = path.display().to_string();
        let text = place::read_text(path);
        let text = text.map_err(|error| ConfigError(vec![format!("{name}: {error}")]))?;
        Config::parse(&text, &name, path.parent().unwrap_or(Path::new(".")))
    }

    /// Reads a text; `name` stands before the line of each mistake.
    ///
    /// # Errors
    /// All its mistakes, in the order of lines, then those of its dialect files. Where the text
    /// is no TOML only that is reported: what stands after it cannot be judged.
    pub fn parse(text: &str, name: &str, directory: &Path) -> Result<Config, ConfigError> {
        let (root, mistakes) = Mistakes::parse(text);
        let mut read = None;
        let mut in_dialects = Vec::new();
        if mistakes.is_empty() {
            let mut file = File { directory, mistakes: &mistakes, in_dialects: Vec::new() };
            read = file.config(&mut Keys::of_file(&root, &mistakes));
            in_dialects = file.in_dialects;
        }
        let found = mistakes.into_list().into_iter().map(|mistake| {
            let line = mistake.line.unwrap_or(1);
            format!("{name}:{line}: {}: {}", mistake.place, mistake.expected)
        });
        let found: Vec<String> = found.chain(in_dialects).collect();
        // What could not be read has left its mistake.
        read.filter(|_| found.is_empty()).ok_or(ConfigError(found))
    }

    /// Whether nothing can be reached from another machine.
    #[must_use]
    pub fn is_loopback_only(&self) -> bool {
        let links = self.links.iter().map(|link| link.listen);
        let api = self.api.as_ref().map(|api| api.listen);
        links.chain([self.admin]).chain(api).all(|address| address.ip().is_loopback())
    }

    /// The networks of all links, each once, in the order of the file; then that of the simulation,
    /// where the API is served.
    #[must_use]
    pub fn networks(&self) -> Vec<Arc<str>> {
        let mut networks: Vec<Arc<str>> = Vec::new();
        for link in &self.links {
            if !networks.contains(&link.network) {
                networks.push(Arc::clone(&link.network));
            }
        }
        networks.extend(self.api.as_ref().map(|_| SIMULATION.into()));
        networks
    }

    /// File descriptors that the switch may need at once: what its limits allow, and what it has
    /// open itself.
    #[must_use]
    pub fn descriptors_max(&self) -> usize {
        self.limits.descriptors_max(self.links.len())
    }

    /// The product of this name.
    #[must_use]
    pub fn product(&self, name: &str) -> Option<&Arc<Product>> {
        self.products.iter().find(|product| &*product.name == name)
    }
}

/// Reads one file and finds its mistakes.
struct File<'a, 't> {
    /// Paths are relative to it.
    directory: &'a Path,
    mistakes: &'a Mistakes<'t>,
    /// Mistakes of dialect files, each with its own file and line.
    in_dialects: Vec<String>,
}

impl<'a, 't> File<'a, 't> {
    fn config(&mut self, keys: &mut Keys<'a, 't>) -> Option<Config> {
        let data_dir = keys.text("data_dir");
        let profile = profile(keys);
        let mut hsm = keys.table("hsm");
        let master_key_file = hsm.as_mut().and_then(|hsm| self.master_key_file(hsm));
        let is_demo = master_key_file == Some(None);
        let mut admin = keys.table("admin");
        let admin_listen = admin.as_mut().and_then(|admin| listen(admin, is_demo));
        let mut api = keys.optional_table("api");
        let found =
            api.as_mut().and_then(|api| ApiConfig::read(api, profile, (self.directory, is_demo)));
        let (api_config, api_listen) = match found {
            Some((config, place)) => (Some(config.clone()), Some((config.listen, place))),
            None => (None, None),
        };
        let limits = Limits::read(&mut keys.table_or_empty("limits"));
        let store = StoreConfig::read(
            &mut keys.table_or_empty("store"),
            (self.directory, data_dir.as_deref()),
        );
        let log = LogConfig::read(&mut keys.table_or_empty("log"));
        let addresses = admin_listen.iter().chain(&api_listen).cloned().collect();
        let links =
            Links::new(self, is_demo, addresses).read(&limits, keys.tables("links", "link"));
        let tables = keys.tables("products", "product");
        let product_settings = tables.iter().map(ProductSettings::of_table).collect();
        let products = self.products(tables);
        hsm.iter().chain(&admin).chain(&api).chain([&*keys]).for_each(Keys::finish);
        Some(Config {
            data_dir: self.directory.join(data_dir?),
            is_demo,
            master_key_file: master_key_file?,
            admin: admin_listen?.0,
            api: api_config,
            limits,
            store,
            log,
            links,
            products,
            product_settings,
        })
    }

    /// The file of the master key, if it holds one; an inner `None` for the demo's.
    fn master_key_file(&self, keys: &mut Keys<'a, 't>) -> Option<Option<PathBuf>> {
        let key = "master_key_file";
        let text = keys.text(key)?;
        if text == "demo" {
            return Some(None);
        }
        if looks_like_a_key(&text) {
            keys.mistake_of(key, "expected the path of a file, and not what belongs into it");
            return None;
        }
        let path = self.directory.join(text);
        let read = read_master_key(&path).map_err(|error| keys.mistake_of(key, error.to_string()));
        read.ok().map(|_| Some(path))
    }

    fn products(&self, tables: Vec<Keys<'a, 't>>) -> Vec<Arc<Product>> {
        let mut names = Vec::new();
        let products = tables.into_iter().filter_map(|mut keys| {
            let name = name_of(&mut keys, "name");
            names.extend(name.clone());
            product::read(&mut keys, name.map(|(name, _)| name))
        });
        let products = products.map(Arc::new).collect();
        self.unique("products", &names);
        products
    }

    fn unique(&self, what: &str, names: &[(String, Place)]) {
        for (index, (name, place)) in names.iter().enumerate() {
            if names.iter().take(index).any(|(earlier, _)| earlier == name) {
                self.mistakes.add(place, format!("two {what} have the name {name}"));
            }
        }
    }
}

/// Whether a text is a key of 128 bits or more: no mistake may repeat it.
fn looks_like_a_key(text: &str) -> bool {
    let mut characters = text.chars().filter(|character| !character.is_whitespace());
    characters.clone().count() >= 32 && characters.all(|character| character.is_ascii_hexdigit())
}

/// Whether the list of a key is there, and nothing in it.
fn is_empty_list(keys: &mut Keys<'_, '_>, key: &'static str) -> bool {
    let list = keys.get(key).and_then(|node| node.get_ref().as_array());
    list.is_some_and(|list| list.is_empty())
}

fn profile(keys: &mut Keys<'_, '_>) -> Profile {
    let test = "\"test\": the software HSM is not a PCI HSM and serves only \"test\"; there is no \
                override";
    let found = keys.optional_name("profile", "\"test\" or \"production\"", |name| match name {
        "test" => Some(Profile::Test),
        "production" => Some(Profile::Production),
        _ => None,
    });
    if found == Some(Profile::Production) {
        keys.mistake_of("profile", format!("expected {test}"));
    }
    found.unwrap_or(Profile::Test)
}

/// A name of 1 to 64 harmless characters, with its place.
fn name_of(keys: &mut Keys<'_, '_>, key: &'static str) -> Option<(String, Place)> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = keys.name(key, "a name of 1 to 64 letters, digits, '-', '_' and '.'", |name| {
        let valid = (1..=64).contains(&name.len()) && name.bytes().all(valid);
        valid.then(|| name.to_owned())
    });
    Some((name?, keys.place(key)))
}

/// The address of `listen`, with its place.
fn listen(keys: &mut Keys<'_, '_>, is_demo: bool) -> Option<(SocketAddr, Place)> {
    // The first address of a host name; a name that no resolver knows has none.
    let resolve = |text: &str| text.to_socket_addrs().ok()?.next();
    let expected = "ADDRESS:PORT of this machine, such as 127.0.0.1:8583";
    let address = keys.name("listen", expected, resolve)?;
    if is_demo && !address.ip().is_loopback() {
        let text = "the demo's keys are public, so with master_key_file = \"demo\" only a \
                    loopback address (127.0.0.0/8 or ::1) is allowed";
        keys.mistake_of("listen", text);
    }
    Some((address, keys.place("listen")))
}

/// A file that a copy of the data directory does not bring along.
fn witness(keys: &mut Keys<'_, '_>, directory: &Path, data_dir: Option<&str>) -> Option<PathBuf> {
    let path = keys.optional_name("witness", "the path of a file", |text| {
        (!text.is_empty()).then(|| directory.join(text))
    })?;
    if data_dir.is_some_and(|data_dir| path.starts_with(directory.join(data_dir))) {
        keys.mistake_of("witness", "expected a file outside data_dir: a copy would bring it along");
    }
    Some(path)
}

impl StoreConfig {
    fn read(keys: &mut Keys<'_, '_>, (directory, data_dir): (&Path, Option<&str>)) -> StoreConfig {
        let sync = keys.optional_name("sync", "\"state\" or \"all\"", |name| match name {
            "state" => Some(SyncMode::State),
            "all" => Some(SyncMode::All),
            _ => None,
        });
        let behind =
            keys.optional_name("clock_behind", "\"warn\" or \"refuse\"", |name| match name {
                "warn" => Some(ClockBehind::Warn),
                "refuse" => Some(ClockBehind::Refuse),
                _ => None,
            });
        let mut count = |key, most, default| keys.optional_number(key, 1..=most).unwrap_or(default);
        let store = StoreConfig {
            sync: sync.unwrap_or(SyncMode::State),
            segment_bytes: count("segment_mb", 1_024, 64) << 20,
            snapshot_bytes: u64::from(count("snapshot_mb", 1_048_576, 256)) << 20,
            retention_days: count("retention_days", 3_650, 7),
            retention_bytes: u64::from(count("retention_gb", 1_048_576, 64)) << 30,
            unread_bytes_max: keys
                .optional_number("unread_events_gb_max", 0..=1_048_576_u64)
                .unwrap_or(16)
                .saturating_mul(1 << 30),
            page_scan_bytes_max: keys
                .optional_number("page_scan_mb_max", 1..=65_536_u64)
                .unwrap_or(64)
                .saturating_mul(1 << 20),
            document_bytes_max: keys
                .optional_number("document_bytes_max", 1_024..=32_768)
                .unwrap_or(16_384),
            documents_bytes_max: keys
                .optional_number("documents_mb_max", 1..=1_048_576_usize)
                .unwrap_or(1_024)
                .saturating_mul(1 << 20),
            duplicate_index_bytes_max: keys
                .optional_number("duplicate_index_mb_max", 1..=4_096_usize)
                .unwrap_or(256)
                .saturating_mul(1 << 20),
            clock_settle_seconds: Duration::from_secs(
                keys.optional_number("clock_settle_seconds", 0..=604_800).unwrap_or(3_600),
            ),
            clock_behind: behind.unwrap_or(ClockBehind::Warn),
            witness: witness(keys, directory, data_dir),
            accept_older_data: false,
        };
        keys.finish();
        store
    }
}

impl LogConfig {
    fn read(keys: &mut Keys<'_, '_>) -> LogConfig {
        let log = LogConfig {
            json: keys.optional_boolean("json").unwrap_or(false),
            transactions: keys.optional_boolean("transactions").unwrap_or(true),
        };
        keys.finish();
        log
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(changes: &[(&str, &str)]) -> Vec<String> {
        let text = changes.iter().fold(DEMO.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        Config::parse(&text, "file", Path::new(".")).unwrap_err().0
    }

    /// The line of the demo's file where a text begins.
    fn line_of(part: &str) -> usize {
        DEMO[..DEMO.find(part).unwrap()].lines().count() + 1
    }

    #[test]
    fn the_demo_is_right() {
        let config = Config::demo(None).unwrap();
        assert!(config.is_demo);
        assert_eq!(config.master_key_file, None);
        assert_eq!(config.products.len(), 4);
        assert_eq!(config.product("demo-nolimit").unwrap().pin_retry_limit, None);
    }

    /// What may be left out has the value that the commented file shows. Only the lines of what
    /// must be there, and of other products, are kept.
    #[test]
    fn every_default_is_what_the_demo_shows() {
        let needed = [
            "data_dir",
            "master_key_file",
            "listen",
            "name",
            "network",
            "dialect",
            "zpk",
            "bins",
            "currency",
            // The demo shows its PINs; no other product does unless it says so.
            "pin_viewable",
        ];
        let (first, others) = DEMO.split_once("[[products]]\nname = \"demo-chip\"").unwrap();
        let mut left_out = 0;
        let kept = first.lines().filter(|line| {
            let optional = line
                .split_once(" = ")
                .is_some_and(|(key, _)| !key.starts_with('#') && !needed.contains(&key));
            left_out += u32::from(optional);
            !optional
        });
        let text = kept.collect::<Vec<_>>().join("\n");
        assert!(left_out >= 18, "{left_out}");
        let text = format!("{text}\n[[products]]\nname = \"demo-chip\"{others}");
        let without = Config::parse(&text, "file", Path::new("")).unwrap();
        assert_eq!(format!("{without:#?}"), format!("{:#?}", Config::demo(None).unwrap()));
    }

    #[test]
    fn all_mistakes_are_reported_at_once_in_the_order_of_lines() {
        let found = mistakes(&[
            ("currency = 978", "currency = 97800"),
            ("sync = \"state\"", "sink = \"state\""),
            ("json = false", "json = 0"),
            ("listen = \"127.0.0.1:9464\"", ""),
        ]);
        let text = |part, expected| format!("file:{}: {expected}", line_of(part));
        assert_eq!(
            found,
            [
                text("[admin]", "admin, listen: is missing"),
                text("sync = ", "store, sink: unknown key"),
                text("json = ", "log, json: expected true or false"),
                text("currency = ", "product 1, currency: expected a number from 1 to 999"),
            ]
        );
    }

    #[test]
    fn all_mistakes_of_a_product_are_reported_with_their_places() {
        let tables = "[[products.earlier_pin_verification]]\nmethod = \"a\"\n\
                      [[products.earlier_pin_verification]]\nmethod = \"b\"\n";
        let found = mistakes(&[
            ("imk_ac = ", "imk_ca = "),
            ("pin_retry_limit = \"none\"\n", &format!("pin_retry = 3\n{tables}")),
            ("[products.chip]\n", "limit = 1\n[products.chip]\n"),
        ]);
        let places = found.iter().map(|text| text.splitn(3, ':').last().unwrap_or_default());
        let methods = "expected \"translated_block\", \"visa_pvv\" or \"ibm3624\"";
        assert_eq!(
            places.collect::<Vec<_>>(),
            [
                " product 2, limit: unknown key".to_owned(),
                " product 2, chip, imk_ac: is missing".to_owned(),
                " product 2, chip, imk_ca: unknown key".to_owned(),
                " product 4, pin_retry: unknown key".to_owned(),
                format!(" product 4, earlier PIN verification 1, method: {methods}"),
                format!(" product 4, earlier PIN verification 2, method: {methods}"),
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_toml_says_only_that() {
        let found = mistakes(&[("[store]", "[store"), ("json = false", "json = 0")]);
        assert_eq!(
            found,
            [format!("file:{}: syntax: unclosed table, expected `]`", line_of("[store]"))]
        );
    }

    #[test]
    fn demo_keys_only_on_loopback() {
        let found =
            mistakes(&[("127.0.0.1:8583", "0.0.0.0:8583"), ("127.0.0.1:9464", "[::]:9464")]);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|text| text.contains("loopback")), "{found:?}");
    }

    #[test]
    fn the_software_hsm_refuses_production() {
        let found = mistakes(&[("profile = \"test\"", "profile = \"production\"")]);
        assert!(found[0].contains("PCI HSM"), "{found:?}");
    }
}
