//! Another event under a stored id is noticed, stored and never delivered.

use super::*;
use crate::store::types::{Batch, Held, Recorded};
use crate::store::view::EventDetail;

/// Returns an event `evt_1` with this status and this number of pending webhooks.
fn said(source: Source, status: &str, pending: u32) -> Received {
    let body = format!(
        r#"{{"id":"evt_1","pending_webhooks":{pending},"type":"invoice.updated","created":1734780000,
           "data":{{"object":{{"id":"i","status":"{status}"}}}}}}"#
    );
    let event = envelope::parse(body.into(), NOW).unwrap();
    Received { event, source, origin: source.as_str().into(), environment: None, received_at: NOW }
}

async fn record(fixture: &Fixture, received: Received) -> Recorded {
    fixture.store.inbox.try_record(received).await.unwrap()
}

async fn shown(fixture: &Fixture) -> EventDetail {
    fixture.store.operator.event(&"evt_1".parse().unwrap()).await.unwrap().unwrap()
}

#[tokio::test]
async fn another_event_under_a_known_id_is_kept_by_whichever_source_it_comes() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::PerObject)]).await;
    assert_eq!(record(&fixture, said(Source::Webhook, "unpaid", 1)).await, Recorded::New);
    for source in Source::ALL {
        assert_eq!(record(&fixture, said(source, "unpaid", 0)).await, Recorded::Duplicate, "{source:?}");
        assert_eq!(record(&fixture, said(source, "paid", 0)).await, Recorded::Conflict, "{source:?}");
        assert_eq!(record(&fixture, said(source, "paid", 7)).await, Recorded::Conflict, "{source:?}");
    }
    let conflicts = shown(&fixture).await.conflicts;
    let mut sources: Vec<_> = conflicts.iter().map(|conflict| conflict.source.as_str()).collect();
    sources.sort_unstable();
    assert_eq!(sources, ["backfill", "reconcile", "stream", "webhook"], "once for each source");
    let bodies: Vec<_> = conflicts.iter().filter_map(|conflict| conflict.body.as_deref()).collect();
    assert_eq!(bodies, [std::str::from_utf8(&said(Source::Stream, "paid", 0).event.body).unwrap()]);
    let (mut arrivals, _ledger) = fixture.outbox();
    assert_eq!(arrived(&mut arrivals).await.event.event.body, said(Source::Webhook, "unpaid", 1).event.body);
    assert_eq!(fixture.backend.number("SELECT count(*) FROM delivery"), 1);
}

#[tokio::test]
async fn a_conflict_within_one_batch_is_noticed() {
    let fixture = Fixture::new(vec![]).await;
    let events = vec![said(Source::Stream, "unpaid", 0), said(Source::Stream, "paid", 0)];
    let recorded = fixture.store.inbox.record(Batch { events, cursor: None }).await.unwrap();
    assert_eq!(recorded, [Recorded::New, Recorded::Conflict]);
}

#[tokio::test]
async fn the_number_and_size_of_kept_conflicts_are_bounded() {
    let fixture = Fixture::new(vec![]).await;
    record(&fixture, said(Source::Webhook, "unpaid", 0)).await;
    let large = "x".repeat(300 * 1024);
    assert_eq!(record(&fixture, said(Source::Webhook, &large, 0)).await, Recorded::Conflict);
    for n in 0..20 {
        assert_eq!(record(&fixture, said(Source::Webhook, &n.to_string(), 0)).await, Recorded::Conflict);
    }
    let conflicts = shown(&fixture).await.conflicts;
    assert_eq!(conflicts.len(), 8);
    let without: Vec<_> = conflicts.iter().filter(|conflict| conflict.body.is_none()).collect();
    assert!(without.len() == 1 && without[0].size > 300 * 1024, "{without:?}");
}

#[tokio::test]
async fn a_conflict_is_detected_after_the_body_was_removed_but_not_without_a_stored_digest() {
    let fixture = Fixture::new(vec![]).await;
    record(&fixture, said(Source::Webhook, "unpaid", 0)).await;
    fixture.backend.execute("UPDATE event SET body = NULL");
    let asked = |status: &str| {
        let Received { event, .. } = said(Source::Reconcile, status, 0);
        (event.id, event.digest)
    };
    let unknown = ("evt_2".parse().unwrap(), asked("paid").1);
    let compared = fixture.store.inbox.compare(&[asked("unpaid"), unknown, asked("paid")]).await.unwrap();
    assert_eq!(compared, [Held::Same, Held::Missing, Held::Different]);
    assert_eq!(record(&fixture, said(Source::Reconcile, "paid", 0)).await, Recorded::Conflict);
    // The row is as a version without digests wrote it.
    fixture.backend.execute("UPDATE event SET digest = NULL");
    assert_eq!(fixture.store.inbox.compare(&[asked("paid")]).await.unwrap(), [Held::Same]);
    assert_eq!(record(&fixture, said(Source::Reconcile, "other", 0)).await, Recorded::Duplicate);
}
