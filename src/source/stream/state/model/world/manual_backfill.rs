//! An operator's backfill, and the events that it has to bring.

use super::*;
use crate::domain::operator::BackfillFrom;

impl World {
    pub(super) fn told(&mut self, notice: &Notice) {
        match notice {
            Notice::Unproven(_) => self.holes += 1,
            Notice::BackfillEnded(progress) => {
                let (first, last) = self.backfill_due.take().expect("a backfill ends once");
                if progress.trouble.is_none() {
                    let missing: Vec<_> = (first.max(self.forgotten)..=last)
                        .filter(|index| {
                            !self.stored.contains(index)
                                && self.has_to_be_brought(*index)
                                && self.is_told_apart(*index)
                        })
                        .collect();
                    assert!(missing.is_empty(), "{missing:?} are not brought by a backfill from {first}");
                }
            }
            _ => {}
        }
    }

    /// Returns whether this event is known to come before the cursor.
    fn is_told_apart(&self, index: usize) -> bool {
        self.ordered_ids || self.cursor.as_ref().is_none_or(|cursor| self.log[index].created < cursor.created)
    }

    pub(super) fn backfill(&mut self, which: usize, by_time: bool) {
        let Some(last) = self.cursor.as_ref().and_then(|cursor| cursor.event.as_ref()).map(Self::index)
        else {
            return;
        };
        if self.backfill_due.is_some() {
            return;
        }
        let which = which % self.log.len();
        let (from, first) = if by_time {
            let created = self.log[which].created;
            let first = self.log.iter().position(|logged| logged.created == created).unwrap();
            (BackfillFrom::Time(UnixMillis(created * 1000)), first)
        } else {
            (BackfillFrom::After(self.id(which)), which + 1)
        };
        self.backfill_due = Some((first, last));
        self.machine.backfill(&from);
    }
}
