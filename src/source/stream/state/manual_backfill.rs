//! A backfill by an operator: a walk that reads history again, beside the live events.
//!
//! It stores the missing events up to the position of the stream. Newer events wait until the
//! stream has had time to bring them, and are then stored too. The cursor never moves. While a gap
//! is open, newer events are left to the gap, so that nothing is stored before an event of the same
//! object that only the gap has. If two events have the same second and ids without an order, the
//! one that is not the cursor counts as newer.

use std::time::Duration;

use super::frames::{Frames, Room};
use super::gap::OpenGap;
use super::{
    Effect, Gap, Link, Machine, Moment, Notice, PagePurpose, Progress, Purpose, Wake, is_past, position_of,
    position_on,
};
use crate::domain::operator::BackfillFrom;
use crate::pepay::error::Failure;
use crate::pepay::rest::Page;
use crate::source::backfill::{Hole, NoProgress, Reached, Step, Stretch, Walk};
use crate::source::reconcile::GRACE;
use crate::store::types::Position;

/// The shortest time between two pages. Old history is not urgent, and the stream may need the list
/// itself.
const BETWEEN_PAGES: Duration = Duration::from_millis(200);

/// The bound of waiting events that are newer than the cursor.
const NEWER: Room = Room { frames: 1_000, bytes: 16 * 1024 * 1024 };

/// The number of failures in a row that ends the backfill. The waits between them grow as usual.
const FAILURES: u32 = 10;

/// The walk and its progress.
#[derive(Debug)]
pub(super) struct ManualBackfill {
    walk: Walk,
    /// The place that the walk goes down to: first the beginning of the backfill, then the last
    /// event that it has handed over.
    floor: Position,
    /// When the next page may be requested.
    next: Duration,
    /// The number of failures in a row.
    failures: u32,
    /// The hole, if Pepay no longer shows the event after which the backfill begins.
    hole: Option<Hole>,
    /// The events that were newer than the cursor when they were read, at most [`NEWER`].
    newer: Frames,
    /// Whether there were more newer events.
    overflowed: bool,
    /// Whether the walk has seen events that the stream has passed. Only then is nothing left out
    /// between these and the newer ones.
    joined: bool,
    /// Until when the stream has time to bring the newer events.
    settles: Option<Duration>,
    progress: Progress,
}

impl ManualBackfill {
    /// Returns why it has not brought everything, if it has not.
    fn trouble(&mut self) -> Option<String> {
        let hole = self.hole.take();
        let hole = hole
            .map(|hole| format!("Pepay no longer shows {}: all that it still has was read", hole.after.0));
        hole.or_else(|| {
            let text = || {
                "more events are newer than the cursor than can wait: the rest was left to the stream"
                    .to_owned()
            };
            self.overflowed.then(text)
        })
    }
}

impl Machine {
    /// Begins to compare the history from `from` on with the store. Has no effect while an earlier
    /// backfill runs.
    pub fn backfill(&mut self, from: &BackfillFrom) {
        let budget = self.limits.walk;
        let (walk, floor) = match from {
            BackfillFrom::Time(at) => {
                (Walk::since(budget, at.seconds()), Position { event: None, created: at.seconds() })
            }
            BackfillFrom::After(event) => (Walk::new(budget), position_on(event)),
        };
        self.manual.get_or_insert(ManualBackfill {
            walk,
            floor,
            next: Duration::ZERO,
            failures: 0,
            hole: None,
            newer: Frames::new(NEWER),
            overflowed: false,
            joined: false,
            settles: None,
            progress: Progress::default(),
        });
    }

    /// Returns the progress of the running backfill.
    pub fn progress(&self) -> Option<&Progress> {
        self.manual.as_ref().map(|manual| &manual.progress)
    }

