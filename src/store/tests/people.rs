//! Whatever a person does in between: of one object one delivery is out at a
//! time and in order, nothing is lost, what was acknowledged is sent again only
//! if it is replayed, and what was called off is not sent.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::error::ActError;
use super::super::types::{Begun, PerKind, Search};
use super::*;
use crate::domain::delivery::{Next, OnUncertain, State};
use crate::domain::event::EventId;
use crate::domain::operator::{Action, Filter, REPLAYABLE};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An event about this object comes in, created by Pepay at this time.
    Record(u8, u16),
    /// The dispatcher wants to start one of the deliveries it was given, and may
    /// write that down.
    Start(Index, bool),
    /// One of the requests that are out ends.
    Settle(Index, Next),
    /// A person does something about one delivery.
    Act(Action, Index),
    /// A person does something about all of them.
    ActOnAll(Action),
    Replay(Index),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(Next::Delivered),
        3 => Just(Next::Retrying { due_at: NOW }),
        2 => Just(Next::Dead),
        2 => Just(Next::Held),
    ];
    let action = || prop::sample::select(Action::ALL.to_vec());
    let step = prop_oneof![
        6 => (0..3_u8, 1000..9999_u16).prop_map(|(object, created)| Step::Record(object, created)),
        5 => (any::<Index>(), any::<bool>()).prop_map(|(which, begin)| Step::Start(which, begin)),
        5 => (any::<Index>(), outcome).prop_map(|(which, next)| Step::Settle(which, next)),
        6 => (action(), any::<Index>()).prop_map(|(action, which)| Step::Act(action, which)),
        1 => action().prop_map(Step::ActOnAll),
        2 => any::<Index>().prop_map(Step::Replay),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// What is expected of one delivery.
#[derive(Clone, Debug)]
struct Expected {
    id: String,
    object: String,
    order: (u64, u64),
    /// Pending and retrying are both told as retrying here.
    state: State,
    replays: u32,
}

/// A dispatcher, a person, and what both may expect.
struct Play {
    fixture: Fixture,
    arrivals: Arrivals,
    ledger: Ledger,
    ordering: Ordering,
    given: Vec<Job>,
    out: Vec<Job>,
    deliveries: BTreeMap<i64, Expected>,
}

impl Play {
    async fn new(ordering: Ordering) -> Self {
        let mut fixture = Fixture::new(vec![route("orders", "*", ordering)]).await;
        let (arrivals, ledger) = fixture.outbox();
        let (given, out, deliveries) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { fixture, arrivals, ledger, ordering, given, out, deliveries }
    }

    async fn step(mut self, step: Step) -> Self {
        match step {
            Step::Record(object, created) => self.record(object, created).await,
            Step::Start(which, begin) if !self.given.is_empty() => {
                let job = self.given.swap_remove(which.index(self.given.len()));
                self.start(job, begin).await;
            }
            Step::Settle(which, next) if !self.out.is_empty() => {
                let job = self.out.swap_remove(which.index(self.out.len()));
                self.settle(&job, next).await;
            }
            Step::Act(action, which) if !self.deliveries.is_empty() => {
                self.act(action, self.pick(which)).await;
            }
            Step::Replay(which) if !self.deliveries.is_empty() => self.replay(self.pick(which)).await,
            Step::ActOnAll(action) => self.act_on_all(action).await,
            Step::Restart => self = self.restart().await,
            _ => {}
        }
        self.take_all().await;
        self.check().await;
        self
    }

    fn pick(&self, which: Index) -> i64 {
        i64::try_from(which.index(self.deliveries.len())).unwrap() + 1
    }

    async fn record(&mut self, object: u8, created: u16) {
        let (n, object) = (self.deliveries.len(), object.to_string());
        let id = format!("evt_{created}-{n}");
        self.fixture.store.inbox.try_record(event(&id, &object)).await.unwrap();
        let order = id.parse::<EventId>().unwrap().creation_order().unwrap();
        let expected = Expected { id, object, order, state: State::Retrying, replays: 0 };
        self.deliveries.insert(i64::try_from(n).unwrap() + 1, expected);
    }

    fn is_out(&self, sequence: i64) -> bool {
        self.out.iter().any(|job| job.sequence == sequence)
    }

    async fn start(&mut self, job: Job, begin: bool) {
        if !self.ledger.start(&job) {
            return;
        }
        let own = &self.deliveries[&job.sequence];
        assert_eq!(own.state, State::Retrying, "{own:?} is sent");
        assert_eq!(own.replays, job.replays);
        if self.ordering == Ordering::PerObject {
            for (sequence, other) in &self.deliveries {
                let same = other.object == own.object && *sequence != job.sequence;
                assert!(!same || !self.is_out(*sequence), "two of one object are out");
                let before = matches!(other.state, State::Retrying) && other.order < own.order;
                assert!(!same || !before, "{other:?} comes before {own:?} and waits");
                assert!(!same || other.state != State::Held, "a held delivery does not hold back its object");
            }
        }
        if begin {
            let attempt = Begun { sequence: job.sequence, number: job.attempts + 1, at: NOW };
            self.ledger.begin(attempt).await.unwrap();
        }
        self.out.push(job);
    }

    async fn settle(&mut self, job: &Job, next: Next) {
        self.ledger.settle(vec![job.settlement(NOW, Duration::ZERO, next)]).await.unwrap();
        self.deliveries.get_mut(&job.sequence).unwrap().state = next.state();
    }

    fn expect(&mut self, action: Action, sequence: i64) -> bool {
        let is_out = self.is_out(sequence);
        let expected = self.deliveries.get_mut(&sequence).unwrap();
        if is_out || !action.applies_to().contains(&expected.state) {
            return false;
        }
        expected.state = match action {
            Action::Retry | Action::Release => State::Retrying,
            Action::Close => State::Closed,
            Action::Cancel => State::Cancelled,
        };
        true
    }

    async fn act(&mut self, action: Action, sequence: i64) {
        let before = self.deliveries[&sequence].clone();
        // One that was never tried is pending, which cannot be retried.
        let id = before.id.parse().unwrap();
        let done = self.fixture.store.operator.act(action, "orders", &id).await;
        let pending = matches!(done, Err(ActError::NotAllowed { state: State::Pending, .. }));
        if pending && action == Action::Retry && before.state == State::Retrying {
            return;
        }
        assert_eq!(done.is_ok(), self.expect(action, sequence), "{action} of {before:?}: {done:?}");
    }

    async fn act_on_all(&mut self, action: Action) {
        let operator = self.fixture.store.operator.clone();
        let matching = operator.count(action, &Filter::default()).await.unwrap();
        let changed = operator.act_on_all(action, &Filter::default(), matching, |_| {}).await.unwrap();
        let sequences: Vec<_> = self.deliveries.keys().copied().collect();
        let expected = sequences.into_iter().filter(|sequence| self.expect(action, *sequence)).count();
        let expected = u64::try_from(expected).unwrap();
        // Those never tried are counted among the retrying here.
        assert!(changed == expected || (action == Action::Retry && changed < expected), "{action}");
    }

    async fn replay(&mut self, sequence: i64) {
        let expected = self.deliveries.get_mut(&sequence).unwrap();
        let id = expected.id.parse().unwrap();
        let done = self.fixture.store.operator.replay("orders", &id).await;
        if REPLAYABLE.contains(&expected.state) {
            expected.replays += 1;
            expected.state = State::Retrying;
            assert_eq!(done, Ok(expected.replays));
        } else {
            assert!(done.is_err(), "{expected:?}");
        }
    }

    async fn restart(self) -> Self {
        let Self { fixture, deliveries, arrivals, ledger, ordering, .. } = self;
        drop((arrivals, ledger));
        let mut fixture = fixture.restart(vec![route("orders", "*", ordering)]).await;
        let (arrivals, ledger) = fixture.outbox();
        ledger.recover(OnUncertain::Retry).await.unwrap();
        Self { fixture, arrivals, ledger, ordering, given: Vec::new(), out: Vec::new(), deliveries }
    }

    /// Takes what the store lets out, as the dispatcher does.
    async fn take_all(&mut self) {
        let mut known: HashSet<_> = self.given.iter().chain(&self.out).map(|job| job.sequence).collect();
        let search = Search { now: NOW, known: known.clone(), limits: PerKind::from_fn(|_| 1000) };
        let found = self.ledger.due(search).await.unwrap().jobs;
        let arrived = std::iter::from_fn(|| self.arrivals.take_ready());
        for job in found.into_iter().chain(arrived) {
            if known.insert(job.sequence) {
                self.given.push(job);
            } else if let Some(given) = self.given.iter_mut().find(|given| given.sequence == job.sequence) {
                *given = job;
            }
        }
    }

    /// Of each lane one is first, nothing else is due, and the counts are right.
    async fn check(&self) {
        let backlog = self.fixture.store.operator.backlogs().await.unwrap().remove(0);
        let count = |state| self.deliveries.values().filter(|one| one.state == state).count() as u64;
        let expected = (count(State::Retrying), count(State::Held), count(State::Dead));
        assert_eq!((backlog.open, backlog.held, backlog.dead), expected);
        let door = self.fixture.side_door();
        let wrong = |query: &str| door.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
        let firsts = "SELECT count(*) FROM (SELECT 1 FROM delivery WHERE lane IS NOT NULL \
                      GROUP BY target_id, lane HAVING sum(rank = 0) <> 1)";
        assert_eq!(wrong(firsts), 0, "a lane has one that is first");
        let due = "SELECT count(*) FROM delivery WHERE due_at IS NOT NULL AND lane IS NOT NULL AND rank <> 0";
        assert_eq!(wrong(due), 0, "only the first is due");
        for (sequence, expected) in &self.deliveries {
            let query = "SELECT state FROM delivery WHERE sequence = ?1";
            let state: String = door.query_row(query, [sequence], |row| row.get(0)).unwrap();
            let state: State = state.parse().unwrap();
            let state = if state.is_open() { State::Retrying } else { state };
            assert_eq!(state, expected.state, "{expected:?}");
        }
    }

    /// Releases what is held and delivers everything that can be.
    async fn finish(mut self) {
        while let Some(job) = self.out.pop() {
            self.settle(&job, Next::Delivered).await;
        }
        self.act_on_all(Action::Release).await;
        self.take_all().await;
        while !self.given.is_empty() {
            while let Some(job) = self.given.pop() {
                self.start(job, false).await;
            }
            while let Some(job) = self.out.pop() {
                self.settle(&job, Next::Delivered).await;
            }
            self.take_all().await;
        }
        for expected in self.deliveries.values() {
            assert!(expected.state.is_settled(), "{expected:?} is forgotten");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_person_does_lanes_hold_and_nothing_is_lost(steps in steps(), in_order in any::<bool>()) {
        let ordering = if in_order { Ordering::PerObject } else { Ordering::None };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut play = Play::new(ordering).await;
            for step in steps {
                play = play.step(step).await;
            }
            play.finish().await;
        });
    }
}
