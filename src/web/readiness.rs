//! Whether the bridge can do its work: the store commits, and every source is usable.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{STORE_LIMIT, View};
use crate::domain::clock::UnixMillis;
use crate::domain::status::StreamStatus;

/// How long the result of a probe stands. Health checks may come in any number;
/// the store is asked once in this time.
const PROBE_STANDS: Duration = Duration::from_secs(1);

/// How long a stream may be without a connection before that is more than a reconnect.
const RECONNECT_GRACE: Duration = Duration::from_mins(2);

/// Answers whether the bridge is ready, for one router.
pub(super) struct Readiness {
    pub(super) view: View,
    probed: Mutex<Probed>,
}

struct Probed {
    at: Option<Instant>,
    failure: Option<String>,
}

/// The state at one moment.
pub(super) struct Verdict {
    /// Why the store does not commit, if it does not.
    pub(super) store_failure: Option<String>,
    /// Why the bridge is not ready; empty if it is.
    pub(super) reasons: Vec<String>,
}

impl Readiness {
    pub(super) fn new(view: View) -> Self {
        // Stands only until the first probe, or if that was abandoned by who asked for it.
        let failure = Some("it has not been asked yet".to_owned());
        Self { view, probed: Mutex::new(Probed { at: None, failure }) }
    }

    /// Looks at the store and every source.
    pub(super) async fn look(&self) -> Verdict {
        let store_failure = self.store_failure().await;
        let now = self.view.clock.now();
        let stopping = self.view.stopping.is_cancelled().then(|| "shutting down".to_owned());
        let store = store_failure.as_ref().map(|failure| format!("the store does not commit: {failure}"));
        let streams = self.view.streams.iter().filter_map(|stream| unusable(&stream.borrow(), now));
        let reasons = stopping.into_iter().chain(store).chain(streams).collect();
        Verdict { store_failure, reasons }
    }

    async fn store_failure(&self) -> Option<String> {
        // Held while the store is asked, so that whoever comes meanwhile shares the answer.
        let mut probed = self.probed.lock().await;
        if probed.at.is_none_or(|at| at.elapsed() >= PROBE_STANDS) {
            // Noted before the answer: who asks and hangs up must not make the next one ask again.
            probed.at = Some(Instant::now());
            let answer = tokio::time::timeout(STORE_LIMIT, self.view.archive.probe()).await;
            probed.failure = match answer {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it does not answer".to_owned()),
            };
        }
        probed.failure.clone()
    }
}

/// Why `stream` brings no events, if it brings none for long enough to say so.
fn unusable(stream: &StreamStatus, now: UnixMillis) -> Option<String> {
    if stream.connected {
        return None;
    }
    let absence = now.since(stream.since);
    let state = if !stream.ever_connected {
        "has not been connected since the start".to_owned()
    } else if absence >= RECONNECT_GRACE {
        format!("has been without a connection for {} s", absence.as_secs())
    } else {
        return None;
    };
    let name = &stream.name;
    Some(match &stream.problem {
        Some(problem) => format!("stream {name} {state}: {problem}"),
        None => format!("stream {name} {state}"),
    })
}
