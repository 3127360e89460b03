//! The sweep compares the recent part of the REST list with the store, so that an event which neither
//! stream nor webhook brought is taken in after all. A pure value, like the
//! [`Walk`](super::backfill::Walk).
//!
//! A sweep reads from the newest event down. It leaves out the range that earlier sweeps have compared,
//! as soon as a page has no new event and reaches into that range: one request if no event is missing.
//! If one is missing, it is stored as soon as the range is reached, and the sweep reads on to the end
//! of the lookback, for events that became visible late. It also does so once per lookback in any case.
//! A sweep that has to stop early keeps the range that it has compared, and the next one goes on from
//! there.

use std::time::Duration;

use super::backfill::{Ends, MARGIN, NoProgress};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Digest, Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};

/// The number of pages that one sweep may request at once; further ones are [`BETWEEN_PAGES`] apart.
pub const PAGES: u32 = 20;
/// The time between the further pages of a sweep: in a minute 60 more requests and 6,000 events.
pub const BETWEEN_PAGES: Duration = Duration::from_secs(1);
/// The number of bytes of suspects that one sweep may hold, give or take a page.
const SUSPECT_BYTES: usize = 16 * 1024 * 1024;
/// The number of events that are stored together, for which all other writes wait.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The number of answers in a row that have to say that the list ends, if it ends above the compared
/// range.
const ENDS: u32 = 2;
/// How long an event that seems to be missing may still be on its way.
pub const GRACE: Duration = Duration::from_secs(2);
/// How far into the compared range a sweep looks for events that were slow to show, in seconds.
const OVERLAP: i64 = 60;

/// A sweep.
#[derive(Debug)]
pub struct Sweep {
    /// The begin of the lookback, in Unix seconds.
    since: i64,
    /// The range that earlier sweeps have compared; `None` to look at the whole lookback.
    compared: Option<Compared>,
    /// The time up to which every listed event has been compared before.
    known: i64,
    stage: Stage,
    /// The number of entries to request: fewer after a page that could not be read.
    limit: u16,
    suspects: Vec<Suspect>,
    /// The creation times of the newest and the oldest event seen.
    seen: Option<Compared>,
    /// The creation time of the newest event that the stream had to bring; times in the future do not
    /// count.
    newest: Option<i64>,
    /// The place where it would have gone on without leaving the compared range out.
    left_out: Option<EventId>,
    /// Whether it has left that range out.
    jumped: bool,
    /// Whether it has found a missing event: then no range is left out.
    found: bool,
    /// The place where it goes on once the found events are stored.
    rest: Option<EventId>,
    /// The ids at which its pages ended.
    ends: Ends,
    /// The last entry that was listed.
    last: Option<EventId>,
    /// The number of answers in a row that said that no entry follows it.
    ends_in_a_row: u32,
    /// Whether the room for suspects ended before the lookback did.
    cut_short: bool,
}

/// A range of creation times, in Unix seconds, in which every listed event is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The oldest time.
    pub from: i64,
    /// The newest time.
    pub to: i64,
}

/// A listed event that was not stored when it was looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The event.
    pub event: Event,
    /// When its page had arrived.
    pub received_at: UnixMillis,
}

#[derive(Debug)]
enum Stage {
    List {
        after: Option<EventId>,
        until: Option<i64>,
    },
    Compare {
        page: Page,
        /// The creation times of its newest entry, and of its oldest one as far as its order shows.
        seen: Option<Compared>,
    },
    Settle,
    CompareAgain,
    Store,
}

/// The question to the store about a listed event: its id and its digest.
pub type Listed = (EventId, Option<Digest>);

fn listed(event: &Event) -> Listed {
    (event.id.clone(), event.digest)
}

/// The next step of a sweep.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Request this page, and pass it to [`Sweep::page`].
    Ask(ListQuery),
    /// Ask the store which of these it has as they are listed, and pass the answer to [`Sweep::held`].
    Compare(Vec<Listed>),
    /// Wait [`GRACE`], then call [`Sweep::settled`].
    Settle,
    /// Store these, oldest first and at most one batch; then the sweep is over, unless it [goes
    /// on](Sweep::goes_on).
    Store(Vec<Suspect>),
    /// No event is missing; the sweep is over.
    Done,
}

