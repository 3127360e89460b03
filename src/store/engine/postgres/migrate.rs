//! Making a schema, and bringing it up to date: in one transaction, under a lock, beside
//! replicas that are at work.

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Row as _};
use tokio::time::{sleep, timeout};

use super::connect::Address;
use crate::store::error::OpenError;

/// A change of the schema.
#[derive(Clone, Copy)]
struct Migration {
    version: i64,
    /// The oldest version of the schema whose programs work with this one as well: what they
    /// read and write is there as before. A migration that takes something away comes one
    /// release after the program that does without it.
    works_from: i64,
    name: &'static str,
    text: &'static str,
}

/// The migrations, by their versions.
const MIGRATIONS: [Migration; 3] = [
    Migration {
        version: 1,
        works_from: 1,
        name: "store",
        text: include_str!("../../../../migrations/postgres/0001_store.sql"),
    },
    Migration {
        version: 2,
        works_from: 1,
        name: "plans",
        text: include_str!("../../../../migrations/postgres/0002_plans.sql"),
    },
    Migration {
        version: 3,
        works_from: 1,
        name: "history",
        text: include_str!("../../../../migrations/postgres/0003_history.sql"),
    },
];

/// The oldest server that this works on, as it numbers its versions.
const OLDEST_SERVER: i64 = 140_000;

/// How long the connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How a migration gets along with what other processes have locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long a statement waits for a lock. What asks for the lock after it waits as well.
    pub(super) lock: Duration,
    /// How often all of it is tried.
    pub(super) tries: u32,
    /// Between two tries.
    pub(super) pause: Duration,
}

const PATIENCE: Patience =
    Patience { lock: Duration::from_secs(1), tries: 10, pause: Duration::from_secs(2) };

/// What the server says of a transaction that it has ended because of a lock: one of two that
/// wait for each other, and one that has waited for too long.
const LOCKED: [&str; 2] = ["40P01", "55P03"];

/// Why a try has failed.
enum Failed {
    /// Another process holds a lock.
    Locked(sqlx::Error),
    /// Whatever else.
    Otherwise(OpenError),
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        Self::Otherwise(error)
    }
}

/// The newest schema that this version knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// What a schema is found to be.
pub(super) enum Found {
    /// Empty, or not there.
    Nothing,
    /// Ours, of this version.
    Version(i64),
}

/// Brings `schema` up to date, which is made if it is missing.
pub(super) async fn migrate(address: &Address, schema: &str) -> Result<(), OpenError> {
    migrate_with(PATIENCE, address, schema).await
}

/// The same, which gives up earlier or later.
pub(super) async fn migrate_with(
    patience: Patience,
    address: &Address,
    schema: &str,
) -> Result<(), OpenError> {
    let mut connection = connect(address).await?;
    for tries in 1.. {
        let locked = match run(&mut connection, address, schema, patience.lock).await {
            Ok(()) => break,
            Err(Failed::Otherwise(error)) => return Err(error),
            Err(Failed::Locked(error)) => error,
        };
        if tries >= patience.tries {
            let reason =
                format!("the schema \"{schema}\" was not brought up to date in {tries} tries: {locked}");
            return Err(address.error(&reason));
        }
        tracing::warn!(schema, tries, error = %locked, "another process holds what the migration needs, trying again");
        connection.execute("ROLLBACK").await.map_err(|error| address.error(&error))?;
        sleep(patience.pause).await;
    }
    Ok(())
}

/// A connection to a server that is new enough.
pub(super) async fn connect(address: &Address) -> Result<PgConnection, OpenError> {
    let connected = timeout(CONNECT_LIMIT, address.options.connect()).await;
    let mut connection = connected
        .map_err(|_| address.error(&format!("no answer within {} s", CONNECT_LIMIT.as_secs())))?
        .map_err(|error| address.error(&error))?;
    let version = sqlx::raw_sql("SELECT current_setting('server_version_num')");
    let version = version.fetch_one(&mut connection).await.map_err(|error| address.error(&error))?;
    let version = version.try_get::<&str, _>(0).map_err(|error| address.error(&error))?;
    if version.parse::<i64>().is_ok_and(|version| version < OLDEST_SERVER) {
        return Err(
            address.error(&format!("its version {version} is too old: PostgreSQL 14 or newer is needed"))
        );
    }
    Ok(connection)
}

