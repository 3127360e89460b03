//! Who is asked, where anybody on this machine may ask.
//!
//! A page of another site can have its own name resolve to a loopback address
//! and so make a browser send requests here that count as its own (DNS
//! rebinding). What such a request cannot do is carry another name in `Host`.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};

use super::{AdminToken, is_api};

/// While there is no token, lets page, API and `/status` be asked for by a loopback
/// name or address alone, and answers 403 to any other. What watches the bridge by
/// another name has the metrics, which tell of no payment.
pub(super) async fn check(State(token): State<AdminToken>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let concerned = path == "/" || path == "/status" || path.starts_with("/assets/") || is_api(path);
    if !concerned || token.is_set() || is_loopback(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let message =
        "without `server.admin_token` this listener answers only to `localhost` and loopback addresses";
    super::refuse(path, StatusCode::FORBIDDEN, "foreign_host", message)
}

fn is_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let header = || headers.get(HOST)?.to_str().ok()?.parse::<Authority>().ok();
    // As of RFC 9112, section 3.2.2, an absolute target takes precedence.
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
}
