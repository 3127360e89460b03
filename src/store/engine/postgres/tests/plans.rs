//! Checks the server's plan of each frequent statement: with an empty store, with a large one, and
//! with a backlog that the server has no statistics of yet.

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Postgres as Server, Row as _};

use super::super::connect::{Address, BEGIN};
use super::super::{log, retain, search, settle};
use super::backend::Postgres;
use crate::store::contract::Backend as _;
use crate::store::settings::Durability;

/// Events with a delivery each to two targets. All but the newest thousand are delivered. The
/// others are pending for one target, and retrying for the other.
const GROWN: &str = "\
    INSERT INTO target (name) VALUES ('orders'), ('all'); \
    INSERT INTO lease (name, term, expires_at) VALUES ('target/orders', 1, 'infinity'); \
    INSERT INTO event (sequence, id, type, object_id, created, source, origin, received_at, body) \
      SELECT n, 'evt_' || n, 'a.b', (n % 5000)::text, n, 'webhook', 'default', n, '{}' \
      FROM generate_series(1, 100000) AS n; \
    INSERT INTO delivery (target_id, sequence, state, lane, rank, due_at, attempts, first_attempt_at, settled_at) \
      SELECT t.id, n, \
        CASE WHEN n <= 99000 THEN 'delivered' WHEN t.name = 'orders' THEN 'pending' ELSE 'retrying' END, \
        CASE WHEN n > 99000 THEN n % 500 END, n, CASE WHEN n > 99000 AND t.name = 'all' THEN n END, \
        CASE WHEN n > 99000 AND t.name = 'orders' THEN 0 ELSE 1 END, \
        CASE WHEN n > 99000 AND t.name = 'orders' THEN NULL ELSE n END, \
        CASE WHEN n <= 99000 THEN n END \
      FROM target t, generate_series(1, 100000) AS n; \
    UPDATE delivery SET state = 'dead' WHERE sequence % 1000 = 0 AND state = 'delivered'; \
    INSERT INTO attempt (target_id, sequence, number, started_at, duration_ms, error) \
      SELECT target_id, sequence, 1, sequence, 1, repeat('x', 300) FROM delivery WHERE attempts > 0; \
    UPDATE retention SET payload_through = 1000, events_through = 1000; \
    ANALYZE";

/// As many deliveries as arrive in a minute. The server has no statistics of them yet, since it
/// makes these once a minute.
const NEW: &str = "\
    ALTER TABLE event SET (autovacuum_enabled = off); ALTER TABLE delivery SET (autovacuum_enabled = off); \
    INSERT INTO target (name) VALUES ('orders'), ('all'); \
    INSERT INTO event (sequence, id, type, object_id, created, source, origin, received_at, body) \
      SELECT n, 'evt_' || n, 'a.b', (n % 5000)::text, n, 'webhook', 'default', n, '{}' \
      FROM generate_series(1, 30000) AS n; \
    INSERT INTO delivery (target_id, sequence, state, rank, attempts, first_attempt_at, settled_at) \
      SELECT t.id, n, 'delivered', n, 1, n, n FROM target t, generate_series(1, 30000) AS n";

/// Empties the tables.
const EMPTY: &str = "TRUNCATE event, delivery, target RESTART IDENTITY CASCADE; \
    ALTER TABLE event RESET (autovacuum_enabled); ALTER TABLE delivery RESET (autovacuum_enabled)";

/// As many open deliveries again, which the server has no statistics of: a backlog that has just
/// begun to grow.
const BACKLOG: &str = "\
    ALTER TABLE delivery SET (autovacuum_enabled = off); \
    UPDATE delivery SET state = 'delivered', settled_at = 1, lane = NULL, due_at = NULL, attempts = 1, \
      first_attempt_at = 1 WHERE settled_at IS NULL; \
    ANALYZE delivery; \
    INSERT INTO delivery (target_id, sequence, state, lane, rank, due_at, attempts, first_attempt_at) \
      SELECT t.id, n, CASE WHEN t.name = 'orders' THEN 'pending' ELSE 'retrying' END, n % 5000, n, \
        CASE WHEN t.name = 'all' THEN n END, CASE WHEN t.name = 'orders' THEN 0 ELSE 1 END, \
        CASE WHEN t.name = 'all' THEN n END \
      FROM target t, generate_series(100001, 200000) AS n";

