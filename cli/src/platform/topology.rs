//! What the machine is made of, as Linux tells it in `/sys` and `/proc`: cores, caches, its name.
//!
//! **Threads default to physical cores.** Where a core runs two threads at once, both share its
//! multipliers, and a kernel that keeps them busy gains nothing from the second thread; it only
//! halves each thread's part of the caches, for which the blocks are cut. A core of an `arm64`
//! machine runs one thread. `--threads` overrides, and so does rayon's own variable
//! `RAYON_NUM_THREADS`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Cores that this program may use; at least 1. Elsewhere than on Linux: what the standard library
/// counts.
pub(crate) fn physical_cores() -> usize {
    // What a container's quota leaves may be fewer than the CPUs that it may run on.
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let siblings = |cpu| read(&format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
    count_cores(&allowed_cpus(), siblings).map_or(available, |cores| cores.min(available))
}

/// How many logical CPUs the machine has, and on how many of them this process may run.
pub(crate) fn logical_cpus() -> [usize; 2] {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let online = read("/sys/devices/system/cpu/online").map(|text| cpu_list(&text).len());
    let allowed = allowed_cpus().len();
    let allowed = if allowed == 0 { available } else { allowed };
    [online.unwrap_or(available).max(allowed), allowed]
}

/// The CPU time, in CPUs, that a control group gives to this process; `None` without a limit.
pub(crate) fn cpu_quota() -> Option<f64> {
    let of = |text: &str| {
        let (quota, period) = text.trim().split_once(' ')?;
        Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok().filter(|&period| period > 0.0)?)
    };
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim().to_owned();
    let folders = Path::new(&own).ancestors().map(|group| format!("/sys/fs/cgroup{}", group.display()));
    let limits =
        folders.filter_map(|folder| of(&read(&format!("{}/cpu.max", folder.trim_end_matches('/')))?));
    let older = || {
        let [quota, period] =
            ["quota", "period"].map(|name| read(&format!("/sys/fs/cgroup/cpu/cpu.cfs_{name}_us")));
        of(&format!("{} {}", quota?.trim(), period?.trim())).filter(|&quota| quota > 0.0)
    };
    limits
        .fold(None, |least: Option<f64>, quota| Some(least.map_or(quota, |least| least.min(quota))))
        .or_else(older)
}

/// Different sets of siblings among the CPUs; `None` if one has none, or there is no CPU.
fn count_cores(cpus: &[usize], siblings: impl Fn(usize) -> Option<String>) -> Option<usize> {
    let sets: Option<BTreeSet<String>> = cpus.iter().map(|&cpu| siblings(cpu)).collect();
    sets.map(|sets| sets.len()).filter(|&cores| cores > 0)
}

/// Numbers of the CPUs on which this process may run.
fn allowed_cpus() -> Vec<usize> {
    let status = read("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(cpu_list).unwrap_or_default()
}

/// "0-2,5" → 0, 1, 2, 5; nothing if it is not understood.
fn cpu_list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?)
    };
    text.trim()
        .split(',')
        .map(range)
        .collect::<Option<Vec<_>>>()
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect()
}

/// A level of data cache.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cache {
    /// "L1"
    pub(crate) level: String,
    /// Size of one such cache.
    pub(crate) bytes: usize,
    /// CPUs that share it.
    pub(crate) shared_by: usize,
}

impl Cache {
    /// The bytes that `threads` threads, each on its own core, have together.
    pub(crate) fn capacity(&self, threads: usize) -> usize {
        self.bytes * threads.div_ceil(self.shared_by)
    }
}

/// The data caches of the first CPU, the smallest first; typical ones where the system does not
/// tell.
pub(crate) fn caches() -> Vec<Cache> {
    let caches = caches_in("/sys/devices/system/cpu/cpu0/cache");
    if !caches.is_empty() {
        return caches;
    }
    let typical = [("L1", 32 << 10), ("L2", 1 << 20)];
    typical.map(|(level, bytes)| Cache { level: level.into(), bytes, shared_by: 1 }).into()
}

fn caches_in(folder: &str) -> Vec<Cache> {
    let cache = |index: usize| {
        let get = |name| read(&format!("{folder}/index{index}/{name}"));
        let (kind, level) = (get("type")?, get("level")?);
        let bytes = get("size")?.strip_suffix('K')?.parse::<usize>().ok()? << 10;
        let shared_by = get("shared_cpu_list").map_or(1, |list| cpu_list(&list).len().max(1));
        Some((kind != "Instruction").then(|| Cache { level: format!("L{level}"), bytes, shared_by }))
    };
    let mut caches: Vec<Cache> = (0..).map_while(cache).flatten().collect();
    caches.sort_by_key(|cache| cache.bytes);
    caches
}

/// What the CPU calls itself.
pub(crate) fn cpu_name() -> String {
    let info = read("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_are_one_core() {
        let siblings = |cpu: usize| Some(format!("{},{}", cpu % 4, cpu % 4 + 4));
        assert_eq!(count_cores(&[0, 1, 2, 3, 4, 5, 6, 7], siblings), Some(4));
        assert_eq!(count_cores(&[1, 5], siblings), Some(1));
        assert_eq!(count_cores(&[1, 6], siblings), Some(2));
        assert_eq!(count_cores(&[], siblings), None);
        assert_eq!(count_cores(&[0, 1], |cpu| (cpu == 0).then(|| "0".into())), None);
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(cpu_list(" 0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(cpu_list("7"), [7]);
        assert_eq!(cpu_list("0-x"), [0usize; 0]);
        assert_eq!(cpu_list(""), [0usize; 0]);
    }

    #[test]
    fn caches_are_found_and_those_for_instructions_are_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files =
            [("Data", "1", "48K", "0"), ("Instruction", "1", "32K", "0"), ("Unified", "2", "2048K", "0-1")];
        for (i, (kind, level, size, shared)) in files.into_iter().enumerate() {
            let index = folder.path().join(format!("index{i}"));
            fs::create_dir(&index).expect("writable");
            for (name, text) in
                [("type", kind), ("level", level), ("size", size), ("shared_cpu_list", shared)]
            {
                fs::write(index.join(name), format!("{text}\n")).expect("writable");
            }
        }
        let caches = caches_in(folder.path().to_str().expect("a plain name"));
        assert_eq!(
            caches.iter().map(|c| (c.level.as_str(), c.bytes)).collect::<Vec<_>>(),
            [("L1", 49152), ("L2", 2 << 20)]
        );
        assert_eq!(
            (caches[0].capacity(4), caches[1].capacity(1), caches[1].capacity(4)),
            (4 * 49152, 2 << 20, 4 << 20)
        );
    }

    #[test]
    fn this_machine_has_a_core_a_cache_and_a_name() {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        assert!((1..=cpus).contains(&physical_cores()), "{} cores of {cpus} CPUs", physical_cores());
        let sizes: Vec<_> = caches().iter().map(|cache| cache.bytes).collect();
        assert!(sizes[0] >= 8 << 10 && sizes.is_sorted(), "{sizes:?}");
        assert!(cpu_name().chars().any(char::is_alphanumeric), "`{}`", cpu_name());
    }
}
