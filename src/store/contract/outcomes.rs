//! The deliveries to send, and the outcomes of attempts.

use super::*;
use crate::domain::delivery::{Next, OnUncertain};
use crate::store::committer::Group;
use crate::store::engine::EngineError;
use crate::store::error::RecordError;
use crate::store::types::{
    AttemptStarted, Batch, FoundRest, InterruptedAttempt, Lookup, Scan, Scanned, Search, Settlement,
};
use crate::store::view::Backlog;

fn per_object() -> Vec<Route> {
    vec![route("orders", "*", Ordering::PerObject)]
}

fn settlement(job: &Job, next: Next) -> Settlement {
    job.settlement(NOW, Duration::from_millis(3), next)
}

async fn due(ledger: &DeliveryLog, now: UnixMillis) -> Vec<Job> {
    heads(ledger, now).await
}

async fn due_ids(ledger: &DeliveryLog, now: UnixMillis) -> Vec<String> {
    due(ledger, now).await.iter().map(|job| id(job).to_owned()).collect()
}

fn later(seconds: u64) -> UnixMillis {
    NOW.plus(Duration::from_secs(seconds))
}

#[tokio::test]
async fn an_event_becomes_one_delivery_for_each_target_it_matches() {
    let routes = vec![
        route("orders", "commerce.order.*", Ordering::PerObject),
        route("all", "*", Ordering::None),
        route("invoices", "invoice.*", Ordering::PerObject),
    ];
    let mut fixture = Fixture::new(routes).await;
    let inbox = fixture.store.inbox.clone();
    inbox.try_record(event("evt_1", "a")).await.unwrap();
    inbox.try_record(event("evt_1", "a")).await.unwrap();
    let (mut orders, _) = fixture.outbox();
    let (mut all, _) = fixture.outbox();
    let (_, invoices) = fixture.outbox();
    assert_eq!(id(&arrived(&mut orders).await), "evt_1");
    assert_eq!(id(&arrived(&mut all).await), "evt_1");
    assert!(orders.take_ready().is_none() && all.take_ready().is_none());
    assert!(due(&invoices, later(60)).await.is_empty());
}

#[tokio::test]
async fn a_lane_is_read_in_pepays_order_up_to_the_first_that_has_to_wait() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for id in ["evt_1000-1", "evt_3000-1", "evt_2000-10", "evt_2000-9", "evt_500-1"] {
        fixture.store.inbox.try_record(event(id, "a")).await.unwrap();
    }
    let first = arrived(&mut arrivals).await;
    let lane = first.lane.unwrap();
    let read = |after| {
        let search =
            Search { lookups: vec![Lookup { lane, after }], scan: None, retries: 0, ..everything(NOW) };
        let ledger = ledger.clone();
        async move {
            let found = ledger.search(search).await.unwrap().lanes.remove(0);
            (found.rows.iter().map(|job| id(job).to_owned()).collect::<Vec<_>>(), found.rest)
        }
    };
    let all = ["evt_500-1", "evt_1000-1", "evt_2000-9", "evt_2000-10", "evt_3000-1"].map(String::from);
    assert_eq!(read(None).await, (all.to_vec(), FoundRest::Nothing));
    assert_eq!(read(Some((first.rank, first.sequence))).await, (all[2..].to_vec(), FoundRest::Nothing));

    ledger.settle(vec![settlement(&first, Next::Retrying { due_at: later(5) })]).await.unwrap();
    let blocked = FoundRest::Blocked((first.rank, first.sequence));
    assert_eq!(read(None).await, (all[..1].to_vec(), blocked));
    assert_eq!(due_ids(&ledger, later(5)).await, ["evt_500-1"], "what came before it goes first");

    // A held delivery comes before all others of its lane, late ones too.
    let again = Settlement { number: 2, ..settlement(&first, Next::Held) };
    ledger.settle(vec![again]).await.unwrap();
    assert_eq!(read(None).await, (Vec::new(), FoundRest::Blocked((0, first.sequence))));
}

