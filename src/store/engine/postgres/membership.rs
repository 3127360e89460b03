//! One process among those that share a schema: says that it lives, renews what it holds,
//! and takes what is free.
//!
//! Only the database's clock says what has expired. This process trusts a lease for less
//! time, counted on its own clock from before it sent the renewal. What it does not know it
//! does not hold: a failed call leaves everything as it was until the trust has run out.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::postgres::PgPool;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::connect::Address;
use super::listener::{self, Hints};
use super::peers::{About, Look, Peers, Shared};
use super::share::{self, Member, Row, RowState};
use super::words::{literal, number_array, text_array};
use crate::domain::clock::UnixMillis;
use crate::store::cluster::{Asked, Cluster, HeldLease, Replica};
use crate::store::lease::Leases;
use crate::store::types::Term;

/// How long a lease lasts after it was renewed.
const LASTS: Duration = Duration::from_secs(4);

/// How long it is trusted after its renewal was sent.
const TRUST: Duration = Duration::from_secs(3);

/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(1);

/// Between two looks at what others have stored, where nothing tells of it.
const POLL: Duration = Duration::from_millis(250);

/// Requests of other replicas that wait to be taken.
const ASKED: usize = 32;

/// The part of a process in what it shares with the others.
#[derive(Debug)]
pub(in crate::store) struct Membership {
    shared: Shared,
    cluster: watch::Receiver<Arc<Cluster>>,
    /// What other replicas ask for, until it is taken.
    pub(in crate::store) asked: Option<mpsc::Receiver<Asked>>,
    stop: CancellationToken,
    running: JoinSet<()>,
}

/// What the function `beat` returns.
#[derive(Debug, Deserialize)]
struct Beat {
    leases: Vec<LeaseRow>,
    replicas: Vec<ReplicaRow>,
    requests: Vec<RequestRow>,
    paused: Vec<String>,
    newest: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct LeaseRow {
    name: String,
    holder: Option<String>,
    term: i64,
    taken_at: Option<i64>,
    left_ms: i64,
}

#[derive(Debug, Deserialize)]
struct ReplicaRow {
    id: String,
    about: Value,
    wants: Vec<String>,
    joined_at: i64,
}

#[derive(Debug, Deserialize)]
struct RequestRow {
    id: String,
    lease: String,
    body: Value,
}

impl Membership {
    /// Joins those that share the schema of `address`, and takes what is free of the
    /// `leases` that are wanted.
    pub(in crate::store) fn join(
        (address, pool, schema): (&Address, PgPool, &str),
        leases: Leases,
        look: impl Fn() + Send + Sync + 'static,
        stored: Arc<Notify>,
    ) -> Self {
        let id: Arc<str> = format!("{:032x}", rand::rng().random::<u128>()).into();
        let (about, hints) = (watch::Sender::new(About::default()), Arc::new(Hints::default()));
        let shared = Shared {
            pool,
            schema: schema.into(),
            id,
            leases,
            look: Look(Arc::new(look)),
            about,
            hints,
            stored,
        };
        let (shown, cluster) = watch::channel(Arc::default());
        let (asking, asked) = mpsc::channel(ASKED);
        let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
        let listener = listener::Listener::new(address, schema, Arc::clone(&shared.hints));
        let listens = listener.listens();
        running.spawn(listener.run());
        running.spawn(announce(shared.clone(), cluster.clone()));
        running.spawn(keep(shared.clone(), (shown, asking), listens, stop.clone()));
        Self { shared, cluster, asked: Some(asked), stop, running }
    }

    /// The other replicas.
    pub(in crate::store) fn peers(&self) -> Peers {
        Peers::new(self.shared.clone(), self.cluster.clone())
    }

