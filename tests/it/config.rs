//! The command line of the program, and its configuration.

mod warnings;

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};
use tokio::process::Command;

use crate::support::bridge::{Configuration, Ended, command, command_of, output_of};
use crate::support::http::answer_once;
use crate::support::world::hold;

/// Runs the program with these arguments and these variables of the environment.
async fn bridge(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    output_of(program().args(arguments).envs(environment.iter().copied())).await
}

/// Runs the program in `folder` with these arguments and an empty environment.
async fn bridge_in(folder: &TempDir, arguments: &[&str]) -> Ended {
    output_of(program().args(arguments).current_dir(folder.path())).await
}

fn program() -> Command {
    command(&Configuration::new())
}

fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// Returns the value of `section.key` that `check` has printed.
fn effective(output: &Ended, section: &str, key: &str) -> String {
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let table: toml::Table = output.stdout.parse().unwrap();
    let mut value = &toml::Value::Table(table);
    for level in section.split('.').chain([key]) {
        value = &value[level];
    }
    value.to_string()
}

const SECRETS: [&str; 6] = [
    "hidden-token",
    "hidden-key",
    "hidden-now",
    "hidden-before",
    "hidden-bearer",
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
];

const WITH_SECRETS: &str = r#"
    [server]
    admin_token = "hidden-token-of-the-operator"
    [pepay]
    api_key = "hidden-key-0123456789"
    [streams.commerce]
    [webhooks.default]
    secrets = ["hidden-now-0123456789", "hidden-before-0123456789"]
    [targets.orders]
    url = "https://orders.internal:8000/pepay-events"
    signing_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = { authorization = "Bearer hidden-bearer" }
"#;

fn assert_no_secret(output: &Ended) {
    for secret in SECRETS {
        assert!(!output.stdout.contains(secret), "{secret} is in\n{}", output.stdout);
        assert!(!output.stderr.contains(secret), "{secret} is in\n{}", output.stderr);
    }
}

