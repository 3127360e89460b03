//! Writes entries of the audit trail.

use ::metrics::counter;

use super::task::{Committed, Group, Reply, Task};
use crate::domain::audit::Entry;
use crate::store::engine::EngineError;
use crate::store::error::RecordError;
use crate::telemetry::names;

/// A task that writes one entry of the audit trail.
#[derive(Debug)]
pub(in crate::store) struct Audit {
    key: i64,
    entry: Entry,
    reply: Reply<()>,
}

impl Audit {
    pub(in crate::store) fn boxed(key: i64, entry: Entry, reply: Reply<()>) -> Box<dyn Task> {
        Box::new(Self { key, entry, reply })
    }
}

impl Task for Audit {
    fn run(&mut self, group: &mut Group<'_>) -> Result<(), EngineError> {
        group.engine.audit(self.key, &self.entry)
    }

    fn committed(self: Box<Self>, committed: &mut Committed<'_>) {
        committed.replies.push(self.reply, Ok(()));
    }

    fn refused(self: Box<Self>, error: RecordError) {
        unwritten(&self.entry.action, &error);
        // A caller that has gone needs no reply.
        let _ = self.reply.send(Err(error));
    }
}

/// Counts and logs an entry that was not written. The log has the request itself in any case.
pub(in crate::store) fn unwritten(action: &str, error: &RecordError) {
    counter!(names::AUDIT_UNWRITTEN).increment(1);
    tracing::warn!(action, %error, "an entry of the audit trail could not be stored");
}
