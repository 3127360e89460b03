use super::*;
use crate::source::stream::StartFrom;

#[test]
fn a_connection_resumes_after_the_cursor_and_frames_wait_for_the_list() {
    let mut play = Play::new(settings());
    let Effect::Connect { since, .. } = play.effect() else { panic!() };
    assert_eq!(since, at(1).event);
    play.machine.opened(play.now());
    play.frame(3);
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.frame(4);
    play.list(&[3, 2, 1]);
    assert_eq!(play.batch(), (vec![2, 3], Some(3)));
    play.store(2);
    assert_eq!(play.batch(), (vec![3, 4], Some(4)), "a repetition is left to the store to tell");
    assert!(play.notices.contains(&Notice::GapClosed { filled: 2, proven: true }));
}

#[test]
fn a_list_that_was_read_before_the_connection_opened_closes_no_gap() {
    let mut play = Play::live(settings());
    play.machine.closed(play.now());
    play.until_connect();
    play.machine.opened(play.now());
    play.wait(1.0);
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.machine.closed(play.now());
    play.until_connect();
    play.machine.opened(play.now());
    play.list(&[1]);
    assert_eq!(play.machine.phase(), StreamPhase::Backfilling);
    assert!(matches!(play.effect(), Effect::List { .. }), "it is read once more");
    play.list(&[1]);
    assert_eq!(play.effects().len(), 0);
    assert_eq!(play.machine.phase(), StreamPhase::Live);
}

#[test]
fn a_lost_connection_does_not_delay_the_frames_that_it_brought() {
    // The walk is under way when the connection ends.
    let mut play = Play::new(settings());
    play.effects();
    play.machine.opened(play.now());
    play.frame(3);
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.machine.closed(play.now());
    play.list(&[3, 2, 1]);
    assert_eq!(play.batch(), (vec![2, 3], Some(3)));
    play.store(2);
    assert_eq!(play.batch(), (vec![3], Some(3)));
    play.store(1);

    // The connection ends before the list can be requested.
    play.until_connect();
    play.machine.opened(play.now());
    play.frame(5);
    play.machine.closed(play.now());
    play.wait(1.0);
    assert!(play.effects().iter().any(|effect| matches!(effect, Effect::List { .. })));
    play.list(&[5, 4, 3]);
    assert_eq!(play.batch(), (vec![4, 5], Some(5)));
    play.store(2);
    assert_eq!(play.batch(), (vec![5], Some(5)));
    play.store(1);
    play.wait(30.0);
    play.effects();
    assert!(!play.notices.iter().any(|notice| matches!(notice, Notice::HoldEnded { .. })));
}

#[test]
fn frames_that_exceed_the_buffer_are_read_from_the_list_later() {
    let mut play = Play::new(settings());
    play.effects();
    play.machine.opened(play.now());
    assert!(matches!(play.effect(), Effect::List { .. }));
    for n in 0..=Limits::DEFAULT.held.frames {
        play.frame(n + 2);
    }
    play.list(&[1]);
    play.wait(1.0);
    assert!(matches!(play.effect(), Effect::List { .. }), "the gap is not closed by the first list");
    let frames = Limits::DEFAULT.held.frames + 1;
    assert!(play.notices.contains(&Notice::HoldOverflowed { frames }));
}

#[test]
fn a_hint_of_a_gap_holds_back_frames_that_are_not_stored_and_reads_the_list() {
    let mut play = Play::live(settings());
    play.wait(1.0);
    play.frame(2);
    play.machine.hint(play.now());
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.list(&[2, 1]);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.store(1);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    assert_eq!(play.machine.phase(), StreamPhase::Live);
}

#[test]
fn the_first_start_remembers_the_newest_event_before_it_connects() {
    let mut play = Play::first(settings());
    let Effect::List { query, .. } = play.effect() else { panic!() };
    assert_eq!(query.limit, 1);
    play.list(&[7]);
    assert_eq!(play.batch(), (vec![], Some(7)));
    assert_eq!(play.machine.position(), None, "not before it is stored");
    play.store(0);
    let Effect::Connect { since, .. } = play.effect() else { panic!() };
    assert_eq!(since, at(7).event);
}

#[test]
fn the_first_event_of_an_empty_account_is_not_lost() {
    let mut play = Play::first(settings());
    // Pepay's clock is behind ours, and its answers show this.
    play.server_time = Some(UnixMillis((START - 3600) * 1000));
    play.effects();
    play.list(&[]);
    let Effect::Record { cursor: Some(cursor), .. } = play.effect() else { panic!() };
    assert_eq!(cursor, Position { event: None, created: START - 3600 });
    play.store(0);
    assert!(matches!(play.effect(), Effect::Connect { since: None, .. }));
    play.machine.opened(play.now());
    let Effect::List { query, .. } = play.effect() else { panic!() };
    assert_eq!((query.starting_after, query.created_gte), (None, None));
    play.list_to_its_end(&[2, 1]);
    assert_eq!(play.batch(), (vec![1, 2], Some(2)));
    assert!(play.notices.iter().any(|notice| matches!(notice, Notice::ClockOff { .. })));
}

