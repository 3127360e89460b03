//! What waits in the store for targets that are not configured any more.

use crate::config::Settings;
use crate::store::check;

/// A line for each such target. None if the store cannot be read: other checks say so.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let backlogs = settings.store.file().and_then(|file| check::backlogs(file).ok()).unwrap_or_default();
    let removed = backlogs.iter().filter(|backlog| {
        backlog.is_waiting() && settings.targets.iter().all(|target| target.name != backlog.target)
    });
    let told = removed.map(|backlog| {
        format!(
            "targets.{}: is not configured, and {} deliveries wait for it",
            backlog.target,
            backlog.in_words()
        )
    });
    told.collect()
}

/// What to do about it.
pub(super) const ADVICE: &str =
    "configure it again, move them to another target (`deliveries move`), or cancel them";
