//! Stores and counts the outcomes of attempts.

use super::task::{Committed, Group, Outcomes, Reply, Task};
use crate::store::engine::EngineError;
use crate::store::error::RecordError;
use crate::store::types::{Settlement, TargetId, Term};

/// The largest number of outcomes that are stored in one call. The outcomes of a single task are
/// never divided.
const AT_ONCE: usize = 500;

/// A task that stores the outcomes of attempts at one target.
#[derive(Debug)]
pub(in crate::store) struct Settle {
    term: Term,
    target: TargetId,
    settlements: Vec<Settlement>,
    reply: Reply<()>,
}

impl Settle {
    pub(in crate::store) fn boxed(
        term: Term,
        target: TargetId,
        settlements: Vec<Settlement>,
        reply: Reply<()>,
    ) -> Box<dyn Task> {
        Box::new(Self { term, target, settlements, reply })
    }
}

/// Returns the indices of the tasks whose outcomes are stored in one call with those of the task at
/// `first`. They have the same target and the same term, and only tasks with events or outcomes are
/// between them. Each call costs as much as several outcomes. Empty if the task at `first` has no
/// outcomes.
pub(super) fn together(tasks: &[Box<dyn Task>], first: usize) -> Vec<usize> {
    let Some(Outcomes { term, target, .. }) = tasks[first].outcomes() else { return Vec::new() };
    let (mut together, mut count) = (Vec::new(), 0);
    for (index, task) in tasks.iter().enumerate().skip(first) {
        match task.outcomes() {
            Some(outcomes) if (outcomes.term, outcomes.target) == (term, target) => {
                count += outcomes.settlements.len();
                if !together.is_empty() && count > AT_ONCE {
                    break;
                }
                together.push(index);
            }
            Some(_) => {}
            None if task.batch().is_some() => {}
            None => break,
        }
    }
    together
}

/// Stores the outcomes of the tasks at `indices`, which all have the same target and term.
pub(super) fn store(
    group: &mut Group<'_>,
    tasks: &[Box<dyn Task>],
    indices: &[usize],
) -> Result<(), EngineError> {
    let mut outcomes = indices.iter().filter_map(|index| tasks[*index].outcomes()).peekable();
    let Some(&Outcomes { term, target, .. }) = outcomes.peek() else { return Ok(()) };
    let settlements: Vec<_> = outcomes.flat_map(|outcomes| outcomes.settlements).collect();
    group.engine.settle(term, target, &settlements, &mut group.context)
}

impl Task for Settle {
    fn outcomes(&self) -> Option<Outcomes<'_>> {
        let Self { term, target, ref settlements, .. } = *self;
        Some(Outcomes { term, target, settlements })
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
        // A caller that has gone needs no reply.
        let _ = self.reply.send(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::super::append::Append;
    use super::*;
    use crate::domain::clock::UnixMillis;
    use crate::domain::delivery::Next;
    use crate::store::types::Batch;

    const TARGET: TargetId = TargetId(1);

    fn outcomes(term: i64, target: TargetId, count: i64) -> Box<dyn Task> {
        let settlement = |sequence| Settlement {
            sequence,
            number: 1,
            started_at: UnixMillis(0),
            duration: Duration::ZERO,
            status: None,
            error: None,
            answer: Vec::new(),
            next: Next::Delivered,
        };
        Settle::boxed(Term(term), target, (0..count).map(settlement).collect(), oneshot::channel().0)
    }

    fn events() -> Box<dyn Task> {
        Append::boxed(Batch { events: Vec::new(), cursor: None }, oneshot::channel().0)
    }

    /// A task that may read outcomes or change a delivery.
    #[derive(Debug)]
    struct Other;

    impl Task for Other {
        fn committed(self: Box<Self>, _: &mut Committed<'_>) {}

        fn refused(self: Box<Self>, _: RecordError) {}
    }

    #[test]
    fn outcomes_at_one_target_go_together_past_events_and_outcomes_at_others_alone() {
        let other = TargetId(2);
        let tasks = [
            outcomes(1, TARGET, 1),
            events(),
            outcomes(1, other, 1),
            outcomes(1, TARGET, 2),
            outcomes(2, TARGET, 1),
            outcomes(1, other, 1),
            Box::new(Other),
            outcomes(1, TARGET, 1),
        ];
        let expected: [&[usize]; 8] = [&[0, 3], &[], &[2, 5], &[3], &[4], &[5], &[], &[7]];
        for (first, expected) in expected.iter().enumerate() {
            assert_eq!(together(&tasks, first), *expected, "from {first}");
        }
    }

    #[test]
    fn outcomes_that_go_together_are_bounded_and_those_of_one_task_are_not_divided() {
        let half = i64::try_from(AT_ONCE).unwrap() / 2;
        let tasks = [half, half, 1, 4 * half, 1].map(|count| outcomes(1, TARGET, count));
        assert_eq!(
            [0, 2, 3, 4].map(|first| together(&tasks, first)),
            [vec![0, 1], vec![2], vec![3], vec![4]]
        );
    }
}
