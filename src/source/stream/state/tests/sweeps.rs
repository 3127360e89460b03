use super::*;
use crate::domain::operator::BackfillFrom;

/// Sweeps once, finding `found` to be missing.
fn sweep(play: &mut Play, found: &[usize]) -> Vec<Effect> {
    let mut rest = Vec::new();
    for _ in 0..60 {
        play.wait(2.0);
        play.machine.heard(play.at);
        let mut ended = false;
        for effect in play.effects() {
            match effect {
                Effect::List { .. } => {
                    play.list(found);
                    ended = found.is_empty();
                }
                Effect::Compare(ids) => play.machine.held(play.now(), Some(&vec![false; ids.len()])),
                Effect::Record { events, cursor, .. } => {
                    assert_eq!(cursor, None, "a sweep moves no cursor");
                    assert!(events.iter().all(|received| received.source == Source::Reconcile));
                    play.store(events.len());
                    ended = true;
                }
                Effect::Ping => {}
                other => rest.push(other),
            }
        }
        if ended {
            rest.extend(play.effects());
            return rest;
        }
    }
    panic!("no sweep");
}

#[test]
fn a_stream_whose_events_sweeps_keep_finding_is_replaced() {
    let mut play = Play::live(settings());
    assert_eq!(sweep(&mut play, &[2]).len(), 0);
    let effects = sweep(&mut play, &[3]);
    assert!(matches!(effects[..], [Effect::Disconnect(Ending::Behind)]), "{effects:?}");
    assert!(play.notices.contains(&Notice::Swept {
        found: 1,
        cut_short: false,
        behind: true,
        compared: Some(event(3).created)
    }));
}

/// Returns the event that is created at this moment.
fn present(play: &Play) -> usize {
    3600 + usize::try_from(seconds(play.at)).unwrap()
}

/// Sweeps once over a list whose events are all stored: `newest`, or one of this moment, and those
/// of `others`.
fn sweep_over_what_is_stored(play: &mut Play, newest: Option<usize>, others: &[Event]) -> Vec<Effect> {
    loop {
        play.wait(2.0);
        play.machine.heard(play.at);
        let mut ended = false;
        let mut rest = Vec::new();
        for effect in play.effects() {
            match effect {
                Effect::List { .. } => {
                    let mut page = play.page(&[newest.unwrap_or_else(|| present(play))], false);
                    page.events.extend_from_slice(others);
                    assert_eq!(play.machine.page(play.now(), Ok(page)), None);
                }
                Effect::Compare(ids) => {
                    play.machine.held(play.now(), Some(&vec![true; ids.len()]));
                    ended = true;
                }
                Effect::Ping => {}
                other => rest.push(other),
            }
        }
        if ended || !rest.is_empty() {
            rest.extend(play.effects());
            // If no event that was compared before is shown, the end is requested twice.
            if let [Effect::List { .. }] = rest[..] {
                play.list(&[]);
                rest = play.effects();
            }
            return rest;
        }
    }
}

/// Connects again, with nothing missing.
fn connect_again(play: &mut Play) {
    play.until_connect();
    play.machine.opened(play.now());
    assert!(matches!(play.effects()[..], [Effect::List { .. }]));
    play.list(&[1]);
    assert_eq!(play.effects().len(), 0);
}

fn is_behind(play: &Play) -> bool {
    let swept = play.notices.iter().rev().find_map(|notice| match notice {
        Notice::Swept { behind, .. } => Some(*behind),
        _ => None,
    });
    swept.expect("a sweep has ended")
}

