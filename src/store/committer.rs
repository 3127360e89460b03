//! The committer: the thread that writes to the store, with group commit.
//!
//! The committer takes a task and adds the tasks that wait in its queue. It carries out this group
//! in one transaction of the engine, and replies to every caller after the commit. All tasks of a
//! group share the cost of one durable commit. The committer never waits for a group to fill.

mod append;
mod audit;
mod backlog;
mod foreign;
mod health;
mod metrics;
mod settle;
mod task;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::cluster::LogPage;
use super::counts::{BacklogChanges, Counters};
use super::engine::{Engine, EngineError, GroupContext, GroupKind};
use super::error::RecordError;
use super::lease::Leases;
use super::progress::Progress;
use super::routing::{NewOutbox, RoutingTable};
use super::settings::Route;
use crate::domain::clock::Clock;
use foreign::Foreign;
use health::CommitHealth;
use metrics::Meters;
use task::{Committed, Message, Replies, Reply, Task};

pub(super) use append::{Append, PART};
pub(super) use audit::{Audit, unwritten};
pub(super) use backlog::{Counted, count as count_backlog};
pub(super) use settle::Settle;
pub(super) use task::{Control, Group, Queue, Tasks, stopped};

/// The largest number of tasks that a group takes from the queue.
const GROUP_TASKS: usize = 512;

/// The size of event bodies, in bytes, from which a group takes no further task.
const GROUP_BYTES: usize = 4 << 20;

/// The number of events from which a group takes no further task. `PostgreSQL` stores the events of
/// a group by one statement, and a replica whose statement takes seconds counts as hung. A task has
/// at most [`PART`] events.
const GROUP_EVENTS: usize = 1000;

/// The time after which a group starts no further task; the events of a group are stored in any
/// case. The next group carries out the rest. Each task makes calls to the engine, and a call may
/// be slow.
const GROUP_TIME: Duration = Duration::from_secs(1);

/// How often a group is carried out again that the database has undone because of another
/// transaction.
const UNDONE_TRIES: u32 = 3;

/// The reason for which a group was not committed.
enum Failure {
    /// The tasks at these indices, in ascending order, cannot be carried out. The other tasks can.
    Tasks(Vec<usize>, EngineError),
    /// One of several tasks that are stored in one call cannot be stored. A second try stores them
    /// one by one, to find which.
    Together,
    /// The engine does not work.
    Engine(EngineError),
}

/// The writing side of a store. [Runs](Self::run) on a thread of its own.
#[derive(Debug)]
pub struct Committer {
    engine: Box<dyn Engine>,
    queue: Queue,
    routes: RoutingTable,
    foreign: Foreign,
    clock: Clock,
    counters: Arc<Counters>,
    meters: Meters,
    health: CommitHealth,
    progress: Arc<Progress>,
    /// The tasks for which the last group had no time.
    left: Vec<Box<dyn Task>>,
    /// The runtime on which the callers wait.
    runtime: Handle,
}

/// The result of a group.
struct Transacted {
    changes: BacklogChanges,
    /// The deliveries that other processes have stored.
    page: Option<LogPage>,
    /// The indices of the tasks for which the group had no time, in ascending order.
    left: Vec<usize>,
}

impl Committer {
    pub(super) fn new(
        engine: Box<dyn Engine>,
        queue: Queue,
        routes: RoutingTable,
        leases: &Leases,
        clock: Clock,
        counters: Arc<Counters>,
        progress: Arc<Progress>,
    ) -> Self {
        let meters = Meters::new(Arc::clone(&counters));
        let (health, runtime) = (CommitHealth::default(), Handle::current());
        let left = Vec::new();
        let foreign = Foreign::new(leases.clone(), engine.newest());
        Self { engine, queue, routes, foreign, clock, counters, meters, health, progress, left, runtime }
    }

    /// Returns a signal that is notified when this process has stored events. Other processes may
    /// wait for them.
    pub(super) fn stored(&self) -> Arc<Notify> {
        Arc::clone(&self.foreign.stored)
    }

    /// Returns the wait of the committer for the database, which is kept up to date.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Commits until a `Close` or until no handle is left. Blocks.
    pub fn run(mut self) {
        let closed = self.work();
        // The next start finds no log that it has to recover.
        self.engine.checkpoint();
        // The database has to be closed before the caller of `Close` is told.
        drop(self);
        if let Some(closed) = closed {
            let _ = closed.send(Ok(()));
        }
    }

