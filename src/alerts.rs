//! Alerts for an operator without a monitoring system: a condition that does not heal by itself is
//! sent to one URL once, and its end once.
//!
//! [`Watcher::run`] looks at the same state as `/status` every few seconds. It decides which
//! conditions are new or over (`tracker.rs`), writes their messages (`message.rs`), and sends these
//! one after another by the client of the targets. No other part waits for it. A message that
//! cannot be sent is tried again for a while and then dropped, and the number of waiting messages
//! is bounded.

mod message;
mod sender;
mod tracker;

use std::collections::BTreeSet;

use url::Url;

pub use self::sender::{Alerts, Channel, Watcher, watcher};

use crate::delivery::sign::SigningKey;
use crate::domain::alert::Kind;

/// The settings of the alerts.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// The URL to which they are posted. It is a secret, since the addresses of chat services are
    /// secrets.
    pub url: Url,
    /// The keys; each signs a message by Standard Webhooks.
    pub signing_keys: Vec<SigningKey>,
    /// The format of a message.
    pub format: Format,
    /// The kinds of alerts that are sent.
    pub on: BTreeSet<Kind>,
}

/// The format of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON with members of its own, as Standard Webhooks recommends.
    Json,
    /// One text, for Slack and compatible services.
    Slack,
}

/// Leaves out the address.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { format, on, .. } = self;
        f.debug_struct("Settings").field("format", format).field("on", on).finish_non_exhaustive()
    }
}