#[test]
fn earliest_and_an_event_id_need_no_list_to_begin_with() {
    for (start_from, expected) in [
        (StartFrom::Earliest, Position { event: None, created: 0 }),
        (
            StartFrom::After("evt_1734780000123-9".parse().unwrap()),
            Position { event: Some("evt_1734780000123-9".parse().unwrap()), created: 1_734_780_000 },
        ),
        (StartFrom::After(at(5).event.unwrap()), Position { created: 0, ..at(5) }),
        // The id has no time in milliseconds: everything would be older than it.
        (
            StartFrom::After("evt_1734780000123456-9".parse().unwrap()),
            Position { event: Some("evt_1734780000123456-9".parse().unwrap()), created: 0 },
        ),
    ] {
        let mut play = Play::first(Settings { start_from, ..settings() });
        let Effect::Record { cursor, .. } = play.effect() else { panic!() };
        assert_eq!(cursor, Some(expected));
    }
}

#[test]
fn the_cursor_does_not_follow_a_repeated_older_frame() {
    let mut play = Play::live(settings());
    play.frame(5);
    assert_eq!(play.batch(), (vec![5], Some(5)));
    play.frame(3);
    play.store(1);
    assert_eq!(play.batch(), (vec![3], None));
}

#[test]
fn a_time_of_the_future_does_not_hold_the_cursor() {
    let mut play = Play::live(settings());
    let rogue = Event { created: i64::MAX, ..event(2) };
    play.machine.event(play.now(), rogue);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.store(1);
    let next = Event { created: START + 9, ..event(3) };
    play.wait(10.0);
    play.machine.event(play.now(), next);
    assert_eq!(play.effects().len(), 2, "a batch and a list");
    assert!(play.machine.recording.as_ref().unwrap().cursor.is_some());
}

#[test]
fn a_batch_that_is_not_stored_is_offered_again_before_anything_else() {
    let mut play = Play::live(settings());
    play.frame(2);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.frame(3);
    play.machine.recorded(play.now(), Err(&[]));
    assert_eq!(play.effects().len(), 0, "not at once");
    play.wait(0.5);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.store(1);
    assert_eq!(play.batch(), (vec![3], Some(3)));
}

#[test]
fn what_is_stored_of_a_batch_is_not_offered_again_and_counts_once() {
    let mut play = Play::new(settings());
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    play.list(&[6, 5, 4, 3, 2, 1]);
    assert_eq!(play.batch(), (vec![2, 3, 4, 5, 6], Some(6)));
    for (stored, rest) in
        [(&[Recorded::New, Recorded::Duplicate][..], vec![4, 5, 6]), (&[Recorded::New], vec![5, 6])]
    {
        play.machine.recorded(play.now(), Err(stored));
        assert_eq!(play.machine.position(), Some(&at(1)), "the cursor moves with the last event");
        play.wait(2.0);
        assert_eq!(play.batch(), (rest, Some(6)));
    }
    play.machine.recorded(play.now(), Ok(&[Recorded::Duplicate, Recorded::New]));
    assert_eq!(play.effects().len(), 0);
    assert_eq!(play.machine.position(), Some(&at(6)));
    assert!(play.notices.contains(&Notice::GapClosed { filled: 3, proven: true }), "{:?}", play.notices);
}

#[test]
fn an_empty_list_closes_no_gap_and_live_events_pass_after_the_hold_limit() {
    let mut play = Play::new(Settings { reconcile_interval: None, ..settings() });
    play.effects();
    play.machine.opened(play.now());
    play.frame(9);
    let (mut asked, mut passed) = (0, None);
    while play.at < Duration::from_secs(120) {
        for effect in play.effects() {
            match effect {
                Effect::List { .. } => {
                    asked += 1;
                    play.list(&[]);
                }
                Effect::Record { events, cursor, .. } => {
                    assert_eq!(cursor, None, "the gap keeps its cursor");
                    passed.get_or_insert((events.len(), play.at));
                    play.store(1);
                }
                Effect::Ping => {}
                other => panic!("{other:?}"),
            }
        }
        play.wait(1.0);
        play.machine.heard(play.at);
    }
    let (frames, at) = passed.expect("the frame passes");
    assert_eq!((frames, seconds(at)), (1, 30), "after the hold limit");
    assert!((5..30).contains(&asked), "{asked} requests in two minutes");
    assert_eq!(play.machine.position(), Some(&self::at(1)));
    assert!(play.notices.contains(&Notice::ListEmpty));
    // The list recovers. Its events close the gap, and nothing was missed.
    loop {
        if play.effects().iter().any(|effect| matches!(effect, Effect::List { .. })) {
            break;
        }
        play.wait(1.0);
        play.machine.heard(play.at);
    }
    play.list(&[9, 5, 1]);
    assert_eq!(play.batch(), (vec![5, 9], Some(9)));
    play.store(2);
    play.effects();
    assert!(play.notices.contains(&Notice::GapClosed { filled: 2, proven: true }), "{:?}", play.notices);
}

