//! The table `limits`: every limit of connections and requests, with its unit in its name.

use std::num::NonZeroU32;
use std::time::Duration;

use iso_specs::toml_keys::Keys;

use crate::cache::BadPinBlocks;

/// Limits of connections and requests. The units are in the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all links together: each has its share of them.
    pub connections_max: usize,
    /// Open connections of one address on one link, unless the link says otherwise.
    pub connections_per_address_max: usize,
    /// Connections that a link begins to serve in a second; one address has a quarter of them.
    pub connections_per_second_max: u32,
    /// Largest frame: fixed header and message together, without the length before it.
    pub frame_bytes_max: usize,
    /// What is read from a connection at once, and not read on before it is answered or in
    /// flight.
    pub buffer_bytes_per_connection_max: usize,
    /// Requests of one connection that wait for HSM or store; at this number it is not read.
    pub in_flight_per_connection_max: usize,
    /// Requests of one link that wait; at this number what is to be decided is answered 91 at once,
    /// and at twice this number everything.
    pub in_flight_per_link_max: usize,
    /// The same of all links.
    pub in_flight_max: usize,
    /// How long a connection may stay without a message before it is closed.
    pub idle_seconds_max: Duration,
    /// The same, of a connection that has brought none yet.
    pub first_message_seconds_max: Duration,
    /// From the read of a request to its answer; what is later is not sent.
    pub answer_milliseconds_max: Duration,
    /// How long the HSM may take for cryptogram and PIN before a request is answered 91.
    pub hsm_milliseconds_max: Duration,
    /// How long a peer may leave our replies unread before the connection is closed.
    pub write_seconds_max: Duration,
    /// How long a stop waits for requests in flight.
    pub drain_seconds_max: Duration,
    /// The doors beside the links: the admin page and the control socket.
    pub doors: DoorLimits,
    /// The HTTP API.
    pub api: ApiLimits,
    /// Unusable PIN blocks of one card on one link in a minute that the HSM is asked about.
    pub bad_pin_blocks_per_minute: u32,
    /// Threads that serve connections.
    pub threads: usize,
}

/// Limits of the admin page and of the control socket. The units are in the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorLimits {
    /// Open connections of the admin address; one more is closed at once.
    pub admin_connections_max: usize,
    /// From the begin of a connection to the end of its request's header.
    pub admin_request_seconds_max: Duration,
    /// How much longer the connection may last, until its peer has taken the answer.
    pub admin_answer_seconds_max: Duration,
    /// Open conversations on the control socket; one more is closed at once.
    pub control_connections_max: usize,
    /// How long a command may take to arrive; the first one from the begin of its conversation.
    pub control_request_seconds_max: Duration,
    /// How long a conversation may be silent between two commands.
    pub control_idle_seconds_max: Duration,
    /// How long the other side may take to read an answer.
    pub control_answer_seconds_max: Duration,
}

/// Limits of the HTTP API. The units are in the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiLimits {
    /// Threads of its own.
    pub threads: usize,
    /// Open connections; one more is closed at once.
    pub connections_max: usize,
    /// Open connections of one address.
    pub connections_per_address_max: usize,
    /// How long the head of a call may take to arrive, its body after that, and each part of the
    /// answer to leave.
    pub request_seconds_max: Duration,
    /// Longest body.
    pub body_bytes_max: usize,
    /// Calls of one API key.
    pub calls_per_key_per_minute: NonZeroU32,
    /// Wrong secrets of one address, above which it learns no more whether one is right.
    pub wrong_secrets_per_address_per_minute: NonZeroU32,
    /// Calls that set, show or check the PIN of one card.
    pub pin_calls_per_card_per_minute: NonZeroU32,
}

impl Limits {
    /// File descriptors of all that they allow, and of what the switch has open itself.
    pub(super) const fn descriptors_max(&self, links: usize) -> usize {
        // Each link, the admin address, the control socket and the API listen, and may hold a
        // connection that they are about to refuse.
        let listeners = links + 3;
        self.connections_max
            + self.doors.admin_connections_max
            + self.doors.control_connections_max
            + self.api.connections_max
            + listeners * 2
            + (self.threads + self.api.threads) * DESCRIPTORS_PER_THREAD
            + DESCRIPTORS_OWN
    }

