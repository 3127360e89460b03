//! The membership of one process among those that share a schema. It reports that it lives, renews
//! its leases, and takes free ones.
//!
//! Only the clock of the database decides what has expired. This process trusts a lease for a
//! shorter time, which its own clock counts from before the renewal was sent. A lease that is not
//! known to be held counts as not held. A failed call leaves everything unchanged until the trust
//! has run out.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;
use serde_json::json;
use sqlx::postgres::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::beat::{Beat, LeaseRow, RequestRow};
use super::connect::Address;
use super::fitness::{Fitness, Watch};
use super::listener::{self, Hints};
use super::peers::{About, Look, Peers, Shared, random_id};
use super::share::{self, Member, Row, RowState};
use super::words::{literal, number_array, text_array};
use crate::domain::clock::Clock;
use crate::store::cluster::{Asked, Cluster};
use crate::store::lease::Leases;
use crate::store::progress::Progress;
use crate::store::types::Term;
use crate::telemetry::names;

/// How long a lease lasts after its renewal.
const LASTS: Duration = Duration::from_secs(4);

/// How long a lease is trusted after its renewal was sent.
const TRUST: Duration = Duration::from_secs(3);

/// The time between two renewals.
const RENEWAL: Duration = Duration::from_secs(1);

/// The time between two looks for events of others, while notifications are not received.
const POLL: Duration = Duration::from_millis(250);

/// How long a running call may go on when the store is closed. A lease that it takes is then known
/// and given back. Otherwise the others would wait until it has expired.
const GRACE: Duration = Duration::from_secs(1);

/// The number of requests of other replicas that may wait.
const ASKED: usize = 32;

/// A task that keeps the leases. It has to run until the store is closed.
pub struct LeaseTask {
    /// Its name.
    pub name: &'static str,
    /// The future of the task. It ends when the store is closed.
    pub run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for LeaseTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The membership of this process.
#[derive(Debug)]
pub(in crate::store) struct Membership {
    shared: Shared,
    cluster: watch::Receiver<Arc<Cluster>>,
    /// The requests of other replicas, until they are taken.
    pub(in crate::store) asked: Option<mpsc::Receiver<Asked>>,
    /// The tasks, until they are taken.
    tasks: Mutex<Vec<LeaseTask>>,
    stop: CancellationToken,
    /// Tracks the tasks that have not ended.
    running: TaskTracker,
}

impl Membership {
    /// Joins the processes that share the schema of `address`, once the tasks run. Takes free ones
    /// of the wanted `leases` while the writer makes progress. `clock` is set by the clock of the
    /// database. `look` has the writer begin a group. `stored` is notified when the writer has
    /// stored events.
    pub(in crate::store) fn join(
        (address, pool, schema): (&Address, PgPool, &str),
        (leases, clock): (Leases, Clock),
        look: impl Fn() + Send + Sync + 'static,
        (progress, stored): (Arc<Progress>, Arc<Notify>),
    ) -> Self {
        let id: Arc<str> = random_id().into();
        let (about, hints) = (watch::Sender::new(About::default()), Arc::new(Hints::default()));
        let shared = Shared {
            pool,
            before_call: Arc::clone(&address.before_call),
            schema: schema.into(),
            id,
            leases,
            clock,
            look: Look(Arc::new(look)),
            progress,
            about,
            hints,
            stored,
        };
        counter!(names::LEASES_GIVEN_UP).increment(0);
        let (shown, cluster) = watch::channel(Arc::default());
        let (asking, asked) = mpsc::channel(ASKED);
        let (stop, running) = (CancellationToken::new(), TaskTracker::new());
        let listener = listener::Listener::new(address, schema, Arc::clone(&shared.hints));
        let listens = listener.listens();
        let (hears, tells) = (listener.run(), shared.clone().announce(cluster.clone()));
        let keeps = keep(shared.clone(), (shown, asking), listens, stop.clone());
        let task = |name, work: Pin<Box<dyn Future<Output = ()> + Send>>, grace| {
            let run = Box::pin(running.track_future(until(stop.clone(), grace, work)));
            LeaseTask { name, run }
        };
        let tasks = vec![
            task("lease keeper", Box::pin(keeps), GRACE),
            task("announcer of events", Box::pin(tells), Duration::ZERO),
            task("listener to replicas", Box::pin(hears), Duration::ZERO),
        ];
        Self { shared, cluster, asked: Some(asked), tasks: Mutex::new(tasks), stop, running }
    }