/// Settings for the empty store. Reading a whole empty table costs nothing, so the server is asked
/// for a plan by index. The server keeps no plan, and chooses this one once there are more rows.
const WITHOUT_WALKS: &str =
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// A statement, its values, and the indexes that its plan has to use. A bar separates two indexes
/// of which one is enough.
struct Hot {
    statement: String,
    given: Vec<Given>,
    indexes: &'static [&'static str],
}

/// A value of a parameter.
#[derive(Clone)]
enum Given {
    Number(i64),
    Numbers(Vec<i64>),
    Text(&'static str),
    Texts(Vec<String>),
    Bytes(usize),
}

use Given::{Bytes, Number, Numbers, Text, Texts};

/// Both indexes have the target and the sequence.
const ONE_DELIVERY: &str = "delivery_pkey|delivery_sequence";

/// The number of events of a large group.
const GROUP: i64 = 256;

fn newest(count: i64) -> Given {
    Numbers((100_001 - count..=100_000).collect())
}

fn hot(statement: impl Into<String>, given: Vec<Given>, indexes: &'static [&'static str]) -> Hot {
    Hot { statement: statement.into(), given, indexes }
}

/// Returns a part of the text of a function, from `begin` up to `end`, with `given` in place of its
/// variables.
fn part_of(backend: &Postgres, function: &str, (begin, end): (&str, &str), given: &[(&str, &str)]) -> String {
    let query = format!("SELECT prosrc FROM pg_proc WHERE oid = '{function}'::regproc");
    let body = backend.texts(&query).remove(0);
    let begin = body.find(begin).unwrap_or_else(|| panic!("{begin}"));
    let end = body[begin..].find(end).unwrap() + begin;
    given.iter().fold(body[begin..end].to_owned(), |text, (variable, value)| text.replace(variable, value))
}

/// Returns the statements of `append_events` that read events. Their plans are kept.
fn kept(backend: &Postgres) -> [String; 4] {
    let given = [
        ("INTO fresh ", ""),
        ("unnest(ids)", "unnest($1::text[])"),
        (
            "unnest(ids, sources, origins, arrivals)",
            "unnest($1::text[], $1::text[], $1::text[], $2::bigint[])",
        ),
        (
            "unnest(ids, types, sources, origins, arrivals, digests, bodies)",
            "unnest($1::text[], $1::text[], $1::text[], $1::text[], $2::bigint[], $3::bytea[], $3::bytea[])",
        ),
        ("unnest(link_places, link_invoices, link_orders)", "unnest($2::bigint[], $1::text[], $1::text[])"),
        ("ids[l.n]", "($1::text[])[l.n]"),
        ("given[i.n]", "($2::bigint[])[i.n]"),
    ];
    let part = |begin, end| part_of(backend, "append_events", (begin, end), &given);
    [
        part("SELECT coalesce(array_agg(f.n", ";"),
        part("SELECT DISTINCT ON", "), noted"),
        part("SELECT i.*, e.sequence AS of", "LOOP"),
        part("SELECT l.invoice_id, l.order_id", "ON CONFLICT"),
    ]
}

/// Returns the two statements of `settle_deliveries` that write outcomes.
fn settlements(backend: &Postgres) -> [String; 2] {
    let arrays = "$2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], \
                  $9::bigint[], $10::text[], $11::bytea[]";
    let given = [
        ("unnest(sequences, ends, starts, durations, statuses,", "unnest($2, $6, $7, $8, $9,"),
        (
            "unnest(sequences, numbers, states, dues, ends, starts, durations, statuses, errors, answers,",
            "unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11,",
        ),
        ("cardinality(sequences)", "cardinality($2)"),
        ("array_fill(of_target,", "array_fill($1::bigint,"),
        ("of_target", "$1"),
        ("held_rank", "$12::bigint"),
        ("kept", "$13::bigint"),
    ];
    // Every parameter gets its type, even if a statement does not use it.
    let typed = format!("WITH given AS (SELECT $1::bigint, {arrays}, $12::bigint, $13::bigint)");
    let part = |begin, end| part_of(backend, "settle_deliveries", (begin, end), &given);
    let (plain, all) = (part("UPDATE delivery", "GET DIAGNOSTICS"), part("settled AS (", "END IF"));
    [
        format!("{typed} {}", plain.trim_end().trim_end_matches(';')),
        format!("{typed}, {}", all.trim_end().trim_end_matches(';')),
    ]
}

