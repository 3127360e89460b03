//! Times that say nothing: one that is odd, of the future, or of the arrival.

use super::*;

#[test]
fn one_old_entry_at_the_top_ends_no_walk_and_makes_the_order_of_the_list_no_proof() {
    let mut walk = Walk::new(Budget::DEFAULT);
    let floor = at(320);
    let top: Vec<_> = std::iter::once(1).chain((330..=420).rev()).collect();
    assert_eq!(walk.page(shown(&top, true), &floor), Ok(None));
    let older: Vec<_> = (200..=319).rev().collect();
    assert_eq!(walk.page(shown(&older, true), &floor), Ok(None), "the list is in no order");
    assert_eq!(walk.page(shown(&[320], true), &floor), Ok(Some(Reached::Known)), "the event itself is proof");
}

#[test]
fn a_known_event_of_the_future_does_not_hide_what_came_after_it() {
    // Event 9 arrived when event 5 was created. It stands above all that came later.
    let floor = Position { created: event(5).created, ..at(9) };
    let list: Vec<_> = (1..=9).rev().collect();
    for (now, missed) in [(event(8).created, Some(all(6..=8))), (event(9).created, None)] {
        let mut walk = Walk::new(Budget::DEFAULT);
        let page = Page { server_time: Some(UnixMillis(now * 1000)), ..shown(&list, false) };
        assert_eq!(walk.page(page, &floor), Ok(Some(Reached::Known)));
        let stored = match walk.step() {
            Step::Store(stretch) => Some(stretch.events.iter().map(|event| number(&event.id)).collect()),
            _ => None,
        };
        assert_eq!(stored, missed);
    }
}

#[test]
fn pages_of_events_without_a_time_are_a_way_down() {
    let mut walk = Walk::new(Budget::DEFAULT);
    for (n, second) in (2..12).rev().zip(7_000..) {
        let mut page = shown(&[n], true);
        page.received_at = UnixMillis(second * 1000);
        page.events[0].created = second;
        assert_eq!(walk.page(page, &at(1)), Ok(None), "{n}");
    }
    assert_eq!(walk.page(shown(&[1], false), &at(1)), Ok(Some(Reached::Known)));
}
