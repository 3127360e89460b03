//! The world around a machine: Pepay's events, the wire, the store, and the promises of the
//! machine.

mod manual_backfill;
mod pepay;
mod promises;
mod subscriptions;

use std::collections::{BTreeSet, VecDeque};

use super::super::frames::Room;
use super::super::*;
use super::{Act, Kind, Newer, PageFault, Replay, Subscribed};
use crate::domain::clock::UnixMillis;
use crate::domain::event::EventId;
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::rest::{ListQuery, Page};
use crate::source::backfill::Budget;
use crate::source::reconcile::Listed;
use crate::source::stream::StartFrom;
use crate::source::stream::tests::settings;

/// Limits that are small enough to be met by a few dozen events.
const LIMITS: Limits = Limits {
    walk: Budget { events: 9, bytes: usize::MAX, places: 3, descent: 2 },
    held: Room { frames: 6, bytes: usize::MAX },
    pending: Room { frames: 5, bytes: usize::MAX },
};
/// The number of events on a page, whatever was requested.
const PAGE: usize = 4;

/// The time at which the world begins.
const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// The value of `since`, if there is one.
type Since = Option<EventId>;

/// A requested page, and the answer on its way.
type Listing = (ListQuery, Narrowing, Option<Result<Page, Failure>>);

/// An event of Pepay.
#[derive(Clone, Copy, Debug)]
struct Logged {
    /// The order that the event is about, or whose invoice it is about.
    order: u8,
    kind: Kind,
    created: i64,
}

