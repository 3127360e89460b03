//! Tests of the messages about faults: the key, the fault, and what is allowed.

use super::*;

#[test]
fn every_fault_is_reported_at_once_by_its_full_path() {
    let text = "
        [server]
        listen = 'nowhere'
        shutdown_grace = '2d'
        [log]
        format = 'xml'
        [store]
        durability = 'some'
        [streams.s]
        types = ['invoice*', 'a b']
        auth = 'none'
        [webhooks.w]
        max_body = '1 potato'
        [targets.t]
        timeout = '5x'
        concurrency = 0
        dead_on = [200, 'x', 'x']
        [targets.u]
        url = 'ftp://u'
    ";
    let problems = load_text(text, &[("PEPAY_BRIDGE__TARGETS__T__ORDERING", "any")]).unwrap_err();
    let found: BTreeSet<_> = problems.iter().map(|problem| &*problem.key).collect();
    let expected = [
        "log.format",
        "pepay.api_key",
        "server.listen",
        "server.shutdown_grace",
        "store.durability",
        "streams.s.auth",
        "streams.s.types",
        "targets.t.concurrency",
        "targets.t.dead_on",
        "targets.t.ordering",
        "targets.t.timeout",
        "targets.t.url",
        "targets.u.url",
        "webhooks.w.max_body",
        "webhooks.w.secrets",
    ];
    assert_eq!(found, expected.into(), "{problems}");
    let lines = problems.to_string();
    assert_eq!(lines.lines().count(), expected.len() + 2, "two lists have two faults each\n{lines}");
    for line in lines.lines() {
        assert!(line.contains("; allowed "), "{line}");
    }
    assert!(lines.contains(
        "targets.t.timeout: `5x` is not a duration; allowed are values such as `500ms`, `10s`, `5m`, `30d`"
    ));
    assert!(lines.contains("(set by PEPAY_BRIDGE__TARGETS__T__ORDERING)"), "{lines}");
}

#[test]
fn unknown_keys_are_named_at_every_level() {
    assert_problem("[sever]\nx = 1", "sever", "did you mean `server`?");
    assert_problem("[server]\nlisten_on = ''", "server.listen_on", "did you mean `listen`?");
    assert_problem("[store]\nzzz = 1", "store.zzz", "allowed are `url`, `url_file`");
    assert_problem("time_out = '1s'", "targets.orders.time_out", "did you mean `timeout`?");
    let problems = load_text(LEAST, &[("PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUTS", "hidden")]).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "targets.orders.timeouts: is no known key; did you mean `timeout`? \
         (set by PEPAY_BRIDGE__TARGETS__ORDERS__TIMEOUTS)"
    );
}

#[test]
fn variables_that_name_no_key_are_problems() {
    for (name, says) in [
        ("PEPAY_BRIDGE__", "names no key"),
        ("PEPAY_BRIDGE__LOG____FORMAT", "names no key"),
        ("PEPAY_BRIDGE__LOG__FORMAT__X", "sets a key below one"),
        ("pepay_bridge__log__format", "sets a key that another variable sets too"),
    ] {
        let problems =
            load_text(LEAST, &[("PEPAY_BRIDGE__LOG__FORMAT", "text"), (name, "text")]).unwrap_err();
        let problems = problems.to_string();
        assert!(problems.contains(says) && problems.lines().count() == 1, "{name}: {problems}");
    }
}

#[test]
fn a_file_that_is_missing_endless_or_no_toml_is_the_only_problem_reported() {
    let endless = load(&Input::new(Some(Path::new("/dev/zero")), [("", ""); 0])).unwrap_err().to_string();
    assert_eq!(endless, "--config: `/dev/zero` is larger than 4 MiB; allowed is a TOML file");
    let missing = load(&Input::new(Some(Path::new("/no/such.toml")), [("", ""); 0])).unwrap_err().to_string();
    assert!(missing.starts_with("--config: cannot read `/no/such.toml`: No such file"), "{missing}");
    let named = load(&Input::new(None, [("PEPAY_BRIDGE_CONFIG", "/no/such.toml")])).unwrap_err().to_string();
    assert!(named.starts_with("PEPAY_BRIDGE_CONFIG: cannot read"), "{named}");
    let broken = file("[pepay]\n\napi_key = \"hidden\n");
    let broken = load(&Input::new(Some(broken.path()), [("", ""); 0])).unwrap_err().to_string();
    assert!(broken.contains(": line 3, column "), "{broken}");
    assert!(!broken.contains("hidden") && broken.lines().count() == 1, "{broken}");
}

