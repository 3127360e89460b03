//! The time in which the disk writes 4 KB durably. Latencies are compared with this time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::load::exact;
use crate::measure::{Figures, Quantity};

/// Appends 4 KB and waits until they are on the disk, repeatedly for `time`.
pub fn measure(folder: &Path, time: Duration) -> Outcome<Figures> {
    let path = folder.join("append");
    let mut file = File::create(&path)?;
    let (block, started) = ([0x5a; 4096], Instant::now());
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    while started.elapsed() < time {
        let before = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latency.saturating_record(u64::try_from(before.elapsed().as_micros())?);
    }
    fs::remove_file(path)?;
    let micros = |quantile| exact(latency.value_at_quantile(quantile));
    Ok(BTreeMap::from([
        (Quantity::Rate, exact(latency.len()) / started.elapsed().as_secs_f64()),
        (Quantity::P50, micros(0.5)),
        (Quantity::P99, micros(0.99)),
    ]))
}
