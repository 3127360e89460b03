//! A database of the first version is migrated without loss.

use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::migrations;
use super::*;
use crate::domain::delivery::State;
use crate::domain::event::Environment;

/// Creates a database of the first version with a delivery in each of its states, and a lane in
/// which three deliveries wait.
async fn first_version(folder: &Path) {
    let path = database(folder);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("application_id", 0x5045_5042.to_string());
    let mut connection = options.connect().await.unwrap();
    migrations::MIGRATIONS.run_to(1, &mut connection).await.unwrap();
    connection.close().await.unwrap();
    let door = rusqlite::Connection::open(&path).unwrap();
    let body = |n: i64| event(&format!("evt_{n}000-1"), "a").event.body.to_vec();
    door.execute_batch("INSERT INTO target VALUES (1, 'orders')").unwrap();
    for n in 1..=8 {
        door.execute(
            "INSERT INTO event VALUES (?1, 'evt_' || ?1 || '000-1', 'commerce.order.updated', 'a', 0, 'stream', \
             'commerce', NULL, ?2, ?3)",
            rusqlite::params![n, NOW.0, body(n)],
        )
        .unwrap();
    }
    let lane = routing::lane(Ordering::PerObject, &event("evt_6000-1", "a"), None).unwrap();
    door.execute_batch(&format!(
        "INSERT INTO delivery VALUES
           (1, 1, 'delivered', NULL, 0, NULL, 1, 5, 6), (1, 2, 'dead', NULL, 0, NULL, 2, 5, 6),
           (1, 3, 'held', 77, 0, NULL, 1, 5, NULL), (1, 4, 'sending', 78, 0, NULL, 1, 5, NULL),
           (1, 5, 'retrying', 79, 0, {now}, 1, 5, NULL), (1, 6, 'pending', {lane}, 0, {now}, 0, NULL, NULL),
           (1, 7, 'pending', {lane}, {rank_7}, NULL, 0, NULL, NULL),
           (1, 8, 'pending', {lane}, {rank_8}, NULL, 0, NULL, NULL);
         INSERT INTO attempt VALUES (1, 1, 1, 5, 1, 200, NULL, NULL), (1, 2, 1, 5, 1, 500, 'no', x'00')",
        now = NOW.0,
        rank_7 = 7_000_i64 << 20 | 1,
        rank_8 = 8_000_i64 << 20 | 1,
    ))
    .unwrap();
}

#[tokio::test]
async fn the_migration_of_the_first_schema_keeps_every_row_and_lane() {
    let folder = TempDir::new().unwrap();
    first_version(folder.path()).await;
    let looked_at = check::examine(&database(folder.path()), Duration::MAX).unwrap().unwrap();
    assert_eq!((looked_at.schema, looked_at.events), (1, 8));
    let mut fixture = Fixture::at(Sqlite { folder }, vec![route("orders", "*", Ordering::PerObject)]).await;
    let operator = fixture.store.operator.clone();
    let expected = ["delivered", "dead", "held", "sending", "retrying", "pending", "pending", "pending"];
    for (n, state) in (1..).zip(expected) {
        let id = format!("evt_{n}000-1").parse().unwrap();
        let shown = operator.event(&id).await.unwrap().unwrap();
        assert_eq!(shown.deliveries[0].delivery.state.as_str(), state, "{id}");
        assert_eq!(shown.deliveries[0].attempt_log.len(), usize::from(n <= 2), "{id}");
        assert!(shown.body.is_some());
    }
    let (_arrivals, ledger) = fixture.outbox();
    let found = ledger.search(everything(NOW)).await.unwrap();
    let sequences: Vec<Vec<_>> =
        found.lanes.iter().map(|lane| lane.rows.iter().map(|job| job.sequence).collect()).collect();
    assert_eq!(sequences, [vec![5], vec![6, 7, 8]]);
    let door = fixture.backend.side_door();
    let broken =
        door.prepare("PRAGMA foreign_key_check").unwrap().query([]).unwrap().next().unwrap().is_some();
    assert!(!broken);
    let check: String = door.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    // The sequences go on, and retention begins before the first.
    fixture.store.inbox.try_record(event("evt_9000-1", "z")).await.unwrap();
    assert_eq!(operator.summary().await.unwrap().last_sequence, 9);
    assert_eq!(operator.summary().await.unwrap().first_sequence, 1);
}

