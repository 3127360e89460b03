//! The table of legal steps and an engine agree: the engine takes each step from exactly the states
//! from which [`apply`] does, to the same state, and changes nothing else.

use super::direct::Direct;
use super::*;
use crate::domain::delivery::{Next, OnUncertain, State, Step, apply};
use crate::domain::operator::Action;
use crate::store::committer::Group;
use crate::store::engine::Authority;
use crate::store::error::ActError;
use crate::store::types::{Act, ActKind, AttemptStarted, Settlement};

const SEND_NOW: Step = Step::SendNow { tried: true };
const REPLAY: Step = Step::Replay { tried: true };

const STEPS: [Step; 12] = [
    Step::Claim,
    Step::Deliver,
    Step::Retry,
    Step::Hold,
    Step::GiveUp,
    Step::Interrupt(OnUncertain::Retry),
    Step::Interrupt(OnUncertain::Hold),
    SEND_NOW,
    REPLAY,
    Step::Release,
    Step::Close,
    Step::Cancel,
];

/// Sequences of steps from a new delivery to every state.
const WAYS: [&[Step]; 17] = [
    &[],
    &[Step::Claim],
    &[Step::Retry],
    &[Step::Claim, Step::Retry],
    &[Step::Retry, Step::Claim],
    &[Step::Claim, Step::Interrupt(OnUncertain::Retry)],
    &[Step::Hold],
    &[Step::Claim, Step::Interrupt(OnUncertain::Hold)],
    &[Step::Hold, Step::Release],
    &[Step::Deliver],
    &[Step::Deliver, REPLAY],
    &[Step::GiveUp],
    &[Step::GiveUp, SEND_NOW],
    &[Step::Hold, Step::Close],
    &[Step::Cancel],
    &[Step::Cancel, SEND_NOW],
    &[Step::Retry, Step::Cancel],
];

impl Direct {
    /// Has the engine take `step` of the delivery of `sequence`. Returns whether it did.
    fn take(&mut self, sequence: i64, step: Step) -> bool {
        match step {
            Step::Claim => self.claim(sequence),
            Step::Deliver => self.settle(sequence, Next::Delivered),
            Step::Retry => self.settle(sequence, Next::Retrying { due_at: NOW }),
            Step::Hold => self.settle(sequence, Next::Held),
            Step::GiveUp => self.settle(sequence, Next::Dead),
            Step::Interrupt(on_uncertain) => self.recover(sequence, on_uncertain),
            Step::SendNow { .. } => self.apply(sequence, Action::Retry),
            Step::Replay { .. } => self.act(sequence, ActKind::Replay),
            Step::Release => self.apply(sequence, Action::Release),
            Step::Close => self.apply(sequence, Action::Close),
            Step::Cancel => self.apply(sequence, Action::Cancel),
        }
    }

    fn claim(&mut self, sequence: i64) -> bool {
        let (target, term, attempts) = (self.target, self.term, self.standing(sequence).1);
        let begun = AttemptStarted { sequence, number: attempts + 1, at: NOW };
        self.commit(|group| group.engine.claim(term, target, begun)).is_ok()
    }

    /// An engine does not return whether it has settled a delivery, so the rows are compared.
    fn settle(&mut self, sequence: i64, next: Next) -> bool {
        let (state, attempts) = self.standing(sequence);
        let (target, term, before) = (self.target, self.term, self.delivery(sequence));
        let settlement = Settlement {
            sequence,
            // A claimed attempt is counted already.
            number: if state == State::Sending { attempts } else { attempts + 1 },
            started_at: NOW,
            duration: Duration::from_millis(3),
            status: Some(200),
            error: None,
            answer: Vec::new(),
            next,
        };
        let settle =
            |group: &mut Group<'_>| group.engine.settle(term, target, &[&settlement], &mut group.context);
        self.commit(settle).unwrap();
        self.delivery(sequence) != before
    }

    fn recover(&mut self, sequence: i64, on_uncertain: OnUncertain) -> bool {
        let (target, owner) = (self.target, Authority::Owner(self.term));
        let recover =
            |group: &mut Group<'_>| group.engine.recover(owner, target, on_uncertain, &mut group.context);
        let cut_off = self.commit(recover).unwrap();
        cut_off.iter().any(|attempt| attempt.event_id == name(sequence))
    }

    /// All states are given, so the engine itself has to know which are allowed.
    fn apply(&mut self, sequence: i64, action: Action) -> bool {
        self.act(sequence, ActKind::Apply(action, State::ALL.into()))
    }

    fn act(&mut self, sequence: i64, kind: ActKind) -> bool {
        let (target, owner, acts) = (self.target, Authority::Owner(self.term), [Act { sequence, kind }]);
        let on_the_wire = self.standing(sequence).0 == State::Sending;
        let act = |group: &mut Group<'_>| group.engine.act(owner, target, &acts, &mut group.context);
        match self.commit(act).unwrap().remove(0).result {
            Ok(_) => true,
            Err(ActError::OnTheWire) if on_the_wire => false,
            Err(ActError::NotAllowed { .. }) if !on_the_wire => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Returns the id of the event of `sequence`.
fn name(sequence: i64) -> String {
    format!("evt_{sequence}")
}

#[tokio::test]
async fn an_engine_takes_each_step_from_the_states_of_the_table_and_from_no_other() {
    let mut direct = Direct::new().await;
    let (mut sequence, mut seen) = (0, BTreeSet::new());
    for way in WAYS {
        for step in STEPS {
            sequence += 1;
            assert_eq!(direct.store(&name(sequence)), sequence);
            for step in way {
                assert!(direct.take(sequence, *step), "{way:?}");
            }
            let (state, attempts) = direct.standing(sequence);
            seen.insert(state.as_str());
            let tried = attempts > 0;
            let step = match step {
                Step::SendNow { .. } => Step::SendNow { tried },
                Step::Replay { .. } => Step::Replay { tried },
                step => step,
            };
            let before = direct.delivery(sequence);
            let taken = direct.take(sequence, step);
            let after = direct.delivery(sequence);
            let case = format!("{step:?} of {state:?} by {way:?}");
            if let Ok(next) = apply(state, step) {
                assert!(taken && after != before, "not taken: {case}");
                assert_eq!(direct.standing(sequence).0, next, "{case}");
            } else {
                assert!(!taken, "taken: {case}");
                assert_eq!(after, before, "{case}");
            }
        }
    }
    assert_eq!(seen, State::ALL.map(State::as_str).into(), "every state has been looked at");
}
