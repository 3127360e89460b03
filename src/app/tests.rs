//! Pauses and reloads while the store is slow.

use std::sync::Mutex;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{self, Input};
use crate::delivery::{Target, TargetClient};
use crate::domain::operator::OperationError;
use crate::domain::reload::ReloadError;
use crate::domain::status::TargetStatus;
use crate::store::Committer;
use crate::web::Operations as _;

/// Longer than any step takes: a test that reaches this limit has failed.
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("it should have happened long ago")
}

/// A bridge on loopback, with one target and a database in `folder`.
fn settings(folder: &TempDir) -> Settings {
    let database = format!("sqlite://{}", folder.path().join("test.db").display());
    let environment = [
        ("PEPAY_BRIDGE__SERVER__LISTEN", "127.0.0.1:0"),
        ("PEPAY_BRIDGE__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
        ("PEPAY_BRIDGE__STORE__URL", &database),
        ("PEPAY_BRIDGE__WEBHOOKS__DEFAULT__SECRETS", "a-secret"),
        ("PEPAY_BRIDGE__TARGETS__ORDERS__URL", "http://127.0.0.1:9/"),
    ];
    config::load(&Input::new(None, environment)).unwrap().settings
}

/// A target that can be paused, and a store that has not begun to commit.
struct Pausing {
    operations: Operations,
    status: watch::Receiver<TargetStatus>,
    store: Store,
    writer: Committer,
    worker: JoinSet<()>,
    _target: Target,
    _folder: TempDir,
}

impl Pausing {
    async fn new() -> Self {
        // An error says that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = TempDir::new().unwrap();
        let settings = settings(&folder);
        let target = &settings.targets[0];
        let (mut store, writer) =
            Store::open(&settings.store, vec![parts::route(target)], Clock::system()).await.unwrap();
        let client = TargetClient::new(target.clone(), Clock::system()).unwrap();
        let saver = Arc::new(Notify::new());
        let (running, control, status) =
            Target::new(client, store.outboxes.remove(0), None, Arc::clone(&saver), random());
        let controls =
            parts::Controls { targets: vec![(target.into(), control)], ..parts::Controls::default() };
        let controls = watch::channel(Arc::new(controls)).1;
        let (pauses, work) = pauses::channel(store.operator.clone(), controls.clone(), saver);
        let mut worker = JoinSet::new();
        worker.spawn(work.run(CancellationToken::new()));
        let here = watch::Sender::new(true).subscribe();
        let watched = alerts::watcher(None, Clock::system(), random(), here).unwrap();
        let operations = Operations {
            controls,
            pauses,
            reload: reload::channel().0,
            verifier: verify::Verifier::new(Clock::system()),
            alerts: watched.0,
            peers: None,
        };
        Self { operations, status, store, writer, worker, _target: running, _folder: folder }
    }

    /// Requests a pause or resume, and drops the future at once, like a client that hangs up.
    async fn ask_and_leave(&self, paused: bool) {
        let asked = self.operations.pause("orders", paused);
        tokio::select! {
            biased;
            outcome = asked => panic!("{outcome:?} from a store that does not commit"),
            () = std::future::ready(()) => {}
        }
    }

    async fn is_remembered(store: &Store) -> bool {
        !store.operator.pauses().await.unwrap().is_empty()
    }
}

#[tokio::test]
async fn a_pause_whose_caller_is_gone_is_remembered_and_obeyed() {
    let mut pausing = Pausing::new().await;
    pausing.ask_and_leave(true).await;
    let writer = std::thread::spawn(|| pausing.writer.run());
    soon(pausing.status.wait_for(|status| status.paused)).await.unwrap();
    assert!(Pausing::is_remembered(&pausing.store).await);
    pausing.store.close().await;
    writer.join().unwrap();
    drop(pausing.worker);
}

#[tokio::test]
async fn the_last_of_concurrent_pauses_and_resumes_is_remembered_and_obeyed() {
    let mut pausing = Pausing::new().await;
    for paused in [true, false, true, false] {
        pausing.ask_and_leave(paused).await;
    }
    let last = pausing.operations.pause("orders", true);
    let writer = std::thread::spawn(|| pausing.writer.run());
    soon(last).await.unwrap();
    assert!(pausing.status.borrow().paused && Pausing::is_remembered(&pausing.store).await);
    soon(pausing.operations.pause("orders", false)).await.unwrap();
    assert!(!pausing.status.borrow().paused && !Pausing::is_remembered(&pausing.store).await);
    assert_eq!(soon(pausing.operations.pause("nobody", true)).await, Err(OperationError::Unknown));
    pausing.store.close().await;
    writer.join().unwrap();
    let refused = soon(pausing.operations.pause("orders", true)).await;
    assert!(matches!(refused, Err(OperationError::Unavailable(_))), "{refused:?}");
    drop(pausing.worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_reload_whose_store_does_not_answer() {
    let folder = TempDir::new().unwrap();
    let started = settings(&folder);
    let database = started.store.file().unwrap().to_owned();
    let intruder = Arc::new(Mutex::new(None));
    let (read, mut reading) = mpsc::channel(1);
    let load: Load = {
        let (mut changed, intruder) = (started.clone(), Arc::clone(&intruder));
        changed.targets[0].concurrency += 1;
        Arc::new(move || {
            // From here on the store cannot commit.
            let connection = rusqlite::Connection::open(&database).unwrap();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            *intruder.lock().unwrap() = Some(connection);
            read.try_send(()).unwrap();
            Ok(changed.clone())
        })
    };
    let stop = Stop::default();
    let app = App::start(started, load, Clock::system(), random(), stop.clone(), false).await.unwrap();
    let reload = app.reload_handle();
    let mut running = JoinSet::new();
    running.spawn(app.run());
    let stopping = async {
        reading.recv().await.unwrap();
        stop.soft.cancel();
    };
    // The second call waits for the first one. Neither waits for the store, which cannot close yet.
    let calls = async { tokio::join!(reload.reload(), reload.reload(), stopping) };
    let (first, second, ()) = soon(calls).await;
    let stopped = Err(ReloadError::Unavailable("the bridge is stopping".to_owned()));
    assert_eq!((first, second), (stopped.clone(), stopped));
    drop(intruder.lock().unwrap().take());
    soon(running.join_next()).await.unwrap().unwrap().unwrap();
}

#[test]
fn the_keys_of_a_server_that_wait_for_a_restart_are_named_one_by_one() {
    let store = |key: &str, value: &str| {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("file.pem");
        let made = rcgen::generate_simple_self_signed(["db".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
        let (url, file) = ("postgres://bridge@db/events", file.to_str().unwrap());
        let both = |name: &str| key.starts_with("client_").then(|| (name.to_owned(), file.to_owned()));
        let given =
            [("url", url), ("pooler", "transaction"), (key, if value.is_empty() { file } else { value })];
        let given = given.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter();
        let given = given.chain(both("client_key_file")).chain(both("client_cert_file"));
        let variable =
            |(key, value): (String, String)| (format!("PEPAY_BRIDGE__STORE__{}", key.to_uppercase()), value);
        config::store(&Input::new(None, given.map(variable))).unwrap().place
    };
    let before = store("schema", "pepay_bridge");
    for (key, value, keys) in [
        ("schema", "pepay_bridge", &[][..]),
        ("url", "postgres://bridge:another@db/events", &["store.url"]),
        ("listen_url", "postgres://bridge@direct/events", &["store.listen_url"]),
        ("schema", "another", &["store.schema"]),
        ("connections", "5", &["store.connections"]),
        ("pooler", "none", &["store.pooler"]),
        ("ca_file", "", &["store.ca_file"]),
        ("client_cert_file", "", &["store.client_cert_file", "store.client_key_file"]),
    ] {
        let differing = reload::of_place(&before, &store(key, value)).into_iter();
        let differing: Vec<_> = differing.filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        assert_eq!(differing, keys, "{key}");
    }
    let file = crate::store::Place::File("bridge.db".into());
    assert_eq!(reload::of_place(&before, &file), [("store.url", true)]);
    assert_eq!(reload::of_place(&file, &file), [("store.url", false)]);
}
