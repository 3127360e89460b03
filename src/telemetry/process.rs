//! The metrics of this process by the operating system, under the names of Prometheus' client
//! libraries. They are read from `/proc` (proc(5)); there are none without it.

use std::fmt::Write as _;
use std::fs;

/// Returns the metrics of this process as Prometheus text; empty without `/proc`.
pub(super) fn render() -> String {
    let mut text = String::new();
    let Some(Stat { cpu_ticks, start_ticks }) =
        fs::read_to_string("/proc/self/stat").ok().and_then(|stat| Stat::read(&stat))
    else {
        return text;
    };
    let seconds = |ticks: u64| to_seconds(ticks, rustix::param::clock_ticks_per_second());
    let started = fs::read_to_string("/proc/stat").ok().and_then(|stat| booted_at(&stat));
    let started = started.map(|booted| to_float(booted) + seconds(start_ticks));
    let memory = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    let open = open.and_then(|open| u64::try_from(open).ok()).map(to_float);
    let metrics = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Processor time that the process has used",
            Some(seconds(cpu_ticks)),
        ),
        ("process_resident_memory_bytes", "gauge", "Resident memory", kibibytes(&memory, "VmRSS:")),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory", kibibytes(&memory, "VmSize:")),
        ("process_open_fds", "gauge", "Open file descriptors", open),
        ("process_max_fds", "gauge", "Most file descriptors that may be open", most_files(&limits)),
        ("process_start_time_seconds", "gauge", "When the process started, in Unix seconds", started),
    ];
    for (name, kind, help, value) in metrics {
        if let Some(value) = value {
            // Writing into a string does not fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    }
    text
}

/// The fields of `/proc/self/stat` that the metrics need.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Processor time of user and system, in clock ticks.
    cpu_ticks: u64,
    /// Clock ticks between boot and the start of the process.
    start_ticks: u64,
}

impl Stat {
    fn read(stat: &str) -> Option<Self> {
        // The second field is a name in parentheses, which may contain any character; the third
        // field follows it.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self { cpu_ticks: number(14)? + number(15)?, start_ticks: number(22)? })
    }
}

/// Returns when the machine was booted, in Unix seconds.
fn booted_at(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn kibibytes(status: &str, field: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(to_float(kibibytes << 10))
}

fn most_files(limits: &str) -> Option<f64> {
    let values = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    values.split_whitespace().next()?.parse::<u64>().ok().map(to_float)
}

fn to_seconds(ticks: u64, a_second: u64) -> f64 {
    to_float(ticks) / to_float(a_second.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
const fn to_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 4 0 12345 1000 20";
        assert_eq!(Stat::read(stat), Some(Stat { cpu_ticks: 300, start_ticks: 12345 }));
        assert_eq!(Stat::read("7 (a) S 1"), None);
        assert_eq!(Stat::read(""), None);
    }

    #[test]
    fn sizes_limits_and_the_time_of_boot_are_read() {
        assert_eq!(kibibytes("VmSize:\t 8 kB\nVmRSS:\t   4 kB\n", "VmRSS:"), Some(4096.0));
        assert_eq!(kibibytes("VmRSS:\t 4 MB\n", "VmRSS:"), None);
        assert_eq!(
            most_files("Max open files            1024                 4096                 files\n"),
            Some(1024.0)
        );
        assert_eq!(
            most_files("Max open files            unlimited            unlimited            files\n"),
            None
        );
        assert_eq!(booted_at("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_is_shown() {
        let text = render();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_start_time_seconds ",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            assert!(value.is_some_and(|value| value.parse::<f64>().unwrap() >= 0.0), "{name} in\n{text}");
        }
    }
}
