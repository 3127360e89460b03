//! Settings and rights of a role or a database that differ from those of a new server.

use std::time::Duration;

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::task::JoinSet;

use super::super::connect::Address;
use super::super::migrate;
use super::backend::Postgres;
use crate::domain::delivery::{Next, Ordering};
use crate::store::contract::{Backend as _, Fixture, NOW, arrived, event, eventually, id, route};
use crate::store::server_check;
use crate::store::settings::Durability;
use crate::store::types::Recorded;

/// Settings that change how statements are read, or how values are written.
const SETTINGS: [(&str, &str); 8] = [
    ("standard_conforming_strings", "off"),
    ("bytea_output", "escape"),
    ("default_transaction_isolation", "serializable"),
    ("DateStyle", "German"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "Asia/Kathmandu"),
    ("search_path", "nowhere"),
    ("transform_null_equals", "on"),
];

/// Refuses a report of a process in another isolation than that which the store is made for.
const ISOLATED: &str = "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      IF current_setting('transaction_isolation') <> 'read committed' THEN RAISE 'isolated'; END IF; \
      RETURN new; END $$; \
    CREATE TRIGGER look BEFORE INSERT OR UPDATE ON replica FOR EACH ROW EXECUTE FUNCTION look()";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_sets_for_its_sessions_changes_nothing() {
    for pooled in [false, true] {
        let mut backend = Postgres::new().await;
        backend.become_role("SUPERUSER", &SETTINGS, pooled);
        drop(backend.engine().await);
        backend.execute(ISOLATED);
        let routes = vec![route("orders", "*", Ordering::PerObject)];
        let mut fixture = Fixture::at(backend, routes).await;
        let (mut arrivals, ledger) = fixture.outbox();
        assert_eq!(fixture.store.inbox.try_record(event("evt_1", "a")).await, Ok(Recorded::New));
        let job = arrived(&mut arrivals).await;
        assert_eq!(id(&job), "evt_1");
        ledger.settle(vec![job.settlement(NOW, Duration::ZERO, Next::Delivered)]).await.unwrap();
        let body = fixture.store.operator.body(&"evt_1".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(body, Some(event("evt_1", "a").event.body));
        // A renewal carries the report.
        fixture.store.peers().unwrap().report(json!({ "error": r#"it's "\n" \"# }));
        let told = "SELECT coalesce(about -> 'report' ->> 'error', '') FROM replica";
        eventually("the report", async || (fixture.backend.texts(told) == [r#"it's "\n" \"#]).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_the_time_of_statements_ends_no_migration() {
    let mut backend = Postgres::new().await;
    let schema = backend.server.schema.clone();
    backend.become_role("SUPERUSER", &[("statement_timeout", "500ms")], false);
    let address = Address::of(&backend.server, Durability::Full).unwrap();
    let mut holder = PgConnection::connect_with(&address.options).await.unwrap();
    let hold = format!(
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; \
         SELECT pg_advisory_xact_lock(hashtextextended('pepay-bridge migrate {schema}', 0))"
    );
    holder.execute(AssertSqlSafe(hold)).await.unwrap();
    let mut migrating = JoinSet::new();
    let (to, of) = (address.clone(), schema.clone());
    migrating.spawn(async move { migrate::migrate(&to, &of).await });
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%{schema}%' \
         AND query_start < clock_timestamp() - interval '1 s'"
    );
    while backend.number(&waits) == 0 {
        if let Some(ended) = migrating.try_join_next() {
            panic!("{ended:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    holder.execute("ROLLBACK").await.unwrap();
    migrating.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(backend.number("SELECT max(version) FROM pepay_bridge_migration"), migrate::newest());
}

#[tokio::test]
async fn the_owner_of_a_schema_needs_no_right_to_create_one() {
    let mut backend = Postgres::new().await;
    let role = backend.become_role("", &[], false);
    let refused = server_of(&backend).await.unwrap_err();
    assert!(refused.contains("permission denied for database"), "{refused}");
    backend.execute(&format!("CREATE SCHEMA {} AUTHORIZATION {role}", backend.server.schema));
    server_of(&backend).await.unwrap();
    // It is the same for each later migration.
    backend.execute("DELETE FROM pepay_bridge_migration WHERE version = 4");
    server_of(&backend).await.unwrap();
}

/// Migrates the schema of `backend`.
async fn server_of(backend: &Postgres) -> Result<(), String> {
    let address = Address::of(&backend.server, Durability::Full).unwrap();
    migrate::migrate(&address, &backend.server.schema).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused_with_the_reason() {
    let mut backend = Postgres::new().await;
    backend.become_role("SUPERUSER", &[], false);
    let name = format!("{}_latin", backend.server.schema);
    backend.execute(&format!(
        "CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    ));
    backend.database(&name);
    let refused = server_of(&backend).await.unwrap_err();
    assert!(refused.contains("its encoding is LATIN1, and UTF8 is needed"), "{refused}");
    let checked = server_check::examine(&backend.server, Durability::Full).await;
    assert!(checked.unwrap_err().to_string().contains("LATIN1"));
    backend.execute(&format!("DROP DATABASE {name}"));
}
