//! The checks of each webhook endpoint and of each target: a secret verifies its own signatures, and a
//! target can be connected to.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::report::Check;
use crate::delivery::{self, check_connection};
use crate::domain::clock::Clock;
use crate::source::webhook;

/// The time limit of a connection to a target. It is short, since the operator waits for the report.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of the test signature.
const BODY: &[u8] = br#"{"id":"evt_doctor","object":"event","type":"test.ping"}"#;

pub(super) fn of_webhooks(webhooks: &[webhook::Settings], clock: &Clock) -> Vec<Check> {
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

pub(super) async fn of_targets(targets: &[delivery::Settings]) -> Vec<Check> {
    let reached = join_all(targets.iter().map(of_target)).await;
    let pairs = reached.into_iter().zip(targets);
    pairs.flat_map(|(reached, target)| [Some(reached), of_signature(target)]).flatten().collect()
}

async fn of_target(target: &delivery::Settings) -> Check {
    let (name, key) = (format!("target {}", target.name), format!("`targets.{}.url`", target.name));
    let what = if target.url.scheme() == "https" { "connects, with TLS" } else { "connects" };
    match tokio::time::timeout(PATIENCE, check_connection(target)).await {
        Ok(Ok(())) => Check::ok(name, format!("{what}; no request was sent")),
        Ok(Err(error)) => Check::failed(
            name,
            error.to_string(),
            format!("is it running, reachable from here, and {key} right?"),
        ),
        Err(_) => {
            let found = format!("cannot connect: no answer within {} s", PATIENCE.as_secs());
            Check::failed(name, found, format!("does a firewall stand between, and is {key} right?"))
        }
    }
}

fn of_signature(target: &delivery::Settings) -> Option<Check> {
    let (name, keys) = (format!("signing {}", target.name), &target.signing_keys);
    let (id, at, body) = ("evt_doctor", 0, b"{}");
    let verifies = keys.iter().all(|key| key.verify(&key.sign(id, at, body), id, at, body));
    match keys.len() {
        0 => None,
        _ if !verifies => {
            let found = "a secret does not verify what it signs";
            Some(Check::failed(name, found, "report this as a defect"))
        }
        1 => Some(Check::ok(name, "the secret signs and verifies")),
        several => Some(Check::ok(name, format!("each of {several} secrets signs and verifies"))),
    }
}
