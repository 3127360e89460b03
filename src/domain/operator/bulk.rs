//! The bulk actions of an operator.

use super::{Action, Filter};
use crate::domain::delivery::State;

/// A bulk action. Its deliveries are counted first, and it is done once the count is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkWork {
    /// Apply the action to every delivery that passes the filter and whose state allows it.
    Act(Action, Filter),
    /// Send events to a target again.
    Replay(BulkReplay),
    /// Move deliveries of a removed target to another one.
    Move(BulkMove),
}

/// A move of the deliveries of a removed target to another target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkMove {
    /// The name of the removed target.
    pub from: String,
    /// The name of the target that takes the deliveries.
    pub to: String,
    /// The filter. Deliveries are moved that pass it, are unfinished or dead, and whose events the
    /// other target takes. Its `target` is ignored: it is always `from`.
    pub filter: Filter,
}

/// A replay of events to a target: again, or for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkReplay {
    /// The name of the target.
    pub target: String,
    /// The filter. Events are sent that pass it, and that the target takes now or has a delivery of. A
    /// state without a target applies to the delivery to this target.
    pub filter: Filter,
    /// Whether only events without a delivery to the target are sent.
    pub missing: bool,
}

impl BulkWork {
    /// The names of all bulk actions.
    pub const NAMES: [&str; 6] = ["retry", "release", "close", "cancel", "replay", "move"];

    /// Returns the name in addresses and answers.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Act(action, _) => action.as_str(),
            Self::Replay(_) => "replay",
            Self::Move(_) => "move",
        }
    }
}

impl BulkMove {
    /// The states of deliveries that can be moved. A removed target has no dispatcher, so one recorded
    /// as on the wire can be moved too.
    pub const STATES: [State; 5] =
        [State::Pending, State::Sending, State::Retrying, State::Held, State::Dead];

    /// Returns the filter of the deliveries.
    pub fn deliveries(&self) -> Filter {
        Filter { target: Some(self.from.clone()), ..self.filter.clone() }
    }
}

impl BulkReplay {
    /// Returns the filter of the events, with the target to which its state applies.
    pub fn events(&self) -> Filter {
        let mut filter = self.filter.clone();
        if filter.state.is_some() && !self.missing {
            filter.target.get_or_insert_with(|| self.target.clone());
        }
        filter
    }
}
