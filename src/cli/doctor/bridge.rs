//! Whether a bridge runs on the configured database, and what it says of itself.

use std::net::SocketAddr;

use serde_json::Value;
use url::Url;

use super::report::Check;
use crate::cli::health;
use crate::config::Settings;
use crate::store::check;

pub(super) async fn examine(settings: &Settings) -> Vec<Check> {
    match check::is_in_use(&settings.store.path) {
        Ok(true) => {}
        Ok(false) => return vec![Check::ok("bridge", "not running")],
        Err(error) => {
            let found = format!("the lock beside the database cannot be read: {error}");
            return vec![Check::warning("bridge", found, "run this as the user the bridge runs as")];
        }
    }
    let (ready, admin) = tokio::join!(
        of_listener("readiness", "server.listen", settings.web.listen, "/readyz"),
        of_listener("admin listener", "server.admin_listen", settings.web.admin_listen, "/healthz"),
    );
    vec![Check::ok("bridge", "running"), ready, admin]
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

/// Why a bridge is not ready, as it says itself.
fn reasons(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let reasons = body["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons: Vec<_> = reasons.collect();
    if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) }
}