#[tokio::test]
async fn a_retry_is_found_when_it_is_due() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for (id, object) in [("evt_1", "a"), ("evt_2", "b")] {
        fixture.store.inbox.try_record(event(id, object)).await.unwrap();
    }
    let (first, other) = (arrived(&mut arrivals).await, arrived(&mut arrivals).await);
    assert_eq!((id(&first), id(&other)), ("evt_1", "evt_2"));
    ledger.settle(vec![settlement(&first, Next::Retrying { due_at: later(5) })]).await.unwrap();
    assert_eq!(due_ids(&ledger, NOW).await, ["evt_2"]);
    let found = ledger.search(everything(NOW)).await.unwrap();
    assert_eq!((found.more_retries, found.next_due), (false, Some(later(5))));
    ledger.settle(vec![settlement(&other, Next::Retrying { due_at: later(7) })]).await.unwrap();
    let found = ledger.search(everything(NOW)).await.unwrap();
    assert_eq!((found.next_due, found.last_due), (Some(later(5)), Some(later(7))));
    let found = ledger.search(everything(later(7))).await.unwrap();
    assert_eq!((found.next_due, found.last_due), (None, None));
    let again = due(&ledger, later(5)).await.remove(0);
    assert_eq!((id(&again), again.attempts, again.first_attempt_at), ("evt_1", 1, Some(NOW)));
}

#[tokio::test]
async fn outcomes_are_written_as_one_or_not_at_all() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for (id, object) in [("evt_1", "a"), ("evt_2", "b"), ("evt_3", "a")] {
        fixture.store.inbox.try_record(event(id, object)).await.unwrap();
    }
    let (first, second) = (arrived(&mut arrivals).await, arrived(&mut arrivals).await);
    let again = Next::Retrying { due_at: later(5) };
    let both = vec![settlement(&first, Next::Delivered), settlement(&second, again)];
    let of_second = format!("new.sequence = {}", second.sequence);
    fixture.backend.refuse("INSERT ON attempt", &of_second);
    assert!(ledger.settle(both.clone()).await.is_err(), "the second cannot be logged");
    assert_eq!(due_ids(&ledger, NOW).await, ["evt_1", "evt_2"], "nothing of it was written");

    fixture.backend.accept("INSERT ON attempt");
    ledger.settle(both).await.unwrap();
    assert_eq!(due_ids(&ledger, NOW).await, ["evt_3"]);
}

#[tokio::test]
async fn a_settled_delivery_never_changes_again() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let job = arrived(&mut arrivals).await;
    ledger.settle(vec![settlement(&job, Next::Delivered)]).await.unwrap();
    ledger.settle(vec![settlement(&job, Next::Retrying { due_at: NOW })]).await.unwrap();
    assert!(due(&ledger, later(60)).await.is_empty());
    assert_eq!(fixture.backend.texts("SELECT state FROM delivery"), ["delivered"]);
    let logged = fixture.backend.number("SELECT count(*) FROM attempt");
    assert_eq!(logged, 0, "the row itself tells of a first success");
}

#[tokio::test]
async fn everything_undelivered_is_found_again_after_a_restart() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for n in 1..=3 {
        fixture.store.inbox.try_record(event(&format!("evt_{n}"), &format!("{n}"))).await.unwrap();
    }
    let (done, failed) = (arrived(&mut arrivals).await, arrived(&mut arrivals).await);
    ledger.settle(vec![settlement(&done, Next::Delivered)]).await.unwrap();
    ledger.settle(vec![settlement(&failed, Next::Retrying { due_at: later(9) })]).await.unwrap();

    let mut fixture = fixture.restart(per_object()).await;
    let (_, ledger) = fixture.outbox();
    let found = due(&ledger, NOW).await;
    assert_eq!(found.iter().map(id).collect::<Vec<_>>(), ["evt_3"]);
    assert_eq!(found[0].event.event.body, event("evt_3", "3").event.body);
    let found = ledger.search(everything(NOW)).await.unwrap();
    assert_eq!((found.more_retries, found.next_due), (false, Some(later(9))));
}

