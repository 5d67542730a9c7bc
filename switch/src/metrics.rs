//! Every metric of the process: names, labels and buckets. Handles are registered once and kept,
//! every label set starts at zero, and no label ever holds card data.

use std::sync::Arc;
use std::time::Duration;

use iso_specs::Mti;
use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::authorization::Reason;
use crate::authorization::trail::{Finding, Note};
use crate::outcome::{CryptogramOutcome, PinOutcome};

/// Buckets in seconds, at the edges that service levels are set at.
const SECONDS_BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0,
];

/// Message types that have a label of their own; all others are `other`.
const MTIS: [&str; 14] = [
    "0100", "0101", "0120", "0121", "0200", "0201", "0220", "0221", "0400", "0401", "0420", "0421",
    "0800", "0801",
];
const OTHER: &str = "other";

/// Installs the recorder of this process.
///
/// # Errors
/// If another recorder is installed.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let recorder = PrometheusBuilder::new().set_buckets(&SECONDS_BUCKETS)?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    Ok(handle)
}

/// Metrics of the whole process.
pub struct Metrics {
    verifications: Vec<(PinOutcome, Counter)>,
    cryptograms: Vec<(CryptogramOutcome, Counter)>,
    suspensions: Counter,
    bypasses: Counter,
    scripts: Vec<(Finding, Counter)>,
    reversals_known: Counter,
    reversals_unknown: Counter,
    sync: Histogram,
    synced_records: Counter,
    events_dropped_unread: Counter,
    log_lines_dropped: Counter,
    /// Of the admin address.
    pub admin: Arc<DoorMetrics>,
    /// Of the control socket.
    pub control: Arc<DoorMetrics>,
    /// Of the HTTP API.
    pub api: Arc<DoorMetrics>,
    api_calls: Vec<(u16, Counter)>,
    api_calls_of_other_status: Counter,
    api_duration: Histogram,
}

/// Statuses of the API that have a label of their own; all others are `other`.
const API_STATUSES: [u16; 17] =
    [200, 201, 202, 204, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 422, 429, 503];

