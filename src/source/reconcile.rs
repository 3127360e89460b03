//! The sweep: the REST list of the last while, compared with what is stored, so
//! that an event which neither stream nor webhook brought is taken in after all.
//! A pure value, like the [`Walk`](super::backfill::Walk).
//!
//! A sweep reads from the newest event down and stops as soon as a page holds
//! nothing new and reaches into what an earlier sweep has proven already: one
//! request where nothing is missing. Where something is, and
//! once per `lookback` in any case, it reads on to the end of the lookback, for
//! events that became visible late.

use std::time::Duration;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};

/// Requests one sweep may make.
pub const PAGES: u32 = 20;
/// Bytes of suspected events one sweep may hold, give or take a page.
const SUSPECT_BYTES: usize = 16 * 1024 * 1024;
/// How long an event that seems to be missing may still be on its way.
pub const GRACE: Duration = Duration::from_secs(2);
/// How far below the proven time a sweep looks for events that were slow to show, in seconds.
const OVERLAP: i64 = 60;

/// One sweep.
#[derive(Debug)]
pub struct Sweep {
    /// Where the lookback begins, in Unix seconds.
    since: i64,
    /// Up to which creation time everything was stored before; `None` to look at all of it.
    proven: Option<i64>,
    pages_left: u32,
    stage: Stage,
    suspects: Vec<Suspect>,
    /// The creation time of the newest event seen.
    newest: Option<i64>,
    /// Whether the budget ended before the lookback did.
    cut_short: bool,
}

/// An event that is listed and was not stored when it was looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The event.
    pub event: Event,
    /// When its page had arrived.
    pub received_at: UnixMillis,
}

#[derive(Debug)]
enum Stage {
    List { after: Option<EventId> },
    Compare(Page),
    Settle,
    CompareAgain,
    Store,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for this page, and give the answer to [`Sweep::page`].
    Ask(ListQuery),
    /// Ask the store which of these it holds, and give the answer to [`Sweep::held`].
    Compare(Vec<EventId>),
    /// Wait [`GRACE`], then call [`Sweep::settled`].
    Settle,
    /// Store these, oldest first; the sweep is over.
    Store(Vec<Suspect>),
    /// Nothing is missing; the sweep is over.
    Done,
}

impl Sweep {
    /// A sweep of what was created since `since`, where everything up to
    /// `proven` is known to be stored. Both in Unix seconds.
    pub const fn new(since: i64, proven: Option<i64>) -> Self {
        Self {
            since,
            proven,
            pages_left: PAGES,
            stage: Stage::List { after: None },
            suspects: Vec::new(),
            newest: None,
            cut_short: false,
        }
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        match &self.stage {
            Stage::List { after } => Step::Ask(ListQuery {
                starting_after: after.clone(),
                ending_before: None,
                created_gte: Some(self.since),
                created_lte: None,
                limit: LARGEST_PAGE,
            }),
            Stage::Compare(page) => Step::Compare(page.events.iter().map(|event| event.id.clone()).collect()),
            Stage::Settle => Step::Settle,
            Stage::CompareAgain => {
                Step::Compare(self.suspects.iter().map(|suspect| suspect.event.id.clone()).collect())
            }
            Stage::Store if self.suspects.is_empty() => Step::Done,
            Stage::Store => {
                let mut suspects = std::mem::take(&mut self.suspects);
                suspects.reverse();
                Step::Store(suspects)
            }
        }
    }

    /// The answer to [`Step::Ask`].
    pub fn page(&mut self, page: Page) {
        self.pages_left = self.pages_left.saturating_sub(1);
        self.newest = self.newest.or_else(|| page.events.first().map(|event| event.created));
        self.stage = if page.events.is_empty() { self.compared(page, &[]) } else { Stage::Compare(page) };
    }

    /// The answer to [`Step::Compare`]: for each id whether it is stored.
    pub fn held(&mut self, held: &[bool]) {
        match std::mem::replace(&mut self.stage, Stage::Store) {
            Stage::Compare(page) => self.stage = self.compared(page, held),
            Stage::CompareAgain => {
                let mut held = held.iter();
                self.suspects.retain(|_| held.next() != Some(&true));
            }
            other => self.stage = other,
        }
    }

