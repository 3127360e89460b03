//! Configurations with which a bridge could not start, or would not do what it is told.

use super::*;

/// A certificate in PEM form whose content is none.
const DAMAGED: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

#[test]
fn a_url_that_no_request_can_carry_is_a_problem() {
    for host in ["${ORDERS_HOST}", "a\"b", "{{orders}}"] {
        let url = format!("http://{host}/events");
        let fault = "no request can carry";
        assert_problem(&format!("[targets.t]\nurl = '{url}'"), "targets.t.url", fault);
        assert_problem(&format!("[pepay]\napi_url = '{url}'"), "pepay.api_url", fault);
        assert_problem(&format!("[alerts]\nurl = '{url}'"), "alerts.url", fault);
    }
    for host in ["a..b", "-", "a.-b"] {
        let says = "no certificate can name";
        assert_problem(&format!("[targets.t]\nurl = 'https://{host}/'"), "targets.t.url", says);
        assert_eq!(problems(&format!("[targets.t]\nurl = 'http://{host}/'")), [""; 0]);
    }
    for host in ["a_b.internal", "[::1]:8443", "10.0.0.1", "bücher.example", "a.b."] {
        assert_eq!(problems(&format!("[targets.t]\nurl = 'https://{host}/'")), [""; 0], "{host}");
    }
}

#[test]
fn a_file_of_certificates_is_read_before_it_is_used() {
    let damaged = file(DAMAGED);
    let damaged = format!("'{}'", damaged.path().display());
    for (section, key) in [
        ("[targets.t]\nurl = 'https://t/'\n", "targets.t.ca_file"),
        ("[pepay]\n", "pepay.ca_file"),
        ("[store]\nurl = 'postgres://u@h/d'\n", "store.ca_file"),
    ] {
        assert_problem(&format!("{section}ca_file = {damaged}"), key, "a certificate in it is none");
    }
    let store = "[store]\nurl = 'postgres://u@h/d'\n";
    assert_problem(
        &format!("{store}ca_file = 'Cargo.toml'"),
        "store.ca_file",
        "there is no certificate in it",
    );
    assert_problem(
        &format!("{store}client_cert_file = 'Cargo.toml'\nclient_key_file = 'Cargo.toml'"),
        "store.client_cert_file",
        "no certificate chain and key",
    );
    let lone = format!("{store}client_key_file = 'Cargo.toml'");
    assert_problem(&lone, "store.client_cert_file", "together, or neither");
}

#[test]
fn a_server_whose_url_encodes_no_text_is_a_problem_that_shows_no_password() {
    for (password, is_sound) in
        [("50%fee", false), ("%C3", false), ("50%25fee", true), ("%C3%A4", true), ("5%", true)]
    {
        let found = problems(&format!("[store]\nurl = 'postgres://u:{password}@h/d'")).join("");
        assert_eq!(found.is_empty(), is_sound, "{password}: {found}");
        assert!(is_sound || found.contains("encodes no UTF-8") && !found.contains(password), "{found}");
    }
    let socket = "[store]\nurl = 'postgres://u@%2Frun%2Fpostgresql/d'";
    assert_eq!(problems(socket), [""; 0]);
}

#[test]
fn ids_are_kept_for_longer_than_two_intervals_of_the_sweep() {
    let with = |interval: &str, memory: &str| {
        let stream = format!("[pepay]\napi_key = 'k'\n[streams.s]\nreconcile_interval = '{interval}'");
        problems(&format!("[store]\ndedupe_retention = '{memory}'\npayload_retention = '1d'\n{stream}"))
            .join("")
    };
    assert_eq!(with("15d", "31d"), "");
    let says = "allowed is more than `streams.s.reconcile_interval` twice, which is `30d`";
    let found = with("15d", "30d");
    assert!(
        found.starts_with("store.dedupe_retention: `30d` is too short") && found.contains(says),
        "{found}"
    );
    for off in ["0s", "0", "0m"] {
        assert_eq!(with(off, "7d"), "", "{off}");
    }
    let found = with("500ms", "7d");
    assert!(found.contains("allowed are 1s to 30d, and `0s` for off"), "{found}");
}

#[test]
fn a_filter_that_turns_every_line_off_by_mistake_is_a_warning() {
    let warned = |filter: &str| {
        let warnings = load_text(LEAST, &[("RUST_LOG", filter)]).unwrap().warnings;
        warnings.iter().any(|warning| warning.key == "log.filter" && warning.found.contains("is no level"))
    };
    for mistake in ["warning", "debg", "Informational", "verbose,pepay_bridge::delivery=debug"] {
        assert!(warned(mistake), "{mistake}");
    }
    for meant in
        ["warn", "WARN", "3", "off", "pepay_bridge", "hyper=debug", "info,hyper", "a::b", "[span]=info"]
    {
        assert!(!warned(meant), "{meant}");
    }
}

#[test]
fn a_list_of_secrets_in_brackets_is_a_warning() {
    let warned = |secrets: &str| {
        let given = [("PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS", secrets)];
        let warnings = load_text(LEAST, &given).unwrap().warnings;
        warnings.iter().any(|warning| warning.found.contains("begins with `[`"))
    };
    assert!(warned(r#"["the-first-of-the-secrets","the-second-of-the-secrets"]"#));
    assert!(!warned("the-first-of-the-secrets,the-second-of-the-secrets"));
}
