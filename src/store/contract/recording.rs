//! The recording of events and cursors.

use super::*;
use crate::domain::operator::{Filter, Page};
use crate::store::QUEUE;
use crate::store::error::RecordError;
use crate::store::types::{Batch, CursorMove, Held, Position, Recorded, Resume, Term};

fn resume(position: Position) -> Resume {
    Resume { position, history: None }
}

fn position(id: &str) -> Position {
    Position { event: Some(id.parse().unwrap()), created: 1_734_780_000 }
}

fn cursor(id: &str, term: Term) -> CursorMove {
    CursorMove { stream: "commerce".into(), position: position(id), history: None, term }
}

/// Makes the store refuse the event `id` from now on, and only that one.
fn refuse(backend: &UnderTest, id: &str) {
    backend.refuse("INSERT ON event", &format!("new.id = '{id}'"));
}

#[tokio::test]
async fn an_id_is_stored_once_from_all_sources_and_its_bytes_are_kept() {
    let fixture = Fixture::new(vec![]).await;
    let inbox = &fixture.store.inbox;
    let first = event("evt_1", "a");
    let body = first.event.body.clone();
    assert_eq!(inbox.try_record(first).await, Ok(Recorded::New));
    let again = Received { source: Source::Stream, ..event("evt_1", "other") };
    assert_eq!(inbox.try_record(again).await, Ok(Recorded::Conflict));
    assert_eq!(fixture.store.operator.body(&"evt_1".parse().unwrap()).await, Ok(Some(Some(body))));
    assert_eq!(fixture.backend.texts("SELECT source FROM event"), ["webhook"]);
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
    refuse(&fixture.backend, "evt_bad");
    for id in ["evt_1", "evt_1", "evt_bad", "evt_2", "evt_bad", "evt_1", "evt_3"] {
        // The refusals are intended.
        let _ = fixture.store.inbox.try_record(event(id, "a")).await;
    }
    let fixture = fixture.restart(vec![]).await;
    fixture.store.inbox.try_record(event("evt_4", "a")).await.unwrap();
    let listed = fixture.store.operator.events(&Filter::default(), &Page::default()).await.unwrap().items;
    let rows: Vec<_> = listed.iter().map(|one| (one.event.sequence, &*one.event.id)).collect();
    assert_eq!(rows, [(4, "evt_4"), (3, "evt_3"), (2, "evt_2"), (1, "evt_1")]);
    let summary = fixture.store.operator.summary().await.unwrap();
    assert_eq!((summary.first_sequence, summary.last_sequence), (1, 4));
}

#[tokio::test]
async fn one_refused_command_does_not_fail_those_it_was_grouped_with() {
    let backend = UnderTest::new().await;
    let (mut store, writer) = backend.open(vec![], Clock::from_fn(|| NOW)).await;
    // They are queued before the committer runs, so that they are one group.
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (inbox, id) = (store.inbox.clone(), format!("evt_{n}"));
        waiting.spawn(async move { (n, inbox.try_record(event(&id, "a")).await) });
    }
    tokio::task::yield_now().await;
    refuse(&backend, "evt_7");
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
    let mut fixture = Fixture::new(vec![]).await;
    let term = fixture.read_stream("commerce").await;
    let inbox = &fixture.store.inbox;
    assert_eq!(inbox.resume("commerce").await, Ok(None));
    let cursor = |id| Some(cursor(id, term));
    inbox.record(Batch { events: vec![event("evt_1", "a")], cursor: cursor("evt_1") }).await.unwrap();
    assert_eq!(inbox.resume("commerce").await, Ok(Some(resume(position("evt_1")))));

    refuse(&fixture.backend, "evt_3");
    let batch = Batch { events: vec![event("evt_2", "a"), event("evt_3", "a")], cursor: cursor("evt_3") };
    assert!(inbox.record(batch).await.is_err());
    assert_eq!(inbox.resume("commerce").await, Ok(Some(resume(position("evt_1")))));
    let ids = ["evt_1", "evt_2", "evt_3"].map(|id| id.parse().unwrap());
    let listed: Vec<_> = ids.into_iter().map(|id| (id, None)).collect();
    assert_eq!(inbox.compare(&listed).await, Ok(vec![Held::Same, Held::Missing, Held::Missing]));
}

#[tokio::test]
async fn a_cursor_that_moves_keeps_the_record_of_sweeps_until_it_gets_another_one() {
    let mut fixture = Fixture::new(vec![]).await;
    let term = fixture.read_stream("commerce").await;
    let inbox = &fixture.store.inbox;
    for (id, given, kept) in [
        ("evt_1", None, None),
        ("evt_2", Some("first"), Some("first")),
        ("evt_3", None, Some("first")),
        ("evt_4", Some("second"), Some("second")),
    ] {
        let cursor = CursorMove { history: given.map(str::to_owned), ..cursor(id, term) };
        inbox.record(Batch { events: vec![], cursor: Some(cursor) }).await.unwrap();
        let resume = Resume { position: position(id), history: kept.map(str::to_owned) };
        assert_eq!(inbox.resume("commerce").await, Ok(Some(resume)), "{id}");
    }
}

#[tokio::test]
async fn more_events_can_be_compared_than_a_statement_has_parameters() {
    let fixture = Fixture::new(vec![]).await;
    let batch = Batch { events: vec![event("evt_7", "a"), event("evt_69999", "a")], cursor: None };
    fixture.store.inbox.record(batch).await.unwrap();
    let listed: Vec<_> = (0..70_000).map(|n| (format!("evt_{n}").parse().unwrap(), None)).collect();
    let held = fixture.store.inbox.compare(&listed).await.unwrap();
    assert_eq!(held.len(), 70_000);
    let found: Vec<_> = held.iter().enumerate().filter(|(_, held)| **held != Held::Missing).collect();
    assert_eq!(found, [(7, &Held::Same), (69_999, &Held::Same)]);
}

#[tokio::test]
async fn an_account_found_empty_has_a_position_too() {
    let mut fixture = Fixture::new(vec![]).await;
    let term = fixture.read_stream("commerce").await;
    let empty = Position { event: None, created: 5 };
    let cursor = Some(CursorMove { stream: "commerce".into(), position: empty.clone(), history: None, term });
    fixture.store.inbox.record(Batch { events: vec![], cursor }).await.unwrap();
    assert_eq!(fixture.store.inbox.resume("commerce").await, Ok(Some(resume(empty))));
}

#[tokio::test]
async fn a_full_queue_is_reported_at_once_and_nothing_of_it_is_stored() {
    let backend = UnderTest::new().await;
    let (mut store, writer) = backend.open(vec![], Clock::from_fn(|| NOW)).await;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..QUEUE + 10 {
        let (inbox, id) = (store.inbox.clone(), format!("evt_{n}"));
        waiting.spawn(async move { inbox.try_record(event(&id, "a")).await });
    }
    // The committer does not run yet: ten calls must return without it.
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
    assert_eq!(fixture.backend.numbers("SELECT at FROM heartbeat"), [NOW.0]);
}

#[tokio::test]
async fn a_closed_store_refuses_and_says_why() {
    let fixture = Fixture::new(vec![]).await;
    let (inbox, operator) = (fixture.store.inbox.clone(), fixture.store.operator.clone());
    fixture.close().await;
    let error = inbox.try_record(event("evt_1", "a")).await.unwrap_err();
    assert_eq!(error.to_string(), "the store is unavailable: it has stopped");
    assert!(operator.probe().await.is_err());
}
