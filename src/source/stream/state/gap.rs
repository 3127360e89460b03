//! The gap: from not knowing where to begin, over filling, to proven closed.

use std::time::Duration;

use super::link::Link;
use super::{Asker, Command, Machine, Moment, Notice, Purpose, Wake, position_of, position_on};
use crate::domain::event::{Received, Source};
use crate::pepay::rest::{ListQuery, Page};
use crate::source::backfill::{NoProgress, Step, Stretch, Walk};
use crate::source::stream::StartFrom;
use crate::store::inbox::Position;

/// Walks of one connection begin at least this far apart: a server that keeps
/// hinting at gaps does not set the pace of requests.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);

/// What is known about the history before the live frames.
#[derive(Debug)]
pub(super) enum Gap {
    /// The stream has never run: where it begins is not known.
    Unknown,
    /// Events may be missing; frames are held.
    Open {
        /// The walk that is under way.
        walk: Option<Running>,
        /// Events that REST brought and nobody else had.
        filled: usize,
        /// Whether Pepay had forgotten a part.
        hole: bool,
        /// Whether to walk although no connection is open.
        urged: bool,
    },
    /// Everything before the live frames is stored.
    Closed,
}

/// A walk and when it saw the top of the list.
#[derive(Debug)]
pub(super) struct Running {
    walk: Walk,
    /// The machine's epoch when the top was asked for.
    epoch: u64,
    /// Whether Pepay has forgotten everything it was to bring.
    in_vain: bool,
}

impl Gap {
    pub(super) const OPEN: Self = Self::Open { walk: None, filled: 0, hole: false, urged: false };
}

impl Machine {
    /// The server hints that it left events out.
    pub fn hint(&mut self) {
        if matches!(self.gap, Gap::Closed) {
            // They may have belonged before these.
            let frames = self.pending.take();
            self.open_gap();
            for frame in frames {
                self.hold(frame);
            }
        }
        self.epoch += 1;
    }

    pub(super) fn open_gap(&mut self) {
        if matches!(self.gap, Gap::Closed) {
            // Without a position there is nothing a walk could go down to.
            self.gap = if self.position.is_some() { Gap::OPEN } else { Gap::Unknown };
            self.notices.push_back(Notice::GapOpened);
            self.abandon_sweep();
        }
    }

    /// Keeps a frame until the gap is closed.
    pub(super) fn hold(&mut self, frame: Received) {
        if self.held.is_full() {
            // From here on REST has to bring them: only a walk that begins after this counts.
            let frames = self.held.take().len() + 1;
            self.notices.push_back(Notice::HoldOverflowed { frames });
            self.epoch += 1;
        } else {
            self.held.push(frame);
        }
    }

    /// Where the very first start begins.
    pub(super) fn find_beginning(&mut self, now: Moment, wake: &mut Wake) -> Option<Command> {
        let beginning = match &self.settings.start_from {
            StartFrom::Earliest => Position { event: None, created: 0 },
            StartFrom::After(event) => position_on(event),
            StartFrom::Now => {
                let query = ListQuery {
                    starting_after: None,
                    ending_before: None,
                    created_gte: None,
                    created_lte: None,
                    limit: 1,
                };
                return self.list(now, wake, Asker::Beginning, query);
            }
        };
        self.store(Vec::new(), Some(beginning), Purpose::Cursor);
        None
    }

    /// The newest event there is; or none, and then everything is newer.
    pub(super) fn found_beginning(&mut self, now: Moment, page: Page) {
        let created = page.events.first().map_or(now.wall.seconds(), |event| event.created);
        let beginning = Position { event: page.last, created: created.min(now.wall.seconds()) };
        self.store(Vec::new(), Some(beginning), Purpose::Cursor);
    }

    /// The next step of filling the gap.
    pub(super) fn fill(&mut self, now: Moment, wake: &mut Wake) -> Option<Command> {
        let is_up = matches!(self.link, Link::Up { .. });
        loop {
            let Gap::Open { walk, urged, .. } = &mut self.gap else { return None };
            let Some(running) = walk else {
                if !is_up && !*urged {
                    return None;
                }
                if !wake.is_due(now, self.next_walk) {
                    return None;
                }
                self.next_walk = now.at + BETWEEN_WALKS;
                *walk =
                    Some(Running { walk: Walk::new(self.limits.walk), epoch: self.epoch, in_vain: false });
                continue;
            };
            match running.walk.step() {
                Step::Ask(query) => {
                    let is_at_top = running.walk.is_at_top();
                    let command = self.list(now, wake, Asker::Walk, query)?;
                    if let (true, Gap::Open { walk: Some(running), .. }) = (is_at_top, &mut self.gap) {
                        running.epoch = self.epoch;
                    }
                    return Some(command);
                }
                Step::Store(stretch) => {
                    self.store_stretch(stretch);
                    return None;
                }
                Step::Done { from_top } => {
                    let (in_vain, is_current) = (running.in_vain, running.epoch == self.epoch);
                    *walk = None;
                    *urged = false;
                    if !from_top {
                        self.next_walk = now.at;
                    }
                    if is_up && from_top && is_current {
                        self.close_gap(now);
                    }
                    if in_vain {
                        // The account is as good as empty: whatever comes is newer.
                        let empty = Position { event: None, created: now.wall.seconds() };
                        self.store(Vec::new(), Some(empty), Purpose::Cursor);
                        return None;
                    }
                }
            }
        }
    }

    /// A page of the walk has arrived.
    pub(super) fn walked(&mut self, page: Page) -> Result<(), NoProgress> {
        if let (Some(position), Gap::Open { walk: Some(running), hole, .. }) = (&self.position, &mut self.gap)
            && let Some(found) = running.walk.page(page, position)?
        {
            // Said before the cursor moves past it, so that no crash can swallow it.
            *hole = true;
            running.in_vain = found.before.is_none();
            self.notices.push_back(Notice::Unproven(found));
        }
        Ok(())
    }

    /// The place a walk was going by is rejected: it begins again at the top.
    pub(super) fn restart_walk(&mut self) -> bool {
        match &mut self.gap {
            Gap::Open { walk: Some(running), .. } if !running.walk.is_at_top() => {
                running.walk.restart();
                true
            }
            _ => false,
        }
    }

    /// There is no list at all: the stream is all there is, and goes on. Holding
    /// frames for a proof that cannot come would only lose them.
    pub(super) fn go_on_unlisted(&mut self, now: Moment) {
        self.unlisted = true;
        let after = self.position.as_ref().and_then(|position| position.event.clone());
        self.notices.push_back(Notice::Unlisted { after });
        match &mut self.gap {
            Gap::Open { hole, .. } => {
                *hole = true;
                self.close_gap(now);
            }
            Gap::Unknown => self.gap = Gap::Closed,
            Gap::Closed => {}
        }
    }

    fn store_stretch(&mut self, stretch: Stretch) {
        let received_at = stretch.received_at;
        let cursor = stretch.events.last().map(|event| position_of(event, received_at));
        let mut events = Vec::with_capacity(stretch.events.len());
        for event in stretch.events {
            events.extend(self.receive(event, Source::Backfill, received_at));
        }
        self.store(events, cursor, Purpose::Stretch);
    }

    fn close_gap(&mut self, now: Moment) {
        if let Gap::Open { filled, hole, .. } = std::mem::replace(&mut self.gap, Gap::Closed) {
            self.notices.push_back(Notice::GapClosed { filled, proven: !hole });
        }
        // Those that the walk has brought as well are repetitions, which the store tells apart.
        for frame in self.held.take() {
            self.pending.push(frame);
        }
        self.sweep_soon(now);
    }
}
