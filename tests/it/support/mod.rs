//! The harness: the real binary beside a simulated Pepay and sample targets, all
//! on loopback, and ways to wait for what they do.

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

/// How long a test waits for something that must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for `event`, which must happen soon: a test that hangs says what it hung on.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(LIMIT, event).await;
    outcome.unwrap_or_else(|_| panic!("{what} did not happen within {} s", LIMIT.as_secs()))
}