#[tokio::test]
async fn a_search_skips_known_deliveries_and_says_when_there_are_more() {
    for ordering in [Ordering::None, Ordering::PerObject] {
        let mut fixture = Fixture::new(vec![route("orders", "*", ordering)]).await;
        let (mut arrivals, ledger) = fixture.outbox();
        let mut jobs = Vec::new();
        for n in 1..=6 {
            fixture.store.inbox.try_record(event(&format!("evt_{n}"), &n.to_string())).await.unwrap();
            jobs.push(arrived(&mut arrivals).await);
        }
        let known = [&jobs[0], &jobs[2]];
        let first = (i64::MIN, i64::MIN);
        let search = Search {
            lanes: known.iter().filter_map(|job| Some((job.lane?, first))).collect(),
            singles: known.iter().map(|job| job.sequence).collect(),
            scan: Some(Scan { after: 0, limit: 2 }),
            ..everything(NOW)
        };
        let found = ledger.search(search.clone()).await.unwrap();
        let of_lanes = found.lanes.iter().flat_map(|lane| &lane.rows);
        let sequences: Vec<_> = found.singles.iter().chain(of_lanes).map(|job| job.sequence).collect();
        assert_eq!(sequences, [2, 4]);
        assert_eq!(found.scanned, Some(Scanned { to: 4, more: true }));
        let rest = Search { scan: Some(Scan { after: 4, limit: 2 }), ..search };
        assert_eq!(ledger.search(rest).await.unwrap().scanned, Some(Scanned { to: 6, more: false }));
    }
}

#[tokio::test]
async fn every_lane_with_an_open_delivery_is_listed_if_there_are_not_too_many() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let mut heads = Vec::new();
    for (id, object) in [("evt_2000-1", "a"), ("evt_2000-2", "b"), ("evt_1000-1", "a"), ("evt_2000-3", "c")] {
        fixture.store.inbox.try_record(event(id, object)).await.unwrap();
        let job = arrived(&mut arrivals).await;
        heads.push((job.lane.unwrap(), (job.rank, job.sequence)));
    }
    let census = |limit| Search { census: Some(limit), ..everything(NOW) };
    heads.remove(0);
    heads.sort_unstable();
    assert_eq!(ledger.search(census(3)).await.unwrap().census, Some(heads));
    assert_eq!(ledger.search(census(2)).await.unwrap().census, None);
    let unfinished = Search { scan: Some(Scan { after: 0, limit: 1 }), ..census(3) };
    assert_eq!(ledger.search(unfinished).await.unwrap().census, None, "the scan goes on");
}

#[tokio::test]
async fn retries_from_both_ends_of_a_crowd_are_found_and_known_ones_hide_none() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for n in 1..=20 {
        fixture.store.inbox.try_record(event(&format!("evt_{n}"), "a")).await.unwrap();
        let job = arrived(&mut arrivals).await;
        let due_at = UnixMillis(NOW.0 - 30 + job.sequence);
        ledger.settle(vec![settlement(&job, Next::Retrying { due_at })]).await.unwrap();
    }
    let unknown: [(&[i64], &[i64], bool); 5] = [
        (&[1, 2, 3, 18, 19, 20], &[1, 20, 2], true),
        (&[9, 10, 11, 12], &[9, 12, 10], true),
        (&[10, 11, 12], &[12, 10, 11], true),
        (&[10, 11], &[10, 11], false),
        (&[], &[], false),
    ];
    for (unknown, expected, more) in unknown {
        let singles = (1..=20).filter(|sequence| !unknown.contains(sequence)).collect();
        let search = Search { retries: 3, scan: None, singles, ..everything(NOW) };
        let found = ledger.search(search).await.unwrap();
        assert_eq!(found.singles.iter().map(|job| job.sequence).collect::<Vec<_>>(), expected);
        assert_eq!(found.more_retries, more, "{unknown:?}");
    }
}

