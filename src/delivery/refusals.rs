//! Counts the events in a row that a target has refused. Pure; time is an argument.
//!
//! A refusal is an answer about the request itself: 3xx, 4xx except 408 and 429, and every status in
//! `dead_on`. If every event is refused, the fault is rarely the events': the address or the
//! credentials are wrong. An acknowledgement ends the run. Answers that say nothing about the request,
//! such as 500, and missing answers do not change it.

use std::collections::HashSet;

use http::StatusCode;

use crate::domain::clock::UnixMillis;
use crate::domain::status::Rejecting;

/// The number of events refused in a row from which on a target counts as rejecting. An event that is
/// refused again counts once.
const EVENTS: usize = 5;

/// The number of answers in a row that refuse the credentials from which on a target counts as
/// rejecting. These are not about the event, so one event may get them all.
const OF_CREDENTIALS: u64 = 3;

/// The refusals of one target since its last acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    since: Option<UnixMillis>,
    /// The refused events, up to [`EVENTS`] of them.
    events: HashSet<i64>,
    count: u64,
    /// The number of refusals that ended their delivery.
    final_ones: u64,
    /// The number of refusals of the credentials, without another refusal in between.
    of_credentials: u64,
    error: String,
}

/// A refusal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'a> {
    /// The event.
    pub(super) sequence: i64,
    /// The answer.
    pub(super) status: StatusCode,
    /// Whether it has ended the delivery.
    pub(super) is_final: bool,
    /// The error to show.
    pub(super) error: &'a str,
}

impl Refusals {
    /// Adds a refusal. Returns whether the target counts as rejecting from now on.
    pub(super) fn add(&mut self, refusal: Refusal<'_>, now: UnixMillis) -> bool {
        let was_rejecting = self.is_rejecting();
        self.since.get_or_insert(now);
        if self.events.len() < EVENTS {
            self.events.insert(refusal.sequence);
        }
        self.count += 1;
        self.final_ones += u64::from(refusal.is_final);
        self.of_credentials = if about_credentials(refusal.status) { self.of_credentials + 1 } else { 0 };
        refusal.error.clone_into(&mut self.error);
        !was_rejecting && self.is_rejecting()
    }

    /// Ends the run. Returns whether the target counted as rejecting.
    pub(super) fn end(&mut self) -> bool {
        let was_rejecting = self.is_rejecting();
        if self.since.is_some() {
            *self = Self::default();
        }
        was_rejecting
    }

    /// Returns whether the target counts as rejecting.
    pub(super) fn is_rejecting(&self) -> bool {
        self.events.len() >= EVENTS || self.of_credentials >= OF_CREDENTIALS
    }

    /// Returns how many refusals in a row ended their delivery.
    pub(super) const fn final_ones(&self) -> u64 {
        self.final_ones
    }

    /// Returns the run for the status, if the target counts as rejecting.
    pub(super) fn run(&self) -> Option<Rejecting> {
        let (refusals, final_refusals, error) = (self.count, self.final_ones, self.error.clone());
        self.since.map(|since| Rejecting { since, refusals, final_refusals, error })
    }
}

/// Returns whether `status` refuses the credentials of the sender, and not the event.
const fn about_credentials(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn refusal(sequence: i64, status: u16) -> Refusal<'static> {
        let status = StatusCode::from_u16(status).unwrap();
        Refusal { sequence, status, is_final: false, error: "answered" }
    }

    /// Returns whether the last of `statuses`, each for an event of its own, makes a target rejecting.
    fn rejects(statuses: &[u16]) -> bool {
        let mut refusals = Refusals::default();
        let added =
            (1..).zip(statuses).map(|(sequence, status)| refusals.add(refusal(sequence, *status), NOW));
        added.last().unwrap()
    }

    #[test]
    fn some_events_in_a_row_make_a_target_rejecting_and_one_event_alone_does_not() {
        assert!(!rejects(&[422; 4]));
        assert!(rejects(&[422; 5]));
        let mut refusals = Refusals::default();
        assert!((0..100).all(|_| !refusals.add(refusal(7, 422), NOW)));
        assert!(!refusals.is_rejecting());
    }

    #[test]
    fn refused_credentials_count_for_all_events() {
        assert!(rejects(&[401, 403, 401]));
        assert!(!rejects(&[401, 401, 422, 401]));
        let mut refusals = Refusals::default();
        let began: Vec<_> = (0..4).map(|_| refusals.add(refusal(7, 401), NOW)).collect();
        assert_eq!(began, [false, false, true, false], "said once");
    }

    #[test]
    fn an_acknowledgement_ends_the_run_and_says_so_once() {
        let mut refusals = Refusals::default();
        for sequence in 0..5 {
            refusals.add(Refusal { is_final: sequence > 2, ..refusal(sequence, 410) }, NOW);
        }
        let run = Rejecting { since: NOW, refusals: 5, final_refusals: 2, error: "answered".to_owned() };
        assert_eq!((refusals.run(), refusals.final_ones()), (Some(run), 2));
        assert!(refusals.end());
        assert!(!refusals.end());
        assert_eq!((refusals.run(), refusals.final_ones()), (None, 0));
    }
}
