//! Storing what attempts came to, and counting it.

use super::task::{Committed, Group, Reply, Task};
use crate::store::engine::EngineError;
use crate::store::error::RecordError;
use crate::store::types::{Settlement, TargetId, Term};

/// Stores what attempts at one target came to.
#[derive(Debug)]
pub(in crate::store) struct Settle {
    term: Term,
    target: TargetId,
    settlements: Vec<Settlement>,
    reply: Reply<()>,
}

impl Settle {
    pub(in crate::store) fn boxed(
        (term, target): (Term, TargetId),
        settlements: Vec<Settlement>,
        reply: Reply<()>,
    ) -> Box<dyn Task> {
        Box::new(Self { term, target, settlements, reply })
    }
}

impl Task for Settle {
    fn run(&mut self, group: &mut Group<'_>) -> Result<(), EngineError> {
        group.engine.settle(self.term, self.target, &self.settlements, group.changes, group.now)
    }

    fn committed(self: Box<Self>, committed: &mut Committed<'_>) {
        if let Some(target) = committed.routes.name(self.target) {
            for settlement in &self.settlements {
                committed.meters.count_attempt(target, settlement.next);
            }
        }
        committed.replies.push(self.reply, Ok(()));
    }

    fn refused(self: Box<Self>, error: RecordError) {
        // A caller that has gone does not need its answer.
        let _ = self.reply.send(Err(error));
    }
}
