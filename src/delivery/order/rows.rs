//! The searches that an [`Order`] makes in the store, and their results.

use std::collections::{HashMap, HashSet};

use super::Order;
use super::lane::{Lane, Rest};
use crate::domain::clock::UnixMillis;
use crate::store::types::{Found, FoundLane, FoundRest, Job, Kind, LaneRank, Lookup, Scan, Search};

/// The largest number of lanes that one search looks up.
const LOOKUPS: usize = 128;

/// The number of first attempts that are read ahead, to be sent during the next search. Each is
/// the head of its lane, and the rows behind it are read with it, so this bounds the part of a
/// backlog that is in memory.
const WAITING: usize = 256;

/// The number of retries that are read ahead. It is small, since these are sent before retries that
/// fall due later.
const RETRIES: usize = 32;

/// The parts of a search whose time has come.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::delivery) struct Timely {
    /// The search for due retries.
    pub(in crate::delivery) retries: bool,
    /// The list of all lanes that have open deliveries.
    pub(in crate::delivery) census: bool,
}

/// The changes during a search, which the search may not have seen.
#[derive(Debug, Default)]
pub(super) struct Meanwhile {
    /// The deliveries that ended.
    ended: HashSet<i64>,
    /// The lanes that were parked or removed.
    stale: HashSet<i64>,
    /// For each lane, the first place of a delivery that was stored and not taken into memory.
    left: HashMap<i64, LaneRank>,
    /// Whether unknown deliveries were stored.
    missed: bool,
    /// The sequence after which the next scan begins, even if this one went further.
    scan_from: Option<i64>,
}

impl Meanwhile {
    pub(super) fn ended(&mut self, sequence: i64) {
        self.ended.insert(sequence);
    }

    pub(super) fn stale(&mut self, lane: i64) {
        self.stale.insert(lane);
    }

    pub(super) fn left(&mut self, lane: i64, place: LaneRank) {
        self.left.entry(lane).and_modify(|first| *first = place.min(*first)).or_insert(place);
    }

    pub(super) fn missed(&mut self) {
        self.missed = true;
        self.scan_from(0);
    }

    pub(super) fn scan_from(&mut self, sequence: i64) {
        self.scan_from = Some(self.scan_from.map_or(sequence, |from| from.min(sequence)));
    }
}

impl Order {
    /// Returns the search to make now, if one is needed. No other search may be running.
    pub(in crate::delivery) fn search(&mut self, now: UnixMillis, timely: Timely) -> Option<Search> {
        let waiting = self.ready[Kind::Waiting].len();
        let scan = (self.scan_more && waiting <= WAITING / 2)
            .then(|| Scan { after: self.scanned_to, limit: WAITING - waiting });
        let retries = self.ready[Kind::Retry].len();
        let retries = if timely.retries && retries <= RETRIES / 2 { RETRIES - retries } else { 0 };
        let census = (timely.census && !self.complete && (scan.is_some() || !self.scan_more))
            .then_some(self.limits.lanes);
        let mut wanted = Vec::new();
        while wanted.len() < LOOKUPS
            && let Some(lane) = self.wanted_first.pop_front()
        {
            if self.wanted.contains_key(&lane) {
                wanted.push(lane);
            }
        }
        if wanted.is_empty() && scan.is_none() && retries == 0 && census.is_none() {
            return None;
        }
        let lookup = |lane| {
            self.lane(lane).looked_up = true;
            Lookup { lane, after: self.wanted.remove(&lane).flatten() }
        };
        let lookups = wanted.into_iter().map(lookup).collect();
        if scan.is_some() {
            self.scan_more = false;
        }
        self.meanwhile = Some(Meanwhile::default());
        let (mut lanes, mut singles) = (HashMap::new(), HashSet::new());
        if scan.is_some() || retries > 0 {
            lanes = self.lanes.iter().map(|(number, lane)| (*number, lane.takes_up_to())).collect();
            singles =
                self.items.iter().filter(|(_, item)| item.lane.is_none()).map(|(one, _)| *one).collect();
        }
        Some(Search { now, lookups, lanes, singles, retries, scan, census })
    }

    /// Returns whether retries may be searched for when they are due.
    pub(in crate::delivery) fn wants_retries(&self) -> bool {
        self.meanwhile.is_none() && self.ready[Kind::Retry].len() <= RETRIES / 2
    }

