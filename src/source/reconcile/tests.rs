use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::domain::event::Subject;

/// The present time, which is later than the events unless a test says otherwise.
const NOW: i64 = 1_000_000;

fn event(n: i64) -> Event {
    Event {
        id: format!("evt_{n}").parse().unwrap(),
        kind: "t".parse().unwrap(),
        subject: Subject::default(),
        created: n,
        digest: None,
        body: Bytes::new(),
    }
}

fn number(id: &EventId) -> i64 {
    id.as_str()[4..].parse().unwrap()
}

/// Runs a sweep over an account with events `1..=newest`. Of these, `missing` are not stored, and
/// `late` are stored during the grace.
fn run(mut sweep: Sweep, newest: i64, missing: &[i64], late: &[i64]) -> (Vec<i64>, u32, Sweep) {
    let mut missing: BTreeSet<_> = missing.iter().copied().collect();
    let (mut requests, mut stored) = (0, Vec::new());
    loop {
        match sweep.step() {
            Step::Ask(query) => {
                requests += 1;
                let from = query.starting_after.map_or(newest, |id| number(&id) - 1);
                let to = query.created_gte.unwrap_or(1).max(1);
                let from = query.created_lte.map_or(from, |lte| from.min(lte));
                let events: Vec<_> = (to..=from).rev().take(usize::from(query.limit)).map(event).collect();
                let last = events.last().map(|event| event.id.clone());
                let has_more = last.as_ref().is_some_and(|id| number(id) > to);
                let page = Page {
                    events,
                    last,
                    has_more,
                    skipped: None,
                    received_at: UnixMillis(0),
                    server_time: None,
                };
                sweep.page(page, NOW, |_| true, |_| true).unwrap();
            }
            Step::Compare(ids) => {
                let held: Vec<_> = ids.iter().map(|(id, _)| !missing.contains(&number(id))).collect();
                sweep.held(&held);
            }
            Step::Settle => {
                missing.retain(|n| !late.contains(n));
                sweep.settled();
            }
            Step::Store(found) => {
                stored.extend(found.iter().map(|suspect| number(&suspect.event.id)));
                if !sweep.goes_on() {
                    return (stored, requests, sweep);
                }
            }
            Step::Done => return (stored, requests, sweep),
        }
    }
}

const fn range(from: i64, to: i64) -> Compared {
    Compared { from, to }
}

#[test]
fn a_sweep_that_finds_nothing_missing_takes_one_request() {
    let (found, requests, sweep) = run(Sweep::new(900, None, 0), 990, &[], &[]);
    assert_eq!((found, requests, sweep.proves()), (vec![], 1, Some(range(900, 990))));
    let (found, requests, sweep) = run(Sweep::new(1, Some(range(1, 5_990)), 0), 6_000, &[], &[]);
    assert_eq!((found, requests, sweep.proves()), (vec![], 1, Some(range(1, 6_000))));
}

#[test]
fn missing_events_are_found_through_the_whole_lookback_and_come_oldest_first() {
    let (found, requests, _) = run(Sweep::new(5_600, None, 0), 6_000, &[5_650, 5_995, 5_000], &[]);
    assert_eq!((found, requests), (vec![5_650, 5_995], 5));
}

#[test]
fn new_missing_events_are_stored_before_the_compared_range_is_read_again() {
    let missing = [5_000, 5_650, 5_991, 5_995];
    let (found, requests, sweep) = run(Sweep::new(5_600, Some(range(5_600, 5_990)), 0), 6_000, &missing, &[]);
    assert_eq!((found, requests), (vec![5_991, 5_995, 5_650], 5));
    assert_eq!(sweep.proves(), Some(range(5_600, 6_000)));
    // The same without a compared range.
    let (found, requests, sweep) = run(Sweep::new(5_600, None, 5_990), 6_000, &missing, &[]);
    assert_eq!((found, requests), (vec![5_991, 5_995, 5_650], 5));
    assert_eq!(sweep.proves(), Some(range(5_600, 6_000)));
    // An event that has arrived during the grace is no reason to read on.
    let (found, requests, _) = run(Sweep::new(1, Some(range(1, 5_990)), 0), 6_000, &[5_995], &[5_995]);
    assert_eq!((found, requests), (vec![], 2));
}