/// What can become of a script, by what a decision finds of it.
const SCRIPT_STATES: [(Finding, &str); 7] = [
    (Finding::ScriptAttached, "sent"),
    (Finding::ScriptConfirmed, "done"),
    (Finding::ScriptNotDone, "not_done"),
    (Finding::ScriptLost, "lost"),
    (Finding::ScriptReversed, "reversed"),
    (Finding::ScriptInDoubt, "in_doubt"),
    (Finding::ScriptGivenUp, "given_up"),
];

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new() -> Metrics {
        describe();
        gauge!(
            "pinswitch_build_info",
            "version" => env!("CARGO_PKG_VERSION"),
            "revision" => env!("PINSWITCH_REVISION"),
            "rustc" => env!("PINSWITCH_RUSTC"),
        )
        .set(1.0);
        let verification = |outcome: PinOutcome| {
            let result = outcome.name();
            (outcome, counter!("pinswitch_pin_verifications_total", "result" => result))
        };
        let cryptogram = |outcome: CryptogramOutcome| {
            let result = outcome.name();
            (outcome, counter!("pinswitch_cryptogram_verifications_total", "result" => result))
        };
        let script = |(finding, state): (Finding, &'static str)| {
            (finding, counter!("pinswitch_issuer_scripts_total", "state" => state))
        };
        let reversals =
            |original: &'static str| counter!("pinswitch_reversals_total", "original" => original);
        Metrics {
            verifications: PinOutcome::ALL.into_iter().map(verification).collect(),
            cryptograms: CryptogramOutcome::ALL.into_iter().map(cryptogram).collect(),
            suspensions: counter!("pinswitch_pin_suspensions_total"),
            bypasses: counter!("pinswitch_offline_pin_bypasses_total"),
            scripts: SCRIPT_STATES.into_iter().map(script).collect(),
            reversals_known: reversals("known"),
            reversals_unknown: reversals("unknown"),
            sync: histogram!("pinswitch_journal_sync_seconds"),
            synced_records: counter!("pinswitch_journal_synced_records_total"),
            events_dropped_unread: counter!("pinswitch_events_dropped_unread_total"),
            log_lines_dropped: counter!("pinswitch_log_lines_dropped_total"),
            admin: DoorMetrics::new("admin"),
            control: DoorMetrics::new("control"),
            api: DoorMetrics::new("api"),
            api_calls: API_STATUSES
                .map(|status| (status, counter!(API_CALLS, "status" => status.to_string())))
                .to_vec(),
            api_calls_of_other_status: counter!(API_CALLS, "status" => OTHER),
            api_duration: histogram!("pinswitch_api_duration_seconds"),
        }
    }

    /// Counts a call of the API.
    pub fn api_call(&self, status: u16, took: Duration) {
        let counter = self.api_calls.iter().find(|(known, _)| *known == status);
        counter.map_or(&self.api_calls_of_other_status, |(_, counter)| counter).increment(1);
        self.api_duration.record(took);
    }

    /// The counter of PIN blocks that only an older version of this zone PIN key could read.
    pub fn under_older_zone_key(&self, key: &str) -> Counter {
        counter!("pinswitch_pin_blocks_under_older_key_total", "key" => key.to_owned())
    }

    /// Counts one verification.
    pub fn verified(&self, outcome: PinOutcome) {
        let counter = self.verifications.iter().find(|(known, _)| *known == outcome);
        counter.into_iter().for_each(|(_, counter)| counter.increment(1));
    }

    /// Counts one verification of a cryptogram.
    pub fn cryptogram_verified(&self, outcome: CryptogramOutcome) {
        let counter = self.cryptograms.iter().find(|(known, _)| *known == outcome);
        counter.into_iter().for_each(|(_, counter)| counter.increment(1));
    }

    /// Counts what a decision did with its chip.
    pub fn decided<'a>(&self, is_bypass: bool, trail: impl Iterator<Item = &'a Note>) {
        self.bypasses.increment(u64::from(is_bypass));
        for note in trail {
            let counter = self.scripts.iter().find(|(known, _)| *known == note.finding);
            counter.into_iter().for_each(|(_, counter)| counter.increment(1));
        }
    }

    /// Counts a suspension, if it was one.
    pub fn suspended(&self, suspended: bool) {
        if suspended {
            self.suspensions.increment(1);
        }
    }

    /// Counts a reversal, repeats not.
    pub fn reversed(&self, is_known: bool) {
        let counter = if is_known { &self.reversals_known } else { &self.reversals_unknown };
        counter.increment(1);
    }

    /// Whether the civil time is believed where something is deleted by its age. Told once a
    /// second, so no handle is kept.
    pub fn clock_settled(&self, is_settled: bool) {
        gauge!("pinswitch_clock_settled").set(f64::from(u8::from(is_settled)));
    }

    /// How far back the repeats of a network are recognised. Told once a second, so no handle is
    /// kept.
    pub fn duplicate_window(&self, network: &Arc<str>, window: Duration) {
        let gauge = gauge!("pinswitch_duplicate_window_seconds", "network" => Arc::clone(network));
        gauge.set(window.as_secs_f64());
    }

    /// The histogram of sync times and the counter of the records they made durable, for the
    /// store.
    pub fn sync(&self) -> (Histogram, Counter) {
        (self.sync.clone(), self.synced_records.clone())
    }

    /// The counter of events and transactions that were removed before a reader had them, for the
    /// store.
    pub fn events_dropped_unread(&self) -> Counter {
        self.events_dropped_unread.clone()
    }

    /// How many log lines of transactions and connections were dropped so far.
    pub fn log_lines_dropped(&self, lines: usize) {
        self.log_lines_dropped.absolute(lines as u64);
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

fn describe_chips() {
    use metrics::describe_counter;
    describe_counter!(
        "pinswitch_cryptogram_verifications_total",
        "Application cryptograms verified, by result."
    );
    describe_counter!(
        "pinswitch_offline_pin_bypasses_total",
        "Approvals without offline PIN after a PIN change (FTPAM, FTPDY)."
    );
    describe_counter!("pinswitch_issuer_scripts_total", "Issuer scripts, by what became of them.");
}

fn describe_connections() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!("pinswitch_connections", "Open connections that are served.");
    describe_gauge!(
        "pinswitch_connections_waiting",
        "Open connections that wait for their turn after too many came at once."
    );
    describe_counter!(
        "pinswitch_connections_refused_total",
        "Connections of links closed at once: a strange peer, too many of its address or of the \
         link."
    );
    describe_counter!(
        "pinswitch_connections_closed_total",
        "Connections that ended other than by a clean close of their peer, by reason."
    );
    describe_counter!(
        "pinswitch_door_connections_refused_total",
        "Connections of the admin address, of control.sock and of the API closed at once because \
         there were too many, by door."
    );
    describe_counter!(
        "pinswitch_door_connections_timed_out_total",
        "Connections of the admin address, of control.sock and of the API closed because their \
         peer was too slow, by door."
    );
    describe_counter!(
        "pinswitch_accept_failures_total",
        "Times that the system gave no connection, by listener; each was tried again."
    );
}

