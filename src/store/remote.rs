//! The JSON of the table of requests: an operator's actions on a target that another replica
//! delivers to, and their results.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ActError, RecordError};
use super::types::{Act, ActKind, Acted, TargetId};
use crate::domain::delivery::State;
use crate::domain::operator::{Action, REPLAYABLE};

/// The name of the member that has the actions or the results.
const ACTS: &str = "acts";

#[derive(Debug, Serialize, Deserialize)]
struct WrittenAct {
    sequence: i64,
    kind: WrittenKind,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenKind {
    Apply { action: String, states: Vec<String> },
    Replay,
    Offer,
    Take(i64),
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenActed {
    sequence: i64,
    lane: Option<i64>,
    result: Result<u32, WrittenError>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenError {
    NoSuchEvent,
    NoSuchTarget,
    NotConfigured,
    AlreadyThere,
    InUse,
    NoSuchDelivery,
    NotAllowed { state: String },
    OnTheWire,
    PayloadGone,
    Store(String),
}

/// Returns a request for `acts` on deliveries to `target`.
pub(super) fn request(target: TargetId, acts: &[Act]) -> Value {
    let written = acts.iter().map(|act| WrittenAct { sequence: act.sequence, kind: (&act.kind).into() });
    json!({ "target": target.0, ACTS: written.collect::<Vec<_>>() })
}

/// Returns the actions in `request`; `None` if it has none, or was written by a later version.
pub(super) fn read_request(request: &Value) -> Option<(TargetId, Vec<Act>)> {
    let target = TargetId(request.get("target")?.as_i64()?);
    let written = Vec::<WrittenAct>::deserialize(request.get(ACTS)?).ok()?;
    let acts = written.into_iter().map(|act| Some(Act { sequence: act.sequence, kind: act.kind.read()? }));
    Some((target, acts.collect::<Option<_>>()?))
}

/// Returns the answer to a request.
pub(super) fn answer(acted: &[Acted]) -> Value {
    let written = acted.iter().map(|acted| WrittenActed {
        sequence: acted.sequence,
        lane: acted.lane,
        result: acted.result.clone().map_err(WrittenError::from),
    });
    json!({ ACTS: written.collect::<Vec<_>>() })
}

/// Returns the results of `acts` in `answer`; `None` if it has other results.
pub(super) fn read_answer(answer: &Value, acts: &[Act]) -> Option<Vec<Acted>> {
    let written = Vec::<WrittenActed>::deserialize(answer.get(ACTS)?).ok()?;
    let acted = written.into_iter().map(|acted| {
        let act = acts.iter().find(|act| act.sequence == acted.sequence)?;
        let WrittenActed { sequence, lane, result } = acted;
        let result = match result {
            Ok(replays) => Ok(replays),
            Err(error) => Err(error.read(act)?),
        };
        Some(Acted { sequence, lane, result })
    });
    acted.collect()
}

impl From<&ActKind> for WrittenKind {
    fn from(kind: &ActKind) -> Self {
        match kind {
            ActKind::Apply(action, states) => Self::Apply {
                action: action.as_str().to_owned(),
                states: states.iter().map(|state| state.as_str().to_owned()).collect(),
            },
            ActKind::Replay => Self::Replay,
            ActKind::Offer => Self::Offer,
            ActKind::Take(target) => Self::Take(target.0),
        }
    }
}

impl WrittenKind {
    fn read(self) -> Option<ActKind> {
        Some(match self {
            Self::Apply { action, states } => {
                let action: Action = action.parse().ok()?;
                let states = states.iter().map(|state| state.parse().ok());
                ActKind::Apply(action, states.collect::<Option<Vec<State>>>()?.into())
            }
            Self::Replay => ActKind::Replay,
            Self::Offer => ActKind::Offer,
            Self::Take(target) => ActKind::Take(TargetId(target)),
        })
    }
}

impl From<ActError> for WrittenError {
    fn from(error: ActError) -> Self {
        match error {
            ActError::NoSuchEvent => Self::NoSuchEvent,
            ActError::NoSuchTarget => Self::NoSuchTarget,
            ActError::NotConfigured => Self::NotConfigured,
            ActError::AlreadyThere => Self::AlreadyThere,
            ActError::InUse => Self::InUse,
            ActError::NoSuchDelivery => Self::NoSuchDelivery,
            ActError::NotAllowed { state, allowed: _ } => {
                Self::NotAllowed { state: state.as_str().to_owned() }
            }
            ActError::OnTheWire => Self::OnTheWire,
            ActError::PayloadGone => Self::PayloadGone,
            ActError::Store(error) => Self::Store(error.to_string()),
        }
    }
}

impl WrittenError {
    /// Returns the error as that of `act`.
    fn read(self, act: &Act) -> Option<ActError> {
        Some(match self {
            Self::NoSuchEvent => ActError::NoSuchEvent,
            Self::NoSuchTarget => ActError::NoSuchTarget,
            Self::NotConfigured => ActError::NotConfigured,
            Self::AlreadyThere => ActError::AlreadyThere,
            Self::InUse => ActError::InUse,
            Self::NoSuchDelivery => ActError::NoSuchDelivery,
            Self::NotAllowed { state } => {
                let allowed = match &act.kind {
                    ActKind::Apply(action, _) => action.applies_to(),
                    ActKind::Replay | ActKind::Offer | ActKind::Take(_) => REPLAYABLE,
                };
                ActError::NotAllowed { state: state.parse().ok()?, allowed }
            }
            Self::OnTheWire => ActError::OnTheWire,
            Self::PayloadGone => ActError::PayloadGone,
            Self::Store(reason) => ActError::Store(RecordError::Unavailable(reason)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_read_as_they_were_written() {
        let kinds = [
            ActKind::Apply(Action::Retry, [State::Dead, State::Held].into()),
            ActKind::Replay,
            ActKind::Offer,
            ActKind::Take(TargetId(9)),
        ];
        let acts: Vec<_> = (7..).zip(kinds).map(|(sequence, kind)| Act { sequence, kind }).collect();
        assert_eq!(read_request(&request(TargetId(3), &acts)), Some((TargetId(3), acts.clone())));
        let results = [
            Ok(2),
            Err(ActError::NotAllowed { state: State::Sending, allowed: REPLAYABLE }),
            Err(ActError::AlreadyThere),
            Err(ActError::Store(RecordError::Unavailable("full".to_owned()))),
        ];
        let acted: Vec<_> = acts
            .iter()
            .zip(results)
            .map(|(act, result)| Acted { sequence: act.sequence, lane: Some(act.sequence * 2), result })
            .collect();
        let read = read_answer(&answer(&acted), &acts).unwrap();
        assert_eq!(read[..3], acted[..3]);
        assert!(read[3].result.is_err());
        assert_eq!(read_request(&json!({ "reconnect": true })), None);
    }
}