#[tokio::test]
async fn check_prints_every_key_with_its_effective_value_and_no_secret() {
    let config = file(WITH_SECRETS);
    let output = bridge(&["check", "--config", path(&config)], &[]).await;
    assert_eq!(effective(&output, "server", "admin_token"), r#""[redacted]""#);
    assert_eq!(effective(&output, "server", "shutdown_grace"), r#""25s""#);
    assert_eq!(effective(&output, "pepay", "api_key"), r#""[redacted]""#);
    assert_eq!(effective(&output, "pepay", "ws_url"), r#""wss://api-beta.pepay.io""#);
    assert_eq!(effective(&output, "webhooks.default", "secrets"), r#"["[redacted]", "[redacted]"]"#);
    assert_eq!(effective(&output, "webhooks.default", "max_body"), r#""256KiB""#);
    assert_eq!(effective(&output, "targets.orders", "headers"), r#"{ authorization = "[redacted]" }"#);
    assert_eq!(effective(&output, "targets.orders", "concurrency"), "64");
    assert_eq!(output.stderr, "");
    assert_no_secret(&output);
}

#[tokio::test]
async fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let config =
        file(&WITH_SECRETS.replace("[server]", "[log]\nformat = \"json\"\nfilter = \"warn\"\n[server]"));
    let environment = [
        ("PEPAY_BRIDGE_CONFIG", path(&config)),
        ("PEPAY_BRIDGE__LOG__FILTER", "debug"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TYPES", "invoice.*,test.ping"),
    ];
    let output = bridge(&["check"], &environment).await;
    assert_eq!(effective(&output, "log", "filter"), r#""debug""#);
    assert_eq!(effective(&output, "log", "format"), r#""json""#);
    assert_eq!(effective(&output, "targets.orders", "types"), r#"["invoice.*", "test.ping"]"#);
    assert_eq!(effective(&output, "targets.orders", "timeout"), r#""10s""#);
}

#[tokio::test]
async fn the_option_names_the_file_before_the_environment_does_and_on_either_side_of_the_command() {
    let (chosen, other) = (file(WITH_SECRETS), file("[nonsense]"));
    for arguments in [["check", "--config", path(&chosen)], ["--config", path(&chosen), "check"]] {
        let output = bridge(&arguments, &[("PEPAY_BRIDGE_CONFIG", path(&other))]).await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
    }
}

#[tokio::test]
async fn the_environment_alone_is_enough() {
    let secret = file("  hidden-key\n");
    let environment = [
        ("PEPAY_BRIDGE__PEPAY__API_KEY_FILE", path(&secret)),
        ("PEPAY_BRIDGE__STREAMS__SHOP__TYPES", "commerce.order.*"),
        ("PEPAY_BRIDGE__WEBHOOKS__SHOP__SECRETS", "hidden-now,hidden-before"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__URL", "http://orders:8000/"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__HEADERS__AUTHORIZATION", "Bearer hidden-bearer"),
    ];
    let output = bridge(&["check"], &environment).await;
    assert_eq!(effective(&output, "streams.shop", "types"), r#"["commerce.order.*"]"#);
    assert_eq!(effective(&output, "pepay", "api_key_file"), format!("{:?}", path(&secret)));
    assert_eq!(effective(&output, "webhooks.shop", "secrets"), r#"["[redacted]", "[redacted]"]"#);
    assert_no_secret(&output);
}

#[tokio::test]
async fn many_faults_are_all_named_one_a_line_and_exit_with_2() {
    let config = file(
        &WITH_SECRETS
            .replace("[server]", "[server]\nlisten = \"x\"\nlissten = \"\"")
            .replace("[streams.commerce]", "[streams.commerce]\nidle_timeout = \"1 potato\"")
            .replace("whsec_", "")
            .replace("{ authorization", "{ host = \"hidden-bearer\", authorization")
            .replace("hidden-key-0123456789", "hidden-key hidden-key"),
    );
    let environment = [("PEPAY_BRIDGE__TARGETS__ORDERS__RETRY", "1s")];
    for command in [&["check"][..], &["run"], &[]] {
        let output = bridge(&[command, &["--config", path(&config)]].concat(), &environment).await;
        assert_eq!(output.code, Some(2));
        assert_eq!(output.stdout, "");
        let keys: Vec<_> = output.stderr.lines().map(|line| line.split(": ").next().unwrap()).collect();
        let expected = [
            "server.listen",
            "server.lissten",
            "pepay.api_key",
            "streams.commerce.idle_timeout",
            "targets.orders.signing_secret",
            "targets.orders.headers.host",
            "targets.orders.retry",
        ];
        assert_eq!(keys, expected, "{}", output.stderr);
        assert_no_secret(&output);
    }
}

#[tokio::test]
async fn a_broken_or_missing_file_exits_with_2_and_says_where() {
    let broken = file("[pepay]\napi_key = 'hidden-key");
    let output = bridge(&["check", "--config", path(&broken)], &[]).await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.starts_with(&format!("{}: line 2, column ", path(&broken))), "{}", output.stderr);
    assert_no_secret(&output);
    let output = bridge(&["run", "--config", "/no/such/file.toml"], &[]).await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("`/no/such/file.toml`"), "{}", output.stderr);
}

#[tokio::test]
async fn the_version_names_the_release_the_commit_and_optional_features() {
    let output = bridge(&["--version"], &[]).await;
    assert_eq!(output.code, Some(0));
    let text = output.stdout.trim();
    let expected = concat!("pepay-bridge ", env!("CARGO_PKG_VERSION"), " (");
    let end = if cfg!(feature = "otlp") { ", otlp)" } else { ")" };
    let commit = text.strip_prefix(expected).and_then(|rest| rest.strip_suffix(end)).unwrap_or_default();
    assert!(!commit.is_empty() && commit.chars().all(char::is_alphanumeric), "{text}");
}

#[cfg(not(feature = "otlp"))]
#[tokio::test]
async fn a_bridge_that_cannot_export_traces_refuses_to_start_where_it_is_asked_to() {
    let least =
        file("[webhooks.default]\nsecrets = \"s\"\n[targets.orders]\nurl = \"http://127.0.0.1:9/\"\n");
    for command in ["run", "check"] {
        let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        let output = bridge(&[command, "--config", path(&least)], &[collector]).await;
        assert_eq!(output.code, Some(2));
        let said = output.stderr;
        assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT: asks for traces"), "{said}");
        assert!(said.contains("--features otlp"), "{said}");
    }
}

/// Every command that `--help` shows.
const COMMANDS: [&str; 19] = [
    "run",
    "check",
    "health",
    "events",
    "deliveries",
    "targets",
    "streams",
    "audit",
    "reload",
    "alerts",
    "doctor",
    "backup",
    "restore",
    "import",
    "devnet",
    "demo",
    "simulator",
    "completions",
    "man",
];

#[tokio::test]
async fn the_help_names_every_command_and_how_to_configure() {
    let output = bridge(&["--help"], &[]).await;
    assert_eq!(output.code, Some(0));
    for word in ["--config", "PEPAY_BRIDGE_CONFIG", "PEPAY_BRIDGE__", "RUST_LOG"] {
        assert!(output.stdout.contains(word), "{word} is not in\n{}", output.stdout);
    }
    for command in COMMANDS {
        let named = |line: &str| line.trim_start().starts_with(&format!("{command} "));
        assert!(output.stdout.lines().any(named), "{command} is not in\n{}", output.stdout);
        let output = bridge(&[command, "--help"], &[]).await;
        assert!(output.stdout.contains("--config <FILE>"), "{command}: {}", output.stdout);
    }
}

#[tokio::test]
async fn a_bare_command_without_a_configuration_says_where_it_looked_and_what_to_do() {
    let empty = TempDir::new().unwrap();
    for arguments in [&[][..], &["run"], &["check"]] {
        let output = bridge_in(&empty, arguments).await;
        assert_eq!(output.code, Some(2), "{arguments:?}");
        for said in [
            "./pepay-bridge.toml",
            "/etc/pepay-bridge/pepay-bridge.toml",
            "--config FILE",
            "pepay-bridge demo",
        ] {
            assert!(output.stderr.contains(said), "{said} is not in\n{}", output.stderr);
        }
    }
}

#[tokio::test]
async fn a_configuration_in_the_folder_is_found_unless_another_is_named() {
    let folder = TempDir::new().unwrap();
    std::fs::write(
        folder.path().join("pepay-bridge.toml"),
        "[webhooks.default]\nsecrets = \"s\"\n[targets.found]\nurl = \"http://found/\"\n",
    )
    .unwrap();
    let found = bridge_in(&folder, &["check"]).await;
    assert!(found.stdout.contains("[targets.found]"), "{}", found.stderr);
    let named = bridge_in(&folder, &["check", "--config", "none.toml"]).await;
    assert_eq!(named.code, Some(2));
    assert!(named.stderr.starts_with("--config: cannot read `none.toml`"), "{}", named.stderr);
}

#[tokio::test]
async fn a_usage_error_exits_with_2() {
    for arguments in [&["fly"][..], &["check", "--bogus"], &["health", "--url", "ftp://x"]] {
        let output = bridge(arguments, &[]).await;
        assert_eq!(output.code, Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[tokio::test]
async fn health_asks_the_configured_port_and_exits_with_the_answer() {
    let (address, asked) = answer_once("200 OK", "{\"ready\":true}");
    let output =
        bridge(&["health"], &[("PEPAY_BRIDGE__SERVER__LISTEN", &format!("0.0.0.0:{}", address.port()))])
            .await;
    assert_eq!((output.code, &*output.stdout), (Some(0), "{\"ready\":true}\n"));
    assert_eq!(asked.join().unwrap(), "GET /readyz HTTP/1.1");

    let (address, asked) = answer_once("503 Service Unavailable", "{\"reasons\":[\"store\"]}");
    let output = bridge(&["health", "--url", &format!("http://{address}")], &[]).await;
    assert_eq!((output.code, &*output.stdout), (Some(1), "{\"reasons\":[\"store\"]}\n"));
    assert!(output.stderr.contains("503"), "{}", output.stderr);
    assert_eq!(asked.join().unwrap(), "GET /readyz HTTP/1.1");
}

#[tokio::test]
async fn health_of_a_bridge_that_is_not_there_is_a_failure() {
    let (_held, url) = hold();
    let output = bridge(&["health", "--url", &url], &[]).await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("Connection refused"), "{}", output.stderr);
}

#[tokio::test]
async fn a_closed_standard_output_is_no_failure() {
    let config = file(WITH_SECRETS);
    let shell = "exec 3>&1; { \"$0\" check --config \"$1\"; echo $? >&3; } | true";
    let mut command = command_of("/bin/sh", &["-c", shell], &Configuration::new());
    let output = output_of(command.arg(config.path())).await;
    assert_eq!((&*output.stdout, &*output.stderr), ("0\n", ""));
}

/// A valid configuration with settings that `check` warns of.
const DOUBTFUL: &str = r#"
    [pepay]
    api_key = "'hidden-key'"
    [streams.commerce]
    types = ["commerce.order.*", "invoice.*"]
    [targets.orders]
    url = "http://orders.internal:8000/events?token=hidden-key"
    types = ["commerce.order.created"]
    headers = { authorization = "Bearer hidden-bearer" }
    [targets.twin]
    url = "http://orders.internal:8000/events?token=hidden-key"
    types = ["commerce.*"]
    [targets.deaf]
    url = "https://deaf.internal"
    types = ["payout.*"]
    signing_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"#;
