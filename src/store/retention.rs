//! Keeping the store small: removes what is older than its retention and gives
//! the room back, in steps that leave the committer to others most of the time.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::committer::{Control, Group, Tasks};
use super::engine::read::Reader;
use super::engine::{Retained, RetentionStep};
use super::error::RecordError;
use super::settings::Settings;
use crate::domain::clock::{Clock, UnixMillis};
use crate::telemetry::names;

/// Between two looks for something to do.
const REST: Duration = Duration::from_mins(1);

/// After each step, so many times as long as it took is left to others: a quarter
/// of the committer's time at most.
const LEFT_TO_OTHERS: u32 = 3;

/// Between two steps at least.
const PAUSE: Duration = Duration::from_millis(10);

/// A write-ahead log beyond this is moved into the database and cut off. SQLite
/// does the first by itself every few megabytes, unless a reader keeps an
/// old state; more than this costs disk, and time at the next start.
const LOG_BYTES: u64 = 64 << 20;

/// The newest events are kept however old they are: with a cursor that it has
/// forgotten, Pepay sends a snapshot of the newest events instead, and where
/// little happens those are old ones. Without their bodies they take a few
/// megabytes.
const NEWEST_KEPT: i64 = 10_000;

/// Entries of the audit trail that are kept of each kind, some tens of megabytes: who reads
/// very many bodies does not push out what was changed.
const AUDIT_KEPT: i64 = 100_000;

/// How long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    /// Bodies and attempts of events that are done.
    pub(super) payloads: Duration,
    /// Ids.
    pub(super) ids: Duration,
    /// What is dead, until an operator decides.
    pub(super) dead: Duration,
    /// Entries of the audit trail.
    pub(super) audit: Duration,
}

impl From<&Settings> for Retention {
    fn from(settings: &Settings) -> Self {
        Self {
            payloads: settings.payload_retention,
            ids: settings.dedupe_retention,
            dead: settings.dead_retention,
            audit: settings.audit_retention,
        }
    }
}

/// Keeps the store small. To be [run](Self::run) beside the committer.
#[derive(Debug)]
pub struct Janitor {
    tasks: Tasks,
    reader: Reader,
    clock: Clock,
    /// As it is now: a reload may change it.
    retention: watch::Receiver<Retention>,
    pub(super) newest_kept: i64,
}

impl Janitor {
    pub(super) const fn new(
        tasks: Tasks,
        reader: Reader,
        clock: Clock,
        retention: watch::Receiver<Retention>,
    ) -> Self {
        Self { tasks, reader, clock, retention, newest_kept: NEWEST_KEPT }
    }

    /// Looks for something to do every minute until `stop`, while that is done `here`.
    pub async fn run(self, mut here: watch::Receiver<bool>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let is_here = async { here.wait_for(|here| *here).await.is_ok() };
            if stop.run_until_cancelled(is_here).await != Some(true) {
                return;
            }
            match stop.run_until_cancelled(self.sweep()).await {
                None => return,
                // The store says at a higher level that it is in trouble.
                Some(Err(error)) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "what is old cannot be removed from the store");
                }
                Some(Err(_)) => {}
                Some(Ok(())) => failing = false,
            }
            if stop.run_until_cancelled(tokio::time::sleep(REST)).await.is_none() {
                return;
            }
        }
    }

    /// Does everything there is to do now.
    pub(super) async fn sweep(&self) -> Result<(), RecordError> {
        let (now, Retention { payloads, ids, dead, audit }) = (self.clock.now(), *self.retention.borrow());
        let steps = [
            RetentionStep::Dead { before: before(now, dead) },
            // What this sweep passes over is looked at in the next one.
            RetentionStep::Recheck,
            RetentionStep::Payloads { before: before(now, payloads) },
            RetentionStep::Events { before: before(now, ids), but_newest: self.newest_kept },
            RetentionStep::Audit { before: before(now, audit), newest: AUDIT_KEPT },
            RetentionStep::Vacuum,
        ];
        for step in steps {
            loop {
                let started = Instant::now();
                let work = move |group: &mut Group<'_>| group.engine.retain(step, group.changes, group.now);
                let Retained { more, expired } = self.tasks.write(work).await?;
                expired.iter().for_each(tell_expired);
                if !more {
                    break;
                }
                tokio::time::sleep((started.elapsed() * LEFT_TO_OTHERS).max(PAUSE)).await;
            }
        }
        if self.reader.wal_bytes() > LOG_BYTES {
            self.tasks.control(|reply| Control::Checkpoint { reply }).await?;
        }
        Ok(())
    }
}

/// Counts and logs dead deliveries of a target that were cancelled by their age.
fn tell_expired((target, count): &(Arc<str>, u64)) {
    counter!(names::DELIVERIES_EXPIRED, "target" => target.to_string()).increment(*count);
    tracing::warn!(
        %target, count,
        "dead deliveries that no operator has decided on within store.dead_retention are cancelled; \
         their events go by the other retentions"
    );
}

fn before(now: UnixMillis, retention: Duration) -> UnixMillis {
    let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    UnixMillis(now.0.saturating_sub(retention))
}
