//! The lease of the store: of the processes that are set up for one schema, one writes.
//!
//! Only the database's clock compares times. A term grows with every new holder, and every
//! write is checked against it: a process that was replaced and does not know it writes
//! nothing. A lease that has expired and was not taken is renewed as if it had not.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::Address;
use crate::store::error::OpenError;

/// How long a lease lasts after it was renewed, in seconds.
const SECONDS: u32 = 4;

/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(1);

/// How long one renewal may take.
const LIMIT: Duration = Duration::from_secs(3);

/// How long a lease is waited for whose holder may have been killed a moment ago.
const PATIENCE: Duration = Duration::from_secs(6);

/// The lease of a store, renewed until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    schema: Arc<str>,
    holder: Arc<str>,
    pub(super) term: i64,
    /// Renews it, until it is dropped.
    _renewing: JoinSet<()>,
    /// Cancelled once another process has taken over.
    pub(super) lost: CancellationToken,
}

impl Lease {
    /// Takes the lease of `schema`. Waits a few seconds for one that another process holds.
    pub(super) async fn take(pool: PgPool, address: &Address, schema: &str) -> Result<Self, OpenError> {
        let holder: Arc<str> = format!("{:032x}", rand::rng().random::<u128>()).into();
        let started = Instant::now();
        let mut is_said = false;
        let term = loop {
            let take = format!(
                "UPDATE \"{schema}\".lease SET holder = '{holder}', term = term + 1, \
                        expires_at = clock_timestamp() + interval '{SECONDS} s' \
                 WHERE name = 'store' AND expires_at < clock_timestamp() RETURNING term::text"
            );
            let taken = run(&pool, take).await.map_err(|error| address.error(&error))?;
            if let Some(term) = taken.and_then(|term| term.parse().ok()) {
                break term;
            }
            if started.elapsed() >= PATIENCE {
                return Err(OpenError::Leased { server: Arc::clone(&address.shown), schema: schema.into() });
            }
            if !is_said {
                is_said = true;
                tracing::info!(
                    schema,
                    "another process holds the store, or was killed a moment ago: waiting"
                );
            }
            sleep(RENEWAL / 4).await;
        };
        let (schema, lost): (Arc<str>, _) = (schema.into(), CancellationToken::new());
        let renew = renew(pool.clone(), Arc::clone(&schema), Arc::clone(&holder), term, lost.clone());
        let mut renewing = JoinSet::new();
        renewing.spawn(renew);
        Ok(Self { schema, holder, term, _renewing: renewing, lost })
    }

    /// What gives the lease back, so that the next process need not wait.
    pub(super) fn resignation(&self) -> String {
        format!(
            "UPDATE \"{}\".lease SET expires_at = '-infinity' \
             WHERE name = 'store' AND holder = '{}' AND term = {}",
            self.schema, self.holder, self.term
        )
    }
}

async fn renew(pool: PgPool, schema: Arc<str>, holder: Arc<str>, term: i64, lost: CancellationToken) {
    let renew = format!(
        "UPDATE \"{schema}\".lease SET expires_at = clock_timestamp() + interval '{SECONDS} s' \
         WHERE name = 'store' AND holder = '{holder}' AND term = {term} RETURNING term::text"
    );
    loop {
        sleep(RENEWAL).await;
        match timeout(LIMIT, run(&pool, renew.clone())).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => {
                tracing::error!(%schema, term, "another process has taken over the store");
                lost.cancel();
                return;
            }
            // The committer says at a higher level that the database cannot be reached.
            Ok(Err(error)) => tracing::debug!(%error, "the lease of the store could not be renewed"),
            Err(_) => tracing::debug!("the lease of the store could not be renewed in time"),
        }
    }
}

/// Has one statement carried out, in text, so that it works through any pooler. Returns the
/// first column of its row.
async fn run(pool: &PgPool, statement: String) -> Result<Option<String>, sqlx::Error> {
    let row = sqlx::raw_sql(AssertSqlSafe(statement)).fetch_optional(pool).await?;
    row.map(|row| row.try_get::<String, _>(0)).transpose()
}
