//! Tests of configurations and of the settings that they result in.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;

use super::form::DAY;
use super::*;
use crate::domain::delivery::{OnUncertain, Ordering};
use crate::pepay::filter::{Filter, Filters};
use crate::source::stream::{Auth, Endpoint, StartFrom};
use crate::store::{Durability, Place};

const EXAMPLE: &str = include_str!("../../config/pepay-bridge.toml");
const DOCUMENTATION: &str = include_str!("../../docs/configuration.md");

/// The smallest valid configuration.
const LEAST: &str = "[webhooks.default]\nsecrets = \"s\"\n[targets.orders]\nurl = \"http://orders/\"\n";

fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Problems> {
    load(&Input::new(Some(file(text).path()), environment.iter().copied()))
}

fn settings(text: &str) -> Settings {
    load_text(text, &[]).unwrap().settings
}

/// Returns the problems of the smallest configuration followed by `text`.
fn problems(text: &str) -> Vec<String> {
    let text = format!("{LEAST}{text}");
    let problems = load_text(&text, &[]).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

/// Asserts that the smallest configuration followed by `text` has one problem, with this key and with
/// `says` in its message.
fn assert_problem(text: &str, key: &str, says: &str) {
    let problems = problems(text);
    let [problem] = &*problems else { panic!("{text:?} has the problems {problems:#?}") };
    assert!(problem.starts_with(&format!("{key}: ")), "{text:?}: {problem}");
    assert!(problem.contains(says), "{text:?}: {problem}");
}

#[test]
fn the_defaults_are_those_of_the_interface() {
    let settings = settings(&format!("{LEAST}[streams.commerce]\n[pepay]\napi_key = \"k\""));
    assert_eq!(settings.web.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(settings.web.admin_listen.to_string(), "127.0.0.1:9090");
    assert!(settings.web.admin_token.is_none() && settings.web.tokens.is_empty());
    assert_eq!(settings.shutdown_grace, Duration::from_secs(25));
    assert_eq!(settings.log, telemetry::Settings { format: telemetry::Format::Text, filter: "info".into() });
    assert_eq!(settings.store.file(), Some(Path::new("data/pepay-bridge.db")));
    assert_eq!(settings.store.durability, Durability::Full);
    assert_eq!(settings.store.retention.payloads, DAY * 30);
    assert_eq!(settings.store.retention.ids, DAY * 365);
    assert_eq!(settings.store.retention.dead, DAY * 365);
    assert_eq!(settings.store.retention.audit, DAY * 365);
    assert_eq!(settings.pepay.api_url.as_str(), "https://api-beta.pepay.io/");
    assert_eq!(settings.pepay.ws_url.as_str(), "wss://api-beta.pepay.io/");
    assert_eq!(settings.pepay.api_key_header, "x-commerce-api-key");

    let Subscription { settings: stream, account } = &settings.streams[0];
    assert_eq!(*account, settings.pepay);
    assert_eq!((&*stream.name, stream.endpoint, stream.auth), ("commerce", Endpoint::Commerce, Auth::Token));
    assert_eq!(stream.types.to_string(), "commerce.order.*,invoice.*,invoice_payment.*");
    assert_eq!(stream.start_from, StartFrom::Now);
    assert!(stream.filters.is_empty());
    assert_eq!(stream.token_ttl, Duration::from_mins(1));
    assert_eq!(stream.idle_timeout, Duration::from_mins(1));
    assert_eq!(stream.ping_interval, Duration::from_secs(20));
    assert_eq!(stream.backoff.ceiling(1), Duration::from_millis(500));
    assert_eq!(stream.backoff.max(), Duration::from_mins(1));
    assert_eq!(stream.reconcile_interval, Some(Duration::from_mins(5)));
    assert_eq!(stream.reconcile_lookback, Duration::from_mins(15));

    let webhook = &settings.webhooks[0];
    assert_eq!((&*webhook.name, &*webhook.path), ("default", "/webhooks/pepay"));
    assert_eq!((webhook.tolerance, webhook.max_body), (Duration::from_mins(5), 256 * 1024));
    assert_eq!(webhook.environment, None);

    let target = &settings.targets[0];
    assert!(target.types.is_any() && target.headers.is_empty() && target.dead_on.is_empty());
    assert!(
        target.signing_keys.is_empty()
            && target.condition.is_none()
            && target.roots.is_none()
            && target.client_identity.is_none()
    );
    assert_eq!((target.timeout, target.connect_timeout), (Duration::from_secs(10), Duration::from_secs(3)));
    assert_eq!((target.concurrency, target.rate_limit), (64, None));
    assert_eq!(target.ordering, Ordering::PerObject);
    assert_eq!(target.retry.backoff.ceiling(1), Duration::from_secs(1));
    assert_eq!(target.retry.backoff.max(), Duration::from_hours(1));
    assert_eq!(target.retry.give_up_after, DAY * 3);
    assert_eq!(target.retry.on_uncertain, OnUncertain::Retry);
}

#[test]
fn the_example_holds_every_key_with_its_default() {
    let given = [("PEPAY_BRIDGE__PEPAY__API_KEY", "k"), ("PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS", "s")];
    let (example, reading) = read(&Input::new(Some(file(EXAMPLE).path()), given));
    let least = format!("{LEAST}[streams.commerce]").replace("orders/", "orders.internal:8000/pepay-events");
    assert_eq!(example.unwrap().effective, load_text(&least, &given).unwrap().effective);

    let uncommented: Vec<_> = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains("_file = ")).unwrap_or(line))
        .collect();
    let table: toml::Table = uncommented.join("\n").parse().unwrap();
    let mut named = BTreeSet::new();
    for (section, value) in &table {
        for (key, value) in value.as_table().unwrap() {
            match value.as_table().filter(|_| matches!(&**section, "streams" | "webhooks" | "targets")) {
                Some(keys) => named.extend(keys.keys().map(|own| format!("{section}.{key}.{own}"))),
                None => _ = named.insert(format!("{section}.{key}")),
            }
        }
    }
    assert_eq!(named, reading.known);
}

