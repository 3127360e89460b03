//! `POST /api/v1/ws/token`: a short-lived token for one connection
//! (Pepay: `api-spec/realtime/ws-token`).

use std::borrow::Cow;

use secrecy::SecretString;
use serde::Serialize;

use super::json;
use crate::domain::event::Environment;

/// The stream that a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The commerce stream.
    Commerce,
    /// The merchant stream.
    Merchant,
}

/// The body of the request.
#[derive(Serialize)]
pub(super) struct Request {
    pub scope: Scope,
    pub ttl_seconds: u64,
}

/// A minted token. It is valid for one connection, and never printed.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token itself.
    pub secret: SecretString,
    /// The account that it belongs to.
    pub identity: Identity,
}

/// The account of a token, as far as Pepay names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The environment it belongs to.
    pub environment: Option<Environment>,
    /// The `merchant_id`.
    pub account: Option<String>,
}

/// The longest id of an account that is accepted, in bytes.
const LONGEST_ACCOUNT: usize = 255;

/// The longest token that is put into a URL, in bytes.
const LONGEST_TOKEN: usize = 8 * 1024;

/// Why an answer has no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoToken {
    /// The answer is a denial (`"success":false`).
    Denied,
    /// The answer is not JSON, or has another shape, or the token cannot be part of a URL.
    Unreadable,
}

/// Reads the answer, with or without the `success`/`data` wrapper. Its `ws_url` is ignored: the
/// configuration has the address of the stream.
pub(super) fn parse(body: &[u8]) -> Result<Token, NoToken> {
    if json::member(body, "success") == Some(b"false") {
        return Err(NoToken::Denied);
    }
    let minted = json::member(body, "data").unwrap_or(body);
    let text = |name| json::member(minted, name).and_then(json::text);
    let token = text("token").filter(|token| !token.is_empty() && token.len() <= LONGEST_TOKEN);
    let environment = text("network_environment").and_then(|name| name.parse().ok());
    let account = json::member(minted, "merchant_id").and_then(json::text_or_number);
    let fits = |account: &Cow<'_, str>| {
        (1..=LONGEST_ACCOUNT).contains(&account.len()) && !account.contains(char::is_control)
    };
    let account = account.filter(fits).map(Cow::into_owned);
    let secret = token.ok_or(NoToken::Unreadable)?.into_owned().into();
    Ok(Token { secret, identity: Identity { environment, account } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_token_is_read_with_and_without_its_wrapper() {
        for (body, environment, account) in [
            (
                r#"{"success":true,"data":{"token":"t0k","merchant_id":123,"network_environment":null}}"#,
                None,
                Some("123"),
            ),
            (
                r#"{"token":"t0k","merchant_id":"m_1","network_environment":"devnet","ws_url":"wss://elsewhere"}"#,
                Some(Environment::Devnet),
                Some("m_1"),
            ),
            (r#"{"token":"t0k","merchant_id":null}"#, None, None),
            (r#"{"token":"t0k","merchant_id":{"id":1}}"#, None, None),
            (r#"{"token":"t0k","merchant_id":"\u001b[2J"}"#, None, None),
        ] {
            let token = parse(body.as_bytes()).unwrap();
            assert_eq!(token.secret.expose_secret(), "t0k");
            assert_eq!(token.identity.environment, environment);
            assert_eq!(token.identity.account.as_deref(), account);
            assert!(!format!("{token:?}").contains("t0k"));
        }
    }

    #[test]
    fn an_answer_without_a_token_is_none() {
        let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(LONGEST_TOKEN + 1));
        for body in ["", "{}", r#"{"data":{"token":""}}"#, r#"{"data":{"token":7}}"#, &long] {
            assert_eq!(parse(body.as_bytes()).unwrap_err(), NoToken::Unreadable, "{body:.60}");
        }
        let denied = br#"{"success":false,"data":null,"message":"no"}"#;
        assert_eq!(parse(denied).unwrap_err(), NoToken::Denied);
    }
}
