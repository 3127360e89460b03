use bytes::Bytes;

use super::*;
use crate::source::stream::tests::settings;
use crate::source::stream::{Auth, StartFrom};

/// A machine, its clock, and what it last said.
struct Play {
    machine: Machine,
    at: Duration,
    notices: Vec<Notice>,
    /// Until when it waits.
    until: Option<Duration>,
}

const START: i64 = 1_700_000_000;

impl Play {
    /// A stream that stands at `evt_1`, with jitter at its highest.
    fn new(settings: Settings) -> Self {
        Self::at(settings, Some(at(1)))
    }

    fn at(settings: Settings, position: Option<Position>) -> Self {
        let machine = Machine::new(settings, position, Jitter::from_fn(|| 1.0));
        Self { machine, at: Duration::ZERO, notices: Vec::new(), until: None }
    }

    fn now(&self) -> Moment {
        let wall = UnixMillis(START * 1000).plus(self.at);
        Moment { at: self.at, wall }
    }

    fn wait(&mut self, seconds: f64) {
        self.at += Duration::from_secs_f64(seconds);
    }

    /// What the machine wants done now, notices apart.
    fn commands(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        loop {
            match self.machine.poll(self.now()) {
                Poll::Do(Command::Tell(notice)) => self.notices.push(notice),
                Poll::Do(command) => commands.push(command),
                Poll::Wait(until) => {
                    self.until = until;
                    return commands;
                }
            }
        }
    }

    /// The one thing it wants done now.
    fn command(&mut self) -> Command {
        let mut commands = self.commands();
        assert_eq!(commands.len(), 1, "{commands:?}");
        commands.remove(0)
    }

    /// Waits until it wants to connect, and how long that took.
    fn until_connect(&mut self) -> Duration {
        let before = self.at;
        loop {
            if self.commands().iter().any(|command| matches!(command, Command::Connect { .. })) {
                return self.at - before;
            }
            self.at = self.until.expect("it waits for the time");
        }
    }

    fn refuse(&mut self, step: ConnectStep, kind: FailureKind, retry_after: Option<u64>) -> Ending {
        let retry_after = retry_after.map(Duration::from_secs);
        let failure = Failure { kind, retry_after, text: String::new() };
        self.machine.connect_failed(self.now(), step, &failure)
    }

    /// Answers the list that is asked for.
    fn list(&mut self, newest_first: &[usize]) {
        let events: Vec<_> = newest_first.iter().map(|n| event(*n)).collect();
        let last = events.last().map(|event| event.id.clone());
        let page = Page { events, last, has_more: false, skipped: None, received_at: self.now().wall };
        assert_eq!(self.machine.page(self.now(), Ok(page)), None);
    }

    /// The store takes what it was given.
    fn store(&mut self, new: usize) {
        self.machine.recorded(self.now(), Some(&vec![Recorded::New; new]));
    }

    /// Connected, with the gap closed and nothing left to do.
    fn live(settings: Settings) -> Self {
        let mut play = Self::new(settings);
        assert!(matches!(play.command(), Command::Connect { .. }));
        play.machine.opened(play.now());
        assert!(matches!(play.command(), Command::List(_)));
        play.list(&[1]);
        assert_eq!(play.commands().len(), 0);
        assert_eq!(play.machine.phase(), StreamPhase::Live);
        play
    }

    fn frame(&mut self, n: usize) {
        self.machine.event(self.now(), event(n));
    }

    /// The batch it wants stored now: event numbers, and where the cursor goes.
    fn batch(&mut self) -> (Vec<usize>, Option<usize>) {
        let Command::Record { events, cursor } = self.command() else { panic!("no batch") };
        let numbers = events.iter().map(|received| number(&received.event.id)).collect();
        (numbers, cursor.and_then(|cursor| cursor.event).as_ref().map(number))
    }
}

fn number(id: &EventId) -> usize {
    id.as_str()[4..].parse().unwrap()
}

/// Event `n`, created `n` seconds after the start of the last hour.
fn event(n: usize) -> Event {
    Event {
        id: format!("evt_{n}").parse().unwrap(),
        kind: "invoice.updated".parse().unwrap(),
        object_id: None,
        created: START - 3600 + i64::try_from(n).unwrap(),
        environment: None,
        body: Bytes::from_static(b"{}"),
    }
}