const API_CALLS: &str = "pinswitch_api_calls_total";

fn describe_api() {
    use metrics::{describe_counter, describe_histogram};
    describe_counter!("pinswitch_api_calls_total", "Calls of the HTTP API, by status.");
    describe_histogram!(
        "pinswitch_api_duration_seconds",
        Unit::Seconds,
        "From the head of a call of the HTTP API to its answer."
    );
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("pinswitch_build_info", "What is running; always 1.");
    describe_counter!("pinswitch_messages_total", "Messages, by message type and direction.");
    describe_counter!("pinswitch_responses_total", "Responses, by four-digit reason.");
    describe_histogram!(
        "pinswitch_request_duration_seconds",
        Unit::Seconds,
        "From the read of a request to its encoded response."
    );
    describe_gauge!("pinswitch_inflight", "Requests that wait for HSM or store.");
    describe_counter!(
        "pinswitch_overload_answers_total",
        "Requests answered 91 at once because too many were waiting."
    );
    describe_counter!(
        "pinswitch_late_answers_total",
        "Requests whose answer came too late to be sent, by whether they were decided."
    );
    describe_counter!(
        "pinswitch_log_lines_dropped_total",
        "Log lines of transactions and connections dropped because the log was not read in time."
    );
    describe_counter!(
        "pinswitch_pin_verifications_total",
        "PINs that a decision was made by, by result."
    );
    describe_counter!("pinswitch_pin_suspensions_total", "Cards suspended at the PIN retry limit.");
    describe_chips();
    describe_connections();
    describe_api();
    describe_counter!(
        "pinswitch_reversals_total",
        "Reversals, by whether their original was known."
    );
    describe_counter!(
        "pinswitch_bad_pin_blocks_total",
        "PIN blocks that could not be read: a wrong key or an attack."
    );
    describe_counter!(
        "pinswitch_pin_blocks_under_older_key_total",
        "PIN blocks that only the older version of a zone PIN key could read, by key: its peer has \
         not changed over yet."
    );
    describe_counter!(
        "pinswitch_reject_headers_total",
        "Messages of ours that the network sent back with a reject header."
    );
    describe_histogram!(
        "pinswitch_journal_sync_seconds",
        Unit::Seconds,
        "Time of one sync of the journal."
    );
    describe_counter!(
        "pinswitch_journal_synced_records_total",
        "Records of the journal made durable; with the count of syncs, the mean group."
    );
    describe_counter!(
        "pinswitch_events_dropped_unread_total",
        "Events and transactions removed with old segments before a reader had acknowledged them."
    );
    describe_gauge!(
        "pinswitch_clock_settled",
        "1 where the civil time is believed; 0 for a while after it has jumped."
    );
    describe_gauge!(
        "pinswitch_duplicate_window_seconds",
        Unit::Seconds,
        "How far back the repeats of a network are recognised."
    );
}

/// The counter of failures to accept of a listener: a link, or a door.
fn accept_failures(kind: &'static str, name: &str) -> Counter {
    counter!("pinswitch_accept_failures_total", "kind" => kind, "listener" => name.to_owned())
}

