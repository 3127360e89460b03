//! The climb by time, for a long gap that cannot be climbed from the known event: there is none, Pepay
//! has forgotten it, or `ending_before` does not help.
//!
//! A probe requests one entry that was created by a certain time, and a descent begins right below that
//! entry. It ends like every other: at the newest handed on event, or where the list proves that no
//! event is left. So a time determines only where to begin. The handed on events are proven by ids, and
//! a list that ignores `created[lte]` only costs requests.

use std::collections::VecDeque;

use super::descent::Descent;
use super::{Kept, MARGIN, Stage, Walk, WayUp};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};
use crate::store::types::Position;

/// The number of probes in a row that may fail before the climb is given up.
const FAILURES: u32 = 3;

/// A climb by time. Times are creation times in Unix seconds.
#[derive(Debug)]
pub(super) struct TimeClimb {
    top: Top,
    /// All events that were created up to this time have been handed on.
    from: i64,
    /// Some event was created up to this time.
    upper: i64,
    /// The newest event that was created up to then, if it is known and below the top.
    found: Option<(Event, UnixMillis)>,
    /// The latest creation time of the event that the next probe requests.
    until: i64,
    /// The time that one descent covers.
    width: i64,
    /// How far below `upper` the next probe may look: more each time, so that a short
    /// history costs few probes.
    reach: i64,
    /// The number of events that were handed on since the last probe.
    pub(super) handed: usize,
    failures: u32,
}

/// The pages of the first descent, and the place where it goes on.
#[derive(Debug)]
struct Top {
    kept: VecDeque<Kept>,
    places: VecDeque<Option<EventId>>,
    descent: Descent,
    after: EventId,
    most: u16,
    /// The creation time of its oldest event.
    oldest: i64,
    events: usize,
}

impl TimeClimb {
    /// Returns the number of events of the first descent in memory.
    #[cfg(test)]
    pub(super) fn top_events(&self) -> usize {
        self.top.kept.iter().map(|kept| kept.events.len()).sum()
    }

    /// Returns the request of the next probe, for events that were created at `since` or later.
    pub(super) const fn query(&self, since: Option<i64>) -> ListQuery {
        ListQuery {
            starting_after: None,
            ending_before: None,
            created_gte: since,
            created_lte: Some(self.until),
            limit: 1,
        }
    }

    /// Notes that a probe was not answered. Returns whether the climb is given up; `is_final` says that
    /// the same request will fail again.
    pub(super) const fn failed(&mut self, is_final: bool) -> bool {
        self.failures += 1;
        is_final || self.failures >= FAILURES
    }

    /// Aims at the first `width` after the handed on events. Returns whether that is below the top.
    fn aim(&mut self) -> bool {
        (self.upper, self.found) = (self.top.oldest, None);
        self.reach = self.width.saturating_mul(4);
        self.until = self.from.saturating_add(self.width).min(self.top.oldest - 1);
        self.until > self.from
    }

    /// Sets the width of the next descent so that it brings about as many events as the first one. A
    /// stretch that was partly empty does not make the next one longer than memory.
    fn adapt(&mut self) {
        let number = |count: usize| i64::try_from(count.max(1)).unwrap_or(i64::MAX);
        let fitting = self.width.saturating_mul(number(self.top.events)) / number(self.handed);
        self.width = fitting.clamp(self.width / 4, self.width.saturating_mul(2)).max(1);
        self.handed = 0;
    }
}

impl Walk {
    /// Interrupts the descent and climbs by time, if that may help.
    pub(super) fn try_time_climb(&mut self, floor: &Position) {
        let Stage::Down { after: Some(after), most } = &self.stage else { return };
        let Some((_, oldest)) = self.descent.oldest else { return };
        // No event below the known one has to be read. Without the time of the known event its place is
        // not known.
        let from = match floor.event {
            Some(_) if floor.created == 0 => return,
            Some(_) => floor.created.saturating_add_unsigned(MARGIN.as_secs()),
            None => floor.created.saturating_sub(1),
        };
        let newest = self.kept.iter().find_map(|kept| kept.events.first()).map(|event| event.created);
        let width = newest.unwrap_or(oldest).saturating_sub(oldest).max(1);
        let (after, most) = (after.clone(), *most);
        let mut climb = TimeClimb {
            top: Top {
                events: self.kept.iter().map(|kept| kept.events.len()).sum(),
                kept: VecDeque::new(),
                places: VecDeque::new(),
                descent: Descent::new(),
                after,
                most,
                oldest,
            },
            from,
            upper: oldest,
            found: None,
            until: from,
            width,
            reach: width,
            handed: 0,
            failures: 0,
        };
        if climb.aim() {
            climb.top.kept = std::mem::take(&mut self.kept);
            climb.top.places = std::mem::take(&mut self.places);
            climb.top.descent = std::mem::replace(&mut self.descent, Descent::new());
            self.time_climb = Some(Box::new(climb));
            self.stage = Stage::Probe;
        }
    }

    /// Takes the answer to a probe.
    pub(super) fn probed(&mut self, mut page: Page, floor: &Position) {
        let Some(climb) = &mut self.time_climb else { return };
        climb.failures = 0;
        // If there are several entries, this is the one that the next page follows.
        let event = page.events.pop();
        if event.as_ref().is_some_and(|event| event.created > climb.until) {
            return self.end_time_climb();
        }
        let known = [floor.event.as_ref(), self.passed.as_ref()];
        let is_new = |event: &Event| event.created > climb.from && !known.contains(&Some(&event.id));
        match event.filter(is_new) {
            Some(event) => {
                climb.upper = event.created;
                climb.found = Some((event, page.received_at));
            }
            None => climb.from = climb.until,
        }
        let is_near = climb.upper.saturating_sub(climb.from) <= climb.width;
        match climb.found.take_if(|_| is_near) {
            Some((event, received_at)) => {
                climb.from = event.created;
                self.descend_from(event, received_at, floor);
            }
            None if is_near => self.end_time_climb(),
            None => {
                let middle = climb.from + (climb.upper - climb.from) / 2;
                climb.until = middle.max(climb.upper.saturating_sub(climb.reach));
                climb.reach = climb.reach.saturating_mul(4);
            }
        }
    }

    /// Reads and hands on the events below `event`, and `event` itself.
    fn descend_from(&mut self, event: Event, received_at: UnixMillis, floor: &Position) {
        let place = Some(event.id.clone());
        let kept = Kept { place: place.clone(), bytes: event.body.len(), events: vec![event], received_at };
        self.descent = Descent::new();
        self.descent.note(&kept.events, floor);
        self.kept.push_back(kept);
        self.limit = LARGEST_PAGE;
        self.stage = Stage::Down { after: place, most: LARGEST_PAGE };
    }

    /// Looks for the next stretch, after the last one was handed on.
    pub(super) fn climb_on(&mut self) {
        let Some(climb) = &mut self.time_climb else { return };
        climb.adapt();
        if climb.aim() {
            self.stage = Stage::Probe;
        } else {
            self.end_time_climb();
        }
    }

    /// Goes on with the first descent, down to the handed on events.
    pub(super) fn end_time_climb(&mut self) {
        if let Some(climb) = self.time_climb.take() {
            let Top { kept, places, descent, after, most, .. } = climb.top;
            (self.kept, self.places, self.descent) = (kept, places, descent);
            (self.limit, self.way_up) = (most, WayUp::None);
            self.stage = Stage::Down { after: Some(after), most };
        }
    }
}
