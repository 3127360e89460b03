//! The parts of the demo: simulator, target and bridge on free loopback ports.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::sync::Arc;

use secrecy::SecretString;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::ledger::{Ledger, Received};
use super::{Error, config, telemetry};
use crate::app::{self, App};
use crate::config::Input;
use crate::domain::clock::Clock;
use crate::lifecycle::Stop;
use crate::simulator::Simulator;
use crate::simulator::options::{ApiKey, Copies, Options, WebhookEndpoint};
use crate::simulator::target::{self, Target, Verifier};

/// The keys of the demo. They are not secrets: they are valid only for this demo, while it runs.
const API_KEY: &str = "demo-api-key";
const WEBHOOK_SECRET: &str = "demo-webhook-secret";
const SIGNING_SECRET: &str = "whsec_ZGVtby1zaWduaW5nLXNlY3JldC0yNC1ieXRlcw==";

/// The running parts of the demo.
pub(super) struct Stage {
    pub(super) simulator: Simulator,
    pub(super) target: Target,
    pub(super) simulator_url: String,
    pub(super) target_url: String,
    pub(super) public_url: String,
    pub(super) admin_url: String,
    bridge: JoinHandle<Result<(), app::Error>>,
    bridge_stop: Stop,
    others: TaskTracker,
    others_stop: CancellationToken,
    /// The temporary folder. Dropping it removes its files.
    _folder: TempDir,
}

impl Stage {
    /// Starts every part, with room for `events` events. `log_filter` is the environment's `RUST_LOG`, if
    /// it is set.
    pub(super) async fn build(events: usize, log_filter: Option<&OsStr>) -> Result<Self, Error> {
        let folder = TempDir::new().map_err(Error::failure)?;
        let (clock, others, others_stop) = (Clock::system(), TaskTracker::new(), CancellationToken::new());

        let verifier = Verifier::new(&SecretString::from(SIGNING_SECRET)).map_err(Error::failure)?;
        let target = Target::new(
            target::Options { verifier: Some(verifier), keep: 2 * events + 100, ..Default::default() },
            clock.clone(),
        );
        let (listener, target_url) = listen().await?;
        others.spawn({
            let (target, stop) = (target.clone(), others_stop.clone());
            async move { target.serve(listener, stop).await }
        });

        let options = Options {
            keys: vec![ApiKey::new(API_KEY)],
            copies: Copies { stream: 1, webhook: 2 },
            rest_retention: events.max(1_000),
            ..Options::default()
        };
        let simulator = Simulator::new(options, clock.clone(), app::random());
        let (listener, simulator_url) = listen().await?;
        others.spawn({
            let (simulator, stop) = (simulator.clone(), others_stop.clone());
            async move {
                if let Err(error) = simulator.serve(listener, stop).await {
                    tracing::error!(%error, "the simulator cannot run");
                }
            }
        });

        let database = folder.path().join("demo.db");
        let keys = [
            ("SERVER__LISTEN", "127.0.0.1:0"),
            ("SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
            ("LOG__FILTER", "error"),
            ("STORE__URL", &format!("sqlite://{}", database.display())),
            ("PEPAY__API_URL", &simulator_url),
            ("PEPAY__API_KEY", API_KEY),
            ("STREAMS__COMMERCE__TYPES", "commerce.order.*,invoice.*,invoice_payment.*"),
            ("WEBHOOKS__DEFAULT__SECRETS", WEBHOOK_SECRET),
            ("TARGETS__SAMPLE__URL", &target_url),
            ("TARGETS__SAMPLE__SIGNING_SECRET", SIGNING_SECRET),
            ("TARGETS__SAMPLE__RETRY_MIN", "100ms"),
        ];
        let keys =
            keys.map(|(key, value)| (OsString::from(format!("PEPAY_BRIDGE__{key}")), OsString::from(value)));
        let log_filter = log_filter.map(|filter| ("RUST_LOG".into(), filter.to_owned()));
        let settings = config::load(&Input::new(None, keys.into_iter().chain(log_filter)))?.settings;
        telemetry::start(&settings.log).map_err(Error::failure)?;

        let bridge_stop = Stop::default();
        let load: app::Load = Arc::new(|| Err(vec!["the demo has nothing to read again".to_owned()]));
        let app = App::start(settings, load, clock, app::random(), bridge_stop.clone(), false);
        let app = app.await.map_err(Error::failure)?;
        let (public_url, admin_url) = (url(app.public_address), url(app.admin_address));
        let webhooks = Url::parse(&format!("{public_url}/webhooks/pepay")).map_err(Error::failure)?;
        simulator.set_webhook_endpoints(vec![WebhookEndpoint::new(webhooks, &WEBHOOK_SECRET.into())]);
        let bridge = others.spawn(app.run());
        Ok(Self {
            simulator,
            target,
            simulator_url,
            target_url,
            public_url,
            admin_url,
            bridge,
            bridge_stop,
            others,
            others_stop,
            _folder: folder,
        })
    }

    /// Stops the bridge as a signal does, then the other parts.
    pub(super) async fn close(&mut self) -> Result<(), Error> {
        self.bridge_stop.soft.cancel();
        (&mut self.bridge).await.map_err(Error::failure)?.map_err(Error::failure)?;
        self.others_stop.cancel();
        self.others.close();
        self.others.wait().await;
        Ok(())
    }

    /// Returns the ledger: the number of `played` events, the events `received` by source, and the
    /// deliveries that the target has acknowledged.
    pub(super) fn ledger(&self, played: usize, received: Vec<Received>) -> Ledger {
        let mut delivered = BTreeMap::<String, u64>::new();
        for delivery in self.target.deliveries().into_iter().filter(target::Delivery::acknowledged) {
            *delivered.entry(delivery.id.to_string()).or_default() += 1;
        }
        Ledger { played: played as u64, received, delivered, failed: self.target.totals().failed }
    }

    /// Returns the events received by source, from the metrics of the bridge.
    pub(super) async fn received(&self) -> Result<Vec<Received>, Error> {
        // The address is of `http`: the system's root certificates are not read, and may be missing.
        let client =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).build().map_err(Error::failure)?;
        let metrics = client.get(format!("{}/metrics", self.admin_url));
        let answer = metrics.send().await.map_err(Error::failure)?;
        Ok(ledger_rows(&answer.text().await.map_err(Error::failure)?))
    }
}

/// Returns a row per source. `metrics` is Prometheus text.
fn ledger_rows(metrics: &str) -> Vec<Received> {
    use crate::domain::event::Source;
    use crate::telemetry::names;
    let value = |name: &str, source: Source| {
        let series = format!("{name}{{source=\"{}\"}} ", source.as_str());
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
    };
    let row = |source| Received {
        source,
        all: value(names::EVENTS_RECEIVED, source),
        unique: value(names::EVENTS_UNIQUE, source),
        duplicate: value(names::EVENTS_DUPLICATE, source),
    };
    Source::ALL.map(row).into()
}

async fn listen() -> Result<(TcpListener, String), Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(Error::failure)?;
    let address = listener.local_addr().map_err(Error::failure)?;
    Ok((listener, url(address)))
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}
