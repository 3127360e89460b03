//! The bridge's table of metrics, and the metrics and labels that queries of Prometheus name.

use std::collections::{BTreeMap, BTreeSet};

use pepay_bridge::domain::event::Source;

/// The source of the table: each name, with its labels in the comment above it.
const NAMES: &str = include_str!("../../../src/telemetry/names.rs");
/// The source that describes each name as a counter, a gauge or a histogram.
const KINDS: &str = include_str!("../../../src/telemetry/metrics.rs");

const PREFIX: &str = "pepay_bridge_";
/// The suffixes of the series of a histogram.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
/// The labels that Prometheus adds, that of a pod on Kubernetes.
const ADDED: [&str; 3] = ["instance", "job", "pod"];

/// All metrics by name.
pub struct Table(BTreeMap<String, Metric>);

struct Metric {
    histogram: bool,
    /// `counter`, `gauge` or `histogram`.
    kind: &'static str,
    /// Its labels, each with its values if the table lists them.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// A metric as a query names it.
struct Use {
    name: String,
    /// The labels of its selector, each with the values that it is compared with.
    selected: Vec<(String, Vec<String>)>,
}

/// The metrics and labels that a query names.
pub struct Query {
    uses: Vec<Use>,
    /// The labels that it groups or matches by.
    grouped: BTreeSet<String>,
}

impl Table {
    pub fn of_the_bridge() -> Self {
        Self::read(NAMES, KINDS)
    }

    fn read(names: &str, kinds: &str) -> Self {
        let kinds: String = kinds.split_whitespace().collect();
        let (mut metrics, mut comment) = (BTreeMap::new(), String::new());
        for line in names.lines() {
            if let Some(text) = line.strip_prefix("///") {
                comment.push_str(text);
            } else if let Some(constant) = line.strip_prefix("pub const ") {
                let (constant, rest) = constant.split_once(':').unwrap();
                let name = rest.split('"').nth(1).unwrap().to_owned();
                let histogram = kinds.contains(&format!("describe_histogram!(names::{constant},"));
                let kind = if histogram {
                    "histogram"
                } else if kinds.contains(&format!("describe_counter!(names::{constant},")) {
                    "counter"
                } else {
                    "gauge"
                };
                metrics.insert(name, Metric { histogram, kind, labels: labels(&comment) });
                comment.clear();
            }
        }
        assert!(metrics.len() > 10, "only {} metrics were found", metrics.len());
        Self(metrics)
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Returns name, kind and labels of each metric.
    pub fn described(&self) -> impl Iterator<Item = (&str, &str, BTreeSet<&str>)> {
        self.0
            .iter()
            .map(|(name, metric)| (&**name, metric.kind, metric.labels.keys().map(String::as_str).collect()))
    }

    /// Returns the metric with the series `name`.
    fn find(&self, name: &str) -> Option<&Metric> {
        let histogram = PARTS.iter().find_map(|part| self.0.get(name.strip_suffix(part)?));
        histogram
            .filter(|metric| metric.histogram)
            .or_else(|| self.0.get(name).filter(|metric| !metric.histogram))
    }

    /// Returns what `query`, and `words` that are shown with it, name although it does not exist.
    pub fn faults(&self, query: &Query, words: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut known: BTreeSet<String> = ADDED.map(str::to_owned).into();
        for used in &query.uses {
            let Some(metric) = self.find(&used.name) else {
                faults.push(format!("{} is no series", used.name));
                continue;
            };
            known.extend(metric.labels.keys().cloned());
            if used.name.ends_with("_bucket") {
                known.insert("le".to_owned());
            }
            for (label, values) in &used.selected {
                match metric.labels.get(label) {
                    None if ADDED.contains(&&**label) => {}
                    None => faults.push(format!("{} has no label {label}", used.name)),
                    Some(listed) if listed.is_empty() => {}
                    Some(listed) => faults.extend(
                        values
                            .iter()
                            .filter(|value| !listed.contains(*value))
                            .map(|value| format!("{}: {label} is never {value}", used.name)),
                    ),
                }
            }
        }
        let shown = shown(words);
        let unknown = query.grouped.iter().chain(&shown).filter(|label| !known.contains(*label));
        faults.extend(unknown.map(|label| {
            let names: Vec<_> = query.uses.iter().map(|used| &*used.name).collect();
            format!("{}: there is no label {label}", names.join(", "))
        }));
        faults
    }
}

/// Returns the labels in a comment such as ``Labels `target` and `outcome` (`delivered`, `dead`).``
fn labels(comment: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut labels = BTreeMap::<String, BTreeSet<String>>::new();
    let Some((_, listed)) = comment.split_once("Label") else { return labels };
    let (mut within, mut last) = (false, None);
    for (index, piece) in listed.split('`').enumerate() {
        if index % 2 == 0 {
            within = piece.rfind('(') > piece.rfind(')') || (within && !piece.contains(')'));
        } else if within {
            let values = last.as_ref().and_then(|label| labels.get_mut(label)).unwrap();
            values.insert(piece.to_owned());
        } else {
            let values = if piece == "source" { &Source::ALL[..] } else { &[] };
            let values = values.iter().map(|source| source.as_str().to_owned()).collect();
            labels.insert(piece.to_owned(), values);
            last = Some(piece.to_owned());
        }
    }
    labels
}

/// Returns the labels in `words`: `{{target}}` in a legend, `$labels.target` in an annotation.
fn shown(words: &str) -> BTreeSet<String> {
    let after = |mark: &str| words.split(mark).skip(1).map(leading_word).collect::<Vec<_>>();
    after("{{").into_iter().chain(after("$labels.")).filter(|word| !word.is_empty()).collect()
}

fn leading_word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect()
}

impl Query {
    pub fn parse(query: &str) -> Self {
        let mut uses = Vec::new();
        for (at, _) in query.match_indices(PREFIX) {
            let name = leading_word(&query[at..]);
            let rest = &query[at + name.len()..];
            let selector = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            uses.push(Use {
                name,
                selected: selector.map(|(inside, _)| selected(inside)).unwrap_or_default(),
            });
        }
        let mut grouped = BTreeSet::new();
        for word in ["by", "without", "ignoring", "on"] {
            for list in query.split(&format!("{word} (")).skip(1) {
                let (list, _) = list.split_once(')').unwrap();
                grouped.extend(list.split(',').map(|label| label.trim().to_owned()));
            }
        }
        Self { uses, grouped }
    }

