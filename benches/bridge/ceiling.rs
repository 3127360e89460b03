//! SQLite alone: the same rows, committed in groups of 64, by one thread that
//! has nothing else to do. What a bridge on SQLite could take in at most.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bridge::{Bridge, Setup};
use crate::fill::Store;
use crate::load::exact;
use crate::measure::{Figures, Quantity};
use crate::requests::Bodies;
use crate::{Outcome, proc};

/// Events in a transaction.
const GROUP: u64 = 64;

/// Inserts events for `time`.
pub fn measure(folder: &Path, time: Duration) -> Outcome<Figures> {
    // The schema is the bridge's own.
    Bridge::start(folder, &Setup::nothing())?.stop()?;
    let store = Store::open(folder)?;
    store.set("synchronous", "FULL")?;
    store.set("cache_size", "-4096")?;
    let bodies = Bodies::new();
    let (mut events, started, cpu) = (0, Instant::now(), proc::cpu(std::process::id())?);
    while started.elapsed() < time {
        store.in_one_transaction(|store| {
            (events..events + GROUP).try_for_each(|n| store.insert_event(&bodies, n, n + 1))
        })?;
        events += GROUP;
    }
    let seconds = started.elapsed().as_secs_f64();
    let cpu = proc::cpu(std::process::id())?.saturating_sub(cpu).as_secs_f64() * 1e6;
    Ok(BTreeMap::from([(Quantity::Rate, exact(events) / seconds), (Quantity::Cpu, cpu / exact(events))]))
}
