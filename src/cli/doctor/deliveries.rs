//! The check of each target's deliveries, in a running bridge.

use super::report::Check;
use crate::cli::targets::shown::{self, Rejecting, Target};
use crate::config::Settings;

/// Queries the bridge that runs under `settings`, and returns a check per target.
pub(super) async fn examine(settings: &Settings) -> Vec<Check> {
    match shown::of_running(settings).await {
        None => Vec::new(),
        Some(Ok(targets)) => {
            // Deliveries to a removed target have a separate check.
            let is_configured = |target: &&Target| {
                target.configured != Some(false)
                    || settings.targets.iter().any(|own| *own.name == *target.name)
            };
            targets.iter().filter(is_configured).map(check).collect()
        }
        Some(Err(error)) => {
            let found = format!("the running bridge does not tell: {error}");
            let advice = "was it started with another `server.admin_listen` or `server.admin_token`?";
            vec![Check::warning("deliveries", found, advice)]
        }
    }
}

fn check(target: &Target) -> Check {
    let name = format!("deliveries {}", target.name);
    let resume = format!("then `pepay-bridge targets resume {}`", target.name);
    if let Some(Rejecting { refusals, error }) = &target.rejecting {
        let found = format!("the target has refused {refusals} requests in a row: {error}");
        let what = "correct its `url`, `headers` or `signing_secret`, or mend the target";
        let advice = if target.paused { format!("{what}, {resume}") } else { what.to_owned() };
        return Check::failed(name, found, advice);
    }
    if target.paused {
        let found = format!("paused {}", target.paused_reason.as_deref().unwrap_or_default());
        return Check::warning(name, found, format!("look why, {resume}"));
    }
    if target.circuit != "closed" {
        let error = target.last_error.as_ref().map_or("no request succeeds", |last| &last.error);
        return Check::failed(name, format!("the target is down: {error}"), "mend the target");
    }
    let (dead, held) = (target.dead.unwrap_or(0), target.held.unwrap_or(0));
    if dead > 0 || held > 0 {
        let found = format!("{dead} dead and {held} held wait for an operator");
        let advice =
            format!("`pepay-bridge deliveries list --target {} --state dead`, or `held`", target.name);
        return Check::warning(name, found, advice);
    }
    Check::ok(name, format!("{} to be made, none waits for an operator", target.backlog.unwrap_or(0)))
}
