//! Closing a gap from the REST list, as a pure value: pages go in, the next
//! request and the events in Pepay's order come out.
//!
//! The list is newest first, and `starting_after` (older ones) is the one
//! direction whose pages are documented: with `ending_before`, which side of a
//! longer gap comes first is not. So a walk begins at the top of the list and
//! goes *down* until it sees the event it knows, and that sight is the proof:
//! between the top and that event nothing is left out, whatever a server thinks
//! of page order. Then it hands the events *up*, oldest first.
//!
//! If the known event is not among the first [`Budget::descent`] pages, the walk
//! keeps those and tries to climb from the known event: each page is handed
//! on at once, until one meets the pages that are kept. Where the list does not show
//! that a page is the next one, or no event is known, it climbs by time: the list is
//! read in stretches of time, the oldest first. Where that is of no use either, the
//! descent goes on.
//!
//! Without that sight only the order of the list itself proves that the rest is
//! older: every entry so far came newest first, and a whole page of entries is
//! older than the floor by more than [`MARGIN`]. Where the list just ends, what follows is
//! asked for again: no single answer ends a walk, and six have to say so where it ends
//! without the known event.
//!
//! A gap may be longer than memory. Only the oldest pages of a descent are kept;
//! of a newer one only the place where it began, to which the walk descends again
//! once everything below is stored.

mod climb;
mod descent;
mod time_climb;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};
use crate::store::types::Position;

use climb::{Climb, Climbed};
use descent::Descent;
use time_climb::TimeClimb;

/// How much older than the cursor an event has to be to prove that the walk has
/// passed it: Pepay's machines may disagree about the time, within reason.
pub const MARGIN: Duration = Duration::from_secs(300);

/// How many events the first descent asks for. One less than the largest page,
/// so that a page that is read again at full size also shows the stored event
/// below it, which ends that descent.
const FIRST_LIMIT: u16 = LARGEST_PAGE - 1;

/// What a walk may hold.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Events in memory, give or take a page.
    pub events: usize,
    /// Bytes of their bodies, give or take a page.
    pub bytes: usize,
    /// Places to descend to again, one for each page that memory did not hold.
    pub places: usize,
    /// Pages of a descent before a climb is tried.
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
    /// What was created before this, in Unix seconds, is not asked for.
    since: Option<i64>,
    stage: Stage,
    /// Where descents are still to begin, the newest first; `None` is the top.
    places: VecDeque<Option<EventId>>,
    /// Where descents have begun again: each place is good for one.
    resumed: HashSet<Option<EventId>>,
    /// Pages of this descent that are kept, the newest first.
    kept: VecDeque<Kept>,
    /// Whether a place was given up, so that the walk ends below the top.
    short: bool,
    /// Entries to ask for: fewer after a page that could not be read.
    limit: u16,
    descent: Descent,
    /// Which way up may still be tried.
    way_up: WayUp,
    /// The climb by time that is under way.
    time_climb: Option<Box<TimeClimb>>,
    /// The newest event that was handed on.
    passed: Option<EventId>,
    /// Entries that were no events.
    skipped: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Reading older and older pages, of at most this many entries; the next is
    /// what is older than `after`.
    Down { after: Option<EventId>, most: u16 },
    /// Reading newer and newer pages, and handing them over.
    Climb(Climb),
    /// Looking for where the next descent of a climb by time begins.
    Probe,
    /// Handing over what was kept.
    Up,
}

/// A way to hand on the oldest events of a long gap before all of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WayUp {
    /// From the known event on; then by time.
    Known,
    /// By time.
    Time,
    /// There is none.
    None,
}

#[derive(Debug, PartialEq, Eq)]
struct Kept {
    /// What its request started after.
    place: Option<EventId>,
    events: Vec<Event>,
    bytes: usize,
    received_at: UnixMillis,
}

