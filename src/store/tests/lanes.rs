//! Whatever happens in whatever order: of one object one delivery is out at a
//! time, in order, and none is forgotten.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::super::outbox::Search;
use super::*;
use crate::domain::delivery::Next;

#[derive(Clone, Copy, Debug)]
enum Action {
    /// An event about this object comes in.
    Record(u8),
    /// The attempt at one of the deliveries in hand ends.
    Settle(prop::sample::Index, Next),
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
        5 => (0..4_u8).prop_map(Action::Record),
        6 => (any::<prop::sample::Index>(), outcome).prop_map(|(which, next)| Action::Settle(which, next)),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 1..60)
}

/// What a dispatcher would know.
#[derive(Default)]
struct Dispatcher {
    in_hand: Vec<Job>,
    /// The sequences that were settled for good, by object, in that order.
    done: BTreeMap<String, Vec<i64>>,
    held: HashSet<String>,
}

fn object(job: &Job) -> String {
    job.event.event.object_id.as_deref().unwrap().to_owned()
}

impl Dispatcher {
    async fn take_all(&mut self, arrivals: &mut Arrivals, ledger: &Ledger) {
        let known = self.in_hand.iter().map(|job| job.sequence).collect();
        let found = ledger.due(Search { now: NOW, known, limit: 1000 }).await.unwrap().jobs;
        for job in found.into_iter().chain(std::iter::from_fn(|| arrivals.take_ready())) {
            if self.in_hand.iter().all(|known| known.sequence != job.sequence) {
                self.in_hand.push(job);
            }
        }
        let objects: HashSet<_> = self.in_hand.iter().map(object).collect();
        assert_eq!(objects.len(), self.in_hand.len(), "two deliveries of one object are out");
        assert!(objects.is_disjoint(&self.held), "a held delivery does not hold back its object");
    }

    async fn settle(&mut self, job: Job, next: Next, ledger: &Ledger) {
        ledger.settle(job.settlement(NOW, Duration::ZERO, next)).await.unwrap();
        match next {
            Next::Delivered | Next::Dead => self.done.entry(object(&job)).or_default().push(job.sequence),
            Next::Held => drop(self.held.insert(object(&job))),
            Next::Retrying { .. } => {}
        }
    }
}

async fn play(actions: Vec<Action>) {
    let routes = || vec![route("orders", "*", Ordering::PerObject)];
    let mut fixture = Fixture::new(routes()).await;
    let (mut arrivals, mut ledger) = fixture.outbox();
    let (mut dispatcher, mut recorded) = (Dispatcher::default(), BTreeMap::<String, Vec<i64>>::new());
    let mut count = 0;
    for action in actions {
        match action {
            Action::Record(object) => {
                count += 1;
                let object = object.to_string();
                fixture.store.inbox.try_record(event(&format!("evt_{count}"), &object)).await.unwrap();
                recorded.entry(object).or_default().push(count);
            }
            Action::Settle(which, next) if !dispatcher.in_hand.is_empty() => {
                let job = dispatcher.in_hand.swap_remove(which.index(dispatcher.in_hand.len()));
                dispatcher.settle(job, next, &ledger).await;
            }
            Action::Settle(..) => {}
            Action::Restart => {
                dispatcher.in_hand.clear();
                drop((arrivals, ledger));
                fixture = fixture.restart(routes()).await;
                (arrivals, ledger) = fixture.outbox();
            }
        }
        dispatcher.take_all(&mut arrivals, &ledger).await;
    }
    while let Some(job) = dispatcher.in_hand.pop() {
        dispatcher.settle(job, Next::Delivered, &ledger).await;
        dispatcher.take_all(&mut arrivals, &ledger).await;
    }
    for (object, sequences) in recorded {
        let done = dispatcher.done.remove(&object).unwrap_or_default();
        assert!(sequences.starts_with(&done), "object {object}: {done:?} is not the order of {sequences:?}");
        let complete = done.len() == sequences.len();
        assert!(
            complete || dispatcher.held.contains(&object),
            "object {object}: some of {sequences:?} are forgotten"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_at_a_time_in_order_and_none_forgotten(actions in actions()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(actions));
    }
}
