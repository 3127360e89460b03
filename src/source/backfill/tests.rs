mod time_climb;
mod times;

use bytes::Bytes;

use super::*;
use crate::domain::event::Subject;

/// Returns event `n` of the account. It was created at second `1000 * n`.
fn event(n: usize) -> Event {
    Event {
        id: format!("evt_{n}").parse().unwrap(),
        kind: "t".parse().unwrap(),
        subject: Subject::default(),
        created: 1000 * i64::try_from(n).unwrap(),
        digest: None,
        body: Bytes::from_static(&[b'x'; 10]),
    }
}

fn at(n: usize) -> Position {
    let event = event(n);
    Position { event: Some(event.id), created: event.created }
}

/// How a list treats `ending_before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newer {
    NextToCursor,
    Newest,
    /// The parameter is ignored.
    Ignored,
}

/// Returns the page of an account with these events (ascending numbers).
fn answer(account: &[usize], query: &ListQuery, newer: Newer) -> Page {
    let above = query.ending_before.as_ref().filter(|_| newer != Newer::Ignored).map(number);
    let older = |n: &&usize| {
        let event = event(**n);
        query.created_gte.is_none_or(|bound| event.created >= bound)
            && query.created_lte.is_none_or(|bound| event.created <= bound)
            && query.starting_after.as_ref().is_none_or(|after| **n < number(after))
            && above.is_none_or(|above| **n > above)
    };
    let mut all: Vec<_> = account.iter().rev().filter(older).collect();
    let has_more = all.len() > usize::from(query.limit);
    if above.is_some() && newer == Newer::NextToCursor {
        all.drain(..all.len().saturating_sub(query.limit.into()));
    }
    let events: Vec<_> = all.iter().take(usize::from(query.limit)).map(|n| event(**n)).collect();
    let last = events.last().map(|event| event.id.clone());
    Page { events, last, has_more, skipped: None, received_at: UnixMillis(i64::MAX), server_time: None }
}

fn number(id: &EventId) -> usize {
    id.as_str()[4..].parse().unwrap()
}

/// How a walk ended: whether it began at the top, and the result of its first descent.
type End = (bool, Option<Reached>);

/// Walks until it is done. Returns the stored events, the number of requests and how it ended.
fn walk(walk: Walk, list: &[usize], floor: &mut Position) -> (Vec<usize>, usize, End) {
    walk_over(Newer::Ignored, walk, list, floor)
}

fn walk_over(newer: Newer, mut walk: Walk, list: &[usize], floor: &mut Position) -> (Vec<usize>, usize, End) {
    let (mut stored, mut requests, mut bottom) = (Vec::new(), 0, None);
    loop {
        match walk.step() {
            Step::Ask(query) => {
                requests += 1;
                let reached = walk.page(answer(list, &query, newer), floor).unwrap();
                bottom = bottom.or(reached.filter(|reached| *reached != Reached::Higher));
                let held: usize = walk.kept.iter().map(|kept| kept.events.len()).sum();
                assert!(held <= walk.budget.events + 100, "{held} events in memory");
                assert!(walk.places.len() <= walk.budget.places);
            }
            Step::Store(stretch) => {
                let newest = stretch.events.last().unwrap();
                *floor = Position { event: Some(newest.id.clone()), created: newest.created };
                stored.extend(stretch.events.iter().map(|e| number(&e.id)));
            }
            Step::Done { from_top } => return (stored, requests, (from_top, bottom)),
        }
    }
}

const SMALL: Budget = Budget { events: 250, bytes: usize::MAX, places: 20_000, descent: 2 };
const CLOSED: End = (true, Some(Reached::Known));

fn all(range: std::ops::RangeInclusive<usize>) -> Vec<usize> {
    range.collect()
}

#[test]
fn a_short_gap_costs_one_request_and_comes_in_order() {
    let (stored, requests, end) = walk(Walk::new(Budget::DEFAULT), &all(1..=50), &mut at(20));
    assert_eq!((stored, requests, end), (all(21..=50), 1, CLOSED));
}

#[test]
fn no_gap_is_proven_with_one_request() {
    let (stored, requests, end) = walk(Walk::new(Budget::DEFAULT), &all(1..=50), &mut at(50));
    assert_eq!((stored, requests, end), (vec![], 1, CLOSED));
}

#[test]
fn a_gap_of_several_pages_is_read_from_the_newest_and_handed_over_from_the_oldest() {
    for gap in [98, 99, 100, 101, 199, 200, 201, 1234] {
        let list = all(1..=gap + 1);
        let (stored, _, end) = walk(Walk::new(Budget::DEFAULT), &list, &mut at(1));
        assert_eq!((stored, end), (all(2..=gap + 1), CLOSED), "{gap}");
    }
}

