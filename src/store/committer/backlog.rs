//! Counts the unfinished deliveries, and holds those that no process would finish.

use crate::domain::clock::UnixMillis;
use crate::domain::delivery::OnUncertain;
use crate::store::counts::{Backlog, BacklogChanges};
use crate::store::engine::{Authority, Engine, EngineError, GroupContext, GroupKind};
use crate::store::routing::RoutingTable;
use crate::store::types::TargetId;

/// The result of a count.
#[derive(Debug)]
pub(in crate::store) struct Counted {
    pub(in crate::store) unfinished: BacklogChanges,
    /// Whether a target that this process does not own has an attempt on the wire while another
    /// process has its lease. That process lives, or was killed a moment ago.
    pub(in crate::store) left_to_another: bool,
}

/// Counts the unfinished deliveries. An attempt on the wire whose target has no owner any more is
/// held: an operator has to decide about it.
///
/// # Errors
/// [`EngineError`]. Then there is no count, but changes that were committed before are correct.
pub(in crate::store) fn count(
    engine: &mut dyn Engine,
    routes: &RoutingTable,
    now: UnixMillis,
) -> Result<Counted, EngineError> {
    let Backlog { unfinished, sending } = engine.count()?;
    let (mut context, mut left_to_another) = (GroupContext { routes, now, changes: unfinished }, false);
    for target in sending.into_iter().filter(|target| !routes.answers_for(*target)) {
        match hold(engine, target, &mut context) {
            Ok(()) => {}
            Err(EngineError::Superseded) => left_to_another = true,
            Err(error) => return Err(error),
        }
    }
    Ok(Counted { unfinished: context.changes, left_to_another })
}

/// Holds the attempts that `target` has on the wire, if no process has its lease.
fn hold(
    engine: &mut dyn Engine,
    target: TargetId,
    context: &mut GroupContext<'_>,
) -> Result<(), EngineError> {
    engine.begin(GroupKind::Writes)?;
    let held = engine
        .recover(Authority::Unowned, target, OnUncertain::Hold, context)
        .and_then(|interrupted| engine.commit().map(|()| interrupted));
    let interrupted = match held {
        Ok(interrupted) => interrupted,
        Err(error) => {
            engine.roll_back()?;
            return Err(error);
        }
    };
    for attempt in interrupted {
        tracing::warn!(
            event_id = &*attempt.event_id,
            attempt = attempt.number,
            "cut off on the way to a target that is not configured any more, held: its outcome is unknown"
        );
    }
    Ok(())
}
