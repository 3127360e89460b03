//! The program and its configuration, as an operator meets them.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use tempfile::NamedTempFile;

use crate::support::world::hold;

/// Runs the program with these arguments and nothing but this environment.
fn bridge(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pepay-bridge"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// The value of `section.key` that `check` prints.
fn effective(output: &Output, section: &str, key: &str) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let table: toml::Table = stdout(output).parse().unwrap();
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

fn assert_no_secret(output: &Output) {
    for secret in SECRETS {
        assert!(!stdout(output).contains(secret), "{secret} is in\n{}", stdout(output));
        assert!(!stderr(output).contains(secret), "{secret} is in\n{}", stderr(output));
    }
}

#[test]
fn check_prints_every_key_with_its_effective_value_and_no_secret() {
    let config = file(WITH_SECRETS);
    let output = bridge(&["check", "--config", path(&config)], &[]);
    assert_eq!(effective(&output, "server", "admin_token"), r#""[redacted]""#);
    assert_eq!(effective(&output, "server", "shutdown_grace"), r#""25s""#);
    assert_eq!(effective(&output, "pepay", "api_key"), r#""[redacted]""#);
    assert_eq!(effective(&output, "pepay", "ws_url"), r#""wss://api-beta.pepay.io""#);
    assert_eq!(effective(&output, "webhooks.default", "secrets"), r#"["[redacted]", "[redacted]"]"#);
    assert_eq!(effective(&output, "webhooks.default", "max_body"), r#""256KiB""#);
    assert_eq!(effective(&output, "targets.orders", "headers"), r#"{ authorization = "[redacted]" }"#);
    assert_eq!(effective(&output, "targets.orders", "concurrency"), "64");
    assert_eq!(stderr(&output), "");
    assert_no_secret(&output);
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let config =
        file(&WITH_SECRETS.replace("[server]", "[log]\nformat = \"json\"\nfilter = \"warn\"\n[server]"));
    let environment = [
        ("PEPAY_BRIDGE_CONFIG", path(&config)),
        ("PEPAY_BRIDGE__LOG__FILTER", "debug"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TYPES", "invoice.*,test.ping"),
    ];
    let output = bridge(&["check"], &environment);
    assert_eq!(effective(&output, "log", "filter"), r#""debug""#);
    assert_eq!(effective(&output, "log", "format"), r#""json""#);
    assert_eq!(effective(&output, "targets.orders", "types"), r#"["invoice.*", "test.ping"]"#);
    assert_eq!(effective(&output, "targets.orders", "timeout"), r#""10s""#);
}

#[test]
fn the_option_names_the_file_before_the_environment_does_and_on_either_side_of_the_command() {
    let (chosen, other) = (file(WITH_SECRETS), file("[nonsense]"));
    for arguments in [["check", "--config", path(&chosen)], ["--config", path(&chosen), "check"]] {
        let output = bridge(&arguments, &[("PEPAY_BRIDGE_CONFIG", path(&other))]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn the_environment_alone_is_enough() {
    let secret = file("  hidden-key\n");
    let environment = [
        ("PEPAY_BRIDGE__PEPAY__API_KEY_FILE", path(&secret)),
        ("PEPAY_BRIDGE__STREAMS__SHOP__TYPES", "commerce.order.*"),
        ("PEPAY_BRIDGE__WEBHOOKS__SHOP__SECRETS", "hidden-now,hidden-before"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__URL", "http://orders:8000/"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__HEADERS__AUTHORIZATION", "Bearer hidden-bearer"),
    ];
    let output = bridge(&["check"], &environment);
    assert_eq!(effective(&output, "streams.shop", "types"), r#"["commerce.order.*"]"#);
    assert_eq!(effective(&output, "pepay", "api_key_file"), format!("{:?}", path(&secret)));
    assert_eq!(effective(&output, "webhooks.shop", "secrets"), r#"["[redacted]", "[redacted]"]"#);
    assert_no_secret(&output);
}

#[test]
fn many_faults_are_all_named_one_a_line_and_exit_with_2() {
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
        let output = bridge(&[command, &["--config", path(&config)]].concat(), &environment);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stdout(&output), "");
        let keys: Vec<_> = stderr(&output).lines().map(|line| line.split(": ").next().unwrap()).collect();
        let expected = [
            "server.listen",
            "server.lissten",
            "pepay.api_key",
            "streams.commerce.idle_timeout",
            "targets.orders.signing_secret",
            "targets.orders.headers.host",
            "targets.orders.retry",
        ];
        assert_eq!(keys, expected, "{}", stderr(&output));
        assert_no_secret(&output);
    }
}

#[test]
fn a_broken_or_missing_file_exits_with_2_and_says_where() {
    let broken = file("[pepay]\napi_key = 'hidden-key");
    let output = bridge(&["check", "--config", path(&broken)], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with(&format!("{}: line 2, column ", path(&broken))),
        "{}",
        stderr(&output)
    );
    assert_no_secret(&output);
    let output = bridge(&["run", "--config", "/no/such/file.toml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("`/no/such/file.toml`"), "{}", stderr(&output));
}

#[test]
fn the_version_names_the_release_and_the_commit() {
    let output = bridge(&["--version"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output).trim();
    let expected = concat!("pepay-bridge ", env!("CARGO_PKG_VERSION"), " (");
    let commit = text.strip_prefix(expected).and_then(|rest| rest.strip_suffix(')')).unwrap_or_default();
    assert!(!commit.is_empty() && commit.chars().all(char::is_alphanumeric), "{text}");
}

/// Every command.
const COMMANDS: [&str; 15] = [
    "run",
    "check",
    "health",
    "events",
    "deliveries",
    "targets",
    "streams",
    "reload",
    "doctor",
    "backup",
    "devnet",
    "demo",
    "simulator",
    "completions",
    "man",
];

#[test]
fn the_help_names_every_command_and_how_to_configure() {
    let output = bridge(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    for word in ["--config", "PEPAY_BRIDGE_CONFIG", "PEPAY_BRIDGE__", "RUST_LOG"] {
        assert!(stdout(&output).contains(word), "{word} is not in\n{}", stdout(&output));
    }
    for command in COMMANDS {
        let named = |line: &str| line.trim_start().starts_with(&format!("{command} "));
        assert!(stdout(&output).lines().any(named), "{command} is not in\n{}", stdout(&output));
        let output = bridge(&[command, "--help"], &[]);
        assert!(stdout(&output).contains("--config <FILE>"), "{command}: {}", stdout(&output));
    }
}

#[test]
fn a_usage_error_exits_with_2() {
    for arguments in [&["fly"][..], &["check", "--bogus"], &["health", "--url", "ftp://x"]] {
        let output = bridge(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// A bridge's readiness, answered once with `status` and `body`; ends with the line that was asked.
fn answers(status: &'static str, body: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        write!(connection, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
    });
    (address, asked)
}

#[test]
fn health_asks_the_configured_port_and_exits_with_the_answer() {
    let (address, asked) = answers("200 OK", "{\"ready\":true}");
    let output =
        bridge(&["health"], &[("PEPAY_BRIDGE__SERVER__LISTEN", &format!("0.0.0.0:{}", address.port()))]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "{\"ready\":true}\n"));
    assert_eq!(asked.join().unwrap(), "GET /readyz HTTP/1.1");

    let (address, asked) = answers("503 Service Unavailable", "{\"reasons\":[\"store\"]}");
    let output = bridge(&["health", "--url", &format!("http://{address}")], &[]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), "{\"reasons\":[\"store\"]}\n"));
    assert!(stderr(&output).contains("503"), "{}", stderr(&output));
    assert_eq!(asked.join().unwrap(), "GET /readyz HTTP/1.1");
}

#[test]
fn health_of_a_bridge_that_is_not_there_is_a_failure() {
    let (_held, url) = hold();
    let output = bridge(&["health", "--url", &url], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("Connection refused"), "{}", stderr(&output));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let config = file(WITH_SECRETS);
    let shell = "exec 3>&1; { \"$0\" check --config \"$1\"; echo $? >&3; } | true";
    let arguments = [env!("CARGO_BIN_EXE_pepay-bridge"), path(&config)].map(OsStr::new);
    let output = Command::new("sh").args(["-c", shell]).args(arguments).output().unwrap();
    assert_eq!((stdout(&output), stderr(&output)), ("0\n", ""));
}

/// Three targets that are probably not meant, and what is said of each.
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

#[test]
fn what_is_allowed_and_probably_not_meant_is_a_warning_and_a_failure_only_if_strict() {
    let config = file(DOUBTFUL);
    std::fs::set_permissions(config.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let output = bridge(&["check", "--config", path(&config)], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_no_secret(&output);
    let writable = format!("{}: can be written by every user", path(&config));
    for (key, says) in [
        (&*writable, "chmod o-w"),
        ("pepay.api_key: has a secret of fewer than 16 characters", "longer"),
        ("pepay.api_key: has a secret in quotation marks", "leave them out"),
        ("targets.deaf.types: match nothing that a stream subscribes to", "receives nothing"),
        ("streams.commerce.types: has `invoice.*`, which no target takes", "leave it out"),
        ("targets.orders.signing_secret: is not set", "verify"),
        ("targets.orders.headers: are sent to `orders.internal` without encryption", "https://"),
        ("targets.twin.url: is that of `targets.orders` too", "twice"),
        ("targets.twin.signing_secret: is not set", "verify"),
    ] {
        let warned = |line: &str| line.starts_with(&format!("warning: {key}")) && line.contains(says);
        assert!(stderr(&output).lines().any(warned), "{key}: {says} is not in\n{}", stderr(&output));
    }
    assert_eq!(stderr(&output).lines().count(), 9, "{}", stderr(&output));
    // A query is left out, as in /status.
    assert_eq!(effective(&output, "targets.orders", "url"), r#""http://orders.internal:8000/events""#);
    let strict = bridge(&["check", "--strict", "--config", path(&config)], &[]);
    assert_eq!(strict.status.code(), Some(1), "{}", stderr(&strict));
    let sound = file(WITH_SECRETS);
    let sound = bridge(&["check", "--strict", "--config", path(&sound)], &[]);
    assert_eq!((sound.status.code(), stderr(&sound)), (Some(0), ""));
}

#[test]
fn a_secret_that_every_user_can_read_is_warned_of_by_its_key() {
    let secret = file("hidden-key-0123456789");
    let config = file(WITH_SECRETS);
    let environment = [("PEPAY_BRIDGE__PEPAY__API_KEY_FILE", path(&secret))];
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
        std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let output = bridge(&["check", "--config", path(&config)], &environment);
        let says = "warning: pepay.api_key_file: can be read by every user of this machine";
        assert_eq!(stderr(&output).contains(says), warned, "{mode:o}: {}", stderr(&output));
    }
}

#[test]
fn a_pasted_secret_is_in_no_message_about_a_file() {
    for key in [
        "SERVER__ADMIN_TOKEN_FILE",
        "PEPAY__API_KEY_FILE",
        "PEPAY__CA_FILE",
        "STREAMS__COMMERCE__API_KEY_FILE",
        "WEBHOOKS__DEFAULT__SECRETS_FILE",
        "TARGETS__ORDERS__SIGNING_SECRET_FILE",
        "TARGETS__ORDERS__HEADERS_FILE",
        "TARGETS__ORDERS__CA_FILE",
        "TARGETS__ORDERS__CLIENT_KEY_FILE",
    ] {
        let config = file(WITH_SECRETS);
        for pasted in ["hidden-token", "hidden\u{1b}[2Jkey", "/etc", "/dev/null"] {
            let environment = [(&*format!("PEPAY_BRIDGE__{key}"), pasted)];
            let output = bridge(&["check", "--config", path(&config)], &environment);
            assert_eq!(output.status.code(), Some(2), "{key} = {pasted:?}: {}", stdout(&output));
            let said = stderr(&output);
            assert!(!said.contains(pasted) && !said.contains('\u{1b}'), "{key}: {said}");
        }
    }
}

#[test]
fn a_variable_that_begins_as_ours_and_names_nothing_is_a_fault() {
    let config = file(WITH_SECRETS);
    for name in [
        "PEPAY_BRIDGE_TARGETS__ORDERS__URL",
        "PEPAY_BRIDGE_LOG_FORMAT",
        "PEPAY_BRIDGE_SERVER_PORT",
        "pepay_bridge_config",
    ] {
        let output = bridge(&["check", "--config", path(&config)], &[(name, "hidden-key")]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(
            stderr(&output).starts_with(&format!("{name}: names nothing; allowed are ")),
            "{}",
            stderr(&output)
        );
        assert_no_secret(&output);
    }
    // Kubernetes sets these in every pod beside a service of this name.
    let services = [
        ("PEPAY_BRIDGE_SERVICE_HOST", "10.0.0.1"),
        ("PEPAY_BRIDGE_SERVICE_PORT", "8080"),
        ("PEPAY_BRIDGE_SERVICE_PORT_HTTP", "8080"),
        ("PEPAY_BRIDGE_PORT", "tcp://10.0.0.1:8080"),
        ("PEPAY_BRIDGE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("PEPAY_BRIDGE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("PEPAY_BRIDGE_ADMIN_SERVICE_HOST", "10.0.0.2"),
        ("PEPAY_BRIDGE_ADMIN_PORT_9090_TCP_PROTO", "tcp"),
    ];
    let output = bridge(&["check", "--config", path(&config)], &services);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_fault_at_the_start_is_logged_in_the_configured_form_and_is_the_same_at_every_run() {
    let config = file(&WITH_SECRETS.replace(
        "[server]",
        "[log]\nformat = \"json\"\nfilter = \"off\"\n[server]\n\"a\\u001bb\" = 1\nlisten = \"x\"",
    ));
    let environment = [
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT__A", "1"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT__B", "1"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT__C", "1"),
    ];
    let output = bridge(&["run", "--config", path(&config)], &environment);
    assert_eq!(output.status.code(), Some(2));
    let lines: Vec<serde_json::Value> =
        stderr(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| line["level"] == "ERROR"), "{lines:?}");
    assert_eq!(lines[0]["key"], "server.listen");
    assert!(lines[0]["message"].as_str().unwrap().starts_with("configuration: `x` is not an address"));
    assert_eq!(lines[1]["key"], "server.a\\u{1b}b");
    assert_eq!(lines[2]["variable"], "PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT__A");
    let shown = bridge(&["check", "--config", path(&config)], &environment);
    for _ in 0..5 {
        assert_eq!(stderr(&bridge(&["check", "--config", path(&config)], &environment)), stderr(&shown));
    }
    // Of a file that is no TOML, the environment alone says how to log.
    let broken = file("[log");
    let output = bridge(&["run", "--config", path(&broken)], &[("PEPAY_BRIDGE__LOG__FORMAT", "json")]);
    let line: serde_json::Value = serde_json::from_str(stderr(&output).trim()).unwrap();
    assert!(
        output.status.code() == Some(2) && line["message"].as_str().unwrap().contains("line 1"),
        "{line}"
    );
}

/// Runs the program as a user who owns nothing, which takes another one than root.
fn as_stranger(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pepay-bridge"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    command.output().unwrap()
}

#[test]
fn a_permission_that_is_missing_is_named_with_user_owner_mode_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("key");
    std::fs::write(&secret, "hidden-key-0123456789").unwrap();
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let owner = std::fs::metadata(folder.path()).unwrap().uid();
    let user = if owner == 0 { 65_534 } else { owner };
    let database = format!("sqlite://{}", folder.path().join("data/bridge.db").display());
    let environment = [
        ("PEPAY_BRIDGE__SERVER__LISTEN", "127.0.0.1:0"),
        ("PEPAY_BRIDGE__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
        ("PEPAY_BRIDGE__STORE__URL", &*database),
        ("PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS_FILE", secret.to_str().unwrap()),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__URL", "http://127.0.0.1:9/"),
    ];
    // The file itself, and then the folder around it.
    for (of_folder, of_file, says) in [
        (0o755, 0o000, format!("and it belongs to user {owner} and group ")),
        (0o000, 0o644, format!("and a folder above it belongs to user {owner} and group ")),
    ] {
        set(&secret, of_file);
        set(folder.path(), of_folder);
        let output = as_stranger(&["check"], &environment);
        set(folder.path(), 0o755);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(&format!("Permission denied (os error 13): this process runs as user {user}, ")),
            "{said}"
        );
        assert!(said.contains(&says) && said.contains("with mode 0000; "), "{said}");
    }
    // The folder of the database.
    set(&secret, 0o644);
    set(folder.path(), 0o555);
    let (run, doctor) = (as_stranger(&["run"], &environment), as_stranger(&["doctor"], &environment));
    set(folder.path(), 0o755);
    assert_eq!((run.status.code(), doctor.status.code()), (Some(1), Some(1)), "{}", stderr(&run));
    let reason =
        format!("this process runs as user {user}, and its folder belongs to user {owner} and group ");
    for said in [stderr(&run), stdout(&doctor)] {
        assert!(said.contains(&reason) && said.contains("with mode 0555; give it to that user"), "{said}");
    }
}