/// Events a walk hands over, in Pepay's order.
#[derive(Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// When their page had arrived.
    pub received_at: UnixMillis,
}

/// A stretch of history that Pepay no longer shows: between these two, events
/// may have been lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last event known to be stored, and its creation time in Unix seconds.
    pub after: (EventId, i64),
    /// The first event after it that Pepay still has; `None` if it has none.
    pub before: Option<(EventId, i64)>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for this page, and give the answer to [`Walk::page`].
    Ask(ListQuery),
    /// Store these; ask again once they are.
    Store(Stretch),
    /// The walk is over.
    Done {
        /// Whether it began at the top of the list, as that was when the first
        /// page was asked for. If not, another walk is needed.
        from_top: bool,
    },
}

/// What a page has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// More events that can be handed over, next to those that were.
    Higher,
    /// The known event: everything above it has been read.
    Known,
    /// A page of events that are older than the known one, in a list that is in order.
    Older,
    /// The list ended, as several answers in a row have shown, and the known event was
    /// not on it. With what may be missing, if an event was known.
    End(Option<Hole>),
}

/// The server answered with what it was asked to leave out, or with what it has
/// answered before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event list does not move past its cursor")]
pub struct NoProgress;

impl Walk {
    /// A walk from the top of the list.
    pub fn new(budget: Budget) -> Self {
        Self::down_to(budget, None)
    }

    /// A walk from the top of the list that asks for nothing that was created
    /// before `since`, in Unix seconds.
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

    /// What to do next. Asking again means that the last [`Step::Store`] is stored.
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

    /// The answer to the last [`Step::Ask`]. `floor` is where the stream stands.
    /// Returns what the page came to, unless it leads no further than the one before it.
    ///
    /// # Errors
    /// [`NoProgress`] if the page repeats what came before it. The walk stays where
    /// it is.
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

    /// The page that was asked for has not arrived; `is_final` says that the same
    /// request will not do better. Returns whether the walk asks for something else next.
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

    /// The page that was asked for cannot be read: half of it is asked for next.
    /// Returns whether that is of use.
    pub fn unreadable(&mut self) -> bool {
        let of_use = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        of_use
    }

    /// Whether the walk has asked for nothing but its first page so far.
    pub fn is_at_top(&self) -> bool {
        matches!(self.stage, Stage::Down { after: None, .. }) && self.kept.is_empty()
    }

    /// How far down the walk has come: no entry of its lowest page is newer, in Unix seconds.
    pub const fn depth(&self) -> Option<i64> {
        self.descent.depth
    }

    /// Entries of the list that were no events.
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Goes on after it has ended below the top: from the top down to the newest event
    /// that it has handed over. Below that nothing is read again, even where the floor,
    /// which need not be on the list, has not moved.
    pub fn go_on(&mut self) {
        let passed = self.passed.take();
        *self = Self { skipped: self.skipped, passed, ..Self::down_to(self.budget, self.since) };
    }

    /// Begins again at the top: what it was going by has been forgotten by Pepay.
    pub fn restart(&mut self) {
        *self = Self { skipped: self.skipped, ..Self::down_to(self.budget, self.since) };
    }
}

impl Kept {
    /// A page that was asked for from `place` on.
    fn of(place: Option<EventId>, page: Page) -> Self {
        let bytes = page.events.iter().map(|event| event.body.len()).sum();
        Self { place, events: page.events, bytes, received_at: page.received_at }
    }

    /// Its events, oldest first.
    fn into_stretch(self) -> Stretch {
        let mut events: Vec<_> = self.events.into_iter().rev().collect();
        // In a list that is in order this changes nothing.
        events.sort_by_key(moment);
        Stretch { events, received_at: self.received_at }
    }
}

/// Where `event` stands in Pepay's order, as far as it tells.
fn moment(event: &Event) -> (i64, Option<(u64, u64)>) {
    (event.created, event.id.creation_order())
}

#[cfg(test)]
mod tests;
