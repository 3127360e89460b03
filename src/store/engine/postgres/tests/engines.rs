//! Engines that share a schema, one for each process, without committers.

use std::time::Duration;

use super::backend::Postgres;
use crate::domain::clock::UnixMillis;
use crate::domain::event::Received;
use crate::store::committer::Group;
use crate::store::contract::{Backend as _, NOW};
use crate::store::engine::{Engine, EngineError, GroupContext, GroupKind};
use crate::store::handoff::Owners;
use crate::store::lease::Leases;
use crate::store::routing::RoutingTable;
use crate::store::settings::Route;
use crate::store::types::{Batch, TargetId};

/// Selects everything that an owner of a target or a stream writes.
const ROWS: &str = "SELECT 'delivery ' || d::text FROM delivery d \
                    UNION ALL SELECT 'attempt ' || a::text FROM attempt a \
                    UNION ALL SELECT 'cursor ' || stream || ' ' || event_id FROM stream_cursor ORDER BY 1";

/// Processes that share a schema, by number.
pub(super) struct Engines {
    pub(super) all: Vec<Box<dyn Engine>>,
    pub(super) routes: RoutingTable,
    pub(super) targets: Vec<TargetId>,
    pub(super) now: UnixMillis,
    /// The last field, so that the engines are closed before their database is dropped.
    pub(super) backend: Postgres,
}

impl Engines {
    /// Creates `count` engines with these routes.
    pub(super) async fn new(count: usize, routes: Vec<Route>) -> Self {
        let backend = Postgres::new().await;
        let (mut all, mut targets) = (Vec::new(), Vec::new());
        let names: Vec<_> = routes.iter().map(|route| route.target.clone()).collect();
        for _ in 0..count {
            let mut engine = backend.engine().await;
            targets = engine.register(&names).unwrap();
            all.push(engine);
        }
        let mut table = RoutingTable::new(Owners::default(), Leases::sole());
        table.replace(&[], routes.into_iter().zip(targets.iter().copied()));
        Self { all, routes: table, targets, now: NOW, backend }
    }

    /// Has process `number` carry out `work` in a group, which is committed if the work succeeds.
    pub(super) fn group<T>(
        &mut self,
        number: usize,
        work: impl FnOnce(&mut Group<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.now = self.now.plus(Duration::from_secs(1));
        group(&mut *self.all[number], &self.routes, self.now, work)
    }

    /// Has process `number` store `events`. Returns their sequences.
    pub(super) fn append(&mut self, number: usize, events: Vec<Received>) -> Vec<i64> {
        let batch = Batch { events, cursor: None };
        let append = |group: &mut Group<'_>| group.engine.append(&[&batch], &mut group.context);
        self.group(number, append).unwrap()[0].iter().map(|one| one.sequence).collect()
    }

    /// Returns the stored deliveries, attempts and cursors.
    pub(super) fn rows(&self) -> Vec<String> {
        self.backend.texts(ROWS)
    }
}

/// Has `engine` carry out `work` in a group, which is committed if the work succeeds.
pub(super) fn group<T>(
    engine: &mut dyn Engine,
    routes: &RoutingTable,
    now: UnixMillis,
    work: impl FnOnce(&mut Group<'_>) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    engine.begin(GroupKind::Writes).unwrap();
    let done = work(&mut Group { engine: &mut *engine, context: GroupContext::new(routes, now) });
    if done.is_ok() { engine.commit() } else { engine.roll_back() }.unwrap();
    done
}
