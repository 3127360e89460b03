//! The sightings of events by each source.

use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::store::types::Batch;
use crate::store::view::{Races, SourceCount};

fn by(source: Source, seconds: u64, id: &str) -> Received {
    let received_at = NOW.plus(Duration::from_secs(seconds));
    Received { source, origin: source.as_str().into(), received_at, ..event(id, "a") }
}

async fn record(fixture: &Fixture, received: Received) {
    fixture.store.inbox.try_record(received).await.unwrap();
    // The committer handles commands in order: once it has answered this one, it has counted the
    // events.
    fixture.store.operator.probe().await.unwrap();
}

/// Returns a store whose time is this many seconds after [`NOW`].
async fn later(seconds: u64) -> Fixture {
    let clock = Clock::from_fn(move || NOW.plus(Duration::from_secs(seconds)));
    Fixture::timed(UnderTest::new().await, vec![], clock).await
}

#[tokio::test]
async fn the_first_sighting_by_each_source_is_kept() {
    let fixture = Fixture::new(vec![]).await;
    record(&fixture, by(Source::Stream, 0, "evt_1")).await;
    record(&fixture, by(Source::Webhook, 3, "evt_1")).await;
    for source in [Source::Webhook, Source::Stream, Source::Webhook] {
        fixture.store.inbox.try_record(by(source, 9, "evt_1")).await.unwrap();
    }
    record(&fixture, by(Source::Reconcile, 60, "evt_1")).await;
    let shown = fixture.store.operator.event(&"evt_1".parse().unwrap()).await.unwrap().unwrap();
    let sightings: Vec<_> =
        shown.sightings.iter().map(|one| (one.source, &*one.origin, one.lag_ms)).collect();
    let expected = [
        (Source::Stream, "stream", 0),
        (Source::Webhook, "webhook", 3000),
        (Source::Reconcile, "reconcile", 60_000),
    ];
    assert_eq!(sightings, expected);

    let tally = fixture.store.operator.tally();
    let webhook = tally.sources.iter().find(|tally| tally.source == Source::Webhook).unwrap();
    assert_eq!((webhook.received, webhook.unique, webhook.duplicate), (3, 0, 3));
    assert_eq!(webhook.last_event_at, Some(NOW.plus(Duration::from_secs(9))));
}

#[tokio::test]
async fn races_give_the_first_source_its_lead_and_the_events_of_one_source_alone() {
    let fixture = later(301).await;
    for (id, stream, webhook) in [("evt_1", 0, 2), ("evt_2", 0, 4), ("evt_3", 9, 6)] {
        let (first, second) = (by(Source::Stream, stream, id), by(Source::Webhook, webhook, id));
        record(&fixture, first).await;
        record(&fixture, second).await;
    }
    record(&fixture, by(Source::Webhook, 0, "evt_4")).await;
    record(&fixture, by(Source::Webhook, 200, "evt_5")).await;
    record(&fixture, by(Source::Backfill, 0, "evt_6")).await;
    let races = fixture.store.operator.races().await.unwrap();
    let expected = Races {
        compared: 3,
        first: vec![
            SourceCount { source: Source::Stream, count: 2 },
            SourceCount { source: Source::Webhook, count: 1 },
        ],
        lag_ms_p50: 3000,
        lag_ms_p99: 4000,
        only: vec![SourceCount { source: Source::Webhook, count: 1 }],
    };
    assert_eq!(races, expected);
}

#[tokio::test]
async fn a_source_is_quiet_once_the_other_alone_has_brought_many_events_and_no_longer_than_that() {
    let fixture = later(400).await;
    let mut comparison = fixture.store.comparison();
    for n in 0..19 {
        record(&fixture, by(Source::Stream, n, &format!("evt_{n}"))).await;
    }
    comparison.look(true, true).await.unwrap();
    assert_eq!(fixture.store.operator.quiet(), []);
    record(&fixture, by(Source::Stream, 20, "evt_20")).await;
    record(&fixture, by(Source::Stream, 390, "evt_21")).await;
    comparison.look(true, true).await.unwrap();
    let quiet = fixture.store.operator.quiet();
    assert_eq!(quiet.len(), 1);
    assert_eq!((quiet[0].source, quiet[0].missed, quiet[0].since), (Source::Webhook, 20, NOW));
    // The quiet source brings an event again.
    record(&fixture, by(Source::Webhook, 395, "evt_21")).await;
    assert_eq!(fixture.store.operator.quiet(), []);
}

#[tokio::test]
async fn many_events_with_a_time_to_come_do_not_end_the_comparison() {
    let fixture = later(400).await;
    let mut comparison = fixture.store.comparison();
    let ahead = (0..600).map(|n| by(Source::Backfill, 100_000, &format!("evt_ahead_{n}")));
    let alone = (0..20).map(|n| by(Source::Stream, n, &format!("evt_{n}")));
    let events = ahead.chain(alone).collect();
    fixture.store.inbox.record(Batch { events, cursor: None }).await.unwrap();
    comparison.look(true, true).await.unwrap();
    let quiet = fixture.store.operator.quiet();
    assert_eq!(quiet.iter().map(|one| (one.source, one.missed)).collect::<Vec<_>>(), [(Source::Webhook, 20)]);
}

#[tokio::test]
async fn nothing_is_compared_while_there_is_only_one_source() {
    let fixture = later(400).await;
    let mut comparison = fixture.store.comparison();
    for n in 0..30 {
        record(&fixture, by(Source::Stream, n, &format!("evt_{n}"))).await;
    }
    comparison.look(false, true).await.unwrap();
    comparison.look(true, true).await.unwrap();
    assert_eq!(fixture.store.operator.quiet(), []);
}

#[tokio::test]
async fn a_replica_that_does_not_keep_house_knows_a_quiet_source_and_counts_nothing() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _installed = metrics::set_default_local_recorder(&recorder);
    let fixture = later(400).await;
    let mut comparison = fixture.store.comparison();
    for n in 0..20 {
        record(&fixture, by(Source::Stream, n, &format!("evt_{n}"))).await;
    }
    let counted = |count: u32| {
        let line = format!("pepay_bridge_events_single_source_total{{source=\"stream\"}} {count}\n");
        recorder.handle().render().contains(&line)
    };
    comparison.look(true, false).await.unwrap();
    assert_eq!(fixture.store.operator.quiet().len(), 1);
    assert!(counted(0));
    // It takes over: the events that were looked at are those of the replica before it.
    record(&fixture, by(Source::Stream, 21, "evt_21")).await;
    comparison.look(true, true).await.unwrap();
    assert!(counted(1));
}
