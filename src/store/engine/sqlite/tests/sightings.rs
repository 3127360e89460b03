//! The cost of a repeated event.

use super::*;

#[tokio::test]
async fn an_event_that_a_source_brings_again_writes_nothing() {
    let fixture = Fixture::new(vec![]).await;
    let by = |source, seconds| {
        let received_at = NOW.plus(Duration::from_secs(seconds));
        fixture.store.inbox.try_record(Received { source, received_at, ..event("evt_1", "a") })
    };
    by(Source::Stream, 0).await.unwrap();
    by(Source::Webhook, 3).await.unwrap();
    // The value changes whenever another connection has changed the file.
    let door = fixture.backend.side_door();
    let version = || door.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).unwrap();
    let before = version();
    for source in [Source::Webhook, Source::Stream, Source::Webhook] {
        by(source, 9).await.unwrap();
    }
    assert_eq!(version(), before);
    by(Source::Reconcile, 60).await.unwrap();
    assert_ne!(version(), before, "the test sees a write");
}
