//! Tests the promises of the machine one by one.

mod gap;
mod link;
mod manual_backfill;
mod subscriptions;
mod sweeps;

use bytes::Bytes;

use super::*;
use crate::domain::clock::UnixMillis;
use crate::domain::event::{EventId, Subject};
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::rest::{ListQuery, Page};
use crate::source::stream::history::Wanted;
use crate::source::stream::tests::settings;

/// A machine, its clock, and its last output.
struct Play {
    machine: Machine,
    at: Duration,
    notices: Vec<Notice>,
    /// Until when it waits.
    until: Option<Duration>,
    /// The time of Pepay's clock, if its answers contain it.
    server_time: Option<UnixMillis>,
}

const START: i64 = 1_700_000_000;

impl Play {
    /// Returns a stream whose position is `evt_1`, with the largest jitter.
    fn new(settings: Settings) -> Self {
        let history = History::begin(&settings, at(1).created - 300);
        Self::with(settings, &history)
    }

    /// Like [`new`](Self::new), with this stored history.
    fn with(settings: Settings, history: &History) -> Self {
        let resume = Resume { position: at(1), history: Some(history.to_text()) };
        Self::resuming(settings, Some(resume))
    }

    /// Returns a stream that has never run.
    fn first(settings: Settings) -> Self {
        Self::resuming(settings, None)
    }

    fn resuming(settings: Settings, resume: Option<Resume>) -> Self {
        let machine = Machine::new(settings, resume, Jitter::from_fn(|| 1.0));
        Self { machine, at: Duration::ZERO, notices: Vec::new(), until: None, server_time: None }
    }

    fn now(&self) -> Moment {
        let wall = UnixMillis(START * 1000).plus(self.at);
        Moment { at: self.at, wall }
    }

    fn wait(&mut self, seconds: f64) {
        self.at += Duration::from_secs_f64(seconds);
    }

    /// Returns the effects that are due now, without notices.
    fn effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            match self.machine.poll(self.now()) {
                Poll::Do(Effect::Tell(notice)) => self.notices.push(notice),
                Poll::Do(effect) => effects.push(effect),
                Poll::Wait(until) => {
                    self.until = until;
                    return effects;
                }
            }
        }
    }

    /// Returns the only effect that is due now.
    fn effect(&mut self) -> Effect {
        let mut effects = self.effects();
        assert_eq!(effects.len(), 1, "{effects:?}");
        effects.remove(0)
    }

    /// Waits until the machine connects. Returns how long that took.
    fn until_connect(&mut self) -> Duration {
        let before = self.at;
        loop {
            if self.effects().iter().any(|effect| matches!(effect, Effect::Connect { .. })) {
                return self.at.saturating_sub(before);
            }
            self.at = self.until.expect("it waits for the time");
        }
    }

    fn refuse(&mut self, step: ConnectStep, kind: FailureKind, retry_after: Option<u64>) -> Ending {
        let retry_after = retry_after.map(Duration::from_secs);
        let failure = Failure { kind, retry_after, text: String::new() };
        self.machine.connect_failed(self.now(), step, &failure)
    }

    /// Answers with this list.
    fn list(&mut self, newest_first: &[usize]) {
        let page = self.page(newest_first, false);
        assert_eq!(self.machine.page(self.now(), Ok(page)), None);
    }

    fn page(&self, newest_first: &[usize], has_more: bool) -> Page {
        let events: Vec<_> = newest_first.iter().map(|n| event(*n)).collect();
        let last = events.last().map(|event| event.id.clone());
        let (received_at, server_time) = (self.now().wall, self.server_time);
        Page { events, last, has_more, skipped: None, received_at, server_time }
    }

    /// Lets the requested list fail.
    fn list_fails(&mut self, kind: FailureKind) {
        let failure = Failure { kind, retry_after: None, text: format!("{kind:?}") };
        assert!(self.machine.page(self.now(), Err(failure)).is_some());
    }

    /// Answers with this list and then with an empty one: one answer does not end a list.
    fn list_to_its_end(&mut self, newest_first: &[usize]) {
        self.list(newest_first);
        let effects = self.effects();
        assert!(matches!(effects[..], [Effect::List { .. }]), "{effects:?}");
        self.list(&[]);
    }

    /// Answers with these events and without the known event, until the machine believes the end.
    /// Returns the wait before each answer but the first.
    fn list_without_the_known(&mut self, newest_first: &[usize]) -> Vec<Duration> {
        self.list(newest_first);
        let mut waits = Vec::new();
        for _ in 0..5 {
            let from = self.at;
            while !self.effects().iter().any(|effect| matches!(effect, Effect::List { .. })) {
                self.wait(0.1);
            }
            waits.push(self.at.saturating_sub(from));
            self.list(&[]);
        }
        waits
    }

    /// Lets the store take the batch.
    fn store(&mut self, new: usize) {
        self.machine.recorded(self.now(), Ok(&vec![Recorded::New; new]));
    }

    /// Returns a connected stream with a closed gap and nothing left to do.
    fn live(settings: Settings) -> Self {
        let mut play = Self::new(settings);
        assert!(matches!(play.effect(), Effect::Connect { .. }));
        play.machine.opened(play.now());
        assert!(matches!(play.effect(), Effect::List { .. }));
        play.list(&[1]);
        assert_eq!(play.effects().len(), 0);
        assert_eq!(play.machine.phase(), StreamPhase::Live);
        play
    }

    fn frame(&mut self, n: usize) {
        self.machine.event(self.now(), event(n));
    }

    /// Returns the batch that is to be stored now: the numbers of its events, and the new cursor.
    fn batch(&mut self) -> (Vec<usize>, Option<usize>) {
        let Effect::Record { events, cursor, .. } = self.effect() else { panic!("no batch") };
        let numbers = events.iter().map(|received| number(&received.event.id)).collect();
        (numbers, cursor.and_then(|cursor| cursor.event).as_ref().map(number))
    }

    /// Returns the notice of a hole, which has to come before anything is stored.
    fn notices_after(&mut self) -> Notice {
        let Poll::Do(Effect::Tell(notice)) = self.machine.poll(self.now()) else { panic!("nothing is told") };
        notice
    }
}

fn number(id: &EventId) -> usize {
    id.as_str()[4..].parse().unwrap()
}

/// Returns event `n`, created `n` seconds after the start of the last hour.
fn event(n: usize) -> Event {
    Event {
        id: format!("evt_{n}").parse().unwrap(),
        kind: "commerce.order.updated".parse().unwrap(),
        subject: Subject::default(),
        created: START - 3600 + i64::try_from(n).unwrap(),
        digest: None,
        body: Bytes::from_static(b"{}"),
    }
}

fn at(n: usize) -> Position {
    let event = event(n);
    Position { event: Some(event.id), created: event.created }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}
