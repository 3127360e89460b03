//! That something goes on, and how far it is: on standard error, and only where
//! somebody looks.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar moves.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A terminal, or nowhere.
pub(super) fn screen() -> ProgressDrawTarget {
    if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// Says `what` goes on, and for how long already, until it is dropped.
pub(super) fn spinner(what: String) -> Spinner {
    let bar = ProgressBar::with_draw_target(None, screen()).with_message(what);
    // The default style stands in should the template ever be wrong.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    Spinner(bar)
}

/// A line that moves, and leaves nothing behind.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    /// Says how far it is.
    pub(super) fn say(&self, what: String) {
        self.0.set_message(what);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Says how much of `whole` is done of `what`, until it is dropped.
pub(super) fn bar(what: String, whole: u64) -> Bar {
    let bar = ProgressBar::with_draw_target(Some(whole), screen()).with_message(what);
    // The default style stands in should the template ever be wrong.
    if let Ok(style) = ProgressStyle::with_template("{msg}  {bar:32} {pos}/{len}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    Bar(bar)
}

/// A line that fills, and leaves nothing behind.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Whether nobody sees it.
    pub(super) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    /// So much is done.
    pub(super) fn show(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