#[test]
fn every_key_is_documented_in_the_table_of_its_section() {
    let given = [("PEPAY_BRIDGE__PEPAY__API_KEY", "k")];
    let (_, reading) = read(&Input::new(Some(file(EXAMPLE).path()), given));
    assert!(reading.known.len() > 50, "{:?}", reading.known);
    for known in reading.known {
        let (section, key) = known.rsplit_once('.').unwrap();
        let section = section.split_once('.').map_or(section.to_owned(), |(kind, _)| format!("{kind}.NAME"));
        let chapter =
            DOCUMENTATION.split("\n## ").find(|chapter| chapter.starts_with(&format!("`[{section}]`")));
        let mut rows = chapter.unwrap().lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
        assert!(rows.any(|(keys, _)| keys.split(", ").any(|row| row == format!("`{key}`"))), "{known}");
    }
}

#[test]
fn the_environment_wins_over_the_file_down_to_single_keys() {
    let text =
        format!("{LEAST}timeout = \"1s\"\ntypes = [\"a.*\", \"b\"]\nheaders = {{ Authorization = \"x\" }}");
    let environment = [
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TYPES", "c, d.*"),
        ("pepay_bridge__targets__orders__headers__authorization", "Bearer y"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__HEADERS__X_TENANT", "shop"),
        ("PEPAY_BRIDGE__TARGETS__EXTRA__URL", "https://extra/"),
    ];
    let targets = load_text(&text, &environment).unwrap().settings.targets;
    let [extra, orders] = &*targets else { panic!("{targets:?}") };
    assert_eq!((&*extra.name, &*orders.name), ("extra", "orders"));
    assert_eq!(orders.types.to_string(), "c,d.*");
    assert_eq!(orders.timeout, Duration::from_secs(1));
    assert_eq!(orders.headers["authorization"], "Bearer y");
    assert_eq!(orders.headers["x-tenant"], "shop");
    assert!(orders.headers.values().all(http::HeaderValue::is_sensitive));
}

#[test]
fn everything_can_be_set_by_environment_alone() {
    let environment = [
        ("PEPAY_BRIDGE_CONFIG", ""),
        ("PEPAY_BRIDGE_SERVICE_HOST", "10.0.0.1"), // Kubernetes sets such names by itself
        ("PEPAY_BRIDGE__PEPAY__API_KEY", "k"),
        ("PEPAY_BRIDGE__STREAMS__MY-SHOP__ENDPOINT", "merchant"),
        ("PEPAY_BRIDGE__STREAMS__MY-SHOP__ENVIRONMENT", "mainnet"),
        ("PEPAY_BRIDGE__STREAMS__MY-SHOP__TYPES", "invoice.*,test.ping"),
        ("PEPAY_BRIDGE__STREAMS__MY-SHOP__RECONCILE_INTERVAL", "0s"),
        ("PEPAY_BRIDGE__STREAMS__MY-SHOP__START_FROM", "evt_1"),
        ("PEPAY_BRIDGE__WEBHOOKS__A__SECRETS", "one, two,"),
        ("PEPAY_BRIDGE__WEBHOOKS__A__MAX_BODY", "1MiB"),
        ("PEPAY_BRIDGE__TARGETS__T__URL", "http://t"),
        ("PEPAY_BRIDGE__TARGETS__T__DEAD_ON", "410,422"),
        ("PEPAY_BRIDGE__TARGETS__T__CONCURRENCY", "1"),
        ("PEPAY_BRIDGE__TARGETS__T__RATE_LIMIT", "0.5"),
    ];
    let settings = load(&Input::new(None, environment)).unwrap().settings;
    let stream = &settings.streams[0].settings;
    assert_eq!((&*stream.name, stream.endpoint), ("my-shop", Endpoint::Merchant));
    assert_eq!(stream.filters, Filters::new(vec![(Filter::Environment, "mainnet".to_owned())]));
    assert_eq!(stream.types.patterns().len(), 2);
    assert_eq!(stream.reconcile_interval, None);
    assert_eq!(stream.start_from, StartFrom::After("evt_1".parse().unwrap()));
    assert_eq!(settings.webhooks[0].keys.len(), 2);
    assert_eq!(settings.webhooks[0].max_body, 1024 * 1024);
    let target = &settings.targets[0];
    assert_eq!((target.concurrency, target.rate_limit), (1, Some(0.5)));
    assert!(target.dead_on.iter().eq(&[StatusCode::GONE, StatusCode::UNPROCESSABLE_ENTITY]));
}

#[test]
fn an_empty_text_means_not_set() {
    let text = format!("{LEAST}timeout = \"1s\"\nca_file = \"/nowhere\"\nheaders = {{ a = \"b\" }}");
    let environment = [
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT", ""),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__CA_FILE", ""),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__HEADERS__A", ""),
    ];
    let target = &load_text(&text, &environment).unwrap().settings.targets[0];
    assert_eq!(target.timeout, Duration::from_secs(10));
    assert!(target.headers.is_empty());
}

