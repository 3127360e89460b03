use super::*;
use crate::domain::operator::BackfillFrom;

fn after(n: usize) -> BackfillFrom {
    BackfillFrom::After(event(n).id)
}

/// Returns a live stream at event 9, which knows nothing of its past.
fn live_at_nine() -> Play {
    let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
    play.frame(9);
    assert_eq!(play.batch(), (vec![9], Some(9)));
    play.store(1);
    assert_eq!(play.effects().len(), 0);
    play.notices.clear();
    play
}

fn ended(play: &Play) -> &Progress {
    let ended = play.notices.iter().find_map(|notice| match notice {
        Notice::BackfillEnded(progress) => Some(progress),
        _ => None,
    });
    ended.expect("the backfill has ended")
}

#[test]
fn a_manual_backfill_takes_in_what_is_missing_below_the_cursor_and_does_not_move_it() {
    let mut play = live_at_nine();
    play.machine.backfill(&after(3));
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.list(&[10, 9, 8, 5, 4, 3, 2]);
    let Effect::Record { events, cursor, .. } = play.effect() else { panic!("nothing is stored") };
    let numbers: Vec<_> = events.iter().map(|received| number(&received.event.id)).collect();
    assert_eq!((numbers, cursor), (vec![4, 5, 8, 9], None), "what is newer has time to come by frame");
    assert!(events.iter().all(|received| received.source == Source::Backfill));
    assert_eq!(play.machine.progress().unwrap().read, 7);
    play.machine
        .recorded(play.now(), Ok(&[Recorded::New, Recorded::Duplicate, Recorded::New, Recorded::Duplicate]));
    assert_eq!(play.effects().len(), 0);
    play.wait(2.0);
    assert_eq!(play.batch(), (vec![10], None), "and is taken in if it has not");
    play.store(1);
    assert_eq!(play.effects().len(), 0);
    assert_eq!(*ended(&play), Progress { read: 7, recorded: 3, trouble: None });
    assert!(play.machine.progress().is_none());
    assert_eq!(play.machine.position(), Some(&at(9)));
    assert!(play.notices.contains(&Notice::Stored { newest: None }), "old events are no news");
}

#[test]
fn events_between_the_cursor_and_a_newer_beginning_go_first() {
    let since_twelve = BackfillFrom::Time(UnixMillis(event(12).created * 1000));
    for (from, pages) in [(after(11), &[&[13, 12, 11][..]][..]), (since_twelve, &[&[13, 12], &[]])] {
        let mut play = live_at_nine();
        play.machine.backfill(&from);
        for page in pages {
            assert!(matches!(play.effect(), Effect::List { .. }));
            play.list(page);
            assert_eq!(play.effects().len(), 0);
            play.wait(0.2);
        }
        let Effect::List { query, .. } = play.effect() else { panic!("the rest is not asked for") };
        assert_eq!((query.starting_after, query.created_gte), (None, None));
        play.list(&[13, 12, 11, 10, 9]);
        assert_eq!(play.effects().len(), 0, "what is newer has time to come by frame");
        play.wait(2.0);
        assert_eq!(play.batch(), (vec![10, 11, 12, 13], None));
        play.store(4);
        play.effects();
        assert_eq!(ended(&play).trouble, None);
    }
}

#[test]
fn a_manual_backfill_from_a_time_asks_for_nothing_older() {
    let mut play = live_at_nine();
    let from = event(4).created;
    play.machine.backfill(&BackfillFrom::Time(UnixMillis(from * 1000 + 1)));
    let Effect::List { query, .. } = play.effect() else { panic!() };
    assert_eq!((query.created_gte, query.starting_after), (Some(from), None));
    play.list(&[9, 6, 4]);
    play.wait(0.2);
    assert!(matches!(play.effect(), Effect::List { .. }), "no single answer ends it");
    play.list(&[]);
    assert_eq!(play.batch(), (vec![4, 6, 9], None));
    play.store(3);
    assert_eq!(play.effects().len(), 0);
    assert_eq!(*ended(&play), Progress { read: 3, recorded: 3, trouble: None });
}

#[test]
fn frames_go_on_during_a_manual_backfill_and_pages_keep_their_distance() {
    let mut play = live_at_nine();
    play.machine.backfill(&after(1));
    play.effect();
    let first = play.page(&[9, 8, 7], true);
    assert_eq!(play.machine.page(play.now(), Ok(first)), None);
    assert_eq!(play.effects().len(), 0, "not at once");
    play.frame(10);
    assert_eq!(play.batch(), (vec![10], Some(10)));
    play.wait(0.2);
    assert_eq!(play.effects().len(), 0, "one batch at a time");
    play.store(1);
    let Effect::List { query, .. } = play.effect() else { panic!() };
    assert_eq!(query.starting_after.as_ref().map(number), Some(7));
    let second = play.page(&[6, 1], false);
    assert_eq!(play.machine.page(play.now(), Ok(second)), None);
    assert_eq!(play.batch(), (vec![6], None));
    play.store(1);
    assert_eq!(play.batch(), (vec![7, 8, 9], None));
    play.machine.recorded(play.now(), Ok(&[Recorded::New, Recorded::New, Recorded::Duplicate]));
    assert_eq!(play.effects().len(), 0);
    assert_eq!(*ended(&play), Progress { read: 5, recorded: 3, trouble: None });
    assert_eq!(play.machine.position(), Some(&at(10)));
}

