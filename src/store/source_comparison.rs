//! Compares the stream with the webhooks: counts the events that only one of them has brought, and
//! notes a source that brings nothing while the other one does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::counts::{Counters, percentile};
use super::engine::read::Reader;
use super::error::ReadError;

use super::types::Seen;
use super::view::{Quiet, Races, SourceCount};
use crate::domain::clock::{Clock, UnixMillis, millis};
use crate::domain::event::Source;
use crate::telemetry::names;

/// How long both sources have to bring an event. Pepay tries an unanswered webhook again with
/// growing pauses, and a stream has two minutes to reconnect: an event that has not come by then is
/// missing, not merely late.
const WINDOW: Duration = Duration::from_mins(5);

/// The time between two looks.
const TICK: Duration = Duration::from_secs(5);

/// The number of events in one query.
const STRIDE: i64 = 500;

/// The number of events in a row that only the other source brought, from which on a source is
/// quiet. A few events can be of a type that the source is not subscribed to.
const QUIET_AFTER: u64 = 20;

/// Looks at each event once, when its window has closed. Leaves out events that arrived before the
/// start of the process, or while only one of the sources was configured.
#[derive(Debug)]
pub struct Comparison {
    reader: Reader,
    counters: Arc<Counters>,
    clock: Clock,
    /// The last event looked at.
    position: i64,
    stream: Side,
    webhook: Side,
}

/// One of the two sources.
#[derive(Debug)]
struct Side {
    source: Source,
    /// Counts the events that only this source has brought.
    alone: Counter,
    /// The number of events in a row that only the other source has brought.
    missed: u64,
    /// When the first of these events arrived.
    since: UnixMillis,
}

impl Comparison {
    /// Compares the events after the sequence `position`.
    pub(super) fn new(reader: Reader, counters: Arc<Counters>, clock: Clock, position: i64) -> Self {
        let side = |source: Source| Side {
            source,
            alone: counter!(names::EVENTS_SINGLE_SOURCE, "source" => source.as_str()),
            missed: 0,
            since: UnixMillis(0),
        };
        let (stream, webhook) = (side(Source::Stream), side(Source::Webhook));
        Self { reader, counters, clock, position, stream, webhook }
    }

    /// Looks every few seconds until `stop`, while `both` sources are configured. Every replica looks, so
    /// that each knows a quiet source. The one that is `here` to keep house counts for all.
    pub async fn run(
        mut self,
        both: impl Fn() -> bool + Send,
        here: watch::Receiver<bool>,
        stop: CancellationToken,
    ) {
        let mut failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
            let (both, counts) = (both(), *here.borrow());
            match stop.run_until_cancelled(self.look(both, counts)).await {
                Some(Err(error)) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "the sources cannot be compared");
                }
                Some(Ok(())) => failing = false,
                _ => {}
            }
        }
    }

    /// Looks at every event whose window has closed since the last look, and `counts` those of one
    /// source. Without `both` sources, skips all events.
    pub(super) async fn look(&mut self, both: bool, counts: bool) -> Result<(), ReadError> {
        if both {
            self.look_further(counts).await?;
        } else {
            self.position = self.reader.summary().await?.last_sequence;
            (self.stream.missed, self.webhook.missed) = (0, 0);
        }
        let sides = [&self.stream, &self.webhook].into_iter();
        let quiet = sides.filter(|side| side.missed >= QUIET_AFTER);
        let quiet = quiet.map(|side| Quiet { source: side.source, missed: side.missed, since: side.since });
        self.counters.set_quiet(quiet.collect());
        Ok(())
    }

    async fn look_further(&mut self, counts: bool) -> Result<(), ReadError> {
        loop {
            let now = self.clock.now();
            let events = self.reader.seen_after(self.position, STRIDE).await?;
            let is_closed = |event: &Seen| now.since(event.received_at) >= WINDOW;
            let is_to_come = |event: &Seen| event.received_at.since(now) >= WINDOW;
            let is_full = i64::try_from(events.len()).is_ok_and(|found| found >= STRIDE);
            // Goes up to the last closed one, and over events of which all arrived while the clock was
            // ahead: events with the time of a wrong clock must not hold up the others.
            let last = events.iter().rposition(is_closed).or_else(|| {
                let all_are_to_come = is_full && events.iter().all(is_to_come);
                all_are_to_come.then(|| events.len() - 1)
            });
            let Some(last) = last else { return Ok(()) };
            for event in &events[..=last] {
                self.take(event, counts);
            }
            if last + 1 < events.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: &Seen, counts: bool) {
        self.position = event.sequence;
        match (event.stream, event.webhook) {
            (Some(_), None) => {
                self.stream.brings(counts);
                self.webhook.misses(event);
            }
            (None, Some(_)) => {
                self.webhook.brings(counts);
                self.stream.misses(event);
            }
            (Some(_), Some(_)) => {
                self.stream.brings(false);
                self.webhook.brings(false);
            }
            // The event was found over REST only, which tells nothing about one of the two.
            (None, None) => {}
        }
    }
}

impl Side {
    fn brings(&mut self, counts_alone: bool) {
        self.missed = 0;
        if counts_alone {
            self.alone.increment(1);
        }
    }

    fn misses(&mut self, event: &Seen) {
        if self.missed == 0 {
            self.since = event.received_at;
        }
        self.missed += 1;
    }
}

/// Counts which source was first to bring each of the events `seen`.
pub(super) fn races(seen: &[Seen], now: UnixMillis) -> Races {
    let (mut first, mut only, mut lags) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
    for event in seen {
        match (event.stream, event.webhook) {
            (Some(stream), Some(webhook)) => {
                let webhook_won = webhook < stream || (webhook == stream && event.first == Source::Webhook);
                let winner = if webhook_won { Source::Webhook } else { Source::Stream };
                *first.entry(winner.as_str()).or_insert(0) += 1;
                lags.push(millis(stream.since(webhook).max(webhook.since(stream))));
            }
            (Some(_), None) | (None, Some(_)) if now.since(event.received_at) >= WINDOW => {
                let source = if event.stream.is_some() { Source::Stream } else { Source::Webhook };
                *only.entry(source.as_str()).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    lags.sort_unstable();
    let counts = |counted: &BTreeMap<&str, u64>| {
        let count = |source: Source| Some(SourceCount { source, count: *counted.get(source.as_str())? });
        [Source::Stream, Source::Webhook].into_iter().filter_map(count).collect()
    };
    Races {
        compared: u64::try_from(lags.len()).unwrap_or(u64::MAX),
        first: counts(&first),
        lag_ms_p50: percentile(&lags, 50),
        lag_ms_p99: percentile(&lags, 99),
        only: counts(&only),
    }
}
