//! What the configuration file may say, before it is checked. An unknown name is a mistake;
//! what may be left out has its default here.

use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) data_dir: String,
    #[serde(default = "test_profile")]
    pub(super) profile: Spanned<String>,
    pub(super) hsm: RawHsm,
    pub(super) admin: RawAdmin,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) store: RawStore,
    #[serde(default)]
    pub(super) log: RawLog,
    #[serde(default)]
    pub(super) links: Vec<RawLink>,
    #[serde(default)]
    pub(super) products: Vec<RawProduct>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHsm {
    pub(super) master_key_file: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAdmin {
    pub(super) listen: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) connections_max: Spanned<i64>,
    pub(super) frame_bytes_max: Spanned<i64>,
    pub(super) in_flight_per_connection_max: Spanned<i64>,
    pub(super) write_seconds_max: Spanned<i64>,
    pub(super) drain_seconds_max: Spanned<i64>,
    pub(super) bad_pin_blocks_per_minute: Spanned<i64>,
    pub(super) threads: Option<Spanned<i64>>,
}

impl Default for RawLimits {
    fn default() -> RawLimits {
        RawLimits {
            connections_max: unplaced(1_024),
            frame_bytes_max: unplaced(4_096),
            in_flight_per_connection_max: unplaced(1_024),
            write_seconds_max: unplaced(10),
            drain_seconds_max: unplaced(10),
            bad_pin_blocks_per_minute: unplaced(5),
            threads: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    pub(super) sync: Spanned<String>,
    pub(super) segment_mb: Spanned<i64>,
    pub(super) snapshot_mb: Spanned<i64>,
    pub(super) retention_days: Spanned<i64>,
    pub(super) retention_gb: Spanned<i64>,
    pub(super) duplicate_index_mb_max: Spanned<i64>,
}

impl Default for RawStore {
    fn default() -> RawStore {
        RawStore {
            sync: unplaced("state".to_owned()),
            segment_mb: unplaced(64),
            snapshot_mb: unplaced(256),
            retention_days: unplaced(7),
            retention_gb: unplaced(64),
            duplicate_index_mb_max: unplaced(256),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) json: bool,
    pub(super) transactions: bool,
}

impl Default for RawLog {
    fn default() -> RawLog {
        RawLog { json: false, transactions: true }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLink {
    pub(super) name: Spanned<String>,
    pub(super) network: Spanned<String>,
    pub(super) listen: Spanned<String>,
    pub(super) dialect: Spanned<String>,
    #[serde(default)]
    pub(super) sign_on_required: bool,
    pub(super) zpk: Spanned<String>,
    #[serde(default = "formats_0_and_3")]
    pub(super) pin_block_formats: Spanned<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProduct {
    pub(super) name: Spanned<String>,
    pub(super) bins: Spanned<Vec<String>>,
    pub(super) currency: Spanned<i64>,
    #[serde(default = "utc")]
    pub(super) utc_offset: Spanned<String>,
    #[serde(default = "cash")]
    pub(super) pin_required: Spanned<String>,
    #[serde(default = "three")]
    pub(super) pin_retry_limit: Spanned<RawPinRetryLimit>,
    pub(super) limit_per_transaction: Option<u64>,
    #[serde(default)]
    pub(super) allowed_currencies: Vec<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawPinRetryLimit {
    Number(i64),
    Word(String),
}

/// A default: it stands nowhere in the file, and it is never wrong.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn test_profile() -> Spanned<String> {
    unplaced("test".to_owned())
}

fn formats_0_and_3() -> Spanned<Vec<u8>> {
    unplaced(vec![0, 3])
}

fn utc() -> Spanned<String> {
    unplaced("+00:00".to_owned())
}

fn cash() -> Spanned<String> {
    unplaced("cash".to_owned())
}

fn three() -> Spanned<RawPinRetryLimit> {
    unplaced(RawPinRetryLimit::Number(3))
}
