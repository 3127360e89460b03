//! The trace that every state-changing call leaves in the log.

use super::problem::Problem;

/// A call that has begun. It is logged once: when it ends, or when whoever asked
/// for it has gone before that.
#[derive(Debug)]
pub(super) struct Audit {
    action: &'static str,
    target: Option<String>,
    stream: Option<String>,
    event_id: Option<String>,
    filter: Option<String>,
    ended: bool,
}

impl Audit {
    pub(super) const fn of(action: &'static str) -> Self {
        Self { action, target: None, stream: None, event_id: None, filter: None, ended: false }
    }

    /// The target that it is about.
    pub(super) fn target(mut self, name: &str) -> Self {
        self.target = Some(name.to_owned());
        self
    }

    /// The stream that it is about.
    pub(super) fn stream(mut self, name: &str) -> Self {
        self.stream = Some(name.to_owned());
        self
    }

    /// The event that it is about.
    pub(super) fn event(mut self, id: &str) -> Self {
        self.event_id = Some(id.to_owned());
        self
    }

    /// What it was narrowed to.
    pub(super) fn filter(mut self, filter: String) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Logs how it ended; `count` says how many things it has changed.
    pub(super) fn end<T>(
        mut self,
        result: Result<T, Problem>,
        count: impl FnOnce(&T) -> u64,
    ) -> Result<T, Problem> {
        self.ended = true;
        match &result {
            Ok(done) => self.log("done", count(done)),
            Err(problem) => self.log(problem.code(), 0),
        }
        result
    }

    fn log(&self, outcome: &str, count: u64) {
        tracing::info!(
            action = self.action,
            target = self.target,
            stream = self.stream,
            event_id = self.event_id,
            filter = self.filter,
            count,
            outcome,
            "asked by a person"
        );
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if !self.ended {
            self.log("abandoned", 0);
        }
    }
}