    /// Gives back what is held and leaves.
    pub(in crate::store) async fn leave(mut self) {
        self.stop.cancel();
        self.running.abort_all();
        while self.running.join_next().await.is_some() {}
        let held = self.shared.leases.wishes().held;
        if self.shared.call(self.shared.giving_back(&held, true)).await.is_none() {
            tracing::debug!("the leases could not be given back: the others wait until they have expired");
        }
    }
}

/// Renews, takes and gives back, until `stop`.
async fn keep(
    shared: Shared,
    (shown, asking): (watch::Sender<Arc<Cluster>>, mpsc::Sender<Asked>),
    listens: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let (mut newest, mut due) = (0, Instant::now());
    while !stop.is_cancelled() {
        if let Some(beat) = shared.beat().await {
            let cluster = shared.cluster(&beat);
            let next = shared.carry_out(&beat).await;
            for RequestRow { id, lease, body } in beat.requests {
                // One that finds no room is in the next answer again.
                let _ = asking.try_send(Asked { id, lease, body });
            }
            if beat.newest.is_some_and(|found| found > newest) {
                newest = beat.newest.unwrap_or(newest);
                (shared.look.0)();
            }
            let others = cluster.has_others();
            shown.send_replace(Arc::new(cluster));
            let pace = if others && !*listens.borrow() { POLL } else { RENEWAL };
            due = Instant::now() + next.unwrap_or(pace).min(pace);
        } else {
            due = due.max(Instant::now()) + POLL;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep_until(due) => {}
            () = shared.leases.wish() => {}
            () = shared.hints.leases.notified() => {}
            () = shared.hints.events.notified() => (shared.look.0)(),
        }
    }
}

/// Tells the other replicas of new events, a few times a second at most.
async fn announce(shared: Shared, cluster: watch::Receiver<Arc<Cluster>>) {
    loop {
        shared.stored.notified().await;
        if cluster.borrow().has_others() {
            let channel = literal(&listener::channel(&shared.schema));
            // Where it fails, the others find the events by looking.
            shared.call(format!("SELECT pg_notify({channel}, 'event')::text")).await;
        }
        sleep(listener::PACE).await;
    }
}

impl Shared {
    /// Says that this process lives, and renews what it holds. `None` if the database does
    /// not answer; then nothing has changed here.
    async fn beat(&self) -> Option<Beat> {
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
        let beat = format!(
            "SELECT \"{}\".beat({}, {}, {}, {}, {}, {})::text",
            self.schema,
            literal(&self.id),
            literal(&about.to_string()),
            text_array(wishes.wanted.iter()),
            text_array(held.iter().map(|(name, _)| name)),
            number_array(&held),
            interval(),
        );
        let answer = self.call(beat).await?;
        let beat: Beat = serde_json::from_str(answer.first()?)
            .inspect_err(
                |error| tracing::error!(%error, "the database has returned something else than leases"),
            )
            .ok()?;
        for (name, term) in &held {
            let renewed = beat.leases.iter().any(|row| {
                row.name == **name && row.term == term.number() && row.holder.as_deref() == Some(&*self.id)
            });
            if renewed {
                self.leases.hold(name, *term, sent + TRUST);
            } else {
                tracing::warn!(lease = &**name, term = term.number(), "another replica has taken over");
                self.leases.lose(name);
            }
        }
        Some(beat)
    }

    /// Takes and leaves what is to be. Returns when the next lease may become free.
    async fn carry_out(&self, beat: &Beat) -> Option<Duration> {
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
        let plan = share::plan(&self.id, &members, &rows);
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
        let wanted =
            |row: &&LeaseRow| members.iter().any(|one| *one.id == *self.id && one.wants.contains(&row.name));
        let of_others =
            beat.leases.iter().filter(wanted).filter(|row| row.holder.as_deref() != Some(&*self.id));
        let next = of_others.map(|row| Duration::from_millis(u64::try_from(row.left_ms).unwrap_or(0))).min();
        // What is free and not taken now belongs to the share of another.
        let next = next.map(|next| next.max(POLL));
        if misses { Some(POLL) } else { next }
    }

    /// The replicas, as `beat` shows them.
    fn cluster(&self, beat: &Beat) -> Cluster {
        let held_by = |id: &str| {
            let held = beat.leases.iter().filter(|row| row.holder.as_deref() == Some(id) && row.left_ms >= 0);
            held.map(|row| HeldLease {
                name: row.name.clone(),
                term: Term(row.term),
                since: UnixMillis(row.taken_at.unwrap_or(0)),
            })
            .collect()
        };
        let text = |about: &Value, key: &str| about[key].as_str().unwrap_or_default().to_owned();
        let replica = |row: &ReplicaRow| Replica {
            id: row.id.as_str().into(),
            is_self: *row.id == *self.id,
            name: text(&row.about, "name"),
            version: text(&row.about, "version"),
            since: UnixMillis(row.joined_at),
            configuration: text(&row.about, "configuration"),
            report: row.about["report"].clone(),
            holds: held_by(&row.id),
        };
        Cluster { replicas: beat.replicas.iter().map(replica).collect(), paused: beat.paused.clone() }
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

/// The name of this machine, as its operator knows it.
fn host() -> String {
    let of_file = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    of_file().map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn interval() -> String {
    format!("interval '{} ms'", LASTS.as_millis())
}
