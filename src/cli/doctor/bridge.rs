//! The check whether a bridge runs on the configured database, and the checks of its listeners and of each
//! target's deliveries.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use url::Url;

use super::report::Check;
use crate::cli::health;
use crate::cli::targets::shown::{self, Rejecting, Target};
use crate::config::Settings;
use crate::domain::cause::chain;
use crate::store::{Place, check};

/// The time limit of a connection to a listener. The address may be that of another machine.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn examine(settings: &Settings) -> Vec<Check> {
    let in_use = match &settings.store.place {
        Place::File(database) => check::is_in_use(database),
        // The lock in the database may be that of a bridge on another machine. A listener that accepts
        // shows that a bridge runs on this one.
        Place::Server(_) => {
            let connected = timeout(PATIENCE, TcpStream::connect(settings.web.admin_listen)).await;
            Ok(matches!(connected, Ok(Ok(_))))
        }
    };
    match in_use {
        Ok(true) => {}
        Ok(false) => {
            let public = free("listener", "server.listen", settings.web.listen).await;
            let admin = free("admin listener", "server.admin_listen", settings.web.admin_listen).await;
            return vec![Check::ok("bridge", "not running"), public, admin];
        }
        Err(error) => {
            let found = format!("the lock beside the database cannot be read: {}", chain(&error));
            return vec![Check::warning("bridge", found, "run this as the user the bridge runs as")];
        }
    }
    let (ready, admin, deliveries) = tokio::join!(
        of_listener("readiness", "server.listen", settings.web.listen, "/readyz"),
        of_listener("admin listener", "server.admin_listen", settings.web.admin_listen, "/healthz"),
        of_deliveries(settings),
    );
    [Check::ok("bridge", "running"), ready, admin].into_iter().chain(deliveries).collect()
}

/// Checks whether a bridge that starts now could listen on `address`.
async fn free(name: &str, key: &str, address: SocketAddr) -> Check {
    let Err(error) = TcpListener::bind(address).await else {
        return Check::ok(name, format!("{address} is free"));
    };
    let advice = match error.kind() {
        ErrorKind::AddrInUse => format!("another program has it: stop that one, or change `{key}`"),
        ErrorKind::PermissionDenied => {
            format!("a port below 1024 takes the right to it: change `{key}`, or grant CAP_NET_BIND_SERVICE")
        }
        _ => format!("is `{key}` an address of this machine?"),
    };
    Check::failed(name, format!("{address} cannot be listened on: {error}"), advice)
}

async fn of_listener(name: &str, key: &str, listen: SocketAddr, path: &str) -> Check {
    let address = health::reachable(listen);
    let Ok(url) = Url::parse(&format!("http://{address}{path}")) else {
        return Check::failed(name, format!("{address} is no address to ask"), format!("correct `{key}`"));
    };
    if listen.port() == 0 {
        return Check::warning(name, "not asked: port 0 is another one each time", format!("set `{key}`"));
    }
    match health::look(&url).await {
        Ok((status, _)) if status.is_success() => Check::ok(name, format!("{url} answered {status}")),
        Ok((status, body)) => Check::failed(
            name,
            format!("{url} answered {status}{}", reasons(&body)),
            "see the lines above, and the bridge's log",
        ),
        Err(found) => {
            let advice = format!("was the bridge started with another `{key}`, or elsewhere than here?");
            Check::failed(name, found, advice)
        }
    }
}

/// Returns the reasons in the body of `/readyz`, as text.
fn reasons(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let reasons = body["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons: Vec<_> = reasons.collect();
    if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) }
}

/// Queries the bridge that runs under `settings`, and returns a check per target.
async fn of_deliveries(settings: &Settings) -> Vec<Check> {
    match shown::of_running(settings).await {
        None => Vec::new(),
        Some(Ok(targets)) => {
            // Deliveries to a removed target have a separate check.
            let is_configured = |target: &&Target| {
                target.configured != Some(false)
                    || settings.targets.iter().any(|own| *own.name == *target.name)
            };
            targets.iter().filter(is_configured).map(of_target).collect()
        }
        Some(Err(error)) => {
            let found = format!("the running bridge does not tell: {error}");
            let advice = "was it started with another `server.admin_listen` or `server.admin_token`?";
            vec![Check::warning("deliveries", found, advice)]
        }
    }
}

fn of_target(target: &Target) -> Check {
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
    let (Some(backlog), Some(dead), Some(held)) = (target.backlog, target.dead, target.held) else {
        let found = "the bridge cannot read from its store what waits";
        return Check::warning(name, found, "see the check of the database, and the bridge's log");
    };
    if dead > 0 || held > 0 {
        let found = format!("{dead} dead and {held} held wait for an operator");
        let advice =
            format!("`pepay-bridge deliveries list --target {} --state dead`, or `held`", target.name);
        return Check::warning(name, found, advice);
    }
    Check::ok(name, format!("{backlog} to be made, none waits for an operator"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Report;
    use super::*;

    #[test]
    fn what_waits_is_unknown_while_the_store_does_not_tell() {
        let line = |waiting: Value| {
            let target = json!({ "name": "orders", "in_flight": 0, "circuit": "closed", "paused": false,
                                 "backlog": waiting, "held": waiting, "dead": waiting });
            Report(vec![of_target(&serde_json::from_value(target).unwrap())]).to_string()
        };
        let sound = "ok       deliveries orders  0 to be made, none waits for an operator\n";
        assert_eq!(line(json!(0)), sound);
        let unknown = line(Value::Null);
        assert!(unknown.starts_with("warning  deliveries orders  the bridge cannot read"), "{unknown}");
    }
}
