//! The set-up of each measurement: servers, sender and target as processes, on a separate database on the
//! disk of the build.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::statvfs;

use crate::bridge::{Bridge, Setup, binary, import};
use crate::cluster::Cluster;
use crate::fill::{Fate, fill};
use crate::load::{Load, exact};
use crate::measure::{Figures, Quantity, check_arrivals, seconds_between, shared, under_load};
use crate::options::Options;
use crate::peers::Peers;
use crate::plan::Kind;
use crate::port::UNUSED;
use crate::requests::Bodies;
use crate::role::Role;
use crate::stream::{Addresses, Streamed, Task};
use crate::{Outcome, ceiling, disk, proc, report};

/// The number of requests that the sender signs in advance per second of load. No server here takes as
/// many.
const SIGNED_A_SECOND: f64 = 100_000.0;
/// The time for which a bridge is at rest before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// The number of events about one object, for a target that responds at once.
const HOT_EVENTS: u64 = 6_000;
/// The number of connections of the sender at a fixed pace.
const PACED_CONNECTIONS: u32 = 64;
/// The bytes on the disk per stored event, with its rows and indexes. About 1,530 were measured.
const ROOM_FOR_AN_EVENT: u64 = 2048;
/// The bytes on the disk that stay free.
const ROOM_LEFT: u64 = 4 << 30;

/// The name of the target that is down.
const DEAD: &str = "dead";

/// The state that the measurements share.
pub struct Scene {
    scratch: PathBuf,
    options: Options,
    peers: Option<Peers>,
    cluster: Option<Cluster>,
    /// The databases that are filled once and used in every round.
    filled: BTreeMap<&'static str, PathBuf>,
}

impl Scene {
    /// Creates a scene whose files are in `scratch`.
    pub fn new(
        scratch: PathBuf,
        options: Options,
        peers: Option<Peers>,
        cluster: Option<Cluster>,
    ) -> Outcome<Self> {
        let mut scene = Self { scratch, options, peers, cluster, filled: BTreeMap::new() };
        let room = statvfs(&scene.scratch)?;
        let free = room.f_bavail * room.f_frsize;
        let most = free.saturating_sub(ROOM_LEFT) / ROOM_FOR_AN_EVENT;
        for (what, count) in
            [("stored", &mut scene.options.stored), ("undelivered", &mut scene.options.undelivered)]
        {
            if *count > most {
                report::skipped(
                    &format!("{count} {what} events: there is room on the disk for {most}"),
                    "scaled down",
                );
                *count = most;
            }
        }
        Ok(scene)
    }

    /// Carries out one measurement.
    pub fn measure(&mut self, kind: Kind) -> Outcome<Figures> {
        match kind {
            Kind::Stored => return self.stored(),
            Kind::Backlog => return self.backlog(),
            Kind::Beside { waiting } => return self.beside(waiting),
            Kind::PostgresGrown => return self.postgres_grown(),
            _ => {}
        }
        let folder = self.folder("run")?;
        let time = Duration::from_secs_f64(self.options.seconds);
        let figures = match kind {
            Kind::Disk => disk::measure(&folder, time)?,
            Kind::Ceiling { library } => ceiling::measure(&folder, time, library)?,
            Kind::Bare { connections } => {
                let mut server = Role::start("bare", &())?;
                let address = server.hear()?;
                under_load(server.pid(), "load", &self.load(address, connections), &mut [])?
            }
            Kind::Ingest { connections } => {
                let bridge = Bridge::start(&folder, &Setup::nothing())?;
                under_load(bridge.pid(), "load", &self.load(bridge.address, connections), &mut [])?
            }
            Kind::EndToEnd { connections } => self.end_to_end(&folder, connections, false)?,
            Kind::Postgres { replicas, connections } => self.postgres(&folder, replicas, connections)?,
            Kind::ThreeTargets => self.three_targets(&folder)?,
            Kind::HotObject { delay_ms } => self.hot_object(&folder, delay_ms)?,
            Kind::Duplicates => self.end_to_end(&folder, 64, true)?,
            Kind::Stream => self.stream(&folder)?,
            Kind::Pace { rate } => self.pace(&folder, rate)?,
            Kind::Peer { script, connections, forwards } => {
                self.peer(&folder, script, connections, forwards)?
            }
            Kind::Idle => rest(&Bridge::start(&folder, &Setup::orders(UNUSED))?)?,
            Kind::Binary => BTreeMap::from([(Quantity::Size, exact(fs::metadata(binary())?.len()) / 1e6)]),
            Kind::Stored | Kind::Backlog | Kind::Beside { .. } | Kind::PostgresGrown => Figures::new(),
        };
        fs::remove_dir_all(folder)?;
        Ok(figures)
    }

