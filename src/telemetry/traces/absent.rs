//! The names of `spans` and `export` in a build without them. No value of these types exists.

use std::convert::Infallible;
use std::future::Ready;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::{Outcome, Sighting};

/// The trace of one event.
#[derive(Clone, Copy, Debug)]
pub struct Trace(Infallible);

/// An attempt that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Attempt(Infallible);

/// Spans being exported, until they are flushed.
#[derive(Debug)]
pub struct Export(Infallible);

/// Returns whether traces are on: never.
pub const fn on() -> bool {
    false
}

/// Returns the trace of the event of this id: none.
pub const fn of(_event_id: &str) -> Option<Trace> {
    None
}

/// Starts nothing. The configuration has refused an environment that enables traces before.
pub fn start(_now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Option<Export> {
    None
}

impl Trace {
    /// Notes a sighting that has just been stored.
    pub fn received(self, _: &Sighting<'_>) {
        match self.0 {}
    }

    /// Begins an attempt to deliver the event.
    pub fn attempt(self) -> Attempt {
        match self.0 {}
    }
}

impl Attempt {
    /// Returns the value of the header `traceparent` for this attempt's request.
    pub fn traceparent(&self) -> String {
        match self.0 {}
    }

    /// Notes that the attempt has ended and its outcome is recorded.
    pub fn ended(&self, _: &Outcome<'_>) {
        match self.0 {}
    }
}

impl Export {
    /// Waits for `stop`, then sends the remaining spans.
    pub fn run(self, _stop: CancellationToken) -> Ready<()> {
        match self.0 {}
    }
}
