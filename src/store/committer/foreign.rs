//! Hands over the deliveries that other processes store for the targets of this one. They are read
//! from the log of events, which has no gap, in the order of the log.

use std::sync::Arc;

use tokio::sync::Notify;

use super::task::Group;
use crate::store::cluster::LogPage;
use crate::store::engine::{EngineError, Rewound};
use crate::store::lease::Leases;
use crate::store::routing::RoutingTable;

/// The largest number of deliveries that are read at once. If there are more, the dispatchers are
/// told only that there are some, and search for them.
const PAGE: usize = 1024;

/// The position up to which the log has been read.
#[derive(Debug)]
pub(super) struct Foreign {
    /// The leases of this process.
    leases: Leases,
    /// The sequence up to which every event has been handed over or is found by a search.
    seen: i64,
    /// Notified when this process has stored events.
    pub(super) stored: Arc<Notify>,
}

impl Foreign {
    /// Creates the position at `newest`, the newest event before the first group.
    pub(super) fn new(leases: Leases, newest: i64) -> Self {
        Self { leases, seen: newest, stored: Arc::default() }
    }

    /// Returns whether other processes may share the store.
    pub(super) fn is_shared(&self) -> bool {
        self.leases.are_shared()
    }

    /// Moves the position to the newest event of a database that has gone on from an older state.
    /// The events that other processes have stored there before are not handed over, so every
    /// earlier tenure ends: its dispatcher would send a later event of a lane first. Each
    /// dispatcher begins anew, with a search under a new term.
    pub(super) fn go_back(&mut self, Rewound { newest, terms }: &Rewound) {
        self.leases.lose_earlier(terms);
        self.seen = *newest;
    }

    /// Reads the deliveries that other processes have stored, if the group needs them. With events
    /// of the group itself, of which `own` has the first and the last sequence, these are the
    /// deliveries below `own`. With `has_reads`, these are all that a search of the group may have
    /// found. A group that stores events holds the lock of the log until its end, so no foreign
    /// event is above its own.
    pub(super) fn read(
        &self,
        group: &mut Group<'_>,
        own: Option<(i64, i64)>,
        has_reads: bool,
    ) -> Result<Option<LogPage>, EngineError> {
        if !self.is_shared() {
            return Ok(None);
        }
        let targets = group.context.routes.held();
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

    /// Hands `page` over, after the commit of the group. `itself` says whether the group has stored
    /// events.
    pub(super) fn committed(&mut self, page: Option<LogPage>, itself: bool, routes: &RoutingTable) {
        if let Some(page) = page {
            // The other processes have sent notifications for their own events.
            if itself && page.newest > self.seen {
                self.stored.notify_one();
            }
            self.seen = self.seen.max(page.newest);
            routes.hand_over_page(page);
        }
    }
}
