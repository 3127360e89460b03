use super::*;
use crate::source::stream::StartFrom;

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
    assert_eq!(play.batch(), (vec![3, 4], Some(4)), "a repetition is left to the store to tell");
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
    assert_eq!(play.batch(), (vec![2], Some(2)));
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
    play.commands();
    play.list(&[]);
    play.commands();
    assert!(play.notices.contains(&Notice::GapClosed { filled: 0, proven: true }));
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

fn no_list() -> Failure {
    Failure { kind: FailureKind::Missing, retry_after: None, text: String::new() }
}

#[test]
fn without_a_list_the_first_start_begins_with_the_first_frame() {
    let mut play = Play::at(settings(), None);
    assert!(matches!(play.command(), Command::List(_)));
    assert!(play.machine.page(play.now(), Err(no_list())).is_some());
    assert!(matches!(play.command(), Command::Connect { since: None }));
    play.machine.opened(play.now());
    play.frame(7);
    assert_eq!(play.batch(), (vec![7], Some(7)));
}

#[test]
fn a_list_that_comes_back_before_the_first_frame_gives_the_beginning_after_all() {
    let mut play = Play::at(settings(), None);
    play.command();
    assert!(play.machine.page(play.now(), Err(no_list())).is_some());
    play.command();
    play.machine.opened(play.now());
    play.commands();
    play.machine.closed(play.now());
    play.wait(60.0);
    assert!(matches!(play.command(), Command::List(ListQuery { limit: 1, .. })));
    play.list(&[9]);
    let Command::Record { events, cursor } = play.command() else { panic!("no cursor") };
    assert!(events.is_empty());
    assert_eq!(cursor.and_then(|cursor| cursor.event).as_ref().map(number), Some(9));
}

#[test]
fn without_a_list_a_new_connection_goes_on_with_what_the_replay_brings_and_says_so() {
    let mut play = Play::live(settings());
    play.machine.closed(play.now());
    play.until_connect();
    play.machine.opened(play.now());
    assert!(matches!(play.command(), Command::List(_)));
    play.frame(2);
    play.frame(3);
    assert!(play.machine.page(play.now(), Err(no_list())).is_some());
    assert_eq!(play.batch(), (vec![2, 3], Some(3)));
    let told =
        |notice: &Notice| matches!(notice, Notice::Unlisted { after: Some(after) } if number(after) == 1);
    assert!(play.notices.iter().any(told), "{:?}", play.notices);
    assert!(play.notices.contains(&Notice::GapClosed { filled: 0, proven: false }));
    assert_eq!(play.machine.phase(), StreamPhase::Live);
}