#[tokio::test]
async fn events_whose_object_was_not_read_become_findable() {
    let folder = TempDir::new().unwrap();
    first_version(folder.path()).await;
    let door = rusqlite::Connection::open(database(folder.path())).unwrap();
    let cases = [
        ("commerce.order.updated", r#"{"orderId":"o"}"#, Some("o")),
        ("commerce.order.updated", r#"{"order_id":"p","orderId":7}"#, Some("7")),
        ("commerce.order.updated", r#"{"id":["x"],"orderId":"o"}"#, Some("o")),
        ("commerce.order.updated", r#"["o"]"#, None),
        ("commerce.order.updated", r#"{"orderId":"\ud800"}"#, None),
        ("invoice.updated", r#"{"id":12,"orderId":"o"}"#, Some("12")),
        ("invoice.updated", r#"{"orderId":"o"}"#, None),
        ("test.ping", "null", None),
    ];
    for (n, (kind, object, _)) in (0_i64..).zip(&cases) {
        let body = format!(r#"{{"id":"evt_old{n}","data":{{"object":{object}}}}}"#);
        let insert = "INSERT INTO event VALUES (?1, ?2, ?3, NULL, 0, 'stream', 's', NULL, ?4, ?5)";
        let row = rusqlite::params![100 + n, format!("evt_old{n}"), kind, NOW.0, body.as_bytes()];
        door.execute(insert, row).unwrap();
    }
    drop(door);
    let fixture = Fixture::at(Sqlite { folder }, vec![]).await;
    for (n, (_, object, expected)) in cases.iter().enumerate() {
        let id = format!("evt_old{n}").parse().unwrap();
        let shown = fixture.store.operator.event(&id).await.unwrap().unwrap();
        assert_eq!(shown.event.object_id.as_deref(), *expected, "{object}");
    }
    let untouched = fixture.store.operator.event(&"evt_1000-1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(untouched.event.object_id.as_deref(), Some("a"));
}

/// Returns the values in the condition of `table` that begins with `beginning`.
fn named(door: &rusqlite::Connection, table: &str, beginning: &str) -> Vec<String> {
    let query = "SELECT sql FROM sqlite_schema WHERE name = ?1";
    let sql: String = door.query_row(query, [table], |row| row.get(0)).unwrap();
    let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, condition) = sql.split_once(&format!("{beginning} (")).unwrap();
    let mut depth = 1;
    let is_inside = |letter: &char| {
        depth += i32::from(*letter == '(') - i32::from(*letter == ')');
        depth > 0
    };
    let condition: String = condition.chars().take_while(is_inside).collect();
    condition.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_lists_of_the_schema_are_those_of_the_domain() {
    let fixture = Fixture::new(vec![]).await;
    let door = fixture.backend.side_door();
    assert_eq!(named(&door, "delivery", "state TEXT NOT NULL CHECK"), State::ALL.map(State::as_str));
    for table in ["event", "sighting", "conflict"] {
        assert_eq!(named(&door, table, "source TEXT NOT NULL CHECK"), Source::ALL.map(Source::as_str));
    }
    let environments = [Environment::Devnet, Environment::Mainnet].map(Environment::as_str);
    assert_eq!(named(&door, "event", "environment TEXT CHECK"), environments);
    let settled: Vec<_> =
        State::ALL.into_iter().filter(|state| state.is_settled()).map(State::as_str).collect();
    assert_eq!(named(&door, "delivery", "CHECK ((settled_at IS NOT NULL) ="), settled);
}
