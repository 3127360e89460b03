//! The table of legal steps: the states from which each step may be taken, and the state after it. The
//! dispatcher, the operator's actions and recovery after a crash take no other steps; the store's
//! `UPDATE`s have the same conditions.

use super::state::State;

/// What follows an attempt whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUncertain {
    /// Send again: at least once.
    Retry,
    /// Wait for an operator: never twice.
    Hold,
}

/// A change of a delivery's state. A step leads to one state, whatever the state before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An attempt is recorded before it begins.
    Claim,
    /// An attempt has ended: the target has acknowledged the event.
    Deliver,
    /// An attempt has ended: another one follows.
    Retry,
    /// An attempt has ended: it is unknown whether the target took the event.
    Hold,
    /// An attempt has ended: there is no other one.
    GiveUp,
    /// A recorded attempt was cut off by the end of the process.
    Interrupt(OnUncertain),
    /// The operator has it sent now; the time to give up is counted anew.
    SendNow {
        /// Whether an attempt was ever made.
        tried: bool,
    },
    /// The operator has it sent again after it has ended.
    Replay {
        /// Whether an attempt was ever made.
        tried: bool,
    },
    /// The operator has a held delivery sent again: the target may see the event twice.
    Release,
    /// The operator decides about a held delivery that nothing more is needed.
    Close,
    /// The operator decides that it is not to be sent.
    Cancel,
}

/// A step that may not be taken from a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a delivery that is {} does not go the step {step:?}", from.as_str())]
pub struct Illegal {
    /// The state.
    pub from: State,
    /// The step.
    pub step: Step,
}

impl Step {
    /// Returns the states from which this step may be taken.
    pub const fn from(self) -> &'static [State] {
        use State::{Cancelled, Closed, Dead, Delivered, Held, Pending, Retrying, Sending};
        match self {
            Self::Claim => &[Pending, Retrying],
            // An attempt need not have been recorded before it went out.
            Self::Deliver | Self::Retry | Self::Hold | Self::GiveUp => &[Pending, Sending, Retrying],
            Self::Interrupt(_) => &[Sending],
            Self::SendNow { .. } => &[Retrying, Dead, Closed, Cancelled],
            Self::Replay { .. } => &[Delivered, Dead, Closed, Cancelled],
            Self::Release | Self::Close => &[Held],
            Self::Cancel => &[Pending, Retrying, Held, Dead],
        }
    }

    /// Returns the state after this step.
    pub const fn to(self) -> State {
        match self {
            Self::Claim => State::Sending,
            Self::Deliver => State::Delivered,
            Self::Hold | Self::Interrupt(OnUncertain::Hold) => State::Held,
            Self::GiveUp => State::Dead,
            Self::SendNow { tried: false } | Self::Replay { tried: false } => State::Pending,
            Self::Retry
            | Self::Interrupt(OnUncertain::Retry)
            | Self::SendNow { tried: true }
            | Self::Replay { tried: true }
            | Self::Release => State::Retrying,
            Self::Close => State::Closed,
            Self::Cancel => State::Cancelled,
        }
    }
}

/// Returns the state of a delivery in `state` after `step`.
///
/// # Errors
/// [`Illegal`] if the step may not be taken from that state.
pub fn apply(state: State, step: Step) -> Result<State, Illegal> {
    if step.from().contains(&state) { Ok(step.to()) } else { Err(Illegal { from: state, step }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 14] = [
        Step::Claim,
        Step::Deliver,
        Step::Retry,
        Step::Hold,
        Step::GiveUp,
        Step::Interrupt(OnUncertain::Retry),
        Step::Interrupt(OnUncertain::Hold),
        Step::SendNow { tried: false },
        Step::SendNow { tried: true },
        Step::Replay { tried: false },
        Step::Replay { tried: true },
        Step::Release,
        Step::Close,
        Step::Cancel,
    ];

    /// Each line is a state, and each column a step in the order of [`STEPS`]. The entries are the
    /// first letters of the state after the step, and `-` if the step may not be taken.
    const TABLE: [(State, &str); 8] = [
        //                  claim del ret hold dead int int  now now rpl rpl rel clo can
        (State::Pending, "  sen   del ret hel  dea  -   -    -   -   -   -   -   -   can"),
        (State::Sending, "  -     del ret hel  dea  ret hel  -   -   -   -   -   -   -"),
        (State::Retrying, " sen   del ret hel  dea  -   -    pen ret -   -   -   -   can"),
        (State::Held, "     -     -   -   -    -    -   -    -   -   -   -   ret clo can"),
        (State::Delivered, "-     -   -   -    -    -   -    -   -   pen ret -   -   -"),
        (State::Dead, "     -     -   -   -    -    -   -    pen ret pen ret -   -   can"),
        (State::Closed, "   -     -   -   -    -    -   -    pen ret pen ret -   -   -"),
        (State::Cancelled, "-     -   -   -    -    -   -    pen ret pen ret -   -   -"),
    ];

    #[test]
    fn every_step_from_every_state_leads_where_the_table_says_or_is_refused() {
        assert_eq!(TABLE.map(|(state, _)| state), State::ALL);
        for (state, line) in TABLE {
            let cells: Vec<_> = line.split_whitespace().collect();
            assert_eq!(cells.len(), STEPS.len(), "{state:?}");
            for (step, expected) in STEPS.into_iter().zip(cells) {
                let applied = apply(state, step);
                let told = applied.map_or("-", |state| &state.as_str()[..3]);
                assert_eq!(told, expected, "{step:?} of {state:?}");
                assert!(applied.is_ok() || applied == Err(Illegal { from: state, step }));
            }
        }
    }

    #[test]
    fn an_acknowledged_delivery_is_sent_again_by_a_replay_alone() {
        for step in STEPS {
            let is_replay = matches!(step, Step::Replay { .. });
            assert_eq!(apply(State::Delivered, step).is_ok(), is_replay, "{step:?}");
        }
    }

    #[test]
    fn a_held_delivery_leaves_that_state_by_the_operator_alone() {
        for step in STEPS.into_iter().filter(|step| apply(State::Held, *step).is_ok()) {
            assert!(matches!(step, Step::Release | Step::Close | Step::Cancel), "{step:?}");
        }
    }

    #[test]
    fn a_recorded_attempt_ends_before_an_operator_decides() {
        for step in STEPS.into_iter().filter(|step| apply(State::Sending, *step).is_ok()) {
            let ends = matches!(step, Step::Deliver | Step::Retry | Step::Hold | Step::GiveUp);
            assert!(ends || matches!(step, Step::Interrupt(_)), "{step:?}");
        }
    }

    #[test]
    fn every_state_is_reached_and_left() {
        for state in State::ALL {
            assert!(STEPS.into_iter().any(|step| apply(state, step).is_ok()), "{state:?} is never left");
            assert!(STEPS.into_iter().any(|step| step.to() == state), "{state:?} is never reached");
        }
    }

    #[test]
    fn a_refused_step_names_the_state() {
        let refused = apply(State::Delivered, Step::Cancel).unwrap_err().to_string();
        assert_eq!(refused, "a delivery that is delivered does not go the step Cancel");
    }
}
