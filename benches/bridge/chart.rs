//! The chart of events per second, with a bar per server. It needs no library, since it has only a few
//! rectangles.

use std::fmt::Write as _;
use std::fs;

use crate::Outcome;
use crate::measure::Quantity;
use crate::report::{self, Results};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.svg");

/// The bars, each with its measurement, its label and its colour.
const BARS: [(&str, &str, &str); 8] = [
    ("bare-64", "bare axum + HMAC, stores nothing", "#9aa5b1"),
    ("ceiling", "SQLite alone, groups of 64", "#9aa5b1"),
    ("ingest-64", "pepay-bridge, durable ingest", "#2563eb"),
    ("end-to-end-64", "pepay-bridge, end to end", "#2563eb"),
    ("stream", "pepay-bridge, stream to target", "#2563eb"),
    ("tuned-ingest-64", "Node tuned, ingest", "#d97706"),
    ("tuned-end-to-end-64", "Node tuned, end to end", "#d97706"),
    ("plain-end-to-end-64", "Node plain, end to end", "#d97706"),
];

const WIDTH: f64 = 760.0;
const LABELS: f64 = 240.0;
const VALUES: f64 = 80.0;
const TOP: f64 = 44.0;
const ROW: f64 = 30.0;

/// Draws the bars that have results into docs/performance.svg.
pub fn write(results: &Results) -> Outcome<()> {
    Ok(fs::write(FILE, draw(results)?)?)
}

fn draw(results: &Results) -> Result<String, std::fmt::Error> {
    let bars: Vec<_> = BARS
        .iter()
        .filter_map(|(name, label, colour)| {
            let spread = report::quantity(results.get(name)?, Quantity::Rate)?;
            Some((*label, *colour, spread))
        })
        .collect();
    let most = bars.iter().map(|(_, _, (_, _, greatest))| *greatest).fold(1.0, f64::max);
    let rows = f64::from(u8::try_from(bars.len()).unwrap_or(u8::MAX));
    let height = TOP + ROW * rows + 12.0;
    let scale = (WIDTH - LABELS - VALUES) / most;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <title>Events a second at 64 connections</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"15\" font-weight=\"600\" fill=\"#111827\">Events a second, 64 \
         connections, 1.2 KB each: median, and the range over all rounds</text>\n"
    );
    let mut y = TOP;
    for (label, colour, (least, median, greatest)) in bars {
        let (middle, bar) = (y + ROW / 2.0, median * scale);
        let (from, to) = (LABELS + least * scale, LABELS + greatest * scale);
        writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#374151\">{label}</text>\n\
             <rect x=\"{LABELS}\" y=\"{:.0}\" width=\"{bar:.1}\" height=\"{:.0}\" fill=\"{colour}\"/>\n\
             <path d=\"M{from:.1} {middle:.0}H{to:.1}\" stroke=\"#111827\" stroke-width=\"1.5\"/>\n\
             <text x=\"{:.1}\" y=\"{:.0}\" fill=\"#111827\">{}</text>",
            LABELS - 10.0,
            middle + 4.5,
            y + 5.0,
            ROW - 10.0,
            to.max(LABELS + bar) + 8.0,
            middle + 4.5,
            report::number(median),
        )?;
        y += ROW;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}