    fn load(&self, address: SocketAddr, connections: u32) -> Load {
        let seconds = self.options.seconds;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of events")]
        let events = (seconds * SIGNED_A_SECOND) as u64;
        let addresses = vec![address];
        Load { addresses, connections, seconds, first: 0, events, repeating: false, one_object: false }
    }

    fn end_to_end(&self, folder: &Path, connections: u32, repeating: bool) -> Outcome<Figures> {
        let (target, address) = target(0)?;
        let bridge = Bridge::start(folder, &Setup::orders(address))?;
        let load = Load { repeating, ..self.load(bridge.address, connections) };
        under_load(bridge.pid(), "load", &load, &mut [target])
    }

    fn postgres(&self, folder: &Path, replicas: usize, connections: u32) -> Outcome<Figures> {
        let cluster = self.cluster.as_ref().ok_or("there is no PostgreSQL")?;
        let (target, address) = target(0)?;
        let setup = Setup { store: Some(cluster.database("bench")?), ..Setup::orders(address) };
        let mut bridges = Vec::new();
        for number in 0..replicas {
            let folder = folder.join(number.to_string());
            fs::create_dir_all(&folder)?;
            bridges.push(Bridge::start(&folder, &setup)?);
        }
        let pids: Vec<_> = bridges.iter().map(Bridge::pid).collect();
        let addresses: Vec<_> = bridges.iter().map(|bridge| bridge.address).collect();
        let load = Load { addresses, ..self.load(address, connections) };
        shared(&pids, Some(cluster), "load", &load, &mut [target])
    }

    /// Measures on one database for all rounds. Each round continues at the end of the previous one.
    fn postgres_grown(&mut self) -> Outcome<Figures> {
        const NAME: &str = "postgres-grown";
        const GROWN: &str = "grown";
        let (target, address) = target(0)?;
        let setup = beside_a_dead_target(address);
        let is_new = !self.filled.contains_key(NAME);
        let (stored, waiting) = (self.options.stored, self.options.waiting);
        let parts = [(stored, Fate::Delivered), (waiting, Fate::WaitingFor { target: DEAD })];
        let folder = self.filled(NAME, &setup, &parts)?;
        let cluster = self.cluster.as_ref().ok_or("there is no PostgreSQL")?;
        let url = if is_new { cluster.database(GROWN)? } else { cluster.url(GROWN) };
        let setup = Setup { store: Some(url), ..setup };
        if is_new && let Err(error) = import(&folder, &folder, &setup).and_then(|()| cluster.settle(GROWN)) {
            self.filled.remove(NAME);
            return Err(error);
        }
        let bridge = Bridge::start(&folder, &setup)?;
        let load = self.load(bridge.address, 64);
        let figures = shared(&[bridge.pid()], Some(cluster), "load", &load, &mut [target])?;
        bridge.stop()?;
        Ok(figures)
    }

    fn three_targets(&self, folder: &Path) -> Outcome<Figures> {
        let (mut targets, mut setup) = (Vec::new(), Setup { targets: Vec::new(), pepay: None, store: None });
        for name in ["orders", "stock", "books"] {
            let (target, address) = target(0)?;
            targets.push(target);
            setup.targets.push((name, address, "*"));
        }
        let bridge = Bridge::start(folder, &setup)?;
        under_load(bridge.pid(), "load", &self.load(bridge.address, 64), &mut targets)
    }

    fn hot_object(&self, folder: &Path, delay_ms: u64) -> Outcome<Figures> {
        let (target, address) = target(delay_ms)?;
        let bridge = Bridge::start(folder, &Setup::orders(address))?;
        let load = self.load(bridge.address, 64);
        let events = HOT_EVENTS / (1 + delay_ms);
        under_load(bridge.pid(), "load", &Load { one_object: true, events, ..load }, &mut [target])
    }

    fn pace(&self, folder: &Path, rate: u32) -> Outcome<Figures> {
        let (target, address) = target(0)?;
        let bridge = Bridge::start(folder, &Setup::orders(address))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of events")]
        let events = (self.options.seconds * f64::from(rate)) as u64;
        let load = Load { events, ..self.load(bridge.address, PACED_CONNECTIONS) };
        under_load(bridge.pid(), "open-loop", &load, &mut [target])
    }

