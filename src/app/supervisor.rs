//! Runs parts that have a name in the configuration, and replaces them one by one.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Tasks;

/// Settings that have a name.
pub(super) trait Named {
    /// The name in the configuration.
    fn name(&self) -> &Arc<str>;
}

/// Runs the parts of one kind: at most one of each name at a time.
#[derive(Debug)]
pub(super) struct Supervisor<S, H> {
    kind: &'static str,
    running: BTreeMap<Arc<str>, Running<S, H>>,
    /// The ends of parts that were stopped and have no successor yet.
    stopped: BTreeMap<Arc<str>, Done>,
}

#[derive(Debug)]
struct Running<S, H> {
    settings: S,
    /// The handle of the part for other modules.
    handle: H,
    stop: CancellationToken,
    done: Done,
}

/// Resolves once a part has ended normally; an error if it crashed.
type Done = oneshot::Receiver<()>;

impl<S: Named, H> Supervisor<S, H> {
    /// Creates a supervisor without parts. `kind` names a part in the log.
    pub(super) const fn new(kind: &'static str) -> Self {
        Self { kind, running: BTreeMap::new(), stopped: BTreeMap::new() }
    }

    /// Returns the settings of the parts, by name.
    pub(super) fn settings(&self) -> impl Iterator<Item = &S> {
        self.running.values().map(|running| &running.settings)
    }

    /// Returns the handles of the parts, by name.
    pub(super) fn handles(&self) -> impl Iterator<Item = &H> {
        self.running.values().map(|running| &running.handle)
    }

    /// Returns the handle of the part of this name.
    pub(super) fn handle(&self, name: &str) -> Option<&H> {
        self.running.get(name).map(|running| &running.handle)
    }

    /// Stops the part of this name, and starts `run` as soon as that part has ended.
    /// `run` is given its stop signal, a child of `stop`.
    pub(super) fn replace<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        tasks: &mut Tasks,
        stop: &CancellationToken,
        settings: S,
        handle: H,
        run: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) {
        let name = Arc::clone(settings.name());
        self.stop(&name);
        let before = self.stopped.remove(&name);
        let ((end, done), own) = (oneshot::channel(), stop.child_token());
        let stop = own.clone();
        tasks.spawn(format!("{} {name}", self.kind), stop.clone(), async move {
            if let Some(before) = before
                && before.await.is_err()
            {
                // The predecessor crashed in the middle of its work: the process is about to stop.
                return stop.cancelled().await;
            }
            if !stop.is_cancelled() {
                run(stop).await;
            }
            // Kept in `stopped` for a successor that comes later.
            let _ = end.send(());
        });
        self.running.insert(name, Running { settings, handle, stop: own, done });
    }

    /// Signals the part of this name to stop. It finishes the work it has begun.
    pub(super) fn stop(&mut self, name: &Arc<str>) {
        if let Some(running) = self.running.remove(name) {
            running.stop.cancel();
            self.stopped.insert(Arc::clone(name), running.done);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    impl Named for Arc<str> {
        fn name(&self) -> &Arc<str> {
            self
        }
    }

    /// Starts a part "a", which reports its begin and its end, in place of the one before.
    fn replace(
        supervisor: &mut Supervisor<Arc<str>, ()>,
        tasks: &mut Tasks,
        which: u8,
        said: &mpsc::Sender<(u8, &'static str)>,
    ) -> oneshot::Sender<()> {
        let (said, (let_go, finished)) = (said.clone(), oneshot::channel());
        supervisor.replace(tasks, &CancellationToken::new(), "a".into(), (), move |stop| async move {
            said.send((which, "begins")).await.unwrap();
            stop.cancelled().await;
            finished.await.unwrap();
            said.send((which, "ends")).await.unwrap();
        });
        let_go
    }

    #[tokio::test]
    async fn a_successor_begins_when_its_predecessor_has_ended_and_is_skipped_if_replaced_before() {
        let (mut supervisor, mut tasks) = (Supervisor::new("test"), Tasks::default());
        let (said, mut saying) = mpsc::channel(8);
        let first = replace(&mut supervisor, &mut tasks, 1, &said);
        assert_eq!(saying.recv().await, Some((1, "begins")));
        drop(replace(&mut supervisor, &mut tasks, 2, &said));
        supervisor.stop(&"a".into());
        let third = replace(&mut supervisor, &mut tasks, 3, &said);
        assert!(saying.is_empty());
        first.send(()).unwrap();
        assert_eq!(saying.recv().await, Some((1, "ends")));
        assert_eq!(saying.recv().await, Some((3, "begins")));
        supervisor.stop(&"a".into());
        third.send(()).unwrap();
        while let Some(ended) = tasks.next().await {
            assert!(!ended.is_crash(), "{ended}");
        }
    }

    #[tokio::test]
    async fn after_a_crash_no_successor_is_started() {
        let (mut supervisor, mut tasks) = (Supervisor::new("test"), Tasks::default());
        let (said, mut saying) = mpsc::channel(8);
        drop(replace(&mut supervisor, &mut tasks, 1, &said));
        assert_eq!(saying.recv().await, Some((1, "begins")));
        let _second = replace(&mut supervisor, &mut tasks, 2, &said);
        let crashed = tasks.next().await.unwrap();
        assert!(crashed.panicked && crashed.name == "test a", "{crashed:?}");
        supervisor.stop(&"a".into());
        assert!(!tasks.next().await.unwrap().is_crash());
        assert!(saying.is_empty());
    }
}
