//! The other replicas: their state, and requests to them through the table of requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use serde_json::Value;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::listener::{self, Hints};
use super::pool::Lent;
use super::words::literal;
use crate::domain::clock::Clock;
use crate::store::cluster::{Asked, Cluster};
use crate::store::lease::{self, Leases};
use crate::store::progress::Progress;

/// The time limit of one call.
const LIMIT: Duration = Duration::from_secs(2);

/// How long to wait for the answer of another replica.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The time between two looks for the answer.
const LOOK: Duration = Duration::from_millis(30);

/// Has the committer read the log.
#[derive(Clone)]
pub(super) struct Look(pub(super) Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

/// The values that the tasks of a membership share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) pool: PgPool,
    /// What comes before each call.
    pub(super) before_call: Arc<str>,
    pub(super) schema: Arc<str>,
    pub(super) id: Arc<str>,
    pub(super) leases: Leases,
    /// The clock that is set by that of the database.
    pub(super) clock: Clock,
    /// Has the committer read what others have stored.
    pub(super) look: Look,
    /// The present wait of the committer.
    pub(super) progress: Arc<Progress>,
    /// What this process reports of itself.
    pub(super) about: watch::Sender<About>,
    /// Notified of changes by other replicas.
    pub(super) hints: Arc<Hints>,
    /// Notified when this process has stored events.
    pub(super) stored: Arc<Notify>,
}

/// What a process reports of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub(super) configuration: String,
    pub(super) report: Value,
}

/// The other replicas, as this process sees them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    shared: Shared,
    cluster: watch::Receiver<Arc<Cluster>>,
}

/// Why another replica has not carried out a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It has not answered in time. It may still carry out the request.
    #[error("another replica has this, and has not answered within {} s", ANSWER_LIMIT.as_secs())]
    Silent,
    /// The database does not respond.
    #[error("another replica has this, and the database through which it is asked does not answer")]
    Unreachable,
}

impl Shared {
    /// Notifies the other replicas of new events, at most once per [`listener::PACE`].
    pub(super) async fn announce(self, cluster: watch::Receiver<Arc<Cluster>>) {
        loop {
            self.stored.notified().await;
            if cluster.borrow().has_others() {
                self.notify("event").await;
            }
            sleep(listener::PACE).await;
        }
    }

    /// Notifies the other replicas of `what`. If that fails, they find it when they look.
    pub(super) async fn notify(&self, what: &str) {
        let channel = literal(&listener::channel(&self.schema));
        self.call(format!("SELECT pg_notify({channel}, {})::text", literal(what))).await;
    }

    /// Executes `statement` in text, so that it works through any pooler. Returns the first column;
    /// `None` if the database does not respond.
    pub(super) async fn call(&self, statement: String) -> Option<Vec<String>> {
        let statement = AssertSqlSafe(format!("{}{statement}", self.before_call));
        let rows = async {
            let mut lent = Lent::of(&self.pool).await?;
            let rows = sqlx::raw_sql(statement).fetch_all(lent.connection()?).await?;
            lent.give_back();
            Ok::<_, sqlx::Error>(rows)
        };
        match timeout(LIMIT, Box::pin(rows)).await {
            Ok(Ok(rows)) => Some(rows.iter().filter_map(|row| row.try_get(0).ok()).collect()),
            // The committer logs at a higher level that the database cannot be reached.
            Ok(Err(error)) => {
                tracing::debug!(%error, "the leases could not be renewed");
                None
            }
            Err(_) => {
                tracing::debug!("the leases could not be renewed in time");
                None
            }
        }
    }
}

/// Returns an id that no other process draws.
pub(super) fn random_id() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

impl Peers {
    pub(super) const fn new(shared: Shared, cluster: watch::Receiver<Arc<Cluster>>) -> Self {
        Self { shared, cluster }
    }

    /// Returns the living replicas, which are kept up to date.
    pub fn cluster(&self) -> watch::Receiver<Arc<Cluster>> {
        self.cluster.clone()
    }

    /// Returns whether this process delivers to the target `name`.
    pub fn holds_target(&self, name: &str) -> bool {
        self.shared.leases.holds(&lease::of_target(name))
    }

    /// Returns whether this process reads the stream `name`.
    pub fn holds_stream(&self, name: &str) -> bool {
        self.shared.leases.holds(&lease::of_stream(name))
    }

    /// Sets the digest of the configuration that this process reports.
    pub fn configured(&self, configuration: String) {
        self.shared.about.send_modify(|about| about.configuration = configuration);
    }

    /// Sets the report of the parts of this process.
    pub fn report(&self, report: Value) {
        self.shared.about.send_modify(|about| about.report = report);
    }

    /// Notifies the others of a change.
    pub async fn tell(&self) {
        self.shared.notify("changed").await;
    }

    /// Sends a request to the holder of the stream `name`. Returns its answer.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask_stream(&self, name: &str, body: Value) -> Result<Value, AskError> {
        self.ask(&lease::of_stream(name), body).await
    }

    /// Sends a request to the process that delivers to the target `name`. Returns its answer.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask_target(&self, name: &str, body: Value) -> Result<Value, AskError> {
        self.ask(&lease::of_target(name), body).await
    }

    /// Sends `body` to the holder of `lease`, and waits for the answer.
    async fn ask(&self, lease: &str, body: Value) -> Result<Value, AskError> {
        let (schema, id) = (&self.shared.schema, random_id());
        let ask = format!(
            "SELECT \"{schema}\".ask({}, {}, {}, {})::text",
            literal(&id),
            literal(lease),
            literal(&body.to_string()),
            literal(&listener::channel(schema)),
        );
        self.shared.call(ask).await.ok_or(AskError::Unreachable)?;
        let until = Instant::now() + ANSWER_LIMIT;
        let look = format!("SELECT answer::text FROM \"{schema}\".request WHERE id = {}", literal(&id));
        while Instant::now() < until {
            sleep(LOOK).await;
            let found = self.shared.call(look.clone()).await.unwrap_or_default();
            if let Some(answer) = found.first() {
                return serde_json::from_str(answer).map_err(|_| AskError::Unreachable);
            }
        }
        Err(AskError::Silent)
    }

    /// Writes the answer to a request whose effect is not in the store.
    pub async fn answer(&self, asked: &Asked, answer: &Value) {
        let answer = format!(
            "UPDATE \"{}\".request SET answer = {} WHERE id = {} AND answer IS NULL RETURNING id",
            self.shared.schema,
            literal(&answer.to_string()),
            literal(&asked.id),
        );
        // If it fails, the other replica reports after a while that there was no answer.
        self.shared.call(answer).await;
    }
}
