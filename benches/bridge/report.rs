//! The messages during the measurements, and the tables at the end.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs;
use std::io::{self, Write as _};

use crate::goals::{self, Goal};
use crate::measure::{Figures, Quantity};
use crate::options::Options;
use crate::plan::{self, Kind};
use crate::requests::Bodies;
use crate::{Outcome, proc};

/// The figures by measurement and round.
pub type Results = BTreeMap<&'static str, BTreeMap<u32, Figures>>;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");
/// The marks around the figures of the page, without and with `--postgres`.
const PLACES: [(&str, &str); 2] = [
    ("<!-- figures: begin -->\n", "<!-- figures: end -->\n"),
    ("<!-- figures of PostgreSQL: begin -->\n", "<!-- figures of PostgreSQL: end -->\n"),
];

/// Returns the least, the median and the greatest of some values.
pub fn spread(mut values: Vec<f64>) -> Option<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    let (least, greatest) = (values.first()?, values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    Some((*least, median, *greatest))
}

/// Returns the spread of one quantity over the rounds of a measurement.
pub fn quantity(rounds: &BTreeMap<u32, Figures>, quantity: Quantity) -> Option<(f64, f64, f64)> {
    spread(rounds.values().filter_map(|figures| figures.get(&quantity).copied()).collect())
}

/// Prints the list of measurements.
pub fn list(measurements: &[(&str, Kind, &str)]) -> Outcome<()> {
    let lines = measurements.iter().map(|(name, _, what)| format!("{name:<22} {what}\n"));
    show(&lines.collect::<String>())
}

/// Reports that a measurement is done.
pub fn progress(round: u32, name: &str, figures: &Figures) {
    let figures: Vec<_> = figures
        .iter()
        .map(|(quantity, value)| format!("{quantity:?} {}", number(*value)).to_lowercase())
        .collect();
    say(&format!("round {round}: {name:<22} {}", figures.join(", ")));
}

/// Reports that a database is being filled, which takes some time.
pub fn filling(name: &str, count: u64, bytes: u64) {
    say(&format!("{name}: writing {count} events, {} MB of bodies", bytes / 1_000_000));
}

/// Reports, in a way that is hard to miss, that a measurement is left out.
pub fn skipped(what: &str, why: impl Display) {
    say(&format!("!!! SKIPPED: {what}\n!!! {why}"));
}

/// Reports an error.
pub fn complain(error: &dyn Display) {
    say(&format!("!!! {error}"));
}

fn say(line: &str) {
    // A closed standard error is not an error of the benchmark.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints the result.
pub fn show(text: &str) -> Outcome<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes the result into docs/performance.md.
pub fn write(text: &str, options: &Options) -> Outcome<()> {
    let page = fs::read_to_string(PAGE)?;
    let (begin, end) = PLACES[usize::from(options.postgres)];
    let (before, rest) = page.split_once(begin).ok_or("docs/performance.md has no place for figures")?;
    let (_, after) = rest.split_once(end).ok_or("docs/performance.md has no end of its figures")?;
    let chart = if options.postgres { "" } else { "![Events a second](performance.svg)\n" };
    Ok(fs::write(PAGE, format!("{before}{begin}{chart}{text}{end}{after}"))?)
}

/// Returns the whole result as Markdown.
pub fn markdown(results: &Results, options: &Options, failures: &[String]) -> String {
    let mut text = format!(
        "\nMachine: {}. {} rounds of {} s for each measurement; events of {} bytes.\n\
         Stored before: {} events; undelivered at the start: {}; waiting for a dead target: {}.\n\n",
        proc::machine(),
        options.rounds,
        options.seconds,
        Bodies::new().mean(),
        grouped(options.stored),
        grouped(options.undelivered),
        grouped(options.waiting),
    );
    // Writing to a string cannot fail.
    let _ = ratios(&mut text, results);
    let _ = figures(&mut text, results);
    let _ = databases(&mut text, results);
    for failure in failures {
        let _ = writeln!(text, "**No result**: {failure}");
    }
    text
}

fn ratios(text: &mut String, results: &Results) -> std::fmt::Result {
    text.push_str("| ratio | min | median | max | goal |\n|---|---:|---:|---:|---|\n");
    for ratio in &goals::ALL {
        let Some((least, median, greatest)) = spread(ratio.values(results)) else { continue };
        let goal = match (ratio.goal, ratio.goal.is_met(median)) {
            (Goal::Shown, _) => String::new(),
            (Goal::AtLeast(least), true) => format!("≥ {least}"),
            (Goal::AtMost(most), true) => format!("≤ {most}"),
            (Goal::AtLeast(least), false) => format!("≥ {least} **not reached**"),
            (Goal::AtMost(most), false) => format!("≤ {most} **not reached**"),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {goal} |",
            ratio.label,
            number(least),
            number(median),
            number(greatest)
        )?;
    }
    Ok(())
}

fn figures(text: &mut String, results: &Results) -> std::fmt::Result {
    text.push_str(
        "\n| measurement | events/s, median (min to max) | CPU µs/event | p50 µs | p99 µs | memory MB | sender µs/event |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (name, _, what) in plan::ALL {
        let Some(rounds) = results.get(name) else { continue };
        let median =
            |wanted| quantity(rounds, wanted).map(|(_, median, _)| number(median)).unwrap_or_default();
        let rate = quantity(rounds, Quantity::Rate).map(|(least, median, greatest)| {
            format!("{} ({} to {})", number(median), number(least), number(greatest))
        });
        if rate.is_none() && median(Quantity::Memory).is_empty() {
            continue;
        }
        writeln!(
            text,
            "| {what} | {} | {} | {} | {} | {} | {} |",
            rate.unwrap_or_default(),
            median(Quantity::Cpu),
            median(Quantity::P50),
            median(Quantity::P99),
            median(Quantity::Memory),
            median(Quantity::Sender),
        )?;
    }
    text.push('\n');
    Ok(())
}

/// Writes the table of the resources of the database server, if there was one.
fn databases(text: &mut String, results: &Results) -> std::fmt::Result {
    let head = "| measurement | replicas µs/event | PostgreSQL µs/event | log, bytes/event |\n|---|---:|---:|---:|\n";
    let mut has_head = false;
    for (name, _, what) in plan::ALL {
        let Some(rounds) = results.get(name) else { continue };
        let median = |wanted| quantity(rounds, wanted).map(|(_, median, _)| number(median));
        let Some((database, log)) = median(Quantity::Database).zip(median(Quantity::Log)) else { continue };
        if !has_head {
            text.push_str(head);
            has_head = true;
        }
        writeln!(text, "| {what} | {} | {database} | {log} |", median(Quantity::Cpu).unwrap_or_default())?;
    }
    if has_head {
        text.push('\n');
    }
    Ok(())
}

/// Returns a value with a suitable number of digits.
pub fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rounded figure")]
            let whole = value.round() as u64;
            grouped(whole)
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Returns a number with separators, such as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
