//! What a dispatcher looks for among its open deliveries, and what it finds.

use std::collections::{HashMap, HashSet};

use super::{Job, LaneRank};
use crate::domain::clock::UnixMillis;

/// What to look for among the open deliveries of a target.
#[derive(Clone, Debug)]
pub struct Search {
    /// The time by which a retry is due.
    pub now: UnixMillis,
    /// Lanes to read.
    pub lookups: Vec<Lookup>,
    /// Lanes that are known, each with the last place that may be taken of it otherwise.
    pub lanes: HashMap<i64, LaneRank>,
    /// Known deliveries without a lane.
    pub singles: HashSet<i64>,
    /// How many retries that are due to find, at most.
    pub retries: usize,
    /// Pending deliveries to find, in the order of their sequences.
    pub scan: Option<Scan>,
    /// Whether to list every lane that has an open delivery, if there are no more than
    /// this and the scan has come to its end.
    pub census: Option<usize>,
}

/// A lane to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The lane.
    pub lane: i64,
    /// The place after which to begin; `None` is its head.
    pub after: Option<LaneRank>,
}

/// Pending deliveries to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The sequence after which to begin.
    pub after: i64,
    /// How many lanes, and deliveries without one, to find at most.
    pub limit: usize,
}

/// What a search has found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The lanes that were looked up, and those in which something was found.
    pub lanes: Vec<FoundLane>,
    /// Deliveries without a lane.
    pub singles: Vec<Job>,
    /// How far the scan has come.
    pub scanned: Option<Scanned>,
    /// Whether more retries are due.
    pub more_retries: bool,
    /// When the next retry falls due, if retries were searched for.
    pub next_due: Option<UnixMillis>,
    /// When the last of those that are not due yet does.
    pub last_due: Option<UnixMillis>,
    /// Every lane that has an open delivery, with its head.
    pub census: Option<Vec<(i64, LaneRank)>>,
}

/// The beginning of a lane, or of what comes after a place in it.
#[derive(Clone, Debug)]
pub struct FoundLane {
    /// The lane.
    pub lane: i64,
    /// Where reading began.
    pub after: Option<LaneRank>,
    /// Its deliveries in their order, up to a number and to the first that has to wait.
    pub rows: Vec<Job>,
    /// What follows.
    pub rest: FoundRest,
}

/// What follows the deliveries that were read of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundRest {
    /// Nothing.
    Nothing,
    /// Perhaps more.
    More,
    /// One that waits for its time or for an operator, and perhaps more behind it.
    Blocked(LaneRank),
}

/// How far a scan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The last sequence looked at.
    pub to: i64,
    /// Whether there may be more above it.
    pub more: bool,
}
