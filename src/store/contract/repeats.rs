//! Each verb of an engine may be repeated, with the same effect, after a commit whose
//! outcome is not known.

use super::direct::Direct;
use super::*;
use crate::domain::delivery::{Next, OnUncertain, State};
use crate::domain::operator::{Action, REPLAYABLE};
use crate::store::committer::Group;
use crate::store::engine::{Authority, EngineError, Retained, RetentionStep};
use crate::store::error::ActError;
use crate::store::types::{
    Act, ActKind, Acted, AttemptStarted, Batch, CursorMove, InterruptedAttempt, Position, Recorded,
    Settlement,
};
use crate::store::view::RetryAfter;

type Done<T> = Result<T, EngineError>;

/// Does `work` twice. The first time changes the rows; the second time does not. A group that is rolled
/// back changes neither the rows nor the memory of the engine.
fn twice<T>(direct: &mut Direct, mut work: impl FnMut(&mut Group<'_>) -> Done<T>) -> [Done<T>; 2] {
    let before = direct.rows();
    direct.undo(&mut work);
    assert_eq!(direct.rows(), before, "undone");
    let first = direct.commit(&mut work);
    let after = direct.rows();
    assert_ne!(after, before, "the first time");
    let second = direct.commit(&mut work);
    assert_eq!(direct.rows(), after, "the second time");
    [first, second]
}

async fn with_one_event() -> Direct {
    let mut direct = Direct::new().await;
    assert_eq!(direct.store("evt_1"), 1);
    direct
}

fn claim(direct: &mut Direct, number: u32) {
    let (target, term) = (direct.target, direct.term);
    let begun = AttemptStarted { sequence: 1, number, at: NOW };
    direct.commit(|group| group.engine.claim(term, target, begun)).unwrap();
}

/// The first attempt of the delivery of event 1, with an answer.
fn settlement(next: Next) -> Settlement {
    Settlement {
        sequence: 1,
        number: 1,
        started_at: NOW,
        duration: Duration::from_millis(3),
        status: Some(200),
        error: None,
        answer: b"an answer".to_vec(),
        next,
    }
}

fn settle(direct: &mut Direct, settlements: &[Settlement]) {
    let (target, term) = (direct.target, direct.term);
    let settlements: Vec<_> = settlements.iter().collect();
    let settle = |group: &mut Group<'_>| group.engine.settle(term, target, &settlements, &mut group.context);
    direct.commit(settle).unwrap();
}

#[tokio::test]
async fn an_entry_of_the_audit_trail_that_is_written_twice_is_there_once() {
    let mut direct = Direct::new().await;
    let entry = auditing::entry("retry", 0);
    assert_eq!(twice(&mut direct, |group| group.engine.audit(7, &entry)), [Ok(()), Ok(())]);
    assert_eq!(direct.backend.number("SELECT count(*) FROM audit"), 1);
}

const OUTCOMES: [Next; 4] = [Next::Delivered, Next::Retrying { due_at: NOW }, Next::Held, Next::Dead];

#[tokio::test]
async fn events_that_are_stored_twice_are_there_once_and_leave_no_gap() {
    let mut direct = Direct::new().await;
    let other = Received { event: event("evt_2", "b").event, ..event("evt_2", "a") };
    let again = Received { source: Source::Stream, ..event("evt_1", "a") };
    let position = Position { event: Some("evt_2".parse().unwrap()), created: 1 };
    let term = direct.backend.term("stream/commerce");
    let cursor = CursorMove { stream: "commerce".into(), position, history: Some("so far".to_owned()), term };
    let events = vec![event("evt_1", "a"), event("evt_2", "a"), again, other];
    let batch = Batch { events, cursor: Some(cursor) };
    let append = |group: &mut Group<'_>| {
        let appended = group.engine.append(&[&batch], &mut group.context)?.remove(0);
        Ok(appended.iter().map(|one| (one.recorded, one.sequence, one.queues.len())).collect::<Vec<_>>())
    };
    let [first, second] = twice(&mut direct, append);
    let (duplicate, conflict) = ((Recorded::Duplicate, 0, 0), (Recorded::Conflict, 0, 0));
    let new = |sequence| (Recorded::New, sequence, 1);
    assert_eq!(first.unwrap(), [new(1), new(2), duplicate, conflict]);
    // The other event under the id is known now, and the first one is the stored one.
    assert_eq!(second.unwrap(), [duplicate, duplicate, duplicate, conflict]);
    assert_eq!(direct.engine.newest(), 2);
    assert_eq!(direct.store("evt_3"), 3);
    assert_eq!(direct.engine.newest(), 3);
}

