//! Logs whether commits work: when a failure begins, at intervals while it lasts, and when it ends.
//! A full disk under load fails hundreds of groups a second, and a line for each would bury all
//! other lines.

use std::time::{Duration, Instant};

use crate::store::engine::EngineError;

/// The interval between two lines while a failure lasts.
const REMINDER: Duration = Duration::from_secs(10);

/// How long a failure counts as recent. A full disk may still take the few bytes of a probe.
const RECENT: Duration = Duration::from_secs(15);

/// Whether commits work, and when that was logged.
#[derive(Debug, Default)]
pub(super) struct CommitHealth {
    ongoing: Option<Ongoing>,
    /// The last failure and its time.
    last: Option<(Instant, String)>,
}

#[derive(Debug)]
struct Ongoing {
    since: Instant,
    said: Instant,
    refused: usize,
}

impl CommitHealth {
    /// Notes that a group of `commands` could not be committed.
    pub(super) fn failed(&mut self, now: Instant, error: &EngineError, commands: usize) {
        self.last = Some((now, error.to_string()));
        let first = self.ongoing.is_none();
        let trouble = self.ongoing.get_or_insert(Ongoing { since: now, said: now, refused: 0 });
        trouble.refused += commands;
        if first || now.duration_since(trouble.said) >= REMINDER {
            trouble.said = now;
            let (seconds, refused) = (now.duration_since(trouble.since).as_secs(), trouble.refused);
            tracing::error!(%error, refused, seconds, "the store cannot commit");
        }
    }

    /// Notes that a group was committed.
    pub(super) fn committed(&mut self, now: Instant) {
        if let Some(trouble) = self.ongoing.take() {
            let (seconds, refused) = (now.duration_since(trouble.since).as_secs(), trouble.refused);
            tracing::info!(refused, seconds, "the store commits again");
        }
    }

    /// Returns the last failure, if it is recent.
    pub(super) fn recent_failure(&self, now: Instant) -> Option<&str> {
        let recent = |at: Instant| now.duration_since(at) < RECENT;
        self.last.as_ref().filter(|(at, _)| recent(*at)).map(|(_, error)| &**error)
    }
}
