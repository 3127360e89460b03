//! The error of a request to a running bridge, as text.

use http::StatusCode;
use serde::Deserialize;
use url::Url;

use crate::cli::Error;
use crate::cli::text::clean;

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::cli) struct Refused(pub(super) String);

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::failure(refused)
    }
}

/// The members of problem details (RFC 9457) that are printed.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    name: String,
    reason: String,
    #[serde(default)]
    allowed: Vec<String>,
}

impl Refused {
    /// Reads the error in `body`, which the server at `base` returned with `status`.
    pub(super) fn read(base: &Url, with_token: bool, status: StatusCode, body: &[u8]) -> Self {
        let problem = serde_json::from_slice::<Problem>(body);
        Self(match (status, problem) {
            (StatusCode::UNAUTHORIZED, _) if with_token => {
                format!(
                    "the bridge at {base} has another `server.admin_token` than this configuration; \
                     one that was changed is in effect after a SIGHUP"
                )
            }
            (StatusCode::UNAUTHORIZED, _) => format!(
                "the bridge at {base} asks for its `server.admin_token`: give this command the bridge's \
                 configuration (--config), or PEPAY_BRIDGE__SERVER__ADMIN_TOKEN or …_ADMIN_TOKEN_FILE"
            ),
            (_, Ok(problem)) => problem.render(),
            (_, Err(_)) => {
                format!("{base} answered {status} without a reason; is it the admin listener of a bridge?")
            }
        })
    }
}

impl Problem {
    /// Returns the detail, and a line for each fault that the detail does not name.
    fn render(&self) -> String {
        let missing = self.errors.iter().filter(|fault| !self.detail.contains(&fault.reason));
        let lines = missing.map(|Fault { name, reason, allowed }| {
            let allowed = match &**allowed {
                [] => String::new(),
                allowed => format!("; allowed: {}", allowed.join(", ")),
            };
            format!("\n  {}", clean(&format!("{name}: {reason}{allowed}")))
        });
        clean(&self.detail) + &lines.collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, with_token: bool, body: &str) -> String {
        let base = Url::parse("http://127.0.0.1:9090").unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        Refused::read(&base, with_token, status, body.as_bytes()).to_string()
    }

    #[test]
    fn a_problem_is_rendered_with_each_fault_once() {
        let problem = r#"{"detail":"`stat` is not known here, and more is wrong","errors":[
            {"name":"stat","reason":"is not known here","allowed":["type"]},
            {"name":"limit","reason":"= `0`: allowed is 1 to 500"},
            {"name":"source","reason":"= `x`: is none","allowed":["stream","webhook"]}]}"#;
        let expected = "`stat` is not known here, and more is wrong\n  limit: = `0`: allowed is 1 to 500\n  \
                    source: = `x`: is none; allowed: stream, webhook";
        assert_eq!(refused(400, true, problem), expected);
    }

    #[test]
    fn a_missing_token_another_token_and_another_server_are_distinguished() {
        assert!(refused(401, false, "{}").contains("PEPAY_BRIDGE__SERVER__ADMIN_TOKEN"));
        assert!(refused(401, true, "{}").contains("another `server.admin_token`"));
        assert!(refused(404, true, "<html>").contains("is it the admin listener of a bridge?"));
    }

    #[test]
    fn an_answer_cannot_control_the_terminal() {
        assert_eq!(refused(404, true, r#"{"detail":"no \u001b[2J"}"#), "no \\u{1b}[2J");
    }
}