impl Sweep {
    /// Creates a sweep of the events that were created since `since`, in Unix seconds, except those in
    /// `compared`. Events that were created after `known` have never been compared, unless they are in
    /// that range.
    pub fn new(since: i64, compared: Option<Compared>, known: i64) -> Self {
        Self {
            since,
            compared,
            known: compared.map_or(known, |compared| compared.to),
            stage: Stage::List { after: None, until: None },
            limit: LARGEST_PAGE,
            suspects: Vec::new(),
            seen: None,
            newest: None,
            left_out: None,
            jumped: false,
            found: false,
            rest: None,
            ends: Ends::default(),
            last: None,
            ends_in_a_row: 0,
            cut_short: false,
        }
    }

    /// Returns the next step.
    pub fn step(&mut self) -> Step {
        match &self.stage {
            Stage::List { after, until } => Step::Ask(ListQuery {
                starting_after: after.clone(),
                ending_before: None,
                created_gte: Some(self.since),
                created_lte: *until,
                limit: self.limit,
            }),
            Stage::Compare { page, .. } => Step::Compare(page.events.iter().map(listed).collect()),
            Stage::Settle => Step::Settle,
            Stage::CompareAgain => {
                Step::Compare(self.suspects.iter().map(|suspect| listed(&suspect.event)).collect())
            }
            Stage::Store if self.suspects.is_empty() => match self.rest.take() {
                Some(last) => {
                    self.stage = Stage::List { after: Some(last), until: None };
                    self.step()
                }
                None => Step::Done,
            },
            Stage::Store => {
                self.found = true;
                Step::Store(self.oldest_suspects())
            }
        }
    }

