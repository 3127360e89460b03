//! The harness: the real binary beside a simulated Pepay and sample targets, all
//! on loopback, and functions that wait for their events.

pub mod bridge;
pub mod document;
pub mod http;
pub mod pepay;
pub mod raw;
pub mod tls;
pub mod tunnel;
pub mod world;

use std::future::Future;
use std::time::Duration;

/// The longest time that a test waits for an event.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for `event`, at most for [`LIMIT`]. The panic of a test that waits in vain names `what`.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    within(LIMIT, event).await.unwrap_or_else(|| panic!("{what} did not happen within {} s", LIMIT.as_secs()))
}

/// Waits for `event`, at most for `limit`; returns `None` after that. The time during which the machine
/// or the process is stopped does not count.
pub async fn within<T>(limit: Duration, event: impl Future<Output = T>) -> Option<T> {
    const TICK: Duration = Duration::from_millis(100);
    let ticks = async {
        for _ in 0..limit.as_millis() / TICK.as_millis() {
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::select! {
        biased;
        outcome = event => Some(outcome),
        () = ticks => None,
    }
}
