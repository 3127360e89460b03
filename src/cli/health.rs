//! `pepay-bridge health`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::StatusCode;
use reqwest::ClientBuilder;
use reqwest::redirect::Policy;
use url::Url;

use super::Error;
use super::text::clean_lines;
use crate::config::{self, Input};
use crate::domain::cause::innermost;

/// The time limit of the whole request. A bridge that takes longer is not healthy.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The path that says whether webhooks can be taken.
const INTAKE: &str = "/readyz/intake";
/// The length after which the body is cut off, in bytes. A list of reasons is shorter.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The arguments of `health`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Address to ask; without a path, /readyz is asked
    ///
    /// By default the port of `server.listen`, as the configuration and the
    /// environment have it, on this machine.
    #[arg(long, value_parser = http_url)]
    url: Option<Url>,
    /// Ask whether webhooks can be taken, whatever the streams do: /readyz/intake
    #[arg(long)]
    intake: bool,
}

/// Asks a running bridge whether it is ready, and prints its response.
pub(super) fn health(arguments: &Arguments, input: &Input) -> Result<(), Error> {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => http_url(&format!("http://{}", reachable(config::listen(input)?))).map_err(Error::failure)?,
    };
    super::runtime()?.block_on(ask(asked(url, arguments.intake)?))
}

async fn ask(url: Url) -> Result<(), Error> {
    let (status, body) = look(&url).await.map_err(Error::failure)?;
    super::print(&format!("{}\n", clean_lines(&body)))?;
    if status.is_success() {
        return Ok(());
    }
    Err(Error::failure(format!("not ready: {url} answered {status}")))
}

/// Requests `url` and returns the status and the body, or the reason why there is no response.
pub(super) async fn look(url: &Url) -> Result<(StatusCode, String), String> {
    let no_answer = |error: reqwest::Error| format!("no answer from {url}: {}", innermost(&error));
    let client = client(url).timeout(TIMEOUT).build().map_err(no_answer)?;
    let mut answer = client.get(url.clone()).send().await.map_err(no_answer)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            break;
        }
    }
    Ok((answer.status(), String::from_utf8_lossy(&body).into_owned()))
}

/// Returns a builder of a client for the bridge at `url`. It follows no redirect: the answer of another
/// server would be taken for that of the bridge.
pub(super) fn client(url: &Url) -> ClientBuilder {
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none());
    match url.scheme() {
        // The system's root certificates are not read, and may be missing.
        "http" => client.tls_certs_only([]),
        _ => client,
    }
}

/// Returns the address to request. If `url` has no path, it gets `/readyz/intake` with `intake`, else
/// `/readyz`.
///
/// # Errors
/// [`Error::Usage`] if `url` has another path than `intake` asks for.
fn asked(mut url: Url, intake: bool) -> Result<Url, Error> {
    match url.path() {
        "/" => url.set_path(if intake { INTAKE } else { "/readyz" }),
        path if intake && path != INTAKE => {
            let fault =
                format!("--intake asks {INTAKE}, and the path of --url is {path}: leave one of them out");
            return Err(Error::Usage(fault));
        }
        _ => {}
    }
    Ok(url)
}

/// Parses a URL with the scheme `http` or `https`.
pub(super) fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the scheme has to be http or https".into());
    }
    Ok(url)
}

/// Returns the address that reaches a listener from its own machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_asks_for_readiness() {
        for (text, intake, address) in [
            ("http://127.0.0.1:8080", false, "http://127.0.0.1:8080/readyz"),
            ("http://127.0.0.1:8080", true, "http://127.0.0.1:8080/readyz/intake"),
            ("http://bridge:80/", false, "http://bridge/readyz"),
            ("https://bridge/healthz", false, "https://bridge/healthz"),
        ] {
            assert_eq!(asked(http_url(text).unwrap(), intake).unwrap().as_str(), address);
        }
        let elsewhere = asked(http_url("http://bridge/healthz").unwrap(), true).unwrap_err();
        assert!(matches!(&elsewhere, Error::Usage(fault) if fault.contains("/healthz")), "{elsewhere}");
        for bad in ["127.0.0.1:8080", "bridge", "file:///etc/passwd"] {
            assert!(http_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        for (listen, asked) in
            [("0.0.0.0:8081", "127.0.0.1:8081"), ("[::]:8081", "[::1]:8081"), ("10.0.0.7:80", "10.0.0.7:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
