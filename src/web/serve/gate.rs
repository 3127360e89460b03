//! The checks and response headers that apply to every request of a listener, whatever its path.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures_util::FutureExt as _;
use http::header::{
    CONTENT_SECURITY_POLICY, HOST, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use tower::ServiceExt as _;

use crate::web::refused::{HttpRefusals, Refused};

/// The security headers. Each is added to every response that does not have it.
const SECURITY: [(HeaderName, &str); 5] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Passes a request from `peer` to `router` and returns the response. A request with a wrong `Host` is
/// refused (400). That refusal, and a response of 404 or 405, is noted in `refusals`.
pub(super) async fn pass(
    mut request: Request<Body>,
    peer: SocketAddr,
    router: Router,
    refusals: Option<&HttpRefusals>,
) -> Response {
    let refused = refusals.map(|refusals| (refusals, Refused::of(&request, peer)));
    let fault = fault_of_host(request.version(), request.headers());
    let mut response = if let Some(fault) = fault {
        crate::web::refuse(request.uri().path(), StatusCode::BAD_REQUEST, "bad_host", fault)
    } else {
        request.extensions_mut().insert(ConnectInfo(peer));
        // A layer of the router would do the same, for several allocations a request.
        match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(panic) => panicked(&*panic),
        }
    };
    let status = response.status();
    let is_refused =
        fault.is_some() || matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
    if let (Some((refusals, refused)), true) = (refused, is_refused) {
        refusals.note(status, refused);
    }
    let headers = response.headers_mut();
    for (name, value) in &SECURITY {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Logs the panic of a handler and returns 500. The process continues.
fn panicked(panic: &(dyn Any + Send)) -> Response {
    log_panic(panic);
    crate::web::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal_error",
        "the bridge has failed on this request",
    )
}

/// Logs the reason of a handler's panic.
pub(in crate::web) fn log_panic(panic: &(dyn Any + Send)) {
    let reason = panic.downcast_ref::<String>().map(String::as_str);
    let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(reason, "request handler panicked");
}

/// Returns the fault of the request's `Host` (RFC 9112, section 3.2), if there is one.
fn fault_of_host(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut values = headers.get_all(HOST).iter();
    let Some(host) = values.next() else {
        // HTTP/1.0 does not require the header.
        return (version != Version::HTTP_10).then_some("there is no Host header");
    };
    if values.next().is_some() {
        return Some("there is more than one Host header");
    }
    let is_valid = host.is_empty() || Authority::try_from(host.as_bytes()).is_ok();
    (!is_valid).then_some("the Host header is no host")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(version: Version, hosts: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        fault_of_host(version, &headers).is_some()
    }

    #[test]
    fn one_host_is_required_and_no_more() {
        for host in ["localhost", "bridge.example:8080", "[::1]:9090", "10.0.0.1", ""] {
            assert!(!fault(Version::HTTP_11, &[host]), "{host}");
        }
        assert!(fault(Version::HTTP_11, &[]));
        assert!(!fault(Version::HTTP_10, &[]));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(fault(version, &["a", "a"]) && fault(version, &["a", "b"]));
            assert!(fault(version, &["a b"]) && fault(version, &["a/b"]));
        }
    }
}
