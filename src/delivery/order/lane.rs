//! The lanes of an [`Order`]: of each, at most one delivery is ready or out.

use std::collections::BTreeSet;

use super::{Item, NO_PLACE, Order, Place};
use crate::store::types::{Job, Kind, LaneRank};

/// So few left in memory of a lane that has more in the store, and more are asked for.
const FEW: usize = 64;

/// The deliveries of one lane, as far as they are in memory.
#[derive(Debug)]
pub(super) struct Lane {
    /// Those that wait and the one that is ready, by rank.
    pub(super) queue: BTreeSet<LaneRank>,
    /// The one that is ready.
    pub(super) ready: Option<i64>,
    /// The one on the wire.
    pub(super) out: Option<i64>,
    /// How many outcomes are being written.
    pub(super) ending: usize,
    /// The one among these that was not acknowledged.
    pub(super) failing: Option<i64>,
    /// A new event that had it looked up.
    pub(super) fresh: Option<i64>,
    /// Whether a search that looks it up is out.
    pub(super) looked_up: bool,
    /// What the store has of it beside.
    pub(super) rest: Rest,
}

/// The open deliveries of a lane that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// There are none.
    Nothing,
    /// There may be some above this; all below are in memory.
    After(LaneRank),
    /// There may be any: the lane is looked up before one of it starts.
    Unknown,
    /// All are, and this is the first of them. It waits for its next attempt or for an
    /// operator, and the others for it.
    Parked(LaneRank),
}

impl Lane {
    pub(super) const fn new(rest: Rest) -> Self {
        let queue = BTreeSet::new();
        Self { queue, ready: None, out: None, ending: 0, failing: None, fresh: None, looked_up: false, rest }
    }

    /// What a search is to take of it, other than by looking it up: what comes no later
    /// than this.
    pub(super) const fn takes_up_to(&self) -> LaneRank {
        match self.rest {
            Rest::Parked(head) => head,
            Rest::Nothing | Rest::After(_) | Rest::Unknown => NO_PLACE,
        }
    }

    /// Whether none of it is on the wire or being written.
    pub(super) const fn is_idle(&self) -> bool {
        self.out.is_none() && self.ending == 0
    }
}

impl Order {
    /// The lane of this number, which is known.
    pub(super) fn lane(&mut self, number: i64) -> &mut Lane {
        self.lanes.entry(number).or_insert_with(|| Lane::new(Rest::Unknown))
    }

    /// Adds `job` to `lane`.
    pub(super) fn queue(&mut self, lane: i64, job: Job) {
        self.lane(lane).queue.insert((job.rank, job.sequence));
        self.add(job, Place::Queued);
    }

    /// Makes the head of `lane` ready, if it may go now, and lets go of a lane that has
    /// nothing left. A first attempt that may go at once is of `kind`.
    pub(super) fn promote(&mut self, number: i64, kind: Kind) {
        let run = self.run;
        let lane = self.lane(number);
        if lane.out.is_some() || lane.failing.is_some() || lane.ending >= run {
            return;
        }
        match lane.rest {
            Rest::Unknown => {
                self.want(number, None);
                return;
            }
            Rest::After(known_to) if lane.queue.len() < FEW => {
                self.want(number, Some(known_to));
            }
            Rest::Nothing if lane.queue.is_empty() && lane.is_idle() => {
                self.lanes.remove(&number);
                self.wanted.remove(&number);
                if let Some(meanwhile) = &mut self.meanwhile {
                    meanwhile.stale(number);
                }
                return;
            }
            Rest::Nothing | Rest::After(_) | Rest::Parked(_) => {}
        }
        let lane = self.lane(number);
        let head = lane.queue.first().map(|(_, sequence)| *sequence);
        if head == lane.ready {
            return;
        }
        let before = std::mem::replace(&mut lane.ready, head);
        if let Some(before) = before {
            self.unready(before);
        }
        if let Some(head) = head
            && let Some(Item { place, job: Some(job), .. }) = self.items.get_mut(&head)
        {
            let kind = if job.attempts > 0 { Kind::Retry } else { kind };
            *place = Place::Ready(kind);
            self.ready[kind].push_back(head);
        }
    }

    /// Has `lane` looked up from a place on.
    pub(super) fn want(&mut self, lane: i64, after: Option<LaneRank>) {
        if !self.lane(lane).looked_up && self.wanted.insert(lane, after).is_none() {
            self.wanted_first.push_back(lane);
        }
    }

    /// Takes what waits of a lane out of memory and has it looked up, once none of it
    /// is on the wire or being written.
    pub(super) fn look_up(&mut self, number: i64) {
        self.drop_queue(number);
        self.lane(number).rest = Rest::Unknown;
        self.promote(number, Kind::Waiting);
    }

    /// The delivery at `head` waits in the store, and with it what comes after it.
    pub(super) fn park(&mut self, number: i64, head: LaneRank) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.stale(number);
        }
        let lane = self.lane(number);
        let after = lane.queue.split_off(&head);
        let last = lane.queue.last().copied();
        // Of what arrived before it meanwhile the store has no more than this knows,
        // unless it was not known whole.
        lane.rest = match (lane.rest, last) {
            (Rest::Unknown, _) => Rest::Unknown,
            (_, Some(last)) => Rest::After(last),
            (_, None) => Rest::Parked(head),
        };
        self.wanted.remove(&number);
        for (_, sequence) in after {
            self.forget(number, sequence);
        }
        if self.lanes.len() > self.limits.lanes {
            self.forget_parked();
        }
    }

    /// Takes what waits of a lane out of memory.
    pub(super) fn drop_queue(&mut self, number: i64) {
        for (_, sequence) in std::mem::take(&mut self.lane(number).queue) {
            self.forget(number, sequence);
        }
    }

    fn forget(&mut self, number: i64, sequence: i64) {
        self.unready(sequence);
        let lane = self.lane(number);
        if lane.ready == Some(sequence) {
            lane.ready = None;
        }
        if let Some(item) = self.items.remove(&sequence) {
            self.bytes -= item.bytes;
        }
    }

    /// Keeps the memory bounded: what is parked is found in the store when it is due.
    fn forget_parked(&mut self) {
        self.lanes.retain(|_, lane| !lane.is_idle() || !matches!(lane.rest, Rest::Parked(_)));
        self.complete = false;
    }
}
