//! The lanes of an [`Order`]. At most one delivery of a lane is ready or on the wire.

use std::collections::BTreeSet;

use super::{Item, NO_PLACE, Order, Place};
use crate::store::types::{Job, Kind, LaneRank};

/// If a lane has fewer waiting deliveries than this in memory and more in the store, more are read.
const FEW: usize = 64;

/// The deliveries of one lane that are in memory.
#[derive(Debug)]
pub(super) struct Lane {
    /// The waiting deliveries and the ready one, by rank.
    pub(super) queue: BTreeSet<LaneRank>,
    /// The ready delivery.
    pub(super) ready: Option<i64>,
    /// The delivery on the wire.
    pub(super) out: Option<i64>,
    /// The number of outcomes that are being written.
    pub(super) ending: usize,
    /// The delivery among these that was not acknowledged.
    pub(super) failing: Option<i64>,
    /// The new event for which the lane is looked up.
    pub(super) fresh: Option<i64>,
    /// Whether a running search looks the lane up.
    pub(super) looked_up: bool,
    /// The deliveries of the lane that are in the store alone.
    pub(super) rest: Rest,
}

/// The open deliveries of a lane that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// No others are open.
    Nothing,
    /// There may be others after this place; all up to it are in memory.
    After(LaneRank),
    /// There are others after this place, and the first of them waits for its next attempt or for an
    /// operator; all up to it are in memory.
    Behind(LaneRank),
    /// Unknown: the lane is looked up before one of its deliveries starts.
    Unknown,
    /// None is in memory. The delivery at this place is the first. It waits for its next attempt or for
    /// an operator, and the others wait for it.
    Parked(LaneRank),
}

impl Lane {
    pub(super) const fn new(rest: Rest) -> Self {
        let queue = BTreeSet::new();
        Self { queue, ready: None, out: None, ending: 0, failing: None, fresh: None, looked_up: false, rest }
    }

    /// Returns the last place of the lane at which a scan, or a search for retries, may find a
    /// delivery.
    pub(super) const fn takes_up_to(&self) -> LaneRank {
        match self.rest {
            Rest::Parked(head) => head,
            Rest::Nothing | Rest::After(_) | Rest::Behind(_) | Rest::Unknown => NO_PLACE,
        }
    }

    /// Returns whether no delivery of the lane is on the wire, and no outcome is being written.
    pub(super) const fn is_idle(&self) -> bool {
        self.out.is_none() && self.ending == 0
    }
}

impl Order {
    /// Returns the lane of this number, which is added if it is missing.
    pub(super) fn lane(&mut self, number: i64) -> &mut Lane {
        self.lanes.entry(number).or_insert_with(|| Lane::new(Rest::Unknown))
    }

    /// Adds `job` to `lane`.
    pub(super) fn queue(&mut self, lane: i64, job: Job) {
        self.lane(lane).queue.insert((job.rank, job.sequence));
        self.add(job, Place::Queued);
    }

    /// Makes the head of the lane ready, if it may be sent now, and removes a lane without deliveries.
    /// A first attempt that becomes ready is of `kind`.
    pub(super) fn promote(&mut self, number: i64, kind: Kind) {
        let run = self.run;
        let lane = self.lane(number);
        if lane.out.is_some() || lane.failing.is_some() || lane.ending >= run {
            return;
        }
        match lane.rest {
            Rest::Unknown => {
                if lane.is_idle() {
                    self.want(number, None);
                }
                return;
            }
            Rest::After(known_to) if lane.queue.len() < FEW => {
                self.want(number, Some(known_to));
            }
            // A search before the known ones have ended would find nothing that may be sent.
            Rest::Behind(known_to) if lane.queue.is_empty() => {
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
            Rest::Nothing | Rest::After(_) | Rest::Behind(_) | Rest::Parked(_) => {}
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

    /// Has `lane` looked up after the place `after`.
    pub(super) fn want(&mut self, lane: i64, after: Option<LaneRank>) {
        if !self.lane(lane).looked_up && self.wanted.insert(lane, after).is_none() {
            self.wanted_first.push_back(lane);
        }
    }

    /// Takes the waiting deliveries of a lane out of memory. Has the lane looked up once none of its
    /// deliveries is on the wire or being written.
    pub(super) fn look_up(&mut self, number: i64) {
        self.drop_queue(number);
        self.lane(number).rest = Rest::Unknown;
        self.promote(number, Kind::Waiting);
    }

    /// Notes that the delivery at `head` waits in the store, and that the deliveries after it wait for
    /// it.
    pub(super) fn park(&mut self, number: i64, head: LaneRank) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.stale(number);
        }
        let lane = self.lane(number);
        let after = lane.queue.split_off(&head);
        let last = lane.queue.last().copied();
        // Memory has all deliveries before `head` that arrived meanwhile, unless the lane was not known
        // whole.
        lane.rest = match (lane.rest, last) {
            (Rest::Unknown, _) => Rest::Unknown,
            (_, Some(last)) => Rest::Behind(last),
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

    /// Takes the waiting deliveries of a lane out of memory.
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

    /// Drops the parked lanes, which keeps the memory bounded. Their deliveries are found in the store
    /// when they are due.
    fn forget_parked(&mut self) {
        self.lanes.retain(|_, lane| !lane.is_idle() || !matches!(lane.rest, Rest::Parked(_)));
        self.complete = false;
    }
}
