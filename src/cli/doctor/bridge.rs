//! The check whether a bridge runs on the configured database, and the checks of its listeners.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use url::Url;

use super::deliveries;
use super::report::Check;
use crate::cli::health;
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
        deliveries::examine(settings),
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