#[test]
fn a_gap_too_long_for_memory_is_read_again_from_remembered_places() {
    let list = all(1..=3001);
    let (stored, requests, end) = walk(Walk::new(SMALL), &list, &mut at(1));
    assert_eq!((stored, end), (all(2..=3001), CLOSED));
    assert!(requests <= 31 + 31, "{requests} requests");
}

#[test]
fn a_walk_that_ends_below_the_top_goes_on_from_there_where_its_floor_is_not_on_the_list() {
    let list = all(1..=3001);
    let mut walk = Walk::new(Budget { places: 3, ..SMALL });
    let floor = Position { event: Some("evt_0".parse().unwrap()), created: 0 };
    let (mut stored, mut below_the_top) = (Vec::new(), 0);
    loop {
        match walk.step() {
            Step::Ask(query) => {
                walk.page(answer(&list, &query, Newer::Ignored), &floor).unwrap();
            }
            Step::Store(stretch) => stored.extend(stretch.events.iter().map(|event| number(&event.id))),
            Step::Done { from_top: true } => break,
            Step::Done { from_top: false } => {
                below_the_top += 1;
                assert!(below_the_top <= 10, "{} of 3001 events after so many walks", stored.len());
                walk.go_on();
            }
        }
    }
    assert_eq!((stored, below_the_top > 1), (list, true));
}

#[test]
fn a_long_gap_is_read_once_and_handed_over_page_by_page_where_the_list_shows_what_is_next() {
    for gap in [199, 297, 298, 299, 300, 396, 397, 5000] {
        let list = all(1..=gap + 1);
        let (mut walk, mut floor) = (Walk::new(SMALL), at(1));
        let (mut stored, mut requests, mut first, mut held) = (Vec::new(), 0, None, 0);
        loop {
            match walk.step() {
                Step::Ask(query) => {
                    requests += 1;
                    walk.page(answer(&list, &query, Newer::NextToCursor), &floor).unwrap();
                    held = held.max(walk.kept.iter().map(|kept| kept.events.len()).sum());
                }
                Step::Store(stretch) => {
                    first.get_or_insert(requests);
                    stored.extend(stretch.events.iter().map(|event| number(&event.id)));
                    floor = at(*stored.last().unwrap());
                }
                Step::Done { from_top } => break assert!(from_top),
            }
        }
        assert_eq!(stored, all(2..=gap + 1), "{gap}");
        assert!(requests <= gap.div_ceil(99) + 2, "{gap}: {requests} requests");
        assert!(first.unwrap() <= 4, "{gap}: the first events after {first:?} requests");
        assert!(held <= 298, "{gap}: {held} events in memory");
    }
}

#[test]
fn a_list_that_does_not_show_what_is_next_costs_two_requests_more() {
    let list = all(1..=3001);
    let (stored, once, end) = walk(Walk { way_up: WayUp::None, ..Walk::new(SMALL) }, &list, &mut at(1));
    assert_eq!((stored, end), (all(2..=3001), CLOSED));
    for newer in [Newer::Newest, Newer::Ignored] {
        let (stored, requests, end) = walk_over(newer, Walk::new(SMALL), &list, &mut at(1));
        assert_eq!((stored, end), (all(2..=3001), CLOSED), "{newer:?}");
        assert!(requests <= once + 2, "{newer:?}: {requests} requests, {once} without");
    }
}

/// Returns a walk that has interrupted its descent for a climb from event 1, in a list of 1000.
fn climbing() -> Walk {
    let mut walk = Walk::new(SMALL);
    let list = all(1..=1000);
    loop {
        let Step::Ask(query) = walk.step() else { panic!() };
        if query.ending_before.is_some() {
            return walk;
        }
        walk.page(answer(&list, &query, Newer::NextToCursor), &at(1)).unwrap();
    }
}

/// Returns the place after which the next page begins, if the page is one of a descent.
fn descends_from(walk: &mut Walk) -> Option<usize> {
    let Step::Ask(query) = walk.step() else { panic!("it does not ask") };
    query.starting_after.as_ref().filter(|_| query.limit > 1).map(number)
}

#[test]
fn a_page_that_is_not_next_to_the_known_event_is_not_handed_over() {
    for (pages, why) in [
        (&[&[][..]][..], "an empty page"),
        (&[&[3, 2, 1]], "the known event itself"),
        (&[&[5, 4, 3], &[2]], "something lies between"),
        (&[&[5, 4, 3], &[]], "nothing is next to it"),
    ] {
        let mut walk = climbing();
        for page in pages {
            assert_eq!(walk.page(shown(page, true), &at(1)), Ok(None), "{why}");
        }
        assert_eq!(descends_from(&mut walk), Some(803), "{why}: the descent goes on");
    }
}

