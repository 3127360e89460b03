//! Parts that run under a name of the configuration, and can be replaced one by one.

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

/// The parts of one kind: of each name at most one at a time.
#[derive(Debug)]
pub(super) struct Posts<S, H> {
    kind: &'static str,
    held: BTreeMap<Arc<str>, Post<S, H>>,
    /// The ends of those that were dismissed and have no successor yet.
    left: BTreeMap<Arc<str>, Gone>,
}

#[derive(Debug)]
struct Post<S, H> {
    settings: S,
    /// What is known of it by others.
    handle: H,
    stop: CancellationToken,
    gone: Gone,
}

/// Resolves once a part has ended as it should; an error if it crashed.
type Gone = oneshot::Receiver<()>;

impl<S: Named, H> Posts<S, H> {
    /// No part yet; `kind` is what one is called in the log.
    pub(super) const fn new(kind: &'static str) -> Self {
        Self { kind, held: BTreeMap::new(), left: BTreeMap::new() }
    }

    /// The settings of each, by name.
    pub(super) fn settings(&self) -> impl Iterator<Item = &S> {
        self.held.values().map(|post| &post.settings)
    }

    /// The handle of each, by name.
    pub(super) fn handles(&self) -> impl Iterator<Item = &H> {
        self.held.values().map(|post| &post.handle)
    }

    /// The handle of the one of this name.
    pub(super) fn handle(&self, name: &str) -> Option<&H> {
        self.held.get(name).map(|post| &post.handle)
    }

    /// Dismisses whoever holds the post of this name, and has `run` begin as soon as
    /// that one has ended. It is given what tells it to stop, which `stop` does too.
    pub(super) fn fill<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        tasks: &mut Tasks,
        stop: &CancellationToken,
        (settings, handle): (S, H),
        run: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) {
        let name = Arc::clone(settings.name());
        self.dismiss(&name);
        let before = self.left.remove(&name);
        let ((leave, gone), own) = (oneshot::channel(), stop.child_token());
        let stop = own.clone();
        tasks.spawn(format!("{} {name}", self.kind), stop.clone(), async move {
            if let Some(before) = before
                && before.await.is_err()
            {
                // It crashed and left something half-done: the process is about to stop.
                return stop.cancelled().await;
            }
            if !stop.is_cancelled() {
                run(stop).await;
            }
            // A successor that is not there yet finds this when it comes.
            let _ = leave.send(());
        });
        self.held.insert(name, Post { settings, handle, stop: own, gone });
    }

    /// Tells the one of this name to stop. It finishes what it has in hand.
    pub(super) fn dismiss(&mut self, name: &Arc<str>) {
        if let Some(post) = self.held.remove(name) {
            post.stop.cancel();
            self.left.insert(Arc::clone(name), post.gone);
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

    /// Fills the post "a" with a part that says what it does, and ends when it is let go.
    fn fill(
        posts: &mut Posts<Arc<str>, ()>,
        tasks: &mut Tasks,
        which: u8,
        said: &mpsc::Sender<(u8, &'static str)>,
    ) -> oneshot::Sender<()> {
        let (said, (let_go, finished)) = (said.clone(), oneshot::channel());
        posts.fill(tasks, &CancellationToken::new(), ("a".into(), ()), move |stop| async move {
            said.send((which, "begins")).await.unwrap();
            stop.cancelled().await;
            finished.await.unwrap();
            said.send((which, "ends")).await.unwrap();
        });
        let_go
    }

    #[tokio::test]
    async fn a_successor_begins_when_its_predecessor_has_ended_and_is_skipped_if_replaced_before() {
        let (mut posts, mut tasks) = (Posts::new("test"), Tasks::default());
        let (said, mut saying) = mpsc::channel(8);
        let first = fill(&mut posts, &mut tasks, 1, &said);
        assert_eq!(saying.recv().await, Some((1, "begins")));
        drop(fill(&mut posts, &mut tasks, 2, &said));
        posts.dismiss(&"a".into());
        let third = fill(&mut posts, &mut tasks, 3, &said);
        assert!(saying.is_empty());
        first.send(()).unwrap();
        assert_eq!(saying.recv().await, Some((1, "ends")));
        assert_eq!(saying.recv().await, Some((3, "begins")));
        posts.dismiss(&"a".into());
        third.send(()).unwrap();
        while let Some(ended) = tasks.next().await {
            assert!(!ended.is_crash(), "{ended}");
        }
    }

    #[tokio::test]
    async fn nothing_follows_a_crash() {
        let (mut posts, mut tasks) = (Posts::new("test"), Tasks::default());
        let (said, mut saying) = mpsc::channel(8);
        drop(fill(&mut posts, &mut tasks, 1, &said));
        assert_eq!(saying.recv().await, Some((1, "begins")));
        let _second = fill(&mut posts, &mut tasks, 2, &said);
        let crashed = tasks.next().await.unwrap();
        assert!(crashed.panicked && crashed.name == "test a", "{crashed:?}");
        posts.dismiss(&"a".into());
        assert!(!tasks.next().await.unwrap().is_crash());
        assert!(saying.is_empty());
    }
}
