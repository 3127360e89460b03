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
    let outcome = tokio::time::timeout(LIMIT, event).await;
    outcome.unwrap_or_else(|_| panic!("{what} did not happen within {} s", LIMIT.as_secs()))
}
