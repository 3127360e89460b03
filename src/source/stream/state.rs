//! The protocol as a pure state machine. Inputs arrive through methods, and effects come out of
//! [`Machine::poll`]. It does not wait, has no side effects and uses no types of the WebSocket
//! library, so that a test can play through every interleaving of network, Pepay and store. See
//! `docs/stream.md`.

mod effect;
mod frames;
mod gap;
mod intake;
mod link;
mod listing;
mod manual_backfill;
mod pace;
mod position;
mod sweeps;

use std::collections::VecDeque;
use std::time::Duration;

use super::Settings;
use super::history::History;
use super::swept::Swept;
use crate::domain::backoff::Jitter;
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Environment, Event, Received, Source};
use crate::domain::status::StreamPhase;
use crate::store::types::{Position, Recorded, Resume};

pub use effect::{Effect, Ending, Moment, Narrowing, Notice, Poll, Progress};
use frames::{Frames, Limits};
use gap::Gap;
pub use link::ConnectStep;
use link::{Link, Stability};
use listing::PagePurpose;
use manual_backfill::ManualBackfill;
use pace::{LeftOut, PageSize, RateLimiter, RetryTimer};
use position::{cursor_after, is_past, position_after, position_of, position_on};
use sweeps::Sweeps;

/// The state of one stream. Only the position, the history and the range compared by sweeps outlive
/// the process. The store keeps these together.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    jitter: Jitter,
    limits: Limits,
    /// The environment that Pepay named when it minted the token.
    environment: Option<Environment>,
    /// The position of the stream: every event up to here is stored.
    position: Option<Position>,
    /// The subscriptions and their times; `None` until the stream has begun.
    history: Option<History>,
    /// Whether the store has the present history.
    history_stored: bool,
    /// The range compared by sweeps that the store has or is being offered.
    swept_stored: Swept,
    /// How far Pepay's clock is ahead of ours, in milliseconds, by its last answer.
    clock_offset: Option<i64>,
    /// The newest creation time of a frame, in Unix seconds.
    last_frame: i64,
    /// The latest arrival of an event that was handed to the store.
    last_arrival: UnixMillis,
    link: Link,
    gap: Gap,
    /// Grows whenever frames may have been lost. Only a walk that saw the top of the list in the
    /// present epoch can close the gap.
    epoch: u64,
    /// Frames that wait for the gap to close: both replayed and new ones.
    held: Frames,
    /// Frames on their way to the store.
    pending: Frames,
    recording: Option<Recording>,
    /// The purpose of the page that is being fetched.
    listing: Option<PagePurpose>,
    sweeps: Option<Sweeps>,
    /// The backfill by an operator.
    manual: Option<ManualBackfill>,
    connects: RetryTimer,
    /// The pace of pages for the beginning and for walks. Only progress ends a series of failures.
    walks: RetryTimer,
    /// The pace of pages for sweeps and for a backfill by an operator.
    lists: RetryTimer,
    records: RetryTimer,
    /// The rate limit of all pages.
    requests: RateLimiter,
    /// The present size of pages.
    page_size: PageSize,
    /// The optional parameters that the list has refused.
    list_refusals: LeftOut,
    /// The optional parameters that the stream has refused.
    stream_refusals: LeftOut,
    /// The end of the latest silence that Pepay has asked for, by any kind of answer.
    quiet_until: Duration,
    /// The same for connections. The list can delay them only for a bounded time.
    link_quiet_until: Duration,
    next_walk: Duration,
    /// The number of 401 and 403 in a row.
    refusals: u32,
    /// Whether Pepay rejects the cursor.
    since_rejected: bool,
    /// How the last connections fared.
    stability: Stability,
    /// The number of sweeps in a row that found events which the stream should have brought.
    behind: u32,
    /// Why the connection is to be replaced, if it is.
    replace_link: Option<Ending>,
    notices: VecDeque<Notice>,
}

/// The longest wait before a batch is offered again. Nothing else of the stream goes on without the
/// store.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// A batch on its way to the store. It is offered until the store has taken all of it.
#[derive(Debug)]
struct Recording {
    events: Vec<Received>,
    /// The results for the first events, which are stored and are not offered again.
    stored: Vec<Recorded>,
    cursor: Option<Position>,
    /// The history, if the store does not have the present one.
    history: Option<String>,
    purpose: Purpose,
    under_way: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Frames,
    Stretch,
    Sweep,
    ManualBackfill,
    Cursor,
}

