//! The real binary as a process.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{eventually, soon};

/// A configuration, as environment variables: keys without their prefix, and values. A key that
/// begins with `OTEL_` or `SSL_CERT_`, [`FILE`] and the variables of proxies are whole names.
pub type Configuration = BTreeMap<String, String>;

/// The variable that names the configuration file.
pub const FILE: &str = "PEPAY_BRIDGE_CONFIG";

/// Returns the configuration that every test starts from: loopback, free ports, a database in `folder`.
pub fn configuration(folder: &Path) -> Configuration {
    let database = format!("sqlite://{}", folder.join("bridge.db").display());
    [
        ("SERVER__LISTEN", "127.0.0.1:0"),
        ("SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
        ("LOG__FORMAT", "json"),
        ("LOG__FILTER", "info"),
        // Tests kill processes, which needs no `full`; they cause no power cut.
        ("STORE__DURABILITY", "normal"),
        ("STORE__URL", &database),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Returns `configuration` with the environment of a system that has no root certificates.
pub fn without_roots(configuration: &Configuration) -> Configuration {
    let mut configuration = configuration.clone();
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        configuration.insert(name.to_owned(), "/nonexistent".to_owned());
    }
    configuration
}

/// A running bridge. Killed when dropped.
pub struct Bridge {
    child: Child,
    /// `http://` and the address of the public listener.
    pub public: String,
    /// `http://` and the address of the private listener.
    pub admin: String,
    /// The lines that it has logged so far.
    log: watch::Receiver<Vec<Value>>,
    /// The task that reads its log, so that the pipe never fills.
    reader: JoinSet<()>,
}

/// The variable for the number of threads. The bridge inherits it from the environment of the tests.
const THREADS: &str = "TOKIO_WORKER_THREADS";

/// The message of a bridge that works.
pub const UP: &str = "pepay-bridge is up";

/// The binary.
const BINARY: &str = env!("CARGO_BIN_EXE_pepay-bridge");

/// Returns a command of the binary. Its environment is `configuration` and [`THREADS`], and nothing else.
pub fn command(configuration: &Configuration) -> Command {
    configured(Command::new(BINARY), configuration)
}

/// Returns a command of `program`, which starts the binary: the last of its arguments is the binary's
/// path. Its environment is that of [`command`].
pub fn command_of(program: &str, arguments: &[&str], configuration: &Configuration) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg(BINARY);
    configured(command, configuration)
}

fn configured(mut command: Command, configuration: &Configuration) -> Command {
    let name = |key: &str| {
        if key.starts_with("OTEL_")
            || key.starts_with("SSL_CERT_")
            || [FILE, "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"].contains(&key)
        {
            key.to_owned()
        } else {
            format!("PEPAY_BRIDGE__{key}")
        }
    };
    let variables = configuration.iter().map(|(key, value)| (name(key), value));
    let threads = std::env::var_os(THREADS).map(|threads| (THREADS, threads));
    command
        .env_clear()
        .envs(threads)
        .envs(variables)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// The outcome of a command.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Returns its standard output, followed by its standard error.
    pub fn printed(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs the binary with `arguments`, and waits until it has ended.
pub async fn run(configuration: &Configuration, arguments: &[&str]) -> Ended {
    output_of(command(configuration).args(arguments)).await
}

/// Runs `command`, and waits until it has ended.
pub async fn output_of(command: &mut Command) -> Ended {
    let what = format!("the end of {:?}", command.as_std().get_args().collect::<Vec<_>>());
    let output = soon(&what, command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Starts a bridge that refuses to start. Returns its exit code and its standard error.
pub async fn refused(configuration: &Configuration) -> (Option<i32>, String) {
    let ended = run(configuration, &[]).await;
    assert_ne!(ended.code, Some(0), "{}", ended.printed());
    (ended.code, ended.stderr)
}

/// Sends the signal of this name, such as `-TERM`, to `child`.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let kill = std::process::Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(kill.success());
}

impl Bridge {
    /// Starts the binary and waits until it logs that it is up.
    pub async fn start(configuration: &Configuration) -> Self {
        Self::of(command(configuration)).await
    }

    /// Starts the binary and waits until it listens. It may still be opening its store, or wait for it.
    pub async fn listening(configuration: &Configuration) -> Self {
        Self::once(command(configuration), "listening, and opening the store").await
    }

    /// Starts the binary and waits until it logs that it waits for its database.
    pub async fn waiting(configuration: &Configuration) -> Self {
        let mut bridge = Self::listening(configuration).await;
        bridge.logged("the bridge waits for its database").await;
        bridge
    }

    /// Starts `command`, whose process becomes the binary, and waits until it logs that it is up.
    pub async fn of(command: Command) -> Self {
        Self::once(command, UP).await
    }

    /// Starts `command` and waits until it logs `message`, with the addresses of its listeners.
    async fn once(mut command: Command, message: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = Vec::new();
        let up = soon("the start of the bridge", async {
            loop {
                let line = next(&mut lines).await.expect("the bridge ended before it was up");
                if line["message"] == message {
                    return line;
                }
                before.push(line);
            }
        });
        let up = up.await;
        let address = |field: &str| format!("http://{}", up[field].as_str().unwrap());
        let (public, admin) = (address("listen"), address("admin_listen"));
        let (collected, log) = watch::channel(before);
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            while let Some(line) = next(&mut lines).await {
                collected.send_modify(|log| log.push(line));
            }
        });
        Self { child, public, admin, log, reader }
    }

    /// Returns the id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Kills it (SIGKILL), as a crash would.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
        self.reader.join_all().await;
    }

    /// Waits until it has logged a line whose message contains `text`.
    pub async fn logged(&mut self, text: &str) {
        self.logged_where(text, |line| message(line).contains(text)).await;
    }

    /// Waits until it has logged a line that is `wanted`. Returns the first one.
    pub async fn logged_where(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let said = |log: &Vec<Value>| log.iter().any(&wanted);
        let log = soon(what, self.log.wait_for(said)).await.unwrap();
        log.iter().find(|line| wanted(line)).unwrap().clone()
    }

    /// Waits until it has logged this many lines whose message contains `text`.
    pub async fn logged_times(&mut self, text: &str, times: usize) {
        let said = |log: &Vec<Value>| log.iter().filter(|line| message(line).contains(text)).count() >= times;
        soon(text, self.log.wait_for(said)).await.unwrap();
    }

    /// Returns its resident memory in KiB.
    pub fn memory(&self) -> u64 {
        self.kibibytes("VmRSS:")
    }

    /// Returns the peak of its resident memory in KiB.
    pub fn peak_memory(&self) -> u64 {
        self.kibibytes("VmHWM:")
    }

    fn kibibytes(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits until its status satisfies `reached`. Returns that status.
    pub async fn until(&self, what: &str, reached: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || Some(self.status().await).filter(&reached)).await
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Asks it to read its configuration again (SIGHUP).
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// Has it read its configuration again (SIGHUP). Returns the log line with the outcome.
    pub async fn reload(&mut self) -> Value {
        let outcomes = |log: &[Value]| -> Vec<Value> {
            log.iter().filter(|line| message(line).starts_with("configuration ")).cloned().collect()
        };
        let before = outcomes(&self.log.borrow()).len();
        self.hang_up();
        let log = soon("the reload", self.log.wait_for(|log| outcomes(log).len() > before)).await.unwrap();
        outcomes(&log)[before].clone()
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Asks it to stop and waits until it has ended. Returns its exit status and its log.
    pub async fn stop(self) -> (ExitStatus, Vec<Value>) {
        self.terminate();
        self.ended().await
    }

    /// Waits until it has ended. Returns its exit status and its log.
    pub async fn ended(mut self) -> (ExitStatus, Vec<Value>) {
        let status = soon("the end of the bridge", self.child.wait()).await.unwrap();
        self.reader.join_all().await;
        (status, self.log.borrow().clone())
    }

    /// Waits until a series of its metrics is at least `value`.
    pub async fn until_metric(&self, series: &str, value: f64) {
        eventually(series, async || (self.metric(series).await >= value).then_some(())).await;
    }

    /// Sends `GET path` to the private listener.
    pub async fn admin(&self, path: &str) -> reqwest::Response {
        reqwest::get(format!("{}{path}", self.admin)).await.unwrap()
    }

    /// Sends `POST path` to the private listener. Returns the status of the response and its JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = reqwest::Client::new()
            .post(format!("{}{path}", self.admin))
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// Returns the JSON of `GET /status`.
    pub async fn status(&self) -> Value {
        serde_json::from_slice(&self.admin("/status").await.bytes().await.unwrap()).unwrap()
    }

    /// Returns the value of one series of `GET /metrics`; 0 if the series does not exist yet.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await.text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_default()
    }
}

/// Returns the message of a log line.
pub fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

async fn next(lines: &mut Lines<BufReader<ChildStderr>>) -> Option<Value> {
    let line = lines.next_line().await.unwrap()?;
    Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a line of JSON: {line}")))
}
