//! Misbehaviour on request: one enum, for the handle and the control surface alike.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::options::Copies;

/// Faults that may wait at one door.
const MAX_WAITING: usize = 64;

/// One way to misbehave.
///
/// Faults at a door meet the next requests there, one fault a request, in the
/// order they were injected. Faults of streams take their place in the order of
/// published events: every stream that is open then meets them after the events
/// published before, and before those published after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The next requests get this answer and no other.
    Answer {
        /// Where.
        door: Door,
        /// How many requests.
        #[serde(default = "once")]
        times: u32,
        /// The status.
        #[serde(with = "status_code")]
        status: StatusCode,
        /// A `Retry-After` header.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
        /// The body; by default an error in Pepay's shape.
        #[serde(default)]
        body: Option<String>,
    },
    /// The next requests are answered, but only after a wait.
    Delay {
        /// Where.
        door: Door,
        /// How many requests.
        #[serde(default = "once")]
        times: u32,
        /// The wait, such as `500ms`.
        #[serde(with = "duration")]
        wait: Duration,
    },
    /// The next requests have their connection reset instead of an answer.
    Sever {
        /// Where.
        door: Door,
        /// How many requests.
        #[serde(default = "once")]
        times: u32,
    },
    /// The next events do not go out on a road. The REST list still has them.
    Skip {
        /// Which road.
        road: Road,
        /// How many events.
        #[serde(default = "once")]
        times: u32,
    },
    /// Open streams end.
    Drop {
        /// How.
        ending: Ending,
    },
    /// Open streams stay open, but nothing is sent or read on them any more:
    /// pings go unanswered. Only [`Fault::Drop`] and [`Fault::Error`] still reach them.
    Silence,
    /// Open streams send nothing for a while; they still answer pings.
    Hold {
        /// How long, such as `500ms`.
        #[serde(with = "duration")]
        wait: Duration,
    },
    /// Open streams get a `ws_error` frame and are closed.
    Error {
        /// Its `code`.
        code: String,
        /// Its `message`.
        message: String,
    },
    /// Open streams get this frame, as it is.
    Frame {
        /// The frame.
        frame: Frame,
    },
}

/// Where a request arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// `POST /api/v1/ws/token`.
    Token,
    /// `GET /ws/…/events`, before the upgrade.
    Upgrade,
    /// `GET /api/v1/events` and `GET /api/v1/events/{id}`.
    Rest,
    /// `POST /api/commerce/devnet/…`.
    Devnet,
}

/// A road that can lose an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Road {
    /// Live frames: the next published events are not sent on any stream.
    Live,
    /// Replays: the next events that `since` asks for are left out.
    Replay,
    /// The next published events are not sent as webhooks.
    Webhook,
}

/// How a stream ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With a close frame.
    Close {
        /// Its code (RFC 6455, section 7.4).
        code: u16,
        /// Its reason.
        #[serde(default)]
        reason: String,
    },
    /// The TCP connection is closed without a close frame.
    Eof,
    /// The TCP connection is reset.
    Reset,
}

/// The value of `Retry-After`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// As whole seconds.
    Seconds(u64),
    /// As the HTTP date that lies this many seconds ahead.
    Date(u64),
    /// As this text, which may be nonsense.
    Literal(String),
}

/// A frame for a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Vec<u8>),
}

/// Why a fault was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_WAITING} faults wait at this door already")]
pub struct FaultError;

/// What a stream does at its place in the order of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Drop(Ending),
    Silence,
    Hold(Duration),
    Error { code: String, message: String },
    Frame(Frame),
}

/// What happens to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AtDoor {
    Answer { status: StatusCode, retry_after: Option<RetryAfter>, body: Option<String> },
    Delay(Duration),
    Sever,
}

/// Faults that wait for their request or event.
#[derive(Debug, Default)]
pub(super) struct Faults {
    doors: HashMap<Door, VecDeque<(AtDoor, u32)>>,
    skips: HashMap<Road, u32>,
}