#[test]
fn a_climb_that_gets_a_wrong_page_leaves_the_rest_to_the_walk_down() {
    for (next, why) in [
        (&[][..], "an empty page"),
        (&[9, 8, 7], "a page that does not end with what was handed over"),
        (&[5], "nothing new"),
        (&[5, 6, 7], "an order of its own"),
    ] {
        let mut walk = climbing();
        assert_eq!(walk.page(shown(&[5, 4, 3, 2], true), &at(1)), Ok(None));
        assert_eq!(walk.page(shown(&[1], true), &at(1)), Ok(Some(Reached::Higher)));
        let Step::Store(stretch) = walk.step() else { panic!("{why}") };
        assert_eq!(stretch.events.iter().map(|event| number(&event.id)).collect::<Vec<_>>(), [2, 3, 4, 5]);
        let Step::Ask(query) = walk.step() else { panic!("{why}") };
        assert_eq!(query.ending_before, Some(event(4).id));
        assert_eq!(walk.page(shown(next, true), &at(5)), Ok(None), "{why}");
        assert_eq!(descends_from(&mut walk), Some(803), "{why}");
    }
}

#[test]
fn a_climb_is_given_up_after_a_refusal_or_a_few_failures() {
    let mut walk = climbing();
    assert!(walk.failed(true));
    assert_eq!(descends_from(&mut walk), Some(803));
    let mut walk = climbing();
    assert_eq!([(); 3].map(|()| walk.failed(false)), [false, false, true]);
    assert_eq!(descends_from(&mut walk), Some(803));
    assert!(!walk.failed(true), "a descent is not given up");
}

#[test]
fn a_gap_longer_than_the_list_of_places_ends_below_the_top() {
    let budget = Budget { places: 3, ..SMALL };
    let (list, mut floor) = (all(1..=1001), at(1));
    let descending = Walk { way_up: WayUp::None, ..Walk::new(budget) };
    let (stored, _, end) = walk(descending, &list, &mut floor);
    assert_eq!(end, (false, Some(Reached::Known)));
    let (rest, _, end) = walk(Walk::new(Budget::DEFAULT), &list, &mut floor);
    assert_eq!(end, CLOSED);
    assert_eq!([stored, rest].concat(), all(2..=1001));
}

#[test]
fn an_account_that_was_empty_is_walked_to_the_end_of_its_list() {
    let mut empty = Position { event: None, created: 5 };
    let (stored, _, end) = walk(Walk::new(SMALL), &all(1..=777), &mut empty);
    assert_eq!((stored, end), (all(1..=777), (true, Some(Reached::End(None)))));
}

#[test]
fn a_cursor_that_is_not_on_the_list_leaves_a_gap_with_known_ends() {
    let (stored, _, end) = walk(Walk::new(Budget::DEFAULT), &all(31..=50), &mut at(20));
    assert_eq!(stored, all(31..=50));
    let before = Some((event(31).id, 31_000));
    let hole = Some(Hole { after: (event(20).id, 20_000), before });
    assert_eq!(end, (true, Some(Reached::End(hole))));

    let (_, _, end) = walk(Walk::new(Budget::DEFAULT), &[], &mut at(20));
    let hole = Some(Hole { after: (event(20).id, 20_000), before: None });
    assert_eq!(end, (true, Some(Reached::End(hole))));
}

#[test]
fn a_list_that_ends_too_early_a_few_times_loses_no_event() {
    let mut walk = Walk::new(Budget::DEFAULT);
    assert_eq!(walk.page(shown(&[9, 8], false), &at(1)), Ok(None));
    for _ in 0..4 {
        assert_eq!(walk.page(shown(&[], false), &at(1)), Ok(None));
        let Step::Ask(query) = walk.step() else { panic!("it asks again") };
        assert_eq!(query.starting_after, Some(event(8).id));
    }
    assert_eq!(walk.page(shown(&[7, 6], false), &at(1)), Ok(None));
    for _ in 0..4 {
        assert_eq!(walk.page(shown(&[], false), &at(1)), Ok(None), "it is counted anew");
    }
    assert_eq!(walk.page(shown(&[5, 4, 3, 2, 1], false), &at(1)), Ok(Some(Reached::Known)));
    let Step::Store(stretch) = walk.step() else { panic!("it has all of them") };
    assert_eq!(stretch.events.first().map(|event| number(&event.id)), Some(2));
}

