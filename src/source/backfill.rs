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
//! Without that sight only the order of the list itself proves that the rest is
//! older: every entry so far came newest first, and a whole page of entries is
//! older than the floor by more than [`MARGIN`]. Where the list just ends, one more
//! page is asked for: no single answer ends a walk.
//!
//! A gap may be longer than memory. Only the oldest pages of a descent are kept;
//! of a newer one only the place where it began, to which the walk descends again
//! once everything below is stored.

mod descent;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};
use crate::store::types::Position;

use descent::{Descent, is_long_before};

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
}

impl Budget {
    /// Enough for ten thousand events at once and a gap of two million.
    pub const DEFAULT: Self = Self { events: 10_000, bytes: 16 * 1024 * 1024, places: 20_000 };
}

/// Entries in a row that have to be older than the floor before the order of the
/// list counts as proof that the rest is.
const OLDER_RUN: usize = LARGEST_PAGE as usize;

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
    /// Entries that were no events.
    skipped: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Reading older and older pages, of at most this many entries; the next is
    /// what is older than `after`.
    Down { after: Option<EventId>, most: u16 },
    /// Handing over what was kept.
    Up,
}

#[derive(Debug)]
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

/// What a descent has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bottom {
    /// The known event: everything above it has been read.
    Known,
    /// A page of events that are older than the known one, in a list that is in order.
    Older,
    /// The list ended, as two answers in a row have shown, and the known event was
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
            skipped: 0,
        }
    }

    /// What to do next. Asking again means that the last [`Step::Store`] is stored.
    pub fn step(&mut self) -> Step {
        loop {
            match &self.stage {
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
                            let mut events: Vec<_> = kept.events.into_iter().rev().collect();
                            // In a list that is in order this changes nothing.
                            events.sort_by_key(moment);
                            return Step::Store(Stretch { events, received_at: kept.received_at });
                        }
                    } else if let Some(place) = self.places.pop_back() {
                        self.descent = Descent::new();
                        self.resumed.insert(place.clone());
                        self.limit = LARGEST_PAGE;
                        self.stage = Stage::Down { after: place, most: LARGEST_PAGE };
                    } else {
                        return Step::Done { from_top: !self.short };
                    }
                }
            }
        }
    }

    /// The answer to the last [`Step::Ask`]. `floor` is where the stream stands.
    /// Returns what the descent came to, if this page is its last.
    ///
    /// # Errors
    /// [`NoProgress`] if the page repeats what came before it. The walk stays where
    /// it is.
    pub fn page(&mut self, page: Page, floor: &Position) -> Result<Option<Bottom>, NoProgress> {
        let Stage::Down { after, most } = &mut self.stage else { return Ok(None) };
        self.descent.check(after.as_ref(), &page)?;
        self.limit = self.limit.saturating_mul(2).min(*most);
        self.skipped += page.skipped.as_ref().map_or(0, |skipped| skipped.count);
        let known = floor.event.as_ref();
        let known = known.and_then(|known| page.events.iter().position(|event| event.id == *known));
        let place = after.clone();
        if page.last.is_some() {
            after.clone_from(&page.last);
        }
        let is_confirmed = std::mem::replace(&mut self.descent.ended, !page.has_more) && page.last.is_none();
        let mut events = page.events;
        if let Some(known) = known {
            // What is newer and yet stands below it is none of what it proves to be stored.
            let below = events.split_off(known);
            let newest = below.first().map(moment);
            events.extend(below.into_iter().filter(|event| Some(moment(event)) > newest));
        }
        self.descent.note(&events, floor);
        let bytes = events.iter().map(|event| event.body.len()).sum();
        self.kept.push_back(Kept { place, events, bytes, received_at: page.received_at });
        let bottom = if known.is_some() {
            Some(Bottom::Known)
        } else if self.descent.sorted && self.descent.older >= OLDER_RUN {
            self.drop_older(floor);
            Some(Bottom::Older)
        } else if page.has_more || !is_confirmed {
            None
        } else {
            let before = self.descent.oldest.clone();
            let hole = floor.event.clone().map(|event| Hole { after: (event, floor.created), before });
            if self.descent.sorted {
                self.drop_older(floor);
            }
            Some(Bottom::End(hole))
        };
        self.make_room(floor);
        if bottom.is_some() {
            self.stage = Stage::Up;
        }
        Ok(bottom)
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

    /// Begins again at the top: what it was going by has been forgotten by Pepay.
    pub fn restart(&mut self) {
        *self = Self { skipped: self.skipped, ..Self::down_to(self.budget, self.since) };
    }

    /// Drops the last entries that are long before `floor`: they proved that the
    /// floor was reached, and are none of what was missed.
    fn drop_older(&mut self, floor: &Position) {
        for kept in self.kept.iter_mut().rev() {
            while let Some(event) = kept.events.pop_if(|event| is_long_before(event, floor.created)) {
                kept.bytes -= event.body.len();
            }
            if !kept.events.is_empty() {
                return;
            }
        }
    }

    fn make_room(&mut self, floor: &Position) {
        if self.is_over_budget() && self.descent.sorted {
            self.drop_older(floor);
        }
        while self.kept.len() > 1 && self.is_over_budget() {
            let Some(newest) = self.kept.pop_front() else { return };
            if self.resumed.contains(&newest.place) {
                // The list leads back here: another walk has to bring what this one cannot hold.
                self.short = true;
            } else {
                self.places.push_back(newest.place);
            }
        }
        while self.places.len() > self.budget.places {
            self.places.pop_front();
            self.short = true;
        }
    }

    fn is_over_budget(&self) -> bool {
        let events: usize = self.kept.iter().map(|page| page.events.len()).sum();
        let bytes: usize = self.kept.iter().map(|page| page.bytes).sum();
        events > self.budget.events || bytes > self.budget.bytes
    }
}

/// Where `event` stands in Pepay's order, as far as it tells.
fn moment(event: &Event) -> (i64, Option<(u64, u64)>) {
    (event.created, event.id.creation_order())
}

#[cfg(test)]
mod tests;