fn statements(backend: &Postgres) -> Vec<Hot> {
    let one = |n| Number(n);
    let of_group = |value: &str| Texts(vec![value.to_owned(); usize::try_from(GROUP).unwrap()]);
    let numbers = |value| Numbers(vec![value; usize::try_from(GROUP).unwrap()]);
    let settled = vec![
        one(1),
        newest(GROUP),
        numbers(1),
        of_group("delivered"),
        numbers(0),
        numbers(1),
        numbers(1),
        numbers(1),
        numbers(200),
        of_group(""),
        Bytes(usize::try_from(GROUP).unwrap()),
        one(0),
        one(100),
    ];
    let [plain, all] = settlements(backend);
    vec![
        hot(
            settle::CLAIM,
            vec![one(1), one(99_950), one(1), one(1), Text("target/orders"), one(1)],
            &[ONE_DELIVERY],
        ),
        hot(plain, settled.clone(), &[ONE_DELIVERY]),
        hot(all, settled, &[ONE_DELIVERY]),
        hot(settle::RECOVER, vec![one(1), Text("held"), one(0), one(0), one(1)], &["delivery_open"]),
        hot(search::OLDEST_DUE, vec![one(2), one(99_500), one(100)], &["delivery_due"]),
        hot(search::NEWEST_DUE, vec![one(2), one(99_500), one(100)], &["delivery_due"]),
        hot(search::NOT_DUE, vec![one(2), one(99_500)], &["delivery_due"]),
        hot(search::PENDING, vec![one(1), one(99_100), one(4096)], &["delivery_open"]),
        hot(
            search::LANES,
            vec![
                one(1),
                Numbers((0..64).collect()),
                numbers_of(0, 64),
                numbers_of(0, 64),
                numbers_of(16, 64),
            ],
            &["delivery_lane", "event_pkey"],
        ),
        hot(search::SIZES, vec![newest(GROUP)], &["event_pkey"]),
        hot(search::JOBS, vec![numbers(1), newest(GROUP)], &[ONE_DELIVERY, "event_pkey"]),
        hot(search::CENSUS, vec![one(1), one(1000)], &["delivery_lane"]),
        hot(
            log::KEYS,
            vec![Numbers(vec![1, 2]), one(99_000), one(i64::MAX), one(1025)],
            &["delivery_open", "event_pkey"],
        ),
        hot(log::EVENTS, vec![newest(GROUP)], &["event_pkey"]),
        hot(retain::DEAD, vec![one(50_000), one(500), one(1)], &["delivery_dead_age"]),
        hot(retain::OLD, vec![one(1000), one(50_000), one(500)], &["event_pkey"]),
        hot(retain::DONE, vec![Numbers((1001..=1500).collect())], &["delivery_sequence"]),
        hot(retain::LOCK_EVENTS, vec![Numbers((1001..=1500).collect())], &["event_pkey"]),
        hot(retain::LOCK_UNDONE, vec![Numbers((1001..=1500).collect())], &["delivery_sequence"]),
        hot(retain::REMOVE_BODIES, vec![Numbers((1001..=1500).collect())], &["event_pkey"]),
        hot(retain::REMOVE_ATTEMPTS, vec![Numbers((1001..=1500).collect())], &["attempt_pkey"]),
        hot(retain::REMOVE_DELIVERIES, vec![Numbers((1001..=1500).collect())], &["delivery_sequence"]),
        hot(retain::REMOVE_EVENTS, vec![Numbers((1001..=1500).collect())], &["event_pkey"]),
    ]
}

fn numbers_of(value: i64, count: usize) -> Given {
    Numbers(vec![value; count])
}

fn bound(statement: String, given: &[Given]) -> Query<'static, Server, PgArguments> {
    given.iter().fold(sqlx::query(AssertSqlSafe(statement)), |query, given| match given.clone() {
        Number(number) => query.bind(number),
        Numbers(numbers) => query.bind(numbers),
        Text(text) => query.bind(text),
        Texts(texts) => query.bind(texts),
        Bytes(count) => query.bind(vec![Vec::<u8>::new(); count]),
    })
}

async fn plan(connection: &mut PgConnection, hot: &Hot) -> String {
    // The statement has no name, as through a pooler.
    let explain = bound(format!("EXPLAIN {}", hot.statement), &hot.given).persistent(false);
    let rows: Vec<PgRow> =
        explain.fetch_all(connection).await.unwrap_or_else(|error| panic!("{}: {error}", hot.statement));
    rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
}

