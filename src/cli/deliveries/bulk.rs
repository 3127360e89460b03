//! Bulk actions on every delivery that passes the filters. The command counts the deliveries, and then
//! sends the count that the operator has confirmed.

use std::convert::Infallible;
use std::future::pending;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::admin::{Answer, Operator};
use crate::cli::filters::Filters;
use crate::cli::listing::Filtering as _;
use crate::cli::names::target_is_known;
use crate::cli::progress::{self, Bar};
use crate::cli::{Error, print};
use crate::domain::operator::Action;

/// The interval between two queries for the progress of a change.
const PACE: Duration = Duration::from_millis(250);

/// The consent to a bulk change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Consent {
    /// The deliveries are counted and not changed.
    CountOnly,
    /// The command asks the operator at the terminal.
    Asked,
    Given,
}

impl Consent {
    /// Returns the consent of the two options. `--dry-run` takes precedence.
    pub(in crate::cli) const fn of(dry_run: bool, yes: bool) -> Self {
        match (dry_run, yes) {
            (true, _) => Self::CountOnly,
            (_, true) => Self::Given,
            _ => Self::Asked,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Outcome {
    matching: u64,
    changed: u64,
    #[serde(default)]
    not_taken: u64,
}

/// A bulk request.
pub(in crate::cli) struct BulkRequest<'a> {
    /// The name of the action, which is the last segment of the path.
    pub(in crate::cli) action: &'static str,
    /// The members of the body without `dry_run` and `confirm`.
    pub(in crate::cli) body: Map<String, Value>,
    /// The filters, in words.
    pub(in crate::cli) narrowed: String,
    /// A target that must exist if no delivery was found.
    pub(in crate::cli) target: Option<&'a str>,
}

/// Runs `action` on the deliveries that pass `filters`, as [`carry_out`] does.
pub(super) async fn act(
    action: Action,
    filters: &Filters,
    consent: Consent,
    operator: &Operator,
) -> Result<(), Error> {
    let filter = filters.object(operator.now);
    let narrowed = written(None, &filter);
    let body = Map::from_iter([("filter".to_owned(), filter)]);
    carry_out(
        BulkRequest { action: action.as_str(), body, narrowed, target: filters.target() },
        consent,
        operator,
    )
    .await
}

/// Counts the deliveries of the request. If there are any and `consent` allows the change, makes the
/// change.
pub(in crate::cli) async fn carry_out(
    BulkRequest { action, body, narrowed, target }: BulkRequest<'_>,
    consent: Consent,
    operator: &Operator,
) -> Result<(), Error> {
    let path = ["deliveries", action];
    let with = |name: &str, value: Value| {
        let mut body = body.clone();
        body.insert(name.to_owned(), value);
        Value::Object(body)
    };
    let spinner = progress::spinner("counting".to_owned());
    // The count has the long limit: there may be millions of deliveries.
    let counted = operator.bridge.post_patiently(&path, &with("dry_run", true.into())).await;
    drop(spinner);
    let counted = counted?;
    let Outcome { matching, not_taken, .. } = counted.read()?;
    if matching == 0 && !operator.json {
        target_is_known(&operator.bridge, target).await?;
    }
    let mut found = format!("{} to {action}", count(matching));
    if not_taken > 0 {
        let stays = if not_taken == 1 { "1 more stays" } else { &format!("{not_taken} more stay") };
        found.push_str("; ");
        found.push_str(stays);
        found
            .push_str(", since the other target does not take its events by its types, environment or where");
    }
    if matching == 0 || consent == Consent::CountOnly {
        return report(&counted, operator, &format!("{found}\n"));
    }
    if consent == Consent::Asked {
        ask(&format!("{found} ({narrowed})"))?;
    }
    let bar = progress::bar(found, matching);
    let confirmed = with("confirm", matching.into());
    let answer = tokio::select! {
        answer = operator.bridge.post_patiently(&path, &confirmed) => answer,
        never = follow(&bar, action, matching, operator) => match never {},
    };
    drop(bar);
    let answer = answer?;
    let Outcome { changed, .. } = answer.read()?;
    report(&answer, operator, &format!("{action}: {} changed\n", count(changed)))
}

/// Shows the progress on a terminal. Never resolves.
async fn follow(bar: &Bar, action: &str, matching: u64, operator: &Operator) -> Infallible {
    if bar.is_hidden() {
        return pending().await;
    }
    let mut ticks = tokio::time::interval(PACE);
    loop {
        ticks.tick().await;
        // Errors are ignored here. If they persist, the bulk request itself fails and reports them.
        let Ok(answer) = operator.bridge.get(&["bulk"], &[]).await else { continue };
        let Ok(BulkJobs { calls }) = answer.read() else { continue };
        let ours = |call: &&Call| call.action == action && call.matching == matching;
        if let Some(call) = calls.iter().find(ours) {
            bar.show(call.gone_through);
        }
    }
}

/// The bulk calls that are running in the bridge.
#[derive(Debug, Deserialize)]
struct BulkJobs {
    calls: Vec<Call>,
}

#[derive(Debug, Deserialize)]
struct Call {
    action: String,
    matching: u64,
    gone_through: u64,
}

fn report(answer: &Answer, operator: &Operator, text: &str) -> Result<(), Error> {
    if operator.json { answer.print() } else { print(text) }
}

/// Returns `Ok` if the operator at the terminal confirms.
fn ask(found: &str) -> Result<(), Error> {
    let (mut stdin, mut stderr) = (io::stdin().lock(), io::stderr().lock());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        let way_on =
            "this is no terminal to confirm at: --yes does it without a question, --dry-run only counts";
        return Err(Error::Usage(format!("{found}; {way_on}")));
    }
    let mut answer = String::new();
    let asked = write!(stderr, "{found}. Do it? [y/N] ").and_then(|()| stderr.flush());
    asked.and_then(|()| stdin.read_line(&mut answer)).map_err(Error::failure)?;
    if ["y", "yes"].contains(&&*answer.trim().to_ascii_lowercase()) {
        return Ok(());
    }
    Err(Error::failure("nothing was changed"))
}

fn count(deliveries: u64) -> String {
    match deliveries {
        1 => "1 delivery".to_owned(),
        many => format!("{many} deliveries"),
    }
}

/// Returns `subject`, if there is one, and the filter in words.
pub(in crate::cli) fn written(subject: Option<String>, filter: &Value) -> String {
    let members = filter.as_object().into_iter().flatten();
    let members = members.map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()));
    subject.into_iter().chain(members).collect::<Vec<_>>().join(", ")
}
