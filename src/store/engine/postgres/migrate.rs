//! Creates or migrates a schema. All migrations are one transaction under a lock, while other
//! replicas may be working.

use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Row as _};
use tokio::time::{sleep, timeout};

use super::connect::{Address, BEGIN, UNHURRIED};
use crate::store::error::OpenError;

/// A migration of the schema.
#[derive(Clone, Copy)]
struct Migration {
    version: i64,
    /// The oldest schema version whose programs work with this one too: everything that they read
    /// and write is unchanged. A migration that removes something comes one release after the
    /// program that no longer uses it.
    works_from: i64,
    name: &'static str,
    text: &'static str,
}

/// The migrations, by version.
const MIGRATIONS: [Migration; 5] = [
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
    Migration {
        version: 4,
        works_from: 1,
        name: "ripe",
        text: include_str!("../../../../migrations/postgres/0004_ripe.sql"),
    },
    Migration {
        version: 5,
        works_from: 1,
        name: "servers",
        text: include_str!("../../../../migrations/postgres/0005_servers.sql"),
    },
];

/// The oldest supported server, in the form of `server_version_num`.
const OLDEST_SERVER: i64 = 140_000;

/// The time limit for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How a migration waits for the locks of other processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long a statement waits for a lock. Requests for the same lock wait behind it.
    pub(super) lock: Duration,
    /// The number of tries.
    pub(super) tries: u32,
    /// The time between two tries.
    pub(super) pause: Duration,
}

/// The server cancels an automatic vacuum for the sake of another process once that has waited for a
/// lock for `deadlock_timeout`, 1 s by default. So the wait is longer.
const PATIENCE: Patience =
    Patience { lock: Duration::from_millis(1500), tries: 10, pause: Duration::from_secs(2) };

/// The SQLSTATEs of a transaction that the server has ended because of a lock: a deadlock, and a
/// lock that was not available in time.
const LOCKED: [&str; 2] = ["40P01", "55P03"];

/// Why a try has failed.
enum Failed {
    /// Another process holds a lock.
    Locked(sqlx::Error),
    /// Any other cause.
    Otherwise(OpenError),
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        Self::Otherwise(error)
    }
}

/// Returns the newest schema version that this program knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The state of a schema.
pub(super) enum Found {
    /// The schema is empty or does not exist.
    Nothing,
    /// The schema of a store, with its version.
    Version(i64),
}

/// Creates `schema` if it does not exist, and migrates it to the newest version.
pub(super) async fn migrate(address: &Address, schema: &str) -> Result<(), OpenError> {
    migrate_with(PATIENCE, address, schema).await
}

/// Like [`migrate`], with another `patience`.
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
        connection.execute("ROLLBACK").await.map_err(|error| address.failed(&error))?;
        sleep(patience.pause).await;
    }
    Ok(())
}

/// Opens a connection to a server, and checks the version of the server, the encoding of the database,
/// and that it takes writes.
pub(super) async fn connect(address: &Address) -> Result<PgConnection, OpenError> {
    let failed = |error: sqlx::Error| address.failed(&error);
    let connected = timeout(CONNECT_LIMIT, address.options.connect()).await;
    let mut connection = connected
        .map_err(|_| address.away(&format!("no answer within {} s", CONNECT_LIMIT.as_secs())))?
        .map_err(failed)?;
    let state = "SELECT current_setting('server_version_num'), current_setting('server_encoding'), \
                 (pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean)::text";
    let row = sqlx::raw_sql(state).fetch_one(&mut connection).await.map_err(failed)?;
    let text = |column| row.try_get::<&str, _>(column).map_err(failed);
    let (version, encoding, reads_only) = (text(0)?, text(1)?, text(2)?);
    if version.parse::<i64>().is_ok_and(|version| version < OLDEST_SERVER) {
        return Err(
            address.error(&format!("its version {version} is too old: PostgreSQL 14 or newer is needed"))
        );
    }
    // In another encoding, an event with a character that it lacks could never be stored.
    if encoding != "UTF8" {
        return Err(address.error(&format!(
            "its encoding is {encoding}, and UTF8 is needed: CREATE DATABASE has the option ENCODING 'UTF8'"
        )));
    }
    if reads_only == "true" {
        return Err(address.away(&"it takes no writes: it is a standby, or read-only"));
    }
    Ok(connection)
}

/// Returns the state of `schema`. The caller holds its lock or changes nothing.
pub(super) async fn find(
    connection: &mut PgConnection,
    address: &Address,
    schema: &str,
) -> Result<Found, OpenError> {
    let failed = |error: sqlx::Error| address.failed(&error);
    // The result is text, so that this works through any pooler. The name of a schema contains no
    // quote.
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
            address.failed(&error).into()
        }
    };
    // There is no limit on the wait for another migration.
    let begin = format!(
        "{BEGIN}; SET LOCAL lock_timeout = 0; {UNHURRIED}; \
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
        // For a schema that exists, CREATE SCHEMA would need a right that its owner may not have.
        let prepare = format!(
            "SET LOCAL lock_timeout = '{} ms'; \
             DO $$ BEGIN IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA IF NOT EXISTS \"{schema}\"; END IF; END $$; \
             SET LOCAL search_path TO \"{schema}\"; \
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
