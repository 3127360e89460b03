//! Progress on standard error, if that is a terminal.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar moves.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A terminal, or nowhere.
pub(super) fn screen() -> ProgressDrawTarget {
    if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// Shows `what` and the time since it began, until it is dropped.
pub(super) fn spinner(what: String) -> Spinner {
    let bar = ProgressBar::with_draw_target(None, screen()).with_message(what);
    // The default style stands in should the template ever be wrong.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    Spinner(bar)
}

/// A moving line, which is removed at the end.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    /// Replaces the text.
    pub(super) fn say(&self, what: String) {
        self.0.set_message(what);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Shows how much of `whole` is done of `what`, until it is dropped.
pub(super) fn bar(what: String, whole: u64) -> Bar {
    let bar = ProgressBar::with_draw_target(Some(whole), screen()).with_message(what);
    // The default style stands in should the template ever be wrong.
    if let Ok(style) = ProgressStyle::with_template("{msg}  {bar:32} {pos}/{len}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    Bar(bar)
}

/// A bar, which is removed at the end.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Whether standard error is no terminal.
    pub(super) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    /// So much is done, of as much as turns out to be whole.
    pub(super) fn show_of(&self, done: u64, whole: u64) {
        self.0.set_length(whole);
        self.0.set_position(done);
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