/// Collects the earliest time at which something becomes due.
#[derive(Debug, Default)]
struct Wake(Option<Duration>);

impl Wake {
    fn is_due(&mut self, now: Moment, at: Duration) -> bool {
        if now.at < at {
            self.0 = Some(self.0.map_or(at, |sooner| sooner.min(at)));
        }
        now.at >= at
    }
}

impl Machine {
    /// Creates the machine of a stream that goes on from `resume`; `None` for a stream that has
    /// never run.
    pub fn new(settings: Settings, resume: Option<Resume>, jitter: Jitter) -> Self {
        let (position, history, swept) = match resume {
            Some(Resume { position, history }) => {
                let text = history.unwrap_or_default();
                (Some(position), History::parse(&text), Swept::parse(&text))
            }
            None => (None, None, Swept::default()),
        };
        Self {
            sweeps: settings.reconcile_interval.map(|interval| Sweeps::new(interval, swept)),
            history_stored: history.as_ref().is_some_and(|history| history.is_current(&settings)),
            history,
            swept_stored: swept,
            clock_offset: None,
            last_frame: 0,
            last_arrival: UnixMillis(0),
            settings,
            jitter,
            limits: Limits::DEFAULT,
            environment: None,
            gap: if position.is_some() { Gap::open() } else { Gap::UNKNOWN },
            position,
            link: Link::Down,
            epoch: 0,
            held: Frames::new(Limits::DEFAULT.held),
            pending: Frames::new(Limits::DEFAULT.pending),
            recording: None,
            listing: None,
            manual: None,
            connects: RetryTimer::default(),
            walks: RetryTimer::default(),
            lists: RetryTimer::default(),
            records: RetryTimer::default(),
            requests: RateLimiter::default(),
            page_size: PageSize::LARGEST,
            list_refusals: LeftOut::default(),
            stream_refusals: LeftOut::default(),
            quiet_until: Duration::ZERO,
            link_quiet_until: Duration::ZERO,
            next_walk: Duration::ZERO,
            refusals: 0,
            since_rejected: false,
            stability: Stability::default(),
            behind: 0,
            replace_link: None,
            notices: VecDeque::new(),
        }
    }

    /// Returns the next effect, or until when to wait. Call it again after every effect and every
    /// input.
    pub fn poll(&mut self, now: Moment) -> Poll {
        let mut wake = Wake::default();
        let effect = self
            .notices
            .pop_front()
            .map(Effect::Tell)
            .or_else(|| self.attend_link(now, &mut wake))
            .or_else(|| self.sweep(now, &mut wake))
            .or_else(|| self.run_manual_backfill(now, &mut wake))
            .or_else(|| self.record(now, &mut wake));
        match effect {
            Some(effect) => Poll::Do(effect),
            // A step without an effect may have left a notice.
            None if !self.notices.is_empty() => self.poll(now),
            None => Poll::Wait(wake.0),
        }
    }

    /// Returns the position of the stream.
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Returns the phase of the stream.
    pub const fn phase(&self) -> StreamPhase {
        match (&self.link, &self.gap) {
            (Link::Down, _) => StreamPhase::Waiting,
            (Link::Connecting { .. }, _) => StreamPhase::Connecting,
            (Link::Up { .. }, Gap::Closed) => StreamPhase::Live,
            (Link::Up { .. }, _) => StreamPhase::Backfilling,
        }
    }

    /// Notes the environment of the token, as named by Pepay.
    pub const fn in_environment(&mut self, environment: Option<Environment>) {
        self.environment = environment;
    }

    /// Returns whether there is room for more frames. Without room, frames are left on the wire:
    /// the server notices, and nothing is dropped.
    pub fn takes_frames(&self) -> bool {
        !self.pending.is_full()
    }

    /// Takes an event that has arrived on the connection.
    pub fn event(&mut self, now: Moment, event: Event) {
        self.stability.brought();
        self.last_frame = self.last_frame.max(event.created.min(self.pepay_time(now)));
        if self.history.is_some() {
            self.update_history(now);
        }
        let Some(received) = self.receive(event, Source::Stream, now.wall) else { return };
        if matches!(self.gap, Gap::Closed) {
            self.pending.push(received);
        } else {
            self.hold(now, received);
        }
    }