#[test]
fn rust_log_wins_over_the_filter() {
    let environment = [("PEPAY_BRIDGE__LOG__FILTER", "warn"), ("RUST_LOG", "debug")];
    assert_eq!(load_text(LEAST, &environment).unwrap().settings.log.filter, "debug");
    assert_eq!(load_text(LEAST, &environment[..1]).unwrap().settings.log.filter, "warn");
    let problems = load_text(LEAST, &[("RUST_LOG", "a=b=c")]).unwrap_err().to_string();
    assert!(
        problems.starts_with("log.filter: `a=b=c`") && problems.ends_with("(set by RUST_LOG)"),
        "{problems}"
    );
}

#[test]
fn secrets_come_from_files_too() {
    let (key, secrets, headers) =
        (file(" key\n"), file("one\n\n two \n"), file("Authorization: Bearer x\nX-A: b\n"));
    let text = format!(
        "[pepay]\napi_key_file = {:?}\n[webhooks.a]\nsecrets_file = {:?}\n\
         [targets.t]\nurl = \"http://t\"\nheaders_file = {:?}",
        key.path(),
        secrets.path(),
        headers.path()
    );
    let Loaded { settings, effective, .. } = load_text(&text, &[]).unwrap();
    assert_eq!(settings.pepay.api_key.as_ref().unwrap().expose_secret(), "key");
    assert_eq!(settings.webhooks[0].keys.len(), 2);
    assert_eq!(settings.targets[0].headers["authorization"], "Bearer x");
    assert_eq!(settings.targets[0].headers["x-a"], "b");
    assert!(effective.contains(&format!("api_key_file = {:?}", key.path())), "{effective}");
}

