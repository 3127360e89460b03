//! Warnings of settings that are probably mistakes, and error messages at the start, without secrets.

use std::os::unix::fs::symlink;

use super::*;

#[tokio::test]
async fn a_doubtful_setting_is_a_warning_and_a_failure_only_if_strict() {
    let config = file(DOUBTFUL);
    std::fs::set_permissions(config.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let output = bridge(&["check", "--config", path(&config)], &[]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
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
        assert!(output.stderr.lines().any(warned), "{key}: {says} is not in\n{}", output.stderr);
    }
    assert_eq!(output.stderr.lines().count(), 9, "{}", output.stderr);
    // The query of the URL is left out, as in `/status`.
    assert_eq!(effective(&output, "targets.orders", "url"), r#""http://orders.internal:8000/events""#);
    let strict = bridge(&["check", "--strict", "--config", path(&config)], &[]).await;
    assert_eq!(strict.code, Some(1), "{}", strict.stderr);
    let sound = file(WITH_SECRETS);
    let sound = bridge(&["check", "--strict", "--config", path(&sound)], &[]).await;
    assert_eq!((sound.code, &*sound.stderr), (Some(0), ""));
}

#[tokio::test]
async fn a_secret_that_every_user_can_read_is_warned_of_by_its_key() {
    let secret = file("hidden-key-0123456789");
    let config = file(WITH_SECRETS);
    let environment = [("PEPAY_BRIDGE__PEPAY__API_KEY_FILE", path(&secret))];
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
        std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let output = bridge(&["check", "--config", path(&config)], &environment).await;
        let says = "warning: pepay.api_key_file: can be read by every user of this machine";
        assert_eq!(output.stderr.contains(says), warned, "{mode:o}: {}", output.stderr);
    }
}

#[tokio::test]
async fn a_folder_that_every_user_can_list_is_warned_of_once_and_so_is_that_of_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let set = |mode| {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let config = file(WITH_SECRETS);
    let [key, token] = ["key", "token"].map(|name| folder.path().join(name));
    for secret in [&key, &token] {
        std::fs::write(secret, "hidden-key-0123456789").unwrap();
        std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let database = format!("sqlite://{}", folder.path().join("bridge.db").display());
    let environment = [
        ("PEPAY_BRIDGE__PEPAY__API_KEY_FILE", key.to_str().unwrap()),
        ("PEPAY_BRIDGE__SERVER__ADMIN_TOKEN_FILE", token.to_str().unwrap()),
        ("PEPAY_BRIDGE__STORE__URL", &*database),
    ];
    let name = folder.path().to_str().unwrap();
    for (mode, of_secrets, of_store) in [
        (0o700, None, None),
        (0o750, None, None),
        (0o755, Some("listed by every user"), Some("whose files every user of this machine can list")),
        (0o1777, Some("listed by every user"), Some("may replace files")),
        (0o777, Some("written by every user"), Some("may replace files")),
    ] {
        set(mode);
        let output = bridge(&["check", "--config", path(&config)], &environment).await;
        let said: Vec<_> = output.stderr.lines().filter(|line| line.contains(name)).collect();
        let expected = usize::from(of_secrets.is_some()) + usize::from(of_store.is_some());
        assert_eq!((output.code, said.len()), (Some(0), expected), "{mode:o}: {said:?}");
        for says in of_secrets.into_iter().chain(of_store) {
            assert!(said.iter().any(|line| line.contains(says)), "{mode:o}: {says} is not in {said:?}");
        }
    }
}

#[tokio::test]
async fn a_pasted_secret_is_in_no_message_about_a_file() {
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
            let output = bridge(&["check", "--config", path(&config)], &environment).await;
            assert_eq!(output.code, Some(2), "{key} = {pasted:?}: {}", output.stdout);
            let said = output.stderr;
            assert!(!said.contains(pasted) && !said.contains('\u{1b}'), "{key}: {said}");
        }
    }
}

/// Keys that name a file: three with a secret, and two with a certificate or a key.
const FILE_KEYS: [&str; 5] = [
    "PEPAY__API_KEY_FILE",
    "WEBHOOKS__DEFAULT__SECRETS_FILE",
    "TARGETS__ORDERS__HEADERS_FILE",
    "PEPAY__CA_FILE",
    "TARGETS__ORDERS__CLIENT_KEY_FILE",
];

#[tokio::test]
async fn a_pipe_that_a_key_names_is_a_fault_and_check_does_not_wait_for_its_writer() {
    let folder = TempDir::new().unwrap();
    let (config, pipe) = (file("[pepay]"), folder.path().join("pipe"));
    let made = output_of(Command::new("mkfifo").arg(&pipe)).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    for key in FILE_KEYS {
        let environment = [(&*format!("PEPAY_BRIDGE__{key}"), pipe.to_str().unwrap())];
        let output = bridge(&["check", "--config", path(&config)], &environment).await;
        assert_eq!(output.code, Some(2), "{key}: {output:?}");
        let key = key.to_lowercase().replace("__", ".");
        let says = |line: &str| line.starts_with(&format!("{key}: ")) && line.contains("a regular file");
        assert!(output.stderr.lines().any(says), "{key} is not in\n{}", output.stderr);
    }
    // A shell starts a process that writes to the pipe.
    let script = "PEPAY_BRIDGE__PEPAY__API_KEY_FILE=<(echo hidden-key-0123456789) \"$0\" check";
    let output = output_of(&mut command_of("/bin/bash", &["-c", script], &Configuration::new())).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("pepay.api_key_file: names a file that cannot be read: it is a pipe"));
}

