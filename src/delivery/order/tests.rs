//! Tests the order against a model of the store, with all kinds of steps in any sequence. One delivery
//! of a lane is on the wire at a time, and none is sent while an earlier one is open. A held delivery
//! holds back its lane. No ended delivery is sent. Memory is bounded, and no delivery is forgotten.
//! Searches come to an end while nothing changes.

mod stored;
mod world;

use proptest::prelude::*;
use proptest::sample::Index;

use world::World;

#[derive(Clone, Debug)]
enum Step {
    /// An event of this lane and rank is stored. It may be handed over, handed over without its job, or
    /// missed.
    Store { lane: u8, rank: i64, handed_over: Handover },
    /// The dispatcher takes the deliveries that were handed over.
    Take,
    /// A search begins.
    Search,
    /// The search ends, and the dispatcher takes its result.
    Found,
    /// The search fails.
    SearchFails,
    /// Nothing happens until the dispatcher does not search any more.
    Rest,
    /// A ready delivery is started.
    Start(Index),
    /// The attempt at a started delivery is not made.
    NotSent(Index),
    /// A delivery on the wire ends with this outcome.
    End(Index, Outcome),
    /// The outcome of a delivery is written.
    Write(Index),
    /// An operator does this to a delivery, and the store answers so.
    Act(Index, Done, Answer),
    /// The clock is set back to before the due times of the deliveries that were sent.
    SetBack,
    /// The process ends and begins again.
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handover {
    Whole,
    Stub,
    Missed,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Delivered,
    RetryNow,
    RetryLater,
    Held,
    Dead,
}

/// An action of an operator, if the state allows it.
#[derive(Clone, Copy, Debug)]
enum Done {
    Cancel,
    SendAgain,
}

/// The store's answer to an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Done,
    /// It fails, and the action is carried out.
    LostDone,
    /// It fails, and nothing has changed.
    Failed,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let handed_over =
        prop_oneof![8 => Just(Handover::Whole), 2 => Just(Handover::Stub), 1 => Just(Handover::Missed)];
    let outcome = prop_oneof![
        6 => Just(Outcome::Delivered),
        2 => Just(Outcome::RetryNow),
        2 => Just(Outcome::RetryLater),
        1 => Just(Outcome::Held),
        1 => Just(Outcome::Dead),
    ];
    let done = prop_oneof![Just(Done::Cancel), Just(Done::SendAgain)];
    let answer = prop_oneof![4 => Just(Answer::Done), 1 => Just(Answer::LostDone), 1 => Just(Answer::Failed)];
    let step = prop_oneof![
        8 => (0..6_u8, 1..40_i64, handed_over)
            .prop_map(|(lane, rank, handed_over)| Step::Store { lane, rank, handed_over }),
        6 => Just(Step::Take),
        6 => Just(Step::Search),
        6 => Just(Step::Found),
        1 => Just(Step::SearchFails),
        2 => Just(Step::Rest),
        8 => any::<Index>().prop_map(Step::Start),
        1 => any::<Index>().prop_map(Step::NotSent),
        8 => (any::<Index>(), outcome).prop_map(|(which, outcome)| Step::End(which, outcome)),
        8 => any::<Index>().prop_map(Step::Write),
        2 => (any::<Index>(), done, answer)
            .prop_map(|(which, done, answer)| Step::Act(which, done, answer)),
        1 => Just(Step::SetBack),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 4,096 cases, or 16 times PROPTEST_CASES.
        cases: ProptestConfig::default().cases * 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_order_of_lanes_holds_and_every_delivery_is_sent_with_bounded_memory_and_searches(steps in steps(), repeats in any::<bool>()) {
        let mut world = World::new(repeats);
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }
}
