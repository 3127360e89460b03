//! The ratios that show how close the bridge is to its limits, and their goals.

use std::collections::BTreeMap;

use crate::measure::{Figures, Quantity};
use crate::report::Results;

/// The goal of a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At least this value.
    AtLeast(f64),
    /// At most this value.
    AtMost(f64),
    /// No goal; the ratio is shown for information.
    Shown,
}

impl Goal {
    /// Returns whether `value` reaches the goal.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Shown => true,
        }
    }
}

/// A quantity of one measurement.
type Place = (&'static str, Quantity);

/// A line of the table of ratios.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// The text of the line.
    pub label: &'static str,
    over: Place,
    /// The divisor; `None` if the line has the quantity itself.
    under: Option<Place>,
    /// The goal of the ratio.
    pub goal: Goal,
}

use Goal::{AtLeast, AtMost, Shown};
use Quantity::{Cpu, Database, Memory, P50, P99, Rate, Size, Start};

const fn rates(label: &'static str, over: &'static str, under: &'static str, goal: Goal) -> Ratio {
    Ratio { label, over: (over, Rate), under: Some((under, Rate)), goal }
}

const fn cpu(label: &'static str, over: &'static str, under: &'static str) -> Ratio {
    Ratio { label, over: (over, Cpu), under: Some((under, Cpu)), goal: Shown }
}

const fn ratio(label: &'static str, over: Place, under: Place, goal: Goal) -> Ratio {
    Ratio { label, over, under: Some(under), goal }
}

const fn absolute(label: &'static str, over: Place, goal: Goal) -> Ratio {
    Ratio { label, over, under: None, goal }
}