#[tokio::test]
async fn a_secret_is_read_through_links_as_kubernetes_mounts_it() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("..2026_01_02")).unwrap();
    std::fs::write(path("..2026_01_02/key"), "hidden-key-0123456789").unwrap();
    symlink("..2026_01_02", path("..data")).unwrap();
    symlink("..data/key", path("key")).unwrap();
    let config = file(WITH_SECRETS);
    let key = path("key");
    let environment = [("PEPAY_BRIDGE__PEPAY__API_KEY_FILE", key.to_str().unwrap())];
    let output = bridge(&["check", "--config", config.path().to_str().unwrap()], &environment).await;
    assert_eq!(effective(&output, "pepay", "api_key_file"), format!("{:?}", key.to_str().unwrap()));
}

#[tokio::test]
async fn a_variable_that_begins_as_ours_and_names_nothing_is_a_fault() {
    let config = file(WITH_SECRETS);
    for name in [
        "PEPAY_BRIDGE_TARGETS__ORDERS__URL",
        "PEPAY_BRIDGE_LOG_FORMAT",
        "PEPAY_BRIDGE_SERVER_PORT",
        "pepay_bridge_config",
    ] {
        let output = bridge(&["check", "--config", path(&config)], &[(name, "hidden-key")]).await;
        assert_eq!(output.code, Some(2), "{name}");
        assert!(
            output.stderr.starts_with(&format!("{name}: names nothing; allowed are ")),
            "{}",
            output.stderr
        );
        assert_no_secret(&output);
    }
    // Kubernetes sets these in every pod of a namespace with a service of this name.
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
    let output = bridge(&["check", "--config", path(&config)], &services).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

#[tokio::test]
async fn a_fault_at_the_start_is_logged_in_the_configured_form_and_is_the_same_at_every_run() {
    let config = file(&WITH_SECRETS.replace(
        "[server]",
        "[log]\nformat = \"json\"\nfilter = \"off\"\n[server]\n\"a\\u001bb\" = 1\nlisten = \"x\"",
    ));
    let environment = [
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT__A", "1"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT__B", "1"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT__C", "1"),
    ];
    let output = bridge(&["run", "--config", path(&config)], &environment).await;
    assert_eq!(output.code, Some(2));
    let lines: Vec<serde_json::Value> =
        output.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| line["level"] == "ERROR"), "{lines:?}");
    assert_eq!(lines[0]["key"], "server.listen");
    assert!(lines[0]["message"].as_str().unwrap().starts_with("configuration: `x` is not an address"));
    assert_eq!(lines[1]["key"], "server.a\\u{1b}b");
    assert_eq!(lines[2]["variable"], "PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUT__A");
    let shown = bridge(&["check", "--config", path(&config)], &environment).await;
    for _ in 0..5 {
        assert_eq!(bridge(&["check", "--config", path(&config)], &environment).await.stderr, shown.stderr);
    }
    // If the file is no TOML, only the environment sets the format of the log.
    let broken = file("[log");
    let output = bridge(&["run", "--config", path(&broken)], &[("PEPAY_BRIDGE__LOG__FORMAT", "json")]).await;
    let line: serde_json::Value = serde_json::from_str(output.stderr.trim()).unwrap();
    assert!(output.code == Some(2) && line["message"].as_str().unwrap().contains("line 1"), "{line}");
}

/// Runs the program as a user who may not read everything: as nobody if this is root.
async fn as_stranger(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = program();
    command.args(arguments).envs(environment.iter().copied());
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    output_of(&mut command).await
}

#[tokio::test]
async fn a_permission_that_is_missing_is_named_with_user_owner_mode_and_remedy() {
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
    // First the file is not readable, then its folder.
    for (of_folder, of_file, says) in [
        (0o755, 0o000, format!("and it belongs to user {owner} and group ")),
        (0o000, 0o644, format!("and a folder above it belongs to user {owner} and group ")),
    ] {
        set(&secret, of_file);
        set(folder.path(), of_folder);
        let output = as_stranger(&["check"], &environment).await;
        set(folder.path(), 0o755);
        let said = output.stderr;
        assert_eq!(output.code, Some(2), "{said}");
        assert!(
            said.contains(&format!("Permission denied (os error 13): this process runs as user {user}, ")),
            "{said}"
        );
        assert!(said.contains(&says) && said.contains("with mode 0000; "), "{said}");
    }
    // The folder of the database.
    set(&secret, 0o644);
    set(folder.path(), 0o555);
    let (run, doctor) =
        (as_stranger(&["run"], &environment).await, as_stranger(&["doctor"], &environment).await);
    set(folder.path(), 0o755);
    assert_eq!((run.code, doctor.code), (Some(1), Some(1)), "{}", run.stderr);
    let reason =
        format!("this process runs as user {user}, and its folder belongs to user {owner} and group ");
    for said in [run.stderr, doctor.stdout] {
        assert!(said.contains(&reason) && said.contains("with mode 0555; give it to that user"), "{said}");
    }
}
