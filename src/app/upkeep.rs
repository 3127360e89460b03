//! The maintenance tasks of a store.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::replicas::Replicas;
use crate::lifecycle::Tasks;
use crate::store::Store;
use crate::store::lease::Housekeeping;
use crate::web::Parts;

/// Spawns the tasks that remove old rows of `store`, keep its leases, compare its sources, and
/// exchange messages with other replicas. The tasks that one replica does for all end at `soft`,
/// the others at `stop`.
pub(super) fn spawn(
    tasks: &mut Tasks,
    (soft, stop): (&CancellationToken, &CancellationToken),
    store: &mut Store,
    (housekeeping, replicas): (Housekeeping, Option<Replicas>),
    parts: watch::Receiver<Arc<Parts>>,
) {
    for task in store.take_lease_tasks() {
        tasks.spawn(task.name, soft.clone(), task.run);
    }
    let here = housekeeping.here();
    tasks.spawn("retention", soft.clone(), store.janitor().run(here.clone(), soft.clone()));
    let has_both_sources_here = move || {
        let parts = parts.borrow();
        *here.borrow() && !parts.streams.is_empty() && !parts.webhooks.is_empty()
    };
    let comparison = store.comparison().run(has_both_sources_here, stop.clone());
    tasks.spawn("comparison of sources", soft.clone(), comparison);
    if let Some(replicas) = replicas {
        tasks.spawn("replicas", soft.clone(), replicas.run(stop.clone()));
        tasks.spawn("counts", soft.clone(), store.recount(stop.clone()));
    }
    tasks.spawn("housekeeping", soft.clone(), housekeeping.run(soft.clone()));
}
