//! The order of one target's deliveries, in memory: it decides which may be sent now, and which have to
//! be read from the store. Pure: no I/O, no clock, no lock.
//!
//! Deliveries of one lane (see the [glossary](crate#glossary)) are sent one at a time, by rank. Every
//! open delivery has a row in the store. The order has a part of them in memory, bounded in number and
//! bytes, and finds a dropped delivery in the store again.
//!
//! An order is *complete* while it knows every lane that has an open delivery. Then a new event of
//! another lane is the head of its lane, and the store is not searched. Otherwise the lane is looked up
//! first.

mod lane;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use self::lane::{Lane, Rest};
use self::rows::Meanwhile;
use crate::domain::delivery::Next;
use crate::store::types::{Arrived, Job, Kind, LaneRank, PerKind};

pub(super) use self::rows::Timely;

/// The limits of the order's memory.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The number of deliveries from which on new ones stay in the store.
    items: usize,
    /// The number of bytes of bodies from which on new deliveries stay in the store.
    bytes: usize,
    /// The number of lanes, parked ones included, beyond which the parked ones are dropped.
    lanes: usize,
    /// The number of wanted lookups from which on a new event of an unknown lane stays in the store.
    fresh_lookups: usize,
}

const LIMITS: Limits = Limits { items: 2048, bytes: 2 << 20, lanes: 8192, fresh_lookups: 64 };

/// The largest number of acknowledged deliveries of one lane whose outcome is not written yet. A crash
/// repeats these, in their order.
const RUN: usize = 32;

/// A place before every delivery of a lane.
const NO_PLACE: LaneRank = (i64::MIN, i64::MIN);

/// The order of one target's deliveries.
#[derive(Debug)]
pub(super) struct Order {
    limits: Limits,
    items: HashMap<i64, Item>,
    lanes: HashMap<i64, Lane>,
    ready: PerKind<VecDeque<i64>>,
    /// Bytes of the bodies in memory.
    bytes: usize,
    /// The lanes to look up, each with the place after which to read; `None` reads from the head.
    wanted: HashMap<i64, Option<LaneRank>>,
    /// The same lanes, and some that are not wanted any more, in the order in which they were wanted.
    wanted_first: VecDeque<i64>,
    /// The number of unwritten outcomes of a lane from which on its next delivery waits.
    run: usize,
    /// Whether every lane that has an open delivery is in `lanes`.
    complete: bool,
    /// The sequence up to which the store was scanned for pending deliveries.
    scanned_to: i64,
    /// Whether there may be pending deliveries above it that are not in memory.
    scan_more: bool,
    /// The lanes of deliveries that an operator's action is about to change.
    withdrawn: Vec<i64>,
    /// The changes during the running search; `None` while no search runs.
    meanwhile: Option<Meanwhile>,
}

/// A delivery in memory.
#[derive(Debug)]
struct Item {
    place: Place,
    lane: Option<i64>,
    rank: i64,
    /// Bytes counted for its body.
    bytes: usize,
    /// The delivery; `None` once it is on the wire.
    job: Option<Job>,
}

/// The state of a delivery in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It waits behind others of its lane.
    Queued,
    /// It may be sent.
    Ready(Kind),
    /// It is on the wire.
    Out,
    /// Its outcome is being written.
    Ending,
}

impl Order {
    /// Creates an order that knows no delivery. Without `repeats`, the next delivery of a lane waits
    /// until the outcome of the previous one is written.
    pub(super) fn new(repeats: bool) -> Self {
        Self::limited(repeats, LIMITS)
    }

    fn limited(repeats: bool, limits: Limits) -> Self {
        Self {
            limits,
            items: HashMap::new(),
            lanes: HashMap::new(),
            ready: PerKind::default(),
            bytes: 0,
            wanted: HashMap::new(),
            wanted_first: VecDeque::new(),
            run: if repeats { RUN } else { 1 },
            complete: false,
            scanned_to: 0,
            scan_more: true,
            withdrawn: Vec::new(),
            meanwhile: None,
        }
    }

