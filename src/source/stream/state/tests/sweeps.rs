use super::*;

/// Sweeps once, finding `found` to be missing.
fn sweep(play: &mut Play, found: &[usize]) -> Vec<Command> {
    let mut rest = Vec::new();
    for _ in 0..60 {
        play.wait(2.0);
        play.machine.heard(play.at);
        let mut ended = false;
        for command in play.commands() {
            match command {
                Command::List { .. } => {
                    play.list(found);
                    ended = found.is_empty();
                }
                Command::Compare(ids) => play.machine.held(play.now(), Some(&vec![false; ids.len()])),
                Command::Record { events, cursor, .. } => {
                    assert_eq!(cursor, None, "a sweep moves no cursor");
                    assert!(events.iter().all(|received| received.source == Source::Reconcile));
                    play.store(events.len());
                    ended = true;
                }
                Command::Ping => {}
                other => rest.push(other),
            }
        }
        if ended {
            rest.extend(play.commands());
            return rest;
        }
    }
    panic!("no sweep");
}

#[test]
fn a_stream_whose_events_sweeps_keep_finding_is_replaced() {
    let mut play = Play::live(settings());
    assert_eq!(sweep(&mut play, &[2]).len(), 0);
    let commands = sweep(&mut play, &[3]);
    assert!(matches!(commands[..], [Command::Disconnect(Ending::Behind)]), "{commands:?}");
    assert!(play.notices.contains(&Notice::Swept {
        found: 1,
        cut_short: false,
        behind: true,
        compared: Some(event(3).created)
    }));
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
    assert!(matches!(play.command(), Command::List { .. }));
    play.list(&[2, 1]);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.store(1);
    assert_eq!(play.commands().len(), 0);
    assert_eq!(play.machine.phase(), StreamPhase::Connecting);
}

#[test]
fn a_sweep_looks_back_from_the_time_at_pepay_and_not_from_ours() {
    const BEHIND: i64 = 86_400;
    let mut play = Play::live(settings());
    play.server_time = Some(UnixMillis((START - BEHIND) * 1000));
    // The first answer tells the time.
    sweep(&mut play, &[]);
    let lookback = i64::try_from(play.machine.settings.reconcile_lookback.as_secs()).unwrap();
    let since = loop {
        play.wait(1.0);
        play.machine.heard(play.at);
        let listed = play.commands().into_iter().find_map(|command| match command {
            Command::List { query, .. } => query.created_gte,
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
            if play.commands().iter().any(|command| matches!(command, Command::List { .. })) {
                break;
            }
        }
        waits.push(seconds(play.at.saturating_sub(before)));
        let failure = Failure { kind: FailureKind::RateLimited, retry_after: None, text: String::new() };
        play.machine.page(play.now(), Err(failure));
    }
    assert_eq!(waits, [10, 120, 240, 480, 480]);
}
