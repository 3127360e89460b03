//! One measurement: a server, a load, and the resources that the server used.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::load::{Load, Sent, exact};
use crate::role::Role;
use crate::target::{Expect, Received};
use crate::{Outcome, proc};

/// The warm-up before the measurement: the number of events, and the time limit in seconds. It prepares
/// SQL statements, and lets a just-in-time compiler do its work.
const WARM_UP: (u64, f64) = (2_000, 1.0);
/// The time limit for the arrival of the last event at the target, in seconds.
const DRAIN_LIMIT: u64 = 120;

/// A measured quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// The number of events per second.
    Rate,
    /// The processor time of the server per event, in microseconds.
    Cpu,
    /// The peak memory of the server, or its memory at rest, in MB.
    Memory,
    /// The median of the time to a response, in microseconds.
    P50,
    /// The 99th percentile of the time to a response, in microseconds.
    P99,
    /// The time from the start of the process until it is ready, in seconds.
    Start,
    /// The size of a file, in MB.
    Size,
    /// The processor time of the sender per event, in microseconds.
    Sender,
    /// The processor time of the database server per event, in microseconds.
    Database,
    /// The write-ahead log of the database server per event, in bytes.
    Log,
}

/// The figures of one measurement.
pub type Figures = BTreeMap<Quantity, f64>;

/// Puts `load` on the server `pid` with the sender `role`, until the last event has reached every target.
///
/// # Errors
/// The measurement has no result if an event was refused, was lost, or arrived twice.
pub fn under_load(pid: u32, role: &'static str, load: &Load, targets: &mut [Role]) -> Outcome<Figures> {
    shared(&[pid], None, role, load, targets)
}

/// Puts `load` on the servers `pids` like [`under_load`]. Their store is in `database`, or else in files.
///
/// # Errors
/// The measurement has no result if an event was refused, was lost, or arrived twice.
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

/// The resources that the servers and their database have used since their start.
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

/// Sends `load` and returns its result. Calls `at_start` between the preparation and the first request.
fn send(role: &'static str, load: &Load, at_start: impl FnOnce() -> Outcome<()>) -> Outcome<Sent> {
    let mut sender = Role::start(role, load)?;
    let _ready: String = sender.hear()?;
    at_start()?;
    let sent = sender.ask(&())?;
    check_answers(&sent, load)?;
    Ok(sent)
}

/// Returns the time at which the last of the events `0..events` reached the last target, in Unix
/// milliseconds; `None` without a target.
fn arrived(targets: &mut [Role], events: u64) -> Outcome<Option<i64>> {
    let mut last = None;
    for target in targets {
        let received = target.ask(&Expect { events, seconds: DRAIN_LIMIT })?;
        check_arrivals(events, &received)?;
        last = last.max(Some(received.last_ms));
    }
    Ok(last)
}

/// Returns the seconds between two times, both in Unix milliseconds.
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

/// Checks that every event has arrived once, and nothing else.
pub fn check_arrivals(events: u64, received: &Received) -> Outcome<()> {
    let (lost, surplus) = (events - received.unique, received.surplus);
    if lost > 0 || surplus > 0 {
        let message = format!("of {events} events {lost} did not reach the target, {surplus} came again");
        return Err(message.into());
    }
    Ok(())
}