#[test]
fn sections_in_a_wrong_shape_are_named() {
    let problem = |text: &str| load_text(text, &[]).unwrap_err().to_string();
    assert!(
        problem("targets = 3")
            .contains("targets: is no table; allowed are sections such as `[targets.NAME]`")
    );
    assert!(problem("[[streams]]").contains("streams: is no table"));
    assert!(problem("[targets]\nurl = 'http://t'").contains("targets.url: is no table"));
    assert!(problem("log = 'json'").contains("log: is no table; allowed is a section `[log]`"));
    assert_problem("timeout = ['1s']", "targets.orders.timeout", "a list or a table");
    assert_problem("types = [['a']]", "targets.orders.types", "is no list of single values");
    assert_problem("headers = 'a: b'", "targets.orders.headers", "is no table of texts");
}

#[test]
fn a_source_and_a_target_are_needed() {
    let problems = load(&Input::new(None, [("", ""); 0])).unwrap_err().to_string();
    let keys: Vec<_> = problems.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(keys, ["streams", "targets"]);
}

#[test]
fn names_have_1_to_64_letters_digits_underscores_and_hyphens() {
    let text = format!("{LEAST}[targets.\"a\\nb\"]");
    let problems = load_text(&text, &[]).unwrap_err().to_string();
    assert!(problems.lines().all(|line| line.starts_with("targets")), "{problems}");
    for name in ["My-Target", "a.b", "ä", "", &"x".repeat(65)] {
        assert_problem(
            &format!("[targets.'{name}']\nurl = 'http://t'"),
            "targets",
            "is no name; allowed are 1 to 64",
        );
    }
}

#[test]
fn keys_that_contradict_one_another_are_problems() {
    assert_problem("retry_min = '2h'", "targets.orders.retry_min", "at most `retry_max`, which is `1h`");
    assert_problem(
        "[store]\npayload_retention = '400d'",
        "store.payload_retention",
        "at most `dedupe_retention`",
    );
    assert_problem("[store]\ndedupe_retention = '6d'", "store.dedupe_retention", "allowed are 7d to");
    assert_problem(
        "[store]\ndedupe_retention = '30d'\n[pepay]\napi_key = 'k'\n[streams.s]\nreconcile_lookback = '30d'",
        "store.dedupe_retention",
        "more than `streams.s.reconcile_lookback`, which is `30d`",
    );
    assert_problem(
        "client_key_file = '/dev/stdin'",
        "targets.orders.client_key_file",
        "it is a pipe, a device or a folder, and not a regular file",
    );
    let pem = file("pem");
    let lone = format!("client_key_file = '{}'", pem.path().display());
    assert_problem(&lone, "targets.orders.client_cert_file", "together, or neither");
    let stream = |keys: &str| format!("[pepay]\napi_key = 'k'\n[streams.s]\n{keys}");
    assert_problem(&stream("ping_interval = '60s'"), "streams.s.ping_interval", "less than `idle_timeout`");
    assert_problem(&stream("backoff_min = '2m'"), "streams.s.backoff_min", "at most `backoff_max`");
    assert_problem(
        &stream("environment = 'devnet'"),
        "streams.s.environment",
        "`endpoint = \"merchant\"` only",
    );
    let merchant = stream("endpoint = 'merchant'\norder_id = 'o'");
    assert_problem(&merchant, "streams.s.order_id", "`endpoint = \"commerce\"` only");
    assert_problem(
        "[webhooks.other]\nsecrets = ['s']",
        "webhooks.other.path",
        "the path of `webhooks.default`",
    );
    assert_problem("[streams.s]", "pepay.api_key", "a stream cannot be opened without it");
}

