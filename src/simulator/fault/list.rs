//! The errors of a page of the REST list, and of an event on it.

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{RetryAfter, status_code};

/// The requests of the list that meet a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Every request.
    #[default]
    Any,
    /// Those without a cursor.
    First,
    /// Those with a cursor (`starting_after`, `ending_before`).
    Later,
    /// Those that have this parameter.
    Parameter(String),
}

impl When {
    pub(super) fn meets(&self, parameters: &[(String, String)]) -> bool {
        let has = |wanted: &str| parameters.iter().any(|(name, _)| name == wanted);
        let cursor = has("starting_after") || has("ending_before");
        match self {
            Self::Any => true,
            Self::First => !cursor,
            Self::Later => cursor,
            Self::Parameter(name) => has(name),
        }
    }
}

/// What is wrong with a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageFault {
    /// It holds no event.
    Empty {
        /// Its `has_more`.
        has_more: bool,
    },
    /// It is the newest page for every cursor, and says that more follows.
    Repeat,
    /// It always says that more follows; after the oldest page comes the newest again.
    Circle,
    /// Its events are not in order: the older half stands first.
    Unsorted,
    /// The oldest event of the list stands first.
    OldestOnTop,
    /// It is a refusal or another answer instead of a page.
    Answer {
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
}

/// The damage to the bytes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// A field is `NaN`, which is not JSON.
    Nan,
    /// A text holds a bare control character, which is not JSON.
    Control,
    /// A text holds a byte that is not UTF-8.
    Encoding,
    /// A text has an escaped lone surrogate, which is valid JSON and invalid Unicode.
    Surrogate,
    /// A number is `1e999`, which is valid JSON and no finite double.
    Overflow,
    /// A list in place of the event.
    Shape,
    /// A number in place of its `id`.
    Id,
}

impl Damage {
    /// Returns `body` with this damage.
    pub(in crate::simulator) fn done_to(self, body: &Bytes) -> Bytes {
        let field: &[u8] = match self {
            Self::Nan => br#""damage":NaN,"#,
            Self::Control => b"\"damage\":\"\x01\",",
            Self::Encoding => b"\"damage\":\"\xff\",",
            Self::Surrogate => br#""damage":"\ud800","#,
            Self::Overflow => br#""damage":1e999,"#,
            Self::Shape => return Bytes::from_static(br#"["not","an","event"]"#),
            Self::Id => {
                return Bytes::from_static(br#"{"id":7,"object":"event","type":"commerce.order.updated"}"#);
            }
        };
        // Every event is an object with fields, which its first brace opens.
        let at = body.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
        let mut damaged = BytesMut::with_capacity(body.len() + field.len());
        damaged.put_slice(&body[..at]);
        damaged.put_slice(field);
        damaged.put_slice(&body[at..]);
        damaged.freeze()
    }
}