/// The lines, in the order of the table.
pub const ALL: [Ratio; 51] = [
    rates("durable ingest / bare, 64 connections", "ingest-64", "bare-64", AtLeast(0.45)),
    rates("durable ingest / bare, 256 connections", "ingest-256", "bare-256", AtLeast(0.60)),
    rates("end to end / bare, 64 connections", "end-to-end-64", "bare-64", AtLeast(0.25)),
    rates("end to end / bare, 256 connections", "end-to-end-256", "bare-256", AtLeast(0.33)),
    cpu("processor time, ingest / bare, 64 connections", "ingest-64", "bare-64"),
    cpu("processor time, ingest / bare, 256 connections", "ingest-256", "bare-256"),
    cpu("processor time, end to end / bare, 64 connections", "end-to-end-64", "bare-64"),
    cpu("processor time, end to end / bare, 256 connections", "end-to-end-256", "bare-256"),
    rates("durable ingest, 64 / SQLite alone", "ingest-64", "ceiling", Shown),
    rates("durable ingest, 256 / SQLite alone", "ingest-256", "ceiling", Shown),
    cpu("processor time, SQLite alone through sqlx / through rusqlite", "ceiling-sqlx", "ceiling"),
    rates("PostgreSQL / SQLite, end to end, 64 connections", "postgres-64", "end-to-end-64", AtLeast(0.45)),
    rates("PostgreSQL / SQLite, end to end, 256 connections", "postgres-256", "end-to-end-256", Shown),
    rates("two replicas / SQLite, end to end, 64 connections", "postgres-two-64", "end-to-end-64", Shown),
    rates("two replicas / SQLite, end to end, 256 connections", "postgres-two-256", "end-to-end-256", Shown),
    rates("two replicas / one, end to end, 64 connections", "postgres-two-64", "postgres-64", Shown),
    rates("two replicas / one, end to end, 256 connections", "postgres-two-256", "postgres-256", Shown),
    ratio(
        "PostgreSQL: time per event, stored and waiting / none",
        ("postgres-64", Rate),
        ("postgres-grown", Rate),
        Shown,
    ),
    cpu(
        "PostgreSQL: processor time of the replica, stored and waiting / none",
        "postgres-grown",
        "postgres-64",
    ),
    ratio(
        "PostgreSQL: processor time of the server, stored and waiting / none",
        ("postgres-grown", Database),
        ("postgres-64", Database),
        Shown,
    ),
    ratio(
        "processor time, three targets / one target",
        ("three-targets", Cpu),
        ("end-to-end-64", Cpu),
        Shown,
    ),
    absolute(
        "one object, target answers at once, deliveries a second",
        ("hot-object-0", Rate),
        AtLeast(2000.0),
    ),
    absolute(
        "one object, target answers after 5 ms, deliveries a second",
        ("hot-object-5", Rate),
        AtLeast(180.0),
    ),
    rates("half duplicates / end to end, 64 connections", "duplicates-64", "end-to-end-64", Shown),
    rates("stream to target / end to end, 64 connections", "stream", "end-to-end-64", AtLeast(1.0)),
    rates("stream to target / end to end, 256 connections", "stream", "end-to-end-256", AtLeast(1.0)),
    rates("ingest / Node tuned, 64 connections", "ingest-64", "tuned-ingest-64", AtLeast(2.5)),
    rates("ingest / Node tuned, 256 connections", "ingest-256", "tuned-ingest-256", Shown),
    rates("end to end / Node tuned, 64 connections", "end-to-end-64", "tuned-end-to-end-64", AtLeast(2.5)),
    rates("end to end / Node tuned, 256 connections", "end-to-end-256", "tuned-end-to-end-256", Shown),
    rates("ingest / Node plain, 64 connections", "ingest-64", "plain-ingest-64", AtLeast(15.0)),
    rates("end to end / Node plain, 64 connections", "end-to-end-64", "plain-end-to-end-64", AtLeast(20.0)),
    ratio("300/s: acknowledgement p50 / append + fdatasync p50", ("pace-300", P50), ("disk", P50), Shown),
    ratio("300/s: acknowledgement p99 / append + fdatasync p50", ("pace-300", P99), ("disk", P50), Shown),
    ratio("2,000/s: acknowledgement p50 / append + fdatasync p50", ("pace-2000", P50), ("disk", P50), Shown),
    ratio("2,000/s: acknowledgement p99 / append + fdatasync p50", ("pace-2000", P99), ("disk", P50), Shown),
    ratio(
        "5,000/s: acknowledgement p50 / append + fdatasync p50",
        ("pace-5000", P50),
        ("disk", P50),
        AtMost(6.0),
    ),
    ratio(
        "5,000/s: acknowledgement p99 / append + fdatasync p50",
        ("pace-5000", P99),
        ("disk", P50),
        AtMost(30.0),
    ),
    absolute("memory at rest, MB", ("idle", Memory), AtMost(12.0)),
    absolute("memory under load at most, 256 connections, MB", ("end-to-end-256", Memory), AtMost(40.0)),
    ratio("memory with undelivered events / with none", ("backlog", Memory), ("idle", Memory), AtMost(1.3)),
    absolute("start with undelivered events, s", ("backlog", Start), AtMost(2.0)),
    absolute("start with stored events, s", ("stored", Start), Shown),
    ratio(
        "processor time per event, stored events / none",
        ("stored", Cpu),
        ("end-to-end-64", Cpu),
        AtMost(1.3),
    ),
    ratio("time per event, stored events / none", ("end-to-end-64", Rate), ("stored", Rate), AtMost(1.3)),
    ratio(
        "processor time per event, waiting for a dead target / none",
        ("beside-waiting", Cpu),
        ("beside-none", Cpu),
        AtMost(1.1),
    ),
    ratio(
        "time per event, waiting for a dead target / none",
        ("beside-none", Rate),
        ("beside-waiting", Rate),
        AtMost(1.1),
    ),
    absolute("stripped binary, MB", ("binary", Size), AtMost(20.0)),
    rates("drift within a round: bare, 64 connections, last / first", "bare-64-again", "bare-64", Shown),
    ratio(
        "drift within a round: append + fdatasync p50, last / first",
        ("disk-again", P50),
        ("disk", P50),
        Shown,
    ),
    ratio("append + fdatasync p99 / p50", ("disk", P99), ("disk", P50), Shown),
];

impl Ratio {
    /// Returns the ratio of each round that has both figures.
    pub fn values(&self, results: &Results) -> Vec<f64> {
        let rounds = |(name, quantity): Place| -> BTreeMap<u32, f64> {
            let of = |(round, figures): (&u32, &Figures)| Some((*round, *figures.get(&quantity)?));
            results.get(name).into_iter().flatten().filter_map(of).collect()
        };
        let over = rounds(self.over);
        match self.under {
            None => over.into_values().collect(),
            Some(under) => {
                let under = rounds(under);
                over.into_iter().filter_map(|(round, value)| Some(value / under.get(&round)?)).collect()
            }
        }
    }
}
