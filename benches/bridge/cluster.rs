//! The PostgreSQL server of the benchmark: a cluster in a folder of the benchmark, on loopback, with the
//! default settings of the packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::Outcome;
use crate::port::Port;

/// The folder in which Debian's packages install the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A running server. Dropping it stops the server.
pub struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    pid: u32,
    port: Port,
}

impl Cluster {
    /// Empties `folder`, creates a cluster in it and starts a server.
    ///
    /// # Errors
    /// The error of a command, also if PostgreSQL is not installed.
    pub fn start(folder: &Path) -> Outcome<Self> {
        let programs = programs()?;
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        // PostgreSQL refuses to run initdb or the server as root.
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

    /// Returns the id of the server's first process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Creates an empty database and returns its URL for `store.url`.
    pub fn database(&self, name: &str) -> Outcome<String> {
        self.ask(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        self.ask(&format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }

    /// Returns the end of the write-ahead log, in bytes from the beginning of all logs.
    pub fn log_position(&self) -> Outcome<f64> {
        Ok(self.ask("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")?.trim().parse()?)
    }

    /// Runs `VACUUM (ANALYZE)` on `database` and writes its data to the files, as a server does in the
    /// background in the minutes after many writes.
    pub fn settle(&self, database: &str) -> Outcome<()> {
        self.ask_in(database, "VACUUM (ANALYZE)")?;
        self.ask_in(database, "CHECKPOINT").map(drop)
    }

    /// Returns the URL of a database for `store.url`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}?sslmode=disable", self.port.address)
    }

    fn ask(&self, statement: &str) -> Outcome<String> {
        self.ask_in("postgres", statement)
    }

    /// Runs `statement` and returns its result as text.
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
        // An error means that the server has ended already.
        let _ = run(&mut stop);
    }
}

/// Returns the folder with the programs of the newest installed version.
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

/// Runs a command to its end and returns its output.
fn run(command: &mut Command) -> Outcome<String> {
    // A started server keeps its standard output open. A pipe would make this function wait for the
    // server.
    let is_start = command.get_args().any(|argument| argument == "start");
    let output = if is_start { Stdio::null() } else { Stdio::piped() };
    let done = command.current_dir("/").stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).output()?;
    if done.status.success() {
        Ok(String::from_utf8(done.stdout)?)
    } else {
        Err(format!("{command:?} ended with {}", done.status).into())
    }
}
