//! The bearer token of the private listener (RFC 6750, section 2.1).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The token, kept as a MAC key: it is compared by what it signs, which takes
/// the same time wherever a guess goes wrong and however long it is.
pub(super) struct Token(Hmac<Sha256>);

impl Token {
    pub(super) fn new(token: &SecretString) -> Self {
        Self(keyed(token.expose_secret().as_bytes()))
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let presented = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, guess)) = presented.and_then(|value| value.split_once(' ')) else { return false };
        let signed_by_guess = keyed(guess.trim().as_bytes()).finalize().into_bytes();
        scheme.eq_ignore_ascii_case("bearer") && self.0.clone().verify(&signed_by_guess).is_ok()
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length (RFC 2104)")]
    let mac = Hmac::new_from_slice(key).expect("HMAC accepts a key of any length");
    mac
}

/// Lets a request with the token through, and answers 401 to any other.
pub(super) async fn check(State(token): State<Arc<Token>>, request: Request, next: Next) -> Response {
    if token.admits(request.headers()) {
        return next.run(request).await;
    }
    let path = request.uri().path();
    let message = "this listener asks for its token: `authorization: Bearer …`";
    let mut response = super::refuse(path, StatusCode::UNAUTHORIZED, "unauthorized", message);
    let challenge = HeaderValue::from_static("Bearer realm=\"pepay-bridge\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}