#[tokio::test]
async fn a_delivery_that_does_not_fit_in_memory_is_counted_or_handed_over_without_its_event() {
    let mut fixture = Fixture::new(vec![route("orders", "*", Ordering::None)]).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let large = "x".repeat(1 << 20);
    let of = |n: usize| event(&format!("evt_{n}"), if n < 20 { &large } else { "a" });
    fixture.store.inbox.record(Batch { events: (0..6000).map(of).collect(), cursor: None }).await.unwrap();
    let mut taken = Vec::new();
    while let Some(arrived) = arrivals.take_ready() {
        taken.push(arrived.job.is_some());
    }
    let whole = taken.iter().filter(|is_whole| **is_whole).count();
    assert!((2..5).contains(&taken.iter().take(20).filter(|is_whole| **is_whole).count()));
    assert_eq!(u64::try_from(taken.len()).unwrap() + arrivals.missed(), 6000);
    assert!(arrivals.missed() > 0 && whole < taken.len());
    assert!(matches!(arrivals.next().await, Arrival::Missed));
    let rest = Search { scan: Some(Scan { after: 5000, limit: 5000 }), ..everything(NOW) };
    assert_eq!(ledger.search(rest).await.unwrap().singles.len(), 1000);
}

#[tokio::test]
async fn an_attempt_cut_off_by_a_crash_is_held_or_repeated_as_configured() {
    for (on_uncertain, state, due_again) in
        [(OnUncertain::Hold, "held", 0), (OnUncertain::Retry, "retrying", 1)]
    {
        let mut fixture = Fixture::new(per_object()).await;
        let (mut arrivals, ledger) = fixture.outbox();
        fixture.store.inbox.try_record(event("evt_2000-1", "a")).await.unwrap();
        fixture.store.inbox.try_record(event("evt_3000-1", "a")).await.unwrap();
        let job = arrived(&mut arrivals).await;
        ledger.begin(AttemptStarted { sequence: job.sequence, number: 1, at: NOW }).await.unwrap();

        let mut fixture = fixture.restart(per_object()).await;
        let (_, ledger) = fixture.outbox();
        let cut_off = InterruptedAttempt { event_id: "evt_2000-1".to_owned(), number: 1 };
        assert_eq!(ledger.recover(on_uncertain).await, Ok(vec![cut_off]));
        assert_eq!(ledger.recover(on_uncertain).await, Ok(Vec::new()));
        let found = due(&ledger, NOW).await;
        assert_eq!(found.len(), due_again);
        assert!(found.iter().all(|job| job.attempts == 1 && id(job) == "evt_2000-1"));
        assert_eq!(fixture.backend.texts("SELECT state FROM delivery WHERE sequence = 1"), [state]);
        let logged = fixture.backend.texts("SELECT number || ' ' || error FROM attempt");
        assert_eq!(logged, ["1 the process ended while this attempt was on the wire"]);
        // A held delivery comes before an earlier event of its object that arrives late.
        fixture.store.inbox.try_record(event("evt_1000-1", "a")).await.unwrap();
        let late: &[&str] = if on_uncertain == OnUncertain::Hold { &[] } else { &["evt_1000-1"] };
        assert_eq!(due_ids(&ledger, NOW).await, late);
    }
}

#[tokio::test]
async fn the_newest_hundred_attempts_of_each_delivery_are_kept() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    let again = Next::Retrying { due_at: NOW };
    for (id, attempts) in [("evt_1", 1), ("evt_2", 103)] {
        fixture.store.inbox.try_record(event(id, id)).await.unwrap();
        let job = arrived(&mut arrivals).await;
        for number in 1..=attempts {
            ledger.settle(vec![Settlement { number, ..settlement(&job, again) }]).await.unwrap();
        }
    }
    let kept = |sequence: i64| {
        let query =
            format!("SELECT CAST(number AS bigint) FROM attempt WHERE sequence = {sequence} ORDER BY number");
        fixture.backend.numbers(&query)
    };
    assert_eq!((kept(1), kept(2)), (vec![1], (4..=103).collect()));
}

