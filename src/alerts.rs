//! Alerts to an operator without a monitoring system: what does not heal by itself is
//! sent to one URL, once, and its end as well.
//!
//! [`Watcher::run`] looks at the same state as `/status` every few seconds. What is new
//! or over (`tracker.rs`) is put into words (`message.rs`) and sent, one after another,
//! by the client that targets have. Nothing waits for it: what cannot be sent is tried
//! again for a while and then left out, and the number of waiting messages is bounded.

mod message;
mod sender;
mod tracker;

use std::collections::BTreeSet;

use url::Url;

pub use self::sender::{Alerts, Channel, Watcher, watcher};

use crate::delivery::sign::SigningKey;
use crate::domain::alert::Kind;

/// Where alerts go.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Where they are posted: a secret, as the addresses of chat services are.
    pub url: Url,
    /// Each signs a message, as Standard Webhooks.
    pub signing_keys: Vec<SigningKey>,
    /// What a message looks like.
    pub format: Format,
    /// What is told of.
    pub on: BTreeSet<Kind>,
}

/// What a message looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON with members of its own, as Standard Webhooks recommends.
    Json,
    /// One text, as Slack and what is compatible with it take it.
    Slack,
}

/// Without the address.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { format, on, .. } = self;
        f.debug_struct("Settings").field("format", format).field("on", on).finish_non_exhaustive()
    }
}
