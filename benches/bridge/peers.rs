//! The programs to compare with the bridge: two Node programs, one in the usual style and one carefully
//! tuned. Unlike the bridge, they keep no order per object, sign no requests and have no metrics, which
//! makes them faster.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::port::Port;
use crate::requests::SECRET;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/node");
const FILES: [&str; 5] = ["package.json", "package-lock.json", ".npmrc", "plain.js", "tuned.js"];
/// The file that records the Node version and the lock file of the installed packages.
const MARK: &str = "installed";
const LIMIT: Duration = Duration::from_secs(30);

/// The installed Node programs.
pub struct Peers(PathBuf);

impl Peers {
    /// Installs the packages of the programs below `scratch`, if they are not installed yet.
    ///
    /// # Errors
    /// Node or npm is missing, or the packages cannot be installed.
    pub fn install(scratch: &Path) -> Outcome<Self> {
        let folder = scratch.join("peers");
        let node = version("node")?;
        version("npm")?;
        fs::create_dir_all(&folder)?;
        for file in FILES {
            fs::copy(Path::new(SOURCES).join(file), folder.join(file))?;
        }
        let wanted = format!("{node}\n{}", fs::read_to_string(folder.join("package-lock.json"))?);
        let mark = folder.join(MARK);
        if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
            return Ok(Self(folder));
        }
        let log = fs::File::create(folder.join("npm.log"))?;
        let installed = Command::new("npm")
            .arg("ci")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?)
            .stdout(log)
            .status()?;
        if !installed.success() {
            let log = fs::read_to_string(folder.join("npm.log"))?;
            return Err(format!("`npm ci` failed: {log}").into());
        }
        fs::write(mark, wanted)?;
        Ok(Self(folder))
    }

    /// Starts `script` on a database in `folder`.
    pub fn start(&self, script: &str, folder: &Path, target: Option<SocketAddr>) -> Outcome<Peer> {
        let port = Port::hold()?;
        let address = port.address;
        let child = Command::new("node")
            .arg(self.0.join(script))
            .env("NODE_ENV", "production")
            .env("PORT", address.port().to_string())
            .env("DATABASE", folder.join("peer.db"))
            .env("SECRET", SECRET)
            .env("TARGET", target.map(|target| format!("http://{target}")).unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let (mut peer, started) = (Peer { child, address, _port: port }, Instant::now());
        while TcpStream::connect(address).is_err() {
            if peer.child.try_wait()?.is_some() || started.elapsed() > LIMIT {
                return Err(format!("{script} has not started").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(peer)
    }
}

fn version(program: &str) -> Outcome<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("{program} cannot be started: {error}"))?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A running program. Dropping it kills the process.
pub struct Peer {
    child: Child,
    /// The address to which webhooks are sent.
    pub address: SocketAddr,
    _port: Port,
}

impl Peer {
    /// Returns the id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // An error means that the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
