use super::*;
use crate::source::stream::Auth;

#[test]
fn silence_is_answered_with_pings_and_then_with_a_new_connection() {
    let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
    play.wait(20.0);
    assert!(matches!(play.effect(), Effect::Ping));
    play.machine.heard(play.at);
    play.wait(20.0);
    assert!(matches!(play.effect(), Effect::Ping));
    play.wait(20.0);
    assert!(matches!(play.effect(), Effect::Ping));
    play.wait(19.9);
    assert_eq!(play.effects().len(), 0);
    play.wait(0.1);
    assert!(matches!(play.effects()[..], [Effect::Disconnect(Ending::Idle)]));
    assert!(play.until_connect() <= Duration::from_millis(500));
}

#[test]
fn a_store_that_stays_behind_ends_the_connection_and_pings_go_on_until_then() {
    let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
    play.frame(2);
    play.batch();
    let mut frames = 0;
    while play.machine.keeps_up() {
        play.frame(3);
        frames += 1;
    }
    assert_eq!(frames, Limits::DEFAULT.pending.frames);
    // Frames stay on the wire, and nothing is dropped.
    assert!(!play.machine.takes_frames());
    assert_eq!(play.effects().len(), 0);
    assert_eq!(play.machine.phase(), StreamPhase::Live);
    play.wait(20.0);
    assert!(matches!(play.effect(), Effect::Ping));
    play.wait(40.0);
    assert!(matches!(play.effects()[..], [Effect::Disconnect(Ending::Stalled)]));
    play.wait(600.0);
    assert_eq!(play.effects().len(), 0, "no new connection before there is room");
    play.store(1);
    assert!(play.effects().iter().any(|effect| matches!(effect, Effect::Connect { .. })));
}

#[test]
fn a_stall_of_the_store_that_ends_in_time_keeps_the_connection() {
    let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
    play.frame(2);
    play.batch();
    while play.machine.keeps_up() {
        play.frame(3);
    }
    play.effects();
    play.wait(59.0);
    play.effects();
    play.store(1);
    play.effects();
    play.wait(59.0);
    assert!(!play.effects().iter().any(|effect| matches!(effect, Effect::Disconnect(_))));
}

#[test]
fn connections_that_close_at_once_are_made_with_growing_waits_which_a_lasting_one_resets() {
    let mut play = Play::new(settings());
    let mut waits = Vec::new();
    for _ in 0..6 {
        play.until_connect();
        play.machine.opened(play.now());
        play.machine.closed(play.now());
        let before = play.at;
        play.until_connect();
        waits.push(play.at.saturating_sub(before).as_millis());
        play.machine.opened(play.now());
        play.machine.closed(play.now());
    }
    assert_eq!(waits, [500, 2000, 8000, 10_000, 10_000, 10_000]);
    play.until_connect();
    play.machine.opened(play.now());
    play.wait(10.0);
    play.machine.closed(play.now());
    assert_eq!(play.until_connect().as_millis(), 500);
}

#[test]
fn after_a_refused_token_one_is_minted_at_once_and_further_ones_slowly() {
    let mut play = Play::new(settings());
    play.until_connect();
    assert_eq!(play.refuse(ConnectStep::Upgrade, FailureKind::Refused, None), Ending::Refused);
    assert_eq!(play.until_connect().as_millis(), 500);
    for _ in 0..3 {
        play.refuse(ConnectStep::Upgrade, FailureKind::Refused, None);
        assert_eq!(seconds(play.until_connect()), 11, "backoff_max and a little more");
    }
}

#[test]
fn a_refused_key_is_tried_again_slowly_from_the_first_time() {
    for (step, auth) in [(ConnectStep::Token, Auth::Token), (ConnectStep::Upgrade, Auth::Header)] {
        let mut play = Play::new(Settings { auth, ..settings() });
        play.until_connect();
        play.refuse(step, FailureKind::Refused, None);
        assert_eq!(seconds(play.until_connect()), 11);
    }
}

