//! The climb from the known event, for a long gap: each page is handed on as soon as it is read.
//!
//! `ending_before` returns events newer than a given one. It is not documented which page of these
//! comes first, so every page has to prove that it is the next one. The first page is proven by a
//! second request: the entry after its oldest one is the known event. Each further page is requested
//! from one entry below the newest handed on event, and has to end with that event. The climb is over
//! when a page meets the pages of the descent, and given up when a page proves nothing.

use super::{Kept, Stage, Walk, WayUp};
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};
use crate::store::types::Position;

/// The number of failures in a row, even if they may heal, after which a climb is given up.
const FAILURES: u32 = 3;

/// A climb.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Climb {
    /// The place where the descent goes on if the climb is given up.
    pub(super) after: EventId,
    /// The limit of its pages.
    pub(super) most: u16,
    next: NextPage,
    /// The page to hand on next.
    ready: Option<Kept>,
    failures: u32,
}

/// What is known about the page to read next.
#[derive(Debug, PartialEq, Eq)]
enum NextPage {
    /// It has to be the page after the known event.
    Known(EventId),
    /// This page was read, and is not yet proven to be the one after the known event.
    Unproven { known: EventId, oldest: EventId, page: Kept },
    /// It has to end with `newest`, and `below` comes right before that.
    Proven { below: EventId, newest: EventId },
}

/// The result of a page of a climb.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Climbed {
    /// Another page is needed.
    Further,
    /// There are events to hand on.
    Higher,
    /// The page meets those of the descent; these are the events below them.
    Joined(Kept),
    /// The page is not the next one.
    Lost,
}

impl Climb {
    pub(super) const fn new(known: EventId, after: EventId, most: u16) -> Self {
        Self { after, most, next: NextPage::Known(known), ready: None, failures: 0 }
    }

    /// Returns the request for the next page.
    pub(super) fn query(&self) -> ListQuery {
        let (starting_after, ending_before, limit) = match &self.next {
            NextPage::Known(known) => (None, Some(known), LARGEST_PAGE),
            NextPage::Unproven { oldest, .. } => (Some(oldest), None, 1),
            NextPage::Proven { below, .. } => (None, Some(below), LARGEST_PAGE),
        };
        ListQuery {
            starting_after: starting_after.cloned(),
            ending_before: ending_before.cloned(),
            created_gte: None,
            created_lte: None,
            limit,
        }
    }

    /// Returns the page to hand on, if there is one.
    pub(super) const fn take_ready(&mut self) -> Option<Kept> {
        self.ready.take()
    }

    /// Takes the answer to [`query`](Self::query). `top` is the lowest page of the descent.
    pub(super) fn page(&mut self, page: Page, top: &[Event]) -> Climbed {
        self.failures = 0;
        match &mut self.next {
            NextPage::Known(known) => {
                let is_odd = page.events.iter().any(|event| event.id == *known);
                let Some(oldest) = page.last.clone().filter(|_| !is_odd && !page.events.is_empty()) else {
                    return Climbed::Lost;
                };
                self.next = NextPage::Unproven { known: known.clone(), oldest, page: Kept::of(None, page) };
                Climbed::Further
            }
            NextPage::Unproven { known, page: kept, .. } => {
                if page.events.first().is_none_or(|event| event.id != *known) {
                    return Climbed::Lost;
                }
                let kept = std::mem::replace(kept, Kept::of(None, page));
                let below = known.clone();
                self.hand_on(kept, below, top)
            }
            NextPage::Proven { newest, .. } => {
                let is_next = page.last.as_ref() == Some(newest);
                let mut kept = Kept::of(None, page);
                let Some(newest) = kept.events.pop_if(|event| is_next && event.id == *newest) else {
                    return Climbed::Lost;
                };
                if kept.events.is_empty() {
                    return Climbed::Lost;
                }
                self.hand_on(kept, newest.id, top)
            }
        }
    }

    /// Hands on the events of `page` that are not in `top`; `below` is the event right before them.
    fn hand_on(&mut self, mut page: Kept, below: EventId, top: &[Event]) -> Climbed {
        let joint = page.events.iter().rposition(|event| top.iter().any(|known| known.id == event.id));
        if let Some(joint) = joint {
            page.events.drain(..=joint);
            return Climbed::Joined(page);
        }
        let mut ids = page.events.iter().map(|event| event.id.clone());
        let Some(newest) = ids.next() else { return Climbed::Lost };
        self.next = NextPage::Proven { below: ids.next().unwrap_or(below), newest };
        self.ready = Some(page);
        Climbed::Higher
    }

    /// Notes that a page has not arrived. Returns whether the climb is given up; `is_final` says that
    /// the same request will fail again.
    pub(super) const fn failed(&mut self, is_final: bool) -> bool {
        self.failures += 1;
        is_final || self.failures >= FAILURES
    }
}

impl Walk {
    /// Interrupts the descent and climbs, if the known event is further down than a few pages.
    pub(super) fn try_climb(&mut self, floor: &Position) {
        let Stage::Down { after: Some(after), most } = &self.stage else { return };
        if self.descent.pages < self.budget.descent || self.time_climb.is_some() {
            return;
        }
        match (self.way_up, &floor.event) {
            (WayUp::Known, Some(known)) => {
                self.stage = Stage::Climb(Climb::new(known.clone(), after.clone(), *most));
            }
            (WayUp::Known | WayUp::Time, _) => self.try_time_climb(floor),
            (WayUp::None, _) => {}
        }
    }

    /// Goes on with the descent instead.
    pub(super) fn give_up_climb(&mut self) {
        if let Stage::Climb(climb) = &self.stage {
            self.way_up = WayUp::Time;
            self.stage = Stage::Down { after: Some(climb.after.clone()), most: climb.most };
        }
    }
}