    fn peer(&self, folder: &Path, script: &str, connections: u32, forwards: bool) -> Outcome<Figures> {
        let peers = self.peers.as_ref().ok_or("the Node programs are not installed")?;
        let (mut receivers, mut address) = (Vec::new(), None);
        if forwards {
            let (receiver, its_address) = target(0)?;
            receivers.push(receiver);
            address = Some(its_address);
        }
        let peer = peers.start(script, folder, address)?;
        under_load(peer.pid(), "load", &self.load(peer.address, connections), &mut receivers)
    }

    fn stream(&self, folder: &Path) -> Outcome<Figures> {
        let mut pepay = Role::start("stream", &Task { seconds: self.options.seconds })?;
        let Addresses { pepay: address, target } = pepay.hear()?;
        let setup = Setup { pepay: Some(address), ..Setup::orders(target) };
        let bridge = Bridge::start(folder, &setup)?;
        let before = proc::cpu(bridge.pid())?;
        let Streamed { events, started_ms, received } = pepay.ask(&())?;
        check_arrivals(events, &received)?;
        let cpu = proc::cpu(bridge.pid())?.saturating_sub(before).as_secs_f64() * 1e6;
        Ok(BTreeMap::from([
            (Quantity::Rate, exact(events) / seconds_between(started_ms, received.last_ms)),
            (Quantity::Cpu, cpu / exact(events)),
            (Quantity::Memory, proc::memory(bridge.pid())?.peak),
        ]))
    }

    fn stored(&mut self) -> Outcome<Figures> {
        let (target, address) = target(0)?;
        let (setup, count) = (Setup::orders(address), self.options.stored);
        let folder = self.filled("stored", &setup, &[(count, Fate::Delivered)])?;
        let bridge = Bridge::start(&folder, &setup)?;
        let mut figures = under_load(bridge.pid(), "load", &self.load(bridge.address, 64), &mut [target])?;
        figures.insert(Quantity::Start, bridge.start.as_secs_f64());
        // The bridge stops in order, since the next round continues at the end of this one.
        bridge.stop()?;
        Ok(figures)
    }

    fn backlog(&mut self) -> Outcome<Figures> {
        let (setup, count) = (Setup::orders(UNUSED), self.options.undelivered);
        let folder = self.filled("backlog", &setup, &[(count, Fate::Undelivered)])?;
        rest(&Bridge::start(&folder, &setup)?)
    }

    fn beside(&mut self, waiting: bool) -> Outcome<Figures> {
        let (target, address) = target(0)?;
        let setup = beside_a_dead_target(address);
        let folder = if waiting {
            let fate = Fate::WaitingFor { target: DEAD };
            self.filled("beside", &setup, &[(self.options.waiting, fate)])?
        } else {
            self.folder("run")?
        };
        let bridge = Bridge::start(&folder, &setup)?;
        let figures = under_load(bridge.pid(), "load", &self.load(bridge.address, 64), &mut [target])?;
        bridge.stop()?;
        Ok(figures)
    }

    /// Returns the folder of a database. The first call fills the database.
    fn filled(&mut self, name: &'static str, setup: &Setup, parts: &[(u64, Fate)]) -> Outcome<PathBuf> {
        if let Some(folder) = self.filled.get(name) {
            return Ok(folder.clone());
        }
        let count: u64 = parts.iter().map(|(count, _)| count).sum();
        report::filling(name, count, count * Bodies::new().mean() as u64);
        let folder = self.folder(name)?;
        fill(&folder, setup, parts)?;
        self.filled.insert(name, folder.clone());
        Ok(folder)
    }

    /// Creates a new folder.
    fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.scratch.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for folder in self.filled.values() {
            // If this fails, the files stay in the folder of the build.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Starts a target that responds after `delay_ms` milliseconds.
fn target(delay_ms: u64) -> Outcome<(Role, SocketAddr)> {
    let mut target = Role::start("target", &delay_ms)?;
    let address = target.hear()?;
    Ok((target, address))
}

/// Returns a setup with a target that works and one that is down. The two take different event types, so
/// the first one gets the same events however many wait for the other one.
fn beside_a_dead_target(address: SocketAddr) -> Setup {
    let mut setup = Setup::orders(address);
    setup.targets[0].2 = "commerce.*,invoice.*,invoice_payment.*";
    setup.targets.push((DEAD, UNUSED, "test.ping"));
    setup
}

fn rest(bridge: &Bridge) -> Outcome<Figures> {
    std::thread::sleep(REST);
    Ok(BTreeMap::from([
        (Quantity::Memory, proc::memory(bridge.pid())?.resident),
        (Quantity::Start, bridge.start.as_secs_f64()),
    ]))
}
