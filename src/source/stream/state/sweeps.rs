//! The schedule of sweeps, and the consequences of their findings.

use std::time::Duration;

use super::gap::OpenGap;
use super::link::Link;
use super::{Effect, Ending, Gap, Machine, Moment, Notice, PagePurpose, Purpose, Wake};
use crate::domain::event::Source;
use crate::pepay::rest::Page;
use crate::source::backfill::NoProgress;
use crate::source::reconcile::{BETWEEN_PAGES, GRACE, PAGES, Step, Suspect, Sweep};
use crate::source::stream::history::Wanted;
use crate::source::stream::swept::Swept;

/// The time from a closed gap to the first sweep. The sweep looks for events that the list was late
/// to show, and for events that fell between the upgrade and the subscription behind it.
const AFTER_GAP: Duration = Duration::from_secs(10);

/// The number of sweeps in a row that find events before the stream counts as behind.
const BEHIND_SWEEPS: u32 = 2;

/// The schedule of sweeps.
#[derive(Debug)]
pub(super) struct Sweeps {
    /// The time between two sweeps.
    interval: Duration,
    next: Duration,
    running: Option<Sweep>,
    /// When the grace of the running sweep ends.
    settles: Option<Duration>,
    /// Whether the store is being asked.
    comparing: bool,
    /// The range that was compared, without that of the running sweep.
    swept: Swept,
    /// The number of events that the running sweep has brought, and the number of these that the
    /// stream should have brought.
    found: usize,
    missed: usize,
    /// The number of pages that the running sweep has requested.
    asked: u32,
    /// When the running sweep may request the next page.
    next_page: Duration,
    /// The number of sweeps in a row that found the list ahead of a stream that brought nothing.
    quiet: u32,
    failures: u32,
}

impl Sweeps {
    pub(super) const fn new(interval: Duration, swept: Swept) -> Self {
        Self {
            interval,
            next: interval,
            running: None,
            settles: None,
            comparing: false,
            swept,
            found: 0,
            missed: 0,
            asked: 0,
            next_page: Duration::ZERO,
            quiet: 0,
            failures: 0,
        }
    }

    /// Returns the range that has been compared until now.
    pub(super) fn swept(&self) -> Swept {
        let mut swept = self.swept;
        if let Some(compared) = self.running.as_ref().and_then(Sweep::so_far) {
            swept.note(compared);
        }
        swept
    }

    /// Notes that the stream has begun at `time`, in Unix seconds.
    pub(super) fn begin_stream(&mut self, time: i64) {
        self.swept.begin_stream(time);
    }

    /// Notes that types or filters have changed.
    pub(super) const fn subscription_changed(&mut self) {
        self.swept.change();
    }

    /// Begins a sweep. `time` is the present in Unix seconds, by Pepay's clock if that is known.
    fn begin(&mut self, time: i64, lookback: Duration) {
        let sweep = self.swept.begin_sweep(time, lookback.max(self.interval * 2));
        (self.asked, self.next_page) = (0, Duration::ZERO);
        (self.found, self.missed) = (0, 0);
        self.running = Some(sweep);
    }

    /// Ends the running sweep. The next one comes an interval later, and after failures up to eight
    /// intervals later.
    fn end(&mut self, now: Moment) {
        self.swept = self.swept();
        self.running = None;
        self.settles = None;
        self.next = now.at + self.interval * (1 << self.failures.min(3));
    }
}

impl Machine {
    pub(super) fn sweep(&mut self, now: Moment, wake: &mut Wake) -> Option<Effect> {
        let time = self.pepay_time(now);
        let sweeps = self.sweeps.as_mut()?;
        if sweeps.running.is_none() {
            if !wake.is_due(now, sweeps.next) {
                return None;
            }
            match &mut self.gap {
                Gap::Closed => sweeps.begin(time, self.settings.reconcile_lookback),
                // The events of the gap are stored. Events that the list was late to show may lie
                // below it.
                Gap::Open(OpenGap { walked: walked @ true, .. }) => {
                    *walked = false;
                    sweeps.begin(time, self.settings.reconcile_lookback);
                }
                // A sweep would run ahead of the gap, so a walk comes first, with or without a
                // connection.
                Gap::Open(OpenGap { urged, .. }) => {
                    *urged = true;
                    sweeps.end(now);
                }
                Gap::Unknown { .. } => sweeps.end(now),
            }
        }
        if sweeps.comparing || self.recording.is_some() {
            return None;
        }
        let running = sweeps.running.as_mut()?;
        match running.step() {
            Step::Ask(query) => {
                if !wake.is_due(now, sweeps.next_page) {
                    return None;
                }
                let effect = self.list(now, wake, PagePurpose::Sweep, query)?;
                if let Some(sweeps) = &mut self.sweeps {
                    sweeps.asked += 1;
                    if sweeps.asked >= PAGES {
                        sweeps.next_page = now.at + BETWEEN_PAGES;
                    }
                }
                Some(effect)
            }
            Step::Compare(ids) => {
                sweeps.comparing = true;
                Some(Effect::Compare(ids))
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
                self.swept(now, 0, 0);
                None
            }
        }
    }

