//! Routes that are replaced while the store is in use.

use super::*;
use crate::domain::delivery::Next;
use crate::store::types::Batch;

async fn record(fixture: &Fixture, id: &str, object: &str) {
    let batch = Batch { events: vec![event(id, object)], cursor: None };
    fixture.store.inbox.record(batch).await.unwrap();
}

async fn ids_due(ledger: &DeliveryLog) -> Vec<String> {
    heads(ledger, NOW).await.iter().map(|job| id(job).to_owned()).collect()
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

#[tokio::test]
async fn an_event_goes_by_the_routes_that_stand_when_it_is_accepted() {
    let mut fixture = Fixture::new(vec![route("a", "*", Ordering::None)]).await;
    let (mut a_arrivals, a) = fixture.outbox();
    record(&fixture, "evt_1", "1").await;
    let mut opened =
        fixture.store.reroute(names(&["a"]), vec![route("b", "*", Ordering::None)]).await.unwrap();
    let (_, b) = fixture.own(opened.remove(0)).await;
    record(&fixture, "evt_2", "2").await;
    // A kept target still has its handoff.
    assert_eq!(id(&arrived(&mut a_arrivals).await), "evt_1");
    assert_eq!(id(&arrived(&mut a_arrivals).await), "evt_2");

    assert!(fixture.store.reroute(names(&["b"]), Vec::new()).await.unwrap().is_empty());
    record(&fixture, "evt_3", "3").await;
    assert_eq!(ids_due(&a).await, ["evt_1", "evt_2"]);
    assert_eq!(ids_due(&b).await, ["evt_2", "evt_3"]);

    let narrower = route("a", "invoice.*", Ordering::None);
    let mut opened = fixture.store.reroute(names(&["b"]), vec![narrower]).await.unwrap();
    let (_, a) = fixture.own(opened.remove(0)).await;
    record(&fixture, "evt_4", "4").await;
    assert_eq!(ids_due(&a).await, ["evt_1", "evt_2"], "what was to be delivered still is");
    fixture.close().await;
}

#[tokio::test]
async fn later_events_are_handed_to_the_successor() {
    let routes = || vec![route("a", "*", Ordering::PerObject)];
    let mut fixture = Fixture::new(routes()).await;
    let (mut before, old) = fixture.outbox();
    record(&fixture, "evt_1800000000000-2", "o").await;
    let job = arrived(&mut before).await;
    let mut opened = fixture.store.reroute(Vec::new(), routes()).await.unwrap();
    let (mut arrivals, new) = fixture.own(opened.remove(0)).await;
    record(&fixture, "evt_1800000000000-3", "o").await;
    assert_eq!(id(&arrived(&mut arrivals).await), "evt_1800000000000-3");
    // Attempts of the predecessor still end.
    old.settle(vec![job.settlement(NOW, Duration::ZERO, Next::Delivered)]).await.unwrap();
    assert_eq!(ids_due(&new).await, ["evt_1800000000000-3"]);
    assert!(before.take_ready().is_none());
    fixture.close().await;
}
