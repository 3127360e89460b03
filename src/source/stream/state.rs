//! The protocol as a pure state machine: what arrives goes in through methods,
//! what to do comes out of [`Machine::poll`]. It waits for nothing, touches
//! nothing and knows no library's types, so that every interleaving of network,
//! Pepay and store can be played through in a test. See `docs/stream.md`.

mod command;
mod errand;
mod frames;
mod gap;
mod link;
mod position;
mod sweeps;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Settings;
use crate::domain::backoff::Jitter;
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Environment, Event, Received, Source};
use crate::domain::status::StreamPhase;
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::rest::{ListQuery, Page};
use crate::source::backfill::NoProgress;
use crate::store::inbox::{Position, Recorded};

pub use command::{Command, Ending, Moment, Notice, Poll};
use errand::Errand;
pub use errand::Progress;
use frames::{Frames, Limits};
use gap::Gap;
pub use link::ConnectStep;
use link::Link;
use position::{cursor_after, is_past, position_of, position_on};
use sweeps::Sweeps;

/// One stream's state. Nothing in it outlives the process but the position,
/// which the store keeps.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    jitter: Jitter,
    limits: Limits,
    /// What Pepay said of the environment when it minted the token.
    environment: Option<Environment>,
    /// Where the stream stands: every event up to here is stored.
    position: Option<Position>,
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
    /// Who waits for the page that is being fetched.
    listing: Option<Asker>,
    sweeps: Option<Sweeps>,
    /// A backfill that a person asked for.
    errand: Option<Errand>,
    connects: Pace,
    lists: Pace,
    records: Pace,
    /// Pepay asked for silence until then, on whatever road.
    quiet_until: Duration,
    next_walk: Duration,
    /// 401 and 403 in a row.
    refusals: u32,
    /// Whether Pepay no longer takes the cursor on the upgrade.
    since_rejected: bool,
    /// Whether Pepay has no list to look for missed events in.
    unlisted: bool,
    /// Sweeps in a row that found what the stream should have brought.
    behind: u32,
    /// Why the connection is to be replaced, if it is.
    replace_link: Option<Ending>,
    notices: VecDeque<Notice>,
}

/// The longest wait before a batch is offered again: the store is at hand, and
/// nothing else goes on without it.
const STORE_RETRY: Duration = Duration::from_secs(2);

/// When something may be tried again.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    failures: u32,
    not_before: Duration,
}

/// Who a page is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Beginning,
    Walk,
    Sweep,
    Errand,
    /// Nobody any more.
    Nobody,
}

/// A batch on its way into the store. It is offered until it is taken.
#[derive(Debug)]
struct Recording {
    events: Vec<Received>,
    cursor: Option<Position>,
    purpose: Purpose,
    under_way: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Frames,
    Stretch,
    Sweep,
    Errand,
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
    /// A machine for a stream that stands at `position`; `None` if it has never run.
    pub fn new(settings: Settings, position: Option<Position>, jitter: Jitter) -> Self {
        Self {
            sweeps: settings.reconcile_interval.map(Sweeps::new),
            settings,
            jitter,
            limits: Limits::DEFAULT,
            environment: None,
            gap: if position.is_some() { Gap::OPEN } else { Gap::Unknown },
            position,
            link: Link::Down,
            epoch: 0,
            held: Frames::new(Limits::DEFAULT.held),
            pending: Frames::new(Limits::DEFAULT.pending),
            recording: None,
            listing: None,
            errand: None,
            connects: Pace::default(),
            lists: Pace::default(),
            records: Pace::default(),
            quiet_until: Duration::ZERO,
            next_walk: Duration::ZERO,
            refusals: 0,
            since_rejected: false,
            unlisted: false,
            behind: 0,
            replace_link: None,
            notices: VecDeque::new(),
        }
    }

