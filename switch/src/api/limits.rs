//! How often somebody may call: per API key; about PINs, per card; and, for wrong secrets, per
//! address.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::Problem;
use crate::config::ApiLimits;
use crate::issuing::Refused;

/// Names of callers that are kept: above it, those that have not called for a while are forgotten.
const CALLERS_MAX: usize = 10_000;

/// The limits, and who has called how often.
pub(super) struct CallLimits {
    per_key: Limit<String>,
    wrong_secrets: Limit<IpAddr>,
    pins_per_card: Limit<String>,
}

struct Limit<K: Clone + Hash + Eq>(DefaultKeyedRateLimiter<K>);

impl<K: Clone + Hash + Eq> Limit<K> {
    fn new(per_minute: NonZeroU32) -> Limit<K> {
        Limit(RateLimiter::keyed(Quota::per_minute(per_minute)))
    }

    /// Counts a call.
    fn take(&self, who: &K, what: &str) -> Result<(), Problem> {
        self.wait(who).map_err(|seconds| Problem::rate_limited(what, seconds))
    }

    /// Counts a call, or says after how many seconds there may be one.
    fn wait(&self, who: &K) -> Result<(), u64> {
        if self.0.len() > CALLERS_MAX {
            self.0.retain_recent();
        }
        self.0.check_key(who).map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            wait.as_secs() + 1
        })
    }
}

impl CallLimits {
    pub(super) fn new(limits: &ApiLimits) -> CallLimits {
        CallLimits {
            per_key: Limit::new(limits.calls_per_key_per_minute),
            wrong_secrets: Limit::new(limits.wrong_secrets_per_address_per_minute),
            pins_per_card: Limit::new(limits.pin_calls_per_card_per_minute),
        }
    }

    /// Counts a call of a key.
    pub(super) fn call(&self, key: &str) -> Result<(), Problem> {
        self.per_key.take(&key.to_owned(), "this API key calls too often")
    }

    /// Counts a call about the PIN of a card that there is.
    pub(super) fn pin_call(&self, card: &str) -> Result<(), Refused> {
        let wait = self.pins_per_card.wait(&card.to_owned());
        wait.map_err(|seconds| Refused::TooManyPinCalls { seconds })
    }

    /// Counts a wrong secret.
    pub(super) fn wrong_secret(&self, address: IpAddr) -> Result<(), Problem> {
        self.wrong_secrets.take(&address, "too many wrong secrets come from this address")
    }
}
