//! The choice among the retries that are due.

/// The largest number of rows that are read at each end.
const MOST: usize = 4096;

/// How many times as many rows are read if known ones hide others.
const FURTHER: usize = 4;

/// Chooses retries from both ends in turn: one that has just fallen due does not wait for all that have
/// failed many times. Looks further from the ends if the dispatcher knows the retries that are there.
#[derive(Debug)]
pub(super) struct DueRetries {
    /// The largest number of retries to choose.
    limit: usize,
    chosen: usize,
    rows: usize,
}

impl DueRetries {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, chosen: 0, rows: limit }
    }

    /// Returns how many rows to read at each end.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Chooses from the rows of the two ends. `take` returns whether a row was not known. Returns
    /// whether to read more rows and choose again.
    pub(super) fn choose<T, E>(
        &mut self,
        (oldest, newest): (&[T], &[T]),
        mut take: impl FnMut(&T) -> Result<bool, E>,
    ) -> Result<bool, E> {
        for index in 0..oldest.len().max(newest.len()) {
            for row in [oldest.get(index), newest.get(index)].into_iter().flatten() {
                if self.chosen < self.limit && take(row)? {
                    self.chosen += 1;
                }
            }
        }
        let is_over = self.is_full() || oldest.len() < self.rows || self.rows >= MOST;
        self.rows = self.rows.saturating_mul(FURTHER);
        Ok(!is_over)
    }

    /// Returns whether as many were chosen as were asked for, so that there may be more.
    pub(super) const fn is_full(&self) -> bool {
        self.chosen == self.limit
    }
}
