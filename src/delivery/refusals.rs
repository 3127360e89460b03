//! How many events in a row a target has refused. Pure; time is an argument.
//!
//! A refusal is an answer that is about the request: 3xx, 4xx but for 408 and 429, and
//! whatever `dead_on` lists. Where every event meets one, the fault is rarely the events':
//! the address is wrong, or the credentials are. An acknowledgement ends the run; answers
//! that say nothing about the request, such as 500, and missing answers leave it alone.

use std::collections::HashSet;

use http::StatusCode;

use crate::domain::clock::UnixMillis;
use crate::domain::status::Rejecting;

/// Events refused in a row, from which on a target counts as rejecting. An event that is
/// refused again counts once.
const EVENTS: usize = 5;

/// Answers in a row that refuse the credentials, from which on it does. These are not
/// about the event, so that one alone may bring them all.
const OF_CREDENTIALS: u64 = 3;

/// The refusals of one target since its last acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    since: Option<UnixMillis>,
    /// The refused events, up to [`EVENTS`] of them.
    events: HashSet<i64>,
    count: u64,
    /// How many of them ended their delivery.
    final_ones: u64,
    /// How many of them refused the credentials, without another in between.
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
    /// Whether the delivery has ended with it.
    pub(super) is_final: bool,
    /// What to show of it.
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

    /// Whether the target counts as rejecting.
    pub(super) fn is_rejecting(&self) -> bool {
        self.events.len() >= EVENTS || self.of_credentials >= OF_CREDENTIALS
    }

    /// How many refusals in a row ended their delivery.
    pub(super) const fn final_ones(&self) -> u64 {
        self.final_ones
    }

    /// The run, to be shown, if there is one.
    pub(super) fn run(&self) -> Option<Rejecting> {
        let (refusals, final_refusals, error) = (self.count, self.final_ones, self.error.clone());
        self.since.map(|since| Rejecting { since, refusals, final_refusals, error })
    }
}

/// Whether `status` refuses who sends, and not what is sent.
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

    /// Whether the last of `statuses`, each for an event of its own, makes a target rejecting.
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
    fn refused_credentials_count_whatever_the_event_is() {
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
