//! The gap before the live frames: unknown at first, then open, then closed by proof.

use std::time::Duration;

use super::link::Link;
use super::{
    Effect, Machine, Moment, Notice, PagePurpose, Purpose, RetryTimer, Wake, position_after, position_on,
};
use crate::domain::event::{Received, Source};
use crate::pepay::rest::{ListQuery, Page};
use crate::source::backfill::{Hole, NoProgress, Reached, Step, Stretch, Walk};
use crate::source::stream::StartFrom;
use crate::source::stream::history::History;
use crate::store::types::Position;

/// The shortest time between the beginnings of two walks. A server that keeps hinting at gaps
/// cannot set the pace of requests.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);

/// How many times the hold limit a list that makes progress may hold live events back.
const LONGEST_HOLD: u32 = 10;

/// What is known of the history before the live frames.
#[derive(Debug)]
pub(super) enum Gap {
    /// The stream has never run: its beginning is not known.
    Unknown {
        /// Since when the list has been asked for the beginning.
        asking: Option<Duration>,
    },
    /// Events may be missing.
    Open(OpenGap),
    /// Everything before the live frames is stored.
    Closed,
}

/// An open gap.
#[derive(Debug, Default)]
pub(super) struct OpenGap {
    /// The walk that is under way.
    pub(super) walk: Option<Box<Running>>,
    /// The number of events that REST was the first to bring.
    pub(super) filled: usize,
    /// Whether some events in the gap cannot be proven to be stored.
    unproven: bool,
    /// Whether to walk without an open connection.
    pub(super) urged: bool,
    /// Whether a walk without a connection has ended and no sweep has followed yet.
    pub(super) walked: bool,
    /// The lowest creation time that a walk has reached, in Unix seconds.
    deepest: Option<i64>,
    pub(super) hold: Hold,
}

/// How long live frames are held back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    /// Since when frames are held back without progress of the list.
    since: Option<Duration>,
    /// Since when frames are held back.
    began: Option<Duration>,
    /// Whether frames pass although the gap is open.
    pub(super) over: bool,
}

/// A walk, with the epoch in which it saw the top of the list.
#[derive(Debug)]
pub(super) struct Running {
    walk: Walk,
    /// The epoch of the machine when the top was requested.
    epoch: u64,
    /// Whether the list showed no event. Nothing follows from such a list.
    in_vain: bool,
}

impl Hold {
    pub(super) fn begin(&mut self, now: Moment) {
        self.since.get_or_insert(now.at);
        self.began.get_or_insert(now.at);
    }

    fn progress(&mut self, now: Moment) {
        self.since = self.since.map(|_| now.at);
    }

    /// Returns when held frames pass, if frames are held.
    fn until(&self, limit: Duration) -> Option<Duration> {
        let (since, began) = (self.since?, self.began?);
        Some((since + limit).min(began + limit * LONGEST_HOLD))
    }
}

impl Gap {
    pub(super) const UNKNOWN: Self = Self::Unknown { asking: None };

    pub(super) fn open() -> Self {
        Self::Open(OpenGap::default())
    }

    /// Returns whether live frames pass although the history before them is not proven.
    pub(super) const fn is_passed(&self) -> bool {
        matches!(self, Self::Open(OpenGap { hold: Hold { over: true, .. }, .. }))
    }
}

impl Machine {
    /// Takes a hint of the server that it left events out.
    pub fn hint(&mut self, now: Moment) {
        if matches!(self.gap, Gap::Closed) {
            // The missing events may have come before these frames.
            let frames = self.pending.take();
            self.open_gap();
            for frame in frames {
                self.hold(now, frame);
            }
        }
        self.epoch += 1;
    }

    pub(super) fn open_gap(&mut self) {
        if matches!(self.gap, Gap::Closed) {
            // A walk needs a position that it can go down to.
            self.gap = if self.position.is_some() { Gap::open() } else { Gap::UNKNOWN };
            self.notices.push_back(Notice::GapOpened);
            self.leave_list_to_walk();
        }
    }

