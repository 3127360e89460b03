//! The ids at which pages of the list have ended. They show a list that leads in a circle.

use std::collections::HashSet;

use crate::domain::event::EventId;

/// The largest number of ids in memory, which is that of a circle of 1.6 million events. A list may have
/// no end.
const MOST: usize = 16_384;

/// The ends of the pages of one way down the list.
#[derive(Debug, Default)]
pub(in crate::source) struct Ends(HashSet<EventId>);

impl Ends {
    /// Returns whether an earlier page has ended at `last`.
    pub(in crate::source) fn have(&self, last: &EventId) -> bool {
        self.0.contains(last)
    }

    /// Notes that a page ends at `last`.
    pub(in crate::source) fn note(&mut self, last: &EventId) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(last.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_an_end_takes_bounded_memory() {
        let mut ends = Ends::default();
        for n in 0..3 * MOST + 2 {
            let last = format!("evt_{n}").parse().unwrap();
            assert!(!ends.have(&last));
            ends.note(&last);
            assert!(ends.have(&last) && ends.0.len() <= MOST);
        }
        assert!(ends.have(&format!("evt_{}", 3 * MOST).parse().unwrap()));
    }
}
