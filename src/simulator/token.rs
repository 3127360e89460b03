//! `POST /api/v1/ws/token` returns short-lived tokens that replace a key on an upgrade.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router, middleware};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::HOST;
use serde::Deserialize;
use serde_json::json;

use super::fault::Endpoint;
use super::options::Scope;
use super::refusal::{Refusal, Shape};
use super::switches::Presence;
use super::{Served, Simulator, injection, lock};
use crate::domain::clock::UnixMillis;
use crate::domain::event::Environment;
use crate::pepay::signature::SigningKey;

/// The largest number of remembered tokens; beyond it the oldest is dropped.
const MAX_TOKENS: usize = 10_000;
/// The default lifetime of a token.
const DEFAULT_TTL: u64 = 60;

pub(super) fn routes(served: &Served) -> Router<Served> {
    let faults =
        middleware::from_fn_with_state((Endpoint::Token, served.simulator.clone()), injection::apply);
    Router::new().route("/api/v1/ws/token", post(mint)).layer(faults)
}

#[derive(Deserialize)]
struct TokenRequest {
    scope: Scope,
    #[serde(default = "default_ttl")]
    ttl_seconds: u64,
}

const fn default_ttl() -> u64 {
    DEFAULT_TTL
}

async fn mint(State(simulator): State<Simulator>, headers: HeaderMap, body: Bytes) -> Response {
    match try_mint(&simulator, &headers, &body) {
        Ok(answer) => answer.into_response(),
        Err(refusal) => refusal.shaped(Shape::Nested).into_response(),
    }
}

fn try_mint(
    simulator: &Simulator,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Json<serde_json::Value>, Refusal> {
    // A request without a key learns nothing about the rest.
    let key = simulator.key(headers)?;
    let TokenRequest { scope, ttl_seconds } = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad_request("INVALID_REQUEST", format!("the body: {error}")))?;
    key.opens(scope)?;
    let max = simulator.options().max_token_ttl.as_secs();
    if !(1..=max).contains(&ttl_seconds) {
        let message = format!("`ttl_seconds` has to lie between 1 and {max}");
        return Err(Refusal::bad_request("INVALID_TTL", message));
    }
    let expires_at = simulator.0.clock.now().plus(Duration::from_secs(ttl_seconds));
    let pass = Pass { scope, environment: key.environment, expires_at, used: false };
    let signer = SigningKey::new(&key.secret);
    let token = lock(&simulator.0.tokens).issue(pass, &signer);
    simulator.count(|statistics| statistics.tokens_minted += 1);
    let mut data = json!({
        "token": token,
        "scope": scope,
        "merchant_id": simulator.options().merchant_id,
        "network_environment": key.environment,
        "expires_at": expires_at,
    });
    if simulator.switches().ws_url == Presence::Present
        && let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok())
    {
        data["ws_url"] = json!(format!("ws://{host}/ws/{}/events", scope.as_str()));
    }
    Ok(Json(json!({"success": true, "data": data})))
}

/// The rights of a token, and its end.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) scope: Scope,
    pub(super) environment: Option<Environment>,
    pub(super) expires_at: UnixMillis,
    used: bool,
}

/// Every token that is still valid.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    passes: HashMap<String, (u64, Pass)>,
    /// In the order of issue, to drop the oldest.
    by_age: BTreeMap<u64, String>,
    issued: u64,
}

impl Tokens {
    fn issue(&mut self, pass: Pass, signer: &SigningKey) -> String {
        self.issued += 1;
        // It looks like a JSON Web Token, and cannot be guessed without the key.
        let claims = json!({"n": self.issued, "scope": pass.scope, "exp": pass.expires_at.seconds()});
        let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
        let token = format!("{claims}.{}", signer.sign("ws_token", claims.as_bytes()));
        self.by_age.insert(self.issued, token.clone());
        self.passes.insert(token.clone(), (self.issued, pass));
        if self.by_age.len() > MAX_TOKENS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.passes.remove(&oldest);
        }
        token
    }

    /// Returns the rights of `token` at `now`, and whether it had been used before.
    pub(super) fn present(&mut self, token: &str, now: UnixMillis) -> Option<(Pass, bool)> {
        let (number, pass) = self.passes.get_mut(token)?;
        if now >= pass.expires_at {
            let number = *number;
            self.passes.remove(token);
            self.by_age.remove(&number);
            return None;
        }
        let used_before = std::mem::replace(&mut pass.used, true);
        Some((pass.clone(), used_before))
    }
}
