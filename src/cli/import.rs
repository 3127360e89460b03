//! `pepay-bridge import`.

use std::path::PathBuf;

use super::{Error, progress};
use crate::config::{self, Input};
use crate::store::Place;
use crate::store::import::{self, Imported};

/// Move the store of a stopped bridge from a SQLite file into the configured PostgreSQL schema
///
/// Moves sequences, open deliveries, cursors and everything else. The schema must be empty. The
/// import is one transaction, which is read back and compared before it is committed, so an
/// interrupted import leaves nothing behind. The file does not change, except that its schema is
/// migrated to the current version.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The database, as `sqlite://PATH`
    #[arg(value_name = "URL", value_parser = file)]
    from: PathBuf,
}

fn file(url: &str) -> Result<PathBuf, String> {
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
    path.filter(|path| !path.is_empty()).map(PathBuf::from).ok_or_else(|| "is no sqlite://PATH".to_owned())
}

/// Moves the store.
pub(super) fn import(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let store = config::store(input)?;
    let Place::Server(server) = &store.place else {
        return Err(Error::failure("`store.url` names no PostgreSQL server: there is nowhere to import to"));
    };
    let bar = progress::bar("rows".to_owned(), 0);
    let show = |done, all| bar.show_of(done, all);
    let imported = super::runtime()?.block_on(import::import(server, &arguments.from, show));
    drop(bar);
    let Imported { events, rows, newest_sequence } = imported.map_err(Error::failure)?;
    super::print(&format!(
        "{:<17}{events}\n{:<17}{newest_sequence}\n{:<17}{rows}\n{:<17}same\n",
        "events", "newest sequence", "rows", "compared"
    ))
}