#[test]
fn a_stream_that_brings_nothing_while_the_list_grows_is_replaced_once_and_then_reported() {
    let rogue = Event { created: START + 365 * 86_400, ..event(2) };
    for others in [&[][..], &[rogue]] {
        let mut play = Play::live(settings());
        let mut replaced = 0;
        for _ in 0..8 {
            let effects = sweep_over_what_is_stored(&mut play, None, others);
            if let [Effect::Disconnect(ending)] = effects[..] {
                assert_eq!(ending, Ending::Behind);
                assert!(!is_behind(&play), "a new connection may bring what this one does not");
                replaced += 1;
                connect_again(&mut play);
            } else {
                assert_eq!(effects.len(), 0, "{effects:?}");
            }
        }
        assert_eq!(replaced, 1);
        assert!(is_behind(&play));
        // The event that the connection brings ends the series.
        let brought = present(&play);
        play.frame(brought);
        assert!(matches!(play.effect(), Effect::Record { .. }));
        play.store(1);
        assert_eq!(sweep_over_what_is_stored(&mut play, Some(brought), others).len(), 0);
        assert!(!is_behind(&play));
    }
}

#[test]
fn a_stream_that_brings_what_the_list_shows_is_left_alone() {
    let mut play = Play::live(settings());
    for _ in 0..6 {
        let brought = present(&play);
        play.frame(brought);
        assert!(matches!(play.effect(), Effect::Record { .. }));
        play.store(1);
        assert_eq!(sweep_over_what_is_stored(&mut play, Some(brought), &[]).len(), 0);
        assert!(!is_behind(&play));
    }
}

#[test]
fn an_event_from_the_future_neither_ends_a_sweep_nor_counts_as_compared() {
    let mut play = Play::live(settings());
    let rogue = Event { created: START + 365 * 86_400, ..event(2) };
    assert_eq!(sweep_over_what_is_stored(&mut play, None, std::slice::from_ref(&rogue)).len(), 0);
    let compared = play.notices.iter().find_map(|notice| match notice {
        Notice::Swept { compared, .. } => *compared,
        _ => None,
    });
    assert!(compared.unwrap() <= START + i64::try_from(seconds(play.at)).unwrap(), "{compared:?}");
}

#[test]
fn one_sweep_that_finds_something_is_no_reason_to_reconnect() {
    let mut play = Play::live(settings());
    for found in [&[2][..], &[], &[3]] {
        assert_eq!(sweep(&mut play, found).len(), 0);
    }
}

#[test]
fn without_a_connection_the_list_is_walked_at_the_pace_of_sweeps() {
    let mut play = Play::live(settings());
    play.machine.closed(play.now());
    play.until_connect();
    play.wait(61.0);
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.list(&[2, 1]);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.store(1);
    assert_eq!(play.machine.phase(), StreamPhase::Connecting);
    // The events that the list was late to show lie below the cursor.
    for late in [3, 4] {
        assert_eq!(sweep(&mut play, &[late]).len(), 0);
        let told = play.notices.iter().rev().find(|notice| matches!(notice, Notice::Swept { .. }));
        assert!(matches!(told, Some(Notice::Swept { found: 1, behind: false, .. })), "{told:?}");
        assert_eq!(play.machine.phase(), StreamPhase::Connecting);
        play.wait(120.0);
        assert!(matches!(play.effect(), Effect::List { .. }), "the next walk");
        play.list(&[2, 1]);
    }
}

#[test]
fn a_connection_ends_the_sweep_that_went_on_without_one() {
    let mut play = Play::live(settings());
    play.machine.closed(play.now());
    play.until_connect();
    play.wait(61.0);
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.list(&[1]);
    assert!(matches!(play.effect(), Effect::List { .. }), "the sweep");
    play.machine.opened(play.now());
    play.list(&[3]);
    // The stream walks again: the events move the cursor.
    play.wait(1.0);
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.list(&[3, 1]);
    assert_eq!(play.batch(), (vec![3], Some(3)));
}

#[test]
fn a_walk_does_not_wait_for_the_answer_to_a_sweep_or_a_backfill() {
    let sweep = |play: &mut Play| play.wait(10.0);
    let backfill = |play: &mut Play| play.machine.backfill(&BackfillFrom::After("evt_0".parse().unwrap()));
    for ask in [sweep as fn(&mut Play), backfill] {
        let mut play = Play::live(settings());
        ask(&mut play);
        assert!(matches!(play.effect(), Effect::List { .. }));
        play.wait(1.0);
        play.machine.hint(play.now());
        assert!(matches!(play.effect(), Effect::List { .. }), "its own request replaces that one");
        play.list(&[2, 1]);
        assert_eq!(play.batch(), (vec![2], Some(2)));
    }
}

