//! One measurement: a server, a load, and what the server used for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::load::{Load, Sent, exact};
use crate::role::Role;
use crate::target::{Expect, Received};
use crate::{Outcome, proc};

/// Sent before the clock starts, for at most so long in seconds: statements are prepared,
/// and what compiles itself while it runs has done so.
const WARM_UP: (u64, f64) = (2_000, 1.0);
/// How long the last event may take to reach the target, in seconds.
const DRAIN_LIMIT: u64 = 120;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Events a second.
    Rate,
    /// Processor time of the server for each event, in microseconds.
    Cpu,
    /// Memory of the server at most, or at rest, in MB.
    Memory,
    /// Median of the time to an answer, in microseconds.
    P50,
    /// The 99th percentile of the same.
    P99,
    /// From the start of the process until it is ready, in seconds.
    Start,
    /// Of a file, in MB.
    Size,
    /// Processor time of the sender for each event, in microseconds.
    Sender,
    /// Processor time of the database server for each event, in microseconds.
    Database,
    /// What it has written to its log for each event, in bytes.
    Log,
}

/// What one measurement came to.
pub type Figures = BTreeMap<Quantity, f64>;

/// Puts `load` on the server `pid` by the sender `role`, until the last event
/// has reached every one of the targets.
///
/// # Errors
/// Also where an event was refused, was lost, or came twice: then there is no result.
pub fn under_load(pid: u32, role: &'static str, load: &Load, targets: &mut [Role]) -> Outcome<Figures> {
    shared(&[pid], None, role, load, targets)
}

/// The same with the servers `pids`, whose store is in `database`, if it is not their own.
///
/// # Errors
/// Also where an event was refused, was lost, or came twice: then there is no result.
pub fn shared(
    pids: &[u32],
    database: Option<&Cluster>,
    role: &'static str,
    load: &Load,
    targets: &mut [Role],
) -> Outcome<Figures> {
    let (events, seconds) = WARM_UP;
    let warm_up = Load { events, seconds, repeating: false, ..load.clone() };
    let warm = send("load", &warm_up, || Ok(()))?;
    arrived(targets, warm.events)?;
    let load = Load { first: warm.events, ..load.clone() };
    let mut before = Used::default();
    let sent = send(role, &load, || {
        before = Used::so_far(pids, database)?;
        Ok(())
    })?;
    let seconds = match arrived(targets, load.first + sent.events)? {
        None => sent.seconds,
        Some(last_ms) => seconds_between(sent.started_ms, last_ms),
    };
    let (after, requests) = (Used::so_far(pids, database)?, exact(sent.accepted));
    let mut figures = BTreeMap::from([
        (Quantity::Rate, requests / seconds),
        (Quantity::Cpu, micros(after.servers, before.servers) / requests),
        (Quantity::Memory, most_memory(pids)?),
        (Quantity::P50, sent.p50),
        (Quantity::P99, sent.p99),
        (Quantity::Sender, sent.cpu),
    ]);
    if database.is_some() {
        figures.insert(Quantity::Database, micros(after.database, before.database) / requests);
        figures.insert(Quantity::Log, (after.log - before.log) / requests);
    }
    Ok(figures)
}

/// What servers and their database have used since they were started.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    servers: Duration,
    database: Duration,
    log: f64,
}

impl Used {
    fn so_far(pids: &[u32], database: Option<&Cluster>) -> Outcome<Self> {
        let mut used = Self::default();
        for pid in pids {
            used.servers += proc::cpu(*pid)?;
        }
        if let Some(database) = database {
            used.log = database.log_position()?;
            used.database = proc::cpu_with_children(database.pid())?;
        }
        Ok(used)
    }
}

fn micros(after: Duration, before: Duration) -> f64 {
    after.saturating_sub(before).as_secs_f64() * 1e6
}

fn most_memory(pids: &[u32]) -> Outcome<f64> {
    pids.iter().try_fold(0.0, |most: f64, pid| Ok(most.max(proc::memory(*pid)?.peak)))
}

/// What came of `load`. Calls `at_start` between the preparation and the first request.
fn send(role: &'static str, load: &Load, at_start: impl FnOnce() -> Outcome<()>) -> Outcome<Sent> {
    let mut sender = Role::start(role, load)?;
    let _ready: String = sender.hear()?;
    at_start()?;
    let sent = sender.ask(&())?;
    check_answers(&sent, load)?;
    Ok(sent)
}

/// When the last of events `0..events` reached the last of the targets, if there are any.
fn arrived(targets: &mut [Role], events: u64) -> Outcome<Option<i64>> {
    let mut last = None;
    for target in targets {
        let received = target.ask(&Expect { events, seconds: DRAIN_LIMIT })?;
        check_arrivals(events, &received)?;
        last = last.max(Some(received.last_ms));
    }
    Ok(last)
}

/// From one point in time to another, both in Unix milliseconds.
pub fn seconds_between(started: i64, ended: i64) -> f64 {
    exact(u64::try_from(ended - started).unwrap_or(0).max(1)) / 1000.0
}

fn check_answers(sent: &Sent, load: &Load) -> Outcome<()> {
    if sent.refused > 0 {
        return Err(format!("{} requests were not accepted: {}", sent.refused, sent.refusal).into());
    }
    let expected = if load.repeating { sent.accepted / 2 } else { 0 };
    if sent.accepted == 0 || sent.duplicates != expected {
        let Sent { accepted, duplicates, .. } = sent;
        return Err(format!("{duplicates} of {accepted} were called duplicates, not {expected}").into());
    }
    Ok(())
}

/// Every event has to have arrived once, and nothing else.
pub fn check_arrivals(events: u64, received: &Received) -> Outcome<()> {
    let (lost, surplus) = (events - received.unique, received.surplus);
    if lost > 0 || surplus > 0 {
        let message = format!("of {events} events {lost} did not reach the target, {surplus} came again");
        return Err(message.into());
    }
    Ok(())
}
