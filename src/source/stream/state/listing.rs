//! The pages of the list: their purpose, their pace, and the handling of an answer.

use std::time::Duration;

use super::pace::RetryTimer;
use super::{Effect, Machine, Moment, Narrowing, Notice, Wake};
use crate::pepay::error::{Failure, FailureKind};
use crate::pepay::rest::{ListQuery, Page};
use crate::source::backfill::{NoProgress, Walk};

/// The purpose of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PagePurpose {
    Beginning,
    Walk,
    Sweep,
    ManualBackfill,
}

impl Machine {
    /// Takes the answer to [`Effect::List`]. Returns what was wrong with it.
    pub fn page(&mut self, now: Moment, answer: Result<Page, Failure>) -> Option<Failure> {
        let purpose = self.listing.take();
        let is_walk = matches!(purpose, Some(PagePurpose::Beginning | PagePurpose::Walk));
        let mut is_stuck = false;
        let failure = match answer {
            Ok(page) => {
                self.page_size.arrived();
                self.note_time(now, &page);
                match self.take_page(now, purpose, page) {
                    Ok(()) if is_walk => return None,
                    Ok(()) => {
                        self.lists = RetryTimer::default();
                        return None;
                    }
                    Err(stuck) => {
                        is_stuck = true;
                        Failure::malformed(stuck.to_string())
                    }
                }
            }
            Err(failure) => failure,
        };
        let floor = failure.retry_after;
        self.be_quiet_for(now, floor);
        // A failing list may delay live events for no longer than the hold limit.
        let link_quiet_until = now.at + floor.unwrap_or_default().min(self.settings.hold_limit);
        self.link_quiet_until = self.link_quiet_until.max(link_quiet_until);
        let is_late = matches!(failure.kind, FailureKind::Unavailable | FailureKind::Unreachable);
        let shrunk = is_late && self.page_size.failed();
        let is_odd = matches!(failure.kind, FailureKind::Rejected | FailureKind::Missing);
        let is_unreadable = failure.kind == FailureKind::Malformed && !is_stuck;
        let is_final = is_odd || is_unreadable;
        let turned = self.walk_of(purpose).is_some_and(|walk| walk.failed(is_final));
        let halved = is_unreadable && !turned && self.halve(purpose);
        // A walk begins again at the top if its place leads nowhere or Pepay has forgotten it.
        let forgotten = (is_odd || is_stuck) && !turned && self.restart(purpose);
        // Pepay may not know one of the parameters. The list is then read without it.
        let narrowed = failure.kind == FailureKind::Rejected && !turned && !forgotten && self.narrow(now);
        let changed = turned && is_final || halved || narrowed;
        let refused = (failure.kind == FailureKind::Refused || is_odd) && !forgotten && !changed;
        let backoff = self.settings.backoff;
        let pace = if is_walk { &mut self.walks } else { &mut self.lists };
        if changed {
            pace.failures = pace.failures.saturating_add(1);
        } else if refused {
            pace.refused(now, backoff, &self.jitter, floor);
        } else {
            pace.failed(now, backoff, &self.jitter, floor);
        }
        match purpose {
            Some(PagePurpose::Sweep) if !changed && !shrunk => self.sweep_failed(now),
            Some(PagePurpose::ManualBackfill) if !changed => self.manual_backfill_failed(&failure, refused),
            _ => {}
        }
        Some(failure)
    }

    /// Leaves out of further requests the parameters that the list may have refused. Returns
    /// whether there was more to leave out.
    fn narrow(&mut self, now: Moment) -> bool {
        let narrowing = self.list_refusals.refused(now);
        self.notices.extend(narrowing.map(|narrowing| Notice::Narrowed { what: "list", narrowing }));
        narrowing.is_some()
    }

    /// Returns the walk that a page is for.
    fn walk_of(&mut self, purpose: Option<PagePurpose>) -> Option<&mut Walk> {
        match purpose {
            Some(PagePurpose::Walk) => self.gap_walk(),
            Some(PagePurpose::ManualBackfill) => self.manual_backfill_walk(),
            Some(PagePurpose::Beginning | PagePurpose::Sweep) | None => None,
        }
    }

    /// Requests half of an unreadable page next. Returns whether the page can be halved.
    fn halve(&mut self, purpose: Option<PagePurpose>) -> bool {
        match purpose {
            Some(PagePurpose::Sweep) => self.halve_sweep(),
            _ => self.walk_of(purpose).is_some_and(Walk::unreadable),
        }
    }

    /// Begins the walk again at the top, if its last place was refused. Returns whether it was not
    /// at the top.
    fn restart(&mut self, purpose: Option<PagePurpose>) -> bool {
        self.walk_of(purpose).filter(|walk| !walk.is_at_top()).map(Walk::restart).is_some()
    }

    fn take_page(&mut self, now: Moment, purpose: Option<PagePurpose>, page: Page) -> Result<(), NoProgress> {
        match purpose {
            Some(PagePurpose::Beginning) => self.found_beginning(now, page),
            Some(PagePurpose::Walk) => return self.walked(now, page),
            Some(PagePurpose::Sweep) => return self.sweep_page(now, page),
            Some(PagePurpose::ManualBackfill) => return self.manual_backfill_page(page),
            // The request was abandoned.
            None => {}
        }
        Ok(())
    }

    pub(super) fn list(
        &mut self,
        now: Moment,
        wake: &mut Wake,
        purpose: PagePurpose,
        query: ListQuery,
    ) -> Option<Effect> {
        let pace = match purpose {
            PagePurpose::Beginning | PagePurpose::Walk => self.walks,
            PagePurpose::Sweep | PagePurpose::ManualBackfill => self.lists,
        };
        let from = pace.not_before.max(self.quiet_until).max(self.requests.next());
        if self.listing.is_some() || !wake.is_due(now, from) {
            return None;
        }
        self.requests.count(now);
        self.listing = Some(purpose);
        // Parameters are not added again in the middle of a walk: a refusal would take it back to
        // the top.
        let is_first =
            query.starting_after.is_none() && query.ending_before.is_none() && query.created_lte.is_none();
        let narrowing = if is_first { self.list_refusals.begin(now) } else { self.list_refusals.narrowing() };
        let query = ListQuery { limit: self.page_size.limit(query.limit), ..query };
        let query = match narrowing {
            // The bounds are optional too: walks and sweeps look at the time of each entry.
            Narrowing::Bare => ListQuery { created_gte: None, created_lte: None, ..query },
            Narrowing::Full | Narrowing::Types => query,
        };
        Some(Effect::List { query, narrowing })
    }

    /// Abandons the request for `purpose`, if there is one. Its answer is ignored, and the next request
    /// replaces it.
    pub(super) fn abandon_list_request(&mut self, purpose: PagePurpose) {
        self.listing.take_if(|listing| *listing == purpose);
    }

    /// Leaves the list to the walk of the gap, which does not wait for an answer to another request.
    pub(super) fn leave_list_to_walk(&mut self) {
        self.abandon_sweep();
        self.abandon_list_request(PagePurpose::ManualBackfill);
    }

    pub(super) fn be_quiet_for(&mut self, now: Moment, asked: Option<Duration>) {
        self.quiet_until = self.quiet_until.max(now.at + asked.unwrap_or_default());
    }
}
