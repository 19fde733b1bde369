//! What the kernel says of a process.

use std::collections::BTreeMap;
use std::time::Duration;

/// A field of `/proc/PID/status`.
pub(crate) fn status(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

/// Resident memory in KiB.
pub(crate) fn rss_kib(pid: i32) -> i64 {
    status(pid, "VmRSS").trim_end_matches(" kB").parse().unwrap()
}

/// Threads.
pub(crate) fn threads(pid: i32) -> usize {
    status(pid, "Threads").parse().unwrap()
}

/// Open descriptors by number, and what they are; none where /proc does not tell us: the roles are not dumpable, so only
/// root may look.
pub(crate) fn descriptors(pid: i32) -> Option<BTreeMap<u64, String>> {
    let list = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let one = |entry: std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).map(|path| path.display().to_string()).unwrap_or_default();
        (entry.file_name().to_str().unwrap().parse().unwrap(), target)
    };
    Some(list.map(|entry| one(entry.unwrap())).collect())
}

/// Processor time used so far, by all threads.
pub(crate) fn cpu(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which may hold anything: fields 14 and 15 of proc_pid_stat(5), in clock ticks, 100 a second.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Where the daemon that lives in `dir` shows its metrics.
pub(crate) fn metrics_addr(dir: &std::path::Path) -> String {
    let text = std::fs::read_to_string(dir.join("passportd.toml")).unwrap();
    let config: toml::Table = text.parse().unwrap();
    config["server"]["metrics_addr"].as_str().unwrap().to_owned()
}
