//! `pepay-bridge backup`.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Error, progress};
use crate::config::{self, Input};
use crate::lifecycle::{Signals, Stop};
use crate::store::backup::{Backup, Copied, Interrupter, Progress};

/// Copy the database, of a running bridge or a stopped one, into one new file
///
/// The copy is what had been committed when it began. It is read back and
/// checked before it gets its name, and is readable for its owner alone: it holds
/// your customers' events. An existing file is never overwritten.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the copy goes; its folder has to exist
    file: PathBuf,

    /// Print what was copied as JSON
    #[arg(long)]
    json: bool,
}

const ON_A_SERVER: &str = "the store is on a PostgreSQL server: copy its schema with `pg_dump --schema`, or back up \
     the server with pg_basebackup and archived logs, which allows recovery to a point in time";

/// Copies the configured store.
pub(super) fn backup(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let store = config::store(input)?;
    let Some(database) = store.file() else { return Err(Error::failure(ON_A_SERVER)) };
    let backup = Backup::prepare(database, &arguments.file).map_err(Error::failure)?;
    let copied = super::runtime()?.block_on(watch(backup))?;
    super::print(&if arguments.json {
        json_of(&arguments.file, &copied)
    } else {
        text_of(&arguments.file, &copied)
    })
}

/// Makes the copy and shows its progress on a terminal. A signal interrupts the copy.
async fn watch(backup: Backup) -> Result<Copied, Error> {
    let (signals, stop) = (Signals::listen().map_err(Error::failure)?, Stop::default());
    let (bar, progress, interrupter) = (bar(), backup.progress(), backup.interrupter());
    bar.set_length(progress.expected);
    let copied = tokio::select! {
        copied = tokio::task::spawn_blocking(|| backup.run()) => copied,
        never = show(&bar, &progress, &interrupter, &stop) => match never {},
        never = signals.obey(stop.clone()) => match never {},
    };
    bar.finish_and_clear();
    copied.map_err(Error::failure)?.map_err(Error::failure)
}

/// Shows the progress, and interrupts the copy after `stop`. Never resolves.
async fn show(bar: &ProgressBar, progress: &Progress, interrupter: &Interrupter, stop: &Stop) -> Infallible {
    let mut ticks = tokio::time::interval(progress::TICK);
    loop {
        ticks.tick().await;
        bar.set_position(progress.bytes().min(progress.expected));
        if stop.soft.is_cancelled() {
            interrupter.interrupt();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, progress::screen());
    let template = "{bar:32} {binary_bytes}/{binary_total_bytes}  {elapsed}";
    // If the template is wrong, the default style stays.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn text_of(file: &Path, copied: &Copied) -> String {
    let Copied { bytes, events, newest_sequence, schema } = copied;
    format!(
        "{:<17}{}\n{:<17}{}\n{:<17}{events}\n{:<17}{newest_sequence}\n{:<17}{schema}\n{:<17}sound\n",
        "copy",
        file.display(),
        "size",
        ByteSize::b(*bytes).display().iec(),
        "events",
        "newest sequence",
        "schema",
        "integrity",
    )
}

fn json_of(file: &Path, copied: &Copied) -> String {
    let Copied { bytes, events, newest_sequence, schema } = copied;
    let copied = json!({
        "file": file.display().to_string(), "bytes": bytes, "events": events, "newest_sequence": newest_sequence, "schema": schema,
    });
    format!("{copied}\n")
}