#[tokio::test]
async fn one_attempt_is_claimed_by_one_alone() {
    let mut direct = with_one_event().await;
    let (target, term) = (direct.target, direct.term);
    let begun = AttemptStarted { sequence: 1, number: 1, at: NOW };
    let [first, second] = twice(&mut direct, |group| group.engine.claim(term, target, begun));
    assert_eq!(first, Ok(()));
    assert!(matches!(second, Err(EngineError::Rejected(_))), "{second:?}");
    let unknown = AttemptStarted { sequence: 2, ..begun };
    let refused = direct.commit(|group| group.engine.claim(term, target, unknown));
    assert!(matches!(refused, Err(EngineError::Rejected(_))), "{refused:?}");
}

#[tokio::test]
async fn an_outcome_is_stored_once() {
    for next in OUTCOMES {
        for is_claimed in [false, true] {
            let mut direct = with_one_event().await;
            if is_claimed {
                claim(&mut direct, 1);
            }
            let (target, term) = (direct.target, direct.term);
            // It also holds within one set.
            let one = settlement(next);
            let both = [&one, &one];
            let settle_both =
                |group: &mut Group<'_>| group.engine.settle(term, target, &both, &mut group.context);
            let [first, second] = twice(&mut direct, settle_both);
            assert_eq!((first, second), (Ok(()), Ok(())), "{next:?}");
            assert_eq!(direct.standing(1), (next.state(), 1));
            // A later outcome of the same attempt is too late.
            let settled = direct.rows();
            for later in OUTCOMES {
                settle(&mut direct, &[settlement(later)]);
                assert_eq!(direct.rows(), settled, "{later:?} after {next:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_attempt_that_has_ended_does_not_end_the_one_after_it() {
    let mut direct = with_one_event().await;
    settle(&mut direct, &[settlement(Next::Retrying { due_at: NOW })]);
    claim(&mut direct, 2);
    let on_its_way = direct.rows();
    for late in OUTCOMES {
        settle(&mut direct, &[settlement(late)]);
        assert_eq!(direct.rows(), on_its_way, "{late:?}");
    }
    settle(&mut direct, &[Settlement { number: 2, ..settlement(Next::Delivered) }]);
    assert_eq!(direct.standing(1), (State::Delivered, 2));
}

#[tokio::test]
async fn an_attempt_that_was_cut_off_is_recovered_once() {
    for (on_uncertain, state) in [(OnUncertain::Hold, State::Held), (OnUncertain::Retry, State::Retrying)] {
        let mut direct = with_one_event().await;
        direct.store("evt_2");
        claim(&mut direct, 1);
        let (target, owner) = (direct.target, Authority::Owner(direct.term));
        let recover =
            |group: &mut Group<'_>| group.engine.recover(owner, target, on_uncertain, &mut group.context);
        let [first, second] = twice(&mut direct, recover);
        assert_eq!(first, Ok(vec![InterruptedAttempt { event_id: "evt_1".to_owned(), number: 1 }]));
        assert_eq!(second, Ok(vec![]));
        assert_eq!((direct.standing(1), direct.standing(2)), ((state, 1), (State::Pending, 0)));
    }
}

#[tokio::test]
async fn an_action_is_applied_only_in_the_states_for_which_it_was_chosen() {
    let retry = |from: State| ActKind::Apply(Action::Retry, [from].into());
    let chosen = |action: Action, from: State| ActKind::Apply(action, [from].into());
    let cases = [
        (Next::Retrying { due_at: NOW }, chosen(Action::Cancel, State::Retrying), State::Cancelled),
        (Next::Dead, retry(State::Dead), State::Retrying),
        (Next::Dead, chosen(Action::Cancel, State::Dead), State::Cancelled),
        (Next::Held, chosen(Action::Release, State::Held), State::Retrying),
        (Next::Held, chosen(Action::Close, State::Held), State::Closed),
        (Next::Held, chosen(Action::Cancel, State::Held), State::Cancelled),
        (Next::Delivered, ActKind::Replay, State::Retrying),
        (Next::Dead, ActKind::Replay, State::Retrying),
    ];
    for (before, kind, after) in cases {
        let mut direct = with_one_event().await;
        settle(&mut direct, &[settlement(before)]);
        let (target, owner) = (direct.target, Authority::Owner(direct.term));
        let case = format!("{kind:?} of {before:?}");
        // It also holds within one set.
        let both = [Act { sequence: 1, kind: kind.clone() }, Act { sequence: 1, kind: kind.clone() }];
        let act = |group: &mut Group<'_>| group.engine.act(owner, target, &both, &mut group.context);
        let results = |acted: Done<Vec<Acted>>| -> Vec<_> {
            acted.unwrap().into_iter().map(|one| one.result).collect()
        };
        let [first, second] = twice(&mut direct, act).map(results);
        let allowed = match &kind {
            ActKind::Apply(action, _) => action.applies_to(),
            _ => REPLAYABLE,
        };
        let refused = Err(ActError::NotAllowed { state: after, allowed });
        let replays = u32::from(kind == ActKind::Replay);
        assert_eq!(first, [Ok(replays), refused.clone()], "{case}");
        assert_eq!(second, [refused.clone(), refused], "{case}");
        assert_eq!(direct.standing(1), (after, 1), "{case}");
    }
}

#[tokio::test]
async fn a_target_is_paused_from_the_first_time_on() {
    let mut direct = Direct::new().await;
    for reason in [Some("by a test"), None] {
        let pause = |group: &mut Group<'_>| group.engine.pause("orders", reason, group.context.now);
        assert_eq!(twice(&mut direct, pause), [Ok(Ok(())), Ok(Ok(()))]);
    }
    let elsewhere =
        direct.commit(|group| group.engine.pause("elsewhere", Some("by a test"), group.context.now));
    assert_eq!(elsewhere, Ok(Err(ActError::NoSuchTarget)));
}

#[tokio::test]
async fn the_last_wait_that_a_target_asked_for_replaces_earlier_ones() {
    let mut direct = Direct::new().await;
    let hour = RetryAfter { until: NOW, address: "digest".to_owned() };
    for retry_after in [Some(&hour), None] {
        let set = |group: &mut Group<'_>| group.engine.set_retry_after("orders", retry_after);
        assert_eq!(twice(&mut direct, set), [Ok(Ok(())), Ok(Ok(()))]);
    }
    let elsewhere = direct.commit(|group| group.engine.set_retry_after("elsewhere", Some(&hour)));
    assert_eq!(elsewhere, Ok(Err(ActError::NoSuchTarget)));
}

#[tokio::test]
async fn old_rows_are_removed_once() {
    let mut direct = Direct::new().await;
    let before = NOW.plus(Duration::from_secs(1));
    for (id, next) in (1..).zip(OUTCOMES) {
        direct.store(&format!("evt_{id}"));
        settle(&mut direct, &[Settlement { sequence: id, ..settlement(next) }]);
    }
    let mut retain = |step| {
        let outcomes = twice(&mut direct, |group| group.engine.retain(step, &mut group.context));
        assert_eq!(outcomes, [Ok(Retained::default()), Ok(Retained::default())], "{step:?}");
    };
    retain(RetentionStep::Payloads { before });
    retain(RetentionStep::Events { before, but_newest: 0 });
    let left = "SELECT sequence FROM event ORDER BY sequence";
    assert_eq!(direct.backend.numbers(left), [2, 3, 4], "what is not made or decided on stays");
    settle(&mut direct, &[Settlement { sequence: 2, number: 2, ..settlement(Next::Delivered) }]);
    let retain =
        |direct: &mut Direct, step| twice(direct, |group| group.engine.retain(step, &mut group.context));
    let nothing = || Ok(Retained::default());
    assert_eq!(retain(&mut direct, RetentionStep::Recheck), [nothing(), nothing()]);
    let expired = Retained { more: false, expired: vec![("orders".into(), 1)] };
    let dead = RetentionStep::Dead { before: NOW.plus(Duration::from_hours(1)) };
    assert_eq!(retain(&mut direct, dead), [Ok(expired), nothing()]);
    assert_eq!(direct.backend.numbers(left), [3, 4]);
    assert_eq!(retain(&mut direct, RetentionStep::Recheck), [nothing(), nothing()]);
    assert_eq!(direct.backend.numbers(left), [3]);
    assert_eq!(direct.store("evt_5"), 5, "no number is given again");
}

#[tokio::test]
async fn a_target_keeps_its_number() {
    let mut direct = Direct::new().await;
    let names = ["all", "orders", "all"].map(Arc::from);
    let first = direct.engine.register(&names).unwrap();
    assert_eq!((first[0], first[1]), (first[2], direct.target));
    assert_ne!(first[0], direct.target);
    assert_eq!(direct.engine.register(&names).unwrap(), first);
    let Direct { engine, backend, .. } = direct;
    drop(engine);
    assert_eq!(backend.engine().await.register(&names).unwrap(), first, "after a restart too");
}
