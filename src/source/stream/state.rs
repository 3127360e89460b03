//! The protocol as a pure state machine: what arrives goes in through methods,
//! what to do comes out of [`Machine::poll`]. It waits for nothing, touches
//! nothing and knows no library's types, so that every interleaving of network,
//! Pepay and store can be played through in a test. See `docs/stream.md`.

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
use link::{Link, Spell};
use listing::Asker;
use manual_backfill::ManualBackfill;
use pace::{LeftOut, PageSize, RateLimiter, RetryTimer};
use position::{cursor_after, is_past, position_after, position_of, position_on};
use sweeps::Sweeps;

/// One stream's state. Nothing in it outlives the process but the position, the history
/// and what sweeps have compared, which the store keeps together.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    jitter: Jitter,
    limits: Limits,
    /// What Pepay said of the environment when it minted the token.
    environment: Option<Environment>,
    /// Where the stream stands: every event up to here is stored.
    position: Option<Position>,
    /// Since when which events are wanted; `None` until the stream has begun.
    history: Option<History>,
    /// Whether the store has the history as it is.
    history_stored: bool,
    /// What the store has, or is offered until it is taken, of what sweeps have compared.
    swept_stored: Swept,
    /// How far Pepay's clock is ahead of ours, in milliseconds, as its last answer told.
    clock_offset: Option<i64>,
    /// The newest creation time of a frame, in Unix seconds.
    last_frame: i64,
    /// The latest arrival of what has been handed to the store.
    last_arrival: UnixMillis,
    link: Link,
    gap: Gap,
    /// Grows whenever frames may have been lost: only a walk that saw the top of
    /// the list in the present epoch can close the gap.
    epoch: u64,
    /// Frames that wait for the gap to close: what the server replays, and what is new.
    held: Frames,
    /// Frames on their way to the store.
    pending: Frames,
    recording: Option<Recording>,
    /// What the page is for that is being fetched.
    listing: Option<Asker>,
    sweeps: Option<Sweeps>,
    /// The backfill that an operator asked for.
    manual: Option<ManualBackfill>,
    connects: RetryTimer,
    /// Pages of the beginning and of walks. Only progress ends a series of failures.
    walks: RetryTimer,
    /// Pages of sweeps and of what an operator asked for.
    lists: RetryTimer,
    records: RetryTimer,
    /// The rate limit of all pages.
    requests: RateLimiter,
    /// How large the pages are.
    page_size: PageSize,
    /// Which of the optional parameters the list has refused.
    list_refusals: LeftOut,
    /// The same for the stream.
    stream_refusals: LeftOut,
    /// Pepay asked for silence until then, on whatever road.
    quiet_until: Duration,
    /// The same for connections, which the list keeps waiting for a bounded time only.
    link_quiet_until: Duration,
    next_walk: Duration,
    /// 401 and 403 in a row.
    refusals: u32,
    /// Whether Pepay no longer takes the cursor.
    since_rejected: bool,
    /// How the last connections fared.
    spell: Spell,
    /// Sweeps in a row that found what the stream should have brought.
    behind: u32,
    /// Why the connection is to be replaced, if it is.
    replace_link: Option<Ending>,
    notices: VecDeque<Notice>,
}

/// The longest wait before a batch is offered again: the store is at hand, and
/// nothing else goes on without it.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// A batch on its way into the store. It is offered until it is taken.
#[derive(Debug)]
struct Recording {
    events: Vec<Received>,
    cursor: Option<Position>,
    /// The history, where the store does not have it as it is.
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

/// Gathers the earliest moment at which something becomes due.
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
    /// A machine for a stream that goes on from `resume`; `None` if it has never run.
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
            spell: Spell::default(),
            behind: 0,
            replace_link: None,
            notices: VecDeque::new(),
        }
    }

    /// What to do now. Ask again after every answer and every input.
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
            // A step without an effect may have left something to tell.
            None if !self.notices.is_empty() => self.poll(now),
            None => Poll::Wait(wake.0),
        }
    }

    /// Where the stream stands.
    pub const fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// What the stream is doing.
    pub const fn phase(&self) -> StreamPhase {
        match (&self.link, &self.gap) {
            (Link::Down, _) => StreamPhase::Waiting,
            (Link::Connecting { .. }, _) => StreamPhase::Connecting,
            (Link::Up { .. }, Gap::Closed) => StreamPhase::Live,
            (Link::Up { .. }, _) => StreamPhase::Backfilling,
        }
    }

    /// Pepay said which environment the token belongs to.
    pub const fn in_environment(&mut self, environment: Option<Environment>) {
        self.environment = environment;
    }

    /// Whether there is room for more frames. While there is none they are left on
    /// the wire: the server notices, and nothing is dropped.
    pub fn takes_frames(&self) -> bool {
        !self.pending.is_full()
    }

    /// An event has arrived on the connection.
    pub fn event(&mut self, now: Moment, event: Event) {
        self.spell.brought();
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

    /// The answer to [`Effect::Record`]: what became of each event, or nothing if it was not stored.
    pub fn recorded(&mut self, now: Moment, answer: Option<&[Recorded]>) {
        let Some(mut recording) = self.recording.take() else { return };
        let Some(results) = answer else {
            self.records.failed(now, self.settings.backoff, &self.jitter, None);
            self.records.not_before = self.records.not_before.min(now.at + STORE_RETRY);
            recording.under_way = false;
            self.recording = Some(recording);
            return;
        };
        self.records = RetryTimer::default();
        if let Some(cursor) = recording.cursor {
            self.position = Some(cursor);
            self.since_rejected = false;
            self.history_stored |= recording.history.is_some();
        }
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
        // What a manual backfill brings is not news.
        let newest = recording.events.pop().filter(|_| recording.purpose != Purpose::ManualBackfill);
        let newest = newest.map(|received| received.event.id);
        self.notices.push_back(Notice::Stored { newest });
    }

    fn record(&mut self, now: Moment, wake: &mut Wake) -> Option<Effect> {
        self.end_hold(now, wake);
        if self.recording.is_none() {
            // Frames that were read before a gap opened come before what fills it;
            // those that pass an open gap do not keep it from being filled.
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
        }
        let recording = self.recording.as_mut().filter(|recording| !recording.under_way)?;
        if !wake.is_due(now, self.records.not_before) {
            return None;
        }
        recording.under_way = true;
        let Recording { events, cursor, history, .. } = recording;
        Some(Effect::Record { events: events.clone(), cursor: cursor.clone(), history: history.clone() })
    }

    /// Records this next. One batch is under way at a time, so that order and
    /// cursor need no further thought; the store groups the batches of all sources.
    fn store(&mut self, mut events: Vec<Received>, cursor: Option<Position>, purpose: Purpose) {
        debug_assert!(self.recording.is_none(), "one batch at a time");
        for received in &mut events {
            self.last_arrival = self.last_arrival.max(received.received_at);
            // Where ids show no order, the store ranks by arrival what waits for one
            // another, and a walk's newest page arrives first.
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
        self.recording = Some(Recording { events, cursor, history, purpose, under_way: false });
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