    /// Adds a new delivery. `arrived` has no job if the queue had no room for its event.
    pub(super) fn arrived(&mut self, arrived: Arrived) {
        let Arrived { sequence, rank, lane, job } = arrived;
        if self.items.contains_key(&sequence) {
            return;
        }
        let job = job.filter(|_| self.has_room());
        let Some(number) = lane else {
            match job {
                Some(job) => self.add_ready(job, Kind::New),
                None => self.leave_to_scan(sequence),
            }
            return;
        };
        let place = (rank, sequence);
        match (self.lanes.get(&number).map(|lane| lane.rest), job) {
            (Some(Rest::Nothing), Some(job)) => return self.add_arrived(number, job),
            (Some(Rest::After(known_to) | Rest::Behind(known_to)), Some(job)) if place < known_to => {
                return self.add_arrived(number, job);
            }
            // It waits in the store, behind the known deliveries of its lane.
            (Some(Rest::After(before) | Rest::Behind(before) | Rest::Parked(before)), _)
                if place > before => {}
            (Some(Rest::Nothing), None) if self.is_behind(number, place) => {}
            (Some(_), _) => self.look_up(number),
            (None, Some(job)) if self.complete => {
                self.lanes.insert(number, Lane::new(Rest::Nothing));
                return self.add_arrived(number, job);
            }
            (None, Some(_)) if self.wanted.len() < self.limits.fresh_lookups => {
                self.lanes.insert(number, Lane { fresh: Some(sequence), ..Lane::new(Rest::Unknown) });
                self.want(number, None);
            }
            (None, _) => self.leave_to_scan(sequence),
        }
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.left(number, place);
        }
    }

    /// Notes that the store has changed in an unknown way: by new deliveries, or by an operator's
    /// action whose outcome is unknown. All deliveries that are not on the wire are searched for again.
    pub(super) fn missed_some(&mut self) {
        let numbers: Vec<_> = self.lanes.keys().copied().collect();
        for number in numbers {
            self.drop_queue(number);
            let lane = self.lane(number);
            lane.rest = Rest::Unknown;
            if lane.is_idle() {
                self.lanes.remove(&number);
            }
        }
        self.wanted.clear();
        self.wanted_first.clear();
        self.leave_to_scan(1);
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.missed();
        }
    }

    /// Returns whether `place` is behind the waiting deliveries of a lane that was known whole. If so,
    /// the lane counts as known up to the last of these from now on.
    fn is_behind(&mut self, number: i64, place: LaneRank) -> bool {
        let lane = self.lane(number);
        let last = lane.queue.last().copied().filter(|last| place > *last);
        if let Some(last) = last {
            lane.rest = Rest::After(last);
        }
        last.is_some()
    }

    /// Returns whether a delivery of `kind` is ready.
    pub(super) fn has(&self, kind: Kind) -> bool {
        !self.ready[kind].is_empty()
    }

    /// Takes the next delivery of `kind`, which is then on the wire.
    pub(super) fn next(&mut self, kind: Kind) -> Option<Job> {
        let sequence = self.ready[kind].pop_front()?;
        self.start(sequence)
    }

    /// Takes the delivery for a probe: a first attempt if `fresh`, else a retry. It is the first one
    /// whose subject is not `tried`, or else the first one.
    pub(super) fn probe(&mut self, fresh: bool, tried: impl Fn(i64) -> bool) -> Option<(Kind, Job)> {
        let kinds: &[Kind] = if fresh { &[Kind::New, Kind::Waiting] } else { &[Kind::Retry] };
        let subject =
            |sequence: &i64| self.items.get(sequence).and_then(|item| item.lane).unwrap_or(*sequence);
        let untried = kinds.iter().find_map(|kind| {
            Some((*kind, self.ready[*kind].iter().position(|sequence| !tried(subject(sequence)))?))
        });
        let first = || kinds.iter().find(|kind| self.has(**kind)).map(|kind| (*kind, 0));
        let (kind, index) = untried.or_else(first)?;
        let sequence = self.ready[kind].remove(index)?;
        Some((kind, self.start(sequence)?))
    }

    /// Notes that `sequence` was acknowledged. The next delivery of its lane may start, if repeats
    /// after a crash are allowed.
    pub(super) fn acknowledged(&mut self, sequence: i64) {
        self.end(sequence, false);
    }

    /// Notes that an attempt at `sequence` has failed. Its lane waits until the outcome is written.
    pub(super) fn failed(&mut self, sequence: i64) {
        self.end(sequence, true);
    }

    /// Notes that the outcome of `sequence` is written.
    pub(super) fn written(&mut self, sequence: i64, next: Next) {
        let Some(item) = self.remove(sequence) else { return };
        let Some(number) = item.lane else { return };
        let lane = self.lane(number);
        lane.ending -= 1;
        if lane.failing == Some(sequence) {
            lane.failing = None;
        }
        match next {
            Next::Delivered | Next::Dead => {}
            Next::Retrying { .. } => self.park(number, (item.rank, sequence)),
            Next::Held => self.park(number, NO_PLACE),
        }
        self.promote(number, Kind::Waiting);
    }

    /// Notes that the attempt at `sequence` was not made. The delivery is searched for again.
    pub(super) fn not_sent(&mut self, sequence: i64) {
        let Some(item) = self.remove(sequence) else { return };
        match item.lane {
            None => self.scan_again_from(sequence),
            Some(lane) => {
                // It has left memory and is open: a running search must not count it as ended.
                if let Some(meanwhile) = &mut self.meanwhile {
                    meanwhile.stale(lane);
                }
                self.lane(lane).out = None;
                self.look_up(lane);
            }
        }
    }

    /// Returns whether `sequence` is on the wire, or its outcome is being written.
    pub(super) fn is_out(&self, sequence: i64) -> bool {
        self.items.get(&sequence).is_some_and(|item| matches!(item.place, Place::Out | Place::Ending))
    }

    /// Takes `sequence`, which is not on the wire, out of memory before an operator's action changes
    /// it.
    pub(super) fn withdraw(&mut self, sequence: i64) {
        match self.items.get(&sequence).map(|item| item.lane) {
            Some(Some(lane)) => {
                self.drop_queue(lane);
                self.lane(lane).rest = Rest::Unknown;
                self.wanted.remove(&lane);
                self.withdrawn.push(lane);
            }
            Some(None) => {
                self.unready(sequence);
                self.remove(sequence);
            }
            None => {}
        }
    }

    /// Looks the lanes of withdrawn deliveries up again, after the action.
    pub(super) fn restore(&mut self) {
        for lane in std::mem::take(&mut self.withdrawn) {
            self.look_up(lane);
        }
    }

    /// Notes that an operator's action has changed `sequence`, of `lane`. The delivery is read from the
    /// store again.
    pub(super) fn changed(&mut self, sequence: i64, lane: Option<i64>) {
        if let Some(lane) = lane {
            self.look_up(lane);
            return;
        }
        if self.items.contains_key(&sequence) {
            self.unready(sequence);
            self.remove(sequence);
        }
        self.scan_again_from(sequence);
    }

    fn has_room(&self) -> bool {
        self.items.len() < self.limits.items && self.bytes < self.limits.bytes
    }

    fn add_arrived(&mut self, lane: i64, job: Job) {
        self.queue(lane, job);
        self.promote(lane, Kind::New);
    }

    /// Leaves a new delivery in the store until the scan finds it.
    fn leave_to_scan(&mut self, sequence: i64) {
        self.complete = false;
        self.scan_again_from(sequence);
    }

    fn scan_again_from(&mut self, sequence: i64) {
        self.scanned_to = self.scanned_to.min(sequence - 1);
        self.scan_more = true;
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.scan_from(sequence - 1);
        }
    }

    /// Puts `sequence`, which was ready, on the wire.
    fn start(&mut self, sequence: i64) -> Option<Job> {
        let item = self.items.get_mut(&sequence)?;
        item.place = Place::Out;
        self.bytes -= std::mem::take(&mut item.bytes);
        let (job, lane, rank) = (item.job.take(), item.lane, item.rank);
        if let Some(lane) = lane {
            let lane = self.lane(lane);
            lane.queue.remove(&(rank, sequence));
            (lane.ready, lane.out) = (None, Some(sequence));
        }
        job
    }

    fn end(&mut self, sequence: i64, failing: bool) {
        let Some(item) = self.items.get_mut(&sequence) else { return };
        item.place = Place::Ending;
        let Some(number) = item.lane else { return };
        let lane = self.lane(number);
        lane.out = None;
        lane.ending += 1;
        if failing {
            lane.failing = Some(sequence);
        }
        self.promote(number, Kind::Waiting);
    }

    /// Adds `job`, which may be sent at once.
    fn add_ready(&mut self, job: Job, kind: Kind) {
        let sequence = job.sequence;
        self.add(job, Place::Ready(kind));
        self.ready[kind].push_back(sequence);
    }

    fn add(&mut self, job: Job, place: Place) {
        let bytes = job.event.event.body.len();
        self.bytes += bytes;
        let (sequence, lane, rank) = (job.sequence, job.lane, job.rank);
        self.items.insert(sequence, Item { place, lane, rank, bytes, job: Some(job) });
    }

    fn remove(&mut self, sequence: i64) -> Option<Item> {
        let item = self.items.remove(&sequence)?;
        self.bytes -= item.bytes;
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.ended(sequence);
        }
        Some(item)
    }

    /// Removes `sequence` from the ready deliveries.
    fn unready(&mut self, sequence: i64) {
        if let Some(Item { place: place @ Place::Ready(_), .. }) = self.items.get_mut(&sequence)
            && let Place::Ready(kind) = std::mem::replace(place, Place::Queued)
        {
            self.ready[kind].retain(|one| *one != sequence);
        }
    }
}
