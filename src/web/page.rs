//! The operator's page: files that are part of the program. They contain no data, so they need no
//! token; the page gets its data from the API.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};

/// The content security policy of the page: it may load its own files, and ask this listener.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Lists the files below `/assets/`.
macro_rules! assets {
    ($($name:literal),* $(,)?) => { &[$(($name, include_bytes!(concat!("page/", $name)))),*] };
}

/// The start page.
const INDEX: &[u8] = include_bytes!("page/index.html");

/// Every other file, by name.
const ASSETS: &[(&str, &[u8])] = assets![
    "acts.js",
    "api.js",
    "app.css",
    "app.js",
    "audit.js",
    "bulk.js",
    "chart.js",
    "configuration.js",
    "deliveries.js",
    "dialog.js",
    "dom.js",
    "event.js",
    "events.js",
    "filters.js",
    "format.js",
    "icon.svg",
    "listing.js",
    "live.js",
    "notice.js",
    "overview.js",
    "payload.js",
    "request.js",
    "route.js",
    "session.js",
    "states.js",
    "streams.js",
    "table.js",
    "targets.js",
    "time.js",
    "timeline.js",
];

/// Returns the routes of the page.
pub(super) fn routes() -> Router {
    let page = Router::new().route("/", file(INDEX, "text/html; charset=utf-8"));
    let page = ASSETS.iter().fold(page, |page, (name, content)| {
        page.route(&format!("/assets/{name}"), file(content, media_type(name)))
    });
    page.method_not_allowed_fallback(super::method_not_allowed)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn file(content: &'static [u8], media_type: &'static str) -> axum::routing::MethodRouter {
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(content)[..16]));
    get(async move |headers: HeaderMap| answer(content, media_type, &tag, &headers))
}

/// Returns the content, or 304 if the client has it already.
fn answer(content: &'static [u8], media_type: &'static str, tag: &str, asked: &HeaderMap) -> Response {
    let tags = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let held = tags.flat_map(|tags| tags.split(',')).any(|held| held.trim().trim_start_matches("W/") == tag);
    let mut response = if held { StatusCode::NOT_MODIFIED.into_response() } else { content.into_response() };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, media_type),
        // The browser asks every time, and loads a file only if it has changed, so a new version shows
        // at once.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/page");
        let names = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let served: BTreeSet<_> = ASSETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let expected: BTreeSet<_> = names.filter(|name| name != "index.html").collect();
        assert_eq!(served, expected);
        assert!(ASSETS.iter().all(|(name, _)| media_type(name) != "application/octet-stream"));
    }

    #[test]
    fn the_page_brings_nothing_inline_that_its_policy_forbids() {
        let index = std::str::from_utf8(INDEX).unwrap();
        for forbidden in ["style=", "<style", "onclick=", "onload=", "javascript:", "http://", "https://"] {
            assert!(!index.contains(forbidden), "{forbidden}");
        }
    }
}