    /// Returns the tasks. Called once.
    pub(in crate::store) fn take_tasks(&mut self) -> Vec<LeaseTask> {
        std::mem::take(self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the other replicas.
    pub(in crate::store) fn peers(&self) -> Peers {
        Peers::new(self.shared.clone(), self.cluster.clone())
    }

    /// Gives the leases back and leaves.
    pub(in crate::store) async fn leave(mut self) {
        self.stop.cancel();
        self.running.close();
        drop(self.take_tasks());
        self.running.wait().await;
        let held = self.shared.leases.wishes().held;
        // A server that does not respond in time may be busy. After two calls the leases have
        // expired.
        for _ in 0..2 {
            if self.shared.call(self.shared.giving_back(&held, true)).await.is_some() {
                return;
            }
        }
        tracing::warn!("the leases could not be given back: other replicas wait until they have expired");
    }
}

/// Runs `work` until it ends, but no longer than `grace` after `stop`.
async fn until(stop: CancellationToken, grace: Duration, work: impl Future<Output = ()>) {
    let stopped = async {
        stop.cancelled().await;
        sleep(grace).await;
    };
    tokio::select! {
        () = work => {}
        () = stopped => {}
    }
}

/// Renews, takes and gives back leases until `stop`.
async fn keep(
    shared: Shared,
    (shown, asking): (watch::Sender<Arc<Cluster>>, mpsc::Sender<Asked>),
    listens: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let (mut newest, mut due, mut probed) = (0, Instant::now(), Instant::now());
    let (mut watch, mut before) = (Watch::default(), Fitness::default());
    while !stop.is_cancelled() {
        let fitness = watch.look(shared.progress.waiting(), Instant::now());
        let given_up = if fitness == Fitness::Stalled { shared.give_up() } else { Vec::new() };
        say(before, fitness);
        before = fitness;
        let beat = shared.beat(fitness).await;
        watch.reached(beat.is_some(), Instant::now());
        if let Some(beat) = beat {
            if !given_up.is_empty() {
                // The others take over at once, without waiting for the leases to expire. They do
                // not count on this process, which has just reported that it wants no lease.
                shared.call(shared.giving_back(&given_up, false)).await;
            }
            let cluster = Cluster { stalled: fitness == Fitness::Stalled, ..beat.cluster(&shared.id) };
            let next = shared.carry_out(&beat, fitness).await;
            watch.runs(Instant::now());
            for RequestRow { id, lease, body } in beat.requests {
                // The next reply has a request that finds no room again.
                let _ = asking.try_send(Asked { id, lease, body });
            }
            // A look with each renewal tests a writer that has nothing to do.
            if beat.newest.is_some_and(|found| found != newest) || probed.elapsed() >= RENEWAL / 2 {
                (newest, probed) = (beat.newest.unwrap_or(newest), Instant::now());
                (shared.look.0)();
            }
            let others = cluster.has_others();
            shown.send_replace(Arc::new(cluster));
            let pace = if others && !*listens.borrow() { POLL } else { RENEWAL };
            due = Instant::now() + next.unwrap_or(pace).min(pace);
        } else {
            due = due.max(Instant::now()) + POLL;
        }
        if let Some(at) = watch.stalls_at(shared.progress.waiting()) {
            due = due.min(at.max(Instant::now() + POLL));
        }
        rest(&shared, due, &stop).await;
    }
}

/// Waits until `due`, until `stop`, or until leases have changed. New events of other replicas are
/// read meanwhile; they are no reason for a renewal.
async fn rest(shared: &Shared, due: Instant, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = sleep_until(due) => return,
            () = stop.cancelled() => return,
            () = shared.leases.wish() => return,
            () = shared.hints.leases.notified() => return,
            () = shared.hints.events.notified() => (shared.look.0)(),
        }
    }
}

/// Logs that the writer has stalled, or works again.
fn say(before: Fitness, now: Fitness) {
    match (before, now) {
        (Fitness::Fit | Fitness::Recovering, Fitness::Stalled) => {
            counter!(names::LEASES_GIVEN_UP).increment(1);
            tracing::error!(
                "the connection that writes gets no answer, or completes nothing: all leases are given back, and other \
                 replicas take over"
            );
        }
        (Fitness::Stalled, Fitness::Fit | Fitness::Recovering) => {
            tracing::info!("the connection that writes works again: leases are taken again");
        }
        _ => {}
    }
}

impl Shared {
    /// Drops all leases in this process. Returns those that it held.
    fn give_up(&self) -> Vec<(Arc<str>, Term)> {
        let held = self.leases.wishes().held;
        for (name, _) in &held {
            self.leases.lose(name);
        }
        held
    }

