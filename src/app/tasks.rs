//! The tasks of the bridge, and in which order they are stopped.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::replicas::Replicas;
use crate::lifecycle::{Stop, Tasks};
use crate::store::Store;
use crate::store::lease::Housekeeping;
use crate::web::Parts;

/// The tasks of the bridge, in the two groups in which they are stopped.
pub(super) struct TaskGroups {
    /// The tasks that take in and deliver events. They are stopped first.
    pub(super) work: Tasks,
    /// The tasks that the work depends on. They are stopped once the work has ended.
    pub(super) base: Tasks,
    pub(super) stop: Stop,
    /// The stop signal of the base.
    pub(super) base_stop: CancellationToken,
}

impl TaskGroups {
    /// Creates the groups without tasks. `stop` is the stop signal of the work.
    pub(super) fn new(stop: Stop) -> Self {
        Self { work: Tasks::default(), base: Tasks::default(), stop, base_stop: CancellationToken::new() }
    }

    /// Starts a task of the base. `task` gets the stop signal of the base. A task that ends before the
    /// soft stop has crashed.
    pub(super) fn spawn_base<F>(&mut self, name: &str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.base.spawn(name, self.stop.soft.clone(), task(self.base_stop.clone()));
    }

    /// Starts the tasks that remove old rows of `store`, keep its leases, compare its sources, and
    /// exchange messages with other replicas. The tasks that one replica does for all end at the soft
    /// stop, the others with the base.
    pub(super) fn spawn_upkeep(
        &mut self,
        store: &mut Store,
        housekeeping: Housekeeping,
        replicas: Option<Replicas>,
        parts: watch::Receiver<Arc<Parts>>,
    ) {
        for task in store.take_lease_tasks() {
            self.spawn_base(task.name, |_| task.run);
        }
        let (soft, here) = (self.stop.soft.clone(), housekeeping.here());
        self.spawn_base("retention", |_| store.janitor().run(here.clone(), soft.clone()));
        let has_both_sources = move || {
            let parts = parts.borrow();
            !parts.streams.is_empty() && !parts.webhooks.is_empty()
        };
        let comparison = store.comparison();
        self.spawn_base("comparison of sources", |stop| comparison.run(has_both_sources, here, stop));
        if let Some(replicas) = replicas {
            self.spawn_base("replicas", |stop| replicas.run(stop));
            self.spawn_base("counts", |stop| store.recount(stop));
        }
        self.spawn_base("housekeeping", |_| housekeeping.run(soft));
    }
}
