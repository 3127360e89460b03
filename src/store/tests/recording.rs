use super::super::error::RecordError;
use super::super::types::{Batch, CursorMove, Held, Position, Recorded, Resume};
use super::*;

fn resume(position: Position) -> Resume {
    Resume { position, history: None }
}

fn position(id: &str) -> Position {
    Position { event: Some(id.parse().unwrap()), created: 1_734_780_000 }
}

fn cursor(id: &str) -> CursorMove {
    CursorMove { stream: "commerce".into(), position: position(id), history: None }
}

/// Makes the store refuse the event `id` from now on, and only that one.
fn refuse(connection: &rusqlite::Connection, id: &str) {
    let trigger = format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON event WHEN NEW.id = '{id}' \
         BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
    );
    connection.execute_batch(&trigger).unwrap();
}

#[tokio::test]
async fn an_id_is_stored_once_whatever_its_source_and_its_bytes_are_kept() {
    let fixture = Fixture::new(vec![]).await;
    let inbox = &fixture.store.inbox;
    let first = event("evt_1", "a");
    let body = first.event.body.clone();
    assert_eq!(inbox.try_record(first).await, Ok(Recorded::New));
    let again = Received { source: Source::Stream, ..event("evt_1", "other") };
    assert_eq!(inbox.try_record(again).await, Ok(Recorded::Conflict));
    let stored: (Vec<u8>, String) = fixture
        .side_door()
        .query_row("SELECT body, source FROM event", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(stored, (body.to_vec(), "webhook".to_owned()));
}

#[tokio::test]
async fn an_event_repeated_within_one_batch_is_stored_once() {
    let fixture = Fixture::new(vec![]).await;
    let batch = Batch { events: vec![event("evt_1", "a"), event("evt_1", "a")], cursor: None };
    let recorded = fixture.store.inbox.record(batch).await.unwrap();
    assert_eq!(recorded, [Recorded::New, Recorded::Duplicate]);
}

#[tokio::test]
async fn the_sequence_has_no_gaps_across_duplicates_refusals_and_restarts() {
    let fixture = Fixture::new(vec![]).await;
    refuse(&fixture.side_door(), "evt_bad");
    for id in ["evt_1", "evt_1", "evt_bad", "evt_2", "evt_bad", "evt_1", "evt_3"] {
        // Refusals are what this test is about.
        let _ = fixture.store.inbox.try_record(event(id, "a")).await;
    }
    let fixture = fixture.restart(vec![]).await;
    fixture.store.inbox.try_record(event("evt_4", "a")).await.unwrap();
    let connection = fixture.side_door();
    let mut select = connection.prepare("SELECT sequence, id FROM event ORDER BY sequence").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
    let rows: Vec<(i64, String)> = rows.map(Result::unwrap).collect();
    let expected = [1, 2, 3, 4].map(|n| (n, format!("evt_{n}")));
    assert_eq!(rows, expected);
    let summary = fixture.store.operator.summary().await.unwrap();
    assert_eq!((summary.first_sequence, summary.last_sequence), (1, 4));
}

#[tokio::test]
async fn one_refused_command_does_not_fail_those_it_was_grouped_with() {
    let folder = TempDir::new().unwrap();
    let (store, writer) = open(folder.path(), vec![]).await.unwrap();
    // Queued before the committer runs, so that they are one group.
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (inbox, id) = (store.inbox.clone(), format!("evt_{n}"));
        waiting.spawn(async move { (n, inbox.try_record(event(&id, "a")).await) });
    }
    tokio::task::yield_now().await;
    let connection = rusqlite::Connection::open(settings(folder.path()).path).unwrap();
    refuse(&connection, "evt_7");
    let writer = std::thread::spawn(|| writer.run());
    for (n, recorded) in waiting.join_all().await {
        match n {
            7 => assert!(
                matches!(recorded, Err(RecordError::Unavailable(reason)) if reason.contains("refused by"))
            ),
            _ => assert_eq!(recorded, Ok(Recorded::New)),
        }
    }
    assert_eq!(store.operator.summary().await.unwrap().last_sequence, 49);
    store.close().await;
    writer.join().unwrap();
}

#[tokio::test]
async fn a_batch_and_its_cursor_are_stored_together_or_not_at_all() {
    let fixture = Fixture::new(vec![]).await;
    let inbox = &fixture.store.inbox;
    assert_eq!(inbox.resume("commerce").await, Ok(None));
    inbox.record(Batch { events: vec![event("evt_1", "a")], cursor: Some(cursor("evt_1")) }).await.unwrap();
    assert_eq!(inbox.resume("commerce").await, Ok(Some(resume(position("evt_1")))));

    refuse(&fixture.side_door(), "evt_3");
    let batch =
        Batch { events: vec![event("evt_2", "a"), event("evt_3", "a")], cursor: Some(cursor("evt_3")) };
    assert!(inbox.record(batch).await.is_err());
    assert_eq!(inbox.resume("commerce").await, Ok(Some(resume(position("evt_1")))));
    let ids = ["evt_1", "evt_2", "evt_3"].map(|id| id.parse().unwrap());
    let listed: Vec<_> = ids.into_iter().map(|id| (id, None)).collect();
    assert_eq!(inbox.compare(&listed).await, Ok(vec![Held::Same, Held::Missing, Held::Missing]));
}

#[tokio::test]
async fn an_account_found_empty_has_a_position_too() {
    let fixture = Fixture::new(vec![]).await;
    let empty = Position { event: None, created: 5 };
    let cursor = Some(CursorMove { stream: "commerce".into(), position: empty.clone(), history: None });
    fixture.store.inbox.record(Batch { events: vec![], cursor }).await.unwrap();
    assert_eq!(fixture.store.inbox.resume("commerce").await, Ok(Some(resume(empty))));
}

#[tokio::test]
async fn a_full_queue_is_reported_at_once_and_nothing_of_it_is_stored() {
    let folder = TempDir::new().unwrap();
    let (store, writer) = open(folder.path(), vec![]).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..QUEUE + 10 {
        let (inbox, id) = (store.inbox.clone(), format!("evt_{n}"));
        waiting.spawn(async move { inbox.try_record(event(&id, "a")).await });
    }
    // The writer does not run yet: ten must come back by themselves.
    for _ in 0..10 {
        assert_eq!(waiting.join_next().await.unwrap().unwrap(), Err(RecordError::Overloaded));
    }
    let writer = std::thread::spawn(|| writer.run());
    assert!(waiting.join_all().await.into_iter().all(|recorded| recorded == Ok(Recorded::New)));
    assert_eq!(store.operator.summary().await.unwrap().last_sequence, i64::try_from(QUEUE).unwrap());
    store.close().await;
    writer.join().unwrap();
}

#[tokio::test]
async fn the_probe_commits() {
    let fixture = Fixture::new(vec![]).await;
    fixture.store.operator.probe().await.unwrap();
    let at: i64 = fixture.side_door().query_row("SELECT at FROM heartbeat", [], |row| row.get(0)).unwrap();
    assert_eq!(at, NOW.0);
}
