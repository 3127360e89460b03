//! A simulated Pepay and sample targets around a bridge.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pepay_bridge::domain::backoff::Jitter;
use pepay_bridge::domain::clock::Clock;
use pepay_bridge::domain::event::EventId;
use pepay_bridge::pepay::signature::SigningKey;
use pepay_bridge::simulator::Simulator;
use pepay_bridge::simulator::options::{ApiKey, Copies, Options, WebhookEndpoint};
use pepay_bridge::simulator::target::{self, Delivery, Target, Verifier};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bridge::{Bridge, Configuration, FILE, configuration};

pub const API_KEY: &str = "test-api-key-0123456789";
pub const WEBHOOK_SECRET: &str = "test-webhook-secret-0123456789";
pub const SIGNING_SECRET: &str = "whsec_dGVzdC1zaWduaW5nLXNlY3JldC0yNC1ieXRlcw==";

/// Everything outside the bridge.
pub struct World {
    pub simulator: Simulator,
    pub folder: TempDir,
    /// The configuration of bridges that are started from now on. Tests add to it.
    pub configuration: Configuration,
    served: JoinSet<()>,
    stop: CancellationToken,
}

impl World {
    /// Starts a Pepay with a stream and a webhook endpoint, and no target.
    pub async fn new(options: Options) -> Self {
        // For its owner alone, as the documentation tells operators.
        let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
        let (mut served, stop) = (JoinSet::new(), CancellationToken::new());
        let options = Options { keys: vec![ApiKey::new(API_KEY)], ..options };
        let simulator = Simulator::new(options, Clock::system(), Jitter::from_fn(|| 0.5));
        let (listener, url) = listen().await;
        served.spawn({
            let (simulator, stop) = (simulator.clone(), stop.clone());
            async move { simulator.serve(listener, stop).await.unwrap() }
        });
        let mut configuration = configuration(folder.path());
        for (key, value) in [
            ("PEPAY__API_URL", &*url),
            ("PEPAY__API_KEY", API_KEY),
            ("STREAMS__COMMERCE__TYPES", "*"),
            ("STREAMS__COMMERCE__BACKOFF_MIN", "50ms"),
            ("STREAMS__COMMERCE__BACKOFF_MAX", "500ms"),
            ("WEBHOOKS__DEFAULT__SECRETS", WEBHOOK_SECRET),
        ] {
            configuration.insert(key.to_owned(), value.to_owned());
        }
        Self { simulator, folder, configuration, served, stop }
    }

    /// Returns options that send each event once by stream and twice by webhook.
    pub fn with_duplicates() -> Options {
        Options { copies: Copies { stream: 1, webhook: 2 }, ..Options::default() }
    }

    /// Starts a target that checks signatures, and configures it as `name`.
    pub async fn target(&mut self, name: &str) -> Target {
        let verifier = Some(Verifier::new(&SIGNING_SECRET.into()).unwrap());
        let target = Target::new(target::Options { verifier, ..Default::default() }, Clock::system());
        let (listener, url) = listen().await;
        self.served.spawn({
            let (target, stop) = (target.clone(), self.stop.clone());
            async move { target.serve(listener, stop).await }
        });
        self.target_at(name, &url);
        self.set_target(name, "SIGNING_SECRET", SIGNING_SECRET);
        target
    }

    /// Configures the target `name` at `url`, which the test serves itself.
    pub fn target_at(&mut self, name: &str, url: &str) {
        for (key, value) in [("URL", url), ("RETRY_MIN", "50ms"), ("RETRY_MAX", "1s")] {
            self.set_target(name, key, value);
        }
    }

    /// Sets one configuration key of a target.
    pub fn set_target(&mut self, name: &str, key: &str, value: &str) {
        self.set(&format!("TARGETS__{}__{key}", name.to_uppercase()), value);
    }

    /// Returns the path of the bridge's database.
    pub fn database(&self) -> PathBuf {
        self.configuration["STORE__URL"].trim_start_matches("sqlite://").into()
    }

    /// Returns the only value of `query` on the bridge's database, read by a connection beside the bridge.
    pub fn look_up<T: rusqlite::types::FromSql>(&self, query: &str) -> T {
        self.read_only().query_row(query, [], |row| row.get(0)).unwrap()
    }

    /// Waits until `query`, which counts, finds something.
    pub async fn until_found(&self, what: &str, query: &str) {
        super::eventually(what, async || (self.look_up::<i64>(query) > 0).then_some(())).await;
    }

    /// Executes `statement` on the bridge's database beside the bridge. Returns the number of rows changed.
    pub fn execute(&self, statement: &str, parameters: impl rusqlite::Params) -> usize {
        let database = rusqlite::Connection::open(self.database()).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        database.execute(statement, parameters).unwrap()
    }

    /// Returns the first two columns of every row of `query`.
    pub fn rows(&self, query: &str) -> Vec<(String, String)> {
        let database = self.read_only();
        let mut rows = database.prepare(query).unwrap();
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
    }