    fn compared(&mut self, page: Page, held: &[bool]) -> Stage {
        let oldest = page.events.last().map(|event| event.created);
        for (event, held) in page.events.into_iter().zip(held) {
            if !held {
                self.suspects.push(Suspect { event, received_at: page.received_at });
            }
        }
        let reaches_proven = match (self.proven, oldest) {
            (Some(proven), Some(oldest)) => oldest < proven.saturating_sub(OVERLAP),
            _ => false,
        };
        if page.has_more && !(self.suspects.is_empty() && reaches_proven) {
            let bytes: usize = self.suspects.iter().map(|suspect| suspect.event.body.len()).sum();
            if self.pages_left > 0 && bytes <= SUSPECT_BYTES {
                return Stage::List { after: page.last };
            }
            self.cut_short = true;
        }
        if self.suspects.is_empty() { Stage::Store } else { Stage::Settle }
    }

    /// The grace has passed.
    pub fn settled(&mut self) {
        self.stage = Stage::CompareAgain;
    }

    /// Up to which creation time everything is stored once the sweep is over, in
    /// Unix seconds; `None` if it cannot say.
    pub const fn proves(&self) -> Option<i64> {
        if self.cut_short { None } else { self.newest }
    }

    /// Whether the sweep ran out of its budget.
    pub const fn is_cut_short(&self) -> bool {
        self.cut_short
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;

    use super::*;
    use crate::domain::event::Subject;

    fn event(n: i64) -> Event {
        Event {
            id: format!("evt_{n}").parse().unwrap(),
            kind: "t".parse().unwrap(),
            subject: Subject::default(),
            created: n,
            digest: None,
            body: Bytes::new(),
        }
    }

    fn number(id: &EventId) -> i64 {
        id.as_str()[4..].parse().unwrap()
    }

    /// Runs a sweep over an account with events `1..=newest`, of which `missing`
    /// are not stored and `late` are stored during the grace.
    fn run(mut sweep: Sweep, newest: i64, missing: &[i64], late: &[i64]) -> (Vec<i64>, u32, Sweep) {
        let mut missing: BTreeSet<_> = missing.iter().copied().collect();
        let mut requests = 0;
        loop {
            match sweep.step() {
                Step::Ask(query) => {
                    requests += 1;
                    let from = query.starting_after.map_or(newest, |id| number(&id) - 1);
                    let to = query.created_gte.unwrap_or(1).max(1);
                    let events: Vec<_> =
                        (to..=from).rev().take(usize::from(query.limit)).map(event).collect();
                    let last = events.last().map(|event| event.id.clone());
                    let has_more = last.as_ref().is_some_and(|id| number(id) > to);
                    sweep.page(Page {
                        events,
                        last,
                        has_more,
                        skipped: None,
                        received_at: UnixMillis(0),
                        server_time: None,
                    });
                }
                Step::Compare(ids) => {
                    let held: Vec<_> = ids.iter().map(|id| !missing.contains(&number(id))).collect();
                    sweep.held(&held);
                }
                Step::Settle => {
                    missing.retain(|n| !late.contains(n));
                    sweep.settled();
                }
                Step::Store(found) => {
                    return (found.iter().map(|s| number(&s.event.id)).collect(), requests, sweep);
                }
                Step::Done => return (vec![], requests, sweep),
            }
        }
    }

    #[test]
    fn nothing_missing_costs_one_request() {
        let (found, requests, sweep) = run(Sweep::new(900, None), 990, &[], &[]);
        assert_eq!((found, requests, sweep.proves()), (vec![], 1, Some(990)));
        let (found, requests, sweep) = run(Sweep::new(1, Some(5_990)), 6_000, &[], &[]);
        assert_eq!((found, requests, sweep.proves()), (vec![], 1, Some(6_000)));
    }

    #[test]
    fn what_is_missing_is_found_through_the_whole_lookback_and_comes_oldest_first() {
        for proven in [Some(5_990), None] {
            let (found, requests, _) = run(Sweep::new(5_600, proven), 6_000, &[5_650, 5_995, 5_000], &[]);
            assert_eq!((found, requests), (vec![5_650, 5_995], 5));
        }
    }

    #[test]
    fn an_event_on_its_way_is_left_to_its_source() {
        let (found, ..) = run(Sweep::new(900, None), 990, &[980, 990], &[990]);
        assert_eq!(found, [980]);
    }

    #[test]
    fn the_budget_of_requests_is_kept_and_nothing_is_claimed_beyond_it() {
        let (_, requests, sweep) = run(Sweep::new(1, None), 100_000, &[], &[]);
        assert_eq!((requests, sweep.proves()), (PAGES, None));
        assert!(sweep.is_cut_short());
    }

    #[test]
    fn an_empty_account_is_no_news() {
        let (found, requests, sweep) = run(Sweep::new(1, None), 0, &[], &[]);
        assert_eq!((found, requests, sweep.proves()), (vec![], 1, None));
    }
}
