//! A bridge whose store is on a PostgreSQL server that fails and comes back. Each test creates a
//! database on the server that the environment names; `tests/postgres.sh` starts one.

mod replicas;
mod starting;
mod tls;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pepay_bridge::simulator::target::{Delivery, Target};
use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Row as _};

use crate::support::bridge::{Bridge, run};
use crate::support::document::Document;
use crate::support::world::{World, acknowledged, assert_each_once, hold};
use crate::support::{eventually, soon};

/// The variable with the URL of the server.
const URL: &str = "TEST_POSTGRES";

/// The number of databases that this process has created. It makes their names unique.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A database, and a connection of the server to another database, which cuts off the first.
struct Database {
    name: String,
    url: String,
    server: PgConnection,
}

impl Database {
    async fn new() -> Self {
        let url = std::env::var(URL).expect("TEST_POSTGRES names a server");
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        let mut server = options.connect().await.unwrap();
        let name = format!("it_{}_{}", std::process::id(), MADE.fetch_add(1, Relaxed));
        server.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let url = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
        Self { name, url, server }
    }

    /// Executes `ALTER DATABASE` with `statement`, and ends every connection to the database.
    async fn cut(&mut self, statement: &str) {
        let statement = format!("ALTER DATABASE {} {statement}", self.name);
        self.server.execute(AssertSqlSafe(statement)).await.unwrap();
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        sqlx::query(cut).bind(&self.name).execute(&mut self.server).await.unwrap();
    }

    /// Executes `statements` on the database as one transaction.
    async fn execute(&self, statements: &'static str) {
        self.connect().await.execute(statements).await.unwrap();
    }

    /// Waits until the first column of the only row of `query` is `expected`.
    async fn until(&self, query: &str, expected: &str) {
        self.until_it(query, |found| found == expected).await;
    }

    /// Waits until the first column of the only row of `query` is as `wanted`. Asks on one
    /// connection: a process of the server for each time would slow down what is waited for.
    async fn until_it(&self, query: &str, wanted: impl Fn(&str) -> bool) {
        let mut connection = self.connect().await;
        eventually(query, async || wanted(&text(&mut connection, query).await).then_some(())).await;
    }

    /// Returns the first column of the only row of `query`.
    async fn text(&self, query: &str) -> String {
        text(&mut self.connect().await, query).await
    }

    async fn connect(&self) -> PgConnection {
        let options: sqlx::postgres::PgConnectOptions = self.url.parse().unwrap();
        options.connect().await.unwrap()
    }
}

async fn text(connection: &mut PgConnection, query: &str) -> String {
    let row = connection.fetch_one(AssertSqlSafe(query.to_owned())).await.unwrap();
    row.try_get_unchecked(0).unwrap()
}

/// Starts a Pepay that sends duplicates, and configures a database of its own.
async fn world() -> (World, Database) {
    let (mut world, database) = (World::new(World::with_duplicates()).await, Database::new().await);
    world.set("STORE__URL", &database.url);
    (world, database)
}

