//! When to sweep, and what follows from what a sweep finds.

use std::time::Duration;

use super::{Asker, Command, Ending, Gap, Machine, Moment, Notice, Purpose, Wake};
use crate::domain::event::Source;
use crate::pepay::rest::Page;
use crate::source::reconcile::{GRACE, Step, Suspect, Sweep};

/// How soon after a gap closed the first sweep looks for what the list was late
/// to show, or what fell between the upgrade and the subscription behind it.
const AFTER_GAP: Duration = Duration::from_secs(10);

/// Sweeps in a row that find events before the stream counts as behind.
const BEHIND_SWEEPS: u32 = 2;

/// The schedule of sweeps.
#[derive(Debug)]
pub(super) struct Sweeps {
    /// How far apart they are.
    interval: Duration,
    next: Duration,
    running: Option<Sweep>,
    /// When the grace of the running one ends.
    settles: Option<Duration>,
    /// Whether the store is being asked.
    comparing: bool,
    /// Up to which creation time everything is stored, in Unix seconds.
    proven: Option<i64>,
    /// Sweeps since one looked at the whole lookback.
    since_full: u32,
    failures: u32,
}

impl Sweeps {
    pub(super) const fn new(interval: Duration) -> Self {
        Self {
            interval,
            next: interval,
            running: None,
            settles: None,
            comparing: false,
            proven: None,
            since_full: 0,
            failures: 0,
        }
    }

    /// Begins a sweep. One in every `lookback` takes nothing as proven.
    fn begin(&mut self, now: Moment, lookback: Duration) {
        let lookback = lookback.max(self.interval * 2);
        let since = now.wall.seconds().saturating_sub_unsigned(lookback.as_secs()).max(0);
        let rounds = lookback.as_millis() / self.interval.as_millis().max(1);
        self.since_full += 1;
        if u128::from(self.since_full) >= rounds {
            self.since_full = 0;
            self.proven = None;
        }
        self.running = Some(Sweep::new(since, self.proven));
    }

    /// Ends the running sweep; the next one comes an interval later, or, after
    /// failures, up to eight.
    fn end(&mut self, now: Moment) {
        self.running = None;
        self.settles = None;
        self.next = now.at + self.interval * (1 << self.failures.min(3));
    }
}

impl Machine {
    pub(super) fn sweep(&mut self, now: Moment, wake: &mut Wake) -> Option<Command> {
        let sweeps = self.sweeps.as_mut()?;
        if sweeps.running.is_none() {
            if !wake.is_due(now, sweeps.next) {
                return None;
            }
            match &mut self.gap {
                Gap::Closed => sweeps.begin(now, self.settings.reconcile_lookback),
                // A sweep would run ahead of the gap: walk instead, connection or not.
                Gap::Open { urged, .. } => {
                    *urged = true;
                    sweeps.end(now);
                }
                Gap::Unknown => sweeps.end(now),
            }
        }
        if sweeps.comparing || self.recording.is_some() {
            return None;
        }
        let running = sweeps.running.as_mut()?;
        match running.step() {
            Step::Ask(query) => self.list(now, wake, Asker::Sweep, query),
            Step::Compare(ids) => {
                sweeps.comparing = true;
                Some(Command::Compare(ids))
            }
            Step::Settle => {
                let until = *sweeps.settles.get_or_insert(now.at + GRACE);
                if wake.is_due(now, until) {
                    sweeps.settles = None;
                    running.settled();
                    return self.sweep(now, wake);
                }
                None
            }
            Step::Store(suspects) => {
                self.take_in(suspects);
                None
            }
            Step::Done => {
                self.swept(now, 0);
                None
            }
        }
    }

    /// A page of the sweep has arrived.
    pub(super) fn sweep_page(&mut self, mut page: Page) {
        page.events.retain(|event| self.settings.types.matches(event.kind.as_str()));
        if let Some(running) = self.sweeps.as_mut().and_then(|sweeps| sweeps.running.as_mut()) {
            running.page(page);
        }
    }

    fn take_in(&mut self, suspects: Vec<Suspect>) {
        let mut events = Vec::with_capacity(suspects.len());
        for suspect in suspects {
            events.extend(self.receive(suspect.event, Source::Reconcile, suspect.received_at));
        }
        self.store(events, None, Purpose::Sweep);
    }

    /// The store's answer: for each id whether it holds it; `None` if it cannot say.
    pub fn held(&mut self, now: Moment, held: Option<&[bool]>) {
        let Some(sweeps) = &mut self.sweeps else { return };
        sweeps.comparing = false;
        match (held, &mut sweeps.running) {
            (Some(held), Some(running)) => running.held(held),
            (None, Some(_)) => sweeps.end(now),
            (_, None) => {}
        }
    }

    pub(super) fn swept(&mut self, now: Moment, found: usize) {
        let Some(sweeps) = &mut self.sweeps else { return };
        let Some(running) = sweeps.running.take() else { return };
        sweeps.failures = 0;
        sweeps.end(now);
        sweeps.proven = running.proves().or(sweeps.proven);
        self.behind = if found == 0 { 0 } else { self.behind + 1 };
        let behind = self.behind >= BEHIND_SWEEPS;
        if behind && self.behind.is_multiple_of(BEHIND_SWEEPS) {
            self.replace_link = Some(Ending::Behind);
        }
        self.notices.push_back(Notice::Swept { found, cut_short: running.is_cut_short(), behind });
    }

    pub(super) fn sweep_failed(&mut self, now: Moment) {
        if let Some(sweeps) = &mut self.sweeps {
            sweeps.failures += 1;
            sweeps.end(now);
        }
    }

    pub(super) fn abandon_sweep(&mut self) {
        if let Some(sweeps) = &mut self.sweeps {
            sweeps.running = None;
            sweeps.settles = None;
        }
        if self.listing == Some(Asker::Sweep) {
            self.listing = Some(Asker::Nobody);
        }
    }

    /// After a gap a sweep follows soon. The gap proves nothing to it: the walk
    /// began at the cursor, and a live frame lost in silence lies before that.
    pub(super) fn sweep_soon(&mut self, now: Moment) {
        if let Some(sweeps) = &mut self.sweeps {
            sweeps.next = sweeps.next.min(now.at + AFTER_GAP);
        }
    }
}
