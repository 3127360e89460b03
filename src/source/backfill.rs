//! Closes a gap from the REST list, as a pure value: pages go in; the next request and the events in
//! Pepay's order come out.
//!
//! The list is newest first. `starting_after` (older events) is the only direction whose pages are
//! documented: for `ending_before` it is undocumented which side of a longer gap comes first. So a walk
//! begins at the top of the list and goes *down* until it sees the event that it knows. That sight is
//! the proof that no event between the top and the known one is left out, whatever page order a server
//! uses. Then the walk hands the events *up*, oldest first.
//!
//! If the known event is not among the first [`Budget::descent`] pages, the walk keeps those pages and
//! tries to climb from the known event: each page is handed on at once, until one meets the kept pages.
//! If the list does not show that a page is the next one, or if no event is known, the walk climbs by
//! time: it reads the list in stretches of time, the oldest first. If that fails too, the descent goes
//! on.
//!
//! Without the sight of the known event, only the order of the list can prove that the rest is older:
//! every entry so far came newest first, and a whole page of entries is older than the floor by more
//! than [`MARGIN`]. If the list just ends, the walk asks again: no single answer ends a walk, and six
//! have to say that it ends without the known event.
//!
//! A gap may be longer than memory. Only the oldest pages of a descent are kept. Of a newer page only
//! the place where it began is kept, from which the walk descends again once all older events are
//! stored.

mod climb;
mod descent;
mod ends;
mod time_climb;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};
use crate::store::types::Position;

use climb::{Climb, Climbed};
use descent::Descent;
pub(super) use ends::Ends;
use time_climb::TimeClimb;

/// How much older than the cursor an event has to be to prove that the walk has passed the cursor: the
/// clocks of Pepay's machines may differ by a few minutes.
pub const MARGIN: Duration = Duration::from_secs(300);

/// The number of events that the first descent requests at a time. It is one less than the largest
/// page, so that a page that is read again at full size also shows the stored event below it, which
/// ends that descent.
const FIRST_LIMIT: u16 = LARGEST_PAGE - 1;

/// The limits of a walk's memory.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// The number of events in memory, give or take a page.
    pub events: usize,
    /// The number of bytes of their bodies, give or take a page.
    pub bytes: usize,
    /// The number of places from which to descend again, one for each page that memory did not hold.
    pub places: usize,
    /// The number of pages of a descent before a climb is tried.
    pub descent: u32,
}

impl Budget {
    /// Enough for ten thousand events at once and a gap of two million.
    pub const DEFAULT: Self = Self { events: 10_000, bytes: 16 * 1024 * 1024, places: 20_000, descent: 20 };
}

/// A walk over the list.
#[derive(Debug)]
pub struct Walk {
    budget: Budget,
    /// The creation time, in Unix seconds, before which no event is requested.
    since: Option<i64>,
    stage: Stage,
    /// The places from which descents are still to begin, the newest first; `None` is the top.
    places: VecDeque<Option<EventId>>,
    /// The places from which descents have begun again: each place is used once.
    resumed: HashSet<Option<EventId>>,
    /// The kept pages of this descent, the newest first.
    kept: VecDeque<Kept>,
    /// Whether a place was given up, so that the walk ends below the top.
    short: bool,
    /// The number of entries to request: fewer after a page that could not be read.
    limit: u16,
    descent: Descent,
    /// The way up that may still be tried.
    way_up: WayUp,
    /// The climb by time, while there is one.
    time_climb: Option<Box<TimeClimb>>,
    /// The newest event that was handed on.
    passed: Option<EventId>,
    /// The number of entries that were not events.
    skipped: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Reading older and older pages, of at most `most` entries; the next page is the one after
    /// `after`.
    Down { after: Option<EventId>, most: u16 },
    /// Reading newer and newer pages, and handing them on.
    Climb(Climb),
    /// Looking for the place where the next descent of a climb by time begins.
    Probe,
    /// Handing on the kept pages.
    Up,
}

