//! The search of a dispatcher among its open deliveries, and its result.

use std::collections::{HashMap, HashSet};

use super::{Job, LaneRank};
use crate::domain::clock::UnixMillis;

/// What to look for among the open deliveries of a target.
#[derive(Clone, Debug)]
pub struct Search {
    /// The time by which a retry counts as due.
    pub now: UnixMillis,
    /// The lanes to read.
    pub lookups: Vec<Lookup>,
    /// The lanes that the dispatcher knows, each with a place in it. The scan and the search for
    /// retries skip deliveries beyond that place.
    pub lanes: HashMap<i64, LaneRank>,
    /// The deliveries without a lane that the dispatcher knows.
    pub singles: HashSet<i64>,
    /// The largest number of due retries to find.
    pub retries: usize,
    /// The scan for pending deliveries in the order of their sequences, if one is wanted.
    pub scan: Option<Scan>,
    /// The largest number of lanes to list: all lanes with an open delivery are listed if there are
    /// no more than this and the scan has come to its end.
    pub census: Option<usize>,
}

/// A lane to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The lane.
    pub lane: i64,
    /// The place after which to begin; `None` begins at the head.
    pub after: Option<LaneRank>,
}

/// A scan for pending deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The sequence after which to begin.
    pub after: i64,
    /// The largest number of lanes, and deliveries without a lane, to find.
    pub limit: usize,
}

/// The result of a search.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The lanes that were looked up, and those in which something was found.
    pub lanes: Vec<FoundLane>,
    /// Deliveries without a lane.
    pub singles: Vec<Job>,
    /// How far the scan has come, if there was one.
    pub scanned: Option<Scanned>,
    /// Whether as many retries were found as were asked for: more may be due.
    pub more_retries: bool,
    /// When the next retry falls due, if retries were searched for.
    pub next_due: Option<UnixMillis>,
    /// When the last retry that is not due yet falls due.
    pub last_due: Option<UnixMillis>,
    /// Every lane that has an open delivery, with the place of its head.
    pub census: Option<Vec<(i64, LaneRank)>>,
}

/// A part of a lane, from its head or from a place in it.
#[derive(Clone, Debug)]
pub struct FoundLane {
    /// The lane.
    pub lane: i64,
    /// The place after which reading began; `None` for the head.
    pub after: Option<LaneRank>,
    /// The deliveries in order, up to a number of them and up to the first that has to wait.
    pub rows: Vec<Job>,
    /// What follows the deliveries in `rows`.
    pub rest: FoundRest,
}

/// What follows the deliveries that were read of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundRest {
    /// No delivery.
    Nothing,
    /// Perhaps more.
    More,
    /// The delivery at this place waits for its time or for an operator; more may follow it.
    Blocked(LaneRank),
}

/// How far a scan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The last sequence that was read.
    pub to: i64,
    /// Whether more may follow above it.
    pub more: bool,
}
