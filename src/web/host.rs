//! Keeps the pages of other sites from using the private listener through an operator's browser.
//!
//! A page of another site can have its own name resolve to a loopback address and so make a browser
//! send requests here that count as its own (DNS rebinding). Such a request has the other name in
//! `Host`. Any other request that a page causes names its origin, in `Sec-Fetch-Site` or `Origin`.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::guard::{Guard, Reason};
use super::{Tokens, is_api};

/// Refuses (403) a browser's request from another site. While no token is configured, page, API and
/// `/status` accept only a loopback name or address in `Host`, and refuse any other (403). `/metrics`,
/// which has no data of payments, accepts any name.
pub(super) async fn check(
    State((tokens, guard)): State<(Tokens, Guard)>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let (reason, code, message) = if is_cross_site(&request) {
        (Reason::CrossSite, "cross_site", "this listener answers no request of another site's page")
    } else {
        let is_page = path == "/" || path.starts_with("/assets/");
        let concerned = is_page || path == "/status" || is_api(path);
        if !concerned || tokens.are_set() || is_loopback(request.uri(), request.headers()) {
            return next.run(request).await;
        }
        let message = "without a token this listener answers only to `localhost` and loopback addresses";
        (Reason::ForeignHost, "foreign_host", message)
    };
    guard.note(reason, &request);
    super::refuse(path, StatusCode::FORBIDDEN, code, message)
}

/// Returns whether a page of another origin has caused the request (Fetch Metadata,
/// <https://www.w3.org/TR/fetch-metadata/>; RFC 6454, section 7). A link to the start page may be
/// followed from any site.
fn is_cross_site(request: &Request) -> bool {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    match header("sec-fetch-site") {
        Some("same-origin" | "none") => false,
        Some(_) => {
            let is_link = header("sec-fetch-mode") == Some("navigate")
                && header("sec-fetch-dest") == Some("document")
                && request.method() == Method::GET
                && request.uri().path() == "/";
            !is_link
        }
        // The client is a browser without this header, or not a browser.
        None => header(ORIGIN.as_str()).is_some_and(|origin| !is_ours(origin, request.headers())),
    }
}

/// Returns whether `origin` is the address that the request was sent to. TLS may end before the bridge,
/// so the scheme is not compared.
fn is_ours(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

fn is_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let header = || headers.get(HOST)?.to_str().ok()?.parse::<Authority>().ok();
    // By RFC 9112, section 3.2.2, an absolute target takes precedence.
    let Some(authority) = uri.authority().cloned().or_else(header) else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str) -> bool {
        let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        is_loopback(&Uri::from_static("/"), &headers)
    }

    #[test]
    fn loopback_names_and_addresses_pass_with_and_without_a_port() {
        for host in
            ["localhost", "LOCALHOST:9090", "127.0.0.1", "127.1.2.3:9090", "[::1]:9090", "[::ffff:127.0.0.1]"]
        {
            assert!(asked(host), "{host}");
        }
    }

    #[test]
    fn any_other_host_does_not_pass() {
        for host in
            ["", "example.com", "localhost.example.com", "10.0.0.1:9090", "[::2]", "127.0.0.1.example.com"]
        {
            assert!(!asked(host), "{host}");
        }
        assert!(!is_loopback(&Uri::from_static("/"), &HeaderMap::new()));
        let headers = HeaderMap::from_iter([(HOST, "localhost".parse().unwrap())]);
        assert!(!is_loopback(&Uri::from_static("http://example.com/"), &headers));
    }

    fn crosses(method: Method, path: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder().method(method).uri(path).header(HOST, "localhost:9090");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_cross_site(&request.body(axum::body::Body::empty()).unwrap())
    }

    #[test]
    fn a_request_that_a_page_of_another_site_causes_is_recognized() {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS] {
            for path in ["/metrics", "/status", "/api/v1/overview", "/assets/app.js"] {
                let crosses = |headers: &[(&str, &str)]| crosses(method.clone(), path, headers);
                assert!(!crosses(&[]));
                for own in ["same-origin", "none"] {
                    assert!(!crosses(&[("sec-fetch-site", own)]));
                }
                // Another port of this machine is of the same site, too.
                for other in ["cross-site", "same-site", "", "something new"] {
                    assert!(crosses(&[("sec-fetch-site", other)]));
                    let link = [
                        ("sec-fetch-site", other),
                        ("sec-fetch-mode", "navigate"),
                        ("sec-fetch-dest", "document"),
                    ];
                    assert!(crosses(&link), "{path} is no start page");
                }
                for own in ["http://localhost:9090", "https://LOCALHOST:9090"] {
                    assert!(!crosses(&[("origin", own)]));
                }
                for other in ["http://evil.example", "http://localhost:3000", "http://localhost", "null", ""]
                {
                    assert!(crosses(&[("origin", other)]), "{other}");
                }
            }
        }
    }

    #[test]
    fn a_link_to_the_start_page_may_be_followed_and_it_may_not_be_framed() {
        let from_elsewhere = |mode, dest| {
            crosses(
                Method::GET,
                "/",
                &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)],
            )
        };
        assert!(!from_elsewhere("navigate", "document"));
        assert!(from_elsewhere("navigate", "iframe"));
        assert!(from_elsewhere("no-cors", "image"));
    }
}