/// Returns whether the plan reads a whole growing table.
fn walks(plan: &str) -> bool {
    ["event", "delivery", "attempt"].iter().any(|table| plan.contains(&format!("Seq Scan on {table} ")))
}

/// Returns whether the plan reads all deliveries that one target ever had. Partial indexes contain
/// only open or dead ones.
fn walks_by_target(plan: &str) -> bool {
    let lines: Vec<_> = plan.lines().collect();
    lines.windows(2).any(|lines| {
        lines[0].contains("_pkey")
            && lines[1].contains("Index Cond: (target_id = ")
            && !lines[1].contains(" AND ")
    })
}

#[tokio::test]
async fn frequent_queries_use_the_index_that_was_made_for_them() {
    let backend = Postgres::new().await;
    drop(backend.engine().await);
    let address = Address::of(&backend.server, Durability::Normal).unwrap();
    let mut connection = PgConnection::connect_with(&address.options).await.unwrap();
    let grown = format!("{EMPTY}; {GROWN}");
    let stages = [("nothing", ""), ("what is new", NEW), ("much", &grown), ("a backlog", BACKLOG)];
    for (stage, filling) in stages {
        if !filling.is_empty() {
            backend.execute(filling);
        }
        for hot in statements(&backend) {
            // The transaction begins as the engine begins it, through a pooler too.
            let begin = address.shared.as_deref().unwrap_or(BEGIN);
            connection.execute(AssertSqlSafe(begin.to_owned())).await.unwrap();
            if filling.is_empty() {
                connection.execute(WITHOUT_WALKS).await.unwrap();
            }
            let plan = plan(&mut connection, &hot).await;
            connection.execute("ROLLBACK").await.unwrap();
            let case = format!("with {stage}\n{}\n{plan}", hot.statement);
            // With an empty store, this costs nothing.
            assert!(filling.is_empty() || !walks_by_target(&plan), "{case}");
            if filling == NEW {
                // For a large group, the server reads a table of this size as a whole. It decides
                // by the size of the table, which it knows.
                continue;
            }
            assert!(!walks(&plan), "{case}");
            for index in hot.indexes {
                let is_used = index.split('|').any(|index| plan.contains(&format!(" {index}")));
                assert!(is_used, "not by {index}; {case}");
            }
        }
    }
    let begin = address.shared.as_deref().unwrap_or(BEGIN);
    connection.execute(AssertSqlSafe(begin.to_owned())).await.unwrap();
    let kept: String = connection.fetch_one("SHOW plan_cache_mode").await.unwrap().get(0);
    assert_eq!(kept, "force_custom_plan", "no plan is kept, but by functions that say so");
    let walk = hot("SELECT * FROM delivery WHERE replays = $1", vec![Number(1)], &[]);
    assert!(walks(&plan(&mut connection, &walk).await), "the test sees a walk");
}

#[tokio::test]
async fn a_plan_that_was_cached_for_empty_tables_uses_the_index_of_ids() {
    let backend = Postgres::new().await;
    drop(backend.engine().await);
    // The table looks like one that was emptied: reading it as a whole seems to cost nothing.
    backend.execute("VACUUM event");
    let address = Address::of(&backend.server, Durability::Normal).unwrap();
    let mut connection = PgConnection::connect_with(&address.options).await.unwrap();
    let settings = "SELECT unnest(proconfig) FROM pg_proc WHERE oid = 'append_events'::regproc";
    let begin = address.shared.as_deref().unwrap_or(BEGIN);
    connection.execute(AssertSqlSafe(begin.to_owned())).await.unwrap();
    for setting in backend.texts(settings) {
        connection.execute(AssertSqlSafe(format!("SET LOCAL {setting}"))).await.unwrap();
    }
    for statement in kept(&backend) {
        let prepare = format!("PREPARE kept (text[], bigint[], bytea[]) AS {statement}");
        connection
            .execute(AssertSqlSafe(prepare))
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        let explain = "EXPLAIN EXECUTE kept (NULL, NULL, NULL)";
        let rows: Vec<PgRow> = connection.fetch_all(explain).await.unwrap();
        let plan: String = rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect();
        connection.execute("DEALLOCATE kept").await.unwrap();
        assert!(plan.contains(" event_id_key") && plan.contains("Index Cond: (id = "), "{statement}\n{plan}");
        assert!(!plan.contains("Hash") && !plan.contains("Seq Scan"), "{statement}\n{plan}");
    }
}
