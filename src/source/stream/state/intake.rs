//! What of all that arrives is to be taken in: types, filters, and the time at which
//! each was subscribed to.

use std::sync::Arc;

use super::{Machine, Moment, Narrowing, Notice};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, Received, Source};
use crate::pepay::rest::Page;
use crate::source::stream::StartFrom;
use crate::source::stream::history::{History, Wanted};

/// How far apart our clock and Pepay's are, in milliseconds, for that to be said.
const CLOCK_OFF: i64 = 5 * 60 * 1000;

impl Machine {
    /// Takes note of what time it is at Pepay.
    pub(super) fn note_time(&mut self, now: Moment, page: &Page) {
        if let Some(time) = page.server_time {
            let offset = time.0 - now.wall.0;
            let was = self.clock_offset.replace(offset).unwrap_or(0);
            if offset.abs() >= CLOCK_OFF && was.abs() < CLOCK_OFF {
                self.notices.push_back(Notice::ClockOff { offset_ms: offset });
            }
        }
        self.update_history(now);
    }

    /// What time it is, in Unix seconds: by Pepay's clock, where it has told.
    pub(super) fn pepay_time(&self, now: Moment) -> i64 {
        UnixMillis(now.wall.0.saturating_add(self.clock_offset.unwrap_or(0))).seconds()
    }

    /// A moment that has come by Pepay's clock and by this machine's. What was created
    /// after it is news, even if one of the two clocks is ahead.
    pub(super) fn safe_time(&self, now: Moment) -> i64 {
        self.pepay_time(now).min(now.wall.seconds())
    }

    /// Notes a change of types or filters, once the time at Pepay is known or no
    /// list tells it.
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
            // A cursor of a version that did not note it: what sweeps look at is wanted still.
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

    /// An event as the store takes it; `None` if the stream is not to bring it,
    /// whatever the server thinks of types, filters and time.
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

    /// The same for what an operator asks for, of whatever time.
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
            // The list shows such events as a matter of course, a connection brings what is new.
            Wanted::Early => {
                if source == Source::Stream {
                    self.notices.push_back(Notice::Early { id: event.id, created: event.created });
                }
                return None;
            }
            // The server has applied the filters to what it brings on its own, unless it
            // has refused them.
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
