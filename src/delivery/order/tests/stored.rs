//! A store in memory that searches as the real one does.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::{Received, Source};
use crate::pepay::envelope;
use crate::store::types::{Found, FoundLane, FoundRest, Job, LaneRank, Scanned, Search};

use super::world::NOW;

/// A delivery in the store.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) lane: Option<i64>,
    pub(super) rank: i64,
    pub(super) state: State,
    /// Whether a retry is due.
    pub(super) due: bool,
    pub(super) attempts: u32,
}

/// The rows of the store.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) rows: BTreeMap<i64, Row>,
    event: Arc<Received>,
}

impl Default for Stored {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), event: event() }
    }
}

fn event() -> Arc<Received> {
    let body = r#"{"id":"evt_1","object":"event","type":"commerce.order.updated","created":1,"data":{}}"#;
    Arc::new(Received {
        event: envelope::parse(body.into(), UnixMillis(0)).unwrap(),
        source: Source::Webhook,
        origin: "default".into(),
        environment: None,
        received_at: NOW,
    })
}

impl Stored {
    pub(super) fn job(&self, sequence: i64) -> Job {
        let row = &self.rows[&sequence];
        Job {
            sequence,
            attempts: row.attempts,
            first_attempt_at: None,
            renewed: false,
            replays: 0,
            event: Arc::clone(&self.event),
            lane: row.lane,
            rank: row.rank,
        }
    }

    pub(super) fn find(&self, search: &Search) -> Found {
        let mut found = Found::default();
        let mut read = HashSet::new();
        for lookup in &search.lookups {
            read.insert(lookup.lane);
            found.lanes.push(self.lane(lookup.lane, lookup.after, 3));
        }
        let mut take = |sequence: i64, found: &mut Found| {
            let row = &self.rows[&sequence];
            let Some(lane) = row.lane else {
                let is_new = !search.singles.contains(&sequence) && read.insert(-sequence);
                if is_new {
                    found.singles.push(self.job(sequence));
                }
                return is_new;
            };
            let passes = search.lanes.get(&lane).is_none_or(|known_to| (row.rank, sequence) <= *known_to);
            let is_new = passes && read.insert(lane);
            if is_new {
                found.lanes.push(self.lane(lane, None, 2));
            }
            is_new
        };
        if search.retries > 0 {
            for (sequence, row) in &self.rows {
                if row.state == State::Retrying && row.due {
                    take(*sequence, &mut found);
                }
            }
        }
        if let Some(scan) = search.scan {
            let mut scanned = Scanned { to: scan.after, more: false };
            let mut taken = 0;
            for (sequence, row) in self.rows.range(scan.after + 1..) {
                if row.state != State::Pending {
                    continue;
                }
                if taken == 2 {
                    scanned.more = true;
                    break;
                }
                taken += usize::from(take(*sequence, &mut found));
                scanned.to = *sequence;
            }
            found.scanned = Some(scanned);
        }
        if let Some(limit) = search.census
            && !found.scanned.is_some_and(|scanned| scanned.more)
        {
            let mut lanes = BTreeMap::new();
            for (sequence, row) in self.rows.iter().filter(|(_, row)| !row.state.is_settled()) {
                if let Some(lane) = row.lane {
                    let head = lanes.entry(lane).or_insert((row.rank, *sequence));
                    *head = (row.rank, *sequence).min(*head);
                }
            }
            found.census = (lanes.len() <= limit).then(|| lanes.into_iter().collect());
        }
        found
    }

    fn lane(&self, lane: i64, after: Option<LaneRank>, limit: usize) -> FoundLane {
        let open = self.rows.iter().filter(|(_, row)| row.lane == Some(lane) && !row.state.is_settled());
        let mut places: Vec<_> = open.map(|(sequence, row)| (row.rank, *sequence)).collect();
        places.retain(|place| after.is_none_or(|after| *place > after));
        places.sort_unstable();
        let mut rest = if places.len() >= limit { FoundRest::More } else { FoundRest::Nothing };
        let mut rows = Vec::new();
        for place in places.into_iter().take(limit) {
            let row = &self.rows[&place.1];
            if row.state == State::Held || (row.state == State::Retrying && !row.due) {
                rest = FoundRest::Blocked(place);
                break;
            }
            rows.push(self.job(place.1));
        }
        FoundLane { lane, after, rows, rest }
    }
}
