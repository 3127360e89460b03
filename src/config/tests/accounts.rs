//! Tests of a stream's account, whose missing keys are those of `[pepay]`.

use super::*;
use crate::pepay::account::{Account, Proxy};

const PEPAY: &str = "
    [pepay]
    api_url = 'https://pepay.example/api/v1'
    ws_url = 'wss://streams.example'
    api_key = 'shared'
    api_key_header = 'x-api-key'
    ca_file = 'CA'
    proxy = 'http://proxy:3128'
";

/// Changes the account of `[pepay]` into the expected account of a stream.
type Change = fn(&mut Account, &Account);

/// A file with one certificate.
fn ca() -> NamedTempFile {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    file(&certificate.pem())
}

/// Returns the account of the stream `s`, whose section is `keys`, and the account of `[pepay]`.
fn accounts(keys: &str) -> [Account; 2] {
    let ca = ca();
    let pepay = PEPAY.replace("'CA'", &format!("{:?}", ca.path()));
    let settings = settings(&format!("{LEAST}{pepay}[streams.s]\n{keys}"));
    [(*settings.streams[0].account).clone(), (*settings.pepay).clone()]
}

#[test]
fn every_key_of_an_account_that_a_stream_leaves_out_is_that_of_pepay() {
    let [own, pepay] = accounts("");
    assert_eq!(own, pepay);
    assert_eq!(own.api_url.as_str(), "https://pepay.example/");
    let ca = ca();
    let changes: [(&str, Change); 6] = [
        ("api_key = 'own'", |pepay, own| pepay.api_key.clone_from(&own.api_key)),
        ("api_key_header = 'x-own'", |pepay, own| pepay.api_key_header.clone_from(&own.api_key_header)),
        ("ws_url = 'wss://own.example'", |pepay, own| pepay.ws_url.clone_from(&own.ws_url)),
        (&format!("ca_file = {:?}", ca.path()), |pepay, own| pepay.ca.clone_from(&own.ca)),
        ("proxy = 'none'", |pepay, _| pepay.proxy = Proxy::Never),
        // The default of `ws_url` follows from the stream's own `api_url`.
        ("api_url = 'https://own.example:8443'", |pepay, own| {
            assert_eq!(own.ws_url.as_str(), "wss://own.example:8443/");
            pepay.api_url.clone_from(&own.api_url);
            pepay.ws_url.clone_from(&own.ws_url);
        }),
    ];
    for (keys, change) in changes {
        let [own, mut pepay] = accounts(keys);
        assert_ne!(own, pepay, "{keys}");
        change(&mut pepay, &own);
        assert_eq!(own, pepay, "{keys}");
    }
}

#[test]
fn a_key_in_a_file_of_its_own_wins_over_a_shared_key_and_an_empty_text_is_the_shared_one() {
    let key = file("own");
    let stream = |keys: &str, environment: &[(&str, &str)]| {
        let text = format!("{LEAST}[pepay]\napi_key = 'shared'\n[streams.s]\n{keys}");
        let settings = load_text(&text, environment).unwrap().settings;
        settings.streams[0].account.api_key.as_ref().unwrap().expose_secret().to_owned()
    };
    assert_eq!(stream(&format!("api_key_file = {:?}", key.path()), &[]), "own");
    assert_eq!(stream("api_key = ''\napi_key_file = ''", &[]), "shared");
    // A key of the stream takes precedence over a key of `[pepay]`, whatever their layers are.
    let shared = [("PEPAY_BRIDGE__PEPAY__API_KEY", "elsewhere")];
    assert_eq!(stream("api_key = 'own'", &shared), "own");
    assert_eq!(stream("", &shared), "elsewhere");
    assert_eq!(stream("api_key = 'own'", &[("PEPAY_BRIDGE__STREAMS__S__API_KEY", "mine")]), "mine");
}

#[test]
fn a_fault_of_pepay_is_said_once_however_many_streams_inherit_it() {
    for (key, value) in [
        ("api_url", "ftp://p"),
        ("ws_url", "http://p"),
        ("api_key", "a b"),
        ("api_key_file", "/no/such/key"),
        ("api_key_header", "a b"),
        ("ca_file", "/no/such.pem"),
        ("proxy", "https://p"),
    ] {
        let text = format!("[pepay]\n{key} = '{value}'\n[streams.a]\n[streams.b]");
        let found = problems(&text);
        let of_key = |found: &&String| found.starts_with(&format!("pepay.{key}: "));
        assert_eq!(found.iter().filter(of_key).count(), 1, "{found:#?}");
        assert!(!found.iter().any(|problem| problem.starts_with("streams")), "{found:#?}");
        let own = format!("[pepay]\napi_key = 'k'\n[streams.a]\n{key} = '{value}'\n[streams.b]");
        assert_problem(&own, &format!("streams.a.{key}"), "allowed");
    }
    let spaced = file("a b");
    let text = format!("[pepay]\napi_key_file = {:?}\n[streams.a]", spaced.path());
    assert_problem(&text, "pepay.api_key", "no header can carry");
}

