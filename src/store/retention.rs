//! Retention removes rows that are older than they are kept and gives free pages back. It works in
//! steps, between which the committer does other work most of the time.

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
use super::settings::Retention;
use crate::domain::clock::Clock;
use crate::telemetry::names;

/// The time between two sweeps.
const REST: Duration = Duration::from_mins(1);

/// The pause after a step, as a multiple of the step's duration: retention takes a quarter of the
/// committer's time at most.
const LEFT_TO_OTHERS: u32 = 3;

/// The shortest pause after a step.
const PAUSE: Duration = Duration::from_millis(10);

/// A write-ahead log of more bytes than this is moved into the database and truncated. SQLite moves
/// it by itself every few megabytes, unless a reader keeps an old state. A larger log costs disk,
/// and time at the next start.
const LOG_BYTES: u64 = 64 << 20;

/// This number of the newest events is kept regardless of their age. If Pepay has forgotten a
/// cursor, it sends a snapshot of its newest events instead, which are old ones in a quiet account.
/// Without their bodies these rows take a few megabytes.
const NEWEST_KEPT: i64 = 10_000;

/// The number of entries of the audit trail that are kept of each kind, some tens of megabytes.
/// Many reads of bodies push out no entry of a change.
const AUDIT_KEPT: i64 = 100_000;

/// Removes old rows. Has to [run](Self::run) beside the committer.
#[derive(Debug)]
pub struct Janitor {
    tasks: Tasks,
    reader: Reader,
    clock: Clock,
    /// The present retention, which a reload may change.
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

    /// Sweeps every minute until `stop`, while this process has the lease for it (`here`).
    pub async fn run(self, mut here: watch::Receiver<bool>, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let is_here = async { here.wait_for(|here| *here).await.is_ok() };
            if stop.run_until_cancelled(is_here).await != Some(true) {
                return;
            }
            match stop.run_until_cancelled(self.sweep()).await {
                None => return,
                // The committer logs trouble of the store at a higher level.
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

    /// Does every step until it finds no more rows.
    pub(super) async fn sweep(&self) -> Result<(), RecordError> {
        let (now, Retention { payloads, ids, dead, audit }) = (self.clock.now(), *self.retention.borrow());
        let steps = [
            RetentionStep::Dead { before: now.minus(dead) },
            // The rows that this sweep passes over are looked at in the next one.
            RetentionStep::Recheck,
            RetentionStep::Payloads { before: now.minus(payloads) },
            RetentionStep::Conflicts { before: now.minus(payloads) },
            RetentionStep::Events { before: now.minus(ids), but_newest: self.newest_kept },
            RetentionStep::Audit { before: now.minus(audit), newest: AUDIT_KEPT },
            RetentionStep::Vacuum,
        ];
        for step in steps {
            loop {
                let started = Instant::now();
                let work = move |group: &mut Group<'_>| group.engine.retain(step, &mut group.context);
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
