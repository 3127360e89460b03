//! The faults that can be injected: one enum for the handle and the control surface.

pub mod list;

mod waiting;

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use self::list::{Damage, PageFault, When};
use self::waiting::MAX_WAITING;
pub(super) use self::waiting::{Act, Faults, RequestFault};

/// A fault to inject.
///
/// A fault at an endpoint applies to the next requests there. Each request meets one fault, in the order of
/// injection. A fault of streams has a place in the order of published events: every open stream meets
/// it after the events that were published before it, and before those published after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// The next requests get this answer instead of the right one.
    Answer {
        /// Where.
        endpoint: Endpoint,
        /// How many requests.
        #[serde(default = "once")]
        times: u32,
        /// The status.
        #[serde(with = "status_code")]
        status: StatusCode,
        /// A `Retry-After` header.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
        /// The body; by default an error in Pepay's shape. One that begins with
        /// `<` is sent as HTML, any other as JSON.
        #[serde(default)]
        body: Option<String>,
    },
    /// The next requests get a large answer that is well-formed JSON.
    Large {
        /// Where.
        endpoint: Endpoint,
        /// How many requests.
        #[serde(default = "once")]
        times: u32,
        /// The status.
        #[serde(with = "status_code")]
        status: StatusCode,
        /// How large, in bytes; at most [`LARGEST`].
        bytes: usize,
        /// The content.
        filling: Filling,
    },
    /// The next pages of the list are wrong.
    List {
        /// The requests that meet the fault; others are served normally.
        #[serde(default)]
        when: When,
        /// How many requests.
        #[serde(default = "once")]
        times: u32,
        /// What is wrong with the page.
        page: PageFault,
    },
    /// REST returns an event with damaged bytes, until the faults are cleared. Streams and webhooks
    /// still have it whole.
    Corrupt {
        /// The event's id.
        id: String,
        /// The damage.
        damage: Damage,
    },
    /// The next requests are answered only after a wait.
    Delay {
        /// Where.
        endpoint: Endpoint,
        /// How many requests.
        #[serde(default = "once")]
        times: u32,
        /// The wait, such as `500ms`.
        #[serde(with = "duration")]
        wait: Duration,
    },
    /// The connections of the next requests are reset instead of an answer.
    Sever {
        /// Where.
        endpoint: Endpoint,
        /// How many requests.
        #[serde(default = "once")]
        times: u32,
    },
    /// The next events are not sent by a channel. The REST list still has them.
    Skip {
        /// Which channel.
        channel: Channel,
        /// How many events.
        #[serde(default = "once")]
        times: u32,
    },
    /// Open streams end.
    Drop {
        /// How.
        ending: Ending,
    },
    /// Open streams stay open, but the simulator neither sends nor reads on them any more, so it does
    /// not answer pings. Only [`Fault::Drop`] and [`Fault::Error`] still end them.
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
    /// Open streams get this frame unchanged.
    Frame {
        /// The frame.
        frame: Frame,
    },
}

/// A group of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /api/v1/ws/token`.
    Token,
    /// `GET /ws/…/events`, before the upgrade.
    Upgrade,
    /// `GET /api/v1/events` and `GET /api/v1/events/{id}`.
    Rest,
    /// `POST /api/commerce/devnet/…`.
    Devnet,
}

/// The largest answer a fault can ask for, in bytes.
pub const LARGEST: usize = 64 * 1024 * 1024;

/// The content of a large answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filling {
    /// One long `message` of an error.
    Text,
    /// A list of zeros in an error, each a value to a parser.
    Values,
    /// A list of zeros in place of the list's events.
    Entries,
}

/// A way to the receiver, by which an event can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Live frames: the next published events are sent on no stream.
    Live,
    /// Replays: the next events of a `since` are left out.
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
#[error("{MAX_WAITING} faults of this kind wait already")]
pub struct FaultError;

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
    fn faults_are_written_the_way_the_documentation_shows() {
        let fault: Fault = serde_json::from_str(
            r#"{"fault":"answer","endpoint":"rest","times":3,"status":429,"retry_after":{"seconds":2}}"#,
        )
        .unwrap();
        let expected = Fault::Answer {
            endpoint: Endpoint::Rest,
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
