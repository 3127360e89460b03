//! Terms: what their holders may write, and until when.

use std::time::Duration;

use super::engines::Engines;
use crate::domain::clock::Clock;
use crate::domain::delivery::{Next, OnUncertain, Ordering, State};
use crate::domain::operator::Action;
use crate::store::committer::Group;
use crate::store::contract::{Backend as _, NOW, event, route};
use crate::store::engine::{Authority, EngineError, GroupKind};
use crate::store::error::RecordError;
use crate::store::types::{
    Act, ActKind, AttemptStarted, Batch, CursorMove, Position, Recorded, Settlement, TargetId, Term,
};

const LEASE: &str = "target/orders";

type Verb = fn(&mut Group<'_>, TargetId, Term) -> Result<(), EngineError>;

fn claim(group: &mut Group<'_>, target: TargetId, term: Term) -> Result<(), EngineError> {
    group.engine.claim(term, target, AttemptStarted { sequence: 1, number: 1, at: NOW })
}

fn settle(group: &mut Group<'_>, target: TargetId, term: Term) -> Result<(), EngineError> {
    let settlement = |sequence, next| Settlement {
        sequence,
        number: 1,
        started_at: NOW,
        duration: Duration::ZERO,
        status: None,
        error: Some("refused".to_owned()),
        answer: Vec::new(),
        next,
    };
    let both = [settlement(1, Next::Held), settlement(2, Next::Retrying { due_at: NOW })];
    group.engine.settle(term, target, &both.each_ref(), &mut group.context)
}

fn recover(group: &mut Group<'_>, target: TargetId, term: Term) -> Result<(), EngineError> {
    let owner = Authority::Owner(term);
    group.engine.recover(owner, target, OnUncertain::Hold, &mut group.context).map(drop)
}

fn cancel(group: &mut Group<'_>, target: TargetId, authority: Authority) -> Result<(), EngineError> {
    let kind = ActKind::Apply(Action::Cancel, State::ALL.into());
    let acts = [Act { sequence: 2, kind }];
    let acted = group.engine.act(authority, target, &acts, &mut group.context)?;
    assert!(acted[0].result.is_ok(), "{acted:?}");
    Ok(())
}

/// Returns a process with events 1 and 2 for one target.
async fn with_two_events() -> Engines {
    let mut engines = Engines::new(1, vec![route("orders", "*", Ordering::PerObject)]).await;
    assert_eq!(engines.append(0, vec![event("evt_1", "a"), event("evt_2", "b")]), [1, 2]);
    engines
}

fn end(engines: &Engines, lease: &str) {
    let expire = "UPDATE lease SET expires_at = clock_timestamp() - interval '1 s' WHERE name =";
    engines.backend.execute(&format!("{expire} '{lease}'"));
}

#[tokio::test]
async fn under_a_term_that_is_over_nothing_is_written_and_under_the_next_one_it_is() {
    let act: Verb = |group, target, term| cancel(group, target, Authority::Owner(term));
    let verbs: [(&str, Verb); 4] = [("claim", claim), ("settle", settle), ("recover", recover), ("act", act)];
    for (name, verb) in verbs {
        let mut engines = with_two_events().await;
        let (target, first) = (engines.targets[0], engines.backend.term(LEASE));
        if name == "recover" {
            engines.group(0, |group| claim(group, target, first)).unwrap();
        }
        let second = engines.backend.term(LEASE);
        let before = engines.rows();
        for term in [first, Term(second.number() + 1), Term::SOLE] {
            let refused = engines.group(0, |group| verb(group, target, term));
            assert_eq!(refused, Err(EngineError::Superseded), "{name} under {term:?}");
        }
        assert_eq!(engines.rows(), before, "{name}");
        assert_eq!(engines.group(0, |group| verb(group, target, second)), Ok(()), "{name}");
        assert_ne!(engines.rows(), before, "{name}");
    }
}

#[tokio::test]
async fn an_expired_lease_that_was_not_taken_is_still_written_under() {
    let mut engines = with_two_events().await;
    let (target, term) = (engines.targets[0], engines.backend.term(LEASE));
    end(&engines, LEASE);
    assert_eq!(engines.group(0, |group| claim(group, target, term)), Ok(()));
}

#[tokio::test]
async fn a_cursor_is_moved_under_the_term_of_its_stream_and_the_events_are_stored_in_any_case() {
    let mut engines = Engines::new(1, vec![]).await;
    let first = engines.backend.term("stream/commerce");
    let second = engines.backend.term("stream/commerce");
    let cursors = |engines: &Engines| engines.backend.texts("SELECT event_id FROM stream_cursor");
    let steps = [
        ("evt_1", second, vec!["evt_1"]),
        ("evt_2", first, vec!["evt_1"]),
        ("evt_3", second, vec!["evt_3"]),
        ("evt_4", Term::SOLE, vec!["evt_3"]),
    ];
    for (id, term, expected) in steps {
        let position = Position { event: Some(id.parse().unwrap()), created: 1 };
        let cursor = Some(CursorMove { stream: "commerce".into(), position, history: None, term });
        let batch = Batch { events: vec![event(id, "a")], cursor };
        let append = |group: &mut Group<'_>| group.engine.append(&[&batch], &mut group.context);
        let appended = engines.group(0, append).unwrap();
        assert_eq!(appended[0][0].recorded, Recorded::New, "{id}");
        assert_eq!(cursors(&engines), expected, "{id} under {term:?}");
    }
}

#[tokio::test]
async fn a_target_without_an_owner_is_acted_on_and_its_former_owner_writes_nothing_more() {
    let mut engines = with_two_events().await;
    let (target, term) = (engines.targets[0], engines.backend.term(LEASE));
    let before = engines.rows();
    let unowned = |group: &mut Group<'_>| cancel(group, target, Authority::Unowned);
    assert_eq!(engines.group(0, unowned), Err(EngineError::Superseded), "another process owns it");
    assert_eq!(engines.rows(), before);
    end(&engines, LEASE);
    assert_eq!(engines.group(0, unowned), Ok(()));
    let after = engines.rows();
    assert_ne!(after, before);
    assert_eq!(engines.group(0, |group| claim(group, target, term)), Err(EngineError::Superseded));
    assert_eq!(engines.rows(), after);
}

#[tokio::test]
async fn a_target_that_was_never_owned_is_acted_on() {
    let mut engines = with_two_events().await;
    let target = engines.targets[0];
    assert_eq!(engines.group(0, |group| cancel(group, target, Authority::Unowned)), Ok(()));
    assert_eq!(engines.backend.texts("SELECT name || ' ' || term FROM lease"), ["target/orders 1"]);
}

#[tokio::test]
async fn nothing_is_taken_over_from_a_target_that_has_an_owner() {
    let routes = ["orders", "old"].map(|name| route(name, "*", Ordering::PerObject));
    let mut engines = Engines::new(1, routes.to_vec()).await;
    engines.append(0, vec![event("evt_1", "a")]);
    let (to, from) = (engines.targets[0], engines.targets[1]);
    let owner = Authority::Owner(engines.backend.term(LEASE));
    engines.backend.term("target/old");
    let before = engines.rows();
    let take = |group: &mut Group<'_>| {
        let acts = [Act { sequence: 1, kind: ActKind::Take(from) }];
        group.engine.act(owner, to, &acts, &mut group.context).map(drop)
    };
    assert_eq!(engines.group(0, take), Err(EngineError::Superseded));
    assert_eq!(engines.rows(), before);
    end(&engines, "target/old");
    assert_eq!(engines.group(0, take), Ok(()));
    assert_ne!(engines.rows(), before);
}

