//! How a running bridge gets on with each target.

use serde::Deserialize;

use super::report::Check;
use crate::cli::admin::Admin;
use crate::config::Settings;

#[derive(Deserialize)]
struct Targets {
    targets: Vec<Target>,
}

/// A target, as the API shows it.
#[derive(Deserialize)]
struct Target {
    name: String,
    #[serde(default)]
    configured: Option<bool>,
    circuit: String,
    rejecting: Option<Rejecting>,
    paused: bool,
    paused_reason: Option<String>,
    last_error: Option<LastError>,
    backlog: Option<u64>,
    held: Option<u64>,
    dead: Option<u64>,
}

#[derive(Deserialize)]
struct Rejecting {
    refusals: u64,
    error: String,
}

#[derive(Deserialize)]
struct LastError {
    error: String,
}

/// Asks the bridge that runs under `settings`.
pub(super) async fn examine(settings: &Settings) -> Vec<Check> {
    if settings.web.admin_listen.port() == 0 {
        return Vec::new();
    }
    let asked = async { Admin::of(&settings.web)?.get(&["targets"], &[]).await?.read::<Targets>() };
    match asked.await {
        Ok(Targets { targets }) => {
            // What waits for one that is configured nowhere is a check of its own.
            let is_configured = |target: &&Target| {
                target.configured != Some(false)
                    || settings.targets.iter().any(|own| *own.name == *target.name)
            };
            targets.iter().filter(is_configured).map(Target::check).collect()
        }
        Err(error) => {
            let found = format!("the running bridge does not tell: {error}");
            let advice = "was it started with another `server.admin_listen` or `server.admin_token`?";
            vec![Check::warning("deliveries", found, advice)]
        }
    }
}

impl Target {
    fn check(&self) -> Check {
        let name = format!("deliveries {}", self.name);
        let resume = format!("then `pepay-bridge targets resume {}`", self.name);
        if let Some(Rejecting { refusals, error }) = &self.rejecting {
            let found = format!("the target has refused {refusals} requests in a row: {error}");
            let what = "correct its `url`, `headers` or `signing_secret`, or mend the target";
            let advice = if self.paused { format!("{what}, {resume}") } else { what.to_owned() };
            return Check::failed(name, found, advice);
        }
        if self.paused {
            let found = format!("paused {}", self.paused_reason.as_deref().unwrap_or_default());
            return Check::warning(name, found, format!("look why, {resume}"));
        }
        if self.circuit != "closed" {
            let error = self.last_error.as_ref().map_or("no request succeeds", |last| &last.error);
            return Check::failed(name, format!("the target is down: {error}"), "mend the target");
        }
        let (dead, held) = (self.dead.unwrap_or(0), self.held.unwrap_or(0));
        if dead > 0 || held > 0 {
            let found = format!("{dead} dead and {held} held wait for an operator");
            let advice =
                format!("`pepay-bridge deliveries list --target {} --state dead`, or `held`", self.name);
            return Check::warning(name, found, advice);
        }
        Check::ok(name, format!("{} to be made, none waits for an operator", self.backlog.unwrap_or(0)))
    }
}
