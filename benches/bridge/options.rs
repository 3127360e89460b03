//! The options of the command line.

use std::ffi::OsString;

use clap::Parser;

/// Measures pepay-bridge beside what it stands on and what could stand in its place.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo bench --",
    after_help = "PEPAY_BRIDGE_BINARY names another binary to measure in place of the one built here."
)]
pub struct Options {
    /// Rounds; every measurement runs once in each.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Seconds of load in each measurement.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,
    /// Only measurements whose names begin so; see --list.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Delivered events in the store that has grown.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub stored: u64,
    /// Undelivered events that a start finds.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub undelivered: u64,
    /// Events that wait for a target that is down.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub waiting: u64,
    /// One round of one second each, and small stores: to see that everything works.
    #[arg(long)]
    pub quick: bool,
    /// PostgreSQL beside SQLite, with one and with two replicas; without it, or names of
    /// these in --only, no server is started.
    #[arg(long)]
    pub postgres: bool,
    /// Put the figures into docs/performance.md, and the chart beside it.
    #[arg(long)]
    pub write: bool,
    /// List the measurements and run none.
    #[arg(long)]
    pub list: bool,
}

/// Parses the arguments. Ends the process if they are wrong or ask for help.
pub fn parse(arguments: &[String]) -> Options {
    let mut options = Options::parse_from(arguments.iter().map(OsString::from));
    if options.quick {
        options.rounds = 1;
        options.seconds = options.seconds.min(1.0);
        options.stored = options.stored.min(50_000);
        options.undelivered = options.undelivered.min(50_000);
        options.waiting = options.waiting.min(10_000);
    }
    options
}
