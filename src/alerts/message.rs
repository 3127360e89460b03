//! Writes an alert as the bytes of a message.

use serde_json::{Value, json};

use super::Format;
use crate::domain::alert::Alert;
use crate::domain::clock::UnixMillis;

/// The largest number of characters of a summary.
const LONGEST: usize = 1000;

/// Returns the message of `alert` in `format`.
pub(super) fn of(alert: &Alert, format: Format) -> Vec<u8> {
    let summary: String = alert.summary.chars().take(LONGEST).collect();
    let message = match format {
        Format::Json => {
            let status = if alert.resolved { "resolved" } else { "firing" };
            let data = json!({
                "kind": alert.kind,
                "name": alert.name,
                "status": status,
                "summary": summary,
                "since": alert.since,
            });
            enveloped(&format!("pepay_bridge.alert.{status}"), alert.at, &data)
        }
        Format::Slack => {
            let sign = match (alert.resolved, alert.kind.is_occurrence()) {
                (true, _) => ":white_check_mark: over:",
                (false, true) => ":warning:",
                (false, false) => ":rotating_light:",
            };
            text(&format!("{sign} *{}* {}", alert.kind, escaped(&summary)))
        }
    };
    message.to_string().into_bytes()
}

/// Returns a message that says nothing is wrong.
pub(super) fn test(format: Format, now: UnixMillis) -> Vec<u8> {
    let summary = "This is a test. Nothing is wrong.";
    let message = match format {
        Format::Json => {
            enveloped("pepay_bridge.alert.test", now, &json!({ "status": "test", "summary": summary }))
        }
        Format::Slack => text(&format!(":wave: *test* {summary}")),
    };
    message.to_string().into_bytes()
}

/// The members that Standard Webhooks recommends.
fn enveloped(kind: &str, at: UnixMillis, data: &Value) -> Value {
    json!({ "type": kind, "timestamp": at, "data": data })
}

fn text(text: &str) -> Value {
    json!({ "text": format!("pepay-bridge: {text}") })
}

/// Escapes the characters that Slack would read as markup (api.slack.com, "Escaping text").
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Kind;

    fn alert(resolved: bool) -> Alert {
        Alert {
            kind: Kind::TargetDown,
            name: "orders".to_owned(),
            resolved,
            summary: "target orders is down: <!channel> & \"more\"".to_owned(),
            since: UnixMillis(1_734_780_000_000),
            at: UnixMillis(1_734_780_060_000),
        }
    }

    fn read(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn a_json_message_has_the_members_of_standard_webhooks() {
        let message = read(&of(&alert(false), Format::Json));
        assert_eq!(
            message,
            json!({
                "type": "pepay_bridge.alert.firing",
                "timestamp": "2024-12-21T11:21:00.000Z",
                "data": {
                    "kind": "target_down", "name": "orders", "status": "firing",
                    "summary": "target orders is down: <!channel> & \"more\"", "since": "2024-12-21T11:20:00.000Z",
                },
            })
        );
        let over = read(&of(&alert(true), Format::Json));
        assert_eq!(
            (&over["type"], &over["data"]["status"]),
            (&json!("pepay_bridge.alert.resolved"), &json!("resolved"))
        );
        assert_eq!(read(&test(Format::Json, UnixMillis(0)))["type"], "pepay_bridge.alert.test");
    }

    #[test]
    fn a_slack_message_is_one_text_without_markup_from_outside() {
        let message = read(&of(&alert(false), Format::Slack));
        let text = message["text"].as_str().unwrap();
        assert!(text.contains("*target_down*") && text.contains("&lt;!channel&gt; &amp;"), "{text}");
        assert_eq!(message.as_object().unwrap().len(), 1);
        assert!(read(&of(&alert(true), Format::Slack))["text"].as_str().unwrap().contains("over"));
        let long = Alert { summary: "x".repeat(5000), ..alert(false) };
        assert!(of(&long, Format::Slack).len() < 1200);
    }
}
