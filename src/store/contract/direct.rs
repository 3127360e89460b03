//! An engine without a committer.

use super::*;
use crate::domain::delivery::State;
use crate::store::committer::Group;
use crate::store::counts::{BacklogChanges, Counters};
use crate::store::engine::{Engine, EngineError, GroupContext, GroupKind};
use crate::store::handoff::Owners;
use crate::store::lease::Leases;
use crate::store::routing::RoutingTable;
use crate::store::types::{Batch, TargetId, Term};

/// An engine with one target, which it owns. Each call is a group of its own, a second later than the
/// previous one.
pub(super) struct Direct {
    pub(super) engine: Box<dyn Engine>,
    pub(super) target: TargetId,
    pub(super) term: Term,
    routes: RoutingTable,
    /// The numbers of unfinished deliveries, as the groups have reported them.
    counters: Counters,
    now: UnixMillis,
    /// The last field, so that the engine is closed before its database is removed.
    pub(super) backend: UnderTest,
}

/// The lease of its target.
pub(super) const LEASE: &str = "target/orders";

const DELIVERIES: &str = "SELECT 'delivery ' || state || ' ' || attempts || ' ' || target_id || ' ' || sequence || ' ' || \
            coalesce(lane, 0) || ' ' || rank || ' ' || replays || ' ' || coalesce(due_at, 0) || ' ' || \
            coalesce(first_attempt_at, 0) || ' ' || coalesce(settled_at, 0) || ' ' || \
            coalesce(status, 0) || ' ' || coalesce(duration_ms, -1) FROM delivery";

const ATTEMPTS: &str = "SELECT 'attempt ' || target_id || ' ' || sequence || ' ' || number || ' ' || \
            started_at || ' ' || duration_ms || ' ' || coalesce(status, 0) || ' ' || \
            coalesce(error, '') FROM attempt";

/// Queries of all rows, without bytes and without the times of cursor moves.
const ROWS: [&str; 12] = [
    DELIVERIES,
    ATTEMPTS,
    "SELECT 'event ' || sequence || ' ' || id || ' ' || source || ' ' || received_at || ' ' || \
            CASE WHEN body IS NULL THEN 'without' ELSE 'with' END FROM event",
    "SELECT 'sighting ' || sequence || ' ' || source || ' ' || at FROM sighting",
    "SELECT 'conflict ' || sequence || ' ' || source || ' ' || size FROM conflict",
    "SELECT 'cursor ' || stream || ' ' || coalesce(event_id, '') || ' ' || created || ' ' || \
            coalesce(history, '') FROM stream_cursor",
    "SELECT 'target ' || id || ' ' || name || ' ' || coalesce(paused_at, 0) || ' ' || \
            coalesce(paused_reason, '') || ' ' || coalesce(retry_after_until, 0) FROM target",
    "SELECT DISTINCT 'ripe ' || sequence FROM ripe",
    "SELECT 'retention ' || payload_through || ' ' || events_through FROM retention",
    "SELECT 'lateness ' || most FROM lateness",
    "SELECT 'audit ' || key || ' ' || at || ' ' || action || ' ' || count || ' ' || outcome FROM audit",
    "SELECT 'order ' || invoice_id || ' ' || order_id FROM order_link",
];

impl Direct {
    pub(super) async fn new() -> Self {
        let backend = UnderTest::new().await;
        let mut engine = backend.engine().await;
        let target = engine.register(&["orders".into()]).unwrap()[0];
        let mut routes = RoutingTable::new(Owners::default(), Leases::sole());
        routes.replace(&[], [(route("orders", "*", Ordering::PerObject), target)]);
        let term = backend.term(LEASE);
        Self { engine, target, term, routes, counters: Counters::default(), now: NOW, backend }
    }

    /// Does `work` and commits it. Checks that its reported changes of the backlog agree with a count.
    pub(super) fn commit<T>(
        &mut self,
        work: impl FnOnce(&mut Group<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let (done, changes) = self.carry_out(work);
        if done.is_err() {
            self.engine.roll_back().unwrap();
            return done;
        }
        self.engine.commit().unwrap();
        self.counters.change_unfinished(&changes);
        let counted = Counters::default();
        counted.set_unfinished(self.engine.count().unwrap().unfinished);
        assert_eq!(self.counters.unfinished(self.target), counted.unfinished(self.target));
        done
    }

    /// Does `work` and rolls it back.
    pub(super) fn undo<T>(&mut self, work: impl FnOnce(&mut Group<'_>) -> Result<T, EngineError>) {
        self.carry_out(work).0.map(drop).unwrap();
        self.engine.roll_back().unwrap();
    }

    fn carry_out<T>(
        &mut self,
        work: impl FnOnce(&mut Group<'_>) -> Result<T, EngineError>,
    ) -> (Result<T, EngineError>, BacklogChanges) {
        self.now = self.now.plus(Duration::from_secs(1));
        self.engine.begin(GroupKind::Writes).unwrap();
        let context = GroupContext::new(&self.routes, self.now);
        let mut group = Group { engine: &mut *self.engine, context };
        let done = work(&mut group);
        (done, group.context.changes)
    }

    /// Stores an event about an object of its own. Returns its sequence.
    pub(super) fn store(&mut self, id: &str) -> i64 {
        let batch = Batch { events: vec![event(id, id)], cursor: None };
        let append = |group: &mut Group<'_>| group.engine.append(&[&batch], &mut group.context);
        self.commit(append).unwrap()[0][0].sequence
    }

    /// Returns all rows.
    pub(super) fn rows(&self) -> Vec<String> {
        let mut rows: Vec<_> = ROWS.iter().flat_map(|query| self.backend.texts(query)).collect();
        rows.sort();
        rows
    }

    /// Returns the rows of the delivery of `sequence`, and of its attempts.
    pub(super) fn delivery(&self, sequence: i64) -> Vec<String> {
        let of = |query| self.backend.texts(&format!("{query} WHERE sequence = {sequence} ORDER BY 1"));
        [DELIVERIES, ATTEMPTS].into_iter().flat_map(of).collect()
    }

    /// Returns the state of the delivery of `sequence`, and the number of its attempts.
    pub(super) fn standing(&self, sequence: i64) -> (State, u32) {
        let row = self.delivery(sequence).remove(0);
        let mut columns = row.split(' ').skip(1);
        (columns.next().unwrap().parse().unwrap(), columns.next().unwrap().parse().unwrap())
    }
}
