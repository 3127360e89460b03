//! The file of a database after retention.

use super::contract::retention::Aging;
use super::*;
use crate::domain::operator::Action;
use crate::store::contract::Backend as _;

const DAY: Duration = Duration::from_hours(24);

/// Returns the number of events that a check of the file of `aging` finds.
fn looked_at(aging: &Aging) -> i64 {
    check::examine(&database(aging.fixture.backend.folder.path()), DAY).unwrap().unwrap().events
}

#[tokio::test]
async fn a_check_of_the_file_counts_as_many_events_as_a_running_bridge() {
    let aging = Aging::new().await;
    for id in ["evt_0", "evt_1"] {
        aging.record(id, id).await;
    }
    let operator = &aging.fixture.store.operator;
    operator.act(Action::Cancel, "orders", &"evt_1".parse().unwrap()).await.unwrap();
    aging.pass(2 * DAY + Duration::from_millis(1));
    aging.record("evt_2", "a").await;
    aging.sweep().await;
    let summary = operator.summary().await.unwrap();
    assert_eq!((summary.first_sequence, summary.last_sequence), (3, 3));
    assert_eq!(looked_at(&aging), 1, "what is open still outlives its time and is not told of");

    for id in ["evt_0", "evt_2"] {
        operator.act(Action::Cancel, "orders", &id.parse().unwrap()).await.unwrap();
    }
    aging.pass(2 * DAY + Duration::from_millis(1));
    aging.sweep().await;
    let summary = operator.summary().await.unwrap();
    assert_eq!((summary.first_sequence, summary.last_sequence), (4, 3));
    assert_eq!(looked_at(&aging), 0);
}

#[tokio::test]
async fn removed_bodies_make_the_database_file_smaller() {
    let aging = Aging::new().await;
    aging.fixture.backend.execute(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 400)
         INSERT INTO event (sequence, id, type, created, source, origin, received_at, body)
         SELECT n, 'evt_' || n, 'a.b', 0, 'stream', 'x', 0, zeroblob(100000) FROM n",
    );
    let before = aging.fixture.store.operator.usage().await.unwrap();
    aging.sweep().await;
    let after = aging.fixture.store.operator.usage().await.unwrap();
    assert!(before.database_bytes > 40_000_000, "{before:?}");
    assert!(after.database_bytes < 20_000_000 && after.free_bytes < 17_000_000, "{after:?}");
    assert!(after.disk_total_bytes >= after.disk_free_bytes && after.disk_free_bytes > 0);
}
