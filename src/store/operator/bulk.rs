//! Actions on many deliveries, which are counted, confirmed, and done in steps.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{OperatorStore, unread};
use crate::domain::delivery::State;
use crate::domain::operator::{Action, BulkMove, BulkReplay, BulkWork, Filter};
use crate::store::error::{ActError, BulkError};
use crate::store::lease;
use crate::store::settings::Route;
use crate::store::types::{Act, ActKind, Candidate, Movable, TargetId};
use crate::store::view::BulkProgress;

/// The number of deliveries in one step. A step takes the committer a few milliseconds, for which
/// arriving events wait.
const STEP: usize = 200;

/// The steps on the deliveries of one target, in their order.
struct Steps {
    target: TargetId,
    acts: Vec<Vec<Act>>,
    /// Whether the committer does other work for half of the time.
    paced: bool,
}

impl OperatorStore {
    /// Returns how many deliveries `work` applies to.
    ///
    /// # Errors
    /// [`BulkError`], but for [`BulkError::Changed`].
    pub async fn count(&self, work: &BulkWork) -> Result<u64, BulkError> {
        Ok(number(&self.steps(work).await?))
    }

    /// Does `work`, the oldest delivery first, if it applies to as many deliveries as `confirmed`.
    /// Calls `progress` after each step. Returns how many deliveries have changed. A delivery that
    /// has left the filter meanwhile is not changed.
    ///
    /// # Errors
    /// [`BulkError`].
    pub async fn act_on_all(
        &self,
        work: &BulkWork,
        confirmed: u64,
        progress: impl Fn(BulkProgress),
    ) -> Result<u64, BulkError> {
        let all = self.steps(work).await?;
        let matching = number(&all);
        if matching != confirmed {
            return Err(BulkError::Changed { matching });
        }
        let mut so_far = BulkProgress::default();
        for Steps { target, acts, paced } in all {
            for acts in acts {
                let (began, gone_through) = (Instant::now(), acts.len());
                let acted = self.carry_out(target, acts).await?;
                let changed = acted.iter().filter(|acted| acted.result.is_ok()).count();
                so_far.changed += u64::try_from(changed).unwrap_or(0);
                so_far.gone_through += u64::try_from(gone_through).unwrap_or(0);
                progress(so_far);
                if let BulkWork::Move(BulkMove { from, .. }) = work
                    && acted.iter().any(|acted| acted.result == Err(ActError::InUse))
                {
                    return Err(BulkError::InUse(from.clone()));
                }
                if paced {
                    tokio::time::sleep(began.elapsed()).await;
                }
            }
        }
        Ok(so_far.changed)
    }

    async fn steps(&self, work: &BulkWork) -> Result<Vec<Steps>, BulkError> {
        match work {
            BulkWork::Act(action, filter) => self.of_action(*action, filter).await,
            BulkWork::Replay(replay) => self.of_replay(replay).await,
            BulkWork::Move(moved) => self.of_move(moved).await,
        }
    }

    async fn of_action(&self, action: Action, filter: &Filter) -> Result<Vec<Steps>, BulkError> {
        let mut all = self.reader.matching(action, filter).await.map_err(unread)?;
        all.sort_unstable();
        let states: Arc<[State]> = filter.states_for(action).into();
        let kind = || ActKind::Apply(action, Arc::clone(&states));
        let of_target = all.chunk_by(|one, next| one.target == next.target).map(|keys| Steps {
            target: keys[0].target,
            acts: keys
                .chunks(STEP)
                .map(|step| step.iter().map(|key| Act { sequence: key.sequence, kind: kind() }).collect())
                .collect(),
            paced: false,
        });
        Ok(of_target.collect())
    }

    async fn of_replay(&self, replay: &BulkReplay) -> Result<Vec<Steps>, BulkError> {
        let (target, route) = self.configured(&replay.target).await?;
        let found = self.reader.replayable(target, &route, &replay.events(), replay.missing).await;
        let kind = if replay.missing { ActKind::Offer } else { ActKind::Replay };
        Ok(vec![Steps { target, acts: by_object(found.map_err(unread)?, &kind), paced: true }])
    }

    async fn of_move(&self, moved: &BulkMove) -> Result<Vec<Steps>, BulkError> {
        let (target, old, found) = self.movable(moved).await?;
        Ok(vec![Steps { target, acts: by_object(found.taken, &ActKind::Take(old)), paced: true }])
    }

