//! The order in which waiting deliveries are sent.

use pepay_bridge::domain::delivery::Ordering;
use tempfile::TempDir;

use crate::delivery::engine::{Engine, event, settings};
use crate::support::raw::{Act, OK, RawTarget};

/// The number of events stored first: more than are kept in memory.
const FIRST: usize = 1500;
/// The number of events stored again and again, for every [`TAKEN`] requests.
const NEXT: usize = 200;
const TAKEN: usize = 100;
/// The number of later events that may be in memory already, and may overtake the first ones.
const IN_MEMORY: usize = 1000;
/// One of so many places is for the deliveries that have waited longest.
const PLACES: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn events_that_keep_coming_do_not_starve_those_that_wait_for_longer() {
    let target = RawTarget::new(|_| Act::Say(OK.to_vec())).await;
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(&folder, &settings(&target.url, Ordering::None, 4)).await;
    let mut events = (0..).map(|n| event(n, n));
    engine.record(events.by_ref().take(FIRST).collect()).await;
    for taken in (TAKEN..=PLACES * FIRST + IN_MEMORY).step_by(TAKEN) {
        engine.record(events.by_ref().take(NEXT).collect()).await;
        target.until("more deliveries", |record| record.requests.len() >= taken).await;
    }
    engine.stop().await;
    let mut seen = target.record().requests;
    seen.truncate(PLACES * FIRST + IN_MEMORY);
    let last_of_the_first = event(FIRST - 1, 0).event.id;
    let early = seen.iter().filter(|seen| *seen.id <= *last_of_the_first.as_str()).count();
    assert_eq!(early, FIRST, "what came first has had its share of the places");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_delivery_waits_for_an_earlier_event_of_its_object_that_arrives_late() {
    // The first delivery has the only place until the bridge stops reading its unfinished answer.
    let unfinished = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".to_vec();
    let target = RawTarget::scripted([Act::SayAndWait(unfinished)]).await;
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(&folder, &settings(&target.url, Ordering::PerObject, 1)).await;
    let [first, early, late] = [event(1, 1), event(2, 2), event(3, 2)];
    let ids = [&first, &early, &late].map(|event| event.event.id.to_string());
    engine.record(vec![first]).await;
    target.until("the first", |record| record.requests.len() == 1).await;
    engine.record(vec![late]).await;
    engine.record(vec![early]).await;
    assert_eq!(target.record().requests.len(), 1, "the place is taken");
    target.until("all", |record| record.unique() == 3).await;
    engine.stop().await;
    let seen: Vec<_> = target.record().requests.into_iter().map(|seen| seen.id).collect();
    assert_eq!(seen, ids);
}
