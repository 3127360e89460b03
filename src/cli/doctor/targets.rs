//! The checks of each target: the connection, and the signing secret.

use std::time::Duration;

use futures_util::future::join_all;

use super::report::Check;
use crate::delivery::{self, check_connection};

/// The time limit of a connection to a target. It is short, since the operator waits for the report.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn examine(targets: &[delivery::Settings]) -> Vec<Check> {
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