#[test]
fn a_page_of_older_events_in_order_proves_that_the_rest_is_older() {
    let list: Vec<_> = all(1..=400).into_iter().filter(|n| *n != 320).collect();
    let (stored, requests, end) = walk(Walk::new(Budget::DEFAULT), &list, &mut at(320));
    assert_eq!((stored, end), (all(321..=400), (true, Some(Reached::Older))));
    assert_eq!(requests, 2);
}

#[test]
fn a_few_older_events_do_not_end_a_walk() {
    let list: Vec<_> = all(1..=50).into_iter().filter(|n| *n != 20).collect();
    let (stored, _, end) = walk(Walk::new(Budget::DEFAULT), &list, &mut at(20));
    assert_eq!(stored, all(21..=50), "they are not handed over either");
    let before = Some((event(1).id, 1_000));
    assert_eq!(end, (true, Some(Reached::End(Some(Hole { after: (event(20).id, 20_000), before })))));
}

/// Returns a page of these events, in this order.
fn shown(numbers: &[usize], has_more: bool) -> Page {
    let events: Vec<_> = numbers.iter().map(|n| event(*n)).collect();
    let last = events.last().map(|event| event.id.clone());
    Page { events, last, has_more, skipped: None, received_at: UnixMillis(i64::MAX), server_time: None }
}

#[test]
fn circular_and_unordered_pages_are_detected() {
    let mut walk = Walk::new(Budget::DEFAULT);
    let (newer, older): (Vec<_>, Vec<_>) = ((50..60).rev().collect(), (40..50).rev().collect());
    assert_eq!(walk.page(shown(&newer, true), &at(1)), Ok(None));
    assert_eq!(walk.page(shown(&older, true), &at(1)), Ok(None));
    assert_eq!(walk.page(shown(&newer, true), &at(1)), Err(NoProgress));

    let mut walk = Walk::new(Budget::DEFAULT);
    assert_eq!(walk.page(shown(&[10], true), &at(1)), Ok(None));
    let answers: Vec<_> = (20..30).map(|n| walk.page(shown(&[n], true), &at(1))).collect();
    assert!(answers.contains(&Err(NoProgress)), "newer and newer pages are no way down");
}

#[test]
fn after_an_unreadable_page_the_limit_is_halved_and_after_readable_ones_raised_again() {
    let mut walk = Walk::new(Budget::DEFAULT);
    let limit = |walk: &mut Walk| match walk.step() {
        Step::Ask(query) => query.limit,
        other => panic!("{other:?}"),
    };
    let mut limits = vec![limit(&mut walk)];
    while walk.unreadable() {
        limits.push(limit(&mut walk));
    }
    assert_eq!(limits, [99, 49, 24, 12, 6, 3, 1]);
    assert_eq!(walk.page(shown(&[50], true), &at(1)), Ok(None));
    assert_eq!(limit(&mut walk), 2);
}

#[test]
fn a_server_that_ignores_the_cursor_is_detected() {
    let (list, floor) = (all(1..=300), at(1));
    let mut walk = Walk::new(Budget::DEFAULT);
    for expected in [Ok(None), Err(NoProgress)] {
        let Step::Ask(query) = walk.step() else { panic!() };
        let page = answer(&list, &ListQuery { starting_after: None, ..query }, Newer::Ignored);
        assert_eq!(walk.page(page, &floor), expected);
    }
}

#[test]
fn a_walk_down_to_a_time_asks_for_nothing_older() {
    let mut floor = Position { event: None, created: 120_000 };
    let (stored, requests, end) = walk(Walk::since(SMALL, 120_000), &all(1..=1234), &mut floor);
    assert_eq!((stored, end), (all(120..=1234), (true, Some(Reached::End(None)))));
    assert!(requests <= 12 + 12, "{requests} requests");
}

#[test]
fn a_list_that_ignores_created_gte_is_not_read_to_its_end() {
    let floor = Position { event: None, created: 900_000 };
    let mut walk = Walk::since(Budget::DEFAULT, 900_000);
    let Step::Ask(query) = walk.step() else { panic!() };
    let heedless = ListQuery { created_gte: None, ..query };
    walk.page(answer(&all(1..=950), &heedless, Newer::Ignored), &floor).unwrap();
    let Step::Ask(query) = walk.step() else { panic!("a few older events are no proof") };
    let heedless = ListQuery { created_gte: None, ..query };
    let bottom = walk.page(answer(&all(1..=950), &heedless, Newer::Ignored), &floor).unwrap();
    assert_eq!(bottom, Some(Reached::Older));
    let Step::Store(stretch) = walk.step() else { panic!("it goes on to ask") };
    assert_eq!(stretch.events[0].id, event(900).id);
}
