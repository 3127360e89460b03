//! `[pepay]`, and the same keys of a stream.

use url::Url;

use super::form::{self, Form};
use super::layers::Table;
use super::problem::Faulty;
use super::section::Section;
use crate::pepay::account::{Account, Proxy, Roots};

const API_URL: &str = "https://api-beta.pepay.io";

/// The keys that a stream inherits from `[pepay]`, each with the keys of the stream that prevent that.
const INHERITED: [(&str, &[&str]); 7] = [
    ("api_url", &["api_url"]),
    // The default of a stream's `ws_url` follows from its own `api_url`.
    ("ws_url", &["ws_url", "api_url"]),
    ("api_key", &["api_key", "api_key_file"]),
    ("api_key_file", &["api_key", "api_key_file"]),
    ("api_key_header", &["api_key_header"]),
    ("ca_file", &["ca_file"]),
    ("proxy", &["proxy"]),
];

/// Reads the account of `[pepay]`.
pub(super) fn read(mut section: Section<'_>) -> Result<Account, Faulty> {
    let account = account(&mut section);
    section.finish();
    account
}

/// Reads the account of a stream. Keys that are missing in its section are those of `pepay`.
pub(super) fn of_stream(section: &mut Section<'_>, pepay: &Table) -> Result<Account, Faulty> {
    section.inherit(pepay, &INHERITED);
    account(section)
}

/// Records a problem for the streams that have no key. `all` is the number of streams.
pub(super) fn keys_are_there(root: &mut Section<'_>, without: &[String], all: usize) {
    const ALLOWED: &str = "allowed is `api_key` or `api_key_file`";
    if without.len() == all && all > 0 {
        let fault = format!("is missing, and a stream cannot be opened without it; {ALLOWED}");
        root.problem("pepay.api_key", &fault);
        return;
    }
    for stream in without {
        let fault = format!("is missing, and there is no `pepay.api_key` either; {ALLOWED}");
        root.problem(&format!("streams.{stream}.api_key"), &fault);
    }
}

fn account(section: &mut Section<'_>) -> Result<Account, Faulty> {
    let api_url = section.value("api_url", API_URL, &base(["https", "http"]));
    let ws_default = match &api_url {
        Ok(api_url) => streams_beside(api_url.as_str()),
        Err(Faulty) => streams_beside(API_URL),
    };
    let ws_url = section.value("ws_url", &ws_default, &base(["wss", "ws"]));
    let api_key = section.header_safe_secret("api_key");
    let api_key_header = section.value("api_key_header", "x-commerce-api-key", &form::header_name());
    let ca = roots(section);
    let proxy = section.optional("proxy", &proxy());
    let proxy = proxy.map(|proxy| proxy.unwrap_or_else(|| section.environments_proxy()));
    Ok(Account {
        ca: ca?,
        proxy: proxy?,
        api_url: api_url?,
        ws_url: ws_url?,
        api_key: api_key?,
        api_key_header: api_key_header?,
    })
}

/// Reads the root certificates of `ca_file`.
fn roots(section: &mut Section<'_>) -> Result<Option<Roots>, Faulty> {
    let Some(path) = section.optional_file("ca_file")? else { return Ok(None) };
    Roots::read(&path).map(Some).map_err(|error| {
        section.problem(
            "ca_file",
            &format!("names a file that cannot be used: {error}; allowed is a file of PEM certificates"),
        )
    })
}

/// The form of `none` or the address of a proxy.
fn proxy() -> Form<Proxy> {
    let url = form::url(["http", "http"], "a proxy that asks for credentials is named by `HTTPS_PROXY`");
    Form::text(move |text| match text {
        "none" => Ok(Proxy::Never),
        text => Ok(Proxy::Always(url.read(text)?.as_str().into())),
    })
}

/// The form of a base URL, to which paths are appended.
fn base(schemes: [&'static str; 2]) -> Form<Url> {
    let url = form::url(schemes, "the key belongs into `api_key`");
    Form::text(move |text| match url.read(text)? {
        url if url.query().is_some() => {
            Err("has a query (`?…`); allowed is a base such as `https://host`".into())
        }
        url => Ok(without_known_path(url)),
    })
}

/// Removes from the end of `url` a path of Pepay's API that requests append themselves.
fn without_known_path(mut url: Url) -> Url {
    const KNOWN: [&str; 8] = [
        "/api/v1/ws/token",
        "/api/v1/events",
        "/api/v1",
        "/api",
        "/ws/commerce/events",
        "/ws/merchant/events",
        "/ws/commerce",
        "/ws",
    ];
    let path = url.path().trim_end_matches('/');
    let base = KNOWN.iter().find_map(|known| path.strip_suffix(known)).map(str::to_owned);
    if let Some(base) = base {
        url.set_path(&base);
    }
    url
}

/// Returns the default base URL of the streams: the host and port of the API, with `ws` for `http` and
/// `wss` for `https`.
fn streams_beside(api_url: &str) -> String {
    api_url.replacen("http", "ws", 1).trim_end_matches('/').to_owned()
}
