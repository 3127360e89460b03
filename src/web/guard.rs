//! Refused requests to the private listener. Each is counted and, within limits, logged. Requests with a
//! wrong token are slowed down.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::metrics::Counter;
use axum::extract::{ConnectInfo, Request};

use crate::domain::clock::Clock;
use crate::domain::log_limit::LogLimit;
use crate::telemetry::names;

/// The delay of the response to a wrong token.
const DELAY: Duration = Duration::from_millis(500);

/// The number of delayed responses for one address at the same time. Beyond that, requests from the
/// address are refused before their token is checked. So more connections do not make guessing faster.
const PER_ADDRESS: u32 = 4;

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
    /// The number of delayed responses, by address.
    held_back: Mutex<HashMap<IpAddr, u32>>,
}

/// One delayed response. Dropping it ends the delay's count.
struct HeldBack<'g> {
    guard: &'g Guard,
    address: IpAddr,
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
        Self(Arc::new(Inner { clock, tallies, held_back: Mutex::default() }))
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
        let held_back = self.held_back();
        peer(request).and_then(|peer| held_back.get(&peer.ip())).is_some_and(|count| *count >= PER_ADDRESS)
    }

    /// Delays the response to a wrong token from `peer`.
    pub(super) async fn slow_down(&self, peer: Option<SocketAddr>) {
        // Every request that comes over a connection has an address.
        let Some(peer) = peer else { return };
        if let Some(_held_back) = self.hold_back(peer.ip()) {
            tokio::time::sleep(DELAY).await;
        }
    }

    fn hold_back(&self, address: IpAddr) -> Option<HeldBack<'_>> {
        let mut held_back = self.held_back();
        if held_back.len() >= ADDRESSES && !held_back.contains_key(&address) {
            return None;
        }
        *held_back.entry(address).or_default() += 1;
        Some(HeldBack { guard: self, address })
    }

    fn held_back(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.0.held_back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        let mut held_back = self.guard.held_back();
        if let Some(count) = held_back.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held_back.remove(&self.address);
            }
        }
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
        let guesses = (1..=PER_ADDRESS).map(|port| request(&format!("192.0.2.1:{port}")));
        let guesses: Vec<_> = guesses.collect();
        let mut held_back = tokio::task::JoinSet::new();
        for guess in guesses {
            assert!(!guard.is_slowed(&guess));
            let guard = guard.clone();
            held_back.spawn(async move { guard.slow_down(peer(&guess)).await });
            tokio::task::yield_now().await;
        }
        assert!(guard.is_slowed(&request("192.0.2.1:99")));
        assert!(!guard.is_slowed(&request("192.0.2.2:99")));
        held_back.join_all().await;
        assert!(!guard.is_slowed(&request("192.0.2.1:99")));
        assert!(guard.held_back().is_empty());
    }

    #[test]
    fn the_number_of_addresses_that_are_slowed_is_bounded() {
        let guard = Guard::new(Clock::from_fn(|| UnixMillis(0)));
        let addresses = (0..=u8::try_from(ADDRESSES).unwrap()).map(|last| IpAddr::from([192, 0, 2, last]));
        let held: Vec<_> = addresses.map(|address| guard.hold_back(address)).collect();
        assert_eq!(held.iter().filter(|held| held.is_some()).count(), ADDRESSES);
    }

    #[test]
    fn a_reason_is_its_own_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
