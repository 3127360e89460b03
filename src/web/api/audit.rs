//! The trace that every state-changing call leaves in the log.

use std::sync::atomic::{AtomicU64, Ordering};

use super::problem::Problem;

/// A call that has begun. It is logged once: when it ends, or when the client
/// has disconnected before that.
#[derive(Debug)]
pub(super) struct Audit {
    action: &'static str,
    target: Option<String>,
    stream: Option<String>,
    event_id: Option<String>,
    filter: Option<String>,
    /// How many things have been changed, as far as it has been told.
    changed: AtomicU64,
    ended: bool,
}

impl Audit {
    pub(super) const fn of(action: &'static str) -> Self {
        let changed = AtomicU64::new(0);
        Self { action, target: None, stream: None, event_id: None, filter: None, changed, ended: false }
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

    /// Notes how many things have been changed so far, and will stay so however it ends.
    pub(super) fn note_changed(&self, so_far: u64) {
        self.changed.store(so_far, Ordering::Relaxed);
    }

    /// How many things have been changed so far.
    pub(super) fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// Logs how it ended; `count` says how many things it has changed to its end.
    pub(super) fn end<T>(
        mut self,
        result: Result<T, Problem>,
        count: impl FnOnce(&T) -> u64,
    ) -> Result<T, Problem> {
        self.ended = true;
        match &result {
            Ok(done) => self.log("done", count(done)),
            Err(problem) => self.log(problem.code(), self.changed()),
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
            self.log("abandoned", self.changed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `act` logs.
    fn logged(act: impl FnOnce()) -> String {
        let log = Log::default();
        let theirs = log.clone();
        with_default(
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || theirs.clone()).finish(),
            act,
        );
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_call_is_logged_once_with_what_it_has_changed_however_it_ends() {
        let half_done = || {
            let audit = Audit::of("retry").filter("{}".to_owned());
            audit.note_changed(200);
            audit.note_changed(399);
            audit
        };
        let done = logged(|| drop(half_done().end(Ok(450), |changed| *changed)));
        assert!(done.contains("count=450 outcome=\"done\"") && done.lines().count() == 1, "{done}");
        let unavailable = || Problem::unavailable("store_unavailable", "it has stopped");
        let failed = logged(|| drop(half_done().end(Err(unavailable()), |changed| *changed)));
        assert!(failed.contains("count=399 outcome=\"store_unavailable\""), "{failed}");
        let abandoned = logged(|| drop(half_done()));
        assert!(abandoned.contains("count=399 outcome=\"abandoned\""), "{abandoned}");
        let refused = logged(|| drop(Audit::of("pause").end(Err::<(), _>(unavailable()), |()| 1)));
        assert!(refused.contains("count=0 outcome=\"store_unavailable\""), "{refused}");
    }
}
