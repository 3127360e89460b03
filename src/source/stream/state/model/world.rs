//! The world around a machine: what Pepay has, what is on the wire, what is
//! stored, and the promises it is held to.

mod lies;
mod pepay;
mod wish;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::frames::Room;
use super::super::*;
use super::{Act, Lie, Newer, Replay};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{EventId, Subject};
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::rest::{ListQuery, Page};
use crate::source::backfill::Budget;
use crate::source::reconcile::Listed;
use crate::source::stream::StartFrom;
use crate::source::stream::tests::settings;

/// Small enough that a few dozen events meet every bound.
const LIMITS: Limits = Limits {
    walk: Budget { events: 9, bytes: usize::MAX, places: 3, descent: 2 },
    held: Room { frames: 6, bytes: usize::MAX },
    pending: Room { frames: 5, bytes: usize::MAX },
};
/// Events on a page, whatever was asked for.
const PAGE: usize = 4;

/// When the world begins.
const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// `since`, if there is one.
type Since = Option<EventId>;

pub(super) struct World {
    machine: Machine,
    start_from: StartFrom,
    now: Moment,
    /// Whether ids show the order of creation.
    ordered_ids: bool,
    /// What the list makes of `ending_before`.
    newer: Newer,
    /// Pepay's events: the object and the time of each.
    log: Vec<(u8, i64)>,
    /// Events below this are forgotten.
    forgotten: usize,
    /// Frames on the wire; `None` without a connection.
    wire: Option<VecDeque<usize>>,
    /// The cursor that a connection is asked for with.
    connecting: Option<Since>,
    listing: Option<(ListQuery, Option<Result<Page, Failure>>)>,
    recording: Option<(Vec<Received>, Option<Position>, Option<String>)>,
    comparing: Option<Vec<Listed>>,
    stored: BTreeSet<usize>,
    cursor: Option<Position>,
    history: Option<String>,
    /// What is wrong with the next page of a walk.
    lie: Option<Lie>,
    /// Whether this reading of the list, and the one before it, was lied to.
    lied: [bool; 2],
    /// Whether the last page has not arrived.
    unread: bool,
    /// The first event that the stream answers for.
    first: Option<usize>,
    /// Holes the machine has named.
    holes: usize,
    /// What an operator's backfill is to bring: the first event and the last.
    wish: Option<(usize, usize)>,
    /// Requests for pages so far.
    requests: u32,
    /// Since when a frame has been read that is not on its way to the store.
    held_since: Option<Duration>,
    /// Whether frames may be lost without a word: then order and cursor cannot be held to.
    lossy: bool,
}

impl World {
    pub(super) fn new(
        ordered_ids: bool,
        newer: Newer,
        before: usize,
        start_from: StartFrom,
        lossy: bool,
    ) -> Self {
        let mut world = Self {
            machine: machine(None, start_from.clone()),
            start_from,
            now: Moment { at: Duration::ZERO, wall: START },
            ordered_ids,
            newer,
            log: Vec::new(),
            forgotten: 0,
            wire: None,
            connecting: None,
            listing: None,
            recording: None,
            comparing: None,
            stored: BTreeSet::new(),
            cursor: None,
            history: None,
            lie: None,
            lied: [false; 2],
            unread: false,
            first: None,
            holes: 0,
            wish: None,
            requests: 0,
            held_since: None,
            lossy,
        };
        // What was there long before the first start is none of its business.
        let long_ago = world.now.wall.seconds() - 10 * 86_400;
        let created = if world.start_from == StartFrom::Now { long_ago } else { world.now.wall.seconds() };
        world.log.extend((0..before).map(|_| (0, created)));
        world.obey();
        world
    }

