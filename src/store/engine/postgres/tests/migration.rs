//! A migration while another process holds a lock that it needs, and one of a schema in use.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::task::JoinSet;

use super::super::connect::Address;
use super::super::migrate::{self, Patience};
use super::backend::Postgres;
use crate::store::contract::Backend as _;
use crate::store::settings::Durability;

/// Creates the schema in a transaction that stays open.
const HOLD: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; CREATE SCHEMA \"{}\"";

/// Counts the migrations that wait for the end of that transaction.
const WAITS: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                     AND query LIKE '%CREATE SCHEMA IF NOT EXISTS \"{}\"%' AND pid <> pg_backend_pid()";

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_meets_a_lock_is_tried_again_and_gives_up_with_the_reason() {
    let backend = Postgres::new().await;
    let schema = backend.server.schema.clone();
    let address = Address::of(&backend.server, Durability::Normal).unwrap();
    let mut holder = PgConnection::connect_with(&address.options).await.unwrap();
    holder.execute(AssertSqlSafe(HOLD.replace("{}", &schema))).await.unwrap();

    let twice = Patience { lock: Duration::from_millis(100), tries: 2, pause: Duration::ZERO };
    let refused = migrate::migrate_with(twice, &address, &schema).await.unwrap_err().to_string();
    assert!(refused.contains("in 2 tries") && refused.contains("lock timeout"), "{refused}");

    let patient = Patience { tries: u32::MAX, ..twice };
    let waits = WAITS.replace("{}", &schema);
    let mut migrating = JoinSet::new();
    migrating.spawn(async move { migrate::migrate_with(patient, &address, &schema).await.unwrap() });
    while backend.number(&waits) == 0 {
        assert!(migrating.try_join_next().is_none(), "the migration has not met the lock");
    }
    holder.execute("ROLLBACK").await.unwrap();
    migrating.join_all().await;
    assert_eq!(backend.number("SELECT max(version) FROM pepay_bridge_migration"), migrate::newest());
}

/// Makes the schema that of version 3, with an event that is noted.
const BEFORE: &str = "DROP INDEX ripe_sequence; ALTER TABLE ripe ADD PRIMARY KEY (sequence); \
    INSERT INTO ripe (sequence) VALUES (7); \
    ALTER TABLE server_history DROP COLUMN mark, DROP COLUMN lowest; DELETE FROM pepay_bridge_migration WHERE version >= 4";

#[tokio::test]
async fn what_was_noted_to_be_looked_at_again_outlasts_the_end_of_its_unique_key() {
    let backend = Postgres::new().await;
    drop(backend.engine().await);
    backend.execute(BEFORE);
    drop(backend.engine().await);
    backend.execute("INSERT INTO ripe (sequence) VALUES (7)");
    assert_eq!(backend.numbers("SELECT sequence FROM ripe"), [7, 7]);
    assert_eq!(backend.number("SELECT max(version) FROM pepay_bridge_migration"), migrate::newest());
}
