//! Logs whether commits work: when a failure begins, at intervals while it lasts, and when it ends.
//! A full disk under load fails hundreds of groups a second, and a line for each would bury all
//! other lines.

use std::time::{Duration, Instant};

use crate::store::engine::EngineError;

/// The interval between two lines while a failure lasts.
const REMINDER: Duration = Duration::from_secs(10);

/// The time without a failure after which a commit ends the failure. A full disk still takes some small
/// groups, so failures and commits alternate.
const CALM: Duration = Duration::from_secs(10);

/// How long a failure counts as recent. A full disk may still take the few bytes of a probe.
const RECENT: Duration = Duration::from_secs(15);

/// Whether commits work, and when that was logged.
#[derive(Debug, Default)]
pub(super) struct CommitHealth {
    /// When a refused task was last logged, and the number of refusals since then.
    refused: Option<(Instant, usize)>,
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

    /// Notes that tasks were refused, while the others of their group were not. A caller may try again
    /// and again.
    pub(super) fn refused(&mut self, now: Instant, error: &EngineError) {
        let unlogged = match &mut self.refused {
            Some((at, unlogged)) if now.duration_since(*at) < REMINDER => {
                *unlogged += 1;
                return;
            }
            refused => refused.replace((now, 0)).map_or(0, |(_, unlogged)| unlogged),
        };
        tracing::error!(%error, unlogged, "a task of the store was refused");
    }

    /// Notes that a group that writes was committed.
    pub(super) fn committed(&mut self, now: Instant) {
        let is_over = self.last.as_ref().is_none_or(|(at, _)| now.duration_since(*at) >= CALM);
        if let Some(trouble) = self.ongoing.take_if(|_| is_over) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_failure_that_some_commits_interrupt_is_one_until_it_has_been_over_for_a_while() {
        let (start, full) = (Instant::now(), EngineError::Unavailable("the disk is full".to_owned()));
        let mut health = CommitHealth::default();
        for second in 0..5 {
            health.failed(start + second * SECOND, &full, 3);
            health.committed(start + second * SECOND);
        }
        let said =
            |health: &CommitHealth| health.ongoing.as_ref().map(|trouble| (trouble.said, trouble.refused));
        assert_eq!(said(&health), Some((start, 15)));
        health.committed(start + 13 * SECOND);
        assert_eq!(said(&health), Some((start, 15)));
        health.committed(start + 4 * SECOND + CALM);
        assert_eq!(said(&health), None);
        health.failed(start + 20 * SECOND, &full, 1);
        assert_eq!(said(&health), Some((start + 20 * SECOND, 1)));
    }
}
