//! The history of events and deliveries in memory: the last hour in points of seconds, the last day in
//! points of minutes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::params::NoQuery;
use crate::domain::clock::UnixMillis;
use crate::store::view::Tally;

/// The time between two points.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);

/// The number of points that are kept: one hour.
const POINTS: usize = 720;

/// The number of points in a minute.
const OF_MINUTE: usize = 12;

/// The number of minutes that are kept: one day.
const MINUTES: usize = 1440;

/// The counts since the previous point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Point {
    /// When the time of this point ended.
    at: UnixMillis,
    /// Events received, repeats included.
    received: u64,
    /// Events received for the first time.
    unique: u64,
    /// Deliveries acknowledged.
    delivered: u64,
    /// Attempts that failed.
    failed: u64,
}

/// The points of the last hour, and the minutes of the last day.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Points>);

#[derive(Debug, Default)]
struct Points {
    kept: VecDeque<Point>,
    minutes: VecDeque<Point>,
    /// The sum of the present minute, and the number of its points.
    begun: Option<(Point, usize)>,
    /// The sums at the newest point.
    sums: Sums,
}

/// The counts since the process started.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    received: u64,
    unique: u64,
    delivered: u64,
    failed: u64,
}

impl From<&Tally> for Sums {
    fn from(tally: &Tally) -> Self {
        Self {
            received: tally.sources.iter().map(|source| source.received).sum(),
            unique: tally.sources.iter().map(|source| source.unique).sum(),
            delivered: tally.targets.iter().map(|target| target.delivered).sum(),
            failed: tally.targets.iter().map(|target| target.failed).sum(),
        }
    }
}

impl Point {
    /// Returns the difference between `sums` and `before`.
    const fn between(at: UnixMillis, before: Sums, sums: Sums) -> Self {
        Self {
            at,
            received: sums.received.saturating_sub(before.received),
            unique: sums.unique.saturating_sub(before.unique),
            delivered: sums.delivered.saturating_sub(before.delivered),
            failed: sums.failed.saturating_sub(before.failed),
        }
    }

    /// Returns the sum of this point and `next`.
    const fn and(self, next: Self) -> Self {
        Self {
            at: next.at,
            received: self.received + next.received,
            unique: self.unique + next.unique,
            delivered: self.delivered + next.delivered,
            failed: self.failed + next.failed,
        }
    }
}

impl Points {
    fn add(&mut self, point: Point) {
        keep(&mut self.kept, POINTS, point);
        let (minute, points) =
            self.begun.take().map_or((point, 1), |(so_far, points)| (so_far.and(point), points + 1));
        if points == OF_MINUTE {
            keep(&mut self.minutes, MINUTES, minute);
        } else {
            self.begun = Some((minute, points));
        }
    }
}

/// Adds `point` as the newest one, and keeps at most `most` points.
fn keep(points: &mut VecDeque<Point>, most: usize, point: Point) {
    if points.len() == most {
        points.pop_front();
    }
    points.push_back(point);
}

impl History {
    /// Adds a point for the counts since the last call.
    pub(super) fn add(&self, at: UnixMillis, tally: &Tally) {
        let (sums, mut points) = (Sums::from(tally), self.points());
        let point = Point::between(at, points.sums, sums);
        points.add(point);
        points.sums = sums;
    }

    /// Returns every point, oldest first.
    pub(super) fn all(&self) -> Vec<Point> {
        self.points().kept.iter().copied().collect()
    }

    /// Returns the newest point alone, if there is one.
    pub(super) fn newest(&self) -> Vec<Point> {
        self.points().kept.back().copied().into_iter().collect()
    }

    /// Returns the minutes of the last day, oldest first, and the present one.
    fn minutes(&self) -> Vec<Point> {
        let points = self.points();
        points.minutes.iter().copied().chain(points.begun.map(|(minute, _)| minute)).collect()
    }

    fn points(&self) -> MutexGuard<'_, Points> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A day of history.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Day {
    /// A point for every minute, for a day or since the bridge started, oldest first. The last one may
    /// be of a part of a minute.
    points: Vec<Point>,
}

/// Events and deliveries of the last day, by the minute
#[utoipa::path(get, path = "/api/v1/history", tag = "bridge", operation_id = "showHistory",
    responses((status = 200, description = "A day of history, from memory: it begins with the process", body = Day)))]
pub(super) async fn show(State(api): State<Arc<Api>>, _: NoQuery) -> Json<Day> {
    Json(Day { points: api.history.minutes() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Source;
    use crate::store::view::{SourceTally, TargetTally};

    fn tally(received: u64, unique: u64, delivered: u64) -> Tally {
        let duplicate = received - unique;
        let source = SourceTally {
            source: Source::Stream,
            received,
            unique,
            duplicate,
            conflicting: 0,
            last_event_at: None,
        };
        let target = TargetTally { target: "orders".into(), delivered, failed: 2 * delivered };
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
            Point { at: UnixMillis(1), received: 3, unique: 2, delivered: 1, failed: 2 },
            Point { at: UnixMillis(2), received: 4, unique: 2, delivered: 3, failed: 6 },
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

    #[test]
    fn twelve_points_are_a_minute_and_a_day_of_them_is_kept() {
        let history = History::default();
        (1..=13).for_each(|at| history.add(UnixMillis(at), &tally(0, 0, at.unsigned_abs())));
        let minutes = history.minutes();
        let counted = |point: &Point| (point.at.0, point.delivered, point.failed);
        assert_eq!(minutes.iter().map(counted).collect::<Vec<_>>(), [(12, 12, 24), (13, 1, 2)]);
        (14..=12 * 1442).for_each(|at| history.add(UnixMillis(at), &tally(0, 0, at.unsigned_abs())));
        let minutes = history.minutes();
        assert_eq!((minutes.len(), minutes[0].at.0, minutes[1439].at.0), (1440, 36, 12 * 1442));
    }
}
