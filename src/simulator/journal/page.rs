//! Pages of the REST list, newest first, in either order and by either cursor.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Entry, Journal};
use crate::simulator::lock;
use crate::simulator::switches::{ListSort, PageOrder};

/// The cursor of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Cursor {
    Newest,
    OlderThan(String),
    NewerThan(String),
}

/// A page of the list, newest first.
#[derive(Debug)]
pub(in crate::simulator) struct Page {
    pub(in crate::simulator) entries: Vec<Arc<Entry>>,
    pub(in crate::simulator) has_more: bool,
}

/// The selection of a page and its order.
#[derive(Debug)]
pub(in crate::simulator) struct PageRequest<'a> {
    pub(in crate::simulator) cursor: &'a Cursor,
    pub(in crate::simulator) limit: usize,
    pub(in crate::simulator) order: PageOrder,
    pub(in crate::simulator) sort: ListSort,
    /// The number of the newest events that are listed.
    pub(in crate::simulator) retention: usize,
}

impl Journal {
    /// Returns a page of the listed events that `chosen` accepts; `None` if the cursor is not listed.
    pub(in crate::simulator) fn page(
        &self,
        request: &PageRequest<'_>,
        chosen: impl Fn(&Entry) -> bool,
    ) -> Option<Page> {
        let rings = lock(&self.rings);
        let oldest = rings.events.len().saturating_sub(request.retention);
        if request.sort == ListSort::Insertion {
            let index = |id: &str| rings.index_of(id).filter(|index| *index >= oldest);
            return page_of(&rings.events, oldest, index, request, chosen);
        }
        // Stable, so that events of one second stay in the order of insertion.
        let mut sorted: Vec<_> = rings.events.range(oldest..).cloned().collect();
        drop(rings);
        sorted.sort_by_key(|entry| entry.event.created);
        let sorted = VecDeque::from(sorted);
        let index = |id: &str| sorted.iter().position(|entry| entry.event.id.as_str() == id);
        page_of(&sorted, 0, index, request, chosen)
    }

    /// Returns the oldest listed event that `chosen` accepts.
    pub(in crate::simulator) fn oldest(
        &self,
        retention: usize,
        chosen: impl Fn(&Entry) -> bool,
    ) -> Option<Arc<Entry>> {
        let rings = lock(&self.rings);
        let oldest = rings.events.len().saturating_sub(retention);
        rings.events.range(oldest..).find(|entry| chosen(entry)).cloned()
    }
}

/// Returns a page of `events`, which are oldest first and listed from `oldest` on.
fn page_of(
    events: &VecDeque<Arc<Entry>>,
    oldest: usize,
    index: impl Fn(&str) -> Option<usize>,
    request: &PageRequest<'_>,
    chosen: impl Fn(&Entry) -> bool,
) -> Option<Page> {
    let PageRequest { cursor, limit, order, .. } = request;
    let (range, from_oldest) = match cursor {
        Cursor::Newest => (oldest..events.len(), false),
        Cursor::OlderThan(id) => (oldest..index(id)?, false),
        Cursor::NewerThan(id) => (index(id)? + 1..events.len(), *order == PageOrder::NextToCursor),
    };
    let candidates = events.range(range).filter(|entry| chosen(entry));
    // One entry more than the limit shows whether there is more.
    let mut entries: Vec<_> = if from_oldest {
        candidates.take(limit + 1).cloned().collect()
    } else {
        candidates.rev().take(limit + 1).cloned().collect()
    };
    let has_more = entries.len() > *limit;
    entries.truncate(*limit);
    if from_oldest {
        entries.reverse();
    }
    Some(Page { entries, has_more })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entry, ids, journal};
    use super::*;

    fn page(journal: &Journal, cursor: &Cursor, order: PageOrder) -> Option<(Vec<String>, bool)> {
        let request = PageRequest { cursor, limit: 2, order, sort: ListSort::Insertion, retention: 5 };
        let page = journal.page(&request, |_| true)?;
        Some((ids(&page.entries).into_iter().map(str::to_owned).collect(), page.has_more))
    }

    #[test]
    fn pages_are_newest_first_for_every_cursor() {
        let journal = journal(9, 1..=6);
        let newer = Cursor::NewerThan("e2".to_owned());
        let at = |ids: [&str; 2], more| Some((ids.map(str::to_owned).to_vec(), more));
        assert_eq!(page(&journal, &Cursor::Newest, PageOrder::Newest), at(["e6", "e5"], true));
        assert_eq!(page(&journal, &newer, PageOrder::NextToCursor), at(["e4", "e3"], true));
        assert_eq!(page(&journal, &newer, PageOrder::Newest), at(["e6", "e5"], true));
        let older = Cursor::OlderThan("e4".to_owned());
        assert_eq!(page(&journal, &older, PageOrder::Newest), at(["e3", "e2"], false));
    }

    #[test]
    fn a_cursor_that_is_no_longer_listed_gives_no_page() {
        let journal = journal(9, 1..=6);
        assert_eq!(page(&journal, &Cursor::NewerThan("e1".to_owned()), PageOrder::Newest), None);
        assert_eq!(page(&journal, &Cursor::OlderThan("nobody".to_owned()), PageOrder::Newest), None);
        assert!(journal.get("e1", 5).is_none());
        assert!(journal.get("e2", 5).is_some());
    }

    #[test]
    fn a_list_by_creation_time_has_a_late_event_at_its_own_place() {
        // Created in the seconds of their numbers, and published out of order.
        let journal = Journal::new(9);
        for id in [4, 1, 3, 2] {
            journal.push(entry(id)).unwrap();
        }
        let listed = |sort, cursor: &Cursor| {
            let request = PageRequest { cursor, limit: 9, order: PageOrder::Newest, sort, retention: 9 };
            let page = journal.page(&request, |_| true).unwrap();
            ids(&page.entries).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(listed(ListSort::Insertion, &Cursor::Newest), ["e2", "e3", "e1", "e4"]);
        assert_eq!(listed(ListSort::Created, &Cursor::Newest), ["e4", "e3", "e2", "e1"]);
        assert_eq!(listed(ListSort::Created, &Cursor::OlderThan("e3".to_owned())), ["e2", "e1"]);
    }
}