#[test]
fn retry_after_is_a_floor_for_every_kind_of_request() {
    for kind in [FailureKind::RateLimited, FailureKind::Unavailable, FailureKind::Refused] {
        for step in [ConnectStep::Token, ConnectStep::Upgrade] {
            let mut play = Play::new(settings());
            play.until_connect();
            play.refuse(step, kind, Some(90));
            assert!(seconds(play.until_connect()) >= 90, "{kind:?} {step:?}");
        }
    }
    let mut play = Play::new(Settings { reconcile_interval: None, ..settings() });
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    let failure = Failure {
        kind: FailureKind::RateLimited,
        retry_after: Some(Duration::from_secs(30)),
        text: String::new(),
    };
    assert!(play.machine.page(play.now(), Err(failure)).is_some());
    play.wait(29.0);
    assert!(!play.effects().iter().any(|effect| matches!(effect, Effect::List { .. })));
    play.wait(2.0);
    assert!(play.effects().iter().any(|effect| matches!(effect, Effect::List { .. })));
}

#[test]
fn the_list_keeps_no_connection_waiting_for_longer_than_the_hold_limit() {
    let limited = || Failure {
        kind: FailureKind::RateLimited,
        retry_after: Some(Duration::from_secs(3600)),
        text: String::new(),
    };
    // At the first start, and after a loss.
    let mut play = Play::first(settings());
    play.effects();
    assert!(play.machine.page(play.now(), Err(limited())).is_some());
    play.wait(30.0);
    play.effects();
    play.store(0);
    assert!(play.effects().iter().any(|effect| matches!(effect, Effect::Connect { .. })));
    let mut play = Play::new(settings());
    play.until_connect();
    play.machine.opened(play.now());
    play.effects();
    assert!(play.machine.page(play.now(), Err(limited())).is_some());
    play.machine.closed(play.now());
    let waited = seconds(play.until_connect());
    assert!((30..40).contains(&waited), "{waited}");
    // A try that fails for another reason does not prolong the wait.
    for kind in [FailureKind::Unreachable, FailureKind::Unavailable, FailureKind::Refused] {
        play.refuse(ConnectStep::Upgrade, kind, None);
        let waited = seconds(play.until_connect());
        assert!(waited <= 11, "{kind:?}: {waited}");
    }
    // A wait that the stream itself has asked for is respected in full.
    play.refuse(ConnectStep::Upgrade, FailureKind::RateLimited, Some(90));
    assert_eq!(seconds(play.until_connect()), 90);
}

#[test]
fn a_cursor_that_the_upgrade_rejects_is_left_out_and_the_list_brings_the_events_after_it() {
    let mut play = Play::new(settings());
    play.until_connect();
    assert_eq!(play.refuse(ConnectStep::Upgrade, FailureKind::Rejected, None), Ending::Rejected);
    play.wait(1.0);
    assert!(matches!(play.effect(), Effect::Connect { since: None, narrowing: Narrowing::Full }));
    for narrowing in [Narrowing::Types, Narrowing::Bare] {
        play.refuse(ConnectStep::Upgrade, FailureKind::Rejected, None);
        play.wait(4.0);
        let Effect::Connect { narrowing: tried, .. } = play.effect() else { panic!() };
        assert_eq!(tried, narrowing, "then it may be a filter, which can be applied on this side");
    }
    play.refuse(ConnectStep::Upgrade, FailureKind::Rejected, None);
    assert_eq!(
        seconds(play.until_connect()),
        11,
        "then it is the subscription, which only an operator mends"
    );
    play.machine.opened(play.now());
    play.effects();
    let waits = play.list_without_the_known(&[9, 8]);
    assert!(waits[0].is_zero() && waits[1..].iter().is_sorted() && !waits[1].is_zero(), "{waits:?}");
    let Notice::Unproven(hole) = play.notices_after() else { panic!() };
    assert_eq!(number(&hole.after.0), 1);
    assert_eq!(hole.before.map(|(id, _)| number(&id)), Some(8));
}

