//! What comes of the calls of an operator.

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
    /// What came of a test event.
    struct operator::TestOutcome {
        /// The made-up id it was sent with.
        event_id: String,
        /// Whether the target answered 2xx.
        acknowledged: bool,
        /// The target's HTTP status, where it answered.
        status: Option<u16>,
        /// From the beginning of the connection to the head of the answer, in milliseconds.
        duration_ms: u64,
        /// What went wrong, without any secret; `None` on success.
        error: Option<String>,
    }

    /// What Pepay has under an event's id, beside what the bridge holds.
    struct operator::Verification {
        /// The event's id.
        event_id: String,
        /// What the comparison came to.
        outcome: Agreement,
        /// What differs; empty unless `outcome` is `different`.
        differs: Vec<Part>,
        /// Whose key asked: `streams.<name>` or `pepay`.
        asked_as: String,
    }

    /// Whether Pepay and the bridge hold the same.
    #[serde(rename_all = "snake_case")]
    enum operator::Agreement { Equal, Different, Unknown }

    /// A part of an event that is compared. Of `data` counts what it means, not how
    /// it is written.
    #[serde(rename_all = "snake_case")]
    enum operator::Part { Type, Created, Data }

    /// Which key of a target leaves an event out.
    #[serde(rename_all = "snake_case")]
    enum operator::Mismatch { Types, Environment, Where }

    /// How one target takes an event, as it is configured now.
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
        /// Where events are posted, without user, password and query.
        url: String,
        /// The event types it receives.
        types: Vec<String>,
        /// The network environment it receives events of; null is any, and none known.
        #[schema(required)]
        environment: Option<Environment>,
        /// What it asks of an event beside that: values by their paths.
        #[serde(rename = "where")]
        condition: BTreeMap<String, String>,
        /// `per_object`, `per_order` or `none`.
        ordering: String,
        /// Attempts on the wire at the same time.
        concurrency: usize,
    }

    /// What has become of a configuration that was read again. The lists name
    /// keys, and never show a value.
    struct reload::Changes {
        /// What is in effect now, such as `targets.orders changed` or `streams.commerce added`.
        applied: Vec<String>,
        /// Keys whose new value waits for a restart, such as `server.listen`.
        restart_needed: Vec<String>,
        /// The files that were read anew: the configuration file, and each with a secret, a
        /// certificate or a key.
        files: Vec<FileRead>,
        /// Targets that are not configured any more while deliveries to them wait.
        removed_targets: Vec<RemovedTarget>,
    }

    /// A file that was read anew.
    struct reload::FileRead {
        /// The key that names it, such as `pepay.api_key_file`; for the configuration file, its path.
        key: String,
        /// Whether its content is another than when it was read before.
        changed: bool,
        /// Whether the file is a mount point of its own: then a file that was renamed over it is
        /// not seen, and `changed` is false for it.
        own_mount: bool,
    }

    /// A target that is not configured any more, and what waits for it.
    struct reload::RemovedTarget {
        /// Its name.
        target: String,
        /// Deliveries that were still to be made.
        backlog: u64,
        /// Deliveries whose outcome is unknown.
        held: u64,
        /// Deliveries given up.
        dead: u64,
    }

    /// What came of a test alert.
    struct alert::AlertOutcome {
        /// The id it was sent with.
        id: String,
        /// Whether it was answered with 2xx.
        acknowledged: bool,
        /// The HTTP status, where there was an answer.
        #[schema(required)]
        status: Option<u16>,
        /// From the beginning of the connection to the head of the answer, in milliseconds.
        duration_ms: u64,
        /// What went wrong, without any secret; null on success.
        #[schema(required)]
        error: Option<String>,
    }

    /// What an entry of the audit trail is about.
    #[serde(rename_all = "snake_case")]
    enum audit::Kind { Change, Read }

    /// What one call came to.
    struct audit::Entry {
        /// When it was asked for.
        at: UnixMillis,
        /// Whether it changes something, or reads bodies.
        kind: Kind,
        /// The token: `admin_token`, or its name in `[server.tokens]`; null where no token is
        /// asked for. Of what a signal has asked for, the signal: `SIGHUP`.
        #[schema(required)]
        who: Option<String>,
        /// Address and port of the other side of the connection.
        #[schema(required)]
        peer: Option<String>,
        /// What the caller says that it is: `page`, `cli` or `api`; any caller can say so. `signal`
        /// where none called.
        client: String,
        /// What was asked for, such as `retry`, `read_body` or `target test`.
        action: String,
        /// The target that it was about.
        #[schema(required)]
        target: Option<String>,
        /// The stream that it was about.
        #[schema(required)]
        stream: Option<String>,
        /// The event that it was about.
        #[schema(required)]
        event_id: Option<String>,
        /// What it was narrowed to, as it was written; its beginning where that is long.
        #[schema(required)]
        filter: Option<String>,
        /// How many things were changed, or how many bodies read.
        count: u64,
        /// `done`, `abandoned` where the caller hung up before the end, or the code of the
        /// problem that it was answered with.
        outcome: String,
    }

    /// An entry of the audit trail.
    struct view::AuditEntry {
        /// Its number, which is never given twice: one that is missing was removed.
        id: i64,
        /// What it says.
        #[serde(flatten)]
        entry: Entry,
    }
}
