//! `pepay-bridge restore`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Error;
use crate::config::{self, Input};
use crate::domain::clock::{Clock, UnixMillis};
use crate::store::restore::{Restored, restore};

/// Put a backup in the place of the database, while no bridge runs
///
/// The file is copied, read through and checked before anything else is touched. The
/// database that was there is kept beside it. A restore that is interrupted after that is
/// completed by the next start or restore. What was delivered after the backup is
/// delivered again at the next start.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The copy that `backup` has made
    file: PathBuf,

    /// Print what was restored as JSON
    #[arg(long)]
    json: bool,
}

/// Restores the configured store.
pub(super) fn run(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let store = config::store(input)?;
    let Some(database) = store.file().map(Path::to_owned) else {
        return Err(Error::failure(
            "the store is on a PostgreSQL server: restore it with the server's own tools",
        ));
    };
    let stamp = stamp(Clock::system().now());
    let restored = restore(&arguments.file, &database, &stamp).map_err(Error::failure)?;
    super::print(&if arguments.json { json_of(&database, &restored) } else { text_of(&database, &restored) })
}

/// Returns the time for a file name, such as `20261127T132600.250Z`.
fn stamp(now: UnixMillis) -> String {
    let written = humantime::format_rfc3339_millis(now.into()).to_string();
    written.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

fn text_of(database: &Path, Restored { events, newest_sequence, schema, kept }: &Restored) -> String {
    let kept = kept.as_ref().map_or_else(|| "there was none".to_owned(), |kept| kept.display().to_string());
    format!(
        "{:<17}{}\n{:<17}{events}\n{:<17}{newest_sequence}\n{:<17}{schema}\n{:<17}sound\n{:<17}{kept}\n",
        "database",
        database.display(),
        "events",
        "newest sequence",
        "schema",
        "integrity",
        "kept before it",
    )
}

fn json_of(database: &Path, Restored { events, newest_sequence, schema, kept }: &Restored) -> String {
    // JSON has no form for a path that is not UTF-8.
    let shown = |path: &Path| path.display().to_string();
    let (database, kept) = (shown(database), kept.as_deref().map(shown));
    let restored = json!({
        "database": database, "events": events, "newest_sequence": newest_sequence, "schema": schema, "kept": kept,
    });
    format!("{restored}\n")
}
