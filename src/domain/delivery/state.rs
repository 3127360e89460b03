//! The states of a delivery.

use std::str::FromStr;

use serde::Serialize;

/// The state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No attempt was made.
    Pending,
    /// An attempt is on the wire. The state is recorded if a repeat must be ruled out, and otherwise
    /// for slow attempts.
    Sending,
    /// An attempt has failed; another one follows.
    Retrying,
    /// The outcome of an attempt is unknown; an operator decides.
    Held,
    /// Acknowledged by the target. Never sent again.
    Delivered,
    /// Given up; kept for an operator's decision.
    Dead,
    /// It was held; an operator has decided that nothing more is needed.
    Closed,
    /// An operator has decided that it is not to be sent.
    Cancelled,
}

/// Why a text is not a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no state of a delivery")]
pub struct UnknownState(pub String);

impl State {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Sending,
        Self::Retrying,
        Self::Held,
        Self::Delivered,
        Self::Dead,
        Self::Closed,
        Self::Cancelled,
    ];

    /// Returns the name in the store, in logs and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns whether the bridge itself makes another attempt, or one is on the wire.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Sending | Self::Retrying)
    }

    /// Returns whether the delivery has ended, so that its lane goes on without it.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Delivered | Self::Dead | Self::Closed | Self::Cancelled)
    }
}

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unfinished_states_are_open() {
        let open: Vec<_> = State::ALL.into_iter().filter(|state| state.is_open()).collect();
        assert_eq!(open, [State::Pending, State::Sending, State::Retrying]);
    }

    #[test]
    fn a_state_is_open_or_held_or_settled() {
        for state in State::ALL {
            let is = [state.is_open(), state == State::Held, state.is_settled()];
            assert_eq!(is.into_iter().filter(|it| *it).count(), 1, "{state:?}");
        }
    }

    #[test]
    fn a_state_is_read_by_the_name_it_is_written_with() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert_eq!("Pending".parse::<State>(), Err(UnknownState("Pending".to_owned())));
    }
}