#[test]
fn a_page_counts_as_compared_once_the_store_has_answered() {
    let mut sweep = Sweep::new(1, Some(range(300, 950)), 0);
    let events: Vec<_> = (901..=1_000).rev().map(event).collect();
    let last = events.last().map(|event| event.id.clone());
    let (received_at, server_time) = (UnixMillis(0), None);
    let page = Page { events, last, has_more: true, skipped: None, received_at, server_time };
    sweep.page(page, NOW, |_| true, |_| true).unwrap();
    assert_eq!(sweep.so_far(), None);
    sweep.held(&[true; 100]);
    assert_eq!(sweep.so_far(), Some(range(300, 1_000)), "one range with what it has come down to");
}

#[test]
fn an_event_on_its_way_is_left_to_its_source() {
    let (found, ..) = run(Sweep::new(900, None, 0), 990, &[980, 990], &[990]);
    assert_eq!(found, [980]);
}

#[test]
fn a_sweep_asks_for_pages_until_the_end_of_its_lookback() {
    let (_, requests, sweep) = run(Sweep::new(1, None, 0), 10_000, &[], &[]);
    assert_eq!((requests, sweep.proves()), (100, Some(range(1, 10_000))));
}

#[test]
fn a_sweep_leaves_out_what_an_earlier_one_has_compared_and_looks_at_the_rest() {
    let (found, requests, sweep) = run(Sweep::new(1, Some(range(2_000, 9_000)), 0), 10_000, &[500], &[]);
    assert_eq!(found, [500]);
    assert!(requests <= 11 + 21, "{requests} requests");
    assert_eq!(sweep.proves(), Some(range(1, 10_000)));
}

#[test]
fn a_compared_range_of_less_than_a_minute_is_read_again_and_not_left_out() {
    let (found, requests, sweep) = run(Sweep::new(5_500, Some(range(5_900, 5_950)), 0), 5_950, &[5_600], &[]);
    assert_eq!((found, requests), (vec![5_600], 5));
    assert_eq!(sweep.proves(), Some(range(5_500, 5_950)));
}

#[test]
fn a_sweep_that_is_broken_off_keeps_what_it_has_compared() {
    let mut sweep = Sweep::new(1, None, 0);
    for first in [1_000, 900] {
        let events: Vec<_> = (first - 99..=first).rev().map(event).collect();
        let last = events.last().map(|event| event.id.clone());
        let (received_at, server_time) = (UnixMillis(0), None);
        let page = Page { events, last, has_more: true, skipped: None, received_at, server_time };
        sweep.page(page, NOW, |_| true, |_| true).unwrap();
        sweep.held(&[true; 100]);
    }
    assert_eq!(sweep.so_far(), Some(range(801, 1_000)));

    let mut sweep = Sweep::new(1, Some(range(300, 980)), 0);
    let events: Vec<_> = (901..=1_000).rev().map(event).collect();
    let last = events.last().map(|event| event.id.clone());
    let (received_at, server_time) = (UnixMillis(0), None);
    let page = Page { events, last, has_more: true, skipped: None, received_at, server_time };
    sweep.page(page, NOW, |_| true, |_| true).unwrap();
    sweep.held(&[true; 100]);
    assert_eq!(sweep.so_far(), Some(range(300, 1_000)), "with what it has left out");
}

#[test]
fn a_compared_range_in_the_future_leaves_nothing_out() {
    let top = |compared| {
        let mut sweep = Sweep::new(1, compared, 0);
        let events: Vec<_> = [NOW + 365 * 86_400].into_iter().chain((902..=1_000).rev()).map(event).collect();
        let last = events.last().map(|event| event.id.clone());
        let (received_at, server_time) = (UnixMillis(0), None);
        let page = Page { events, last, has_more: true, skipped: None, received_at, server_time };
        sweep.page(page, 1_000, |_| true, |_| true).unwrap();
        sweep.held(&[true; 100]);
        sweep
    };
    let sweep = top(None);
    assert_eq!(sweep.so_far(), Some(range(902, 1_000)), "it ends now");
    assert_eq!(sweep.newest(), Some(1_000));
    let mut next = top(Some(range(1, 900)));
    let Step::Ask(query) = next.step() else { panic!("the rest is left out") };
    assert_eq!(query.starting_after, Some(event(902).id));
}

#[test]
fn circular_pages_are_detected() {
    let mut sweep = Sweep::new(1, None, 0);
    let page = |first: i64| {
        let events: Vec<_> = (first - 9..=first).rev().map(event).collect();
        let last = events.last().map(|event| event.id.clone());
        Page { events, last, has_more: true, skipped: None, received_at: UnixMillis(0), server_time: None }
    };
    for first in [50, 40] {
        sweep.page(page(first), NOW, |_| true, |_| true).unwrap();
        sweep.held(&[true; 10]);
    }
    assert_eq!(sweep.page(page(50), NOW, |_| true, |_| true), Err(NoProgress));
}

