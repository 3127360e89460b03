//! One way down the list: whether its pages lead anywhere, and what their order proves.

use std::collections::HashSet;

use super::{MARGIN, NoProgress};
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::Page;
use crate::store::types::Position;

/// Pages in a row that may begin with something newer than the page before them.
const STRAY_PAGES: u32 = 3;

/// What one descent has seen of the list so far.
#[derive(Debug)]
pub(super) struct Descent {
    /// The oldest event on the last page: id and creation time.
    pub(super) oldest: Option<(EventId, i64)>,
    /// The creation time of the last entry.
    last: Option<i64>,
    /// The creation time of the newest entry of the last page.
    newest: Option<i64>,
    /// The same of the page that came down furthest.
    pub(super) depth: Option<i64>,
    /// Whether every entry came newest first, give or take [`MARGIN`].
    pub(super) sorted: bool,
    /// The last entries in a row that are long before the floor.
    pub(super) older: usize,
    /// Pages in a row that went up instead.
    strays: u32,
    /// Where its pages ended.
    ends: HashSet<EventId>,
    /// Whether the last page said that nothing follows it.
    pub(super) ended: bool,
}

impl Descent {
    pub(super) fn new() -> Self {
        Self {
            oldest: None,
            last: None,
            newest: None,
            depth: None,
            sorted: true,
            older: 0,
            strays: 0,
            ends: HashSet::new(),
            ended: false,
        }
    }

    /// Whether `page` can be what comes after `after`.
    pub(super) fn check(&mut self, after: Option<&EventId>, page: &Page) -> Result<(), NoProgress> {
        let repeats = after.is_some_and(|after| page.events.iter().any(|event| event.id == *after));
        let circles = page.last.as_ref().is_some_and(|last| Some(last) == after || self.ends.contains(last));
        // By the newest entry of each page: one with an odd time does not count.
        let newest = page.events.iter().map(|event| event.created).max();
        let strays = match (newest, self.newest) {
            (Some(page), Some(before)) if page > before => self.strays + 1,
            _ => 0,
        };
        if repeats || circles || strays > STRAY_PAGES {
            return Err(NoProgress);
        }
        self.strays = strays;
        self.newest = newest.or(self.newest);
        self.depth = [self.depth, newest].into_iter().flatten().min();
        self.ends.extend(page.last.clone());
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

/// Whether `event` is so much older than `created`, in Unix seconds, that no
/// disagreement of clocks explains it.
pub(super) fn is_long_before(event: &Event, created: i64) -> bool {
    event.created < created.saturating_sub_unsigned(MARGIN.as_secs())
}