#[test]
fn a_manual_backfill_waits_for_the_gap_of_a_new_connection() {
    let mut play = live_at_nine();
    play.machine.closed(play.now());
    play.until_connect();
    play.machine.opened(play.now());
    play.machine.backfill(&after(3));
    let Effect::List { query, .. } = play.effect() else { panic!() };
    play.list(&[9]);
    assert_eq!(query.starting_after, None);
    assert!(play.machine.progress().unwrap().read == 0, "that page was the gap's");
    assert!(matches!(play.effects()[..], [Effect::List { .. }]));
    assert_eq!(play.machine.phase(), StreamPhase::Live);
}

#[test]
fn without_a_connection_a_manual_backfill_gets_on_and_leaves_newer_events_to_the_gap() {
    let mut play = live_at_nine();
    play.machine.closed(play.now());
    play.until_connect();
    play.machine.backfill(&after(3));
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.list(&[12, 11, 9, 5, 3]);
    assert_eq!(play.batch(), (vec![5, 9], None));
    play.store(2);
    play.effects();
    let trouble = ended(&play).trouble.as_deref().unwrap();
    assert!(trouble.starts_with("2 events from evt_11 on are newer than the cursor"), "{trouble}");
}

#[test]
fn a_manual_backfill_after_an_event_that_pepay_does_not_list_reports_that() {
    let mut play = live_at_nine();
    play.machine.backfill(&BackfillFrom::After("evt_unknown".parse().unwrap()));
    play.effect();
    play.list(&[9, 8]);
    for _ in 0..5 {
        play.wait(0.2);
        assert!(matches!(play.effect(), Effect::List { .. }), "no few answers end it");
        play.list(&[]);
    }
    assert_eq!(play.batch(), (vec![8, 9], None));
    play.store(2);
    play.effects();
    let trouble = ended(&play).trouble.as_deref();
    assert_eq!(trouble, Some("Pepay no longer shows evt_unknown: all that it still has was read"));
}

fn failure(kind: FailureKind) -> Failure {
    Failure { kind, retry_after: None, text: format!("{kind:?}") }
}

#[test]
fn a_failure_that_only_an_operator_can_mend_ends_a_manual_backfill_at_once() {
    for kind in [FailureKind::Refused, FailureKind::Missing] {
        let mut play = live_at_nine();
        play.machine.backfill(&after(3));
        play.effect();
        assert!(play.machine.page(play.now(), Err(failure(kind))).is_some());
        assert_eq!(play.effects().len(), 0);
        assert_eq!(ended(&play).trouble, Some(format!("{kind:?}")));
        assert_eq!(play.machine.phase(), StreamPhase::Live);
    }
}

#[test]
fn a_passing_failure_is_tried_again_for_a_while_and_retry_after_is_kept() {
    let mut play = live_at_nine();
    play.machine.backfill(&after(3));
    play.effect();
    let wait = Some(Duration::from_secs(30));
    let limited = Failure { retry_after: wait, ..failure(FailureKind::RateLimited) };
    assert!(play.machine.page(play.now(), Err(limited)).is_some());
    play.machine.heard(play.at);
    assert_eq!(play.machine.progress().unwrap().trouble.as_deref(), Some("RateLimited"));
    play.wait(29.0);
    play.machine.heard(play.at);
    assert!(!play.effects().iter().any(|effect| matches!(effect, Effect::List { .. })));
    let mut tries = 1;
    while play.machine.progress().is_some() {
        play.wait(10.0);
        play.machine.heard(play.at);
        if play.effects().iter().any(|effect| matches!(effect, Effect::List { .. })) {
            tries += 1;
            let unavailable = failure(FailureKind::Unavailable);
            assert!(play.machine.page(play.now(), Err(unavailable)).is_some());
        }
    }
    play.effects();
    assert_eq!((tries, ended(&play).trouble.as_deref()), (10, Some("Unavailable")));
}

#[test]
fn a_second_backfill_does_not_disturb_the_first() {
    let mut play = live_at_nine();
    play.machine.backfill(&after(3));
    play.effect();
    play.machine.backfill(&after(8));
    play.list(&[9, 8, 5, 3]);
    assert_eq!(play.batch(), (vec![5, 8, 9], None));
}
