//! A walk that a person asked for: history read again, beside the live events.
//!
//! It takes in what is missing up to where the stream stands, and leaves what is
//! newer to the stream. So it never moves the cursor, and what it stores comes
//! before nothing of the same object that only a gap still holds. Of two events
//! of one second whose ids show no order the one that is not the cursor counts
//! as newer: sweeps look after those.

use std::time::Duration;

use super::{
    Asker, Command, Gap, Link, Machine, Moment, Notice, Purpose, Wake, is_past, position_of, position_on,
};
use crate::domain::event::Source;
use crate::domain::operator::BackfillFrom;
use crate::pepay::error::Failure;
use crate::pepay::rest::Page;
use crate::source::backfill::{Hole, NoProgress, Step, Stretch, Walk};
use crate::store::inbox::Position;

/// Pages are asked for at least this far apart: nobody waits for old history, and
/// the stream may need the list itself.
const BETWEEN_PAGES: Duration = Duration::from_millis(200);

/// Failures in a row after which it is over. Waits between them grow as always.
const FAILURES: u32 = 10;

/// The walk and how far it has come.
#[derive(Debug)]
pub(super) struct Errand {
    walk: Walk,
    /// What the walk goes down to: where it was told to begin, then the last event it has handed over.
    floor: Position,
    /// When the next page may be asked for.
    next: Duration,
    /// Failures in a row.
    failures: u32,
    /// Whether Pepay no longer shows the event it was to begin after.
    hole: Option<Hole>,
    progress: Progress,
}

/// How far a backfill has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events read from the list.
    pub read: u64,
    /// Those of them that nobody had brought before.
    pub recorded: u64,
    /// Why it does not get on, or has not brought everything.
    pub trouble: Option<String>,
}

impl Machine {
    /// A person wants the history from there on compared with the store. Without
    /// effect while an earlier wish is carried out.
    pub fn backfill(&mut self, from: &BackfillFrom) {
        let budget = self.limits.walk;
        let (walk, floor) = match from {
            BackfillFrom::Time(at) => {
                (Walk::since(budget, at.seconds()), Position { event: None, created: at.seconds() })
            }
            BackfillFrom::After(event) => (Walk::new(budget), position_on(event)),
        };
        self.errand.get_or_insert(Errand {
            walk,
            floor,
            next: Duration::ZERO,
            failures: 0,
            hole: None,
            progress: Progress::default(),
        });
    }

    /// How far the backfill under way has come, if there is one.
    pub fn progress(&self) -> Option<&Progress> {
        self.errand.as_ref().map(|errand| &errand.progress)
    }

    /// The next step of the errand.
    pub(super) fn run_errand(&mut self, now: Moment, wake: &mut Wake) -> Option<Command> {
        let may_run = match &self.gap {
            Gap::Closed => true,
            // The stream's own walk comes first. Without a connection it begins at the pace of sweeps.
            Gap::Open { walk, .. } => walk.is_none() && !matches!(self.link, Link::Up { .. }),
            Gap::Unknown => false,
        };
        while may_run && self.recording.is_none() {
            let errand = self.errand.as_mut()?;
            match errand.walk.step() {
                Step::Ask(query) => {
                    if !wake.is_due(now, errand.next) {
                        return None;
                    }
                    let next = now.at + BETWEEN_PAGES;
                    let command = self.list(now, wake, Asker::Errand, query)?;
                    self.errand.as_mut()?.next = next;
                    return Some(command);
                }
                Step::Store(stretch) => self.take_over(stretch),
                Step::Done { from_top: true } => {
                    let hole = errand.hole.take();
                    let forgotten = hole.map(|hole| {
                        format!("Pepay no longer shows {}: all that it still has was read", hole.after.0)
                    });
                    self.end_errand(forgotten);
                }
                // From here on the floor is what has been handed over.
                Step::Done { from_top: false } => errand.walk.restart(),
            }
        }
        None
    }

    /// Stores those of `stretch` that the stream has passed, the one at which it
    /// stands included: where a stream begins, nobody has brought that.
    fn take_over(&mut self, stretch: Stretch) {
        let received_at = stretch.received_at;
        if let (Some(errand), Some(last)) = (&mut self.errand, stretch.events.last()) {
            errand.floor = position_of(last, received_at);
        }
        let mut events = Vec::with_capacity(stretch.events.len());
        for event in stretch.events {
            let place = position_of(&event, received_at);
            let is_passed = |position: &Position| place.event == position.event || !is_past(&place, position);
            if self.position.as_ref().is_some_and(is_passed) {
                events.extend(self.receive(event, Source::Backfill, received_at));
            }
        }
        if !events.is_empty() {
            self.store(events, None, Purpose::Errand);
        }
    }

    /// A page of the errand has arrived.
    pub(super) fn errand_page(&mut self, page: Page) -> Result<(), NoProgress> {
        let Some(errand) = &mut self.errand else { return Ok(()) };
        let read = page.events.len() as u64;
        let hole = errand.walk.page(page, &errand.floor)?;
        errand.hole = errand.hole.take().or(hole);
        errand.failures = 0;
        errand.progress.trouble = None;
        errand.progress.read += read;
        Ok(())
    }

    /// The place the errand was going by is rejected: it begins again at the top.
    pub(super) fn restart_errand(&mut self) -> bool {
        let walk = self.errand.as_mut().map(|errand| &mut errand.walk).filter(|walk| !walk.is_at_top());
        walk.map(Walk::restart).is_some()
    }

    /// A page of the errand has not arrived; `is_final` says that none will.
    pub(super) fn errand_failed(&mut self, failure: &Failure, is_final: bool) {
        let Some(errand) = &mut self.errand else { return };
        errand.failures += 1;
        errand.progress.trouble = Some(failure.text.clone());
        if is_final || errand.failures >= FAILURES {
            self.end_errand(Some(failure.text.clone()));
        }
    }

    pub(super) fn errand_stored(&mut self, new: usize) {
        if let Some(errand) = &mut self.errand {
            errand.progress.recorded += new as u64;
        }
    }

    fn end_errand(&mut self, trouble: Option<String>) {
        if let Some(errand) = self.errand.take() {
            self.notices.push_back(Notice::BackfillEnded(Progress { trouble, ..errand.progress }));
        }
    }
}
