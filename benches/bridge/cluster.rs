//! A PostgreSQL server of the benchmark's own: a cluster in its folder, on loopback, with
//! the settings that the packages ship.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::Outcome;
use crate::port::Port;

/// Where Debian's packages put the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A running server. Stopped when dropped.
pub struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    pid: u32,
    port: Port,
}

impl Cluster {
    /// Makes a cluster in `folder`, which is emptied, and starts a server on it.
    ///
    /// # Errors
    /// Also where PostgreSQL is not installed.
    pub fn start(folder: &Path) -> Outcome<Self> {
        let programs = programs()?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        // Neither initdb nor the server runs as root.
        if geteuid().is_root() {
            run(Command::new("chown").arg("postgres").arg(folder))?;
        }
        let (data, port) = (folder.join("data"), Port::hold()?);
        let options = format!(
            "-p {} -c listen_addresses={} -c unix_socket_directories=",
            port.address.port(),
            port.address.ip()
        );
        let mut initdb = as_its_user(&programs.join("initdb"));
        run(initdb
            .args(["--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--pgdata"])
            .arg(&data))?;
        let mut start = as_its_user(&programs.join("pg_ctl"));
        start.arg("--log").arg(folder.join("log")).arg("--pgdata").arg(&data);
        run(start.args(["--wait", "--options", &options, "start"]))?;
        let pid = fs::read_to_string(data.join("postmaster.pid"))?;
        let pid = pid.lines().next().ok_or("postmaster.pid is empty")?.parse()?;
        Ok(Self { programs, data, pid, port })
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A database that is new, as `store.url` names it.
    pub fn database(&self, name: &str) -> Outcome<String> {
        self.ask(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        self.ask(&format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }

    /// The end of its write-ahead log, in bytes from the beginning of all logs.
    pub fn log_position(&self) -> Outcome<f64> {
        Ok(self.ask("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")?.trim().parse()?)
    }

    /// Writes what `database` has taken in to its files and counts its rows, as a server does by
    /// itself in the minutes after.
    pub fn settle(&self, database: &str) -> Outcome<()> {
        self.ask_in(database, "VACUUM (ANALYZE)")?;
        self.ask_in(database, "CHECKPOINT").map(drop)
    }

    /// A database as `store.url` names it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}?sslmode=disable", self.port.address)
    }

    fn ask(&self, statement: &str) -> Outcome<String> {
        self.ask_in("postgres", statement)
    }

    /// What `statement` returns, as text.
    fn ask_in(&self, database: &str, statement: &str) -> Outcome<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
        run(psql.args(["--dbname", &self.url(database), "--command", statement]))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = as_its_user(&self.programs.join("pg_ctl"));
        stop.arg("--pgdata").arg(&self.data).args(["--mode", "immediate", "--wait", "stop"]);
        // One that has ended by itself cannot be stopped, and need not be.
        let _ = run(&mut stop);
    }
}

/// The programs of the newest version that is installed.
fn programs() -> Outcome<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let numbered =
        versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let newest =
        numbered.map(|(version, path)| (version, path.join("bin"))).filter(|(_, bin)| bin.is_dir()).max();
    Ok(newest.ok_or("PostgreSQL is not installed (Debian: apt-get install postgresql)")?.1)
}

fn as_its_user(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

/// Runs a command to its end; what it has printed.
fn run(command: &mut Command) -> Outcome<String> {
    // A server that goes on keeps what it was given open: it gets nothing to wait for.
    let is_start = command.get_args().any(|argument| argument == "start");
    let output = if is_start { Stdio::null() } else { Stdio::piped() };
    let done = command.current_dir("/").stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).output()?;
    if done.status.success() {
        Ok(String::from_utf8(done.stdout)?)
    } else {
        Err(format!("{command:?} ended with {}", done.status).into())
    }
}
