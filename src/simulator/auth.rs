//! API keys, as request headers carry them, and the number of requests of each.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use http::HeaderMap;
use secrecy::ExposeSecret;

use super::options::{ApiKey, Scope};
use super::refusal::Refusal;
use super::{Simulator, lock};
use crate::domain::clock::UnixMillis;

/// The two headers a key can come in; the first is the preferred one.
const HEADERS: [&str; 2] = ["x-api-key", "x-commerce-api-key"];

impl Simulator {
    /// Returns the key of a request, and counts the request against the key's limit.
    pub(super) fn key(&self, headers: &HeaderMap) -> Result<ApiKey, Refusal> {
        let Some(sent) = HEADERS.iter().find_map(|name| headers.get(*name)) else {
            return Err(Refusal::unauthorized("an API key is required"));
        };
        let keys = lock(&self.0.keys).clone();
        let known = |key: &ApiKey| key.secret.expose_secret().as_bytes() == sent.as_bytes();
        let Some(at) = keys.iter().position(known) else {
            return Err(Refusal::unauthorized("the API key is not valid"));
        };
        if let Some(limit) = self.options().rate_limit {
            lock(&self.0.rates).take(at, limit, self.0.clock.now()).map_err(Refusal::too_many)?;
        }
        Ok(keys[at].clone())
    }

    /// Returns the key of a request, which has to open `scope`.
    pub(super) fn key_of_scope(&self, headers: &HeaderMap, scope: Scope) -> Result<ApiKey, Refusal> {
        let key = self.key(headers)?;
        key.opens(scope)?;
        Ok(key)
    }
}

impl ApiKey {
    /// Refuses a request for which the key would have to open `scope`, if it does not.
    pub(super) fn opens(&self, scope: Scope) -> Result<(), Refusal> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        Err(Refusal::forbidden(format!("the API key has no {} scope", scope.as_str())))
    }
}

const MINUTE: i64 = 60_000;

/// The counts by key, bounded by the number of the account's keys. A key is its index among them.
#[derive(Debug, Default)]
pub(super) struct Rates {
    minute: i64,
    used: HashMap<usize, u32>,
}

impl Rates {
    /// Counts a request of `key` at `now`; `Err` is the wait until the next minute.
    pub(super) fn take(&mut self, key: usize, limit: NonZeroU32, now: UnixMillis) -> Result<(), Duration> {
        let minute = now.0.div_euclid(MINUTE);
        if minute != self.minute {
            self.minute = minute;
            self.used.clear();
        }
        let used = self.used.entry(key).or_default();
        if *used < limit.get() {
            *used += 1;
            return Ok(());
        }
        let left = MINUTE - now.0.rem_euclid(MINUTE);
        // Rounded up, so that a request after that wait is accepted.
        Err(Duration::from_secs(left.unsigned_abs().div_ceil(1000)))
    }
}