/// A way to hand on the oldest events of a long gap before the whole gap is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WayUp {
    /// From the known event on, and then by time.
    Known,
    /// By time.
    Time,
    /// No way is left.
    None,
}

#[derive(Debug, PartialEq, Eq)]
struct Kept {
    /// The event after which its request started.
    place: Option<EventId>,
    events: Vec<Event>,
    bytes: usize,
    received_at: UnixMillis,
}

/// The events that a walk hands on, in Pepay's order.
#[derive(Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// When their page had arrived.
    pub received_at: UnixMillis,
}

/// A stretch of history that Pepay no longer lists: events between these two may have been lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last event known to be stored, and its creation time in Unix seconds.
    pub after: (EventId, i64),
    /// The first event after it that Pepay still has; `None` if it has none.
    pub before: Option<(EventId, i64)>,
}

/// The next step of a walk.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Request this page, and pass it to [`Walk::page`].
    Ask(ListQuery),
    /// Store these events; ask for the next step once they are stored.
    Store(Stretch),
    /// The walk is over.
    Done {
        /// Whether it began at the top of the list, as of the request for the first page. If not,
        /// another walk is needed.
        from_top: bool,
    },
}

/// The result of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// More events that can be handed on, next to those before.
    Higher,
    /// The known event: all events above it have been read.
    Known,
    /// A page of events that are older than the known one, in a sorted list.
    Older,
    /// The list ended, as several answers in a row have said, without the known event. With the
    /// possible hole, if an event was known.
    End(Option<Hole>),
}

/// The server's page has events that the request excludes, or that an earlier page had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event list does not move past its cursor")]
pub struct NoProgress;

impl Walk {
    /// Creates a walk from the top of the list.
    pub fn new(budget: Budget) -> Self {
        Self::down_to(budget, None)
    }

    /// Creates a walk from the top of the list that requests no event created before `since`, in Unix
    /// seconds.
    pub fn since(budget: Budget, since: i64) -> Self {
        Self::down_to(budget, Some(since))
    }

    fn down_to(budget: Budget, since: Option<i64>) -> Self {
        Self {
            budget,
            since,
            stage: Stage::Down { after: None, most: FIRST_LIMIT },
            places: VecDeque::new(),
            resumed: HashSet::new(),
            kept: VecDeque::new(),
            short: false,
            limit: FIRST_LIMIT,
            descent: Descent::new(),
            way_up: WayUp::Known,
            time_climb: None,
            passed: None,
            skipped: 0,
        }
    }

    /// Returns the next step. A further call means that the events of the last [`Step::Store`] are
    /// stored.
    pub fn step(&mut self) -> Step {
        loop {
            match &mut self.stage {
                Stage::Climb(climb) => {
                    return match climb.take_ready() {
                        Some(kept) => self.hand_over(kept),
                        None => Step::Ask(climb.query()),
                    };
                }
                Stage::Probe => match &self.time_climb {
                    Some(climb) => return Step::Ask(climb.query(self.since)),
                    None => self.stage = Stage::Up,
                },
                Stage::Down { after, .. } => {
                    return Step::Ask(ListQuery {
                        starting_after: after.clone(),
                        ending_before: None,
                        created_gte: self.since,
                        created_lte: None,
                        limit: self.limit,
                    });
                }
                Stage::Up => {
                    if let Some(kept) = self.kept.pop_back() {
                        if !kept.events.is_empty() {
                            return self.hand_over(kept);
                        }
                    } else if let Some(place) = self.places.pop_back() {
                        self.descent = Descent::new();
                        self.resumed.insert(place.clone());
                        self.limit = LARGEST_PAGE;
                        self.stage = Stage::Down { after: place, most: LARGEST_PAGE };
                    } else if self.time_climb.is_some() {
                        self.climb_on();
                    } else {
                        return Step::Done { from_top: !self.short };
                    }
                }
            }
        }
    }