    /// Returns whether a search is needed, independent of the time.
    pub(in crate::delivery) fn wants_search(&self) -> bool {
        let scans = self.scan_more && self.ready[Kind::Waiting].len() <= WAITING / 2;
        self.meanwhile.is_none() && (scans || !self.wanted.is_empty())
    }

    /// Returns whether every lane that has an open delivery is known.
    pub(in crate::delivery) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Notes that a search has failed, so that it is made again.
    pub(in crate::delivery) fn search_failed(&mut self, search: &Search) {
        self.meanwhile = None;
        self.scan_more |= search.scan.is_some();
        for lookup in &search.lookups {
            if let Some(lane) = self.lanes.get_mut(&lookup.lane) {
                lane.looked_up = false;
                self.promote(lookup.lane, Kind::Waiting);
            }
        }
    }

    /// Adds the deliveries that a search has found.
    pub(in crate::delivery) fn found(&mut self, found: Found) {
        let Some(meanwhile) = self.meanwhile.take() else { return };
        for lane in found.lanes {
            self.found_lane(lane, &meanwhile);
        }
        for job in found.singles {
            if !self.items.contains_key(&job.sequence) && !meanwhile.ended.contains(&job.sequence) {
                let kind = if job.attempts > 0 { Kind::Retry } else { Kind::Waiting };
                self.add_ready(job, kind);
            }
        }
        if let Some(scanned) = found.scanned {
            self.scanned_to = meanwhile.scan_from.map_or(scanned.to, |from| from.min(scanned.to));
            self.scan_more |= scanned.more;
        }
        if let Some(lanes) = found.census
            && !self.scan_more
        {
            self.complete(lanes, &meanwhile);
        }
    }

    /// Notes that only `lanes`, and the lanes in memory, have open deliveries.
    fn complete(&mut self, lanes: Vec<(i64, LaneRank)>, meanwhile: &Meanwhile) {
        for (number, head) in lanes {
            if self.lanes.contains_key(&number) {
                continue;
            }
            if meanwhile.stale.contains(&number) || meanwhile.ended.contains(&head.1) {
                self.look_up(number);
            } else {
                self.lanes.insert(number, Lane::new(Rest::Parked(head)));
            }
        }
        self.complete = true;
    }

    fn found_lane(&mut self, found: FoundLane, meanwhile: &Meanwhile) {
        let number = found.lane;
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.looked_up = false;
        }
        let expected = match self.lanes.get(&number).map(|lane| lane.rest) {
            None | Some(Rest::Unknown | Rest::Parked(_)) => found.after.is_none(),
            Some(Rest::After(known_to) | Rest::Behind(known_to)) => found.after == Some(known_to),
            Some(Rest::Nothing) => false,
        };
        if !expected || meanwhile.stale.contains(&number) {
            // The lane has changed since the search began. If it is not known any more, the found
            // deliveries may have ended.
            self.promote(number, Kind::Waiting);
            return;
        }
        let lane = self.lane(number);
        let fresh = lane.fresh.take();
        let is_fresh = found.rows.first().is_some_and(|first| Some(first.sequence) == fresh);
        let left = meanwhile.left.get(&number).copied();
        // Deliveries that have arrived since may belong before or among the found ones.
        let is_certain =
            |job: &Job| !meanwhile.missed && left.is_none_or(|left| (job.rank, job.sequence) <= left);
        let mut last = found.after;
        let mut all = true;
        for job in found.rows {
            if !is_certain(&job) {
                all = false;
                break;
            }
            last = Some((job.rank, job.sequence));
            if !self.items.contains_key(&job.sequence) && !meanwhile.ended.contains(&job.sequence) {
                self.queue(number, job);
            }
        }
        all &= left.is_none() && !meanwhile.missed;
        let has_more = !self.lane(number).queue.is_empty();
        let was_sent = |head: LaneRank| self.items.contains_key(&head.1) || meanwhile.ended.contains(&head.1);
        let rest = match (found.rest, last) {
            (FoundRest::Nothing, _) if all => Rest::Nothing,
            (FoundRest::Blocked(_), Some(last)) if all && has_more => Rest::Behind(last),
            // It was due when it was sent, and the clock has been set back since: nothing would end
            // a wait for it.
            (FoundRest::Blocked(head), _) if !has_more && was_sent(head) => Rest::Unknown,
            (FoundRest::Blocked(head), _) if all && !has_more => Rest::Parked(head),
            (_, Some(last)) => Rest::After(last),
            (_, None) => Rest::Unknown,
        };
        self.lane(number).rest = rest;
        self.promote(number, if is_fresh { Kind::New } else { Kind::Waiting });
    }
}