    /// Holds a frame until the gap is closed. Lets it pass if that takes too long.
    pub(super) fn hold(&mut self, now: Moment, frame: Received) {
        if self.gap.is_passed() {
            self.pending.push(frame);
            return;
        }
        if let Gap::Open(open) = &mut self.gap {
            open.hold.begin(now);
        }
        if !self.held.is_full() {
            self.held.push(frame);
        } else if self.walks.failures > 0 {
            // The list fails, so it cannot be expected to bring dropped frames.
            self.pass_held();
            self.pending.push(frame);
        } else {
            // REST has to bring the dropped frames, so only a walk that begins after this counts.
            let frames = self.held.take().len() + 1;
            self.notices.push_back(Notice::HoldOverflowed { frames });
            self.epoch += 1;
        }
    }

    /// Lets held frames pass once the hold limit is over.
    pub(super) fn end_hold(&mut self, now: Moment, wake: &mut Wake) {
        let Gap::Open(open) = &self.gap else { return };
        if open.hold.over {
            return;
        }
        if let Some(until) = open.hold.until(self.settings.hold_limit)
            && wake.is_due(now, until)
        {
            self.update_history(now);
            self.pass_held();
        }
    }

    fn pass_held(&mut self) {
        let Gap::Open(open) = &mut self.gap else { return };
        open.hold.over = true;
        let frames = self.held.take();
        let after = self.position.as_ref().and_then(|position| position.event.clone());
        self.notices.push_back(Notice::HoldEnded { frames: frames.len(), after });
        for frame in frames {
            self.pending.push(frame);
        }
    }

    /// Finds the beginning of a stream that has never run.
    pub(super) fn find_beginning(&mut self, now: Moment, wake: &mut Wake) -> Option<Effect> {
        let beginning = match &self.settings.start_from {
            StartFrom::Earliest => Position { event: None, created: 0 },
            StartFrom::After(event) => position_on(event),
            StartFrom::Now => {
                let Gap::Unknown { asking } = &mut self.gap else { return None };
                let until = *asking.get_or_insert(now.at) + self.settings.hold_limit;
                if !wake.is_due(now, until) {
                    let query = ListQuery {
                        starting_after: None,
                        ending_before: None,
                        created_gte: None,
                        created_lte: None,
                        limit: 1,
                    };
                    return self.list(now, wake, PagePurpose::Beginning, query);
                }
                // A list that does not respond must not delay live events.
                self.abandon_list_request(PagePurpose::Beginning);
                Position { event: None, created: self.safe_time(now) }
            }
        };
        self.begin_at(now, beginning);
        None
    }

    /// Begins after the newest event, or at this time if there is none.
    pub(super) fn found_beginning(&mut self, now: Moment, page: Page) {
        let time = self.safe_time(now);
        let created = page.events.first().map_or(time, |event| event.created);
        self.begin_at(now, Position { event: page.last, created: created.min(time) });
    }

    fn begin_at(&mut self, now: Moment, beginning: Position) {
        if matches!(self.gap, Gap::Unknown { .. }) && self.recording.is_none() {
            // The top of the list may show anything, so it does not decide the floor.
            let is_now = self.settings.start_from == StartFrom::Now;
            let floor = if is_now { self.safe_time(now) } else { beginning.created };
            self.history = Some(History::begin(&self.settings, floor));
            // The walk brings older events.
            let time = self.safe_time(now);
            if let Some(sweeps) = &mut self.sweeps {
                sweeps.begin_stream(time);
            }
            self.store(Vec::new(), Some(beginning), Purpose::Cursor);
        }
    }

    /// Returns the next step that fills the gap.
    pub(super) fn fill(&mut self, now: Moment, wake: &mut Wake) -> Option<Effect> {
        let is_up = matches!(self.link, Link::Up { .. });
        loop {
            let Gap::Open(open) = &mut self.gap else { return None };
            let Some(running) = &mut open.walk else {
                // Held frames need the events before them, even if their connection has ended.
                let is_wanted = is_up || open.urged || !self.held.is_empty();
                if !is_wanted || !wake.is_due(now, self.next_walk) {
                    return None;
                }
                self.next_walk = now.at + BETWEEN_WALKS;
                let walk = Walk::new(self.limits.walk);
                open.walk = Some(Box::new(Running { walk, epoch: self.epoch, in_vain: false }));
                continue;
            };
            if running.in_vain {
                open.walk = None;
                continue;
            }
            match running.walk.step() {
                Step::Ask(query) => {
                    let is_at_top = running.walk.is_at_top();
                    let effect = self.list(now, wake, PagePurpose::Walk, query)?;
                    if let (true, Gap::Open(OpenGap { walk: Some(running), .. })) = (is_at_top, &mut self.gap)
                    {
                        running.epoch = self.epoch;
                    }
                    return Some(effect);
                }
                Step::Store(stretch) => {
                    self.store_stretch(stretch);
                    return None;
                }
                Step::Done { from_top: false } => running.walk.go_on(),
                Step::Done { from_top: true } => {
                    let is_current = running.epoch == self.epoch;
                    open.unproven |= running.walk.skipped() > 0;
                    open.walk = None;
                    let urged = std::mem::take(&mut open.urged);
                    open.walked |= !is_up && urged;
                    if is_up && is_current {
                        self.close_gap(now);
                    } else if is_current {
                        self.release_held();
                    }
                    if !is_up && urged {
                        return self.sweep_at_once(now, wake);
                    }
                }
            }
        }
    }