    /// Does what the machine says until it waits.
    fn obey(&mut self) -> Option<Duration> {
        for _ in 0..1_000 {
            match self.machine.poll(self.now) {
                Poll::Wait(until) => return until,
                Poll::Do(Command::Connect { since, .. }) => {
                    assert!(self.connecting.is_none() && self.wire.is_none());
                    self.connecting = Some(since);
                }
                Poll::Do(Command::Disconnect(_)) => self.wire = None,
                Poll::Do(Command::Ping) => assert!(self.wire.is_some()),
                Poll::Do(Command::List { query, .. }) => {
                    assert!(self.listing.is_none());
                    self.requests += 1;
                    let is_top = query.starting_after.is_none() && query.ending_before.is_none();
                    // A page that did not arrive is no reading.
                    if is_top && !std::mem::take(&mut self.unread) {
                        self.lied = [false, self.lied[0]];
                    }
                    self.listing = Some((query, None));
                }
                Poll::Do(Command::Record { events, cursor, history }) => {
                    assert!(self.recording.is_none());
                    self.recording = Some((events, cursor, history));
                }
                Poll::Do(Command::Compare(ids)) => {
                    assert!(self.comparing.is_none());
                    self.comparing = Some(ids);
                }
                Poll::Do(Command::Tell(notice)) => self.told(&notice),
            }
        }
        panic!("the machine does not come to rest");
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each thing that can happen")]
    pub(super) fn play(&mut self, act: &Act) {
        match *act {
            Act::Create(object) => self.create(object),
            Act::Webhook(which) => {
                if !self.log.is_empty() {
                    self.stored.insert(which % self.log.len());
                }
            }
            Act::Connect(replay) => self.connect(replay),
            Act::ConnectFails(kind) => {
                if self.connecting.take().is_some() {
                    self.machine.connect_failed(self.now, ConnectStep::Upgrade, &failure(kind));
                }
            }
            Act::Frame => {
                if let Some(index) = self.wire.as_mut().and_then(VecDeque::pop_front) {
                    self.machine.heard(self.now.at);
                    self.machine.event(self.now, self.event(index));
                }
            }
            Act::Repeat(which) => {
                if self.wire.is_some() {
                    // Only what this connection has sent, or what came before it, is a repetition.
                    let sent = self.wire.as_ref().and_then(|wire| wire.front().copied());
                    let sent = sent.unwrap_or(self.log.len());
                    if sent > 0 && self.may_be_repeated(which % sent) {
                        self.machine.event(self.now, self.event(which % sent));
                    }
                }
            }
            Act::Hint => {
                if self.wire.is_some() {
                    self.machine.hint(self.now);
                }
            }
            Act::Drop => {
                if self.wire.take().is_some() {
                    self.machine.closed(self.now);
                }
            }
            Act::Serve => {
                if let Some((query, page @ None)) = &self.listing {
                    let (query, _) = (query.clone(), page);
                    let answer = self.answer(&query);
                    let is_walk = self.machine.listing == Some(Asker::Walk);
                    let answer = match self.lie.take_if(|_| is_walk && self.lied == [false; 2]) {
                        Some(lie) => {
                            self.lied[0] = true;
                            self.falsify(lie, answer)
                        }
                        None => answer,
                    };
                    self.listing = Some((query, Some(answer)));
                }
            }
            Act::Page => {
                if let Some((_, Some(answer))) = self.listing.take_if(|(_, answer)| answer.is_some()) {
                    self.machine.page(self.now, answer);
                }
            }
            Act::PageFails(kind) => {
                if self.listing.take().is_some() {
                    self.unread = true;
                    self.machine.page(self.now, Err(failure(kind)));
                }
            }
            Act::Commit => {
                if let Some((events, cursor, history)) = self.recording.take() {
                    let results = self.commit(&events, cursor, history);
                    self.machine.recorded(self.now, Some(&results));
                }
            }
            Act::CommitFails => {
                if self.recording.take().is_some() {
                    self.machine.recorded(self.now, None);
                }
            }
            Act::Compare => {
                if let Some(ids) = self.comparing.take() {
                    let held: Vec<_> =
                        ids.iter().map(|(id, _)| self.stored.contains(&Self::index(id))).collect();
                    self.machine.held(self.now, Some(&held));
                }
            }
            Act::Restart(committed) => {
                if let Some((events, cursor, history)) = self.recording.take()
                    && committed
                {
                    self.commit(&events, cursor, history);
                }
                (self.wire, self.connecting, self.listing, self.comparing) = (None, None, None, None);
                self.wish = None;
                self.held_since = None;
                let history = self.history.clone();
                let resume = self.cursor.clone().map(|position| Resume { position, history });
                self.machine = machine(resume, self.start_from.clone());
            }
            Act::Wait(millis) => {
                let time = Duration::from_millis(millis.into());
                self.now = Moment { at: self.now.at + time, wall: self.now.wall.plus(time) };
            }
            // Never the newest: an account that has had events shows at least one.
            Act::Forget(count) => {
                let newest = self.log.len().saturating_sub(1);
                self.forgotten = (self.forgotten + usize::from(count)).min(newest).max(self.forgotten);
            }
            Act::LoseFrame => {
                self.wire.as_mut().and_then(VecDeque::pop_front);
            }
            Act::Lie(lie) => self.lie = Some(lie),
            Act::Reconnect => self.machine.reconnect(),
            Act::Backfill(which, by_time) => self.backfill(which, by_time),
        }
        self.obey();
        self.check_bounds();
    }

    /// A server repeats what it has sent on this connection or before: events that
    /// are stored, or held, or covered by the gap that is open.
    fn may_be_repeated(&self, index: usize) -> bool {
        self.stored.contains(&index) || !matches!(self.machine.gap, Gap::Closed)
    }

    /// Stores a batch and holds the machine to its promises.
    fn commit(
        &mut self,
        events: &[Received],
        cursor: Option<Position>,
        history: Option<String>,
    ) -> Vec<Recorded> {
        let mut results = Vec::new();
        for received in events {
            if received.event.id.as_str() == "evt_odd" {
                assert!(self.start_from == StartFrom::Earliest, "an event of long ago is taken in");
                results.push(Recorded::New);
                continue;
            }
            let index = Self::index(&received.event.id);
            // What an operator asks for may be older.
            let is_asked = received.source == Source::Backfill && cursor.is_none();
            if self.start_from == StartFrom::Now && !is_asked {
                let floor = START.seconds() - 300;
                assert!(received.event.created >= floor, "{index} was created before the first start");
            }
            // Order is given up for what passes an open gap, and for nothing else.
            let passed = received.source == Source::Stream && self.machine.gap.is_passed();
            if received.source != Source::Reconcile && !self.lossy && !passed {
                self.check_order(index, received.source);
            }
            let new = self.stored.insert(index);
            results.push(if new { Recorded::New } else { Recorded::Duplicate });
        }
        if let Some(cursor) = cursor {
            self.history = history.or(self.history.take());
            let reached = cursor.event.as_ref().map(Self::index);
            // Without an event, the stream answers for what is created from its beginning on.
            let by_time = self.log.iter().position(|(_, created)| *created >= cursor.created);
            let by_time = by_time.unwrap_or(self.log.len());
            let mut first = *self.first.get_or_insert(reached.map_or(by_time, |index| index + 1));
            if self.cursor.as_ref().is_some_and(|cursor| cursor.event.is_none()) {
                // An account that is empty cannot be told from one that has forgotten everything.
                first = first.max(self.forgotten);
                self.first = Some(first);
            }
            if let Some(reached) = reached
                && !self.lossy
            {
                for index in first..=reached {
                    assert!(
                        self.stored.contains(&index) || (index < self.forgotten && self.holes > 0),
                        "the cursor stands at {reached} and {index} is not stored"
                    );
                }
            }
            self.cursor = Some(cursor);
        }
        results
    }

    /// No earlier event of the same object may still be missing.
    fn check_order(&self, index: usize, source: Source) {
        let first = self.first.unwrap_or(0).max(self.forgotten);
        for earlier in first..index {
            assert!(
                self.log[earlier].0 != self.log[index].0 || self.stored.contains(&earlier),
                "{index} is handed over by {source:?} before {earlier} of the same object, {:?}",
                self.machine.gap
            );
        }
    }

    /// The faults end. Everything that Pepay has must come to be stored.
    pub(super) fn heal(&mut self) {
        self.lie = None;
        let deadline = self.now.at + Duration::from_secs(3_600);
        while self.now.at < deadline {
            self.play(&Act::Connect(Replay::Nothing));
            for act in [Act::Serve, Act::Page, Act::Commit, Act::Compare, Act::Frame] {
                self.play(&act);
            }
            let idle = self.listing.is_none() && self.recording.is_none() && self.comparing.is_none();
            let quiet = idle && self.wire.as_ref().is_some_and(VecDeque::is_empty);
            if quiet
                && matches!(self.machine.gap, Gap::Closed)
                && self.machine.pending.is_empty()
                && self.wish.is_none()
                && !self.lossy
            {
                break;
            }
            self.machine.heard(self.now.at);
            let step = if idle { 1_000 } else { 1 };
            self.play(&Act::Wait(step));
        }
        assert!(matches!(self.machine.gap, Gap::Closed), "the gap never closes: {:#?}", self.machine);
        assert!(self.wish.is_none(), "the backfill never ends");
        let first = self.first.unwrap().max(self.forgotten);
        let missing: Vec<_> = (first..self.log.len()).filter(|index| !self.stored.contains(index)).collect();
        assert!(missing.is_empty(), "{missing:?} of {} are never stored", self.log.len());
    }
}

fn failure(kind: FailureKind) -> Failure {
    let retry_after = (kind == FailureKind::RateLimited).then_some(Duration::from_secs(3));
    Failure { kind, retry_after, text: "it failed".to_owned() }
}

fn machine(resume: Option<Resume>, start_from: StartFrom) -> Machine {
    let numbers = std::sync::atomic::AtomicU32::new(0);
    let jitter = Jitter::from_fn(move || {
        f64::from(numbers.fetch_add(7, std::sync::atomic::Ordering::Relaxed) % 10) / 10.0
    });
    let mut machine = Machine::new(Settings { start_from, ..settings() }, resume, jitter);
    machine.limits = LIMITS;
    machine.held = Frames::new(LIMITS.held);
    machine.pending = Frames::new(LIMITS.pending);
    machine
}
