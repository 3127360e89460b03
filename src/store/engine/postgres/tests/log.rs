//! The log: the deliveries that one process reads of others.

use std::sync::Arc;
use std::thread;

use super::engines::{self, Engines};
use crate::domain::delivery::Ordering;
use crate::domain::event::Received;
use crate::pepay::envelope;
use crate::store::committer::Group;
use crate::store::contract::{Backend as _, NOW, event, everything, route};
use crate::store::engine::{Engine, GroupKind, LogPage};
use crate::store::types::{AttemptStarted, Batch, TargetId};

fn two_targets() -> Vec<crate::store::settings::Route> {
    vec![route("orders", "*", Ordering::PerObject), route("all", "*", Ordering::None)]
}

fn read(engine: &mut dyn Engine, range: (i64, Option<i64>), targets: &[TargetId], limit: usize) -> LogPage {
    engine.begin(GroupKind::Reads).unwrap();
    let page = engine.read_log(range, targets, limit).unwrap();
    engine.commit().unwrap();
    page
}

/// Returns the deliveries of `page`, each as the index of its target and its sequence.
fn keys(targets: &[TargetId], page: &LogPage) -> Vec<(usize, i64)> {
    let place = |target| targets.iter().position(|one| *one == target).unwrap();
    page.deliveries.iter().map(|(target, arrived)| (place(*target), arrived.sequence)).collect()
}

/// Returns an event whose body has about `bytes` bytes.
fn large(id: &str, bytes: usize) -> Received {
    let body = format!(r#"{{"id":"{id}","type":"a.b","created":1,"x":"{}"}}"#, "x".repeat(bytes));
    Received { event: envelope::parse(body.into(), NOW).unwrap(), ..event(id, "a") }
}

#[tokio::test]
async fn what_another_process_has_stored_is_read_in_its_order_as_a_search_finds_it() {
    let mut engines = Engines::new(2, two_targets()).await;
    let targets = engines.targets.clone();
    for (id, object) in [("evt_3000-1", "a"), ("evt_1000-1", "a"), ("evt_2000-1", "b")] {
        engines.append(0, vec![event(id, object)]);
    }
    let page = read(&mut *engines.all[1], (0, None), &targets, 100);
    assert_eq!((page.newest, page.overflow), (3, false));
    assert_eq!(keys(&targets, &page), [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)]);
    for target in &targets {
        engines.all[1].begin(GroupKind::Reads).unwrap();
        let found = engines.all[1].search(*target, &everything(NOW)).unwrap();
        engines.all[1].commit().unwrap();
        let mut found =
            [found.singles, found.lanes.into_iter().flat_map(|lane| lane.rows).collect()].concat();
        found.sort_by_key(|job| job.sequence);
        let read = page.deliveries.iter().filter(|(of, _)| of == target).map(|(_, arrived)| {
            let job = arrived.job.clone().unwrap();
            assert_eq!((arrived.sequence, arrived.lane, arrived.rank), (job.sequence, job.lane, job.rank));
            job
        });
        assert_eq!(format!("{:?}", read.collect::<Vec<_>>()), format!("{found:?}"));
    }
    let of_one = |n: usize| &page.deliveries[n].1.job.as_ref().unwrap().event;
    assert!(Arc::ptr_eq(of_one(0), of_one(1)), "an event is read once for all targets");
}

#[tokio::test]
async fn a_page_has_bounds_and_leaves_out_what_was_attempted() {
    let mut engines = Engines::new(2, two_targets()).await;
    let targets = engines.targets.clone();
    engines.append(0, (1..=4).map(|n| event(&format!("evt_{n}"), &n.to_string())).collect());
    let term = engines.backend.term("target/orders");
    let begun = AttemptStarted { sequence: 2, number: 1, at: NOW };
    engines.group(0, |group| group.engine.claim(term, targets[0], begun)).unwrap();
    let mut keys_of = |range, of: &[TargetId], limit| {
        let page = read(&mut *engines.all[1], range, of, limit);
        assert_eq!(page.newest, 4);
        (keys(&targets, &page), page.overflow)
    };
    let both = targets.as_slice();
    assert_eq!(keys_of((1, Some(3)), both, 100), (vec![(1, 2), (0, 3), (1, 3)], false));
    assert_eq!(keys_of((2, None), &both[..1], 100), (vec![(0, 3), (0, 4)], false));
    assert_eq!(keys_of((4, None), both, 100), (vec![], false));
    assert_eq!(keys_of((0, None), &[], 100), (vec![], false));
    assert!(!keys_of((0, None), both, 7).1);
    assert_eq!(keys_of((0, None), both, 6), (vec![], true), "more than the limit");
}

#[tokio::test]
async fn bodies_that_are_too_much_at_once_are_left_to_a_search() {
    let mut engines = Engines::new(1, two_targets()).await;
    let targets = engines.targets.clone();
    engines.append(0, (1..=4).map(|n| large(&format!("evt_{n}"), 1_300_000)).collect());
    let page = read(&mut *engines.all[0], (0, None), &targets, 100);
    let with_body: Vec<_> = page.deliveries.iter().map(|(_, arrived)| arrived.job.is_some()).collect();
    assert_eq!(with_body, [true, true, true, true, true, true, false, false]);
}

#[tokio::test]
async fn the_newest_event_is_known_once_all_have_been_removed() {
    let mut engines = Engines::new(1, vec![]).await;
    assert_eq!(read(&mut *engines.all[0], (0, None), &[], 1).newest, 0);
    engines.append(0, vec![event("evt_1", "a")]);
    engines.backend.execute("UPDATE retention SET payload_through = 1, events_through = 1");
    engines.backend.execute("DELETE FROM event");
    assert_eq!(read(&mut *engines.all[0], (0, None), &[], 1).newest, 1);
}

#[tokio::test]
async fn while_two_processes_store_events_a_third_one_reads_each_in_order_and_without_a_gap() {
    const GROUPS: usize = 60;
    const EVENTS: usize = 5;
    let mut engines = Engines::new(3, vec![route("orders", "*", Ordering::PerObject)]).await;
    let (targets, routes) = (engines.targets.clone(), &engines.routes);
    let mut all = engines.all.drain(..);
    let [first, second, mut reader] = [all.next().unwrap(), all.next().unwrap(), all.next().unwrap()];
    let write = |mut engine: Box<dyn Engine>, name: &str| {
        for n in 0..GROUPS {
            // Both processes receive every other event.
            let id = |k: usize| {
                if k.is_multiple_of(2) { format!("evt_{n}_{k}") } else { format!("evt_{n}_{k}_{name}") }
            };
            let batch = Batch { events: (0..EVENTS).map(|k| event(&id(k), "a")).collect(), cursor: None };
            let append = |group: &mut Group<'_>| group.engine.append(&[&batch], &mut group.context).map(drop);
            engines::group(&mut *engine, routes, NOW, append).unwrap();
        }
    };
    // Three of five events come to both processes.
    let expected = i64::try_from(GROUPS * (3 + 2 * 2)).unwrap();
    let seen = thread::scope(|scope| {
        scope.spawn(|| write(first, "a"));
        scope.spawn(|| write(second, "b"));
        let (mut after, mut seen) = (0, Vec::new());
        while after < expected {
            let page = read(&mut *reader, (after, None), &targets, 10_000);
            seen.extend(page.deliveries.iter().map(|(_, arrived)| arrived.sequence));
            after = page.newest;
        }
        seen
    });
    assert_eq!(seen, (1..=expected).collect::<Vec<_>>());
    drop((all, reader));
}