    /// Takes a page of the sweep.
    pub(super) fn sweep_page(&mut self, now: Moment, page: Page) -> Result<(), NoProgress> {
        let time = self.pepay_time(now);
        let Some(running) = self.sweeps.as_mut().and_then(|sweeps| sweeps.running.as_mut()) else {
            return Ok(());
        };
        let Some(history) = &self.history else { return Ok(()) };
        let endpoint = self.settings.endpoint;
        running.page(page, time, |event| history.wants(event) == Wanted::Yes, |event| endpoint.carries(event))
    }

    /// Requests half of an unreadable page next. Returns whether the page can be halved.
    pub(super) fn halve_sweep(&mut self) -> bool {
        let running = self.sweeps.as_mut().and_then(|sweeps| sweeps.running.as_mut());
        running.is_some_and(Sweep::unreadable)
    }

    fn take_in(&mut self, suspects: Vec<Suspect>) {
        let mut events = Vec::with_capacity(suspects.len());
        for suspect in suspects {
            events.extend(self.receive(suspect.event, Source::Reconcile, suspect.received_at));
        }
        self.store(events, None, Purpose::Sweep);
    }

    /// Takes the answer of the store: for each event whether the store has it with the listed
    /// content. `None` if the store cannot be read.
    pub fn held(&mut self, now: Moment, held: Option<&[bool]>) {
        let Some(sweeps) = &mut self.sweeps else { return };
        sweeps.comparing = false;
        match (held, &mut sweeps.running) {
            (Some(held), Some(running)) => running.held(held),
            (None, Some(_)) => sweeps.end(now),
            (_, None) => {}
        }
    }

    /// Notes that the sweep has stored `found` new events. Of these, the stream should have brought
    /// `missed`. Ends the sweep unless it goes on.
    pub(super) fn swept(&mut self, now: Moment, found: usize, missed: usize) {
        if let Some(sweeps) = &mut self.sweeps {
            sweeps.found += found;
            sweeps.missed += missed;
            if sweeps.running.as_ref().is_some_and(Sweep::goes_on) {
                return;
            }
        }
        let Some(newest) = self.sweeps.as_ref().and_then(|sweeps| sweeps.running.as_ref()).map(Sweep::newest)
        else {
            return;
        };
        let quiet = newest.and_then(|newest| self.is_quiet_until(now, newest));
        let Some(sweeps) = &mut self.sweeps else { return };
        let Some(running) = sweeps.running.take() else { return };
        sweeps.failures = 0;
        sweeps.end(now);
        if let Some(compared) = running.proves().or(running.so_far()) {
            sweeps.swept.note(compared);
        }
        match quiet {
            Some(true) => sweeps.quiet = sweeps.quiet.saturating_add(1),
            Some(false) => sweeps.quiet = 0,
            // The events of a replaced connection are still to come.
            None => {}
        }
        let (is_quiet, times, compared) = (quiet == Some(true), sweeps.quiet, sweeps.swept.newest());
        // Without a connection, the stream could not bring anything.
        let is_up = matches!(self.link, Link::Up { .. });
        let (found, missed) = (sweeps.found, if is_up { sweeps.missed } else { 0 });
        self.behind = if missed == 0 { 0 } else { self.behind.saturating_add(1) };
        let behind = self.behind >= BEHIND_SWEEPS;
        // A quiet stream is replaced once. If that does not help, it is reported as behind.
        if behind && self.behind.is_multiple_of(BEHIND_SWEEPS) || is_quiet && times == BEHIND_SWEEPS {
            self.replace_link = Some(Ending::Behind);
        }
        self.notices.push_back(Notice::Swept {
            found,
            cut_short: running.is_cut_short(),
            behind: behind || times > BEHIND_SWEEPS,
            compared,
        });
    }

    /// Returns whether the list shows, at `newest`, events that an open stream has not brought.
    /// `None` if the stream has not been open for long enough.
    fn is_quiet_until(&self, now: Moment, newest: i64) -> Option<bool> {
        let grace = i64::try_from(AFTER_GAP.as_secs()).unwrap_or(i64::MAX);
        if newest <= self.last_frame.saturating_add(grace) {
            return Some(false);
        }
        let Link::Up { since, .. } = self.link else { return None };
        let up_for = i64::try_from(now.at.saturating_sub(since).as_secs()).unwrap_or(i64::MAX);
        let opened = self.pepay_time(now).saturating_sub(up_for);
        (newest > opened.saturating_add(grace)).then_some(true)
    }

    pub(super) fn sweep_failed(&mut self, now: Moment) {
        if let Some(sweeps) = &mut self.sweeps {
            sweeps.failures += 1;
            sweeps.end(now);
        }
    }

    pub(super) fn abandon_sweep(&mut self) {
        if let Some(sweeps) = &mut self.sweeps {
            sweeps.swept = sweeps.swept();
            sweeps.running = None;
            sweeps.settles = None;
        }
        self.abandon_list_request(PagePurpose::Sweep);
    }

    /// Sweeps after a walk without a connection, which has brought the events of the gap.
    pub(super) fn sweep_at_once(&mut self, now: Moment, wake: &mut Wake) -> Option<Effect> {
        self.sweeps.as_mut()?.next = now.at;
        self.sweep(now, wake)
    }

    /// Schedules a sweep soon after a gap. The gap proves nothing for the sweep: the walk began at
    /// the cursor, and a live frame may have been lost silently before it.
    pub(super) fn sweep_soon(&mut self, now: Moment) {
        if let Some(sweeps) = &mut self.sweeps {
            sweeps.next = sweeps.next.min(now.at + AFTER_GAP);
        }
    }
}
