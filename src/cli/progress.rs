//! Progress on standard error, if that is a terminal.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The interval between two updates of a bar.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// Returns standard error if it is a terminal, or else a hidden screen.
pub(super) fn screen() -> ProgressDrawTarget {
    if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// Shows `what` and the time since it began, until it is dropped.
pub(super) fn spinner(what: String) -> Spinner {
    let bar = ProgressBar::with_draw_target(None, screen()).with_message(what);
    // If the template is wrong, the default style stays.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    Spinner(bar)
}

/// A spinner, which is removed when it is dropped.
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

/// Shows how much of `whole` is done, beside the text `what`, until it is dropped.
pub(super) fn bar(what: String, whole: u64) -> Bar {
    let bar = ProgressBar::with_draw_target(Some(whole), screen()).with_message(what);
    // If the template is wrong, the default style stays.
    if let Ok(style) = ProgressStyle::with_template("{msg}  {bar:32} {pos}/{len}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    Bar(bar)
}

/// A bar, which is removed when it is dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// Returns whether the bar is hidden, because standard error is not a terminal.
    pub(super) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }

    /// Shows that `done` of `whole` is done.
    pub(super) fn show_of(&self, done: u64, whole: u64) {
        self.0.set_length(whole);
        self.0.set_position(done);
    }

    /// Shows that `done` of the whole is done.
    pub(super) fn show(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