    /// Returns the next step of the manual backfill.
    pub(super) fn run_manual_backfill(&mut self, now: Moment, wake: &mut Wake) -> Option<Effect> {
        let may_run = match &self.gap {
            Gap::Closed => true,
            // The stream's own walk comes first. Without a connection it begins at the pace of
            // sweeps.
            Gap::Open(OpenGap { walk, .. }) => walk.is_none() && !matches!(self.link, Link::Up { .. }),
            Gap::Unknown { .. } => false,
        };
        while may_run && self.recording.is_none() {
            let manual = self.manual.as_mut()?;
            match manual.walk.step() {
                Step::Ask(query) => {
                    if !wake.is_due(now, manual.next) {
                        return None;
                    }
                    let next = now.at + BETWEEN_PAGES;
                    let effect = self.list(now, wake, PagePurpose::ManualBackfill, query)?;
                    self.manual.as_mut()?.next = next;
                    return Some(effect);
                }
                Step::Store(stretch) => self.take_over(stretch),
                Step::Done { from_top: true } => {
                    if !manual.joined
                        && !manual.newer.is_empty()
                        && let Some(position) = &self.position
                    {
                        // The backfill began above the cursor. The events between the two go first.
                        (manual.walk, manual.floor) = (Walk::new(self.limits.walk), position.clone());
                        (manual.joined, manual.overflowed) = (true, false);
                        manual.newer.take();
                    } else if manual.newer.is_empty() {
                        let trouble = manual.trouble();
                        self.end_manual_backfill(trouble);
                    } else if let Gap::Closed = self.gap {
                        let until = *manual.settles.get_or_insert(now.at + GRACE);
                        if !wake.is_due(now, until) {
                            return None;
                        }
                        let newer = manual.newer.next_batch();
                        self.store(newer, None, Purpose::ManualBackfill);
                    } else {
                        let trouble = manual.newer.first().map(|first| {
                            let (count, first) = (manual.newer.len(), &first.event.id);
                            format!("{count} events from {first} on are newer than the cursor: they wait for the open gap")
                        });
                        self.end_manual_backfill(trouble);
                    }
                }
                // The floor is now the last event that was handed over.
                Step::Done { from_top: false } => manual.walk.restart(),
            }
        }
        None
    }

    /// Stores those of `stretch` that the stream has passed. The event at the stream's position is
    /// stored too: if the stream began there, it has not brought that event.
    fn take_over(&mut self, stretch: Stretch) {
        let received_at = stretch.received_at;
        if let (Some(manual), Some(last)) = (&mut self.manual, stretch.events.last()) {
            manual.joined |=
                self.position.as_ref().is_some_and(|position| position.event == manual.floor.event);
            manual.floor = position_of(last, received_at);
        }
        let mut events = Vec::with_capacity(stretch.events.len());
        for event in stretch.events {
            let place = position_of(&event, received_at);
            let is_passed = |position: &Position| place.event == position.event || !is_past(&place, position);
            let is_passed = self.position.as_ref().is_some_and(is_passed);
            if let Some(manual) = &mut self.manual {
                manual.joined |= is_passed;
            }
            let Some(received) = self.receive_asked(event, received_at) else { continue };
            match &mut self.manual {
                _ if is_passed => events.push(received),
                Some(manual) if !manual.newer.is_full() => manual.newer.push(received),
                Some(manual) => manual.overflowed = true,
                None => {}
            }
        }
        if !events.is_empty() {
            self.store(events, None, Purpose::ManualBackfill);
        }
    }

    /// Takes a page of the manual backfill.
    pub(super) fn manual_backfill_page(&mut self, page: Page) -> Result<(), NoProgress> {
        let Some(manual) = &mut self.manual else { return Ok(()) };
        let read = page.events.len() as u64;
        if let Some(Reached::End(Some(hole))) = manual.walk.page(page, &manual.floor)? {
            manual.hole.get_or_insert(hole);
        }
        manual.failures = 0;
        manual.progress.trouble = None;
        manual.progress.read += read;
        Ok(())
    }

    /// Returns the walk that is under way.
    pub(super) fn manual_backfill_walk(&mut self) -> Option<&mut Walk> {
        self.manual.as_mut().map(|manual| &mut manual.walk)
    }

    /// Notes that a page of the manual backfill has not arrived. `is_final` says that none will.
    pub(super) fn manual_backfill_failed(&mut self, failure: &Failure, is_final: bool) {
        let Some(manual) = &mut self.manual else { return };
        manual.failures += 1;
        manual.progress.trouble = Some(failure.text.clone());
        if is_final || manual.failures >= FAILURES {
            self.end_manual_backfill(Some(failure.text.clone()));
        }
    }

    pub(super) fn manual_backfill_stored(&mut self, new: usize) {
        if let Some(manual) = &mut self.manual {
            manual.progress.recorded += new as u64;
        }
    }

    fn end_manual_backfill(&mut self, trouble: Option<String>) {
        if let Some(manual) = self.manual.take() {
            self.notices.push_back(Notice::BackfillEnded(Progress { trouble, ..manual.progress }));
        }
    }
}
