//! Saying that the store cannot commit: at once, then now and then while it
//! lasts, and when it is over. A full disk under load fails hundreds of groups a
//! second, and one line each would bury what else there is to read.

use std::time::{Duration, Instant};

/// Between two lines while it lasts.
const REMINDER: Duration = Duration::from_secs(10);

/// Whether the store is in trouble, and what has been said about it.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<Ongoing>);

#[derive(Debug)]
struct Ongoing {
    since: Instant,
    said: Instant,
    refused: usize,
}

impl Trouble {
    /// A group of `commands` could not be committed.
    pub(super) fn failed(&mut self, now: Instant, error: &rusqlite::Error, commands: usize) {
        let first = self.0.is_none();
        let trouble = self.0.get_or_insert(Ongoing { since: now, said: now, refused: 0 });
        trouble.refused += commands;
        if first || now.duration_since(trouble.said) >= REMINDER {
            trouble.said = now;
            let (seconds, refused) = (now.duration_since(trouble.since).as_secs(), trouble.refused);
            tracing::error!(%error, refused, seconds, "the store cannot commit");
        }
    }

    /// A group was committed.
    pub(super) fn committed(&mut self, now: Instant) {
        if let Some(trouble) = self.0.take() {
            let (seconds, refused) = (now.duration_since(trouble.since).as_secs(), trouble.refused);
            tracing::info!(refused, seconds, "the store commits again");
        }
    }
}