#[test]
fn endpoints_of_different_environments_share_no_secret() {
    let problems = |other: &str, environment: &str| {
        let text = format!(
            "[targets.t]
             url = 'http://t'
             [webhooks.dev]
             path = '/dev'
             secrets = ['hunter2', 'd']
             environment = 'devnet'
             [webhooks.other]
             path = '/other'
             secrets = ['o', '{other}']
             environment = '{environment}'"
        );
        load_text(&text, &[]).map(|_| ()).map_err(|problems| problems.to_string())
    };
    assert_eq!(problems("hunter3", "mainnet"), Ok(()));
    assert_eq!(problems("hunter2", "devnet"), Ok(()));
    assert_eq!(problems("hunter2", ""), Ok(()));
    let refused = problems("hunter2", "mainnet").unwrap_err();
    assert!(refused.contains("webhooks.other.secrets") && refused.contains("webhooks.dev"), "{refused}");
    assert!(!refused.contains("hunter"), "{refused}");
}

#[test]
fn listeners_need_two_addresses_and_the_private_one_needs_loopback_or_a_token() {
    for taken in ["0.0.0.0:9090", "127.0.0.1:9090"] {
        assert_problem(&format!("[server]\nlisten = '{taken}'"), "server.admin_listen", "is taken by");
    }
    assert_problem(
        "[server]\nadmin_listen = '0.0.0.0:9090'",
        "server.admin_listen",
        "no `server.admin_token`",
    );
    assert_eq!(problems("[server]\nlisten = '127.0.0.1:0'\nadmin_listen = '[::1]:0'"), [""; 0]);
    assert_eq!(
        problems("[server]\nadmin_listen = '0.0.0.0:9090'\nadmin_token = 'sixteen-or-more-of-them'"),
        [""; 0]
    );
    let named = "admin_listen = '0.0.0.0:9090'\n[server.tokens.prometheus]\ntoken = 'sixteen-or-more-of-them'\nscope = 'metrics'";
    assert_eq!(problems(&format!("[server]\n{named}")), [""; 0]);
    assert_problem("[server]\nadmin_token = 'a b'", "server.admin_token", "visible ASCII");
}

#[test]
fn a_token_needs_a_length_a_scope_and_a_value_of_its_own() {
    let problem = |tokens: &str, key: &str, says: &str| {
        assert_problem(&format!("[server]\nadmin_token = 'the-operators-own-token'\n{tokens}"), key, says);
    };
    assert_problem(
        "[server]\nadmin_token = 'fifteen-of-them'",
        "server.admin_token",
        "at least 16 characters",
    );
    let long = "token = 'sixteen-or-more-of-them'";
    problem(
        "[server.tokens.p]\ntoken = 'short'\nscope = 'read'",
        "server.tokens.p.token",
        "at least 16 characters",
    );
    problem("[server.tokens.p]\nscope = 'read'", "server.tokens.p.token", "is missing");
    problem(&format!("[server.tokens.p]\n{long}"), "server.tokens.p.scope", "`metrics`, `read` or `operate`");
    problem(&format!("[server.tokens.p]\n{long}\nscope = 'write'"), "server.tokens.p.scope", "`metrics`");
    problem(
        &format!("[server.tokens.p]\n{long}\nscope = 'read'\nname = 'p'"),
        "server.tokens.p.name",
        "is no known key",
    );
    problem(
        &format!("[server.tokens.p]\n{long}\nscope = 'read'\n[server.tokens.q]\n{long}\nscope = 'operate'"),
        "server.tokens",
        "has the same token as `server.tokens.p` in `server.tokens.q`",
    );
    problem(
        "[server.tokens.p]\ntoken = 'the-operators-own-token'\nscope = 'read'",
        "server.tokens",
        "has the same token as `server.admin_token`",
    );
}

