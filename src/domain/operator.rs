//! The questions and actions of an operator: filters of events and deliveries, actions on deliveries,
//! and actions on the running parts.

mod bulk;
mod running;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::clock::UnixMillis;
use super::delivery::{State, Step};
use super::event::Source;
use super::filter::TypeFilter;

pub use bulk::{BulkMove, BulkReplay, BulkWork};
pub use running::{
    Agreement, BackfillFrom, Mismatch, OperationError, Part, Routing, StreamCommand, TargetInfo, TestOutcome,
    Verification,
};

/// An action of an operator on a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Send the delivery now; the time to give up is counted anew.
    Retry,
    /// Send a held delivery again: the target may see the event twice.
    Release,
    /// Decide about a held delivery that nothing more is needed.
    Close,
    /// Decide that the delivery is not sent.
    Cancel,
}

/// Why a text is not an action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no action; allowed are `retry`, `release`, `close` and `cancel`")]
pub struct UnknownAction(pub String);

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Retry, Self::Release, Self::Close, Self::Cancel];

    /// Returns the name in addresses and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Release => "release",
            Self::Close => "close",
            Self::Cancel => "cancel",
        }
    }

    /// Returns the step of this action; `tried` says whether an attempt was ever made.
    pub const fn step(self, tried: bool) -> Step {
        match self {
            Self::Retry => Step::SendNow { tried },
            Self::Release => Step::Release,
            Self::Close => Step::Close,
            Self::Cancel => Step::Cancel,
        }
    }

    /// Returns the states that allow the action. A delivery on the wire is in none of them, and an
    /// acknowledged one can only be replayed.
    pub const fn applies_to(self) -> &'static [State] {
        self.step(true).from()
    }
}

/// The states from which an event can be replayed to a target: those of ended deliveries.
pub const REPLAYABLE: &[State] = Step::Replay { tried: true }.from();

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|action| action.as_str() == text);
        known.ok_or_else(|| UnknownAction(text.to_owned()))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A filter of events or deliveries; a member that is `None` lets all of them through. In a filter of
/// events, `state` and `target` have to fit one delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The event's type matches.
    pub types: Option<TypeFilter>,
    /// The event is about this object.
    pub object_id: Option<String>,
    /// The event is about this order, or about an object that names it as its order.
    pub order_id: Option<String>,
    /// The event is about this invoice, or about an object that belongs to an invoice and names it: a
    /// payment. An order does not belong to its invoice.
    pub invoice_id: Option<String>,
    /// The event came by this source first.
    pub source: Option<Source>,
    /// The delivery is in this state.
    pub state: Option<State>,
    /// The delivery goes to this target.
    pub target: Option<String>,
    /// The event arrived at this time or later.
    pub from: Option<UnixMillis>,
    /// The event arrived before this time.
    pub to: Option<UnixMillis>,
    /// The event's id begins with this.
    pub id_prefix: Option<String>,
    /// The event's body has this text, byte for byte. In a filter of events only.
    pub text: Option<String>,
}

impl Filter {
    /// Returns the states of the deliveries that `action` applies to and that pass the filter.
    pub fn states_for(&self, action: Action) -> Vec<State> {
        let passes = |state: &State| self.state.is_none_or(|wanted| wanted == *state);
        action.applies_to().iter().copied().filter(passes).collect()
    }
}

/// A page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The largest number of items; a number outside 1 to [`Page::LARGEST`] is moved into that range.
    pub limit: u32,
    /// The end of the previous page; `None` begins at the beginning.
    pub cursor: Option<Cursor>,
}

impl Page {
    /// The largest number of items of one page.
    pub const LARGEST: u32 = 500;
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 50, cursor: None }
    }
}

/// A place in a list, newest first, up to which all rows have been read. Callers pass its text back
/// unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The sequence of the last event that was read.
    pub(crate) sequence: i64,
    /// The number of the last target that was read, in a list of deliveries.
    pub(crate) target: i64,
}

/// Why a text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor; allowed is the `next_cursor` of an earlier answer")]
pub struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.sequence, self.target)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| -> Result<i64, InvalidCursor> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse().map_err(|_| InvalidCursor) } else { Err(InvalidCursor) }
        };
        let (sequence, target) = text.split_once('-').ok_or(InvalidCursor)?;
        Ok(Self { sequence: number(sequence)?, target: number(target)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_applies_to_its_states_and_to_no_other() {
        use State::{Cancelled, Closed, Dead, Held, Pending, Retrying};
        let table = [
            (Action::Retry, vec![Retrying, Dead, Closed, Cancelled]),
            (Action::Release, vec![Held]),
            (Action::Close, vec![Held]),
            (Action::Cancel, vec![Pending, Retrying, Held, Dead]),
        ];
        for (action, states) in table {
            for state in State::ALL {
                assert_eq!(
                    action.applies_to().contains(&state),
                    states.contains(&state),
                    "{action} of {state:?}"
                );
            }
        }
    }

    #[test]
    fn no_action_touches_a_delivery_on_the_wire_or_an_acknowledged_one() {
        for action in Action::ALL {
            assert!(!action.applies_to().contains(&State::Sending), "{action}");
            assert!(!action.applies_to().contains(&State::Delivered), "{action}");
        }
    }

    #[test]
    fn exactly_the_ended_deliveries_can_be_replayed() {
        for state in State::ALL {
            assert_eq!(REPLAYABLE.contains(&state), state.is_settled(), "{state:?}");
        }
    }

    #[test]
    fn names_are_read_the_way_they_are_written() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        assert_eq!("Retry".parse::<Action>(), Err(UnknownAction("Retry".to_owned())));
    }

    #[test]
    fn a_cursor_survives_being_written_and_nothing_else_is_one() {
        let cursor = Cursor { sequence: i64::MAX, target: 7 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "1", "-", "1-", "-1", "1-2-3", "+1-2", "1--2", "9223372036854775808-0", "é-1"] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