    /// Returns the oldest suspects, oldest first, as many as are stored together.
    fn oldest_suspects(&mut self) -> Vec<Suspect> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(suspect) = self.suspects.pop() else { break };
            bytes += suspect.event.body.len();
            batch.push(suspect);
        }
        batch
    }

    /// Takes the answer to [`Step::Ask`]. Only `wanted` events are compared. The stream had to bring
    /// the `due` ones. `now` is Pepay's time in Unix seconds: no later creation time is believed.
    ///
    /// # Errors
    /// [`NoProgress`] if the page repeats an earlier one.
    pub fn page(
        &mut self,
        mut page: Page,
        now: i64,
        wanted: impl Fn(&Event) -> bool,
        due: impl Fn(&Event) -> bool,
    ) -> Result<(), NoProgress> {
        let Stage::List { after, until } = &self.stage else { return Ok(()) };
        let newest = page.events.iter().map(|event| event.created.min(now)).max();
        let depth = depth(&page.events, now);
        let was_asked = until.is_none_or(|until| newest.is_none_or(|newest| newest <= until + margin()));
        if !was_asked {
            // The list ignores the bound: the compared range is read as well.
            self.stage = Stage::List { after: self.left_out.take(), until: None };
            return Ok(());
        }
        if let Some(last) = &page.last {
            if after.as_ref() == Some(last) || self.ends.have(last) {
                return Err(NoProgress);
            }
            self.ends.note(last);
        }
        self.limit = self.limit.saturating_mul(2).min(LARGEST_PAGE);
        let seen = depth.zip(newest).map(|(from, to)| Compared { from, to });
        page.events.retain(wanted);
        let due = page.events.iter().filter(|event| due(event)).map(|event| event.created);
        self.newest = due.filter(|created| *created <= now).max().max(self.newest);
        self.stage = if page.events.is_empty() {
            self.compared(page, seen, &[])
        } else {
            Stage::Compare { page, seen }
        };
        Ok(())
    }

    /// Notes that the requested page cannot be read: half of it is requested next. Returns whether that
    /// can help.
    pub fn unreadable(&mut self) -> bool {
        let of_use = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        of_use
    }

    /// Takes the answer to [`Step::Compare`]: for each event whether it is stored as it is listed.
    /// Another event under its id is offered to the store, which keeps it as a conflict.
    pub fn held(&mut self, held: &[bool]) {
        match std::mem::replace(&mut self.stage, Stage::Store) {
            Stage::Compare { page, seen } => self.stage = self.compared(page, seen, held),
            Stage::CompareAgain => {
                let mut held = held.iter();
                self.suspects.retain(|_| held.next() != Some(&true));
            }
            other => self.stage = other,
        }
    }

    fn compared(&mut self, page: Page, seen: Option<Compared>, held: &[bool]) -> Stage {
        if let Some(Compared { from, to }) = seen {
            let seen = self.seen.get_or_insert(Compared { from, to });
            (seen.from, seen.to) = (seen.from.min(from), seen.to.max(to));
        }
        for (event, held) in page.events.into_iter().zip(held) {
            if !held {
                self.suspects.push(Suspect { event, received_at: page.received_at });
            }
        }
        self.ends_in_a_row = match (page.has_more, &page.last) {
            (true, _) => 0,
            (false, Some(_)) => 1,
            (false, None) => self.ends_in_a_row.saturating_add(1),
        };
        self.last = page.last.clone().or(self.last.take());
        let is_below = |time: i64| seen.is_some_and(|seen| seen.from < time);
        // A list that ignores the bound is not read to its end.
        if page.has_more && !is_below(self.since.saturating_sub(margin())) {
            match self.compared {
                // All new entries have been read: missing events among them do not wait for the rest.
                _ if !self.suspects.is_empty() && !self.found && is_below(self.known) => {
                    self.rest = page.last;
                }
                Some(compared)
                    if self.suspects.is_empty()
                        && !self.found
                        && !self.jumped
                        && is_below(compared.to.saturating_sub(OVERLAP)) =>
                {
                    self.jumped = true;
                    if compared.from > self.since {
                        let until = compared.from.saturating_add(OVERLAP);
                        // A short range that this page has passed is not left out: the list would show
                        // the same page again.
                        if is_below(until) {
                            return Stage::List { after: page.last, until: None };
                        }
                        self.left_out = page.last;
                        return Stage::List { after: None, until: Some(until) };
                    }
                }
                _ => {
                    let bytes: usize = self.suspects.iter().map(|suspect| suspect.event.body.len()).sum();
                    if bytes <= SUSPECT_BYTES {
                        return Stage::List { after: page.last, until: None };
                    }
                    self.cut_short = true;
                }
            }
        } else if self.doubts_the_end() {
            return Stage::List { after: self.last.clone(), until: None };
        }
        if self.suspects.is_empty() { Stage::Store } else { Stage::Settle }
    }

    /// Returns whether the list has to be asked again: it has ended above the compared range, by too
    /// few answers.
    fn doubts_the_end(&self) -> bool {
        let reaches_down = self.seen.is_some_and(|seen| seen.from <= self.known.max(self.since));
        (1..ENDS).contains(&self.ends_in_a_row) && self.last.is_some() && !reaches_down
    }

    /// Notes that the grace has passed.
    pub fn settled(&mut self) {
        self.stage = Stage::CompareAgain;
    }

    /// Returns whether the sweep goes on after the found events were stored.
    pub const fn goes_on(&self) -> bool {
        self.rest.is_some() || !self.suspects.is_empty()
    }

    /// Returns the range in which every listed event is stored once the sweep is over; `None` if the
    /// sweep does not prove one.
    pub fn proves(&self) -> Option<Compared> {
        let to = if self.cut_short { None } else { self.seen }?.to;
        Some(Compared { from: self.since, to })
    }

    /// Returns the range that it has compared so far, in case it ends here; `None` if it adds nothing
    /// to the known range.
    pub fn so_far(&self) -> Option<Compared> {
        let seen = self.seen.filter(|_| self.suspects.is_empty())?;
        // If it has come down to the compared range, the two are one range.
        let before = self.compared.filter(|compared| seen.from <= compared.to);
        Some(Compared { from: before.map_or(seen.from, |compared| seen.from.min(compared.from)), ..seen })
    }

    /// Returns the creation time of the newest event that the stream had to bring, in Unix seconds.
    /// Times in the future do not count: they do not show when an event was created.
    pub const fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Returns whether it found more events than it can hold.
    pub const fn is_cut_short(&self) -> bool {
        self.cut_short
    }
}

/// Returns how far down these entries of a page reach, in Unix seconds: to the oldest, if they come
/// newest first, give or take [`OVERLAP`]. One old entry on top proves nothing.
fn depth(events: &[Event], now: i64) -> Option<i64> {
    let mut oldest = i64::MAX;
    for event in events {
        if event.created.min(now) > oldest.saturating_add(OVERLAP) {
            return events.iter().map(|event| event.created.min(now)).max();
        }
        oldest = oldest.min(event.created.min(now));
    }
    (!events.is_empty()).then_some(oldest)
}

/// Returns how far the clocks of Pepay's machines may differ, in seconds.
fn margin() -> i64 {
    i64::try_from(MARGIN.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