    /// Returns the reply of the caller of `Close`, if there was one.
    fn work(&mut self) -> Option<Reply<()>> {
        loop {
            let first = if self.left.is_empty() { Some(self.queue.wait()?) } else { self.queue.take_ready() };
            let (group, mut control) = self.gather(first);
            self.write(group);
            while control.is_some() && !self.left.is_empty() {
                // The command came after these tasks.
                let group = std::mem::take(&mut self.left);
                self.write(group);
            }
            // A command takes effect even if its caller has gone.
            match control.take() {
                None => {}
                Some(Control::Reroute { kept, opened, reply }) => {
                    let _ = reply.send(self.reroute(&kept, opened));
                }
                Some(Control::Recount { reply }) => {
                    let _ = reply.send(self.recount());
                }
                Some(Control::Checkpoint { reply }) => {
                    self.engine.checkpoint();
                    let _ = reply.send(Ok(()));
                }
                Some(Control::Close { reply }) => return Some(reply),
            }
        }
    }

    /// Returns a group, and the command that ended it if there was one. The group has the tasks
    /// that the last group left, then `first` and the tasks that wait behind it, up to the bounds
    /// of a group.
    fn gather(&mut self, first: Option<Message>) -> (Vec<Box<dyn Task>>, Option<Control>) {
        let mut group = std::mem::take(&mut self.left);
        // The tasks that were left take no place from new events, up to twice the size of a group.
        let most = (group.len() + GROUP_TASKS).min(2 * GROUP_TASKS);
        let (mut bytes, mut events, mut next) = (0, 0, first);
        while let Some(message) = next {
            match message {
                Message::Control(control) => return (group, Some(control)),
                Message::Task(task) => {
                    bytes += task.bytes();
                    events += task.batch().map_or(0, |batch| batch.events.len());
                    group.push(task);
                }
            }
            let full = group.len() >= most || bytes >= GROUP_BYTES || events >= GROUP_EVENTS;
            next = if full { None } else { self.queue.take_ready() };
        }
        (group, None)
    }

    /// Replaces the routes. This happens between two groups, so that the events of a group are
    /// handed over to the targets that they were stored for.
    fn reroute(&mut self, kept: &[Arc<str>], opened: Vec<Route>) -> Result<Vec<NewOutbox>, RecordError> {
        let names: Vec<_> = opened.iter().map(|route| Arc::clone(&route.target)).collect();
        let targets = self.call(|engine, _| engine.register(&names))?;
        Ok(self.routes.replace(kept, opened.into_iter().zip(targets)))
    }

    /// Counts the unfinished deliveries. Returns whether an attempt on the wire is left to another
    /// process.
    fn recount(&mut self) -> Result<bool, RecordError> {
        let now = self.clock.now();
        let counted = self.call(|engine, routes| count_backlog(engine, routes, now))?;
        self.counters.set_unfinished(counted.unfinished);
        Ok(counted.left_to_another)
    }