fn at(n: usize) -> Position {
    let event = event(n);
    Position { event: Some(event.id), created: event.created }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

#[test]
fn a_connection_resumes_after_the_cursor_and_frames_wait_for_the_list() {
    let mut play = Play::new(settings());
    let Command::Connect { since } = play.command() else { panic!() };
    assert_eq!(since, at(1).event);
    play.machine.opened(play.now());
    play.frame(3);
    assert!(matches!(play.command(), Command::List(_)));
    play.frame(4);
    play.list(&[3, 2, 1]);
    assert_eq!(play.batch(), (vec![2, 3], Some(3)));
    play.store(2);
    assert_eq!(play.batch(), (vec![4], Some(4)), "the frame that the list had is not stored again");
    assert!(play.notices.contains(&Notice::GapClosed { filled: 2, proven: true }));
}

#[test]
fn a_list_that_was_read_before_the_connection_opened_proves_nothing() {
    let mut play = Play::live(settings());
    play.machine.closed(play.now());
    play.until_connect();
    play.machine.opened(play.now());
    play.wait(1.0);
    assert!(matches!(play.command(), Command::List(_)));
    play.machine.closed(play.now());
    play.until_connect();
    play.machine.opened(play.now());
    play.list(&[1]);
    assert_eq!(play.machine.phase(), StreamPhase::Backfilling);
    play.wait(1.0);
    assert!(matches!(play.command(), Command::List(_)), "it is read once more");
    play.list(&[1]);
    assert_eq!(play.commands().len(), 0);
    assert_eq!(play.machine.phase(), StreamPhase::Live);
}

#[test]
fn frames_that_cannot_be_held_are_left_to_another_list() {
    let mut play = Play::new(settings());
    play.commands();
    play.machine.opened(play.now());
    assert!(matches!(play.command(), Command::List(_)));
    for n in 0..=Limits::DEFAULT.held.frames {
        play.frame(n + 2);
    }
    play.list(&[1]);
    play.wait(1.0);
    assert!(matches!(play.command(), Command::List(_)), "the gap is not closed by the first list");
    let frames = Limits::DEFAULT.held.frames + 1;
    assert!(play.notices.contains(&Notice::HoldOverflowed { frames }));
}

#[test]
fn a_hint_holds_what_is_not_stored_and_reads_the_list() {
    let mut play = Play::live(settings());
    play.wait(1.0);
    play.frame(2);
    play.machine.hint();
    assert!(matches!(play.command(), Command::List(_)));
    play.list(&[2, 1]);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.store(1);
    assert_eq!(play.commands().len(), 0);
    assert_eq!(play.machine.phase(), StreamPhase::Live);
}

#[test]
fn the_first_start_remembers_the_newest_event_before_it_connects() {
    let mut play = Play::at(settings(), None);
    let Command::List(query) = play.command() else { panic!() };
    assert_eq!(query.limit, 1);
    play.list(&[7]);
    assert_eq!(play.batch(), (vec![], Some(7)));
    assert_eq!(play.machine.position(), None, "not before it is stored");
    play.store(0);
    let Command::Connect { since } = play.command() else { panic!() };
    assert_eq!(since, at(7).event);
}

#[test]
fn an_account_without_events_loses_not_even_its_first() {
    let mut play = Play::at(settings(), None);
    play.commands();
    play.list(&[]);
    let Command::Record { cursor: Some(cursor), .. } = play.command() else { panic!() };
    assert_eq!(cursor, Position { event: None, created: START });
    play.store(0);
    assert!(matches!(play.command(), Command::Connect { since: None }));
    play.machine.opened(play.now());
    let Command::List(query) = play.command() else { panic!() };
    assert_eq!((query.starting_after, query.created_gte), (None, None));
    // Pepay's clock is behind ours: the event seems older than the moment the account was empty.
    play.list(&[2, 1]);
    assert_eq!(play.batch(), (vec![1, 2], Some(2)));
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
    ] {
        let mut play = Play::at(Settings { start_from, ..settings() }, None);
        let Command::Record { cursor, .. } = play.command() else { panic!() };
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
    assert_eq!(play.commands().len(), 2, "a batch and a list");
    assert!(play.machine.recording.as_ref().unwrap().cursor.is_some());
}

#[test]
fn a_batch_that_is_not_stored_is_offered_again_before_anything_else() {
    let mut play = Play::live(settings());
    play.frame(2);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.frame(3);
    play.machine.recorded(play.now(), None);
    assert_eq!(play.commands().len(), 0, "not at once");
    play.wait(0.5);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.store(1);
    assert_eq!(play.batch(), (vec![3], Some(3)));
}

#[test]
fn silence_is_answered_with_pings_and_then_with_a_new_connection() {
    let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
    play.wait(20.0);
    assert!(matches!(play.command(), Command::Ping));
    play.machine.heard(play.at);
    play.wait(20.0);
    assert!(matches!(play.command(), Command::Ping));
    play.wait(20.0);
    assert!(matches!(play.command(), Command::Ping));
    play.wait(19.9);
    assert_eq!(play.commands().len(), 0);
    play.wait(0.1);
    assert!(matches!(play.commands()[..], [Command::Disconnect(Ending::Idle)]));
    assert!(play.until_connect() <= Duration::from_millis(500));
}

#[test]
fn a_store_that_is_behind_stops_the_reading_but_not_the_pings_and_then_ends_the_connection() {
    let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
    play.frame(2);
    play.batch();
    let mut frames = 0;
    while play.machine.wants_frames() {
        play.frame(3);
        frames += 1;
    }
    assert_eq!(frames, Limits::DEFAULT.pending.frames);
    assert_eq!(play.commands().len(), 0);
    play.wait(20.0);
    assert!(matches!(play.command(), Command::Ping));
    play.wait(40.0);
    assert!(matches!(play.commands()[..], [Command::Disconnect(Ending::Stalled)]));
    play.wait(600.0);
    assert_eq!(play.commands().len(), 0, "no new connection before there is room");
    play.store(1);
    assert!(play.commands().iter().any(|command| matches!(command, Command::Connect { .. })));
}

#[test]
fn a_stall_that_ends_in_time_costs_nothing() {
    let mut play = Play::live(Settings { reconcile_interval: None, ..settings() });
    play.frame(2);
    play.batch();
    while play.machine.wants_frames() {
        play.frame(3);
    }
    play.commands();
    play.wait(59.0);
    play.commands();
    play.store(1);
    play.commands();
    play.wait(59.0);
    assert!(!play.commands().iter().any(|command| matches!(command, Command::Disconnect(_))));
}

#[test]
fn accept_and_close_is_no_hot_loop_and_a_healthy_spell_begins_anew() {
    let mut play = Play::new(settings());
    let mut waits = Vec::new();
    for _ in 0..6 {
        play.until_connect();
        play.machine.opened(play.now());
        play.machine.closed(play.now());
        let before = play.at;
        play.until_connect();
        waits.push((play.at - before).as_millis());
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
fn a_refused_token_is_minted_anew_once_and_then_slowly() {
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
fn a_refused_key_is_slow_at_once() {
    for (step, auth) in [(ConnectStep::Token, Auth::Token), (ConnectStep::Upgrade, Auth::Header)] {
        let mut play = Play::new(Settings { auth, ..settings() });
        play.until_connect();
        play.refuse(step, FailureKind::Refused, None);
        assert_eq!(seconds(play.until_connect()), 11);
    }
}

#[test]
fn retry_after_is_a_floor_on_every_road() {
    for kind in [FailureKind::RateLimited, FailureKind::Unavailable, FailureKind::Refused] {
        for step in [ConnectStep::Token, ConnectStep::Upgrade] {
            let mut play = Play::new(settings());
            play.until_connect();
            play.refuse(step, kind, Some(90));
            assert!(seconds(play.until_connect()) >= 90, "{kind:?} {step:?}");
        }
    }
    let mut play = Play::new(Settings { reconcile_interval: None, ..settings() });
    play.commands();
    play.machine.opened(play.now());
    play.commands();
    let failure = Failure {
        kind: FailureKind::RateLimited,
        retry_after: Some(Duration::from_secs(30)),
        text: String::new(),
    };
    assert!(play.machine.page(play.now(), Err(failure)).is_some());
    play.wait(29.0);
    assert!(!play.commands().iter().any(|command| matches!(command, Command::List(_))));
    play.wait(2.0);
    assert!(play.commands().iter().any(|command| matches!(command, Command::List(_))));
}

#[test]
fn a_cursor_that_the_upgrade_rejects_is_left_out_and_the_list_brings_what_it_stood_for() {
    let mut play = Play::new(settings());
    play.until_connect();
    assert_eq!(play.refuse(ConnectStep::Upgrade, FailureKind::Rejected, None), Ending::Rejected);
    play.wait(1.0);
    assert!(matches!(play.command(), Command::Connect { since: None }));
    play.refuse(ConnectStep::Upgrade, FailureKind::Rejected, None);
    assert_eq!(seconds(play.until_connect()), 11, "then it is the subscription, which only a person mends");
    play.machine.opened(play.now());
    play.commands();
    play.list(&[9, 8]);
    let Notice::Unproven(hole) = play.notices_after() else { panic!() };
    assert_eq!(number(&hole.after.0), 1);
    assert_eq!(hole.before.map(|(id, _)| number(&id)), Some(8));
}

impl Play {
    /// The hole that was named, which must come before anything is stored.
    fn notices_after(&mut self) -> Notice {
        let Poll::Do(Command::Tell(notice)) = self.machine.poll(self.now()) else { panic!("nothing is told") };
        notice
    }
}

#[test]
fn an_account_that_forgot_everything_is_not_found_out_anew_each_time() {
    let mut play = Play::new(settings());
    play.commands();
    play.machine.opened(play.now());
    play.commands();
    play.list(&[]);
    let Command::Record { cursor: Some(cursor), .. } = play.command() else { panic!() };
    assert_eq!(cursor, Position { event: None, created: START });
    assert!(play.notices.contains(&Notice::GapClosed { filled: 0, proven: false }));
    play.store(0);
    play.machine.closed(play.now());
    play.notices.clear();
    play.until_connect();
    play.machine.opened(play.now());
    play.wait(1.0);
    play.commands();
    play.list(&[]);
    play.commands();
    assert!(play.notices.contains(&Notice::GapClosed { filled: 0, proven: true }));
}

/// Sweeps once, finding `found` to be missing.
fn sweep(play: &mut Play, found: &[usize]) -> Vec<Command> {
    let mut rest = Vec::new();
    for _ in 0..60 {
        play.wait(2.0);
        play.machine.heard(play.at);
        let mut ended = false;
        for command in play.commands() {
            match command {
                Command::List(_) => play.list(found),
                Command::Compare(ids) => {
                    play.machine.held(play.now(), Some(&vec![false; ids.len()]));
                    ended = ids.is_empty();
                }
                Command::Record { events, cursor } => {
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
    assert!(play.notices.contains(&Notice::Swept { found: 1, cut_short: false, behind: true }));
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
    assert!(matches!(play.command(), Command::List(_)));
    play.list(&[2, 1]);
    assert_eq!(play.batch(), (vec![2], Some(2)));
    play.store(1);
    assert_eq!(play.commands().len(), 0);
    assert_eq!(play.machine.phase(), StreamPhase::Connecting);
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
            if play.commands().iter().any(|command| matches!(command, Command::List(_))) {
                break;
            }
        }
        waits.push(seconds(play.at - before));
        let failure = Failure { kind: FailureKind::RateLimited, retry_after: None, text: String::new() };
        play.machine.page(play.now(), Err(failure));
    }
    assert_eq!(waits, [10, 120, 240, 480, 480]);
}

#[test]
fn events_of_other_types_are_not_taken_in_and_do_not_stop_the_cursor() {
    use crate::domain::filter::TypeFilter;
    let types = TypeFilter::new(vec!["commerce.order.*".parse().unwrap()]);
    let mut play = Play::new(Settings { types, ..settings() });
    play.commands();
    play.machine.opened(play.now());
    play.commands();
    play.list(&[2, 1]);
    assert_eq!(play.batch(), (vec![], Some(2)));
}