#[test]
fn a_sweep_looks_back_from_pepays_time_and_not_from_that_of_this_machine() {
    const BEHIND: i64 = 86_400;
    let mut play = Play::live(settings());
    play.server_time = Some(UnixMillis((START - BEHIND) * 1000));
    // The first answer shows the time.
    sweep(&mut play, &[]);
    let lookback = i64::try_from(play.machine.settings.reconcile_lookback.as_secs()).unwrap();
    let since = loop {
        play.wait(1.0);
        play.machine.heard(play.at);
        let listed = play.effects().into_iter().find_map(|effect| match effect {
            Effect::List { query, .. } => query.created_gte,
            _ => None,
        });
        if let Some(since) = listed {
            break since;
        }
    };
    let ours = play.now().wall.seconds() - lookback;
    let ahead = ours - since;
    assert!((BEHIND..BEHIND + lookback).contains(&ahead), "{ahead} s before our own");
}

#[test]
fn sweeps_that_fail_become_rarer() {
    let mut play = Play::live(settings());
    let mut waits = Vec::new();
    for _ in 0..5 {
        let before = play.at;
        loop {
            play.wait(1.0);
            play.machine.heard(play.at);
            if play.effects().iter().any(|effect| matches!(effect, Effect::List { .. })) {
                break;
            }
        }
        waits.push(seconds(play.at.saturating_sub(before)));
        let failure = Failure { kind: FailureKind::RateLimited, retry_after: None, text: String::new() };
        play.machine.page(play.now(), Err(failure));
    }
    assert_eq!(waits, [10, 120, 240, 480, 480]);
}

#[test]
fn a_list_that_refuses_its_parameters_is_asked_for_without_either_bound_of_time() {
    let mut play = Play::live(settings());
    let (since, until) = (Some(1), Some(2));
    for bounds in [(since, until), (since, until), (None, None)] {
        let query = ListQuery {
            starting_after: None,
            ending_before: None,
            created_gte: since,
            created_lte: until,
            limit: 100,
        };
        let asked = play.machine.list(play.now(), &mut Wake::default(), PagePurpose::Sweep, query);
        let Some(Effect::List { query, .. }) = asked else { panic!("{asked:?}") };
        assert_eq!((query.created_gte, query.created_lte), bounds);
        play.list_fails(FailureKind::Rejected);
    }
}

/// Returns the limit of the page that is requested next.
fn next_limit(play: &mut Play) -> u16 {
    loop {
        for effect in play.effects() {
            if let Effect::List { query, .. } = effect {
                return query.limit;
            }
        }
        play.wait(1.0);
        play.machine.heard(play.at);
    }
}

#[test]
fn a_page_that_takes_too_long_is_asked_for_in_smaller_ones_and_does_not_end_a_sweep() {
    let mut play = Play::live(settings());
    for limit in [100, 50, 25, 12, 10] {
        let before = play.at;
        assert_eq!(next_limit(&mut play), limit);
        assert!(seconds(play.at.saturating_sub(before)) <= 10, "the sweep goes on");
        play.list_fails(FailureKind::Unreachable);
    }
    // The pages grow again while they arrive.
    let (mut limits, before) = (Vec::new(), play.at);
    for page in 0..18 {
        limits.push(next_limit(&mut play));
        assert!(seconds(play.at.saturating_sub(before)) >= 120, "another sweep");
        let newest = 3700 - page * 10;
        let page = play.page(&[newest, newest - 9], true);
        assert_eq!(play.machine.page(play.now(), Ok(page)), None);
        play.effects();
        play.machine.held(play.now(), Some(&[true, true]));
    }
    assert_eq!(limits, [[10; 5], [20; 5], [40; 5]].concat().into_iter().chain([80; 3]).collect::<Vec<_>>());
}