#[tokio::test]
async fn an_attempt_that_is_not_due_cannot_begin() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    fixture.store.inbox.try_record(event("evt_1", "a")).await.unwrap();
    let job = arrived(&mut arrivals).await;
    let begun = AttemptStarted { sequence: job.sequence, number: 1, at: NOW };
    ledger.begin(begun).await.unwrap();
    assert!(ledger.begin(begun).await.is_err());
    ledger.settle(vec![settlement(&job, Next::Delivered)]).await.unwrap();
    assert!(ledger.begin(begun).await.is_err());
}

#[tokio::test]
async fn the_backlog_counts_open_held_and_dead_deliveries() {
    let mut fixture = Fixture::new(per_object()).await;
    let (mut arrivals, ledger) = fixture.outbox();
    for n in 1..=6 {
        let received_at = NOW.plus(Duration::from_secs(n));
        let event = Received { received_at, ..event(&format!("evt_{n}"), &n.to_string()) };
        fixture.store.inbox.try_record(event).await.unwrap();
    }
    let outcomes = [Next::Delivered, Next::Held, Next::Dead, Next::Retrying { due_at: later(60) }];
    for next in outcomes {
        let job = arrived(&mut arrivals).await;
        ledger.settle(vec![settlement(&job, next)]).await.unwrap();
    }
    let backlog = fixture.store.operator.backlogs().await.unwrap().remove(0);
    let expected = Backlog { target: "orders".into(), open: 3, oldest: Some(later(4)), held: 1, dead: 1 };
    assert_eq!(backlog, expected);
}

#[tokio::test]
async fn outcomes_that_wait_for_the_same_commit_are_stored_and_refused_each_by_itself() {
    let mut fixture =
        Fixture::new(vec![route("orders", "*", Ordering::None), route("accounts", "*", Ordering::None)])
            .await;
    let ((mut arrivals, orders), (_, accounts)) = (fixture.outbox(), fixture.outbox());
    let mut jobs = Vec::new();
    for n in 1..=4 {
        fixture.store.inbox.try_record(event(&format!("evt_{n}"), &format!("{n}"))).await.unwrap();
        jobs.push(arrived(&mut arrivals).await);
    }
    fixture.backend.refuse("UPDATE ON delivery", "new.sequence = 3 AND new.state = 'dead'");
    let outcome = |n: usize, next| settlement(&jobs[n - 1], next);
    let retrying = Next::Retrying { due_at: later(5) };
    // While it waits, later tasks queue up.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let missed = |_| EngineError::Rejected("what the test waits for has not come".to_owned());
    let mut is_open = false;
    let wait = move |_: &mut Group<'_>| {
        // It is carried out again if it is in one group with the refused task.
        if !is_open {
            gate.recv_timeout(Duration::from_secs(20)).map_err(missed)?;
            is_open = true;
        }
        Ok(())
    };
    let (waited, first, of_other, repeated, refused, last, ()) = tokio::join!(
        fixture.store.tasks.write(wait),
        orders.settle(vec![outcome(1, Next::Delivered)]),
        accounts.settle(vec![outcome(1, Next::Held), outcome(2, Next::Delivered)]),
        orders.settle(vec![outcome(1, Next::Dead), outcome(2, Next::Held)]),
        orders.settle(vec![outcome(3, Next::Dead)]),
        orders.settle(vec![outcome(4, retrying)]),
        async { open.send(()).unwrap() },
    );
    assert_eq!((waited, first, of_other, repeated, last), (Ok(()), Ok(()), Ok(()), Ok(()), Ok(())));
    assert!(matches!(refused, Err(RecordError::Unavailable(_))), "{refused:?}");
    let states = "SELECT t.name || ' ' || d.sequence || ' ' || d.state FROM delivery d \
                  JOIN target t ON t.id = d.target_id ORDER BY t.name, d.sequence";
    let expected = [
        "accounts 1 held",
        "accounts 2 delivered",
        "accounts 3 pending",
        "accounts 4 pending",
        "orders 1 delivered",
        "orders 2 held",
        "orders 3 pending",
        "orders 4 retrying",
    ];
    assert_eq!(fixture.backend.texts(states), expected);
}
