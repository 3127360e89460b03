//! `POST /api/v1/ws/token`: a short-lived token for one connection
//! (Pepay: `api-spec/realtime/ws-token`).

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::domain::event::Environment;

/// Which stream a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The commerce stream.
    Commerce,
    /// The merchant stream.
    Merchant,
}

/// What is asked for.
#[derive(Serialize)]
pub(super) struct Request {
    pub scope: Scope,
    pub ttl_seconds: u64,
}

/// A minted token. Good for one connection; never printed.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself.
    pub secret: SecretString,
    /// The environment it belongs to, where Pepay says so.
    pub environment: Option<Environment>,
}

/// The answer, with or without the `success`/`data` wrapper. Its `ws_url` is not
/// followed: where the bridge connects is configuration.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Wrapped { data: Minted },
    Bare(Minted),
}

#[derive(Deserialize)]
struct Minted {
    token: String,
    #[serde(default)]
    network_environment: Option<String>,
}

/// Reads the answer; `None` if it holds no token that could stand in a URL.
pub(super) fn parse(body: &[u8]) -> Option<Token> {
    let (Answer::Wrapped { data } | Answer::Bare(data)) = serde_json::from_slice(body).ok()?;
    let usable = !data.token.is_empty() && data.token.len() <= 8 * 1024;
    let environment = data.network_environment.and_then(|name| name.parse().ok());
    usable.then(|| Token { secret: data.token.into(), environment })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_token_is_read_with_and_without_its_wrapper() {
        for (body, environment) in [
            (
                r#"{"success":true,"data":{"token":"t0k","scope":"commerce","network_environment":null}}"#,
                None,
            ),
            (
                r#"{"token":"t0k","network_environment":"devnet","ws_url":"wss://elsewhere"}"#,
                Some(Environment::Devnet),
            ),
        ] {
            let token = parse(body.as_bytes()).unwrap();
            assert_eq!(token.secret.expose_secret(), "t0k");
            assert_eq!(token.environment, environment);
            assert!(!format!("{token:?}").contains("t0k"));
        }
    }

    #[test]
    fn an_answer_without_a_token_is_none() {
        for body in ["", "{}", r#"{"data":{"token":""}}"#, r#"{"data":{"token":7}}"#] {
            assert!(parse(body.as_bytes()).is_none(), "{body}");
        }
    }
}