    /// Returns how many deliveries pass the filter of `moved` and stay, since the other target does
    /// not take their events.
    ///
    /// # Errors
    /// [`BulkError`], but for [`BulkError::Changed`].
    pub async fn not_taken(&self, moved: &BulkMove) -> Result<u64, BulkError> {
        Ok(self.movable(moved).await?.2.not_taken)
    }

    /// Returns the number of the target that takes the deliveries, the number of the removed one,
    /// and the deliveries that can be moved.
    async fn movable(&self, moved: &BulkMove) -> Result<(TargetId, TargetId, Movable), BulkError> {
        let BulkMove { from, to, .. } = moved;
        let (target, route) = self.configured(to).await?;
        let old = self.reader.target(from).await.map_err(unread)?;
        let old = old.ok_or_else(|| BulkError::NoSuchTarget(from.clone()))?;
        // Requests of a removed target may still be on the wire.
        if self.owners.has(old) || self.configured(from).await.is_ok() || self.is_held_elsewhere(from) {
            return Err(BulkError::InUse(from.clone()));
        }
        let found = self.reader.movable(&moved.deliveries(), &route).await.map_err(unread)?;
        Ok((target, old, found))
    }

    /// Returns whether another replica delivers to the target called `name`. If a replica takes the
    /// lease later, the engine notices it when a delivery is taken over.
    fn is_held_elsewhere(&self, name: &str) -> bool {
        let lease = lease::of_target(name);
        self.peers.get().is_some_and(|peers| {
            let cluster = peers.cluster();
            let replicas = &cluster.borrow().replicas;
            replicas.iter().any(|one| !one.is_self && one.holds.iter().any(|held| *held.name == *lease))
        })
    }

    /// Returns the number and the route of a configured target.
    async fn configured(&self, name: &str) -> Result<(TargetId, Route), BulkError> {
        let wanted = name.to_owned();
        let found = self.tasks.read(move |group| {
            let queue = group.context.routes.open_one_called(&wanted);
            Ok(queue.map(|queue| (queue.target, queue.route.clone())))
        });
        found.await?.ok_or_else(|| BulkError::NoSuchTarget(name.to_owned()))
    }
}

/// Returns the steps for `candidates`, the oldest first. All candidates of one object are in one
/// step, regardless of their number, so that no later event of an object is sent before an earlier
/// one.
fn by_object(mut candidates: Vec<Candidate>, kind: &ActKind) -> Vec<Vec<Act>> {
    let mut first: HashMap<i64, i64> = HashMap::new();
    for Candidate { sequence, group } in &candidates {
        first.entry(*group).and_modify(|first| *first = (*first).min(*sequence)).or_insert(*sequence);
    }
    candidates.sort_unstable_by_key(|Candidate { sequence, group }| {
        (first.get(group).copied().unwrap_or(*sequence), *sequence)
    });
    let mut steps: Vec<Vec<Act>> = Vec::new();
    for of_object in candidates.chunk_by(|one, next| one.group == next.group) {
        let acts = of_object.iter().map(|one| Act { sequence: one.sequence, kind: kind.clone() });
        match steps.last_mut() {
            Some(step) if step.len() + of_object.len() <= STEP => step.extend(acts),
            _ => steps.push(acts.collect()),
        }
    }
    steps
}

fn number(steps: &[Steps]) -> u64 {
    let number: usize = steps.iter().flat_map(|of_target| &of_target.acts).map(Vec::len).sum();
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(candidates: &[(i64, i64)]) -> Vec<Vec<i64>> {
        let candidates =
            candidates.iter().map(|(sequence, group)| Candidate { sequence: *sequence, group: *group });
        let steps = by_object(candidates.collect(), &ActKind::Replay);
        steps.iter().map(|step| step.iter().map(|act| act.sequence).collect()).collect()
    }

    #[test]
    fn events_of_one_object_stay_together_and_the_oldest_object_is_first() {
        assert_eq!(sequences(&[(5, 1), (2, 2), (4, 2), (1, 1), (3, 3)]), [[1, 5, 2, 4, 3]]);
    }

    #[test]
    fn an_object_is_never_divided_between_two_steps() {
        let all: Vec<_> = (0..1000).map(|n| (n, n % 3)).chain((1000..1150).map(|n| (n, n))).collect();
        let steps = sequences(&all);
        assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [334, 333, 333, 150]);
        for step in &steps[..3] {
            assert!(step.iter().all(|sequence| sequence % 3 == step[0] % 3), "{step:?}");
            assert!(step.is_sorted(), "{step:?}");
        }
    }
}