#[test]
fn every_failure_of_the_list_holds_live_events_back_for_a_bounded_time() {
    for kind in [
        FailureKind::Refused,
        FailureKind::Missing,
        FailureKind::Rejected,
        FailureKind::RateLimited,
        FailureKind::Unavailable,
        FailureKind::Unreachable,
        FailureKind::Malformed,
    ] {
        let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
        play.machine.closed(play.now());
        play.until_connect();
        play.machine.opened(play.now());
        play.frame(2);
        let mut passed = None;
        while play.at < Duration::from_secs(60) && passed.is_none() {
            for effect in play.effects() {
                match effect {
                    Effect::List { .. } => play.list_fails(kind),
                    Effect::Record { cursor, .. } => {
                        assert_eq!(cursor, None);
                        passed = Some(play.at);
                    }
                    _ => {}
                }
            }
            play.wait(0.5);
            play.machine.heard(play.at);
        }
        let passed = passed.unwrap_or_else(|| panic!("{kind:?} holds it back for ever"));
        assert!(seconds(passed) <= 31, "{kind:?}: {passed:?}");
        assert_eq!(play.machine.phase(), StreamPhase::Backfilling, "the gap stays open");
    }
}

#[test]
fn a_second_page_that_is_always_refused_is_requested_with_growing_waits() {
    let mut play = Play::new(Settings { reconcile_interval: None, ..settings() });
    play.effects();
    play.machine.opened(play.now());
    let mut asked = Vec::new();
    while play.at < Duration::from_secs(120) {
        for effect in play.effects() {
            let Effect::List { query, .. } = effect else { continue };
            asked.push(seconds(play.at));
            if query.starting_after.is_some() {
                play.list_fails(FailureKind::Missing);
            } else {
                let page = play.page(&[90, 80, 70], true);
                assert_eq!(play.machine.page(play.now(), Ok(page)), None);
            }
        }
        play.wait(0.1);
        play.machine.heard(play.at);
    }
    let late = asked.iter().filter(|at| **at >= 60).count();
    assert!(late <= 24, "{late} requests in the second minute, with waits of up to 10 s");
}

#[test]
fn an_event_from_before_the_first_start_is_left_alone_whatever_the_list_shows() {
    let mut play = Play::first(settings());
    play.effects();
    play.list(&[]);
    play.effect();
    play.store(0);
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    // The event is an hour old: the list was wrong once.
    play.list_to_its_end(&[3, 2, 1]);
    assert_eq!(play.effects().len(), 0, "nothing is stored");
    assert_eq!(play.machine.phase(), StreamPhase::Live);
    let early = |play: &Play| play.notices.iter().any(|notice| matches!(notice, Notice::Early { .. }));
    assert!(!early(&play), "a list shows old events as a matter of course");
    play.frame(4);
    assert_eq!(play.effects().len(), 0);
    assert!(early(&play));
}

#[test]
fn a_list_that_does_not_answer_does_not_keep_the_first_start_waiting() {
    let mut play = Play::first(Settings { reconcile_interval: None, ..settings() });
    let mut began = None;
    while began.is_none() && play.at < Duration::from_secs(60) {
        for effect in play.effects() {
            match effect {
                Effect::List { query, .. } => {
                    assert_eq!(query.limit, 1);
                    play.list_fails(FailureKind::Missing);
                }
                Effect::Record { events, cursor, .. } => {
                    assert!(events.is_empty());
                    began = cursor;
                }
                other => panic!("{other:?}"),
            }
        }
        if began.is_none() {
            play.wait(1.0);
        }
    }
    assert_eq!(seconds(play.at), 30, "the hold limit");
    assert_eq!(began, Some(Position { event: None, created: START + 30 }));
    play.store(0);
    assert!(matches!(play.effect(), Effect::Connect { since: None, .. }));
}

#[test]
fn arrival_times_follow_the_order_of_storage_for_ids_without_an_order() {
    let mut play = Play::new(settings());
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    play.wait(1.0);
    play.frame(4);
    let page = play.page(&[3], true);
    play.machine.page(play.now(), Ok(page));
    play.effects();
    play.wait(1.0);
    play.list(&[2, 1]);
    let mut arrived = Vec::new();
    while arrived.len() < 3 {
        let Effect::Record { events, .. } = play.effect() else { panic!("no batch") };
        arrived.extend(events.iter().map(|received| (number(&received.event.id), received.received_at)));
        play.store(events.len());
    }
    assert_eq!(arrived.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(arrived.is_sorted_by_key(|(_, at)| *at), "{arrived:?}");
}
