//! Two processes that both consider themselves the owner of one target, compared with a model of
//! the permitted writes. Under `hold`, an event is requested again only when the outcome of the
//! previous request is known or an operator has decided.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::engines::Engines;
use crate::domain::delivery::{Next, OnUncertain, Ordering, State};
use crate::domain::operator::Action;
use crate::store::committer::Group;
use crate::store::contract::{Backend as _, NOW, event, route};
use crate::store::engine::{Authority, EngineError};
use crate::store::types::{Act, ActKind, AttemptStarted, Settlement, TargetId, Term};

const LEASE: &str = "target/orders";

/// The number of events of a run.
const EVENTS: i64 = 3;

/// A step of a run. The first number is that of a process, the second one that of an event.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The lease of the last owner expires, and this process takes it.
    TakeOver(usize),
    /// The process records a request for the event.
    Claim(usize, i64),
    /// The process writes the outcome of its last request.
    Settle(usize, i64, Next),
    /// An operator releases a held event at this process.
    Release(usize, i64),
    /// The process loses its memory and its requests on the wire.
    Crash(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (process, of) = (0..2_usize, 1..=EVENTS);
    let next = prop_oneof![
        Just(Next::Delivered),
        Just(Next::Retrying { due_at: NOW }),
        Just(Next::Held),
        Just(Next::Dead),
    ];
    let step = prop_oneof![
        2 => process.clone().prop_map(Step::TakeOver),
        6 => (process.clone(), of.clone()).prop_map(|(process, of)| Step::Claim(process, of)),
        4 => (process.clone(), of.clone(), next).prop_map(|(process, of, next)| Step::Settle(process, of, next)),
        2 => (process.clone(), of).prop_map(|(process, of)| Step::Release(process, of)),
        1 => process.prop_map(Step::Crash),
    ];
    prop::collection::vec(step, 1..40)
}

/// The state of a process in its own view.
#[derive(Clone, Debug, Default)]
struct Process {
    /// The term that the process considers its own.
    term: Option<Term>,
    /// The numbers of its requests on the wire, by event.
    requests: BTreeMap<i64, u32>,
}

/// The expected row of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Delivery {
    state: State,
    attempts: u32,
    /// Whether a request was made whose outcome is not written.
    is_unknown: bool,
}

struct World {
    engines: Engines,
    target: TargetId,
    processes: [Process; 2],
    /// The term of the last take-over.
    term: Option<Term>,
    deliveries: BTreeMap<i64, Delivery>,
}