#[test]
fn a_reconnect_by_an_operator_is_made_at_once_and_its_gap_is_read() {
    let mut play = Play::live(settings());
    play.machine.reconnect();
    let effects = play.effects();
    let [Effect::Disconnect(Ending::Operator), Effect::Connect { since, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(since, &at(1).event);
    play.machine.opened(play.now());
    assert_eq!(play.machine.phase(), StreamPhase::Backfilling);
    assert!(matches!(play.effect(), Effect::List { .. }));
    play.list(&[1]);
    assert_eq!(play.effects().len(), 0, "once");
}

#[test]
fn a_reconnect_by_an_operator_ends_a_wait_and_resets_the_backoff() {
    let mut play = Play::new(settings());
    for _ in 0..8 {
        play.until_connect();
        play.refuse(ConnectStep::Upgrade, FailureKind::Unavailable, None);
    }
    assert_eq!(play.effects().len(), 0);
    play.machine.reconnect();
    assert!(matches!(play.effect(), Effect::Connect { .. }));
    play.machine.reconnect();
    assert_eq!(play.effects().len(), 0, "it is being opened already");
    play.refuse(ConnectStep::Upgrade, FailureKind::Unavailable, None);
    assert_eq!(play.until_connect().as_millis(), 500);
}

#[test]
fn a_reconnect_by_an_operator_waits_for_pepays_retry_after() {
    let mut play = Play::new(settings());
    play.until_connect();
    play.refuse(ConnectStep::Upgrade, FailureKind::RateLimited, Some(90));
    play.machine.reconnect();
    assert_eq!(seconds(play.until_connect()), 90);
}

#[test]
fn a_stream_reconnects_at_once_to_a_server_that_ends_connections_after_a_while() {
    let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
    let began = play.at;
    let mut apart = Duration::ZERO;
    for _ in 0..20 {
        play.wait(10.0);
        play.machine.heard(play.at);
        play.effects();
        play.machine.closed(play.now());
        apart += play.until_connect();
        play.machine.opened(play.now());
        play.wait(1.0);
        assert!(matches!(play.effect(), Effect::List { .. }));
        play.list(&[1]);
        play.effects();
    }
    let whole = play.at.saturating_sub(began);
    assert!(apart * 10 < whole, "{apart:?} of {whole:?} without a connection");
    assert!(!play.notices.iter().any(|notice| matches!(notice, Notice::ThrownOut { .. })));
}

#[test]
fn connections_that_keep_ending_early_are_reported_until_one_lasts() {
    let mut play = Play::new(settings());
    for times in 1..=4 {
        play.until_connect();
        play.machine.opened(play.now());
        play.machine.closed(play.now());
        play.effects();
        let said = play.notices.contains(&Notice::ThrownOut { times });
        assert_eq!(said, times >= 3, "{times}");
    }
    play.until_connect();
    play.machine.opened(play.now());
    play.notices.clear();
    play.wait(10.0);
    play.machine.heard(play.at);
    play.effects();
    assert!(play.notices.contains(&Notice::Steady));
}

#[test]
fn a_cursor_that_is_refused_inside_the_connection_is_left_out_after_a_few_tries() {
    let mut play = Play::new(settings());
    for left_out in [false, false, false, true] {
        let since = loop {
            let connect = play.effects().into_iter().find_map(|effect| match effect {
                Effect::Connect { since, .. } => Some(since),
                _ => None,
            });
            match connect {
                Some(since) => break since,
                None => play.at = play.until.expect("it waits for the time"),
            }
        };
        assert_eq!(since.is_none(), left_out);
        play.machine.opened(play.now());
        play.machine.closed(play.now());
    }
}

/// Returns the parameters that the next try to connect leaves out.
fn next_narrowing(play: &mut Play) -> Narrowing {
    loop {
        for effect in play.effects() {
            if let Effect::Connect { narrowing, .. } = effect {
                return narrowing;
            }
        }
        play.at = play.until.expect("it waits for the time");
    }
}

#[test]
fn a_filter_that_was_refused_is_asked_for_again_after_a_while_or_by_an_operator() {
    let refused = || {
        let mut play = Play::new(Settings { reconcile_interval: None, ..settings() });
        for narrowing in [Narrowing::Full, Narrowing::Full, Narrowing::Types] {
            assert_eq!(next_narrowing(&mut play), narrowing);
            play.refuse(ConnectStep::Upgrade, FailureKind::Rejected, None);
        }
        assert_eq!(next_narrowing(&mut play), Narrowing::Bare);
        let said = |narrowing| Notice::Narrowed { what: "subscription", narrowing };
        for narrowing in [Narrowing::Types, Narrowing::Bare] {
            assert!(play.notices.contains(&said(narrowing)), "{:?}", play.notices);
        }
        play.machine.opened(play.now());
        play.effects();
        play.list(&[1]);
        play.effects();
        play
    };
    for (minutes, expected) in [(59.0, Narrowing::Bare), (61.0, Narrowing::Full)] {
        let mut play = refused();
        play.wait(minutes * 60.0);
        play.machine.closed(play.now());
        assert_eq!(next_narrowing(&mut play), expected, "after {minutes} minutes");
    }
    let mut play = refused();
    play.machine.reconnect();
    assert_eq!(next_narrowing(&mut play), Narrowing::Full);
}
