//! `[pepay]`.

use url::Url;

use super::form::{self, Form};
use super::problem::Faulty;
use super::section::Section;
use crate::pepay::account::Account;

const API_URL: &str = "https://api-beta.pepay.io";

/// Where Pepay is, and the key, which is `needed` as soon as there is a stream.
pub(super) fn read(mut section: Section<'_>, needed: bool) -> Result<Account, Faulty> {
    let api_url = section.value("api_url", API_URL, &base(["https", "http"]));
    let ws_default = match &api_url {
        Ok(api_url) => streams_beside(api_url.as_str()),
        Err(Faulty) => streams_beside(API_URL),
    };
    let ws_url = section.value("ws_url", &ws_default, &base(["wss", "ws"]));
    let api_key = section.header_safe_secret("api_key");
    let api_key_header = section.value("api_key_header", "x-commerce-api-key", &form::header_name());
    if needed && matches!(api_key, Ok(None)) {
        section.problem(
            "api_key",
            "is missing, and a stream cannot be opened without it; allowed is `api_key` or `api_key_file`",
        );
    }
    section.finish();
    Ok(Account { api_url: api_url?, ws_url: ws_url?, api_key: api_key?, api_key_header: api_key_header? })
}

/// An address that paths are put behind.
fn base(schemes: [&'static str; 2]) -> Form<Url> {
    let url = form::url(schemes, "the key belongs into `pepay.api_key`");
    Form::text(move |text| match url.read(text)? {
        url if url.query().is_some() => {
            Err("has a query (`?…`); allowed is a base such as `https://host`".into())
        }
        url => Ok(url),
    })
}

/// The base of the streams where only that of the API is given: the same
/// host and port, `ws` for `http`, `wss` for `https`.
fn streams_beside(api_url: &str) -> String {
    api_url.replacen("http", "ws", 1).trim_end_matches('/').to_owned()
}