    /// Calls the engine outside of a group. The call may read every row.
    fn call<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Engine, &RoutingTable) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.progress.long_call_begun(Instant::now().into());
        work(&mut *self.engine, &self.routes).inspect(|_| self.progress.completed())
    }

    /// Commits `group`. A task that cannot be carried out is refused, and the others are committed
    /// without it.
    fn write(&mut self, mut group: Vec<Box<dyn Task>>) {
        let (mut one_by_one, mut tries) = (false, 0);
        while !group.is_empty() {
            let started = Instant::now();
            self.progress.begun(started.into());
            let transacted = self.transact(&mut group, one_by_one);
            if !matches!(transacted, Err(Failure::Engine(_))) {
                self.progress.completed();
            }
            match transacted {
                Ok(Transacted { changes, page, left }) => {
                    self.left.extend(left.iter().rev().map(|index| group.remove(*index)));
                    self.left.reverse();
                    if group.iter().any(|task| !task.only_reads()) {
                        self.meters.commit.record(started.elapsed());
                        self.health.committed(started);
                    }
                    self.counters.change_unfinished(&changes);
                    // This comes before the events of this group and before the result of any
                    // search.
                    let stores = group.iter().any(|task| task.batch().is_some());
                    self.foreign.committed(page, stores, &self.routes);
                    self.follow_up(group);
                    self.engine.tidy();
                    return;
                }
                Err(Failure::Tasks(indices, error)) => {
                    if error != EngineError::Superseded {
                        self.health.refused(started, &error);
                    }
                    for index in indices.into_iter().rev() {
                        group.remove(index).refused(error.clone().into());
                    }
                }
                Err(Failure::Together) => one_by_one = true,
                Err(Failure::Engine(EngineError::Undone(error))) if tries < UNDONE_TRIES => {
                    tries += 1;
                    tracing::info!(error, "a group is carried out again: another transaction was in its way");
                }
                Err(Failure::Engine(error)) => {
                    self.health.failed(started, &error, group.len());
                    // The commit may have succeeded although its reply was lost. The repeated
                    // events then count as duplicates, and the unfinished deliveries have to be
                    // counted.
                    self.counters.doubt(self.foreign.is_shared());
                    for task in group {
                        task.refused(error.clone().into());
                    }
                    return;
                }
            }
        }
    }

    /// Carries out `group` in one transaction.
    fn transact(&mut self, group: &mut [Box<dyn Task>], one_by_one: bool) -> Result<Transacted, Failure> {
        let began = Instant::now();
        self.engine.begin(kind(group, one_by_one)).map_err(Failure::Engine)?;
        if let Some(rewound) = self.engine.rewound() {
            self.foreign.go_back(&rewound);
        }
        let has_missed = self.queue.take_missed();
        let result = self.carry_out(group, (one_by_one, has_missed), began).and_then(|transacted| {
            self.engine.commit().map_err(Failure::Engine)?;
            Ok(transacted)
        });
        if result.is_err() {
            if has_missed {
                self.queue.miss();
            }
            self.engine.roll_back().map_err(Failure::Engine)?;
        }
        result
    }

    /// Carries out the tasks of `group`. With `reads_log`, reads the log of events in any case.
    fn carry_out(
        &mut self,
        group: &mut [Box<dyn Task>],
        (one_by_one, reads_log): (bool, bool),
        began: Instant,
    ) -> Result<Transacted, Failure> {
        let context = GroupContext::new(&self.routes, self.clock.now());
        let mut open = Group { engine: &mut *self.engine, context };
        let own = append::store(&mut open, group, one_by_one)?;
        let (mut left, mut has_run, mut is_done) = (Vec::new(), false, vec![false; group.len()]);
        for index in 0..group.len() {
            if is_done[index] || group[index].batch().is_some() {
                continue;
            }
            if has_run && began.elapsed() >= GROUP_TIME {
                left.push(index);
                continue;
            }
            has_run = true;
            let mut together = settle::together(group, index);
            if one_by_one {
                together.truncate(1);
            }
            let done = if together.is_empty() {
                group[index].run(&mut open)
            } else {
                settle::store(&mut open, group, &together)
            };
            for index in &together {
                is_done[*index] = true;
            }
            done.map_err(|error| match error {
                EngineError::Rejected(_) if together.len() > 1 => Failure::Together,
                EngineError::Superseded if !together.is_empty() => Failure::Tasks(together, error),
                EngineError::Rejected(_) | EngineError::Superseded => Failure::Tasks(vec![index], error),
                EngineError::Undone(_) | EngineError::Unavailable(_) => Failure::Engine(error),
            })?;
        }
        // The log is read last, so that the page has everything that a search of the group has
        // seen.
        let has_reads = reads_log || group.iter().any(|task| task.only_reads());
        let page = self.foreign.read(&mut open, own, has_reads).map_err(Failure::Engine)?;
        Ok(Transacted { changes: open.context.changes, page, left })
    }

    /// Hands new deliveries over, counts, and replies to the callers. Follows the commit.
    fn follow_up(&self, group: Vec<Box<dyn Task>>) {
        let (mut replies, mut events) = (Replies::default(), 0);
        let mut committed = Committed {
            routes: &self.routes,
            meters: &self.meters,
            replies: &mut replies,
            recent_failure: self.health.recent_failure(Instant::now()),
            events: &mut events,
        };
        for task in group {
            task.committed(&mut committed);
        }
        replies.send_all(&self.runtime);
        if events > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a group holds far fewer than 2^52 events")]
            self.meters.batch.record(events as f64);
        }
    }
}

/// Returns the kind of `group`.
fn kind(group: &[Box<dyn Task>], one_by_one: bool) -> GroupKind {
    if group.iter().all(|task| task.only_reads()) {
        GroupKind::Reads
    } else if !one_by_one && group.iter().all(|task| task.batch().is_some()) {
        GroupKind::Appends
    } else {
        GroupKind::Writes
    }
}
