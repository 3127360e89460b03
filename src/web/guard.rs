//! Refused requests to the private listener. Each is counted and, within limits, logged. Requests with a
//! wrong token are slowed down.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::metrics::Counter;
use axum::extract::{ConnectInfo, Request};
use tokio::time::Instant;

use crate::domain::clock::Clock;
use crate::domain::log_limit::LogLimit;
use crate::telemetry::names;

/// The delay of the response to a wrong token.
const DELAY: Duration = Duration::from_millis(500);

/// The number of delayed responses for one address at the same time. Beyond that, requests from the
/// address are refused before their token is checked. So more connections do not make guessing faster, and
/// neither does hanging up: a delay counts to its end, whether its client waits or not.
const PER_ADDRESS: usize = 4;

/// The number of addresses with delayed responses at the same time. Responses to further addresses are
/// not delayed, since they would use up the connections of the listener.
const ADDRESSES: usize = 8;

/// The reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The request has no token.
    Missing,
    /// The token is wrong.
    Wrong,
    /// The address has sent too many wrong tokens.
    Slowed,
    /// The scope of the token does not include the request.
    Scope,
    /// No token is configured, and `Host` is not a loopback name.
    ForeignHost,
    /// A page of another site caused the request.
    CrossSite,
}

/// Counts, logs and delays the refusals of the private listener. Clones share the same state.
#[derive(Clone)]
pub(super) struct Guard(Arc<Inner>);

struct Inner {
    clock: Clock,
    tallies: [(Counter, LogLimit); Reason::ALL.len()],
    /// The ends of the delays, by address.
    delays: Mutex<HashMap<IpAddr, Vec<Instant>>>,
}

impl Reason {
    const ALL: [Self; 6] =
        [Self::Missing, Self::Wrong, Self::Slowed, Self::Scope, Self::ForeignHost, Self::CrossSite];

    /// Returns the name in metrics and logs.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Slowed => "slowed",
            Self::Scope => "scope",
            Self::ForeignHost => "foreign_host",
            Self::CrossSite => "cross_site",
        }
    }
}

impl Guard {
    pub(super) fn new(clock: Clock) -> Self {
        let tallies = Reason::ALL.map(|reason| {
            let counter = ::metrics::counter!(names::ADMIN_REFUSED, "reason" => reason.as_str());
            (counter, LogLimit::default())
        });
        Self(Arc::new(Inner { clock, tallies, delays: Mutex::default() }))
    }

    /// Counts a refusal of `request`. Logs it, unless the log limit of this reason is reached.
    pub(super) fn note(&self, reason: Reason, request: &Request) {
        let (counter, lines) = &self.0.tallies[reason as usize];
        counter.increment(1);
        if let Some(unlogged) = lines.note(self.0.clock.now()) {
            let peer = peer(request).map(|peer| peer.to_string());
            let path: String = request.uri().path().chars().take(100).collect();
            let (reason, method) = (reason.as_str(), request.method().as_str());
            tracing::warn!(reason, method, path, peer, unlogged, "admin request refused");
        }
    }

    /// Returns whether the number of delayed responses for the address of `request` has reached its
    /// limit.
    pub(super) fn is_slowed(&self, request: &Request) -> bool {
        let delays = self.delays();
        peer(request).and_then(|peer| delays.get(&peer.ip())).is_some_and(|ends| ends.len() >= PER_ADDRESS)
    }

    /// Delays the response to a wrong token from `peer`.
    pub(super) async fn slow_down(&self, peer: Option<SocketAddr>) {
        // Every request that comes over a connection has an address.
        let Some(peer) = peer else { return };
        if let Some(end) = self.delay(peer.ip()) {
            tokio::time::sleep_until(end).await;
        }
    }

    /// Returns the end of a delay that begins now; `None` if too many addresses have delays.
    fn delay(&self, address: IpAddr) -> Option<Instant> {
        let mut delays = self.delays();
        if delays.len() >= ADDRESSES && !delays.contains_key(&address) {
            return None;
        }
        let end = Instant::now() + DELAY;
        delays.entry(address).or_default().push(end);
        Some(end)
    }

    /// Returns the delays that have not ended.
    fn delays(&self) -> MutexGuard<'_, HashMap<IpAddr, Vec<Instant>>> {
        let mut delays = self.0.delays.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        delays.retain(|_, ends| {
            ends.retain(|end| *end > now);
            !ends.is_empty()
        });
        delays
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// Returns the address of the client.
pub(super) fn peer(request: &Request) -> Option<SocketAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::clock::UnixMillis;

    fn request(address: &str) -> Request {
        let mut request = Request::default();
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(address.parse().unwrap()));
        request
    }

    #[tokio::test]
    async fn an_address_that_guesses_is_slowed_and_no_other() {
        let guard = Guard::new(Clock::from_fn(|| UnixMillis(0)));
        let began = Instant::now();
        for port in 1..=PER_ADDRESS {
            let guess = request(&format!("192.0.2.1:{port}"));
            assert!(!guard.is_slowed(&guess));
            // This client hangs up at once.
            assert!(guard.slow_down(peer(&guess)).now_or_never().is_none());
        }
        assert!(guard.is_slowed(&request("192.0.2.1:99")));
        assert!(!guard.is_slowed(&request("192.0.2.2:99")));
        guard.slow_down(peer(&request("192.0.2.2:99"))).await;
        assert!(began.elapsed() >= DELAY);
        assert!(!guard.is_slowed(&request("192.0.2.1:99")));
        assert!(guard.delays().is_empty());
    }

    #[test]
    fn the_number_of_addresses_that_are_slowed_is_bounded() {
        let guard = Guard::new(Clock::from_fn(|| UnixMillis(0)));
        let addresses = (0..=u8::try_from(ADDRESSES).unwrap()).map(|last| IpAddr::from([192, 0, 2, last]));
        assert_eq!(addresses.filter_map(|address| guard.delay(address)).count(), ADDRESSES);
    }

    #[test]
    fn a_reason_is_its_own_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