#[test]
fn values_of_a_wrong_form_are_problems() {
    for (text, key, says) in [
        ("types = []", "targets.orders.types", "names no type"),
        ("rate_limit = -1", "targets.orders.rate_limit", "allowed are 0 to 1000000"),
        ("rate_limit = nan", "targets.orders.rate_limit", "out of range"),
        ("timeout = 10", "targets.orders.timeout", "`10` is not a duration"),
        ("timeout = '0s'", "targets.orders.timeout", "allowed are 1ms to 1h"),
        ("give_up_after = '9999d'", "targets.orders.give_up_after", "allowed are 0s to 3650d"),
        ("dead_on = [399]", "targets.orders.dead_on", "allowed are 400 to 599"),
        ("signing_secret = 'hidden'", "targets.orders.signing_secret", "allowed is `whsec_`"),
        ("pause_when_rejecting = -1", "targets.orders.pause_when_rejecting", "allowed are 0 to"),
        (
            "ca_file = '/no/such.pem'",
            "targets.orders.ca_file",
            "names a file that cannot be opened: No such file",
        ),
        ("ca_file = 'Cargo.toml'", "targets.orders.ca_file", "there is no certificate in it"),
        (
            "client_cert_file = 'Cargo.toml'\nclient_key_file = 'Cargo.toml'",
            "targets.orders.client_cert_file",
            "no certificate chain and key",
        ),
        ("headers = { host = 'x' }", "targets.orders.headers.host", "set by the bridge itself"),
        ("headers = { Webhook-Id = 'x' }", "targets.orders.headers.webhook-id", "set by the bridge itself"),
        ("headers = { X-A = 'x', x-a = 'y' }", "targets.orders.headers.x-a", "is given more than once"),
        ("headers = { 'a b' = 'x' }", "targets.orders.headers.a b", "is not a header name"),
        ("headers = { a = \"x\\ny\" }", "targets.orders.headers.a", "a value that no header can have"),
        ("[store]\nurl = 'sqlite::memory:'", "store.url", "in memory"),
        ("[store]\nurl = 'mysql://u:hidden@h/d'", "store.url", "is no URL of SQLite or PostgreSQL"),
        ("[store]\nurl = 'postgres://u:hidden@h'", "store.url", "names no database"),
        ("[store]\nurl = 'postgres://u:hidden@a,b/d'", "store.url", "names several servers"),
        ("[store]\nurl = 'postgres://u:hidden@h/d?options=x'", "store.url", "parameters that are not known"),
        ("[store]\nurl = 'postgres://u:hidden@h:x/d'", "store.url", "is no URL ("),
        ("[store]\nschema = 'Pepay'", "store.schema", "is no name of a schema"),
        ("[store]\npooler = 'session'", "store.pooler", "allowed"),
        ("[store]\nlisten_url = 'sqlite://hidden'", "store.listen_url", "is no URL of PostgreSQL"),
        ("[store]\nlisten_url = 'postgres://u:hidden@h'", "store.listen_url", "names no database"),
        ("[store]\nurl = 'sqlite://'", "store.url", "names no file"),
        ("[store]\nurl = 'sqlite://a?mode=ro'", "store.url", "has parameters"),
        ("[store]\nurl = 'sqlite:///tmp'", "store.url", "names a folder"),
        ("[pepay]\napi_url = 'ws://p'", "pepay.api_url", "has the scheme `ws`; allowed are https"),
        ("[pepay]\napi_url = 'http://p?q=1'", "pepay.api_url", "has a query"),
        ("[pepay]\nws_url = 'http://p'", "pepay.ws_url", "has the scheme `http`; allowed are wss"),
        ("[pepay]\napi_key_header = 'a b'", "pepay.api_key_header", "is not a header name"),
        ("[log]\nfilter = 'a=b=c'", "log.filter", "is not a filter"),
    ] {
        assert_problem(text, key, says);
        assert!(!problems(text).join("").contains("hidden"), "{text}");
    }
    for path in ["webhooks", "/a b", "/{id}", "/*", "/a?b", "/:id", "/healthz", "/readyz", "/ä"] {
        let text = format!("[webhooks.x]\nsecrets = 's'\npath = '{path}'");
        assert_problem(&text, "webhooks.x.path", "allowed");
    }
}

