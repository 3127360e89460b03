//! The bearer token of the private listener (RFC 6750, section 2.1).

use std::fmt;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::sync::watch;

/// The token of the private listener, if it asks for one. It can be replaced
/// while the listener serves; clones are handles on the same token.
#[derive(Clone, Debug)]
pub struct AdminToken(watch::Sender<Option<Key>>);

/// The token, kept as a MAC key: it is compared by what it signs, which takes
/// the same time wherever a guess goes wrong and however long it is.
struct Key(Hmac<Sha256>);

impl AdminToken {
    /// This token; without one, every request is let through.
    pub fn new(token: Option<&SecretString>) -> Self {
        Self(watch::Sender::new(token.map(Key::new)))
    }

    /// Has every request from now on show `token` instead.
    pub fn replace(&self, token: Option<&SecretString>) {
        self.0.send_replace(token.map(Key::new));
    }

    /// Whether `token` is the one there is.
    pub fn is(&self, token: Option<&SecretString>) -> bool {
        match (&*self.0.borrow(), token) {
            (None, None) => true,
            (Some(key), Some(token)) => key.is_made_of(token.expose_secret()),
            _ => false,
        }
    }

    /// Whether there is a token to be shown.
    pub(super) fn is_set(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// What a request with `headers` is let in by, if it is.
    fn admit(&self, headers: &HeaderMap) -> Option<Admission> {
        let seen = self.0.subscribe();
        let admitted = seen.borrow().as_ref().is_none_or(|key| key.is_shown(headers));
        admitted.then_some(Admission(seen))
    }
}

/// What a request was let in by: the token as it was then. Every request that the
/// [check] lets through carries it.
#[derive(Clone)]
pub(super) struct Admission(watch::Receiver<Option<Key>>);

impl Admission {
    /// Resolves once the token has been replaced since.
    pub(super) async fn expired(&mut self) {
        // An error says that the listener is gone, and with it the token.
        let _ = self.0.changed().await;
    }
}

impl Key {
    fn new(token: &SecretString) -> Self {
        Self(keyed(token.expose_secret().as_bytes()))
    }

    fn is_shown(&self, headers: &HeaderMap) -> bool {
        let presented = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, guess)) = presented.and_then(|value| value.split_once(' ')) else { return false };
        scheme.eq_ignore_ascii_case("bearer") && self.is_made_of(guess.trim())
    }

    fn is_made_of(&self, guess: &str) -> bool {
        let signed_by_guess = keyed(guess.as_bytes()).finalize().into_bytes();
        self.0.clone().verify(&signed_by_guess).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key([redacted])")
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length (RFC 2104)")]
    let mac = Hmac::new_from_slice(key).expect("HMAC accepts a key of any length");
    mac
}

/// Lets a request with the token through, and answers 401 to any other.
pub(super) async fn check(State(token): State<AdminToken>, mut request: Request, next: Next) -> Response {
    if let Some(admission) = token.admit(request.headers()) {
        request.extensions_mut().insert(admission);
        return next.run(request).await;
    }
    let path = request.uri().path();
    let message = "this listener asks for its token: `authorization: Bearer …`";
    let mut response = super::refuse(path, StatusCode::UNAUTHORIZED, "unauthorized", message);
    let challenge = HeaderValue::from_static("Bearer realm=\"pepay-bridge\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}