#[test]
fn one_old_entry_on_a_page_neither_ends_a_sweep_nor_widens_what_it_has_compared() {
    let mut sweep = Sweep::new(1_000, Some(range(1_000, 4_000)), 0);
    let events: Vec<_> = [7].into_iter().chain((4_902..=5_000).rev()).map(event).collect();
    let last = events.last().map(|event| event.id.clone());
    let (received_at, server_time) = (UnixMillis(0), None);
    let page = Page { events, last: last.clone(), has_more: true, skipped: None, received_at, server_time };
    sweep.page(page, NOW, |_| true, |_| true).unwrap();
    sweep.held(&[true; 100]);
    let Step::Ask(query) = sweep.step() else { panic!() };
    assert_eq!((query.starting_after, query.created_lte), (last, None), "on to the next page");
    assert_eq!(sweep.so_far(), Some(range(5_000, 5_000)));
}

#[test]
fn a_sweep_of_an_empty_account_finds_nothing() {
    let (found, requests, sweep) = run(Sweep::new(1, None, 0), 0, &[], &[]);
    assert_eq!((found, requests, sweep.proves()), (vec![], 1, None));
}

#[test]
fn no_single_answer_ends_a_sweep_before_it_reaches_the_compared_range() {
    let page = |range: std::ops::Range<i64>| {
        let events: Vec<_> = range.rev().map(event).collect();
        let last = events.last().map(|event| event.id.clone());
        Page { events, last, has_more: false, skipped: None, received_at: UnixMillis(0), server_time: None }
    };
    let mut sweep = Sweep::new(600, None, 700);
    sweep.page(page(901..1_001), NOW, |_| true, |_| true).unwrap();
    sweep.held(&[true; 100]);
    let Step::Ask(query) = sweep.step() else { panic!("the end is believed") };
    assert_eq!(query.starting_after, Some(event(901).id));
    sweep.page(page(701..901), NOW, |_| true, |_| true).unwrap();
    sweep.held(&[true; 200]);
    assert_eq!(sweep.so_far(), Some(range(701, 1_000)));
    // A second answer is believed.
    let Step::Ask(query) = sweep.step() else { panic!("the end is believed") };
    assert_eq!(query.starting_after, Some(event(701).id));
    sweep.page(page(0..0), NOW, |_| true, |_| true).unwrap();
    assert_eq!((sweep.step(), sweep.proves()), (Step::Done, Some(range(600, 1_000))));
    // One answer is enough if the sweep has come down to the compared range.
    let mut sweep = Sweep::new(600, None, 901);
    sweep.page(page(901..1_001), NOW, |_| true, |_| true).unwrap();
    sweep.held(&[true; 100]);
    assert_eq!((sweep.step(), sweep.proves()), (Step::Done, Some(range(600, 1_000))));
}

#[test]
fn many_missing_events_are_stored_in_batches_and_the_oldest_first() {
    let missing: Vec<_> = (1_000..=2_200).collect();
    let mut sweep = Sweep::new(1_000, None, 0);
    let mut after = None;
    let mut batches = Vec::new();
    loop {
        match sweep.step() {
            Step::Ask(query) => {
                assert_eq!(query.starting_after, after);
                let from = after.as_ref().map_or(2_200, |id| number(id) - 1);
                let events: Vec<_> = (1_000..=from).rev().take(100).map(event).collect();
                after = events.last().map(|event| event.id.clone());
                let has_more = from > 1_099;
                let (last, received_at) = (after.clone(), UnixMillis(0));
                let page = Page { events, last, has_more, skipped: None, received_at, server_time: None };
                sweep.page(page, NOW, |_| true, |_| true).unwrap();
            }
            Step::Compare(ids) => sweep.held(&vec![false; ids.len()]),
            Step::Settle => sweep.settled(),
            Step::Store(suspects) => {
                batches.push(suspects.iter().map(|suspect| number(&suspect.event.id)).collect::<Vec<_>>());
                assert_eq!(sweep.goes_on(), batches.concat().len() < missing.len());
                assert_eq!(sweep.so_far().is_some(), !sweep.goes_on(), "until all of it is stored");
            }
            Step::Done => break,
        }
        if batches.concat().len() == missing.len() {
            break;
        }
    }
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 201]);
    assert_eq!(batches.concat(), missing);
}