    /// Takes a page of the walk.
    pub(super) fn walked(&mut self, now: Moment, page: Page) -> Result<(), NoProgress> {
        let Some(position) = &self.position else { return Ok(()) };
        let Gap::Open(open) = &mut self.gap else { return Ok(()) };
        let Some(running) = &mut open.walk else { return Ok(()) };
        let reached = running.walk.page(page, position)?;
        let depth = running.walk.depth();
        let is_deeper = depth.is_some_and(|depth| open.deepest.is_none_or(|deepest| depth < deepest));
        if is_deeper {
            open.deepest = depth;
        }
        if is_deeper || matches!(reached, Some(Reached::Higher | Reached::Known | Reached::Older)) {
            open.hold.progress(now);
            self.walks = RetryTimer::default();
        }
        if let Some(Reached::End(hole)) = reached {
            self.reached_end(now, hole);
        } else if running.walk.doubts_the_end() {
            self.walks.failed(now, self.settings.backoff, &self.jitter, None);
        }
        Ok(())
    }

    /// Handles the end of a list that did not have the known event.
    fn reached_end(&mut self, now: Moment, hole: Option<Hole>) {
        let has_changed = match (&self.position, &self.history) {
            (Some(position), Some(history)) => history.has_changed_since(position.created),
            _ => false,
        };
        let Gap::Open(open) = &mut self.gap else { return };
        let Some(running) = &mut open.walk else { return };
        match hole.filter(|_| !has_changed) {
            Some(Hole { before: None, .. }) => {
                // The account has had events, and the list shows none. Whatever the cause, the
                // position is kept.
                running.in_vain = true;
                self.walks.failed(now, self.settings.backoff, &self.jitter, None);
                self.notices.push_back(Notice::ListEmpty);
            }
            Some(hole) => {
                // The notice comes before the cursor passes the hole, so that a crash cannot hide
                // it.
                open.unproven = true;
                self.walks = RetryTimer::default();
                self.notices.push_back(Notice::Unproven(hole));
            }
            None => self.walks = RetryTimer::default(),
        }
    }

    /// Returns the walk that is under way.
    pub(super) fn gap_walk(&mut self) -> Option<&mut Walk> {
        match &mut self.gap {
            Gap::Open(OpenGap { walk: Some(running), .. }) => Some(&mut running.walk),
            _ => None,
        }
    }

    fn store_stretch(&mut self, stretch: Stretch) {
        let received_at = stretch.received_at;
        let cursor = position_after(self.position.as_ref(), &stretch.events, received_at);
        let mut events = Vec::with_capacity(stretch.events.len());
        for event in stretch.events {
            events.extend(self.receive(event, Source::Backfill, received_at));
        }
        self.store(events, cursor, Purpose::Stretch);
    }

    fn close_gap(&mut self, now: Moment) {
        if let Gap::Open(open) = std::mem::replace(&mut self.gap, Gap::Closed) {
            self.notices.push_back(Notice::GapClosed { filled: open.filled, proven: !open.unproven });
        }
        self.went_live(now);
        self.release_held();
        self.sweep_soon(now);
    }

    /// Lets held frames follow the events before them, which are stored.
    fn release_held(&mut self) {
        if let Gap::Open(open) = &mut self.gap {
            open.hold = Hold { over: open.hold.over, ..Hold::default() };
        }
        // The store recognises frames that the walk has brought too as duplicates.
        for frame in self.held.take() {
            self.pending.push(frame);
        }
    }
}
