//! Whatever happens in whatever order: of one object one delivery is out at a
//! time, none starts while one that comes before it waits, and none is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::super::types::{PerKind, Search};
use super::*;
use crate::domain::delivery::Next;

#[derive(Clone, Copy, Debug)]
enum Action {
    /// An event about this object comes in, created by Pepay at this time.
    Record(u8, u16),
    /// The dispatcher wants to start one of the deliveries it was given.
    Start(Index),
    /// One of the requests that are out ends.
    Settle(Index, Next),
    Restart,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let outcome = prop_oneof![
        5 => Just(Next::Delivered),
        3 => Just(Next::Retrying { due_at: NOW }),
        1 => Just(Next::Dead),
        1 => Just(Next::Held),
    ];
    let action = prop_oneof![
        6 => (0..3_u8, 1000..9999_u16).prop_map(|(object, created)| Action::Record(object, created)),
        5 => any::<Index>().prop_map(Action::Start),
        5 => (any::<Index>(), outcome).prop_map(|(which, next)| Action::Settle(which, next)),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..60)
}

/// A dispatcher, and what it may expect.
struct Play {
    fixture: Fixture,
    arrivals: Arrivals,
    ledger: Ledger,
    given: Vec<Job>,
    out: Vec<Job>,
    /// What waits of each object, in Pepay's order; a held one stays in it.
    waiting: BTreeMap<String, BTreeSet<(u64, u64)>>,
    held: HashSet<String>,
}

fn routes() -> Vec<Route> {
    vec![route("orders", "*", Ordering::PerObject)]
}

fn object(job: &Job) -> String {
    job.event.event.subject.object.as_deref().unwrap().to_owned()
}

fn order(job: &Job) -> (u64, u64) {
    job.event.event.id.creation_order().unwrap()
}

impl Play {
    async fn new() -> Self {
        let mut fixture = Fixture::new(routes()).await;
        let (arrivals, ledger) = fixture.outbox();
        let (given, out) = (Vec::new(), Vec::new());
        Self { fixture, arrivals, ledger, given, out, waiting: BTreeMap::new(), held: HashSet::new() }
    }

    async fn act(self, action: Action) -> Self {
        let mut play = self;
        match action {
            Action::Record(object, created) => play.record(&object.to_string(), created).await,
            Action::Start(which) if !play.given.is_empty() => {
                let job = play.given.swap_remove(which.index(play.given.len()));
                play.start(job);
            }
            Action::Settle(which, next) if !play.out.is_empty() => {
                let job = play.out.swap_remove(which.index(play.out.len()));
                play.settle(job, next).await;
            }
            Action::Start(_) | Action::Settle(..) => {}
            Action::Restart => play = play.restart().await,
        }
        play.take_all().await;
        play
    }

    async fn record(&mut self, object: &str, created: u16) {
        let n = self.waiting.values().map(BTreeSet::len).sum::<usize>();
        let id = format!("evt_{created}-{n}{object}");
        if self.fixture.store.inbox.try_record(event(&id, object)).await.unwrap() == types::Recorded::New {
            let order = id.parse::<crate::domain::event::EventId>().unwrap().creation_order().unwrap();
            self.waiting.entry(object.to_owned()).or_default().insert(order);
        }
    }

    fn start(&mut self, job: Job) {
        if self.ledger.start(&job) {
            assert!(self.out.iter().all(|other| object(other) != object(&job)), "two of one object are out");
            assert!(!self.held.contains(&object(&job)), "a held delivery does not hold back its object");
            assert_eq!(
                self.waiting[&object(&job)].first(),
                Some(&order(&job)),
                "one that comes before it waits"
            );
            self.out.push(job);
        }
    }

    async fn settle(&mut self, job: Job, next: Next) {
        self.ledger.settle(vec![job.settlement(NOW, Duration::ZERO, next)]).await.unwrap();
        match next {
            Next::Delivered | Next::Dead => {
                assert!(self.waiting.get_mut(&object(&job)).unwrap().remove(&order(&job)), "settled twice");
            }
            Next::Held => drop(self.held.insert(object(&job))),
            Next::Retrying { .. } => {}
        }
    }

    async fn restart(self) -> Self {
        let Self { fixture, waiting, held, arrivals, ledger, .. } = self;
        drop((arrivals, ledger));
        let mut fixture = fixture.restart(routes()).await;
        let (arrivals, ledger) = fixture.outbox();
        Self { fixture, arrivals, ledger, given: Vec::new(), out: Vec::new(), waiting, held }
    }

    /// Takes what the store lets out, as the dispatcher does.
    async fn take_all(&mut self) {
        let known: HashSet<_> = self.given.iter().chain(&self.out).map(|job| job.sequence).collect();
        let found = self
            .ledger
            .due(Search { now: NOW, known: known.clone(), limits: PerKind::from_fn(|_| 1000) })
            .await
            .unwrap()
            .jobs;
        let arrived = std::iter::from_fn(|| self.arrivals.take_ready());
        let mut known = known;
        self.given.extend(found.into_iter().chain(arrived).filter(|job| known.insert(job.sequence)));
    }

    /// Delivers everything that can be.
    async fn finish(mut self) {
        while !self.given.is_empty() || !self.out.is_empty() {
            while let Some(job) = self.given.pop() {
                self.start(job);
            }
            while let Some(job) = self.out.pop() {
                self.settle(job, Next::Delivered).await;
            }
            self.take_all().await;
        }
        for (object, waiting) in self.waiting {
            assert!(
                waiting.is_empty() || self.held.contains(&object),
                "{waiting:?} of {object} are forgotten"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_at_a_time_in_order_and_none_forgotten(actions in actions()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut play = Play::new().await;
            for action in actions {
                play = play.act(action).await;
            }
            play.finish().await;
        });
    }
}
