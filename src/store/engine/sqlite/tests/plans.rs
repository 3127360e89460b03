//! No query of an operator reads a whole table of events, deliveries or attempts. The tests read
//! SQLite's plan for each query.

mod writer;

use sqlx::{Row as _, SqlitePool};

use super::*;
use crate::domain::delivery::State;
use crate::domain::operator::{Filter, Page};
use crate::store::engine::read::asked;

/// The tables that grow, by their names and their aliases.
const LARGE: [&str; 14] = [
    "event",
    "delivery",
    "attempt",
    "sighting",
    "conflict",
    "order_link",
    "e",
    "d",
    "a",
    "s",
    "w",
    "b",
    "x",
    "h",
];

/// Returns the steps of a plan that read a whole large table or a whole index of one.
fn walks(plan: &[String]) -> Vec<&String> {
    let is_large = |step: &&String| {
        let mut words = step.split_whitespace();
        words.next() == Some("SCAN") && words.next().is_some_and(|table| LARGE.contains(&table))
    };
    plan.iter().filter(is_large).collect()
}

/// Returns whether a plan reads all deliveries of a target, from one end or in a range of
/// sequences. Such a plan uses only the beginning of the key.
fn goes_through_a_target(plan: &[String]) -> bool {
    let is_one_row = |step: &str| step.contains("(target_id=? AND sequence=?");
    plan.iter().any(|step| step.contains("USING PRIMARY KEY (target_id=?") && !is_one_row(step))
}

async fn plan(pool: &SqlitePool, query: &str) -> Vec<String> {
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"))).fetch_all(pool).await;
    rows.unwrap().iter().map(|row| row.get("detail")).collect()
}

fn filters() -> Vec<Filter> {
    let none = Filter::default();
    let mut filters = vec![
        none.clone(),
        Filter { types: Some("invoice.*,a.b".parse().unwrap()), ..none.clone() },
        Filter { object_id: Some("a".into()), ..none.clone() },
        Filter { order_id: Some("a".into()), ..none.clone() },
        Filter { invoice_id: Some("a".into()), ..none.clone() },
        Filter { source: Some(Source::Stream), ..none.clone() },
        Filter { target: Some("orders".into()), ..none.clone() },
        Filter { from: Some(NOW), to: Some(NOW), ..none.clone() },
        Filter { id_prefix: Some("evt_".into()), ..none.clone() },
    ];
    for state in State::ALL {
        filters.push(Filter { state: Some(state), ..none.clone() });
        filters.push(Filter { state: Some(state), target: Some("orders".into()), ..none.clone() });
    }
    filters
}

#[tokio::test]
async fn every_query_uses_an_index() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::PerObject)]).await;
    let pool = fixture.store.reader.pool();
    for query in asked::fixed() {
        let plan = plan(pool, &query).await;
        assert!(walks(&plan).is_empty(), "{query}\n{plan:#?}");
        // The deliveries that were delivered last are searched among a bounded number of the newest
        // ones.
        assert!(!goes_through_a_target(&plan) || query == asked::NEWEST, "{query}\n{plan:#?}");
    }
    for filter in filters() {
        let cursor = Page::default().cursor;
        for query in asked::of(&filter, cursor) {
            let plan = plan(pool, &query).await;
            assert!(walks(&plan).is_empty() && !goes_through_a_target(&plan), "{query}\n{plan:#?}");
        }
    }
    assert!(!walks(&plan(pool, "SELECT * FROM event e").await).is_empty(), "the test sees a walk");
    let unnamed =
        "SELECT min(sequence) FROM delivery WHERE target_id = ?1 AND settled_at IS NULL AND state = ?2";
    assert!(goes_through_a_target(&plan(pool, unnamed).await), "the test sees that no index is named");
}