#[test]
fn settings_that_pace_requests_to_pepay_have_bounds() {
    let fault =
        |key: &str, value: &str| problems(&format!("[pepay]\napi_key = 'k'\n[streams.s]\n{key} = '{value}'"));
    for (key, allowed, refused) in [
        ("token_ttl", ["1s", "24h"], ["0s", "25h"]),
        ("idle_timeout", ["21s", "1d"], ["499ms", "25h"]),
        ("ping_interval", ["100ms", "59s"], ["99ms", "25h"]),
        ("backoff_min", ["50ms", "60s"], ["49ms", "31d"]),
        ("backoff_max", ["500ms", "30d"], ["49ms", "31d"]),
        ("reconcile_interval", ["1s", "30d"], ["999ms", "31d"]),
        ("reconcile_lookback", ["1s", "364d"], ["999ms", "366d"]),
        ("hold_limit", ["1s", "1d"], ["999ms", "25h"]),
    ] {
        for allowed in allowed {
            assert_eq!(fault(key, allowed), [""; 0], "{key} = {allowed}");
        }
        for refused in refused.into_iter().chain(["1ns", "99999d"]) {
            let found = fault(key, refused);
            let says = format!("streams.s.{key}: `{refused}` is out of range; allowed are ");
            assert!(found.iter().any(|problem| problem.starts_with(&says)), "{key} = {refused}: {found:?}");
        }
    }
    // Keys that limit one another.
    for (key, value, says) in [
        ("backoff_min", "61s", "at most `backoff_max`, which is `1m`"),
        ("backoff_max", "499ms", "at most `backoff_max`, which is `499ms`"),
        ("ping_interval", "60s", "less than `idle_timeout`, which is `1m`"),
        ("idle_timeout", "20s", "less than `idle_timeout`, which is `20s`"),
    ] {
        let found = fault(key, value);
        assert!(found.len() == 1 && found[0].contains(says), "{key} = {value}: {found:?}");
    }
    assert_eq!(fault("reconcile_interval", "0s"), [""; 0], "which is off");
}

#[test]
fn a_targets_url_holds_no_credentials() {
    let text = LEAST.replace("http://orders/", "https://user:hidden@orders/");
    let problems = load_text(&text, &[]).unwrap_err().to_string();
    assert!(problems.contains("targets.orders.url: holds a user or a password"), "{problems}");
    assert!(problems.contains("`headers`") && !problems.contains("hidden"), "{problems}");
    let hostless = LEAST.replace("http://orders/", "http://user:hidden@/");
    let problems = load_text(&hostless, &[]).unwrap_err().to_string();
    assert!(problems.contains("is not a URL (empty host)") && !problems.contains("hidden"), "{problems}");
}

#[test]
fn no_secret_shows_in_what_is_effective_or_in_debug() {
    let text = "
        [server]
        admin_token = 'hidden-1-and-long-enough'
        [pepay]
        api_key = 'hidden-2'
        [webhooks.w]
        secrets = ['hidden-3', 'hidden-4']
        [targets.t]
        url = 'http://t'
        signing_secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
        headers = { authorization = 'Bearer hidden-5' }
    ";
    let loaded = load_text(text, &[]).unwrap();
    for line in [
        "admin_token = \"[redacted]\"",
        "api_key = \"[redacted]\"",
        "secrets = [\"[redacted]\", \"[redacted]\"]",
        "signing_secret = \"[redacted]\"",
        "headers = { authorization = \"[redacted]\" }",
    ] {
        assert!(
            loaded.effective.lines().any(|shown| shown == line),
            "{line} is not in\n{}",
            loaded.effective
        );
    }
    let debug = format!("{loaded:?}");
    assert!(!debug.contains("hidden") && !debug.contains("MfKQ9"), "{debug}");
}

#[test]
fn the_effective_configuration_loads_again_and_stays_the_same() {
    let given = [("PEPAY_BRIDGE__PEPAY__API_KEY", "k"), ("PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS", "s")];
    let first = load_text(EXAMPLE, &given).unwrap().effective;
    assert_eq!(load_text(&first, &[]).unwrap().effective, first);
}
