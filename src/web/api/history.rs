//! What came in and went out over the last hour, in memory.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::clock::UnixMillis;
use crate::store::view::Tally;

/// Between two points.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// Points that are kept: one hour.
const POINTS: usize = 720;

/// What was counted since the point before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Point {
    /// When that time ended.
    at: UnixMillis,
    /// Events received, repeats included.
    received: u64,
    /// Events received for the first time.
    unique: u64,
    /// Deliveries acknowledged.
    delivered: u64,
}

/// The points of the last hour.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Points>);

#[derive(Debug, Default)]
struct Points {
    kept: VecDeque<Point>,
    /// The sums at the newest point.
    received: u64,
    unique: u64,
    delivered: u64,
}

impl History {
    /// Adds what `tally` has more than at the last time.
    pub(super) fn add(&self, at: UnixMillis, tally: &Tally) {
        let received = tally.sources.iter().map(|source| source.received).sum();
        let unique = tally.sources.iter().map(|source| source.unique).sum();
        let delivered = tally.targets.iter().map(|target| target.delivered).sum();
        let mut points = self.points();
        if points.kept.len() == POINTS {
            points.kept.pop_front();
        }
        let point = Point {
            at,
            received: u64::saturating_sub(received, points.received),
            unique: u64::saturating_sub(unique, points.unique),
            delivered: u64::saturating_sub(delivered, points.delivered),
        };
        points.kept.push_back(point);
        (points.received, points.unique, points.delivered) = (received, unique, delivered);
    }

    /// Every point, oldest first.
    pub(super) fn all(&self) -> Vec<Point> {
        self.points().kept.iter().copied().collect()
    }

    /// The newest point alone, if there is one.
    pub(super) fn newest(&self) -> Vec<Point> {
        self.points().kept.back().copied().into_iter().collect()
    }

    fn points(&self) -> std::sync::MutexGuard<'_, Points> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Source;
    use crate::store::view::{SourceTally, TargetTally};

    fn tally(received: u64, unique: u64, delivered: u64) -> Tally {
        let duplicate = received - unique;
        let source = SourceTally { source: Source::Stream, received, unique, duplicate, last_event_at: None };
        let target = TargetTally { target: "orders".into(), delivered };
        Tally {
            sources: vec![source, SourceTally { received: 0, unique: 0, ..source }],
            targets: vec![target],
        }
    }

    #[test]
    fn a_point_counts_what_came_since_the_one_before() {
        let history = History::default();
        assert_eq!(history.newest(), []);
        history.add(UnixMillis(1), &tally(3, 2, 1));
        history.add(UnixMillis(2), &tally(7, 4, 4));
        let points = [
            Point { at: UnixMillis(1), received: 3, unique: 2, delivered: 1 },
            Point { at: UnixMillis(2), received: 4, unique: 2, delivered: 3 },
        ];
        assert_eq!(history.all(), points);
        assert_eq!(history.newest(), points[1..]);
    }

    #[test]
    fn an_hour_is_kept() {
        let history = History::default();
        (0..=720).for_each(|at| history.add(UnixMillis(at), &tally(0, 0, 0)));
        let points = history.all();
        assert_eq!((points.len(), points[0].at, points[719].at), (720, UnixMillis(1), UnixMillis(720)));
    }
}