/// What `schema` is, for who holds its lock or only looks.
pub(super) async fn find(
    connection: &mut PgConnection,
    address: &Address,
    schema: &str,
) -> Result<Found, OpenError> {
    let failed = |error: sqlx::Error| address.error(&error);
    // In text, so that it works through any pooler. The name of a schema holds no quote.
    let look = format!(
        "SELECT (to_regclass('\"{schema}\".pepay_bridge_migration') IS NOT NULL)::text, \
                (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE n.nspname = '{schema}' AND c.relkind IN ('r', 'p', 'v', 'm'))::text"
    );
    let row = sqlx::raw_sql(AssertSqlSafe(look)).fetch_one(&mut *connection).await.map_err(failed)?;
    let (is_ours, tables): (&str, &str) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    if is_ours != "true" {
        if tables != "0" {
            let reason = format!("the schema \"{schema}\" holds tables of another application");
            return Err(address.error(&reason));
        }
        return Ok(Found::Nothing);
    }
    let newest = format!(
        "SELECT coalesce(max(version), 0)::text, coalesce(max(works_from), 0)::text \
         FROM \"{schema}\".pepay_bridge_migration"
    );
    let row = sqlx::raw_sql(AssertSqlSafe(newest)).fetch_one(&mut *connection).await.map_err(failed)?;
    let number = |column| row.try_get::<&str, _>(column).map(|text| text.parse().unwrap_or(i64::MAX));
    let (found, works_from) = (number(0).map_err(failed)?, number(1).map_err(failed)?);
    if works_from > self::newest() {
        return Err(address.error(&format!(
            "the schema \"{schema}\" has version {found}, for programs that know version {works_from}, newer than \
             {}, the newest this version knows: run the version that wrote it, or a later one",
            self::newest()
        )));
    }
    Ok(Found::Version(found))
}

async fn run(
    connection: &mut PgConnection,
    address: &Address,
    schema: &str,
    lock: Duration,
) -> Result<(), Failed> {
    let failed = |error: sqlx::Error| {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if code.is_some_and(|code| LOCKED.contains(&&*code)) {
            Failed::Locked(error)
        } else {
            address.error(&error).into()
        }
    };
    // Another migration is waited for as long as it takes.
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = 0; \
         SELECT pg_advisory_xact_lock(hashtextextended('pepay-bridge migrate {schema}', 0))"
    );
    connection.execute(AssertSqlSafe(begin)).await.map_err(failed)?;
    let found = match find(connection, address, schema).await? {
        Found::Nothing => 0,
        Found::Version(version) => version,
    };
    let missing: Vec<_> = MIGRATIONS.into_iter().filter(|migration| migration.version > found).collect();
    if !missing.is_empty() {
        tracing::info!(from = found, to = newest(), schema, "bringing the schema up to date");
        let prepare = format!(
            "SET LOCAL lock_timeout = '{} ms'; CREATE SCHEMA IF NOT EXISTS \"{schema}\"; SET LOCAL search_path TO \"{schema}\"; \
             CREATE TABLE IF NOT EXISTS pepay_bridge_migration ( \
               version bigint PRIMARY KEY, works_from bigint NOT NULL, name text NOT NULL, \
               applied_at timestamptz NOT NULL DEFAULT now())",
            lock.as_millis()
        );
        connection.execute(AssertSqlSafe(prepare)).await.map_err(failed)?;
        for Migration { version, works_from, name, text } in missing {
            connection.execute(text).await.map_err(failed)?;
            let note = format!(
                "INSERT INTO pepay_bridge_migration (version, works_from, name) \
                 VALUES ({version}, {works_from}, '{name}')"
            );
            connection.execute(AssertSqlSafe(note)).await.map_err(failed)?;
        }
    }
    connection.execute("COMMIT").await.map_err(failed)?;
    Ok(())
}
