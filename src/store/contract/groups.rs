//! Groups of writes: their duration and their size.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use tokio::task::JoinSet;

use super::*;
use crate::store::committer::{Group, PART};
use crate::store::engine::EngineError;
use crate::store::error::RecordError;
use crate::store::inbox::BatchError;
use crate::store::types::{Batch, CursorMove, Position, Recorded, Resume};
use crate::store::view::SourceTally;

/// Longer than the time in which a group takes tasks.
const LONG: Duration = Duration::from_millis(1100);

#[tokio::test]
async fn a_group_that_takes_long_is_committed_and_the_rest_goes_with_the_next_one() {
    let fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let tasks = fixture.store.tasks.clone();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (done, first_is_done) = std::sync::mpsc::channel::<()>();
    let missed = |_| EngineError::Rejected("what the test waits for has not come".to_owned());
    let limit = Duration::from_secs(20);
    // While it waits, later tasks queue up.
    let before = tasks.write(move |_: &mut Group<'_>| gate.recv_timeout(limit).map_err(missed));
    let long = |_: &mut Group<'_>| {
        std::thread::sleep(LONG);
        Ok(())
    };
    let first = async {
        tasks.write(long).await.unwrap();
        done.send(()).unwrap();
    };
    let last = tasks.write(move |_: &mut Group<'_>| first_is_done.recv_timeout(limit).map_err(missed));
    let ((), before, (), last, recorded) = tokio::join!(
        async { open.send(()).unwrap() },
        before,
        first,
        last,
        fixture.store.inbox.try_record(event("evt_1", "a")),
    );
    before.unwrap();
    last.unwrap();
    recorded.unwrap();
    fixture.close().await;
}

fn events(count: usize, stream: &str) -> Vec<Received> {
    (0..count).map(|n| event(&format!("evt_{stream}_{n}"), stream)).collect()
}

#[tokio::test]
async fn a_group_holds_no_more_events_than_one_statement_stores_in_a_short_time() {
    // Each group has a time of its own, which it gives its cursors.
    let time = AtomicI64::new(NOW.0);
    let clock = Clock::from_fn(move || UnixMillis(time.fetch_add(1, Relaxed)));
    let mut fixture = Fixture::timed(UnderTest::new().await, vec![], clock).await;
    let (tasks, inbox) = (fixture.store.tasks.clone(), fixture.store.inbox.clone());
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let missed = |_| EngineError::Rejected("what the test waits for has not come".to_owned());
    let mut streams = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        streams.push((name, fixture.read_stream(name).await));
    }
    // While it waits, later tasks queue up in their order.
    let (mut gates, mut recording) = (JoinSet::new(), JoinSet::new());
    gates.spawn(async move {
        let wait = move |_: &mut Group<'_>| gate.recv_timeout(Duration::from_secs(20)).map_err(missed);
        tasks.write(wait).await.unwrap();
    });
    for (stream, term) in streams {
        let position = Position { event: None, created: 1 };
        let cursor = Some(CursorMove { stream: stream.into(), position, history: None, term });
        let (inbox, batch) = (inbox.clone(), Batch { events: events(PART, stream), cursor });
        recording.spawn(async move { inbox.record(batch).await.unwrap() });
    }
    gates.spawn(async move { open.send(()).unwrap() });
    gates.join_all().await;
    for recorded in recording.join_all().await {
        assert_eq!(recorded, [Recorded::New; PART]);
    }
    let together = fixture.backend.numbers("SELECT count(*) FROM stream_cursor GROUP BY moved_at ORDER BY 1");
    assert_eq!(together.iter().sum::<i64>(), 5);
    assert_eq!(together.last(), Some(&2), "more than two parts, or none, were stored together: {together:?}");
    fixture.close().await;
}

#[tokio::test]
async fn a_large_batch_is_stored_in_parts_of_which_each_is_counted_once() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::PerObject)]).await;
    let term = fixture.read_stream("commerce").await;
    let position = Position { event: Some("evt_a_1199".parse().unwrap()), created: 1 };
    let cursor = CursorMove { stream: "commerce".into(), position, history: None, term };
    let (mut events, inbox) = (events(1200, "a"), &fixture.store.inbox);
    // The store stops at the second part, and then at the third one.
    for (refused, parts) in [("evt_a_700", 1), ("evt_a_1199", 1)] {
        fixture.backend.refuse("INSERT ON event", &format!("new.id = '{refused}'"));
        let batch = Batch { events: events.clone(), cursor: Some(cursor.clone()) };
        let BatchError { stored, error } = inbox.record(batch).await.unwrap_err();
        assert!(matches!(error, RecordError::Unavailable(_)), "{error}");
        assert_eq!(stored, vec![Recorded::New; parts * PART]);
        events.drain(..stored.len());
        assert_eq!(inbox.resume("commerce").await, Ok(None));
        fixture.backend.accept("INSERT ON event");
    }
    let batch = Batch { events, cursor: Some(cursor.clone()) };
    assert_eq!(inbox.record(batch).await, Ok(vec![Recorded::New; 200]));
    let tally = fixture.store.operator.tally();
    let of_all = |count: fn(&SourceTally) -> u64| tally.sources.iter().map(count).sum::<u64>();
    assert_eq!(
        (of_all(|one| one.received), of_all(|one| one.unique), of_all(|one| one.duplicate)),
        (1200, 1200, 0)
    );
    let resumed = Resume { position: cursor.position.clone(), history: None };
    assert_eq!(inbox.resume("commerce").await, Ok(Some(resumed)));
    let in_order = "SELECT count(*) FROM event WHERE id = 'evt_a_' || (sequence - 1)";
    assert_eq!(fixture.backend.number(in_order), 1200);
    fixture.close().await;
}