pub(super) struct World {
    machine: Machine,
    start_from: StartFrom,
    now: Moment,
    /// Whether ids show the order of creation.
    ordered_ids: bool,
    /// How the list treats `ending_before`.
    newer: Newer,
    /// The present types and filters, and all earlier ones.
    subscribed: Subscribed,
    ever_subscribed: Vec<Subscribed>,
    /// The subscription of the connection.
    connected_for: Subscribed,
    /// Pepay's events.
    log: Vec<Logged>,
    /// The number of oldest events that are forgotten.
    forgotten: usize,
    /// Frames on the wire; `None` without a connection.
    wire: Option<VecDeque<usize>>,
    /// The cursor with which a connection is requested.
    connecting: Option<Since>,
    listing: Option<Listing>,
    recording: Option<(Vec<Received>, Option<Position>, Option<String>)>,
    comparing: Option<Vec<Listed>>,
    stored: BTreeSet<usize>,
    cursor: Option<Position>,
    history: Option<String>,
    /// The fault of the next page of a walk.
    page_fault: Option<PageFault>,
    /// Whether there was a fault in this reading of the list, and in the one before it.
    had_fault: [bool; 2],
    /// Whether the last page has not arrived.
    unread: bool,
    /// The first event that the stream has to bring.
    first: Option<usize>,
    /// The number of holes that the machine has named.
    holes: usize,
    /// The first and the last event that the manual backfill has to bring.
    backfill_due: Option<(usize, usize)>,
    /// The number of requested pages.
    requests: u32,
    /// Since when a frame has been read that is not on its way to the store.
    held_since: Option<Duration>,
    /// Whether frames may be lost silently. Order and cursor are then not checked.
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
            machine: machine(None, start_from.clone(), Subscribed::All),
            start_from,
            now: Moment { at: Duration::ZERO, wall: START },
            ordered_ids,
            newer,
            subscribed: Subscribed::All,
            ever_subscribed: vec![Subscribed::All],
            connected_for: Subscribed::All,
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
            page_fault: None,
            had_fault: [false; 2],
            unread: false,
            first: None,
            holes: 0,
            backfill_due: None,
            requests: 0,
            held_since: None,
            lossy,
        };
        // The stream does not have to bring events from long before its first start.
        let long_ago = world.now.wall.seconds() - 10 * 86_400;
        let created = if world.start_from == StartFrom::Now { long_ago } else { world.now.wall.seconds() };
        world.log.extend((0..before).map(|_| Logged { order: 0, kind: Kind::Order, created }));
        world.obey();
        world
    }

    /// Carries out the effects of the machine until it waits.
    fn obey(&mut self) -> Option<Duration> {
        for _ in 0..1_000 {
            match self.machine.poll(self.now) {
                Poll::Wait(until) => return until,
                Poll::Do(Effect::Connect { since, .. }) => {
                    assert!(self.connecting.is_none() && self.wire.is_none());
                    self.connecting = Some(since);
                }
                Poll::Do(Effect::Disconnect(_)) => self.wire = None,
                Poll::Do(Effect::Ping) => assert!(self.wire.is_some()),
                Poll::Do(Effect::List { query, narrowing }) => {
                    // An abandoned request is replaced.
                    self.requests += 1;
                    let is_top = query.starting_after.is_none() && query.ending_before.is_none();
                    // A page that did not arrive is no reading.
                    if is_top && !std::mem::take(&mut self.unread) {
                        self.had_fault = [false, self.had_fault[0]];
                    }
                    self.listing = Some((query, narrowing, None));
                }
                Poll::Do(Effect::Record { events, cursor, history }) => {
                    assert!(self.recording.is_none());
                    self.recording = Some((events, cursor, history));
                }
                Poll::Do(Effect::Compare(ids)) => {
                    assert!(self.comparing.is_none());
                    self.comparing = Some(ids);
                }
                Poll::Do(Effect::Tell(notice)) => self.told(&notice),
            }
        }
        panic!("the machine does not come to rest");
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each thing that can happen")]
    pub(super) fn play(&mut self, act: &Act) {
        match *act {
            Act::Create(order, kind) => self.create(order, kind),
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
                    // Only an event that this connection has sent, or an earlier one, is a
                    // repetition.
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
                if let Some((query, narrowing, None)) = &self.listing {
                    let (query, narrowing) = (query.clone(), *narrowing);
                    let answer = self.answer(&query, narrowing);
                    let is_walk = self.machine.listing == Some(PagePurpose::Walk);
                    let answer = match self.page_fault.take_if(|_| is_walk && self.had_fault == [false; 2]) {
                        Some(fault) => {
                            self.had_fault[0] = true;
                            self.with_fault(fault, answer)
                        }
                        None => answer,
                    };
                    self.listing = Some((query, narrowing, Some(answer)));
                }
            }
            Act::Page => {
                if let Some((.., Some(answer))) = self.listing.take_if(|(.., answer)| answer.is_some()) {
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
                    self.machine.recorded(self.now, Ok(&results));
                }
            }
            Act::CommitFails(part) => {
                if let Some((mut events, ..)) = self.recording.take() {
                    // All but the last part, with which the cursor moves.
                    events.truncate(events.len().saturating_sub(1).min(usize::from(part)));
                    let results = self.commit(&events, None, None);
                    self.machine.recorded(self.now, Err(&results));
                }
            }
            Act::Compare => {
                if let Some(ids) = self.comparing.take() {
                    let held: Vec<_> =
                        ids.iter().map(|(id, _)| self.stored.contains(&Self::index(id))).collect();
                    self.machine.held(self.now, Some(&held));
                }
            }
            Act::Restart(committed, other) => {
                if let Some((events, cursor, history)) = self.recording.take()
                    && committed
                {
                    self.commit(&events, cursor, history);
                }
                (self.wire, self.connecting, self.listing, self.comparing) = (None, None, None, None);
                self.backfill_due = None;
                self.held_since = None;
                let history = self.history.clone();
                let resume = self.cursor.clone().map(|position| Resume { position, history });
                self.subscribe(other);
                self.machine = machine(resume, self.start_from.clone(), self.subscribed);
            }
            Act::Wait(millis) => {
                let time = Duration::from_millis(millis.into());
                self.now = Moment { at: self.now.at + time, wall: self.now.wall.plus(time) };
            }
            // The newest event is never forgotten: an account that has had events shows at least
            // one.
            Act::Forget(count) => {
                let newest = self.log.len().saturating_sub(1);
                self.forgotten = (self.forgotten + usize::from(count)).min(newest).max(self.forgotten);
            }
            Act::LoseFrame => {
                self.wire.as_mut().and_then(VecDeque::pop_front);
            }
            Act::WrongPage(fault) => self.page_fault = Some(fault),
            Act::Reconnect => self.machine.reconnect(),
            Act::Backfill(which, by_time) => self.backfill(which, by_time),
        }
        self.obey();
        self.check_bounds();
    }

    /// Returns whether the server may repeat an event. It repeats what it has sent on this
    /// connection or before: events that are stored, held, or covered by the open gap.
    fn may_be_repeated(&self, index: usize) -> bool {
        let is_subscribed = self.is_admitted(index, self.connected_for);
        is_subscribed && (self.stored.contains(&index) || !matches!(self.machine.gap, Gap::Closed))
    }

    /// Ends the faults, and checks that every event of Pepay is stored in the end.
    pub(super) fn heal(&mut self) {
        self.page_fault = None;
        if !(self.forgotten..self.log.len()).any(|index| self.is_listed(index)) {
            // A list without events is not believed until it shows one.
            self.create(0, Kind::Order);
            self.create(0, Kind::Invoice);
        }
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
                && self.backfill_due.is_none()
                && !self.lossy
            {
                break;
            }
            self.machine.heard(self.now.at);
            let step = if idle { 1_000 } else { 1 };
            self.play(&Act::Wait(step));
        }
        assert!(matches!(self.machine.gap, Gap::Closed), "the gap never closes: {:#?}", self.machine);
        assert!(self.backfill_due.is_none(), "the backfill never ends");
        let first = self.first.unwrap().max(self.forgotten);
        let missing: Vec<_> = (first..self.log.len())
            .filter(|index| self.has_to_be_brought(*index) && !self.stored.contains(index))
            .collect();
        assert!(missing.is_empty(), "{missing:?} of {} are never stored", self.log.len());
    }
}

fn failure(kind: FailureKind) -> Failure {
    let retry_after = (kind == FailureKind::RateLimited).then_some(Duration::from_secs(3));
    Failure { kind, retry_after, text: "it failed".to_owned() }
}

fn machine(resume: Option<Resume>, start_from: StartFrom, subscribed: Subscribed) -> Machine {
    let numbers = std::sync::atomic::AtomicU32::new(0);
    let jitter = Jitter::from_fn(move || {
        f64::from(numbers.fetch_add(7, std::sync::atomic::Ordering::Relaxed) % 10) / 10.0
    });
    let settings = subscribed.of(Settings { start_from, ..settings() });
    let mut machine = Machine::new(settings, resume, jitter);
    machine.limits = LIMITS;
    machine.held = Frames::new(LIMITS.held);
    machine.pending = Frames::new(LIMITS.pending);
    machine
}