impl Faults {
    /// Takes `fault` up. What concerns open streams comes back, to be put in its place.
    pub(super) fn add(&mut self, fault: Fault) -> Result<Option<Act>, FaultError> {
        match fault {
            Fault::Answer { door, times, status, retry_after, body } => {
                self.wait_at(door, AtDoor::Answer { status, retry_after, body }, times)?;
            }
            Fault::Delay { door, times, wait } => self.wait_at(door, AtDoor::Delay(wait), times)?,
            Fault::Sever { door, times } => self.wait_at(door, AtDoor::Sever, times)?,
            Fault::Skip { road, times } => {
                let skips = self.skips.entry(road).or_default();
                *skips = skips.saturating_add(times);
            }
            Fault::Drop { ending } => return Ok(Some(Act::Drop(ending))),
            Fault::Silence => return Ok(Some(Act::Silence)),
            Fault::Hold { wait } => return Ok(Some(Act::Hold(wait))),
            Fault::Error { code, message } => return Ok(Some(Act::Error { code, message })),
            Fault::Frame { frame } => return Ok(Some(Act::Frame(frame))),
        }
        Ok(None)
    }

    fn wait_at(&mut self, door: Door, fault: AtDoor, times: u32) -> Result<(), FaultError> {
        let waiting = self.doors.entry(door).or_default();
        if waiting.len() >= MAX_WAITING {
            return Err(FaultError);
        }
        if times > 0 {
            waiting.push_back((fault, times));
        }
        Ok(())
    }

    /// What happens to the request that is now at `door`.
    pub(super) fn meet(&mut self, door: Door) -> Option<AtDoor> {
        let waiting = self.doors.get_mut(&door)?;
        let (fault, times) = waiting.front_mut()?;
        let met = fault.clone();
        *times -= 1;
        if *times == 0 {
            waiting.pop_front();
        }
        Some(met)
    }

    /// Whether the event that is about to take `road` is lost on it.
    pub(super) fn skips(&mut self, road: Road) -> bool {
        match self.skips.get_mut(&road) {
            Some(times) if *times > 0 => {
                *times -= 1;
                true
            }
            _ => false,
        }
    }

    /// `copies`, less the roads on which the event is lost.
    pub(super) fn applied_to(&mut self, copies: Copies) -> Copies {
        Copies {
            stream: if self.skips(Road::Live) { 0 } else { copies.stream },
            webhook: if self.skips(Road::Webhook) { 0 } else { copies.webhook },
        }
    }
}

const fn once() -> u32 {
    1
}

mod status_code {
    use http::StatusCode;
    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u16(status.as_u16())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<StatusCode, D::Error> {
        StatusCode::from_u16(u16::deserialize(from)?).map_err(de::Error::custom)
    }
}

mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_meets_its_faults_in_their_order_and_number() {
        let mut faults = Faults::default();
        faults.add(Fault::Sever { door: Door::Rest, times: 2 }).unwrap();
        faults.add(Fault::Delay { door: Door::Rest, times: 1, wait: Duration::from_secs(1) }).unwrap();
        assert_eq!(faults.meet(Door::Token), None);
        let met: Vec<_> = (0..4).map(|_| faults.meet(Door::Rest)).collect();
        let delay = Some(AtDoor::Delay(Duration::from_secs(1)));
        assert_eq!(met, [Some(AtDoor::Sever), Some(AtDoor::Sever), delay, None]);
    }

    #[test]
    fn a_skip_takes_one_road_away_from_one_event() {
        let mut faults = Faults::default();
        faults.add(Fault::Skip { road: Road::Live, times: 1 }).unwrap();
        assert_eq!(faults.applied_to(Copies::ONE), Copies { stream: 0, webhook: 1 });
        assert_eq!(faults.applied_to(Copies::ONE), Copies::ONE);
    }

    #[test]
    fn faults_are_written_the_way_the_documentation_shows() {
        let fault: Fault = serde_json::from_str(
            r#"{"fault":"answer","door":"rest","times":3,"status":429,"retry_after":{"seconds":2}}"#,
        )
        .unwrap();
        let expected = Fault::Answer {
            door: Door::Rest,
            times: 3,
            status: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(RetryAfter::Seconds(2)),
            body: None,
        };
        assert_eq!(fault, expected);
        let documented = include_str!("../../docs/simulator.md");
        let examples: Vec<_> = documented.lines().filter(|line| line.starts_with("{\"fault\"")).collect();
        assert!(examples.len() > 10);
        for example in examples {
            serde_json::from_str::<Fault>(example).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}
