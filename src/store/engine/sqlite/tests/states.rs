//! Compares the table `delivery` with the states of the domain.

use std::collections::BTreeSet;

use super::*;
use crate::domain::delivery::State;

/// Returns the quoted values in the `CHECK`s of the table.
fn quoted(sql: &str) -> impl Iterator<Item = &str> {
    sql.split('\'').skip(1).step_by(2)
}

#[tokio::test]
async fn the_table_takes_exactly_the_states_of_the_domain() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let connection = fixture.backend.side_door();
    let sql: String = connection
        .query_row("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'delivery'", [], |row| {
            row.get("sql")
        })
        .unwrap();
    let known: BTreeSet<_> = State::ALL.map(State::as_str).into();
    let mut candidates = known.clone();
    candidates.extend(quoted(&sql));
    candidates.extend(["", "Pending", "pending ", "sent", "failed", "replayed"]);

    // The other CHECKs depend on whether a state is final and whether it has been attempted.
    let mut insert = connection
        .prepare(
            "INSERT INTO delivery (target_id, sequence, state, rank, attempts, first_attempt_at, settled_at) \
             SELECT id, ?1, ?2, 0, 1, 1, ?3 FROM target",
        )
        .unwrap();
    let mut sequence = 0;
    let taken: BTreeSet<_> = candidates
        .into_iter()
        .filter(|state| {
            [None, Some(1)].into_iter().any(|settled_at| {
                sequence += 1;
                insert.execute(rusqlite::params![sequence, state, settled_at]).is_ok()
            })
        })
        .collect();
    assert_eq!(taken, known);
    for state in State::ALL {
        let settled = "SELECT settled_at IS NOT NULL FROM delivery WHERE state = ?1";
        let settled: bool = connection.query_row(settled, [state.as_str()], |row| row.get(0)).unwrap();
        assert_eq!(settled, state.is_settled(), "{state:?}");
    }
}
