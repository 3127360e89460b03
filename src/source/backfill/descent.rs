//! A descent down the list: it checks that its pages make progress, and what their order proves.

use super::ends::Ends;
use super::{Hole, Kept, MARGIN, NoProgress, Reached, Stage, Walk, moment};
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, Page};
use crate::store::types::Position;

/// The number of pages in a row that may begin with a newer event than the page before.
const STRAY_PAGES: u32 = 3;

/// The number of entries in a row that have to be older than the floor before the order of the list
/// counts as proof that the rest is older.
const OLDER_RUN: usize = LARGEST_PAGE as usize;

/// The number of answers in a row that have to say that the list ends. More are needed if that means
/// that Pepay has forgotten the event that the walk goes down to: an answer may be wrong a few times,
/// and an event that counts as forgotten is not looked for again.
const ENDS: u32 = 2;
const ENDS_BEFORE_THE_KNOWN: u32 = 6;

/// The state of a descent.
#[derive(Debug)]
pub(super) struct Descent {
    /// The number of its pages.
    pub(super) pages: u32,
    /// The oldest event on the last page: id and creation time.
    pub(super) oldest: Option<(EventId, i64)>,
    /// The creation time of the last entry.
    last: Option<i64>,
    /// The creation time of the newest entry of the last page.
    newest: Option<i64>,
    /// The same for the page that came down furthest.
    pub(super) depth: Option<i64>,
    /// Whether every entry came newest first, give or take [`MARGIN`].
    pub(super) sorted: bool,
    /// The number of the last entries in a row that are long before the floor.
    pub(super) older: usize,
    /// The number of pages in a row that went up instead.
    strays: u32,
    /// The ids at which its pages ended.
    ends: Ends,
    /// The number of answers in a row that said that no entry follows the same one.
    ends_in_a_row: u32,
}

impl Descent {
    pub(super) fn new() -> Self {
        Self {
            pages: 0,
            oldest: None,
            last: None,
            newest: None,
            depth: None,
            sorted: true,
            older: 0,
            strays: 0,
            ends: Ends::default(),
            ends_in_a_row: 0,
        }
    }

    /// Checks that `page` can be the page after `after`.
    pub(super) fn check(&mut self, after: Option<&EventId>, page: &Page) -> Result<(), NoProgress> {
        let repeats = after.is_some_and(|after| page.events.iter().any(|event| event.id == *after));
        let circles = page.last.as_ref().is_some_and(|last| Some(last) == after || self.ends.have(last));
        // Pages are compared by their newest entries, so that one odd time does not count.
        // An event without a time has that of its arrival, which only shows when it was read.
        let arrived = page.received_at.seconds();
        let newest = page.events.iter().map(|event| event.created).filter(|created| *created < arrived).max();
        let strays = match (newest, self.newest) {
            (Some(page), Some(before)) if page > before => self.strays + 1,
            _ => 0,
        };
        if repeats || circles || strays > STRAY_PAGES {
            return Err(NoProgress);
        }
        self.pages += 1;
        self.strays = strays;
        self.newest = newest.or(self.newest);
        self.depth = [self.depth, newest].into_iter().flatten().min();
        if let Some(last) = &page.last {
            self.ends.note(last);
        }
        Ok(())
    }

    pub(super) fn note(&mut self, events: &[Event], floor: &Position) {
        let margin = i64::try_from(MARGIN.as_secs()).unwrap_or(i64::MAX);
        for event in events {
            self.sorted &= self.last.is_none_or(|last| event.created <= last.saturating_add(margin));
            self.last = Some(event.created);
            self.older = if is_long_before(event, floor.created) { self.older + 1 } else { 0 };
        }
        if let Some(event) = events.last() {
            self.oldest = Some((event.id.clone(), event.created));
        }
    }
}

impl Walk {
    /// Takes a page of a descent.
    pub(super) fn down(&mut self, page: Page, floor: &Position) -> Result<Option<Reached>, NoProgress> {
        let Stage::Down { after, most } = &mut self.stage else { return Ok(None) };
        self.descent.check(after.as_ref(), &page)?;
        self.limit = self.limit.saturating_mul(2).min(*most);
        let ends = [floor.event.as_ref(), self.passed.as_ref()];
        let is_known = |event: &Event| ends.contains(&Some(&event.id));
        let known = page.events.iter().position(is_known);
        let place = after.clone();
        if page.last.is_some() {
            after.clone_from(&page.last);
        }
        let has_more = page.has_more;
        self.descent.ends_in_a_row = match (has_more, &page.last) {
            (true, _) => 0,
            (false, Some(_)) => 1,
            (false, None) => self.descent.ends_in_a_row.saturating_add(1),
        };
        let now = page.server_time.unwrap_or(page.received_at).seconds();
        let mut page = Kept::of(place, page);
        if let Some(known) = known {
            // An event that is newer and yet below it is not among those that it proves to be stored.
            let mut below = page.events.split_off(known).into_iter();
            let newest = below.next().map(|known| place_of(&known, floor, now));
            page.events.extend(below.filter(|event| Some(moment(event)) > newest));
        }
        self.descent.note(&page.events, floor);
        self.kept.push_back(page);
        let reached = if known.is_some() {
            Some(Reached::Known)
        } else if self.descent.sorted && self.descent.older >= OLDER_RUN {
            self.drop_older(floor);
            Some(Reached::Older)
        } else if self.descent.ends_in_a_row < self.ends_to_believe(floor) {
            None
        } else {
            let before = self.descent.oldest.clone();
            let hole = floor.event.clone().map(|event| Hole { after: (event, floor.created), before });
            if self.descent.sorted {
                self.drop_older(floor);
            }
            Some(Reached::End(hole))
        };
        self.make_room(floor);
        if reached.is_some() {
            self.stage = Stage::Up;
        } else if has_more {
            self.try_climb(floor);
        }
        Ok(reached)
    }

    /// Returns how many answers in a row have to say that the list ends here.
    fn ends_to_believe(&self, floor: &Position) -> u32 {
        // A list without any event is never believed.
        let forgets = floor.event.is_some() && self.descent.oldest.is_some();
        if forgets { ENDS_BEFORE_THE_KNOWN } else { ENDS }
    }

    /// Returns whether the list has said more than once that it ends here, and has to be asked again.
    pub fn doubts_the_end(&self) -> bool {
        matches!(self.stage, Stage::Down { .. }) && self.descent.ends_in_a_row >= ENDS
    }

    /// Drops the last entries that are long before `floor`: they proved that the floor was reached, and
    /// are not among the missed events.
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
                // The list leads back here: another walk has to bring the events that this one cannot
                // hold.
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

/// Returns the place in Pepay's order of the known event, which is listed at `now`, in Unix seconds. A
/// time in the future says nothing. Then the place is that of `floor`, which has the time of arrival.
fn place_of(known: &Event, floor: &Position, now: i64) -> (i64, Option<(u64, u64)>) {
    let is_floor = floor.event.as_ref() == Some(&known.id) && floor.created > 0;
    if is_floor && known.created > now { (floor.created, None) } else { moment(known) }
}

/// Returns whether `event` is so much older than `created`, in Unix seconds, that no difference of
/// clocks explains it.
fn is_long_before(event: &Event, created: i64) -> bool {
    event.created < created.saturating_sub_unsigned(MARGIN.as_secs())
}