impl World {
    async fn new() -> Self {
        let mut engines = Engines::new(2, vec![route("orders", "*", Ordering::None)]).await;
        let events = (1..=EVENTS).map(|n| event(&format!("evt_{n}"), "a")).collect();
        assert_eq!(engines.append(0, events), (1..=EVENTS).collect::<Vec<_>>());
        let new = Delivery { state: State::Pending, attempts: 0, is_unknown: false };
        let deliveries = (1..=EVENTS).map(|of| (of, new)).collect();
        let target = engines.targets[0];
        Self { engines, target, processes: Default::default(), term: None, deliveries }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::TakeOver(process) => self.take_over(process),
            Step::Claim(process, of) => self.claim(process, of),
            Step::Settle(process, of, next) => self.settle(process, of, next),
            Step::Release(process, of) => self.release(process, of),
            Step::Crash(process) => self.processes[process] = Process::default(),
        }
    }

    /// Returns the term of `process` and whether it is the owner; `None` if it does not consider
    /// itself the owner.
    fn owner(&self, process: usize) -> Option<(Term, bool)> {
        self.processes[process].term.map(|term| (term, self.term == Some(term)))
    }

    fn take_over(&mut self, process: usize) {
        let term = self.engines.backend.term(LEASE);
        assert!(self.term < Some(term), "a term only grows");
        self.term = Some(term);
        self.processes[process].term = Some(term);
        let target = self.target;
        let recover = |group: &mut Group<'_>| {
            let owner = Authority::Owner(term);
            group.engine.recover(owner, target, OnUncertain::Hold, &mut group.context)
        };
        let found = self.engines.group(process, recover).unwrap();
        let cut_off = self.deliveries.values_mut().filter(|one| one.state == State::Sending);
        let expected = cut_off.map(|one| one.state = State::Held).count();
        assert_eq!(found.len(), expected);
    }

    fn claim(&mut self, process: usize, of: i64) {
        let Some((term, is_owner)) = self.owner(process) else { return };
        let (target, delivery) = (self.target, self.deliveries.get_mut(&of).unwrap());
        let number = delivery.attempts + 1;
        let begun = AttemptStarted { sequence: of, number, at: NOW };
        let claimed = self.engines.group(process, |group| group.engine.claim(term, target, begun));
        match claimed {
            Err(EngineError::Superseded) => assert!(!is_owner),
            Err(EngineError::Rejected(_)) => {
                assert!(is_owner && !matches!(delivery.state, State::Pending | State::Retrying));
            }
            Err(error) => panic!("{error}"),
            Ok(()) => {
                assert!(is_owner && matches!(delivery.state, State::Pending | State::Retrying));
                assert!(!delivery.is_unknown, "requested again, with the outcome of the first unknown");
                *delivery = Delivery { state: State::Sending, attempts: number, is_unknown: true };
                self.processes[process].requests.insert(of, number);
            }
        }
    }

    fn settle(&mut self, process: usize, of: i64, next: Next) {
        let Some((term, is_owner)) = self.owner(process) else { return };
        let Some(number) = self.processes[process].requests.remove(&of) else { return };
        let settlement = Settlement {
            sequence: of,
            number,
            started_at: NOW,
            duration: Duration::ZERO,
            status: None,
            error: None,
            answer: Vec::new(),
            next,
        };
        let target = self.target;
        let settle =
            |group: &mut Group<'_>| group.engine.settle(term, target, &[&settlement], &mut group.context);
        let settled = self.engines.group(process, settle);
        assert_eq!(settled, if is_owner { Ok(()) } else { Err(EngineError::Superseded) });
        let delivery = self.deliveries.get_mut(&of).unwrap();
        if is_owner && delivery.state == State::Sending && delivery.attempts == number {
            (delivery.state, delivery.is_unknown) = (next.state(), false);
        }
    }

    fn release(&mut self, process: usize, of: i64) {
        let Some((term, is_owner)) = self.owner(process) else { return };
        let target = self.target;
        let acts = [Act { sequence: of, kind: ActKind::Apply(Action::Release, [State::Held].into()) }];
        let act = |group: &mut Group<'_>| {
            group.engine.act(Authority::Owner(term), target, &acts, &mut group.context)
        };
        match self.engines.group(process, act) {
            Ok(acted) => {
                assert!(is_owner);
                let delivery = self.deliveries.get_mut(&of).unwrap();
                assert_eq!(acted[0].result.is_ok(), delivery.state == State::Held);
                if delivery.state == State::Held {
                    (delivery.state, delivery.is_unknown) = (State::Retrying, false);
                }
            }
            Err(error) => assert_eq!((error, is_owner), (EngineError::Superseded, false)),
        }
    }

    /// Compares the stored rows with the model.
    fn compare(&self, step: Step) {
        let query = "SELECT sequence || ' ' || state || ' ' || attempts FROM delivery ORDER BY sequence";
        let row = |(of, one): (&i64, &Delivery)| format!("{of} {} {}", one.state.as_str(), one.attempts);
        let expected: Vec<_> = self.deliveries.iter().map(row).collect();
        assert_eq!(self.engines.backend.texts(query), expected, "after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_two_that_take_themselves_for_the_owner_the_last_one_writes(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut world = runtime.block_on(World::new());
        for step in steps {
            world.take(step);
            world.compare(step);
        }
    }
}
