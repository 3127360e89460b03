//! The checks of each webhook endpoint's secrets: a secret verifies its own signatures.

use std::collections::BTreeSet;

use super::report::Check;
use crate::domain::clock::Clock;
use crate::source::webhook;

/// The body of the test signature.
const BODY: &[u8] = br#"{"id":"evt_doctor","object":"event","type":"test.ping"}"#;

pub(super) fn examine(webhooks: &[webhook::Settings], clock: &Clock) -> Vec<Check> {
    webhooks.iter().map(|webhook| of_webhook(webhook, &clock.now().0.to_string())).collect()
}

fn of_webhook(webhook: &webhook::Settings, timestamp: &str) -> Check {
    let (name, secrets) = (format!("webhook {}", webhook.name), webhook.keys.len());
    let key = format!("`webhooks.{}.secrets`", webhook.name);
    let signatures: Vec<_> = webhook.keys.iter().map(|key| key.sign(timestamp, BODY)).collect();
    let own = webhook.keys.iter().zip(&signatures);
    if !own.into_iter().all(|(key, signature)| key.verify(signature, timestamp, BODY)) {
        return Check::failed(name, "a secret does not verify what it signs", "report this as a defect");
    }
    if signatures.iter().collect::<BTreeSet<_>>().len() < secrets {
        return Check::warning(
            name,
            format!("of {secrets} secrets two are the same"),
            format!("{key} should hold the current one and those that are still accepted"),
        );
    }
    let each = if secrets == 1 { "1 secret signs and verifies" } else { "each signs and verifies" };
    let found = if secrets == 1 { each.to_owned() } else { format!("{secrets} secrets, {each}") };
    Check::ok(name, format!("{found}; Pepay has to post to {}", webhook.path))
}