    /// Returns the names of the metrics. That of a histogram has no suffix.
    pub fn metrics(&self) -> Vec<String> {
        let whole =
            |name: &str| PARTS.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned();
        self.uses.iter().map(|used| whole(&used.name)).collect()
    }
}

/// Returns the comparisons of a selector such as `outcome=~"dead|held", target="orders"`.
/// Values with a comma are not supported; the kit has none.
fn selected(inside: &str) -> Vec<(String, Vec<String>)> {
    let comparison = |text: &str| {
        let label = leading_word(text.trim());
        let value = text.split('"').nth(1).unwrap();
        (label, value.split('|').map(str::to_owned).collect())
    };
    inside.split(',').map(comparison).collect()
}

#[test]
fn the_table_knows_kinds_labels_and_values() {
    let table = Table::of_the_bridge();
    let deliveries = table.find("pepay_bridge_deliveries_total").unwrap();
    assert_eq!(
        deliveries.labels["outcome"],
        ["delivered", "retried", "dead", "held"].map(str::to_owned).into()
    );
    assert!(deliveries.labels["target"].is_empty());
    assert!(table.find("pepay_bridge_store_commit_seconds_bucket").unwrap().labels.is_empty());
    assert!(table.find("pepay_bridge_store_commit_seconds").is_none(), "a histogram has parts only");
    assert!(table.find("pepay_bridge_backlog_sum").is_none(), "a gauge has no parts");
}

#[test]
fn a_metric_that_does_not_exist_is_found() {
    let table = Table::of_the_bridge();
    let faults = |query: &str, words: &str| table.faults(&Query::parse(query), words);
    let right = r#"sum by (le, target) (rate(pepay_bridge_end_to_end_seconds_bucket{target=~"$target", instance="a"}[5m]))"#;
    assert_eq!(faults(right, "{{target}} {{ $labels.target }} {{ $value }}"), [""; 0]);
    assert_eq!(faults("pepay_bridge_backlogs > 1", ""), ["pepay_bridge_backlogs is no series"]);
    assert_eq!(
        faults(r#"pepay_bridge_deliveries_total{outcome=~"dead|lost"}"#, ""),
        ["pepay_bridge_deliveries_total: outcome is never lost"]
    );
    assert_eq!(
        faults(r#"pepay_bridge_backlog{stream="a"}"#, ""),
        ["pepay_bridge_backlog has no label stream"]
    );
    assert_eq!(
        faults("sum by (source) (pepay_bridge_backlog)", "{{stream}}"),
        ["pepay_bridge_backlog: there is no label source", "pepay_bridge_backlog: there is no label stream"]
    );
}
