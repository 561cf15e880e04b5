//! CPU time, as the operating system counts it.

/// CPU time that all threads of this program have used so far. Elsewhere than on Unix: none.
pub(crate) fn cpu_seconds() -> f64 {
    #[cfg(unix)]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes one `timespec`, to which the pointer leads, and nothing else.
        let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        if done == 0 {
            return time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9;
        }
    }
    0.0
}

/// How long threads of this program were ready to run, and had no CPU. Elsewhere than on Linux:
/// none.
fn waited_seconds() -> f64 {
    let waited = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<f64>().ok() // nanoseconds on a run queue
    };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(waited).sum::<f64>() * 1e-9
}

/// Watches which share of the CPU time that it asked for this program gets.
pub(crate) struct CpuShare {
    used: f64,
    waited: f64,
}

impl CpuShare {
    /// Begins to watch.
    pub(crate) fn start() -> Self {
        Self { used: cpu_seconds(), waited: waited_seconds() }
    }

    /// Since then: 1 on a quiet machine, a half if another program takes as much as this one.
    pub(crate) fn share(&self) -> f64 {
        let (used, waited) = (cpu_seconds() - self.used, waited_seconds() - self.waited);
        if used > 0.0 { used / (used + waited.max(0.0)) } else { 1.0 }
    }
}
