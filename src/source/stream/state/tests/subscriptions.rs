//! Changes of types, and events of types that the stream does not want.

use super::*;

fn of_types(types: &str) -> Settings {
    Settings { types: types.parse().unwrap(), ..settings() }
}

#[test]
fn wider_types_begin_with_the_change() {
    let mut history = History::begin(&of_types("commerce.order.*"), 0);
    history.change(&of_types("commerce.order.*,invoice.*"), START);
    let of = |kind: &str, created| Event { kind: kind.parse().unwrap(), created, ..event(1) };
    assert_eq!(history.wants(&of("invoice.updated", START - 3600)), Wanted::Early);
    assert_eq!(history.wants(&of("invoice.updated", START + 1)), Wanted::Yes);
    assert_eq!(history.wants(&of("commerce.order.updated", START - 3600)), Wanted::Yes);
    history.change(&of_types("commerce.order.*"), START + 7200);
    history.change(&of_types("*"), START + 14_400);
    assert_eq!(history.wants(&of("invoice.updated", START + 3600)), Wanted::Yes, "wanted then and now");
    assert_eq!(history.wants(&of("invoice.updated", START + 9000)), Wanted::Early, "not wanted then");
    assert_eq!(History::parse(&history.to_text()), Some(history));
}

#[test]
fn events_of_other_types_are_not_taken_in_and_do_not_stop_the_cursor() {
    let mut play = Play::new(of_types("invoice.*"));
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    play.list(&[2, 1]);
    assert_eq!(play.batch(), (vec![], Some(2)));
}

#[test]
fn a_change_of_types_is_stored_before_any_event_so_that_a_restart_does_not_delay_it() {
    let before = History::begin(&of_types("commerce.order.*"), START - 86_400);
    let mut play = Play::with(of_types("*"), &before);
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    play.list(&[1]);
    let Effect::Record { events, cursor, history: Some(stored) } = play.effect() else { panic!() };
    assert_eq!((events.len(), cursor), (0, Some(at(1))));
    play.store(0);
    assert_eq!(play.effects().len(), 0, "it is stored once");

    // The process ends, an event is created, and the next process begins an hour later.
    let invoice = Event { kind: "invoice.updated".parse().unwrap(), created: START + 600, ..event(2) };
    let resume = Resume { position: at(1), history: Some(stored) };
    let mut play = Play::resuming(of_types("*"), Some(resume));
    play.wait(3600.0);
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    let page = Page { events: vec![invoice, event(1)], ..play.page(&[], false) };
    assert_eq!(play.machine.page(play.now(), Ok(page)), None);
    assert_eq!(play.batch(), (vec![2], Some(2)));
}

#[test]
fn a_history_of_a_cursor_without_one_is_stored_at_once() {
    let mut play = Play::resuming(settings(), Some(Resume { position: at(1), history: None }));
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    play.list(&[1]);
    let Effect::Record { cursor, history: Some(stored), .. } = play.effect() else { panic!() };
    assert_eq!(cursor, Some(at(1)));
    assert_eq!(History::parse(&stored), Some(History::begin(&settings(), at(1).created - 300)));
}

#[test]
fn a_first_start_under_a_clock_that_was_ahead_excludes_no_event_once_the_clock_is_right() {
    let ahead = History::begin(&settings(), START + 3 * 86_400);
    let mut play = Play::with(settings(), &ahead);
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    play.list(&[1]);
    let Effect::Record { history: Some(stored), .. } = play.effect() else { panic!() };
    assert_eq!(History::parse(&stored), Some(History::begin(&settings(), START)));
    play.store(0);
    let present = 3600;
    play.frame(present);
    assert_eq!(play.batch(), (vec![present], Some(present)));

    // A beginning that one of the two clocks has reached stays.
    let mut play = Play::with(settings(), &ahead);
    play.server_time = Some(UnixMillis((START + 3 * 86_400) * 1000));
    play.effects();
    play.machine.opened(play.now());
    play.effects();
    play.list(&[1]);
    assert_eq!(play.effects().len(), 0);
}

#[test]
fn a_stored_change_of_types_does_not_bring_a_rejected_cursor_back() {
    let before = History::begin(&of_types("commerce.order.*"), START - 86_400);
    let mut play = Play::with(of_types("*"), &before);
    play.effects();
    play.refuse(ConnectStep::Upgrade, FailureKind::Rejected, None);
    play.until_connect();
    play.machine.opened(play.now());
    play.effects();
    play.list(&[1]);
    assert!(matches!(play.effect(), Effect::Record { .. }));
    play.store(0);
    assert_eq!(play.effects().len(), 0);
    play.machine.closed(play.now());
    play.effects();
    play.wait(10.0);
    let connects = |effect: &Effect| matches!(effect, Effect::Connect { since: None, .. });
    assert!(play.effects().iter().any(connects));
}
