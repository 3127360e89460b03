//! The ledger of the demo: the events played, received and delivered, and the verdict.

use std::collections::BTreeMap;
use std::fmt;

use crate::domain::event::Source;

/// The counts of one demo.
pub(super) struct Ledger {
    /// The number of events played.
    pub(super) played: u64,
    /// The events that the bridge received, by source.
    pub(super) received: Vec<Received>,
    /// The number of acknowledgements by the target, by event id.
    pub(super) delivered: BTreeMap<String, u64>,
    /// The number of attempts that failed at the target.
    pub(super) failed: u64,
}

/// The events from one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) source: Source,
    pub(super) all: u64,
    pub(super) unique: u64,
    pub(super) duplicate: u64,
}

/// The reason why a demo failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{lost} events were lost and {twice} delivered more than once")]
pub(super) struct Broken {
    lost: u64,
    twice: u64,
}

impl Ledger {
    fn lost(&self) -> u64 {
        self.played.saturating_sub(self.delivered.len() as u64)
    }

    fn twice(&self) -> u64 {
        self.delivered.values().filter(|times| **times > 1).count() as u64
    }

    /// Returns `Ok` if every event was delivered exactly one time.
    pub(super) fn verdict(&self) -> Result<(), Broken> {
        match (self.lost(), self.twice()) {
            (0, 0) => Ok(()),
            (lost, twice) => Err(Broken { lost, twice }),
        }
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&Received) -> u64| self.received.iter().map(of).sum::<u64>();
        writeln!(f, "played              {:>8}", self.played)?;
        writeln!(f, "unique              {:>8}", sum(|row| row.unique))?;
        writeln!(f, "received            {:>8}", sum(|row| row.all))?;
        for Received { source, all, unique, .. } in &self.received {
            writeln!(f, "  {:<17} {all:>8}   first with {unique}", source.as_str())?;
        }
        writeln!(f, "duplicates          {:>8}", sum(|row| row.duplicate))?;
        writeln!(f, "attempts failed     {:>8}", self.failed)?;
        writeln!(f, "delivered           {:>8}", self.delivered.len())?;
        writeln!(f, "delivered twice     {:>8}", self.twice())?;
        write!(f, "lost                {:>8}", self.lost())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(played: u64, delivered: &[(&str, u64)]) -> Ledger {
        let delivered = delivered.iter().map(|(id, times)| ((*id).to_owned(), *times)).collect();
        Ledger { played, received: Vec::new(), delivered, failed: 0 }
    }

    #[test]
    fn a_run_is_a_success_only_if_every_event_arrived_once() {
        assert_eq!(ledger(2, &[("evt_1", 1), ("evt_2", 1)]).verdict(), Ok(()));
        assert_eq!(ledger(2, &[("evt_1", 1)]).verdict(), Err(Broken { lost: 1, twice: 0 }));
        assert_eq!(ledger(1, &[("evt_1", 2)]).verdict(), Err(Broken { lost: 0, twice: 1 }));
    }
}