    /// Returns the events that the bridge has recorded as delivered to `target`.
    pub fn delivered(&self, target: &str) -> BTreeSet<String> {
        let query = "SELECT e.id FROM delivery d JOIN event e ON e.sequence = d.sequence \
                     JOIN target t ON t.id = d.target_id WHERE t.name = ?1 AND d.state = 'delivered'";
        let database = self.read_only();
        let mut delivered = database.prepare(query).unwrap();
        delivered.query_map([target], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn read_only(&self) -> rusqlite::Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = rusqlite::Connection::open_with_flags(self.database(), flags).unwrap();
        database.busy_timeout(Duration::from_secs(5)).unwrap();
        database
    }

    /// Sets one configuration key for bridges that are started from now on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.configuration.insert(key.to_owned(), value.to_owned());
    }

    /// Starts a bridge, has Pepay send webhooks to it, and waits for its stream.
    pub async fn bridge(&self) -> Bridge {
        self.bridge_with(&self.configuration).await
    }

    /// Does the same as [`bridge`](Self::bridge) with the configuration in a file, which
    /// [`save`](Self::save) rewrites.
    pub async fn bridge_on_file(&self) -> Bridge {
        let file = self.save().to_str().unwrap().to_owned();
        self.bridge_with(&[(FILE.to_owned(), file)].into()).await
    }

    /// Writes the configuration into a file. Returns its path.
    pub fn save(&self) -> PathBuf {
        let line = |(key, value): (&String, &String)| {
            format!("{} = {}\n", key.to_lowercase().replace("__", "."), toml::Value::from(&**value))
        };
        let path = self.folder.path().join("pepay-bridge.toml");
        std::fs::write(&path, self.configuration.iter().map(line).collect::<String>()).unwrap();
        path
    }

    async fn bridge_with(&self, configuration: &Configuration) -> Bridge {
        let opened = self.simulator.statistics().streams_opened;
        let bridge = Bridge::start(configuration).await;
        let url = format!("{}/webhooks/pepay", bridge.public).parse().unwrap();
        self.simulator.set_webhook_endpoints(vec![WebhookEndpoint::new(url, &WEBHOOK_SECRET.into())]);
        super::soon("the stream", self.simulator.until(|statistics| statistics.streams_opened > opened))
            .await;
        bridge
    }

    /// Returns the exact bytes that Pepay has of each event, by id.
    pub async fn truth(&self, ids: &[EventId]) -> BTreeMap<String, Vec<u8>> {
        let url = &self.configuration["PEPAY__API_URL"];
        let client = reqwest::Client::new();
        let mut truth = BTreeMap::new();
        for id in ids {
            let request = client.get(format!("{url}/api/v1/events/{id}")).header("x-api-key", API_KEY);
            let answer = request.send().await.unwrap().bytes().await.unwrap();
            let wrapped: BTreeMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_slice(&answer).unwrap();
            truth.insert(id.to_string(), wrapped["data"].get().as_bytes().to_vec());
        }
        truth
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Returns the deliveries that `target` has acknowledged, by event.
pub fn acknowledged(target: &Target) -> BTreeMap<Arc<str>, Vec<Delivery>> {
    let mut by_event = BTreeMap::<_, Vec<_>>::new();
    for delivery in target.deliveries().into_iter().filter(Delivery::acknowledged) {
        by_event.entry(Arc::clone(&delivery.id)).or_default().push(delivery);
    }
    by_event
}

/// Fails if `target` ever worked on two deliveries of one object at a time. Not for a target that
/// hangs: it may notice late that the bridge has given up a request.
pub fn assert_one_at_a_time(target: &Target) {
    assert_eq!(target.totals().overlapping, 0, "two deliveries of one object at the same time");
}

/// Fails unless `target` has acknowledged exactly `ids`, each once, with right signatures.
pub fn assert_each_once(target: &Target, ids: &[EventId]) {
    let delivered = acknowledged(target);
    let twice: Vec<_> = delivered.iter().filter(|(_, all)| all.len() > 1).map(|(id, _)| id).collect();
    assert!(twice.is_empty(), "delivered twice: {twice:?}");
    let missing: Vec<_> = ids.iter().filter(|id| !delivered.contains_key(id.as_str())).collect();
    assert!(missing.is_empty() && delivered.len() == ids.len(), "missing: {missing:?}");
    assert!(delivered.values().flatten().all(|delivery| delivery.signature_valid == Some(true)));
}

/// Posts `body` as a webhook of Pepay, signed.
pub async fn webhook(bridge: &Bridge, body: &str) {
    let timestamp = Clock::system().now().0.to_string();
    let signature = SigningKey::new(&WEBHOOK_SECRET.into()).sign(&timestamp, body.as_bytes());
    let request = reqwest::Client::new()
        .post(format!("{}/webhooks/pepay", bridge.public))
        .header("x-pepay-timestamp", timestamp)
        .header("x-pepay-signature", signature)
        .body(body.to_owned());
    assert!(super::soon("the webhook", request.send()).await.unwrap().status().is_success());
}

/// Listens on a free port. Returns the listener and its URL.
pub async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Reserves a port on which nothing listens. Returns the socket and its URL. The system gives the port
/// to no other process while the socket exists. A test can listen on it later with
/// [`TcpSocket::listen`]; on Linux a server that sets `SO_REUSEADDR` can do so beside it.
pub fn hold() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

/// A short time limit, for targets that hang.
pub const SHORT: Duration = Duration::from_millis(300);