    pub(super) fn read(keys: &mut Keys<'_, '_>) -> Limits {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let mut seconds = |key, most, default| {
            Duration::from_secs(keys.optional_number(key, 1..=most).unwrap_or(default))
        };
        let write_seconds_max = seconds("write_seconds_max", 3_600, 10);
        let drain_seconds_max = seconds("drain_seconds_max", 3_600, 10);
        let idle_seconds_max = seconds("idle_seconds_max", 604_800, 3_600);
        let first_message_seconds_max =
            seconds("first_message_seconds_max", 604_800, idle_seconds_max.as_secs().min(30));
        let (doors, api) = (DoorLimits::read(keys), ApiLimits::read(keys));
        let mut milliseconds = |key, default| {
            Duration::from_millis(keys.optional_number(key, 1..=600_000).unwrap_or(default))
        };
        let answer_milliseconds_max = milliseconds("answer_milliseconds_max", 5_000);
        let hsm = answer_milliseconds_max.as_millis() / 2;
        let hsm_milliseconds_max = milliseconds(
            "hsm_milliseconds_max",
            u64::try_from(hsm).unwrap_or(2_000).clamp(1, 2_000),
        );
        let mut count = |key, most, default| keys.optional_number(key, 1..=most).unwrap_or(default);
        let in_flight_max = count("in_flight_max", 1_000_000, 16_000);
        let limits = Limits {
            connections_max: count("connections_max", CONNECTIONS_MAX, 1_024),
            connections_per_address_max: count("connections_per_address_max", CONNECTIONS_MAX, 256),
            in_flight_per_connection_max: count("in_flight_per_connection_max", 100_000, 8_192),
            in_flight_per_link_max: count(
                "in_flight_per_link_max",
                1_000_000,
                in_flight_max.min(4_000),
            ),
            in_flight_max,
            connections_per_second_max: keys
                .optional_number("connections_per_second_max", 1..=1_000_000)
                .unwrap_or(1_000),
            buffer_bytes_per_connection_max: keys
                .optional_number("buffer_bytes_per_connection_max", 4_096..=1_048_576)
                .unwrap_or(65_536),
            threads: keys.optional_number("threads", 1..=256).unwrap_or_else(processors),
            frame_bytes_max: keys.optional_number("frame_bytes_max", 64..=65_535).unwrap_or(4_096),
            write_seconds_max,
            drain_seconds_max,
            doors,
            api,
            idle_seconds_max,
            first_message_seconds_max,
            answer_milliseconds_max,
            hsm_milliseconds_max,
            bad_pin_blocks_per_minute: keys
                .optional_number("bad_pin_blocks_per_minute", 1..=BadPinBlocks::COUNT_MAX)
                .unwrap_or(5),
        };
        if limits.first_message_seconds_max > limits.idle_seconds_max {
            keys.mistake_of("first_message_seconds_max", "expected no more than idle_seconds_max");
        }
        if limits.in_flight_per_link_max > limits.in_flight_max {
            keys.mistake_of("in_flight_per_link_max", "expected no more than in_flight_max");
        }
        if limits.hsm_milliseconds_max > limits.answer_milliseconds_max {
            let text = "expected no more than answer_milliseconds_max: an answer must be in time";
            keys.mistake_of("hsm_milliseconds_max", text);
        }
        keys.finish();
        limits
    }
}

impl DoorLimits {
    fn read(keys: &mut Keys<'_, '_>) -> DoorLimits {
        let mut count = |key, default| keys.optional_number(key, 1..=10_000).unwrap_or(default);
        let admin_connections_max = count("admin_connections_max", 64);
        let control_connections_max = count("control_connections_max", 64);
        let mut seconds = |key, default| {
            Duration::from_secs(keys.optional_number(key, 1..=3_600).unwrap_or(default))
        };
        DoorLimits {
            admin_connections_max,
            admin_request_seconds_max: seconds("admin_request_seconds_max", 10),
            admin_answer_seconds_max: seconds("admin_answer_seconds_max", 10),
            control_connections_max,
            control_request_seconds_max: seconds("control_request_seconds_max", 30),
            control_idle_seconds_max: seconds("control_idle_seconds_max", 600),
            control_answer_seconds_max: seconds("control_answer_seconds_max", 30),
        }
    }
}

impl ApiLimits {
    fn read(keys: &mut Keys<'_, '_>) -> ApiLimits {
        let mut count = |key, most, default| keys.optional_number(key, 1..=most).unwrap_or(default);
        let threads = count("api_threads", 256, 1);
        let connections_max = count("api_connections_max", CONNECTIONS_MAX, 256);
        let per_address = "api_connections_per_address_max";
        let connections_per_address_max = count(per_address, CONNECTIONS_MAX, 128);
        let body_bytes_max = count("api_body_kb_max", 1_024, 64) * 1_024;
        let seconds = keys.optional_number("api_request_seconds_max", 1..=3_600).unwrap_or(10);
        let mut per_minute = |key, default| {
            let number = keys.optional_number(key, 1..=10_000_000_u32).and_then(NonZeroU32::new);
            number.unwrap_or(default)
        };
        ApiLimits {
            threads,
            connections_max,
            connections_per_address_max,
            body_bytes_max,
            request_seconds_max: Duration::from_secs(seconds),
            calls_per_key_per_minute: per_minute("api_calls_per_key_per_minute", CALLS_PER_KEY),
            wrong_secrets_per_address_per_minute: per_minute(
                "api_wrong_secrets_per_address_per_minute",
                WRONG_SECRETS,
            ),
            pin_calls_per_card_per_minute: per_minute(
                "api_pin_calls_per_card_per_minute",
                PIN_CALLS_PER_CARD,
            ),
        }
    }
}

const CALLS_PER_KEY: NonZeroU32 = NonZeroU32::new(60_000).unwrap();
const PIN_CALLS_PER_CARD: NonZeroU32 = NonZeroU32::new(120).unwrap();
const WRONG_SECRETS: NonZeroU32 = NonZeroU32::new(30).unwrap();

/// What the limits of connections may be at most.
pub(super) const CONNECTIONS_MAX: usize = 100_000;

/// Descriptors of the event loop of a thread that serves connections.
const DESCRIPTORS_PER_THREAD: usize = 4;

/// Descriptors of everything else: standard streams, the first thread's event loop, signals,
/// segments of the journal, a snapshot, keys, and what a page about the process reads.
const DESCRIPTORS_OWN: usize = 64;
