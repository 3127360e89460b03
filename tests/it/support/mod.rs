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

use std::fs::OpenOptions;
use std::future::Future;
use std::io::{Write as _, stderr};
use std::time::Duration;

/// The variable for the file in which `.ci/run` collects what tests have left out; see `tests/skip.sh`.
const SKIPPED: &str = "CI_SKIPPED";

/// Reports that this machine cannot test `part`, for `reason`: to the operator of the test run, past the
/// runner's capture of output, and to `.ci/run`, which lists all such parts at its end.
pub fn left_out(part: &str, reason: &str) {
    let told = format!("\n*** SKIPPED: {part}: {reason} ***\n\n");
    stderr().write_all(told.as_bytes()).unwrap();
    if let Some(file) = std::env::var_os(SKIPPED).filter(|file| !file.is_empty()) {
        let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "unavailable\t{part}: {reason}").unwrap();
    }
}

/// The longest time that a test waits for an event.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for `event`, at most for [`LIMIT`]. The panic of a test that waits in vain names `what`.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    within(LIMIT, event).await.unwrap_or_else(|| panic!("{what} did not happen within {} s", LIMIT.as_secs()))
}

/// Calls `ask` until it returns something, at most for [`LIMIT`], with a pause after each call. For what
/// gives no notice of a change: a response, the outcome of a command, a row of a database.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(10);
    soon(what, async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await
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