#[test]
fn a_byte_order_mark_and_the_ends_of_lines_are_no_part_of_a_secret() {
    let (key, secrets) = (file("\u{feff}key\r\n"), file("\u{feff}one\r\ntwo\r\n"));
    let text = |secrets: &str| {
        format!("[pepay]\napi_key_file = {:?}\n[webhooks.a]\npath = '/a'\n{secrets}\n", key.path())
    };
    let load = |secrets: &str| load_text(&format!("{LEAST}{}", text(secrets)), &[]).unwrap().settings;
    let in_file = load(&format!("secrets_file = {:?}", secrets.path()));
    assert_eq!(in_file.pepay.api_key.as_ref().unwrap().expose_secret(), "key");
    assert_eq!(in_file.webhooks[0].keys, load("secrets = ['one', 'two']").webhooks[0].keys);
}

/// A quoted name with a dot or a bracket is one key and not a path.
#[test]
fn a_quoted_name_at_the_top_is_an_unknown_key_whatever_it_looks_like() {
    for name in ["webhooks.default", "targets[0]", "a[99999999999999]", "a[-99999999999999]", "", "é"] {
        let text = format!("'{name}' = 1\n{LEAST}");
        let problems = load_text(&text, &[]).unwrap_err();
        let all: Vec<_> = problems.iter().collect();
        let [problem] = &*all else { panic!("{problems}") };
        assert_eq!(problem.key, name);
        assert!(problem.message.starts_with("is no known key"), "{problem}");
    }
}

#[test]
fn of_a_secret_and_its_file_the_environment_wins_over_the_file() {
    let (in_file, missing) = (file(" from-a-file "), "/no/such/file");
    let secret = |text: &str, variable: (&str, &str)| {
        let settings = load_text(&format!("{LEAST}{text}"), &[variable]).unwrap().settings;
        settings.pepay.api_key.as_ref().unwrap().expose_secret().to_owned()
    };
    let in_place = ("PEPAY_BRIDGE__PEPAY__API_KEY", "from-a-variable");
    assert_eq!(secret(&format!("[pepay]\napi_key_file = '{missing}'"), in_place), "from-a-variable");
    let path = in_file.path().to_str().unwrap();
    let named = ("PEPAY_BRIDGE__PEPAY__API_KEY_FILE", path);
    assert_eq!(secret("[pepay]\napi_key = 'from the configuration'", named), "from-a-file");

    // An empty variable is not set, as for every key, so the value of the file is used.
    let empty = ("PEPAY_BRIDGE__PEPAY__API_KEY", "");
    assert_eq!(secret(&format!("[pepay]\napi_key_file = {path:?}"), empty), "from-a-file");

    let lists = format!(
        "[webhooks.a]\npath = '/a'\nsecrets_file = {missing:?}\n[targets.t]\nurl = 'http://t'\nheaders_file = {missing:?}"
    );
    let given = [
        ("PEPAY_BRIDGE__WEBHOOKS__A__SECRETS", "one,two"),
        ("PEPAY_BRIDGE__TARGETS__T__HEADERS__X_TENANT", "shop"),
    ];
    let settings = load_text(&format!("{LEAST}{lists}"), &given).unwrap().settings;
    assert_eq!(settings.webhooks[0].keys.len(), 2);
    assert_eq!(settings.targets[1].headers["x-tenant"], "shop");

    let both = [in_place, named];
    let problems = load_text(LEAST, &both).unwrap_err().to_string();
    assert!(problems.starts_with("pepay.api_key: is given, and `api_key_file` too"), "{problems}");
}