/// Metrics of a door beside the links.
pub struct DoorMetrics {
    /// Its name: `admin`, `control` or `api`.
    pub name: &'static str,
    /// Connections closed at once because there were too many.
    pub refused: Counter,
    /// Connections closed because their peer was too slow.
    pub timed_out: Counter,
    /// Times that the system gave no connection.
    pub accept_failures: Counter,
}

impl DoorMetrics {
    fn new(name: &'static str) -> Arc<DoorMetrics> {
        Arc::new(DoorMetrics {
            name,
            refused: counter!("pinswitch_door_connections_refused_total", "door" => name),
            timed_out: counter!("pinswitch_door_connections_timed_out_total", "door" => name),
            accept_failures: accept_failures("door", name),
        })
    }
}

/// Why connections end other than by their peer: label values, each counted from 0.
pub const CLOSED_REASONS: [&str; 8] =
    ["frame", "message", "slow_reader", "idle", "no_message", "stopped", "reset", "network"];

/// Why connections are closed at once: label values, each counted from 0.
pub const REFUSED_REASONS: [&str; 3] = ["peer", "address", "link"];

/// Metrics of one link.
pub struct LinkMetrics {
    received: Vec<(&'static str, Counter)>,
    sent: Vec<(&'static str, Counter)>,
    responses: Vec<(&'static str, Vec<(Reason, Counter)>)>,
    authorization_duration: Histogram,
    network_management_duration: Histogram,
    bad_pin_blocks: Counter,
    rejected: Counter,
    overloaded: Counter,
    late_decided: Counter,
    late_undecided: Counter,
    closed: Vec<(&'static str, Counter)>,
    refused: Vec<(&'static str, Counter)>,
    /// Times that the system gave no connection.
    pub accept_failures: Counter,
    /// Requests that wait for HSM or store.
    pub in_flight: Gauge,
    /// Open connections that are served.
    pub connections: Gauge,
    /// Open connections that wait for their turn.
    pub waiting: Gauge,
}

impl LinkMetrics {
    /// Registers them for a link of a network.
    #[must_use]
    pub fn new(network: &str, link: &str) -> Arc<LinkMetrics> {
        let messages = |direction: &'static str, mti: String| {
            let labels = labels_of(network, [("mti", mti), ("direction", direction.to_owned())]);
            counter!("pinswitch_messages_total", &labels)
        };
        let responses = |mti: &'static str| {
            let of = |reason: Reason| {
                let labels = [("mti", response_to(mti)), ("code", reason.code().to_owned())];
                (reason, counter!("pinswitch_responses_total", &labels_of(network, labels)))
            };
            (mti, Reason::ALL.into_iter().map(of).collect())
        };
        let duration = |class: &'static str| {
            let labels = labels_of(network, [("class", class.to_owned())]);
            histogram!("pinswitch_request_duration_seconds", &labels)
        };
        let own = labels_of(network, [("link", link.to_owned())]);
        let closed = |reason: &'static str| {
            let labels = [("link", link.to_owned()), ("reason", reason.to_owned())];
            (reason, counter!("pinswitch_connections_closed_total", &labels_of(network, labels)))
        };
        let late = |decided: &'static str| {
            let labels = [("link", link.to_owned()), ("decided", decided.to_owned())];
            counter!("pinswitch_late_answers_total", &labels_of(network, labels))
        };
        let refused = |reason: &'static str| {
            let labels = [("link", link.to_owned()), ("reason", reason.to_owned())];
            (reason, counter!("pinswitch_connections_refused_total", &labels_of(network, labels)))
        };
        Arc::new(LinkMetrics {
            received: mtis().map(|mti| (mti, messages("in", mti.to_owned()))).collect(),
            sent: mtis().map(|mti| (mti, messages("out", response_to(mti)))).collect(),
            responses: mtis().map(responses).collect(),
            authorization_duration: duration("authorization"),
            network_management_duration: duration("network_management"),
            bad_pin_blocks: counter!("pinswitch_bad_pin_blocks_total", &own),
            rejected: counter!("pinswitch_reject_headers_total", &own),
            overloaded: counter!("pinswitch_overload_answers_total", &own),
            late_decided: late("yes"),
            late_undecided: late("no"),
            closed: CLOSED_REASONS.into_iter().map(closed).collect(),
            refused: REFUSED_REASONS.into_iter().map(refused).collect(),
            accept_failures: accept_failures("link", link),
            in_flight: gauge!("pinswitch_inflight", &own),
            connections: gauge!("pinswitch_connections", &own),
            waiting: gauge!("pinswitch_connections_waiting", &own),
        })
    }

    /// Counts messages that came in, and their answers.
    pub fn count(&self, tally: &mut Tally) {
        for (mti, reason, count) in tally.0.drain(..) {
            increment(&self.received, mti, count);
            let Some(reason) = reason else { continue };
            increment(&self.sent, mti, count);
            let responses = entry(&self.responses, mti).into_iter().flatten();
            let counter = responses.into_iter().find(|(known, _)| *known == reason);
            counter.into_iter().for_each(|(_, counter)| counter.increment(count));
        }
    }

    /// Notes how long the answer to a message of this type took.
    pub fn took(&self, request: Mti, took: Duration) {
        match request.is_network_management() {
            true => self.network_management_duration.record(took.as_secs_f64()),
            false => self.authorization_duration.record(took.as_secs_f64()),
        }
    }

    /// Counts a PIN block that could not be read.
    pub fn bad_pin_block(&self) {
        self.bad_pin_blocks.increment(1);
    }

    /// Counts a request that was answered 91 because too many waited.
    pub fn overloaded(&self) {
        self.overloaded.increment(1);
    }

    /// Counts a request that was not answered because it was too late for that.
    pub fn late(&self, is_decided: bool) {
        let counter = if is_decided { &self.late_decided } else { &self.late_undecided };
        counter.increment(1);
    }

    /// Counts a connection that was not closed by its peer, by one of [`CLOSED_REASONS`].
    pub fn closed(&self, reason: &str) {
        count_reason(&self.closed, reason);
    }

    /// Counts a connection that was closed at once, by one of [`REFUSED_REASONS`].
    pub fn refused(&self, reason: &str) {
        count_reason(&self.refused, reason);
    }

    /// Counts a message of ours that came back with a reject header.
    pub fn rejected(&self) {
        self.rejected.increment(1);
    }
}

