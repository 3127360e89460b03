//! The bearer tokens of the private listener (RFC 6750, section 2.1), and their scopes.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::sync::watch;

use super::audit::{Caller, Trail};
use super::guard::{self, Guard, Reason};

/// The requests that a token permits. Each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// `/metrics` and `/status`.
    Metrics,
    /// Every request that only reads.
    Read,
    /// Every request.
    Operate,
}

/// A configured token.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its name in the configuration, such as `server.tokens.prometheus`.
    pub name: Arc<str>,
    /// The requests that it permits.
    pub scope: Scope,
    /// The secret, which a request has to send.
    pub secret: SecretString,
}

/// The tokens of the private listener. Without tokens, every request passes. The tokens can be replaced
/// while the listener serves. Clones share the same tokens.
#[derive(Clone, Debug)]
pub struct Tokens(watch::Sender<Vec<Arc<Held>>>);

struct Held {
    name: Arc<str>,
    scope: Scope,
    key: Key,
}

/// A secret, kept as a MAC key. A guess is compared by its signature. The time of this comparison does
/// not depend on the position of the first wrong character.
struct Key(Hmac<Sha256>);

impl Tokens {
    /// Creates the handle, with `tokens` in effect.
    pub fn new(tokens: &[Token]) -> Self {
        Self(watch::Sender::new(tokens.iter().map(|token| Arc::new(Held::new(token))).collect()))
    }

    /// Replaces the tokens by `tokens`, from the next request on. Returns the changes, such as
    /// `server.tokens.prometheus changed`.
    pub fn replace(&self, tokens: &[Token]) -> Vec<String> {
        let changes = self.changes(tokens);
        if !changes.is_empty() {
            self.0.send_modify(|held| {
                // An unchanged token keeps its `Arc`, so the admissions by it stay valid.
                let kept = |token: &Token| held.iter().find(|held| held.is(token)).cloned();
                let kept: Vec<_> = tokens.iter().map(kept).collect();
                let all = kept.into_iter().zip(tokens);
                *held = all.map(|(kept, token)| kept.unwrap_or_else(|| Arc::new(Held::new(token)))).collect();
            });
        }
        changes
    }

    /// Returns the changes that [`replace`](Self::replace) with `tokens` would make.
    pub fn changes(&self, tokens: &[Token]) -> Vec<String> {
        let held = self.0.borrow();
        let removed = held.iter().filter(|held| tokens.iter().all(|token| token.name != held.name));
        let removed = removed.map(|held| format!("{} removed", held.name));
        let differing = tokens.iter().filter(|token| !held.iter().any(|held| held.is(token)));
        let differing = differing.map(|token| {
            let known = held.iter().any(|held| held.name == token.name);
            format!("{} {}", token.name, if known { "changed" } else { "added" })
        });
        removed.chain(differing).collect()
    }

    /// Returns whether requests need a token.
    pub(super) fn are_set(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// Admits a request with `headers`, or returns the reason for the refusal.
    fn admit(&self, headers: &HeaderMap) -> Result<Admission, Reason> {
        let seen = self.0.subscribe();
        let held = {
            let tokens = seen.borrow();
            if tokens.is_empty() {
                None
            } else {
                let shown = headers.get(AUTHORIZATION).ok_or(Reason::Missing)?;
                let guess = bearer(shown).ok_or(Reason::Wrong)?;
                let held = tokens.iter().find(|held| held.key.is_made_of(guess));
                Some(Arc::clone(held.ok_or(Reason::Wrong)?))
            }
        };
        Ok(Admission { seen, held })
    }
}

/// The admission of a request: by its token, or because no token is configured. Every request that passes
/// the [check] has it as an extension.
#[derive(Clone)]
pub(super) struct Admission {
    seen: watch::Receiver<Vec<Arc<Held>>>,
    held: Option<Arc<Held>>,
}

impl Admission {
    fn scope(&self) -> Scope {
        self.held.as_ref().map_or(Scope::Operate, |held| held.scope)
    }

