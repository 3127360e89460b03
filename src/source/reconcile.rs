//! The sweep: the REST list of the last while, compared with what is stored, so
//! that an event which neither stream nor webhook brought is taken in after all.
//! A pure value, like the [`Walk`](super::backfill::Walk).
//!
//! A sweep reads from the newest event down and leaves out the range that earlier
//! sweeps have compared already, as soon as a page holds nothing new and reaches
//! into it: one request where nothing is missing. Where something is, that is stored
//! as soon as the range is reached, and the sweep reads on to the end of the lookback,
//! for events that became visible late; so it does once per lookback in any case. A
//! sweep that has to stop early keeps the range that it has compared, and the next one
//! goes on from there.

use std::collections::HashSet;
use std::time::Duration;

use super::backfill::{MARGIN, NoProgress};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Digest, Event, EventId};
use crate::pepay::rest::{LARGEST_PAGE, ListQuery, Page};

/// Pages that one sweep may ask for at once; further ones are [`BETWEEN_PAGES`] apart.
pub const PAGES: u32 = 20;
/// How far apart the further pages of a sweep are: with those of a minute, 60 more
/// requests and 6,000 events.
pub const BETWEEN_PAGES: Duration = Duration::from_secs(1);
/// Bytes of suspected events one sweep may hold, give or take a page.
const SUSPECT_BYTES: usize = 16 * 1024 * 1024;
/// What is stored as one: the store holds up everything else meanwhile.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Answers in a row that have to say that nothing follows, where the list ends above what
/// has been compared before.
const ENDS: u32 = 2;
/// How long an event that seems to be missing may still be on its way.
pub const GRACE: Duration = Duration::from_secs(2);
/// How far into the compared range a sweep looks for events that were slow to show, in seconds.
const OVERLAP: i64 = 60;

/// One sweep.
#[derive(Debug)]
pub struct Sweep {
    /// Where the lookback begins, in Unix seconds.
    since: i64,
    /// What earlier sweeps have compared; `None` to look at all of it.
    compared: Option<Compared>,
    /// Up to where everything that was listed has been compared before.
    known: i64,
    stage: Stage,
    /// Entries to ask for: fewer after a page that could not be read.
    limit: u16,
    suspects: Vec<Suspect>,
    /// The creation times of the newest and the oldest event seen.
    seen: Option<Compared>,
    /// The creation time of the newest event that the stream was to bring, but for times
    /// to come.
    newest: Option<i64>,
    /// Where it would have gone on, had it not left out what was compared before.
    left_out: Option<EventId>,
    /// Whether it has left that out.
    jumped: bool,
    /// Whether it has found something missing: then nothing is left out.
    found: bool,
    /// Where it goes on once what it has found is stored.
    rest: Option<EventId>,
    /// Where its pages ended.
    ends: HashSet<EventId>,
    /// The last entry that was listed.
    last: Option<EventId>,
    /// Answers in a row that said that nothing follows it.
    ends_in_a_row: u32,
    /// Whether the room for suspects ended before the lookback did.
    cut_short: bool,
}

/// A range of creation times, in Unix seconds, in which every listed event is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The oldest.
    pub from: i64,
    /// The newest.
    pub to: i64,
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
    List {
        after: Option<EventId>,
        until: Option<i64>,
    },
    Compare {
        page: Page,
        /// The creation times of its newest entry, and of the oldest as far as its order shows.
        seen: Option<Compared>,
    },
    Settle,
    CompareAgain,
    Store,
}

/// What the store is asked about an event that is listed.
pub type Listed = (EventId, Option<Digest>);

fn listed(event: &Event) -> Listed {
    (event.id.clone(), event.digest)
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for this page, and give the answer to [`Sweep::page`].
    Ask(ListQuery),
    /// Ask the store which of these it holds as they are listed, and give the answer to [`Sweep::held`].
    Compare(Vec<Listed>),
    /// Wait [`GRACE`], then call [`Sweep::settled`].
    Settle,
    /// Store these, oldest first and no more than fits one batch; then the sweep is over,
    /// unless it [goes on](Sweep::goes_on).
    Store(Vec<Suspect>),
    /// Nothing is missing; the sweep is over.
    Done,
}

