//! The resources that a process has used, as the kernel reports them.

use std::fs;
use std::time::Duration;

use crate::Outcome;

/// The number of clock ticks of `/proc/<pid>/stat` per second. It is always 100 for user space (proc(5)).
const TICKS: u64 = 100;

/// Returns the processor time of all threads of a process so far, ended threads included.
pub fn cpu(pid: u32) -> Outcome<Duration> {
    Ok(Stat::of(pid)?.own)
}

/// Returns the processor time of a process and its children, including children that have ended and been
/// waited for.
pub fn cpu_with_children(pid: u32) -> Outcome<Duration> {
    let parent = Stat::of(pid)?;
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A child that ends during this loop is counted by its parent from then on.
    let children = pids.filter_map(|pid| Stat::of(pid).ok()).filter(|stat| stat.parent == pid);
    Ok(parent.own + parent.ended_children + children.map(|child| child.own).sum::<Duration>())
}

/// The fields that are read from `/proc/<pid>/stat`.
struct Stat {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

impl Stat {
    fn of(pid: u32) -> Outcome<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name is in parentheses and may contain any character. Field 4 is ppid; fields 14 to 17 are
        // utime, stime, cutime and cstime.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
        let fields: Vec<u64> = fields.map(|field| field.parse().unwrap_or(0)).collect();
        let field =
            |index: usize| fields.get(index).copied().ok_or("/proc/<pid>/stat is not in a known form");
        let ticks = |user, system| -> Outcome<Duration> {
            Ok(Duration::from_millis((field(user)? + field(system)?) * 1000 / TICKS))
        };
        Ok(Self { parent: u32::try_from(field(1)?)?, own: ticks(11, 12)?, ended_children: ticks(13, 14)? })
    }
}

/// The memory of a process, in MB (10^6 bytes).
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The present memory (`VmRSS`).
    pub resident: f64,
    /// The peak so far (`VmHWM`).
    pub peak: f64,
}

/// Returns the memory of a process.
pub fn memory(pid: u32) -> Outcome<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u32 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().ok()?;
        Some(f64::from(kibibytes) * 1024.0 / 1e6)
    };
    let (resident, peak) =
        megabytes("VmRSS").zip(megabytes("VmHWM")).ok_or("/proc/<pid>/status is not in a known form")?;
    Ok(Memory { resident, peak })
}

/// Returns a short description of the machine: processor, cores, memory, kernel.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let processor = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kibibytes = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kibibytes: u64 = kibibytes.trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let gibibytes = (kibibytes + (1 << 19)) >> 20;
    let version = kernel.split('-').next().unwrap_or_default().trim();
    format!("{processor}, {cores} cores, {gibibytes} GiB of memory, Linux {version}")
}