/// Counts one of the reasons that were registered, each with 0, at start.
fn count_reason(counters: &[(&'static str, Counter)], reason: &str) {
    let counter = counters.iter().find(|(known, _)| *known == reason);
    debug_assert!(counter.is_some(), "{reason} is missing in the list of reasons");
    counter.into_iter().for_each(|(_, counter)| counter.increment(1));
}

fn mtis() -> impl Iterator<Item = &'static str> {
    MTIS.into_iter().chain([OTHER])
}

/// The type of the response to a message type: its label.
fn response_to(mti: &str) -> String {
    let digits = mti.as_bytes().try_into().ok().and_then(Mti::new);
    digits.map_or(OTHER.to_owned(), |mti| mti.response().to_string())
}

fn labels_of<const N: usize>(
    network: &str,
    labels: [(&'static str, String); N],
) -> Vec<(&'static str, String)> {
    [("network", network.to_owned())].into_iter().chain(labels).collect()
}

fn increment(counters: &[(&'static str, Counter)], mti: Mti, count: u64) {
    entry(counters, mti).into_iter().for_each(|counter| counter.increment(count));
}

/// Messages of one connection that are not counted yet. Threads that count one by one take the
/// counters from each other, and that costs more than the counting.
#[derive(Debug, Default)]
pub struct Tally(Vec<(Mti, Option<Reason>, u64)>);

impl Tally {
    /// Adds a message and what it was answered.
    pub fn add(&mut self, mti: Mti, reason: Option<Reason>) {
        let known =
            self.0.iter_mut().find(|(known, answered, _)| (*known, *answered) == (mti, reason));
        match known {
            Some((.., count)) => *count += 1,
            None => self.0.push((mti, reason, 1)),
        }
    }
}

/// The entry of this message type, or the one of `other`, which is last.
fn entry<'a, T>(entries: &'a [(&'static str, T)], mti: Mti) -> Option<&'a T> {
    let digits = mti.digits();
    let own = entries.iter().find(|(known, _)| known.as_bytes() == digits);
    own.or(entries.last()).map(|(_, value)| value)
}
