//! The bridge under test: the release binary, with a configuration file that sets only keys without a
//! default.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::http::Head;
use crate::port::{Port, UNUSED};
use crate::requests::SECRET;

/// The variable that names another binary to measure, such as an older one.
const BINARY: &str = "PEPAY_BRIDGE_BINARY";

/// Returns the binary under test. By default it is the binary that was built with this program.
pub fn binary() -> PathBuf {
    std::env::var_os(BINARY).map_or_else(|| env!("CARGO_BIN_EXE_pepay-bridge").into(), PathBuf::from)
}

/// The time limit of a start or a stop.
const LIMIT: Duration = Duration::from_secs(120);
/// The interval between two readiness checks.
const POLL: Duration = Duration::from_millis(2);

/// The settings other than the defaults.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The name, the address and the event types of each target.
    pub targets: Vec<(&'static str, SocketAddr, &'static str)>,
    /// The address of Pepay, if there is a stream.
    pub pepay: Option<SocketAddr>,
    /// The URL of a database on a server; `None` for a file in the folder of the bridge.
    pub store: Option<String>,
}

impl Setup {
    /// Returns a setup with one target that gets no events.
    pub fn nothing() -> Self {
        Self { targets: vec![("orders", UNUSED, "test.ping")], pepay: None, store: None }
    }

    /// Returns a setup with one target that gets every event.
    pub fn orders(target: SocketAddr) -> Self {
        Self { targets: vec![("orders", target, "*")], pepay: None, store: None }
    }
}

/// Moves the store of `from` into the empty schema that `setup` names, with the command `import`.
pub fn import(folder: &Path, from: &Path, setup: &Setup) -> Outcome<()> {
    let file = folder.join("import.toml");
    fs::write(&file, configuration(folder, UNUSED, UNUSED, setup)?)?;
    let done = Command::new(binary())
        .args(["import".as_ref(), "--config".as_ref(), file.as_os_str()])
        .arg(format!("sqlite://{}", database(from).display()))
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(format!("the import ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr))
            .into())
    }
}

/// A running bridge. Dropping it stops the process.
pub struct Bridge {
    child: Child,
    /// The address of the public listener.
    pub address: SocketAddr,
    /// The time from the start of the process to the first 200 of `/readyz`.
    pub start: Duration,
    _ports: [Port; 2],
}

impl Bridge {
    /// Starts a bridge on the database of `folder` and waits until it is ready.
    pub fn start(folder: &Path, setup: &Setup) -> Outcome<Self> {
        let ports = [Port::hold()?, Port::hold()?];
        let [address, admin] = [ports[0].address, ports[1].address];
        let (file, log) = (folder.join("bridge.toml"), folder.join("bridge.log"));
        fs::write(&file, configuration(folder, address, admin, setup)?)?;
        let started = Instant::now();
        let child = Command::new(binary())
            .args(["run".as_ref(), "--config".as_ref(), file.as_os_str()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let mut bridge = Self { child, address, start: Duration::ZERO, _ports: ports };
        while !is_ready(address) {
            if bridge.child.try_wait()?.is_some() || started.elapsed() > LIMIT {
                let log = fs::read_to_string(&log)?;
                return Err(format!("the bridge has not become ready; it says:\n{log}").into());
            }
            std::thread::sleep(POLL);
        }
        bridge.start = started.elapsed();
        Ok(bridge)
    }

    /// Returns the id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and waits until the process has ended.
    pub fn stop(mut self) -> Outcome<()> {
        let status = self.end()?;
        if status.success() { Ok(()) } else { Err(format!("the bridge did not stop well: {status}").into()) }
    }

    fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let told = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        if told.success() { self.child.wait() } else { Ok(told) }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // SIGTERM, since a build that records a profile writes it at its regular end. A stop takes 35 s
        // at most. An error means that the process has ended already.
        let _ = self.end();
    }
}

/// Returns the path of the database of a bridge in `folder`.
pub fn database(folder: &Path) -> PathBuf {
    folder.join("bridge.db")
}

fn configuration(
    folder: &Path,
    address: SocketAddr,
    admin: SocketAddr,
    setup: &Setup,
) -> Result<String, std::fmt::Error> {
    let own = || format!("sqlite://{}", database(folder).display());
    let store = setup.store.clone().unwrap_or_else(own);
    let mut text = format!(
        "[server]\nlisten = \"{address}\"\nadmin_listen = \"{admin}\"\n\n\
         [store]\nurl = \"{store}\"\n\n\
         [webhooks.default]\nsecrets = [\"{SECRET}\"]\n"
    );
    for (name, target, types) in &setup.targets {
        write!(
            text,
            "\n[targets.{name}]\nurl = \"http://{target}/events\"\ntypes = \"{types}\"\n\
             signing_secret = \"whsec_YmVuY2htYXJrIG9mIHBlcGF5LWJyaWRnZQ==\"\n"
        )?;
    }
    if let Some(pepay) = setup.pepay {
        write!(
            text,
            "\n[pepay]\napi_url = \"http://{pepay}\"\napi_key = \"key\"\n\n[streams.commerce]\ntypes = [\"*\"]\n"
        )?;
    }
    Ok(text)
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(Head::at_the_beginning_of(&answer).is_some_and(|(head, _)| head.status() == Some(200)))
    };
    // An error means that the listener has not started yet or is stopping.
    ask().unwrap_or(false)
}