/// Waits until `/readyz` answers with `status`. Returns its body.
async fn ready(bridge: &Bridge, status: u16) -> String {
    eventually("readiness", async || {
        let answer = reqwest::get(format!("{}/readyz", bridge.public)).await.unwrap();
        let found = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (found == status).then_some(text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn each_event_is_delivered_once_across_restarts() {
    let (mut world, database) = world().await;
    let target = world.target("orders").await;
    let mut bridge = world.bridge().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(world.simulator.play(100));
        soon("the deliveries", target.until(|totals| totals.unique >= ids.len() as u64)).await;
        let (status, _) = bridge.stop().await;
        assert!(status.success());
        bridge = world.bridge().await;
    }
    assert_each_once(&target, &ids);
    assert_eq!(database.text("SELECT count(*)::text FROM pepay_bridge.event").await, "300");
    assert_eq!(database.text("SELECT max(sequence)::text FROM pepay_bridge.event").await, "300");
    let listed = bridge.admin("/api/v1/events?limit=50").await.bytes().await.unwrap();
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed["events"].as_array().map(Vec::len), Some(50), "{listed}");
    let status = bridge.status().await;
    assert!(status.to_string().contains("PostgreSQL "), "{status}");
}

/// The longest time until another bridge owns the targets of a killed one.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Counts the living bridges that deliver to targets.
const OWNERS: &str = "SELECT count(DISTINCT holder)::text FROM pepay_bridge.lease \
                      WHERE name LIKE 'target/%' AND expires_at > clock_timestamp()";

/// Counts the targets that a living bridge delivers to.
const OWNED: &str = "SELECT count(*)::text FROM pepay_bridge.lease \
                     WHERE name LIKE 'target/%' AND expires_at > clock_timestamp()";

/// Counts the living bridges.
const LIVING: &str = "SELECT count(*)::text FROM pepay_bridge.replica WHERE expires_at > clock_timestamp()";

/// Counts the open deliveries.
const UNFINISHED: &str = "SELECT count(*)::text FROM pepay_bridge.delivery WHERE settled_at IS NULL";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn two_bridges_deliver_each_event_once_and_one_goes_on_with_what_a_killed_one_had() {
    let (mut world, database) = world().await;
    let targets = [world.target("orders").await, world.target("accounting").await];
    // One of the two reads the stream.
    let first = world.bridge().await;
    let _second = Bridge::start(&world.configuration).await;
    database.until(OWNERS, "2").await;
    let mut ids = world.simulator.play(200);
    for target in &targets {
        soon("the deliveries", target.until(|totals| totals.unique >= 200)).await;
    }
    // Outcomes have to be recorded too: otherwise the kill causes repeats.
    database.until(UNFINISHED, "0").await;
    for target in &targets {
        assert_each_once(target, &ids);
    }
    first.kill().await;
    let killed = Instant::now();
    database.until(OWNERS, "1").await;
    database.until(OWNED, "2").await;
    assert!(killed.elapsed() < TAKE_OVER, "{:?}", killed.elapsed());
    ids.extend(world.simulator.play(50));
    for target in &targets {
        soon("the deliveries", target.until(|totals| totals.unique >= 250)).await;
        assert_each_once(target, &ids);
    }
    assert_eq!(database.text("SELECT max(sequence)::text FROM pepay_bridge.event").await, "250");
    // The target of the killed bridge sees a greater term than before.
    let terms = |target: &Target| -> Vec<i64> {
        let term = |delivery: &Delivery| delivery.headers["pepay-bridge-term"].to_str().unwrap().parse();
        target.deliveries().iter().map(term).collect::<Result<_, _>>().unwrap()
    };
    let terms: Vec<_> = targets.iter().map(terms).collect();
    assert!(terms.iter().all(|terms| terms.is_sorted() && terms[0] > 0), "{terms:?}");
    assert!(terms.iter().any(|terms| terms[0] < terms[249]), "{terms:?}");
}

/// Makes the database refuse records of attempts, as a server in trouble does.
const REFUSE: &str = "SET search_path TO pepay_bridge; \
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      RAISE EXCEPTION 'refused by the test' USING ERRCODE = 'cannot_connect_now'; END $$; \
    CREATE TRIGGER refuse BEFORE UPDATE ON delivery FOR EACH ROW WHEN (new.state = 'sending') \
      EXECUTE FUNCTION refuse()";

/// Records the attempt as by a commit whose answer was lost, and lets the database take further records.
const RECORD: &str = "SET search_path TO pepay_bridge; DROP TRIGGER refuse ON delivery; \
    UPDATE delivery SET state = 'sending', due_at = NULL, attempts = attempts + 1, \
      first_attempt_at = coalesce(first_attempt_at, 1)";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn an_attempt_that_was_recorded_by_a_commit_whose_answer_was_lost_is_made_all_the_same() {
    let (mut world, database) = world().await;
    let target = world.target("orders").await;
    world.set_target("orders", "ON_UNCERTAIN", "hold");
    let mut bridge = world.bridge().await;
    database.until(OWNED, "1").await;
    database.execute(REFUSE).await;
    let ids = world.simulator.play(1);
    bridge.logged("could not be recorded and was not made").await;
    database.execute(RECORD).await;
    soon("the delivery", target.until(|totals| totals.unique >= 1)).await;
    database.until(UNFINISHED, "0").await;
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn nothing_is_lost_while_the_server_is_away_or_takes_no_writes() {
    let (mut world, mut database) = world().await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(50);
    soon("the deliveries", target.until(|totals| totals.unique >= 50)).await;
    for (away, back) in [
        ("ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"),
        ("SET default_transaction_read_only = on", "RESET default_transaction_read_only"),
    ] {
        database.cut(away).await;
        let said = ready(&bridge, 503).await;
        assert!(said.contains("store"), "{said}");
        ids.extend(world.simulator.play(20));
        database.cut(back).await;
        ready(&bridge, 200).await;
        let expected = ids.len() as u64;
        soon("the deliveries", target.until(|totals| totals.unique >= expected)).await;
    }
    let delivered = acknowledged(&target);
    assert!(ids.iter().all(|id| delivered.contains_key(id.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn the_overview_is_as_the_document_describes_it_with_and_without_the_server() {
    let (mut world, mut database) = world().await;
    let _target = world.target("orders").await;
    let bridge = world.bridge().await;
    let document = Document::of(&bridge).await;
    let overview = async || {
        let body = bridge.admin("/api/v1/overview").await.bytes().await.unwrap();
        let body = serde_json::from_slice::<Value>(&body).unwrap();
        document.assert_describes("/api/v1/overview", &body);
        body
    };
    let with = overview().await;
    assert!(with["store"]["engine"].as_str().unwrap().starts_with("PostgreSQL "), "{with}");
    assert_eq!(with["replicas"].as_array().unwrap().len(), 1);
    database.cut("ALLOW_CONNECTIONS false").await;
    ready(&bridge, 503).await;
    let without = overview().await;
    assert_eq!(without["store"].get("engine"), None, "{without}");
    database.cut("ALLOW_CONNECTIONS true").await;
    ready(&bridge, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn commands_know_a_store_on_a_server() {
    let (mut world, database) = world().await;
    world.target("orders").await;
    let said = run(&world.configuration, &["doctor"]).await.printed();
    assert!(said.contains("no schema yet") && said.contains("no bridge runs on it"), "{said}");
    let bridge = world.bridge().await;
    let said = run(&world.configuration, &["doctor"]).await.printed();
    assert!(said.contains("PostgreSQL ") && said.contains("1 bridge runs on it"), "{said}");
    assert!(said.contains("synchronous_commit = "), "{said}");
    let backup = run(&world.configuration, &["backup", "copy.db"]).await;
    assert!(backup.code != Some(0) && backup.stderr.contains("pg_dump"), "{backup:?}");
    drop((bridge, database));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn commands_say_what_waits_for_a_target_that_is_not_configured_any_more() {
    let (mut world, _database) = world().await;
    let (_held, url) = hold();
    world.target_at("old", &url);
    let bridge = world.bridge().await;
    world.simulator.play(5);
    bridge.until("all waits", |status| status["targets"][0]["backlog"] == 5).await;
    world.configuration.retain(|key, _| !key.starts_with("TARGETS__OLD__"));
    let _new = world.target("new").await;
    let address = bridge.admin.trim_start_matches("http://").to_owned();
    world.set("SERVER__ADMIN_LISTEN", &address);
    let told = "targets.old: is not configured, and 5 pending";
    let mut bridge = bridge;
    // At first only the commands have the new configuration, then the bridge has it too.
    for restarts in [true, false] {
        let check = run(&world.configuration, &["check", "--strict"]).await;
        assert!(check.code != Some(0) && check.printed().contains(told), "{check:?}");
        let said = run(&world.configuration, &["doctor"]).await.printed();
        assert!(said.contains(told) && said.contains("deliveries old") == restarts, "{said}");
        if restarts {
            assert!(bridge.stop().await.0.success());
            bridge = Bridge::start(&world.configuration).await;
        }
    }
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a PostgreSQL server: run tests/postgres.sh"]
async fn a_store_is_moved_from_a_file_with_all_that_is_open() {
    let (mut world, database) = (World::new(World::with_duplicates()).await, Database::new().await);
    let target = world.target("orders").await;
    // The second target does not answer: its deliveries are imported as open ones.
    let (_held, url) = hold();
    world.target_at("later", &url);
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(60);
    soon("the deliveries", target.until(|totals| totals.unique >= 60)).await;
    assert!(bridge.stop().await.0.success());
    let file = world.configuration["STORE__URL"].clone();
    let before = world.rows("SELECT id, CAST(sequence AS TEXT) FROM event ORDER BY sequence");

    world.set("STORE__URL", &database.url);
    let import = async || run(&world.configuration, &["import", &file]).await;
    let first = import().await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains("newest sequence  60") && first.stdout.contains("same"), "{first:?}");
    let after = "SELECT string_agg(id || ' ' || sequence, ',' ORDER BY sequence) FROM pepay_bridge.event";
    let expected: Vec<_> = before.iter().map(|(id, sequence)| format!("{id} {sequence}")).collect();
    assert_eq!(database.text(after).await, expected.join(","));
    let again = import().await;
    assert!(again.code != Some(0) && again.stderr.contains("takes an empty one"), "{again:?}");

    let bridge = world.bridge().await;
    let again = import().await;
    let in_use = "is in use by a running pepay-bridge";
    assert!(again.code != Some(0) && again.stderr.contains(in_use), "{again:?}");
    ids.extend(world.simulator.play(20));
    soon("further deliveries", target.until(|totals| totals.unique >= 80)).await;
    assert_each_once(&target, &ids);
    let open =
        "SELECT count(*)::text FROM pepay_bridge.delivery WHERE state IN ('pending', 'sending', 'retrying')";
    database.until(open, "80").await;
    drop(bridge);
}
