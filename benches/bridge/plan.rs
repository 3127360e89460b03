//! The measurements, and the rounds in which they run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ceiling::Library;
use crate::cluster::Cluster;
use crate::options::Options;
use crate::peers::Peers;
use crate::report::{self, Results};
use crate::scene::Scene;
use crate::{Outcome, chart};

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The write time of the disk alone.
    Disk,
    /// The rate of SQLite alone.
    Ceiling {
        /// The library between the program and SQLite.
        library: Library,
    },
    /// The handler that stores nothing.
    Bare {
        /// The number of connections of the sender.
        connections: u32,
    },
    /// The bridge without a target.
    Ingest {
        /// The number of connections of the sender.
        connections: u32,
    },
    /// The bridge with one target.
    EndToEnd {
        /// The number of connections of the sender.
        connections: u32,
    },
    /// The bridge with one target and a store on a PostgreSQL server.
    Postgres {
        /// The number of bridges that share the store.
        replicas: usize,
        /// The number of connections of the sender to all bridges.
        connections: u32,
    },
    /// One bridge on a large PostgreSQL schema, with one target that works and one that is down.
    PostgresGrown,
    /// The bridge with three targets.
    ThreeTargets,
    /// The bridge with one target, and all events about one object.
    HotObject {
        /// The time that the target takes per event, in milliseconds.
        delay_ms: u64,
    },
    /// The bridge with one target, and every second request a repetition.
    Duplicates,
    /// Events from the stream to the target.
    Stream,
    /// Acknowledgements at a fixed pace.
    Pace {
        /// The number of events per second.
        rate: u32,
    },
    /// A Node program.
    Peer {
        /// The script of the program.
        script: &'static str,
        /// The number of connections of the sender.
        connections: u32,
        /// Whether the program forwards events.
        forwards: bool,
    },
    /// The bridge at rest.
    Idle,
    /// A start with many undelivered events while the target is down.
    Backlog,
    /// The bridge with one target on a large store.
    Stored,
    /// The bridge with one target that works and one that is down.
    Beside {
        /// Whether many events wait for the target that is down.
        waiting: bool,
    },
    /// The size of the binary.
    Binary,
}

impl Kind {
    const fn needs_postgres(self) -> bool {
        matches!(self, Self::Postgres { .. } | Self::PostgresGrown)
    }
}

/// The measurements, each with its name and its description, in the order of a round.
pub const ALL: [(&str, Kind, &str); 36] = [
    ("disk", Kind::Disk, "append of 4 KB + fdatasync"),
    ("bare-64", Kind::Bare { connections: 64 }, "bare axum + HMAC, nothing stored, 64 connections"),
    ("ceiling", Kind::Ceiling { library: Library::Rusqlite }, "SQLite alone, groups of 64, FULL"),
    (
        "ceiling-sqlx",
        Kind::Ceiling { library: Library::Sqlx },
        "SQLite alone through sqlx, groups of 64, FULL",
    ),
    ("ingest-64", Kind::Ingest { connections: 64 }, "durable ingest, 64 connections"),
    ("end-to-end-64", Kind::EndToEnd { connections: 64 }, "end to end, 64 connections"),
    ("postgres-64", postgres(1, 64), "PostgreSQL: end to end, one replica, 64 connections"),
    ("postgres-256", postgres(1, 256), "PostgreSQL: end to end, one replica, 256 connections"),
    ("postgres-two-64", postgres(2, 64), "PostgreSQL: end to end, two replicas, 64 connections"),
    ("postgres-two-256", postgres(2, 256), "PostgreSQL: end to end, two replicas, 256 connections"),
    (
        "postgres-grown",
        Kind::PostgresGrown,
        "PostgreSQL: end to end, 64 connections, events stored and waiting",
    ),
    ("duplicates-64", Kind::Duplicates, "end to end, half of it duplicates, 64 connections"),
    ("three-targets", Kind::ThreeTargets, "end to end, three targets, 64 connections"),
    ("hot-object-0", Kind::HotObject { delay_ms: 0 }, "one object, target answers at once"),
    ("hot-object-5", Kind::HotObject { delay_ms: 5 }, "one object, target answers after 5 ms"),
    ("stream", Kind::Stream, "stream to target"),
    ("bare-256", Kind::Bare { connections: 256 }, "bare axum + HMAC, nothing stored, 256 connections"),
    ("ingest-256", Kind::Ingest { connections: 256 }, "durable ingest, 256 connections"),
    ("end-to-end-256", Kind::EndToEnd { connections: 256 }, "end to end, 256 connections"),
    ("tuned-ingest-64", tuned(64, false), "Node, tuned: ingest, 64 connections"),
    ("tuned-end-to-end-64", tuned(64, true), "Node, tuned: end to end, 64 connections"),
    ("tuned-ingest-256", tuned(256, false), "Node, tuned: ingest, 256 connections"),
    ("tuned-end-to-end-256", tuned(256, true), "Node, tuned: end to end, 256 connections"),
    ("plain-ingest-64", plain(false), "Node, plain: ingest, 64 connections"),
    ("plain-end-to-end-64", plain(true), "Node, plain: end to end, 64 connections"),
    ("pace-300", Kind::Pace { rate: 300 }, "acknowledgement at 300 events/s"),
    ("pace-2000", Kind::Pace { rate: 2_000 }, "acknowledgement at 2,000 events/s"),
    ("pace-5000", Kind::Pace { rate: 5_000 }, "acknowledgement at 5,000 events/s"),
    ("idle", Kind::Idle, "at rest, empty store"),
    ("backlog", Kind::Backlog, "start with undelivered events"),
    ("stored", Kind::Stored, "end to end, 64 connections, events stored before"),
    ("beside-none", Kind::Beside { waiting: false }, "end to end beside a dead target, nothing waiting"),
    ("beside-waiting", Kind::Beside { waiting: true }, "end to end beside a dead target, events waiting"),
    ("binary", Kind::Binary, "the binary, stripped"),
    ("bare-64-again", Kind::Bare { connections: 64 }, "bare axum once more: how much a round drifts"),
    ("disk-again", Kind::Disk, "append of 4 KB + fdatasync once more"),
];