#[tokio::test]
async fn a_take_over_waits_for_what_is_just_being_written() {
    let mut engines = with_two_events().await;
    let (target, term) = (engines.targets[0], engines.backend.term(LEASE));
    end(&engines, LEASE);
    engines.all[0].begin(GroupKind::Writes).unwrap();
    engines.all[0].claim(term, target, AttemptStarted { sequence: 1, number: 1, at: NOW }).unwrap();
    let take = "SELECT new_term::text FROM take_leases('another', ARRAY['target/orders'], interval '1 hour')";
    assert_eq!(engines.backend.texts(take), [""; 0], "a group of the holder is open");
    engines.all[0].commit().unwrap();
    assert_eq!(engines.backend.texts(take), [(term.number() + 1).to_string()]);
    assert_eq!(engines.group(0, |group| settle(group, target, term)), Err(EngineError::Superseded));
}

#[tokio::test]
async fn a_renewal_does_not_wait_for_what_is_just_being_written() {
    let mut engines = with_two_events().await;
    let (target, term) = (engines.targets[0], engines.backend.term(LEASE));
    engines.all[0].begin(GroupKind::Writes).unwrap();
    engines.all[0].claim(term, target, AttemptStarted { sequence: 1, number: 1, at: NOW }).unwrap();
    let renew = format!(
        "SET lock_timeout = '2s'; SELECT beat('a test', '{{}}', ARRAY['target/orders'], ARRAY['target/orders'], \
         ARRAY[{}], interval '7 hours')::text",
        term.number()
    );
    engines.backend.execute(&renew);
    let left = "SELECT (expires_at > clock_timestamp() + interval '6 hours')::text FROM lease";
    assert_eq!(engines.backend.texts(left), ["true"]);
    engines.all[0].commit().unwrap();
}

#[tokio::test]
async fn what_was_grouped_with_a_write_under_a_term_that_is_over_is_done() {
    let engines = with_two_events().await;
    let routes = vec![route("orders", "*", Ordering::PerObject)];
    let (mut store, writer) = engines.backend.open(routes, Clock::from_fn(|| NOW)).await;
    let (inbox, log) = (store.inbox.clone(), store.outboxes[0].log.under(Term(-1)));
    // The tasks are queued before the committer runs, so that they form one group.
    let begun = AttemptStarted { sequence: 1, number: 1, at: NOW };
    let both = async { tokio::join!(inbox.try_record(event("evt_3", "c")), log.begin(begun)) };
    let run = async {
        tokio::task::yield_now().await;
        std::thread::spawn(|| writer.run())
    };
    let ((recorded, begun), writer) = tokio::join!(both, run);
    assert_eq!((recorded, begun), (Ok(Recorded::New), Err(RecordError::Superseded)));
    store.close().await;
    writer.join().unwrap();
}

#[tokio::test]
async fn a_request_is_answered_once() {
    let mut engines = Engines::new(2, vec![]).await;
    engines.backend.execute("INSERT INTO request (id, lease, body) VALUES ('a', 'target/orders', '{}')");
    let mut answer = |number: usize, text: &str| {
        engines.group(number, |group| group.engine.answer("a", &format!("{{\"by\": \"{text}\"}}")))
    };
    assert_eq!(
        (answer(0, "first"), answer(0, "first"), answer(1, "second")),
        (Ok(true), Ok(false), Ok(false))
    );
    assert_eq!(engines.backend.texts("SELECT answer ->> 'by' FROM request"), ["first"]);
    assert_eq!(engines.group(0, |group| group.engine.answer("nothing", "{}")), Ok(false));
}