#[test]
fn every_stream_needs_a_key_and_pepay_needs_none_if_all_have_one() {
    let own = "[streams.a]\napi_key = 'a'\n[streams.b]\n";
    assert_eq!(problems(&format!("{own}api_key = 'b'")), [""; 0]);
    assert_problem(own, "streams.b.api_key", "no `pepay.api_key` either");
    assert_problem("[streams.a]\n[streams.b]", "pepay.api_key", "a stream cannot be opened without it");
}

#[test]
fn a_stream_shows_its_own_account_without_secrets() {
    let text = format!(
        "{LEAST}[pepay]\napi_url = 'https://pepay.example'\napi_key = 'hidden'\n[streams.s]\n\
         api_key_header = 'x-own'"
    );
    let loaded = load_text(&text, &[]).unwrap();
    let shown: toml::Table = loaded.effective.parse().unwrap();
    let stream = &shown["streams"]["s"];
    for (key, value) in [
        ("api_url", "https://pepay.example"),
        ("ws_url", "wss://pepay.example"),
        ("api_key", "[redacted]"),
        ("api_key_header", "x-own"),
    ] {
        assert_eq!(stream[key].as_str(), Some(value), "{key}");
    }
    assert!(!format!("{loaded:?}").contains("hidden"));
    assert_eq!(load_text(&loaded.effective, &[]).unwrap().effective, loaded.effective);
}

#[test]
fn without_a_configured_proxy_that_of_the_environment_is_used() {
    let proxy = |keys: &str, environment: &[(&str, &str)]| {
        let settings = load_text(&format!("{LEAST}[pepay]\n{keys}"), environment).unwrap().settings;
        settings.pepay.proxy.clone()
    };
    let named = |https: &str, no: &str| Proxy::Environment { https: https.into(), no: no.to_owned() };
    assert_eq!(proxy("", &[]), Proxy::Never);
    assert_eq!(proxy("", &[("https_proxy", "http://a")]), named("http://a", ""));
    let all = [("HTTPS_PROXY", " http://b "), ("https_proxy", "http://a"), ("no_proxy", "c")];
    assert_eq!(proxy("", &all), named("http://b", "c"));
    assert_eq!(proxy("proxy = 'none'", &all), Proxy::Never);
    assert_eq!(proxy("", &[("HTTPS_PROXY", ""), ("HTTP_PROXY", "http://a")]), Proxy::Never);
}

#[test]
fn a_key_that_leaves_the_machine_unencrypted_is_warned_of_for_each_stream() {
    let warnings = |text: &str| -> Vec<String> {
        let warnings = load_text(&format!("{LEAST}{text}"), &[]).unwrap().warnings;
        let lines = warnings.iter().map(ToString::to_string);
        lines.filter(|line| line.contains("without encryption")).collect()
    };
    for local in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost", "https://p"]
    {
        let text = format!("[pepay]\napi_url = '{local}'\napi_key = 'k'\n[streams.s]");
        assert_eq!(warnings(&text), [""; 0], "{local}");
    }
    for remote in ["http://10.0.0.1:1", "http://[::2]", "http://pepay", "http://localhost.example"] {
        let text = format!("[pepay]\napi_url = '{remote}'\napi_key = 'hidden'\n[streams.s]");
        let found = warnings(&text);
        let [api, ws] = &*found else { panic!("{remote}: {found:#?}") };
        assert!(api.starts_with("streams.s.api_url: sends the API key to `"), "{api}");
        assert!(ws.starts_with("streams.s.ws_url: sends the stream's token to `"), "{ws}");
        assert!(!found.join("").contains("hidden"));
    }
    // Each stream uses its own account.
    let text = "[pepay]\napi_url = 'http://a'\napi_key = 'k'\n\
                [streams.one]\napi_url = 'https://b'\n\
                [streams.two]\nws_url = 'ws://c'\napi_url = 'https://d'\nauth = 'header'";
    let found = warnings(text);
    let keys: Vec<_> = found.iter().map(|warning| warning.split(": ").next().unwrap()).collect();
    assert_eq!(keys, ["pepay.api_url", "streams.two.ws_url"]);
    assert!(found[1].contains("sends the API key to `c`"), "{found:?}");
    // A stream without a key sends nothing.
    assert_eq!(warnings("[pepay]\napi_url = 'http://a'"), [""; 0]);
}

#[test]
fn a_server_of_the_store_is_shown_without_its_passwords() {
    let text = format!(
        "{LEAST}[store]\nurl = 'postgres://u:hidden@pooler/d'\nlisten_url = 'postgres://u:hidden@server/d'"
    );
    let loaded = load_text(&text, &[]).unwrap();
    let shown: toml::Table = loaded.effective.parse().unwrap();
    assert_eq!(shown["store"]["url"].as_str(), Some("postgres://u@pooler/d"));
    assert_eq!(shown["store"]["listen_url"].as_str(), Some("postgres://u@server/d"));
    assert!(!format!("{loaded:?}").contains("hidden"));
    let Place::Server(server) = &loaded.settings.store.place else { panic!("{loaded:?}") };
    let url = server.listen_url.as_ref().unwrap();
    assert_eq!(url.expose_secret(), "postgres://u:hidden@server/d");

    let without = load_text(&text.replace("postgres://u:hidden@server/d", ""), &[]).unwrap();
    let Place::Server(server) = &without.settings.store.place else { panic!("{without:?}") };
    assert!(server.listen_url.is_none());
}
