//! The times of deliveries, and the deliveries that count in them.

use super::*;
use crate::domain::delivery::Next;
use crate::domain::operator::Action;

const BEFORE: UnixMillis = UnixMillis(NOW.0 - 1000);

/// Writes the outcome of the next attempt of `job`, which began at `at`.
async fn settle(ledger: &DeliveryLog, job: &Job, at: UnixMillis, next: Next) {
    ledger.settle(vec![job.settlement(at, Duration::ZERO, next)]).await.unwrap();
}

#[tokio::test]
async fn a_delivery_that_an_operator_has_sent_again_is_marked_and_counts_in_no_latency() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let operator = fixture.store.operator.clone();
    let (mut arrivals, ledger) = fixture.outbox();
    let mut jobs = Vec::new();
    for id in ["evt_once", "evt_retried", "evt_dead", "evt_held", "evt_replayed"] {
        fixture.store.inbox.try_record(event(id, id)).await.unwrap();
        jobs.push(arrived(&mut arrivals).await);
    }
    assert!(jobs.iter().all(|job| !job.renewed));
    let [once, retried, dead, held, replayed] = &jobs[..] else { unreachable!("five were recorded") };
    settle(&ledger, once, BEFORE, Next::Delivered).await;
    settle(&ledger, replayed, BEFORE, Next::Delivered).await;
    settle(&ledger, retried, BEFORE, Next::Retrying { due_at: NOW }).await;
    settle(&ledger, dead, BEFORE, Next::Dead).await;
    settle(&ledger, held, BEFORE, Next::Held).await;
    operator.act(Action::Retry, "orders", &"evt_dead".parse().unwrap()).await.unwrap();
    operator.act(Action::Release, "orders", &"evt_held".parse().unwrap()).await.unwrap();
    operator.replay("orders", &"evt_replayed".parse().unwrap()).await.unwrap();
    let again = heads(&ledger, NOW).await;
    let marked: Vec<_> = again.iter().map(|job| (id(job), job.renewed || job.replays > 0)).collect();
    let expected = [("evt_retried", false), ("evt_dead", true), ("evt_held", true), ("evt_replayed", true)];
    assert_eq!(marked.len(), 4, "{marked:?}");
    assert!(expected.iter().all(|one| marked.contains(one)), "{marked:?}");
    for job in &again {
        settle(&ledger, job, NOW, Next::Delivered).await;
    }
    let latencies = operator.latencies().await.unwrap();
    assert_eq!((latencies.len(), latencies[0].count), (1, 2), "evt_once and evt_retried: {latencies:?}");
    assert_eq!(latencies[0].since, NOW);
}
