//! `[store]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::form::{self, DAY, Form, show_duration};
use super::problem::Faulty;
use super::section::Section;
use super::streams::Subscription;
use crate::source::webhook;
use crate::store::{Durability, Settings};

/// A century: what is longer is a slip, and no sum of times overflows below it.
const LONGEST: Duration = DAY.saturating_mul(36_500);

/// The least time that ids are kept. Pepay documents neither for how long it
/// repeats a webhook nor how far back a stream's replay or snapshot reaches; an id
/// that was forgotten sooner would be taken for new and delivered again. A week is
/// more than any sender of webhooks is known to try.
const SHORTEST_MEMORY: Duration = DAY.saturating_mul(7);

/// Where and for how long the bridge keeps what it holds.
pub(super) fn read(mut section: Section<'_>) -> Result<Settings, Faulty> {
    let path = section.value("url", "sqlite://data/pepay-bridge.db", &url());
    let durability = form::choice(&[("full", Durability::Full), ("normal", Durability::Normal)]);
    let durability = section.value("durability", "full", &durability);
    let payload_retention =
        section.value("payload_retention", "30d", &form::duration(Duration::ZERO..=LONGEST));
    let dedupe_retention =
        section.value("dedupe_retention", "365d", &form::duration(SHORTEST_MEMORY..=LONGEST));
    let audit_retention = section.value("audit_retention", "365d", &form::duration(DAY..=LONGEST));
    section.at_most(("payload_retention", payload_retention), ("dedupe_retention", dedupe_retention));
    let dead_retention = section.value("dead_retention", "365d", &form::duration(Duration::ZERO..=LONGEST));
    section.finish();
    Ok(Settings {
        path: path?,
        durability: durability?,
        payload_retention: payload_retention?,
        dedupe_retention: dedupe_retention?,
        dead_retention: dead_retention?,
        audit_retention: audit_retention?,
    })
}

/// Records a problem for each way by which an event can come again that reaches
/// further back than ids are kept.
pub(super) fn outlives_repeats(
    root: &mut Section<'_>,
    settings: &Settings,
    streams: &[Subscription],
    webhooks: &[webhook::Settings],
) {
    let memory = settings.dedupe_retention;
    let sweeps =
        streams.iter().map(|stream| &stream.settings).filter(|stream| stream.reconcile_interval.is_some());
    let sweeps = sweeps
        .map(|stream| (format!("streams.{}.reconcile_lookback", stream.name), stream.reconcile_lookback));
    let repeats =
        webhooks.iter().map(|webhook| (format!("webhooks.{}.tolerance", webhook.name), webhook.tolerance));
    for (key, reach) in sweeps.chain(repeats).filter(|(_, reach)| *reach >= memory) {
        let (memory, reach) = (show_duration(memory), show_duration(reach));
        let fault = format!(
            "`{memory}` is too short: ids would be forgotten while Pepay can still repeat them; \
             allowed is more than `{key}`, which is `{reach}`"
        );
        root.problem("store.dedupe_retention", &fault);
    }
}

/// `sqlite://PATH`, or `sqlite:PATH`. The text is not repeated in a message:
/// another database's URL may hold a password.
fn url() -> Form<PathBuf> {
    const ALLOWED: &str = "allowed is `sqlite://PATH`, such as `sqlite://data/pepay-bridge.db`";
    Form::text(|text| {
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
        let Some(path) = path else {
            return Err(format!("is no SQLite URL; {ALLOWED}"));
        };
        let fault = match path {
            "" => "names no file",
            _ if path.contains(":memory:") => "is a database in memory, which would not outlive the process",
            _ if path.contains(['?', '#']) || path.starts_with("file:") => "has parameters",
            _ if path.ends_with('/') || Path::new(path).is_dir() => "names a folder",
            _ => return Ok(path.into()),
        };
        Err(format!("{fault}; {ALLOWED}"))
    })
}