    /// Takes the answer to the last [`Step::Ask`]. `floor` is the position of the stream. Returns the
    /// result of the page, unless it leads no further than the one before.
    ///
    /// # Errors
    /// [`NoProgress`] if the page repeats an earlier one. The walk stays where it is.
    pub fn page(&mut self, page: Page, floor: &Position) -> Result<Option<Reached>, NoProgress> {
        let skipped = page.skipped.as_ref().map_or(0, |skipped| skipped.count);
        let reached = match &mut self.stage {
            Stage::Down { .. } => match self.down(page, floor) {
                Err(NoProgress) if self.time_climb.is_some() => {
                    self.end_time_climb();
                    None
                }
                reached => reached?,
            },
            Stage::Probe => {
                self.probed(page, floor);
                None
            }
            Stage::Climb(climb) => {
                let top = self.kept.back().map_or(&[][..], |kept| &kept.events);
                match climb.page(page, top) {
                    Climbed::Further => None,
                    Climbed::Higher => Some(Reached::Higher),
                    Climbed::Joined(kept) => {
                        self.kept.push_back(kept);
                        self.stage = Stage::Up;
                        Some(Reached::Known)
                    }
                    Climbed::Lost => {
                        self.give_up_climb();
                        None
                    }
                }
            }
            Stage::Up => return Ok(None),
        };
        self.skipped += skipped;
        Ok(reached)
    }

    /// Notes that the requested page has not arrived; `is_final` says that the same request will fail
    /// again. Returns whether the walk has another request next.
    pub fn failed(&mut self, is_final: bool) -> bool {
        let is_over = match (&mut self.stage, &mut self.time_climb) {
            (Stage::Climb(climb), _) => climb.failed(is_final),
            (Stage::Probe, Some(climb)) => climb.failed(is_final),
            _ => false,
        };
        if is_over {
            self.give_up_climb();
            self.end_time_climb();
        }
        is_over
    }

    fn hand_over(&mut self, kept: Kept) -> Step {
        if let Some(climb) = &mut self.time_climb {
            climb.handed += kept.events.len();
        }
        self.passed = kept.events.first().map(|event| event.id.clone()).or(self.passed.take());
        Step::Store(kept.into_stretch())
    }

    /// Notes that the requested page cannot be read: half of it is requested next. Returns whether that
    /// can help.
    pub fn unreadable(&mut self) -> bool {
        let of_use = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        of_use
    }

    /// Returns whether the walk has requested only its first page so far.
    pub fn is_at_top(&self) -> bool {
        matches!(self.stage, Stage::Down { after: None, .. }) && self.kept.is_empty()
    }

    /// Returns how far down the walk has come, in Unix seconds: no entry of its lowest page is newer.
    pub const fn depth(&self) -> Option<i64> {
        self.descent.depth
    }

    /// Returns the number of entries of the list that were not events.
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Goes on after the walk has ended below the top: from the top down to the newest event that it
    /// has handed on. No event below that is read again, even if the floor, which need not be on the
    /// list, has not moved.
    pub fn go_on(&mut self) {
        let passed = self.passed.take();
        *self = Self { skipped: self.skipped, passed, ..Self::down_to(self.budget, self.since) };
    }

    /// Begins again at the top, since Pepay has forgotten the event from which the walk went on.
    pub fn restart(&mut self) {
        *self = Self { skipped: self.skipped, ..Self::down_to(self.budget, self.since) };
    }
}

impl Kept {
    /// Creates the kept form of a page that was requested from `place` on.
    fn of(place: Option<EventId>, page: Page) -> Self {
        let bytes = page.events.iter().map(|event| event.body.len()).sum();
        Self { place, events: page.events, bytes, received_at: page.received_at }
    }

    /// Returns its events, oldest first.
    fn into_stretch(self) -> Stretch {
        let mut events: Vec<_> = self.events.into_iter().rev().collect();
        // In a sorted list this changes nothing.
        events.sort_by_key(moment);
        Stretch { events, received_at: self.received_at }
    }
}

/// Returns the place of `event` in Pepay's order, as far as the event shows it.
fn moment(event: &Event) -> (i64, Option<(u64, u64)>) {
    (event.created, event.id.creation_order())
}

#[cfg(test)]
mod tests;
