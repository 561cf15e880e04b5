//! The most memory that the process had, as Linux counts it; elsewhere it is not known.

use std::fs;

/// Begins to count anew.
pub(crate) fn reset() {
    let _ = fs::write("/proc/self/clear_refs", "5"); // where that is not allowed, the peak is an older one
}

/// Bytes at the peak since the last [`reset`].
pub(crate) fn bytes() -> Option<u64> {
    of_status(&fs::read_to_string("/proc/self/status").ok()?)
}

fn of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_as_linux_writes_it() {
        assert_eq!(of_status("VmPeak:\t 9 kB\nVmHWM:\t   12345 kB\nVmRSS:\t 1 kB\n"), Some(12_641_280));
        assert_eq!(of_status("VmRSS:\t 1 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_allocated_raises_it() {
        reset();
        let before = bytes().expect("this is Linux");
        let block = vec![1u8; 64 << 20];
        let after = bytes().expect("this is Linux");
        assert!(after >= before + (block.len() as u64) / 2, "{before} and {after}");
    }
}
