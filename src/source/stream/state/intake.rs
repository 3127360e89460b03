//! Decides which events are taken in: by types, filters, and the time of each subscription.

use std::sync::Arc;

use super::{Machine, Moment, Narrowing, Notice};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, Received, Source};
use crate::pepay::rest::Page;
use crate::source::stream::StartFrom;
use crate::source::stream::history::{History, Wanted};

/// The difference between our clock and Pepay's from which it is logged, in milliseconds.
const CLOCK_OFF: i64 = 5 * 60 * 1000;

impl Machine {
    /// Notes the time of Pepay's clock, and what follows from it.
    pub(super) fn note_time(&mut self, now: Moment, page: &Page) {
        if let Some(time) = page.server_time {
            let offset = time.0 - now.wall.0;
            let was = self.clock_offset.replace(offset).unwrap_or(0);
            if offset.abs() >= CLOCK_OFF && was.abs() < CLOCK_OFF {
                self.notices.push_back(Notice::ClockOff { offset_ms: offset });
            }
        }
        self.update_history(now);
        // One of the clocks was ahead when the stream began, and is right now.
        let latest = self.pepay_time(now).max(now.wall.seconds());
        if self.history.as_mut().is_some_and(|history| history.begin_by(latest)) {
            self.history_stored = false;
        }
    }

    /// Returns the time in Unix seconds, by Pepay's clock if that is known.
    pub(super) fn pepay_time(&self, now: Moment) -> i64 {
        UnixMillis(now.wall.0.saturating_add(self.clock_offset.unwrap_or(0))).seconds()
    }

    /// Returns a time, in Unix seconds, that has come by Pepay's clock and by that of this machine.
    /// An event created after it is news, even if one of the two clocks is ahead.
    pub(super) fn safe_time(&self, now: Moment) -> i64 {
        self.pepay_time(now).min(now.wall.seconds())
    }

    /// Notes a change of types or filters, once Pepay's time is known or no list can report it.
    pub(super) fn update_history(&mut self, now: Moment) {
        let time = self.safe_time(now);
        let Some(position) = &self.position else { return };
        match &mut self.history {
            Some(history) if history.is_current(&self.settings) => {}
            Some(history) => {
                history.change(&self.settings, time);
                self.history_stored = false;
                if let Some(sweeps) = &mut self.sweeps {
                    sweeps.subscription_changed();
                }
            }
            // The cursor is from a version without a history. Events in the range of sweeps are
            // still wanted.
            none => {
                let lookback = i64::try_from(self.settings.reconcile_lookback.as_secs()).unwrap_or(i64::MAX);
                let floor = match self.settings.start_from {
                    StartFrom::Now => position.created.saturating_sub(lookback),
                    StartFrom::Earliest | StartFrom::After(_) => 0,
                };
                *none = Some(History::begin(&self.settings, floor));
            }
        }
    }

    /// Returns an event in the form that the store takes; `None` if types, filters or time exclude
    /// it, whatever the server has sent.
    pub(super) fn receive(
        &mut self,
        event: Event,
        source: Source,
        received_at: UnixMillis,
    ) -> Option<Received> {
        let wanted = match &self.history {
            Some(history) => history.wants(&event),
            None => History::present(&self.settings, &event),
        };
        self.take(event, wanted, source, received_at)
    }

    /// Like [`receive`](Self::receive), for an event of a manual backfill, which may be of any
    /// time.
    pub(super) fn receive_asked(&mut self, event: Event, received_at: UnixMillis) -> Option<Received> {
        let wanted = History::present(&self.settings, &event);
        self.take(event, wanted, Source::Backfill, received_at)
    }

    fn take(
        &mut self,
        event: Event,
        wanted: Wanted,
        source: Source,
        received_at: UnixMillis,
    ) -> Option<Received> {
        match wanted {
            Wanted::No => return None,
            // The list always shows such events. A connection should bring only new ones.
            Wanted::Early => {
                if source == Source::Stream {
                    self.notices.push_back(Notice::Early { id: event.id, created: event.created });
                }
                return None;
            }
            // The server has applied the filters to the events of the stream, unless it has refused
            // them.
            Wanted::Untold
                if source != Source::Stream || self.stream_refusals.narrowing() != Narrowing::Full =>
            {
                self.notices.push_back(Notice::Untold);
                return None;
            }
            Wanted::Yes | Wanted::Untold => {}
        }
        let environment =
            event.subject.environment.or(self.settings.filters.environment()).or(self.environment);
        let origin = Arc::clone(&self.settings.name);
        Some(Received { event, source, origin, environment, received_at })
    }
}
