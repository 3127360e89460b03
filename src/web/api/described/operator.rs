//! The schemas of the results of an operator's calls.

use super::described;
use crate::domain::alert;
use crate::domain::audit::{self, Entry, Kind};
use crate::domain::clock::UnixMillis;
use crate::domain::event::Environment;
use crate::domain::operator::{self, Agreement, Mismatch, Part};
use crate::domain::reload::{self, FileRead, RemovedTarget};
use crate::store::view;
use std::collections::BTreeMap;

described! {
    /// The result of a test event.
    struct operator::TestOutcome {
        /// The made-up id of the event.
        event_id: String,
        /// Whether the target answered 2xx.
        acknowledged: bool,
        /// The target's HTTP status, if it answered.
        status: Option<u16>,
        /// The time from the beginning of the connection to the head of the answer, in milliseconds.
        duration_ms: u64,
        /// The error, without any secret; null on success.
        error: Option<String>,
    }

    /// The comparison of the stored event with Pepay's event of the same id.
    struct operator::Verification {
        /// The event's id.
        event_id: String,
        /// The result.
        outcome: Agreement,
        /// The parts that differ; empty unless `outcome` is `different`.
        differs: Vec<Part>,
        /// The account that was used: `streams.<name>` or `pepay`.
        asked_as: String,
    }

    /// Whether Pepay and the bridge have the same event.
    #[serde(rename_all = "snake_case")]
    enum operator::Agreement { Equal, Different, Unknown }

    /// A compared part of an event. `data` is compared by its meaning, not by its notation.
    #[serde(rename_all = "snake_case")]
    enum operator::Part { Type, Created, Data }

    /// The key of a target's configuration that leaves an event out.
    #[serde(rename_all = "snake_case")]
    enum operator::Mismatch { Types, Environment, Where }

    /// Whether a target takes an event by the present configuration.
    struct operator::Routing {
        /// The name of the target.
        target: String,
        /// The key that leaves the event out; null if it matches.
        #[schema(required)]
        mismatch: Option<Mismatch>,
    }

    /// A target as it is configured, without any secret.
    struct operator::TargetInfo {
        /// Whether requests are signed.
        signed: bool,
        /// The names of the configured headers; their values are secrets.
        headers: Vec<String>,
        /// Its configured name.
        name: String,
        /// The URL to which events are posted, without user, password and query.
        url: String,
        /// The event types it receives.
        types: Vec<String>,
        /// The network environment of the events it receives; null receives events of any environment
        /// and of none.
        #[schema(required)]
        environment: Option<Environment>,
        /// The further condition on an event: values by their paths.
        #[serde(rename = "where")]
        condition: BTreeMap<String, String>,
        /// `per_object`, `per_order` or `none`.
        ordering: String,
        /// Attempts on the wire at the same time.
        concurrency: usize,
    }

    /// The changes of a reload. The lists name keys, and never show a value.
    struct reload::Changes {
        /// The applied changes, such as `targets.orders changed` or `streams.commerce added`.
        applied: Vec<String>,
        /// Keys whose new value waits for a restart, such as `server.listen`.
        restart_needed: Vec<String>,
        /// The files that the reload has read: the configuration file, and each with a secret, a
        /// certificate or a key.
        files: Vec<FileRead>,
        /// Removed targets with waiting deliveries.
        removed_targets: Vec<RemovedTarget>,
    }

    /// A file that a reload has read.
    struct reload::FileRead {
        /// The key that names it, such as `pepay.api_key_file`; for the configuration file, its path.
        key: String,
        /// Whether its content has changed since it was last read.
        changed: bool,
        /// Whether the file is a mount point of its own. Then a file that was renamed over it is not
        /// seen, and `changed` is false.
        own_mount: bool,
    }

    /// A removed target, and its waiting deliveries.
    struct reload::RemovedTarget {
        /// Its name.
        target: String,
        /// The number of open deliveries.
        backlog: u64,
        /// The number of held deliveries.
        held: u64,
        /// The number of dead deliveries.
        dead: u64,
    }

    /// The result of a test alert.
    struct alert::AlertOutcome {
        /// The id of the message.
        id: String,
        /// Whether it was answered with 2xx.
        acknowledged: bool,
        /// The HTTP status, if there was an answer.
        #[schema(required)]
        status: Option<u16>,
        /// The time from the beginning of the connection to the head of the answer, in milliseconds.
        duration_ms: u64,
        /// The error, without any secret; null on success.
        #[schema(required)]
        error: Option<String>,
    }

    /// The kind of an entry.
    #[serde(rename_all = "snake_case")]
    enum audit::Kind { Change, Read }

    /// A call and its outcome.
    struct audit::Entry {
        /// When the call was made.
        at: UnixMillis,
        /// Whether it changes something, or reads bodies.
        kind: Kind,
        /// The token: `admin_token`, or its name in `[server.tokens]`; null if the listener requires no
        /// token. For a signal its name: `SIGHUP`.
        #[schema(required)]
        who: Option<String>,
        /// Address and port of the other side of the connection.
        #[schema(required)]
        peer: Option<String>,
        /// The kind of the caller by its own statement: `page`, `cli` or `api`. `signal` if there was
        /// no call.
        client: String,
        /// The action, such as `retry`, `read_body` or `target test`.
        action: String,
        /// The target of the action.
        #[schema(required)]
        target: Option<String>,
        /// The stream of the action.
        #[schema(required)]
        stream: Option<String>,
        /// The event of the action.
        #[schema(required)]
        event_id: Option<String>,
        /// The filter of the action, as it was written; only its beginning if it is long.
        #[schema(required)]
        filter: Option<String>,
        /// The number of changed things, or of bodies read.
        count: u64,
        /// `done`, `abandoned` if the caller hung up before the end, or the code of the problem in the
        /// answer.
        outcome: String,
    }

    /// An entry of the audit trail.
    struct view::AuditEntry {
        /// Its number. No number is given twice: a missing one belongs to a removed entry.
        id: i64,
        /// The entry.
        #[serde(flatten)]
        entry: Entry,
    }
}