const fn tuned(connections: u32, forwards: bool) -> Kind {
    Kind::Peer { script: "tuned.js", connections, forwards }
}

const fn postgres(replicas: usize, connections: u32) -> Kind {
    Kind::Postgres { replicas, connections }
}

const fn plain(forwards: bool) -> Kind {
    Kind::Peer { script: "plain.js", connections: 64, forwards }
}

/// Runs the selected measurements and shows the results.
///
/// # Errors
/// A measurement has no result because it failed, or lost or repeated an event.
pub fn run(options: &Options) -> Outcome<()> {
    let mut chosen: Vec<_> =
        ALL.into_iter().filter(|(name, kind, _)| is_chosen(options, name, *kind)).collect();
    if options.list {
        return report::list(&chosen);
    }
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench");
    std::fs::create_dir_all(&scratch)?;
    let mut peers = None;
    if chosen.iter().any(|(_, kind, _)| matches!(kind, Kind::Peer { .. })) {
        match Peers::install(&scratch) {
            Ok(installed) => peers = Some(installed),
            Err(error) => {
                report::skipped("the Node programs", &*error);
                chosen.retain(|(_, kind, _)| !matches!(kind, Kind::Peer { .. }));
            }
        }
    }
    let mut cluster = None;
    if chosen.iter().any(|(_, kind, _)| kind.needs_postgres()) {
        match Cluster::start(&scratch.join("postgres")) {
            Ok(started) => cluster = Some(started),
            Err(error) => {
                report::skipped("PostgreSQL", &*error);
                chosen.retain(|(_, kind, _)| !kind.needs_postgres());
            }
        }
    }
    let mut scene = Scene::new(scratch, options.clone(), peers, cluster)?;
    let (mut results, mut failures) = (Results::new(), Vec::new());
    for round in 1..=options.rounds {
        for (name, kind, _) in &chosen {
            match scene.measure(*kind) {
                Ok(figures) => {
                    report::progress(round, name, &figures);
                    results.entry(name).or_insert_with(BTreeMap::new).insert(round, figures);
                }
                Err(error) => {
                    let failure = format!("round {round}, {name}: {error}");
                    report::complain(&failure);
                    failures.push(failure);
                }
            }
        }
    }
    let text = report::markdown(&results, options, &failures);
    report::show(&text)?;
    if options.write && failures.is_empty() {
        report::write(&text, options)?;
        if !options.postgres {
            chart::write(&results)?;
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{} measurements have no result; the table is not complete", failures.len()).into())
    }
}

fn is_chosen(options: &Options, name: &str, kind: Kind) -> bool {
    if !options.only.is_empty() {
        return options.only.iter().any(|start| name.starts_with(start.as_str()));
    }
    match kind {
        kind if kind.needs_postgres() => options.postgres || options.list,
        Kind::Disk | Kind::EndToEnd { .. } => true,
        _ => !options.postgres,
    }
}
