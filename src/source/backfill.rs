//! Closing a gap from the REST list, as a pure value: pages go in, the next
//! request and the events in Pepay's order come out.
//!
//! The list is newest first, and `starting_after` (older ones) is the one
//! direction whose pages are documented: with `ending_before`, which side of a
//! longer gap comes first is not. So a walk begins at the top of the list and
//! goes *down* until it sees the event it knows, and that sight is the proof:
//! between the top and that event nothing is left out, whatever a server thinks
//! of page order. Then it hands the events *up*, oldest first. A cursor that Pepay
//! has forgotten shows itself the same way, by not being there.
//!
//! A gap may be longer than memory. Only the oldest pages of a descent are kept;
//! of a newer one only the place where it began, to which the walk descends again
//! once everything below is stored.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};
use crate::store::inbox::Position;

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
    /// Enough for two thousand events at once and a gap of two million.
    pub const DEFAULT: Self = Self { events: 2_000, bytes: 16 * 1024 * 1024, places: 20_000 };
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
    /// Pages of this descent that are kept, the newest first.
    kept: VecDeque<Kept>,
    /// Whether a place was given up, so that the walk ends below the top.
    short: bool,
    /// The oldest event this descent has seen: id and creation time.
    oldest: Option<(EventId, i64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// Reading older and older pages; the next is what is older than `after`.
    Down { after: Option<EventId>, limit: u16 },
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

/// The server answered with what it was asked to leave out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event list does not move past its cursor")]
pub struct NoProgress;

impl Walk {
    /// A walk from the top of the list.
    pub fn new(budget: Budget) -> Self {
        Self::down_to(budget, None)
    }

    /// A walk from the top of the list down to what was created at `since`, in Unix
    /// seconds, or to the floor, if that is newer.
    pub fn since(budget: Budget, since: i64) -> Self {
        Self::down_to(budget, Some(since))
    }

    fn down_to(budget: Budget, since: Option<i64>) -> Self {
        Self {
            budget,
            since,
            stage: Stage::Down { after: None, limit: FIRST_LIMIT },
            places: VecDeque::new(),
            kept: VecDeque::new(),
            short: false,
            oldest: None,
        }
    }

    /// What to do next. Asking again means that the last [`Step::Store`] is stored.
    pub fn step(&mut self) -> Step {
        loop {
            match &self.stage {
                Stage::Down { after, limit } => {
                    return Step::Ask(ListQuery {
                        starting_after: after.clone(),
                        ending_before: None,
                        created_gte: self.since,
                        created_lte: None,
                        limit: *limit,
                    });
                }
                Stage::Up => {
                    if let Some(kept) = self.kept.pop_back() {
                        if !kept.events.is_empty() {
                            let events = kept.events.into_iter().rev().collect();
                            return Step::Store(Stretch { events, received_at: kept.received_at });
                        }
                    } else if let Some(place) = self.places.pop_back() {
                        self.oldest = None;
                        self.stage = Stage::Down { after: place, limit: LARGEST_PAGE };
                    } else {
                        return Step::Done { from_top: !self.short };
                    }
                }
            }
        }
    }

    /// The answer to the last [`Step::Ask`]. `floor` is where the stream stands.
    /// Says so if the page shows that history is missing above it.
    ///
    /// # Errors
    /// [`NoProgress`] if the page repeats what came before it; ask again.
    pub fn page(&mut self, page: Page, floor: &Position) -> Result<Option<Hole>, NoProgress> {
        let Stage::Down { after, .. } = &mut self.stage else { return Ok(None) };
        if let Some(after) = after
            && (page.last.as_ref() == Some(after) || page.events.iter().any(|event| event.id == *after))
        {
            return Err(NoProgress);
        }
        let since = self.since;
        // A list that takes no notice of the bound is not read to its end.
        let is_older = |event: &Event| since.is_some_and(|since| is_long_before(event, since));
        let known = page.events.iter().position(|event| is_known(event, floor) || is_older(event));
        let place = std::mem::replace(after, page.last);
        let mut events = page.events;
        if let Some(event) = events.last() {
            self.oldest = Some((event.id.clone(), event.created));
        }
        events.truncate(known.unwrap_or(events.len()));
        let bytes = events.iter().map(|event| event.body.len()).sum();
        self.kept.push_back(Kept { place, events, bytes, received_at: page.received_at });
        self.make_room();
        if known.is_some() || !page.has_more {
            self.stage = Stage::Up;
        }
        Ok(if known.is_none() && !page.has_more { self.hole(floor) } else { None })
    }

    /// Whether the walk has asked for nothing but its first page so far.
    pub fn is_at_top(&self) -> bool {
        matches!(self.stage, Stage::Down { after: None, .. }) && self.kept.is_empty()
    }

    /// Begins again at the top: what it was going by has been forgotten by Pepay.
    pub fn restart(&mut self) {
        *self = Self::down_to(self.budget, self.since);
    }

    fn make_room(&mut self) {
        let kept = |count: fn(&Kept) -> usize, pages: &VecDeque<Kept>| pages.iter().map(count).sum::<usize>();
        while self.kept.len() > 1
            && (kept(|page| page.events.len(), &self.kept) > self.budget.events
                || kept(|page| page.bytes, &self.kept) > self.budget.bytes)
        {
            let Some(newest) = self.kept.pop_front() else { return };
            self.places.push_back(newest.place);
        }
        while self.places.len() > self.budget.places {
            self.places.pop_front();
            self.short = true;
        }
    }

    /// The list ended and the known event was not on it. An older one that is
    /// still there shows that Pepay has not begun to forget; without it, the
    /// list may have been cut anywhere.
    fn hole(&self, floor: &Position) -> Option<Hole> {
        let known = floor.event.clone()?;
        let cut = self.oldest.as_ref().is_none_or(|(_, created)| *created >= floor.created);
        cut.then(|| Hole { after: (known, floor.created), before: self.oldest.clone() })
    }
}

/// Whether everything from `event` on is stored: it is the known event, or so
/// much older that the known one must be newer. (The known one is absent if it
/// does not pass the filters, which may have changed since.)
fn is_known(event: &Event, floor: &Position) -> bool {
    floor.event.as_ref().is_some_and(|known| event.id == *known || is_long_before(event, floor.created))
}

fn is_long_before(event: &Event, created: i64) -> bool {
    event.created < created.saturating_sub_unsigned(MARGIN.as_secs())
}

#[cfg(test)]
mod tests;