impl Sweep {
    /// A sweep of what was created since `since`, in Unix seconds, but for what is
    /// `compared` already. What was created after `known` has never been compared, unless
    /// it is in that range.
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
            ends: HashSet::new(),
            last: None,
            ends_in_a_row: 0,
            cut_short: false,
        }
    }

    /// What to do next.
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

    /// The oldest of the suspects, oldest first, as many as are stored as one.
    fn oldest_suspects(&mut self) -> Vec<Suspect> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Some(suspect) = self.suspects.pop() else { break };
            bytes += suspect.event.body.len();
            batch.push(suspect);
        }
        batch
    }

    /// The answer to [`Step::Ask`]; only what is `wanted` is compared. What is `due` is
    /// what the stream was to bring. `now` is Pepay's time in Unix seconds: no creation
    /// time is believed to be later.
    ///
    /// # Errors
    /// [`NoProgress`] if the page repeats one that came before it.
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
            // The bound is not taken notice of: the compared range is read as well.
            self.stage = Stage::List { after: self.left_out.take(), until: None };
            return Ok(());
        }
        if let Some(last) = &page.last
            && (after.as_ref() == Some(last) || !self.ends.insert(last.clone()))
        {
            return Err(NoProgress);
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

    /// The page that was asked for cannot be read: half of it is asked for next.
    /// Returns whether that is of use.
    pub fn unreadable(&mut self) -> bool {
        let of_use = self.limit > 1;
        self.limit = (self.limit / 2).max(1);
        of_use
    }

    /// The answer to [`Step::Compare`]: for each event whether it is stored as it is
    /// listed. Another event under its id is offered to the store, which keeps it as
    /// a conflict.
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
        // A list that takes no notice of the bound is not read to its end.
        if page.has_more && !is_below(self.since.saturating_sub(margin())) {
            match self.compared {
                // What is new has been read: what of it is missing does not wait for the rest.
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
                        self.left_out = page.last;
                        return Stage::List {
                            after: None,
                            until: Some(compared.from.saturating_add(OVERLAP)),
                        };
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

    /// Whether the list is to be asked again for what follows: it has ended above what was
    /// compared before, as too few answers say.
    fn doubts_the_end(&self) -> bool {
        let reaches_down = self.seen.is_some_and(|seen| seen.from <= self.known.max(self.since));
        (1..ENDS).contains(&self.ends_in_a_row) && self.last.is_some() && !reaches_down
    }

    /// The grace has passed.
    pub fn settled(&mut self) {
        self.stage = Stage::CompareAgain;
    }

    /// Whether it is not over yet, although what it has found is stored.
    pub const fn goes_on(&self) -> bool {
        self.rest.is_some() || !self.suspects.is_empty()
    }

    /// The range in which everything is stored once the sweep is over; `None` if it
    /// cannot say.
    pub fn proves(&self) -> Option<Compared> {
        let to = if self.cut_short { None } else { self.seen }?.to;
        Some(Compared { from: self.since, to })
    }

    /// The range that it has compared so far, should it end here; `None` if it has
    /// nothing to add to what was known.
    pub fn so_far(&self) -> Option<Compared> {
        let seen = self.seen.filter(|_| self.suspects.is_empty())?;
        // Where it has come down to what was compared before, the two are one range.
        let before = self.compared.filter(|compared| seen.from <= compared.to);
        Some(Compared { from: before.map_or(seen.from, |compared| seen.from.min(compared.from)), ..seen })
    }

    /// The creation time of the newest event that the stream was to bring, in Unix
    /// seconds. Times to come do not count: they say nothing of when an event was created.
    pub const fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// Whether it found more than it can hold.
    pub const fn is_cut_short(&self) -> bool {
        self.cut_short
    }
}

/// How far down these entries of a page reach, in Unix seconds: to the oldest, if they
/// come newest first, give or take [`OVERLAP`]. One old entry on top proves nothing.
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

/// How far Pepay's machines may disagree about the time, in seconds.
fn margin() -> i64 {
    i64::try_from(MARGIN.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