#[test]
fn an_empty_text_among_secrets_is_a_fault_and_not_left_out() {
    for list in ["['now', '']", "['']", "'now,,before'", "',now'", "','"] {
        let text = format!("[webhooks.a]\npath = '/a'\nsecrets = {list}");
        assert_problem(&text, "webhooks.a.secrets", "holds an empty text");
    }
    let variable = [("PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS", "now, ,")];
    let problems = load_text(LEAST, &variable).unwrap_err().to_string();
    assert!(problems.contains("(set by PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS)"), "{problems}");
}

#[test]
fn the_example_can_be_completed_by_secrets_in_files() {
    let secret = file("s");
    let path = secret.path().to_str().unwrap();
    let given = [
        ("PEPAY_BRIDGE__PEPAY__API_KEY_FILE", path),
        ("PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS_FILE", path),
    ];
    assert_eq!(load_text(EXAMPLE, &given).unwrap().settings.webhooks[0].keys.len(), 1);
}

#[test]
fn a_secrets_file_has_to_be_readable_and_hold_something() {
    let empty = file(" \n");
    let path = empty.path().display();
    assert_problem(
        &format!("signing_secret_file = '{path}'"),
        "targets.orders.signing_secret_file",
        "is empty",
    );
    let missing = "[pepay]\napi_key_file = '/no/such/key'";
    assert_problem(missing, "pepay.api_key_file", "names a file that cannot be read: No such file");
    let both = "[pepay]\napi_key = 'hidden'\napi_key_file = '/no/such/key'";
    assert_problem(both, "pepay.api_key", "`api_key_file` too; allowed is one of the two");
    let no_header = file("authorization Bearer");
    let text = format!("headers_file = '{}'", no_header.path().display());
    assert_problem(&text, "targets.orders.headers_file", "line 1 of the file is no header");
}

#[test]
fn the_streams_address_follows_that_of_the_api() {
    let url = |text: &str| settings(&format!("{LEAST}[pepay]\n{text}")).pepay.ws_url.to_string();
    assert_eq!(url("api_url = 'http://localhost:9999/base/'"), "ws://localhost:9999/base");
    assert_eq!(url("api_url = 'https://pepay.example'"), "wss://pepay.example/");
    assert_eq!(url("ws_url = 'ws://other:1'"), "ws://other:1/");
}

/// A build without traces refuses an environment that asks for them.
#[test]
fn an_environment_that_asks_for_traces_is_at_fault_where_they_are_not_compiled_in() {
    let asked = |environment: &[(&str, &str)]| {
        let problems = load_text(LEAST, environment).err().unwrap_or_default();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for variable in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
        let collector = (variable, "http://127.0.0.1:4318");
        let fault = format!("{variable}: {NO_TRACES}");
        let faults = if cfg!(feature = "otlp") { vec![] } else { vec![fault] };
        assert_eq!(asked(&[collector]), faults);
        assert!(asked(&[(variable, "")]).is_empty());
        assert!(asked(&[collector, ("OTEL_SDK_DISABLED", "true")]).is_empty());
        assert!(asked(&[collector, ("OTEL_TRACES_EXPORTER", "none")]).is_empty());
    }
}

#[test]
fn the_configuration_for_the_simulator_is_valid_and_gives_no_warning() {
    let loaded = load_text(include_str!("../../config/simulator.toml"), &[]).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, [""; 0]);
}

mod accounts;
mod choosing;
mod faults;
mod starting;
