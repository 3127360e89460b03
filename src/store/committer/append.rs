//! Stores the events that a source has read, and hands their deliveries over.

use super::Failure;
use super::task::{Committed, Group, Reply, Task};
use crate::store::engine::EngineError;
use crate::store::error::RecordError;
use crate::store::types::{Appended, Batch, Recorded};

/// The largest number of events in a task. A source may bring tens of thousands of small events at
/// once, which are stored in parts.
pub(in crate::store) const PART: usize = 500;

/// A task that stores events, their deliveries, and the cursor that they move.
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

/// Stores the events of all tasks of `group`, before its other tasks: in one call, or in one call
/// for each task. Returns the sequences of the first and of the last new event.
pub(super) fn store(
    open: &mut Group<'_>,
    group: &mut [Box<dyn Task>],
    one_by_one: bool,
) -> Result<Option<(i64, i64)>, Failure> {
    let mut own: Option<(i64, i64)> = None;
    let of: Vec<usize> = (0..group.len()).filter(|index| group[*index].batch().is_some()).collect();
    let at_once = if one_by_one { 1 } else { of.len().max(1) };
    for part in of.chunks(at_once) {
        let batches: Vec<&Batch> = part.iter().filter_map(|index| group[*index].batch()).collect();
        let appended = open.engine.append(&batches, &mut open.context);
        let appended = appended.map_err(|error| match error {
            EngineError::Rejected(_) if part.len() > 1 => Failure::Together,
            EngineError::Rejected(_) | EngineError::Superseded => Failure::Tasks(vec![part[0]], error),
            EngineError::Undone(_) | EngineError::Unavailable(_) => Failure::Engine(error),
        })?;
        for sequence in appended.iter().flatten().map(|one| one.sequence).filter(|sequence| *sequence > 0) {
            let (first, last) = own.unwrap_or((sequence, sequence));
            own = Some((first.min(sequence), last.max(sequence)));
        }
        for (index, appended) in part.iter().zip(appended) {
            group[*index].appended(appended);
        }
    }
    Ok(own)
}

impl Task for Append {
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
        // A caller that has gone needs no reply.
        let _ = self.reply.send(Err(error));
    }

    fn bytes(&self) -> usize {
        self.batch.events.iter().map(|event| event.event.body.len()).sum()
    }
}