    /// Takes the answer to [`Effect::Record`]: the result for each event, or, if not all events were
    /// stored, for the first ones, which were.
    pub fn recorded(&mut self, now: Moment, answer: Result<&[Recorded], &[Recorded]>) {
        let Some(mut recording) = self.recording.take() else { return };
        let (Ok(results) | Err(results)) = answer;
        recording.stored.extend_from_slice(results);
        if answer.is_err() {
            self.records.failed(now, self.settings.backoff, &self.jitter, None);
            self.records.not_before = self.records.not_before.min(now.at + STORE_RETRY);
            recording.under_way = false;
            self.recording = Some(recording);
            return;
        }
        self.records = RetryTimer::default();
        if let Some(cursor) = recording.cursor {
            self.since_rejected &= self.position.as_ref() == Some(&cursor);
            self.position = Some(cursor);
            self.history_stored |= recording.history.is_some();
        }
        let results = recording.stored;
        let new = results.iter().filter(|result| **result == Recorded::New).count();
        let carried = recording.events.iter().map(|received| self.settings.endpoint.carries(&received.event));
        let missed = results.iter().zip(carried).filter(|of| *of == (&Recorded::New, true)).count();
        match (recording.purpose, &mut self.gap) {
            (Purpose::Stretch, Gap::Open(open)) => open.filled += new,
            (Purpose::Cursor, Gap::Unknown { .. }) => self.gap = Gap::open(),
            (Purpose::Sweep, _) => self.swept(now, new, missed),
            (Purpose::ManualBackfill, _) => self.manual_backfill_stored(new),
            _ => {}
        }
        // Events of a manual backfill are not news.
        let newest = recording.events.pop().filter(|_| recording.purpose != Purpose::ManualBackfill);
        let newest = newest.map(|received| received.event.id);
        self.notices.push_back(Notice::Stored { newest });
    }

    fn record(&mut self, now: Moment, wake: &mut Wake) -> Option<Effect> {
        self.end_hold(now, wake);
        if self.recording.is_none() {
            // Frames that were read before a gap opened come before the events that fill it. Frames
            // that pass an open gap do not delay its filling.
            if self.pending.is_empty() || self.gap.is_passed() {
                let asked = match self.gap {
                    Gap::Unknown { .. } => self.find_beginning(now, wake),
                    Gap::Open(_) => self.fill(now, wake),
                    Gap::Closed => None,
                };
                if asked.is_some() {
                    return asked;
                }
            }
            if self.recording.is_none() && !self.pending.is_empty() {
                let events = self.pending.next_batch();
                let cursor =
                    if self.gap.is_passed() { None } else { cursor_after(self.position.as_ref(), &events) };
                self.store(events, cursor, Purpose::Frames);
            }
            self.store_history();
        }
        let recording = self.recording.as_mut().filter(|recording| !recording.under_way)?;
        if !wake.is_due(now, self.records.not_before) {
            return None;
        }
        recording.under_way = true;
        let Recording { events, stored, cursor, history, .. } = recording;
        let events = events[stored.len()..].to_vec();
        Some(Effect::Record { events, cursor: cursor.clone(), history: history.clone() })
    }

    /// Stores a changed history with the present cursor. The change must not wait for an event: after a
    /// stop, it would count from the next start on, and exclude the events before that.
    fn store_history(&mut self) {
        let is_current = self.history.as_ref().is_some_and(|history| history.is_current(&self.settings));
        if self.recording.is_none()
            && is_current
            && !self.history_stored
            && let Some(position) = self.position.clone()
        {
            self.store(Vec::new(), Some(position), Purpose::Cursor);
        }
    }

    /// Records this batch next. One batch is under way at a time, which keeps order and cursor
    /// simple. The store groups the batches of all sources.
    fn store(&mut self, mut events: Vec<Received>, cursor: Option<Position>, purpose: Purpose) {
        debug_assert!(self.recording.is_none(), "one batch at a time");
        for received in &mut events {
            self.last_arrival = self.last_arrival.max(received.received_at);
            // Without an order of ids, the store ranks waiting events by arrival. The newest page
            // of a walk arrives first, so a later batch gets no earlier time.
            if received.event.id.creation_order().is_none() {
                received.received_at = self.last_arrival;
            }
        }
        let swept = self.sweeps.as_ref().map_or(self.swept_stored, Sweeps::swept);
        let is_stored = self.history_stored && swept == self.swept_stored;
        let history = self.history.as_ref().filter(|_| cursor.is_some() && !is_stored);
        let history = history.map(|history| history.to_text() + &swept.to_line());
        if history.is_some() {
            self.swept_stored = swept;
        }
        self.recording =
            Some(Recording { events, stored: Vec::new(), cursor, history, purpose, under_way: false });
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