    /// Returns the name of the token in the audit trail.
    fn caller(&self) -> Caller {
        let short = |name: &str| {
            let name = name.strip_prefix("server.").unwrap_or(name);
            // A token `admin_token` of `[server.tokens]` is not `server.admin_token`.
            let own = name.strip_prefix("tokens.").filter(|own| *own != "admin_token");
            own.unwrap_or(name).into()
        };
        Caller(self.held.as_ref().map(|held| short(&held.name)))
    }

    /// Resolves once the token that admitted the request has been replaced or removed.
    pub(super) async fn expired(&mut self) {
        let holds = |tokens: &Vec<Arc<Held>>| match &self.held {
            None => tokens.is_empty(),
            Some(held) => tokens.iter().any(|one| Arc::ptr_eq(one, held)),
        };
        // An error means that the listener has ended, so the token has too.
        let _ = self.seen.wait_for(|tokens| !holds(tokens)).await;
    }
}

impl Held {
    fn new(token: &Token) -> Self {
        let key = Key(keyed(token.secret.expose_secret().as_bytes()));
        Self { name: Arc::clone(&token.name), scope: token.scope, key }
    }

    fn is(&self, token: &Token) -> bool {
        let same = self.name == token.name && self.scope == token.scope;
        same && self.key.is_made_of(token.secret.expose_secret())
    }
}

impl Key {
    fn is_made_of(&self, guess: &str) -> bool {
        let signed_by_guess = keyed(guess.as_bytes()).finalize().into_bytes();
        self.0.clone().verify(&signed_by_guess).is_ok()
    }
}

/// Omits the key.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name, self.scope)
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length (RFC 2104)")]
    let mac = Hmac::new_from_slice(key).expect("HMAC accepts a key of any length");
    mac
}

/// Returns the token of an `Authorization` header with the scheme `Bearer`.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Returns the least scope that a request needs.
fn needed(method: &Method, path: &str) -> Scope {
    // This call asks Pepay for an event and changes nothing.
    let verifies = || path.starts_with("/api/v1/events/") && path.ends_with("/verify");
    if matches!(path, "/metrics" | "/status") {
        Scope::Metrics
    } else if method.is_safe() || verifies() {
        Scope::Read
    } else {
        Scope::Operate
    }
}

/// Passes a request on if the scope of its token includes it. Returns 401 without a valid token, 403 if
/// the scope does not include the request, and 429 to an address that has sent too many wrong tokens.
pub(super) async fn check(
    State((tokens, guard, trail)): State<(Tokens, Guard, Trail)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if tokens.are_set() && guard.is_slowed(&request) {
        let message = "too many wrong tokens from this address";
        let mut response = super::refuse(path, StatusCode::TOO_MANY_REQUESTS, "too_many_requests", message);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        guard.note(Reason::Slowed, &request);
        return response;
    }
    let (reason, status, code, message) = match tokens.admit(request.headers()) {
        Ok(admission) if admission.scope() >= needed(request.method(), path) => {
            let caller = admission.caller();
            request.extensions_mut().insert(admission);
            request.extensions_mut().insert(caller);
            return next.run(request).await;
        }
        Ok(admission) => {
            trail.refused(&request, admission.caller(), "insufficient_scope").await;
            let message = "the scope of this token does not include that";
            (Reason::Scope, StatusCode::FORBIDDEN, "insufficient_scope", message)
        }
        Err(reason) => {
            let message = "this listener asks for its token: `authorization: Bearer …`";
            (reason, StatusCode::UNAUTHORIZED, "unauthorized", message)
        }
    };
    let mut response = super::refuse(path, status, code, message);
    let challenge = match reason {
        Reason::Scope => "Bearer realm=\"pepay-bridge\", error=\"insufficient_scope\"",
        _ => "Bearer realm=\"pepay-bridge\"",
    };
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    guard.note(reason, &request);
    if reason == Reason::Wrong {
        let peer = guard::peer(&request);
        drop(request);
        guard.slow_down(peer).await;
    }
    response
}