    /// What to do now. Ask again after every answer and every input.
    pub fn poll(&mut self, now: Moment) -> Poll {
        let mut wake = Wake::default();
        let command = self
            .notices
            .pop_front()
            .map(Command::Tell)
            .or_else(|| self.attend_link(now, &mut wake))
            .or_else(|| self.sweep(now, &mut wake))
            .or_else(|| self.run_errand(now, &mut wake))
            .or_else(|| self.record(now, &mut wake));
        match command {
            Some(command) => Poll::Do(command),
            // A step without a command may have left something to tell.
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

    /// An event has arrived on the connection.
    pub fn event(&mut self, now: Moment, event: Event) {
        let Some(received) = self.receive(event, Source::Stream, now.wall) else { return };
        if self.pending.is_full() {
            // The store is behind. Frames are still read, since pings come between
            // them, but from here on REST has to bring what cannot be held.
            self.open_gap();
        }
        if matches!(self.gap, Gap::Closed) {
            self.pending.push(received);
        } else {
            self.hold(received);
        }
    }

    /// The answer to [`Command::List`]; says what went wrong with it.
    pub fn page(&mut self, now: Moment, answer: Result<Page, Failure>) -> Option<Failure> {
        let asker = self.listing.take();
        let failure = match answer {
            Ok(page) => match self.take_page(now, asker, page) {
                Ok(()) => {
                    self.lists = Pace::default();
                    self.unlisted = false;
                    return None;
                }
                Err(stuck) => Failure::malformed(stuck.to_string()),
            },
            Err(failure) => failure,
        };
        let (backoff, floor) = (self.settings.backoff, failure.retry_after);
        self.be_quiet_for(now, floor);
        let refused =
            matches!(failure.kind, FailureKind::Refused | FailureKind::Rejected | FailureKind::Missing);
        let forgotten = refused
            && failure.kind != FailureKind::Refused
            && match asker {
                Some(Asker::Walk) => self.restart_walk(),
                Some(Asker::Errand) => self.restart_errand(),
                _ => false,
            };
        if refused && !forgotten {
            self.lists.refused(now, backoff, &self.jitter, floor);
        } else {
            self.lists.failed(now, backoff, &self.jitter, floor);
        }
        match asker {
            Some(Asker::Sweep) => self.sweep_failed(now),
            Some(Asker::Errand) => self.errand_failed(&failure, refused && !forgotten),
            Some(Asker::Beginning | Asker::Walk) if failure.kind == FailureKind::Missing && !forgotten => {
                self.go_on_unlisted(now);
            }
            _ => {}
        }
        Some(failure)
    }

    fn take_page(&mut self, now: Moment, asker: Option<Asker>, page: Page) -> Result<(), NoProgress> {
        match asker {
            Some(Asker::Beginning) => self.found_beginning(now, page),
            Some(Asker::Walk) => return self.walked(page),
            Some(Asker::Sweep) => self.sweep_page(page),
            Some(Asker::Errand) => return self.errand_page(page),
            Some(Asker::Nobody) | None => {}
        }
        Ok(())
    }

    /// The answer to [`Command::Record`]: what became of each event, or nothing if it was not stored.
    pub fn recorded(&mut self, now: Moment, answer: Option<&[Recorded]>) {
        let Some(mut recording) = self.recording.take() else { return };
        let Some(results) = answer else {
            self.records.failed(now, self.settings.backoff, &self.jitter, None);
            self.records.not_before = self.records.not_before.min(now.at + STORE_RETRY);
            recording.under_way = false;
            self.recording = Some(recording);
            return;
        };
        self.records = Pace::default();
        if let Some(cursor) = recording.cursor {
            self.position = Some(cursor);
            self.since_rejected = false;
        }
        let new = results.iter().filter(|result| **result == Recorded::New).count();
        match (recording.purpose, &mut self.gap) {
            (Purpose::Stretch, Gap::Open { filled, .. }) => *filled += new,
            (Purpose::Cursor, Gap::Unknown) => self.gap = Gap::OPEN,
            (Purpose::Sweep, _) => self.swept(now, new),
            (Purpose::Errand, _) => self.errand_stored(new),
            _ => {}
        }
        // What an errand brings is not news.
        let newest = recording.events.pop().filter(|_| recording.purpose != Purpose::Errand);
        let newest = newest.map(|received| received.event.id);
        self.notices.push_back(Notice::Stored { newest });
    }

    fn record(&mut self, now: Moment, wake: &mut Wake) -> Option<Command> {
        if self.recording.is_none() {
            if self.pending.is_empty() {
                if matches!(self.gap, Gap::Unknown) && self.position.is_some() {
                    // A frame that was on its way into the store has made the beginning.
                    self.gap = Gap::OPEN;
                }
                let asked = match self.gap {
                    Gap::Unknown => self.find_beginning(now, wake),
                    Gap::Open { .. } => self.fill(now, wake),
                    Gap::Closed => None,
                };
                if asked.is_some() {
                    return asked;
                }
            } else {
                let events = self.pending.next_batch();
                let cursor = cursor_after(self.position.as_ref(), &events);
                self.store(events, cursor, Purpose::Frames);
            }
        }
        let recording = self.recording.as_mut().filter(|recording| !recording.under_way)?;
        if !wake.is_due(now, self.records.not_before) {
            return None;
        }
        recording.under_way = true;
        Some(Command::Record { events: recording.events.clone(), cursor: recording.cursor.clone() })
    }

    /// Has this recorded next. One batch is under way at a time, so that order and
    /// cursor need no further thought; the store groups the batches of all sources.
    fn store(&mut self, events: Vec<Received>, cursor: Option<Position>, purpose: Purpose) {
        debug_assert!(self.recording.is_none(), "one batch at a time");
        self.recording = Some(Recording { events, cursor, purpose, under_way: false });
    }

    fn list(&mut self, now: Moment, wake: &mut Wake, asker: Asker, query: ListQuery) -> Option<Command> {
        if self.listing.is_some() || !wake.is_due(now, self.lists.not_before.max(self.quiet_until)) {
            return None;
        }
        self.listing = Some(asker);
        Some(Command::List(query))
    }

    fn be_quiet_for(&mut self, now: Moment, asked: Option<Duration>) {
        self.quiet_until = self.quiet_until.max(now.at + asked.unwrap_or_default());
    }

    /// An event as the store takes it; `None` if the stream is not subscribed to
    /// its type, should a server not apply the filter.
    fn receive(&self, event: Event, source: Source, received_at: UnixMillis) -> Option<Received> {
        // What Pepay signed or sent first, then what was asked for, then what the token said.
        let environment =
            event.subject.environment.or_else(|| self.settings.filters.environment()).or(self.environment);
        let origin = Arc::clone(&self.settings.name);
        let wanted = self.settings.types.matches(event.kind.as_str());
        wanted.then_some(Received { event, source, origin, environment, received_at })
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