    /// Reports that this process lives, and renews its leases. `None` if the database does not
    /// respond; then nothing has changed here.
    async fn beat(&self, fitness: Fitness) -> Option<Beat> {
        let (sent, wishes) = (Instant::now(), self.leases.wishes());
        if !wishes.given_back.is_empty()
            && self.call(self.giving_back(&wishes.given_back, false)).await.is_some()
        {
            wishes.given_back.iter().for_each(|(name, _)| self.leases.lose(name));
        }
        let held: Vec<_> = wishes.held.into_iter().filter(|held| !wishes.given_back.contains(held)).collect();
        let about = self.about.borrow().clone();
        let about = json!({
            "name": host(),
            "version": env!("CARGO_PKG_VERSION"),
            "configuration": about.configuration,
            "report": about.report,
        });
        // The comparison comes first: a server that has gone on from an older state renews nothing.
        let schema = &self.schema;
        let beat = format!(
            "SELECT (\"{schema}\".beat({}, {}, {}, {}, {}, {}) || jsonb_build_object('history', h.history, 'now', \
                     (extract(epoch FROM clock_timestamp()) * 1000)::bigint))::text \
             FROM (SELECT \"{schema}\".compare_history() AS history OFFSET 0) h",
            literal(&self.id),
            literal(&about.to_string()),
            text_array(wishes.wanted.iter().filter(|_| fitness == Fitness::Fit)),
            text_array(held.iter().map(|(name, _)| name)),
            number_array(&held),
            interval(),
        );
        let asked_at = self.clock.now();
        let answer = self.call(beat).await?;
        let answered_at = self.clock.now();
        let beat: Beat = serde_json::from_str(answer.first()?)
            .inspect_err(
                |error| tracing::error!(%error, "the database has returned something else than leases"),
            )
            .ok()?;
        beat.set(&self.clock, (asked_at, answered_at));
        for (name, term) in &held {
            let renewed = beat.leases.iter().any(|row| {
                row.name == **name && row.term == term.number() && row.holder.as_deref() == Some(&*self.id)
            });
            if renewed {
                self.leases.hold(name, *term, sent + TRUST);
            } else {
                tracing::warn!(
                    lease = &**name,
                    term = term.number(),
                    "held no more: another replica has taken over, or the term is over"
                );
                self.leases.lose(name);
            }
        }
        Some(beat)
    }

    /// Takes and leaves leases by plan. Returns when the next lease may become free.
    async fn carry_out(&self, beat: &Beat, fitness: Fitness) -> Option<Duration> {
        let members: Vec<Member> = beat
            .replicas
            .iter()
            .map(|replica| Member { id: replica.id.clone(), wants: replica.wants.iter().cloned().collect() })
            .collect();
        let state = |row: &LeaseRow| match &row.holder {
            Some(holder) if row.left_ms >= 0 => RowState::Held(holder.clone()),
            _ => RowState::Free(Duration::from_millis(row.left_ms.unsigned_abs())),
        };
        let rows: Vec<Row> =
            beat.leases.iter().map(|row| Row { name: row.name.clone(), state: state(row) }).collect();
        let wanted: BTreeSet<String> = self.leases.wishes().wanted.iter().map(ToString::to_string).collect();
        let plan = match fitness {
            Fitness::Fit => share::plan(&self.id, &members, &rows),
            Fitness::Recovering => {
                let has_others = members.iter().any(|one| *one.id != *self.id);
                share::left_over(&wanted, &rows, has_others)
            }
            Fitness::Stalled => return None,
        };
        for name in plan.leave {
            let name = name.into();
            if self.leases.leave(&name) {
                tracing::info!(lease = &*name, "left to another replica, which has fewer");
            }
        }
        let mut misses = false;
        if !plan.take.is_empty() {
            let sent = Instant::now();
            let names = text_array(plan.take.iter());
            let take = format!(
                "SELECT taken || ' ' || new_term FROM \"{}\".take_leases({}, {names}, {})",
                self.schema,
                literal(&self.id),
                interval()
            );
            let taken = self.call(take).await.unwrap_or_default();
            misses = taken.len() < plan.take.len();
            for (name, term) in taken.iter().filter_map(|taken| taken.rsplit_once(' ')) {
                if let Ok(term) = term.parse() {
                    tracing::info!(lease = name, term, "taken");
                    self.leases.hold(&name.into(), Term(term), sent + TRUST);
                }
            }
        }
        let of_others = beat
            .leases
            .iter()
            .filter(|row| wanted.contains(&row.name))
            .filter(|row| row.holder.as_deref() != Some(&*self.id));
        let next = of_others.map(|row| Duration::from_millis(u64::try_from(row.left_ms).unwrap_or(0))).min();
        // A free lease that is not taken now belongs to the share of another process.
        let next = next.map(|next| next.max(POLL));
        if misses { Some(POLL) } else { next }
    }

    fn giving_back(&self, held: &[(Arc<str>, Term)], leaves: bool) -> String {
        format!(
            "SELECT \"{}\".give_back({}, {}, {}, {leaves}, {})::text",
            self.schema,
            literal(&self.id),
            text_array(held.iter().map(|(name, _)| name)),
            number_array(held),
            literal(&listener::channel(&self.schema)),
        )
    }
}

/// Returns the name of this machine.
fn host() -> String {
    let of_file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    of_file().map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn interval() -> String {
    format!("interval '{} ms'", LASTS.as_millis())
}
