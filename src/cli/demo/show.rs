//! The output of the demo while it runs: a progress bar on a terminal, or else plain lines.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::{Error, print};
use crate::simulator::target::Target;

/// The screen.
pub(super) struct Show {
    bar: ProgressBar,
}

impl Show {
    pub(super) fn new(events: usize) -> Self {
        let target = if io::stdout().is_terminal() {
            ProgressDrawTarget::stdout()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(events as u64), target);
        // If the template is wrong, the default style stays.
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} delivered  {elapsed}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Prints one line.
    pub(super) fn say(&self, line: &str) -> Result<(), Error> {
        self.bar.suspend(|| print(&format!("{line}\n")))
    }

    /// Shows the progress until `target` has acknowledged `events` different events.
    pub(super) async fn follow(&self, target: &Target, events: usize) -> Result<(), Error> {
        let events = events as u64;
        let reached = target.until(|totals| {
            self.bar.set_position(totals.unique);
            totals.unique >= events
        });
        let totals = reached.await;
        if self.bar.is_hidden() {
            self.say(&format!("  {} delivered, {} attempts failed so far", totals.unique, totals.failed))?;
        }
        Ok(())
    }

    /// Removes the bar and prints `summary`.
    pub(super) fn finish(&self, summary: &str) -> Result<(), Error> {
        self.bar.finish_and_clear();
        print(&format!("\n{summary}\n"))
    }
}
