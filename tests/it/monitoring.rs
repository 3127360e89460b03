//! The monitoring kit, `docs/monitoring/`: it uses metrics that exist, its dashboard shows every
//! metric, and each alert links to its runbook.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::world::World;
use table::{Query, Table};

const ALERTS: &str = include_str!("../../docs/monitoring/alerts.yml");
const ALERT_TESTS: &str = include_str!("../../docs/monitoring/alerts.test.yml");
const DASHBOARD: &str = include_str!("../../docs/monitoring/dashboard.json");
const KIT: &str = include_str!("../../docs/monitoring/README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The number of columns of a Grafana dashboard.
const COLUMNS: u64 = 24;

/// An alert rule, as text. No parser of YAML reads it.
struct Alert {
    name: String,
    text: String,
}

fn alerts() -> Vec<Alert> {
    let rules = ALERTS.split("- alert: ").skip(1);
    rules.map(|text| Alert { name: text.lines().next().unwrap().to_owned(), text: text.to_owned() }).collect()
}

impl Alert {
    /// Returns the value of `key`, with all its lines.
    fn value(&self, key: &str) -> String {
        let start = format!("{key}:");
        let mut lines = self.text.lines().skip_while(|line| !line.trim_start().starts_with(&start));
        let first = lines.next().unwrap_or_else(|| panic!("{} has no {key}", self.name));
        let indent = first.len() - first.trim_start().len();
        let more = lines.take_while(|line| line.len() - line.trim_start().len() > indent);
        let value = first.trim_start().trim_start_matches(&start).trim().to_owned();
        [value].into_iter().chain(more.map(str::to_owned)).collect::<Vec<_>>().join("\n")
    }
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// Returns every query of the dashboard, with its legend.
fn panel_queries(dashboard: &Value) -> Vec<(String, String)> {
    let targets = panels(dashboard).flat_map(|panel| panel["targets"].as_array().unwrap());
    let text = |target: &Value, key: &str| target[key].as_str().unwrap().to_owned();
    targets.map(|target| (text(target, "expr"), text(target, "legendFormat"))).collect()
}

#[test]
fn alerts_and_dashboard_use_metrics_labels_and_values_that_exist() {
    let table = Table::of_the_bridge();
    let rules = alerts().into_iter().map(|alert| (alert.value("expr"), alert.value("annotations")));
    let mut wrong = Vec::new();
    for (query, words) in panel_queries(&dashboard()).into_iter().chain(rules) {
        wrong.extend(table.faults(&Query::parse(&query), &words));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_dashboard_shows_every_metric() {
    let table = Table::of_the_bridge();
    let queries = panel_queries(&dashboard());
    let shown: BTreeSet<_> = queries.iter().flat_map(|(query, _)| Query::parse(query).metrics()).collect();
    let hidden: Vec<_> = table.names().filter(|name| !shown.contains(*name)).collect();
    assert!(hidden.is_empty(), "not on the dashboard: {hidden:?}");
}

#[test]
fn the_page_of_the_kit_lists_every_metric_with_its_kind_and_labels() {
    let table = Table::of_the_bridge();
    let rows = KIT.lines().filter(|line| line.starts_with("| `pepay_bridge_"));
    let told: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, labels, meaning] = cells[..] else { panic!("{row}") };
            assert!(meaning.len() > 10, "{row}");
            // The values of a label are in brackets.
            let labels = labels.split('(').filter_map(|piece| piece.rsplit(')').next());
            let labels = labels.flat_map(|piece| piece.split('`').skip(1).step_by(2));
            (name.trim_matches('`'), (kind, labels.collect::<BTreeSet<_>>()))
        })
        .collect();
    let there_are: BTreeMap<_, _> =
        table.described().map(|(name, kind, labels)| (name, (kind, labels))).collect();
    assert_eq!(told, there_are);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_counter_has_its_series_before_its_first_event() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let bridge = world.bridge().await;
    let text = bridge.admin("/metrics").await.text().await.unwrap();
    let table = Table::of_the_bridge();
    // This one is of PostgreSQL alone.
    let counters =
        table.described().filter(|(name, kind, _)| *kind == "counter" && !name.contains("_leases_"));
    let absent: Vec<_> = counters
        .map(|(name, ..)| name)
        .filter(|name| !text.lines().any(|line| line.starts_with(name) && line.ends_with(" 0")))
        .collect();
    assert!(absent.is_empty(), "`increase()` would not see the first of {absent:?}");
    assert!(bridge.stop().await.0.success());
}

#[test]
fn every_alert_has_a_severity_a_test_and_a_runbook() {
    let alerts = alerts();
    assert!(alerts.len() > 15, "only {} alerts were found", alerts.len());
    let headings: Vec<_> = OPERATIONS.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for alert in &alerts {
        let name = &alert.name;
        assert!(["critical", "warning"].contains(&&*alert.value("severity")), "{name}");
        for needed in ["summary", "description"] {
            assert!(alert.value(needed).len() > 15, "{name} has no {needed}");
        }
        assert_eq!(alert.value("runbook_url"), format!("docs/operations.md#{}", name.to_lowercase()));
        assert!(headings.contains(&&**name), "docs/operations.md has no heading {name}");
        assert!(ALERT_TESTS.contains(&format!("\"{name}\"")), "no test makes {name} fire");
    }
    let named: BTreeSet<_> = alerts.iter().map(|alert| &*alert.name).collect();
    let gone: Vec<_> = headings
        .iter()
        .filter(|heading| heading.starts_with("PepayBridge") && !named.contains(**heading))
        .collect();
    assert!(gone.is_empty(), "docs/operations.md tells of alerts that do not exist: {gone:?}");
}

/// Returns the anchor of a heading, as GitHub generates it.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_ascii_alphanumeric() || [' ', '-', '_'].contains(letter);
    heading
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

#[test]
fn every_link_within_the_operations_page_leads_somewhere() {
    let headings = OPERATIONS.lines().filter(|line| line.starts_with('#'));
    let anchors: BTreeSet<_> = headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
    let links = OPERATIONS.split("](#").skip(1).map(|rest| rest.split_once(')').unwrap().0);
    let dead: Vec<_> = links.filter(|link| !anchors.contains(*link)).collect();
    assert!(dead.is_empty(), "{dead:?}");
}

#[test]
fn the_dashboard_is_laid_out_without_overlaps_and_asks_the_chosen_data_source() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(39));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: BTreeSet<_> =
        variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "instance", "target"].into());
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have the id of {title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{title}");
        for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            assert!(taken.insert(cell), "{title} lies over another panel");
        }
    }
    for panel in panels(&dashboard) {
        let targets = panel["targets"].as_array().unwrap();
        for asked in targets.iter().chain([panel]) {
            assert_eq!(asked["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
        let letters: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert_eq!(letters.len(), targets.len(), "{}", panel["title"]);
    }
}
