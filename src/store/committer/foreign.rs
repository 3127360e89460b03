//! What other processes store for the targets of this one: read from the log of events,
//! which has no gap, and handed over in its order.

use std::sync::Arc;

use tokio::sync::Notify;

use super::task::Group;
use crate::store::cluster::LogPage;
use crate::store::engine::EngineError;
use crate::store::routing::RoutingTable;

/// Deliveries read at once, at most. Of more the dispatchers learn no more than that there
/// are some, and search for them.
const PAGE: usize = 1024;

/// How far the log has been read.
#[derive(Debug)]
pub(super) struct Foreign {
    /// Whether there may be other processes.
    shared: bool,
    /// Every event up to this one has been handed over, or is found by a search.
    seen: i64,
    /// Told when this process has stored events.
    pub(super) stored: Arc<Notify>,
}

impl Foreign {
    /// `newest` is the newest event before the first group.
    pub(super) fn new(shared: bool, newest: i64) -> Self {
        Self { shared, seen: newest, stored: Arc::default() }
    }

    /// Whether there may be other processes.
    pub(super) const fn is_shared(&self) -> bool {
        self.shared
    }

    /// `newest` is the newest event of a database that has gone on from an older state. Each
    /// dispatcher begins anew, with a search, under a new term.
    pub(super) const fn go_back(&mut self, newest: i64) {
        self.seen = newest;
    }

    /// Reads what other processes have stored, where that matters: below what the group has
    /// stored itself, of which `own` has the first and the last sequence, and what a search
    /// may have found. A group that stores events holds the lock of the log to its end:
    /// nothing foreign is above its own.
    pub(super) fn read(
        &self,
        group: &mut Group<'_>,
        own: Option<(i64, i64)>,
        has_reads: bool,
    ) -> Result<Option<LogPage>, EngineError> {
        if !self.shared {
            return Ok(None);
        }
        let targets = group.routes.held();
        match own {
            Some((first, last)) => {
                let has_gap = first - 1 > self.seen && !targets.is_empty();
                let page =
                    has_gap.then(|| group.engine.read_log((self.seen, Some(first - 1)), &targets, PAGE));
                Ok(Some(LogPage { newest: last, ..page.transpose()?.unwrap_or_default() }))
            }
            None if has_reads && !targets.is_empty() => {
                Ok(Some(group.engine.read_log((self.seen, None), &targets, PAGE)?))
            }
            None => Ok(None),
        }
    }

    /// Hands `page` over, once the group is committed, which has stored events `itself` or not.
    pub(super) fn committed(&mut self, page: Option<LogPage>, itself: bool, routes: &RoutingTable) {
        if let Some(page) = page {
            // Of what others have stored they have told themselves.
            if itself && page.newest > self.seen {
                self.stored.notify_one();
            }
            self.seen = self.seen.max(page.newest);
            routes.hand_over_page(page);
        }
    }
}
