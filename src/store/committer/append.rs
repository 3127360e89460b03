//! Storing what a source has read, and handing it over.

use super::task::{Committed, Group, Reply, Task};
use crate::store::engine::EngineError;
use crate::store::error::RecordError;
use crate::store::types::{Appended, Batch, Recorded};

/// Events of one task, at most. What a source brings at once may be tens of thousands, where
/// they are small, and is stored in parts.
pub(in crate::store) const PART: usize = 500;

/// Stores events, their deliveries, and the cursor they move.
#[derive(Debug)]
pub(in crate::store) struct Append {
    batch: Batch,
    appended: Vec<Appended>,
    reply: Reply<Vec<Recorded>>,
}

impl Append {
    pub(in crate::store) fn boxed(batch: Batch, reply: Reply<Vec<Recorded>>) -> Box<dyn Task> {
        Box::new(Self { batch, appended: Vec::new(), reply })
    }
}

impl Task for Append {
    fn run(&mut self, _: &mut Group<'_>) -> Result<(), EngineError> {
        Ok(())
    }

    fn batch(&self) -> Option<&Batch> {
        Some(&self.batch)
    }

    fn appended(&mut self, appended: Vec<Appended>) {
        self.appended = appended;
    }

    fn committed(self: Box<Self>, committed: &mut Committed<'_>) {
        let Self { batch, appended, reply } = *self;
        *committed.events += appended.len();
        committed.replies.push(reply, Ok(appended.iter().map(|one| one.recorded).collect()));
        for (event, one) in batch.events.into_iter().zip(appended) {
            committed.meters.count(&event, &one);
            committed.routes.hand_over(event, one);
        }
    }

    fn refused(self: Box<Self>, error: RecordError) {
        // A caller that has gone does not need its answer.
        let _ = self.reply.send(Err(error));
    }

    fn bytes(&self) -> usize {
        self.batch.events.iter().map(|event| event.event.body.len()).sum()
    }
}
