//! What an operator asks for about many deliveries at once.

use super::{Action, Filter};
use crate::domain::delivery::State;

/// Work on many deliveries: counted first, and done once the count is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkWork {
    /// Do this to every delivery that passes the filter and that it applies to.
    Act(Action, Filter),
    /// Send events to a target again.
    Replay(BulkReplay),
    /// Give deliveries of a target that is not configured any more to another one.
    Move(BulkMove),
}

/// Deliveries of a target that is not configured any more, which another one goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkMove {
    /// The name of the target that is not configured any more.
    pub from: String,
    /// The name of the target that goes on with them.
    pub to: String,
    /// Which deliveries: those that pass, are unfinished or dead, and that the other target
    /// takes. Its target is `from`, whatever it says.
    pub filter: Filter,
}

/// Events that are to be sent to a target again, or for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkReplay {
    /// The name of the target.
    pub target: String,
    /// Which events: those that pass, and that the target takes or has taken. A state
    /// without a target is that of the delivery to this one.
    pub filter: Filter,
    /// Only events that have never had a delivery to the target.
    pub missing: bool,
}

impl BulkWork {
    /// Every name that such work has.
    pub const NAMES: [&str; 6] = ["retry", "release", "close", "cancel", "replay", "move"];

    /// The name in addresses and answers.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Act(action, _) => action.as_str(),
            Self::Replay(_) => "replay",
            Self::Move(_) => "move",
        }
    }
}

impl BulkMove {
    /// The states of what can be moved. What is recorded as on the wire has no dispatcher.
    pub const STATES: [State; 5] =
        [State::Pending, State::Sending, State::Retrying, State::Held, State::Dead];

    /// The filter of the deliveries.
    pub fn deliveries(&self) -> Filter {
        Filter { target: Some(self.from.clone()), ..self.filter.clone() }
    }
}

impl BulkReplay {
    /// The filter of the events, with the target that its state is meant for.
    pub fn events(&self) -> Filter {
        let mut filter = self.filter.clone();
        if filter.state.is_some() && !self.missing {
            filter.target.get_or_insert_with(|| self.target.clone());
        }
        filter
    }
}
