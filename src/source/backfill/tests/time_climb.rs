//! Long gaps that cannot be climbed from a known event.

use proptest::prelude::*;

use super::*;

const BUDGET: Budget = Budget { events: 2_500, bytes: usize::MAX, places: 20_000, descent: 10 };

/// The result of a walk.
struct Walked {
    stored: Vec<usize>,
    requests: usize,
    /// The number of requests before the first events were handed on.
    first: usize,
    /// The largest number of events in memory.
    held: usize,
    bottom: Option<Reached>,
}

/// Walks over a list that answers by `answer`.
fn walk_all(mut walk: Walk, mut floor: Position, answer: impl Fn(&ListQuery) -> Page) -> Walked {
    let mut walked = Walked { stored: Vec::new(), requests: 0, first: 0, held: 0, bottom: None };
    loop {
        match walk.step() {
            Step::Ask(query) => {
                walked.requests += 1;
                assert!(walked.requests < 5_000, "it does not end");
                let reached = walk.page(answer(&query), &floor).unwrap();
                walked.bottom = walked.bottom.or(reached.filter(|reached| *reached != Reached::Higher));
                let events = |kept: &VecDeque<Kept>| kept.iter().map(|kept| kept.events.len()).sum::<usize>();
                let top = walk.time_climb.as_ref().map_or(0, |climb| climb.top_events());
                walked.held = walked.held.max(events(&walk.kept) + top);
            }
            Step::Store(stretch) => {
                if walked.stored.is_empty() {
                    walked.first = walked.requests;
                }
                walked.stored.extend(stretch.events.iter().map(|event| number(&event.id)));
                floor = at(*walked.stored.last().unwrap());
            }
            Step::Done { from_top } => {
                assert!(from_top);
                return walked;
            }
        }
    }
}

#[test]
fn a_long_gap_without_a_known_event_is_read_once_and_its_oldest_events_go_first() {
    let forgotten = Position { event: Some("evt_0".parse().unwrap()), created: 1_000 };
    let beginning = Position { event: None, created: 0 };
    let since = Position { event: None, created: 2_000_000 };
    for (walk, floor, list, what) in [
        (Walk::new(BUDGET), beginning, all(1..=12_000), "from the earliest event"),
        (Walk::since(BUDGET, 2_000_000), since, all(2_000..=14_000), "from a time"),
        (Walk::new(BUDGET), forgotten, all(2_000..=14_000), "after an event that Pepay has forgotten"),
        (Walk::new(BUDGET), at(1_500), all(1..=13_500), "where the newest page ends before the known event"),
    ] {
        let expected: Vec<_> = list
            .iter()
            .copied()
            .filter(|n| floor.event.is_none() || event(*n).created > floor.created)
            .collect();
        let walked = walk_all(walk, floor, |query| answer(&list, query, Newer::Newest));
        assert_eq!(walked.stored, expected, "{what}");
        let pages = expected.len().div_ceil(99);
        assert!(walked.requests <= pages + 50, "{what}: {} requests for {pages} pages", walked.requests);
        assert!(walked.first <= 60, "{what}: the first events after {} requests", walked.first);
        assert!(walked.held <= BUDGET.events + 1_100, "{what}: {} events in memory", walked.held);
    }
}

#[test]
fn a_gap_that_fits_in_memory_takes_a_few_more_requests() {
    let list = all(500_000..=501_500);
    let walked = walk_all(Walk::new(BUDGET), Position { event: None, created: 0 }, |query| {
        answer(&list, query, Newer::Newest)
    });
    let pages = list.len().div_ceil(99);
    assert_eq!(walked.stored, list);
    assert!(walked.requests <= pages + 8, "{} requests for {pages} pages", walked.requests);
}

#[test]
fn a_list_that_ignores_created_lte_takes_one_more_request() {
    let list = all(1..=6_000);
    let heedless = |query: &ListQuery| {
        let query = ListQuery { created_lte: None, ..query.clone() };
        answer(&list, &query, Newer::Ignored)
    };
    let beginning = Position { event: None, created: 0 };
    let without = Walk { way_up: WayUp::None, ..Walk::new(BUDGET) };
    let without = walk_all(without, beginning.clone(), heedless);
    let walked = walk_all(Walk::new(BUDGET), beginning, heedless);
    assert_eq!((walked.stored, walked.requests), (list.clone(), without.requests + 1));
}

#[test]
fn a_climb_by_time_is_given_up_after_a_refusal_or_a_few_failures() {
    let list = all(1..=6_000);
    let probing = || {
        let mut walk = Walk::new(BUDGET);
        loop {
            let Step::Ask(query) = walk.step() else { panic!() };
            if query.created_lte.is_some() {
                return walk;
            }
            walk.page(answer(&list, &query, Newer::Ignored), &Position { event: None, created: 0 }).unwrap();
        }
    };
    let mut walk = probing();
    assert!(walk.failed(true));
    assert_eq!(descends_from(&mut walk), Some(6_000 - 10 * 99 + 1));
    let mut walk = probing();
    assert_eq!([(); 3].map(|()| walk.failed(false)), [false, false, true]);
    assert_eq!(descends_from(&mut walk), Some(6_000 - 10 * 99 + 1));
}

#[test]
fn without_the_time_of_the_known_event_nothing_is_sought_by_time() {
    let list = all(1..=6_000);
    let known = Position { event: Some(event(3_000).id), created: 0 };
    let walked = walk_all(Walk::new(BUDGET), known, |query| {
        assert_eq!(query.created_lte, None);
        answer(&list, query, Newer::Ignored)
    });
    assert_eq!((walked.stored, walked.bottom), (all(3_001..=6_000), Some(Reached::Known)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the rate of events and the answers to single probes, each event is handed on once,
    /// in order, down to the known one.
    #[test]
    fn a_climb_by_time_hands_over_every_event_in_order_over_any_rests_and_bursts(
        steps in prop::collection::vec(prop_oneof![20 => 1..4_usize, 1 => 50..5_000_usize], 300..1_500),
        known in prop::option::of(any::<prop::sample::Index>()),
        odd in prop::collection::vec((0..80_usize, any::<prop::sample::Index>()), 0..4),
    ) {
        let list: Vec<_> = steps.iter().scan(0, |n, step| { *n += step; Some(*n) }).collect();
        let known = known.map(|known| known.index(list.len()));
        let floor = known.map_or(Position { event: None, created: 0 }, |known| at(list[known]));
        let probes = std::cell::Cell::new(0);
        let walked = walk_all(Walk::new(SMALL), floor, |query| {
            if query.created_lte.is_some() {
                probes.set(probes.get() + 1);
                // The answer is an event that is not the newest of that time.
                if let Some((_, which)) = odd.iter().find(|(probe, _)| *probe == probes.get()) {
                    let first = known.map_or(0, |known| known + 1);
                    if let Some(n) = list.get(first..).filter(|rest| !rest.is_empty()).map(|rest| *which.get(rest)) {
                        return shown(&[n], true);
                    }
                }
            }
            answer(&list, query, Newer::Newest)
        });
        let expected = known.map_or(&list[..], |known| &list[known + 1..]);
        prop_assert_eq!(&walked.stored, expected);
    }
}
