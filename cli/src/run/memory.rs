//! Does it fit into memory? Asked before the model is loaded, because an allocation that fails ends
//! the program without a word. What is free is asked only then: later the weights would count
//! twice.

use std::fs;
use std::path::{Path, PathBuf};

use aquatint_model::generate::LARGEST_SIDE;
use aquatint_model::{Error, Footprint, TextToImage};

/// Bytes that may be used, in place of what the operating system says is free.
const VARIABLE: &str = "AQUATINT_MEMORY";

/// The bytes that `together` pictures of a request need, of `free` ones.
///
/// # Errors
/// `Request` if they are more than there are, with what would fit.
pub(crate) fn check(
    footprint: &Footprint,
    request: &TextToImage,
    together: usize,
    free: Option<u64>,
) -> Result<u64, Error> {
    if request.width.max(request.height) > LARGEST_SIDE {
        return Ok(0); // refused for another reason
    }
    let needed = footprint.bytes(request, together);
    match free {
        Some(free) if needed > free => Err(Error::request(refusal(footprint, request, together, free))),
        _ => Ok(needed),
    }
}

/// Whether `together` pictures of a request fit into memory only if the VAE works in strips.
pub(crate) fn demands_vae_tiling(
    footprint: &Footprint,
    request: &TextToImage,
    together: usize,
    free: Option<u64>,
) -> bool {
    let bytes = |vae_tiling| footprint.bytes(&TextToImage { vae_tiling, ..request.clone() }, together);
    let fits = |vae_tiling| free.is_none_or(|free| bytes(vae_tiling) <= free);
    !request.vae_tiling && request.width.max(request.height) <= LARGEST_SIDE && !fits(false) && fits(true)
}

/// What is said of it.
pub(crate) const VAE_TILING: &str = "memory is short: the VAE works in strips, which takes longer";

/// For commands that need the VAE alone: whether it must work in strips on a picture of this size,
/// which is so if `vae_tiling` says it.
///
/// # Errors
/// `Request` if there is not enough memory either way.
pub(crate) fn check_vae(
    footprint: &Footprint,
    [width, height]: [usize; 2],
    vae_tiling: bool,
) -> Result<bool, Error> {
    if width.max(height) > LARGEST_SIDE {
        return Ok(vae_tiling); // refused for another reason
    }
    let Some(free) = free()? else { return Ok(vae_tiling) };
    let needed = |vae_tiling| footprint.vae_bytes([width, height], vae_tiling);
    if !vae_tiling && needed(false) <= free {
        return Ok(false);
    }
    if needed(true) > free {
        return Err(Error::request(format_args!(
            "{width}×{height} pixels: at least {} of memory would be needed, and {} are free; choose a smaller picture (or say what may be \
             used, in bytes, with {VARIABLE})",
            gigabytes(needed(true)),
            gigabytes(free)
        )));
    }
    if !vae_tiling {
        inform!("{VAE_TILING}");
    }
    Ok(true)
}

/// What is lacking, and what to do.
fn refusal(footprint: &Footprint, request: &TextToImage, together: usize, free: u64) -> String {
    let TextToImage { width, height, .. } = request;
    let needed = gigabytes(footprint.bytes(request, together));
    let pictures = if together > 1 { format!("{together} pictures") } else { "a picture".into() };
    let advice = if footprint.weights() > free {
        format!("the weights alone are {}; choose a smaller model", gigabytes(footprint.weights()))
    } else if together > 1 && footprint.bytes(request, 1) <= free {
        "choose a smaller --batch-size".into()
    } else {
        let fits = |eighths: &usize| {
            let [width, height] = [width, height].map(|side| (side * eighths / 64 / 8 * 8).max(8));
            footprint.bytes(&TextToImage { width, height, ..request.clone() }, 1) <= free
        };
        match (1..64).rev().find(fits) {
            Some(part) => {
                let [width, height] = [width, height].map(|side| (side * part / 64 / 8 * 8).max(8));
                format!("choose a smaller size, {width}×{height} would fit")
            }
            None => "close other programs".into(),
        }
    };
    format!(
        "{pictures} of {width}×{height}: about {needed} of memory would be needed, and {} are free; {advice} (or say what may be used, in bytes, \
         with {VARIABLE})",
        gigabytes(free)
    )
}

/// Bytes that are free for this program: what the user says, or what Linux does. `None` elsewhere.
///
/// # Errors
/// `Request` if what the user says is no number.
pub(crate) fn free() -> Result<Option<u64>, Error> {
    if let Ok(text) = std::env::var(VARIABLE) {
        let bytes = text.parse().map(Some);
        return bytes
            .map_err(|_| Error::request(format_args!("{VARIABLE} is `{text}`; expected a number of bytes")));
    }
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| free_of(&text));
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let all = machine.into_iter().chain(free_in_cgroups()).chain(free_address_space(&limits, &pages));
    Ok(all.min())
}

/// What the groups leave of their memory to which this process belongs: a container, a systemd
/// unit, a batch system's job.
pub(crate) fn free_in_cgroups() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let folders = cgroup_folders(&groups);
    let read = |folder: &Path, name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let version_2 = folders.iter().filter_map(|folder| {
        let [limit, used, kinds] =
            ["memory.max", "memory.current", "memory.stat"].map(|name| read(folder, name));
        free_in_container(&limit, &used, &kinds)
    });
    let version_1 = folders.iter().filter_map(|folder| {
        let [limit, used, kinds] =
            ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"].map(|name| read(folder, name));
        free_in_container(&limit, &used, &kinds)
    });
    version_2.chain(version_1).min()
}

/// The folders of the groups in a text like `0::/system.slice/job`, and of those around them. In a
/// container the path may be that of the host, and the group is found at the top.
fn cgroup_folders(groups: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                Path::new("/sys/fs/cgroup/memory")
            }
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        folders.extend(own.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_owned));
    }
    if folders.is_empty() {
        folders.push("/sys/fs/cgroup".into());
    }
    folders
}

/// What `ulimit -v` leaves, by the texts of `/proc/self/limits` and, in pages, `/proc/self/statm`;
/// `None` without a limit.
fn free_address_space(limits: &str, pages: &str) -> Option<u64> {
    const PAGE: u64 = 4096; // where pages are larger, less is counted as used
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = limit.split_whitespace().next()?.parse().ok()?;
    let used: u64 = pages.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(used * PAGE))
}

/// Groups of the first version write a number of this size where there is no limit.
const UNLIMITED: u64 = 1 << 60;

/// What is left of a group's `memory.max`; `None` if that is `max`. Pages of files count as used in
/// `memory.current`, but give way when memory is short; `memory.stat` says how many they are.
fn free_in_container(limit: &str, used: &str, kinds: &str) -> Option<u64> {
    let [limit, used] = [limit, used].map(|text| text.trim().parse::<u64>().ok());
    let limit = limit.filter(|&limit| limit < UNLIMITED);
    let pages = |key| {
        let bytes = kinds.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        bytes.and_then(|bytes| bytes.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let files = pages("inactive_file") + pages("active_file");
    Some(limit?.saturating_sub(used?.saturating_sub(files)))
}

/// `MemAvailable` and `SwapFree` of /proc/meminfo, which are in kB.
fn free_of(meminfo: &str) -> Option<u64> {
    let swap = kilobytes(meminfo, "SwapFree").unwrap_or(0);
    Some(1024 * (kilobytes(meminfo, "MemAvailable")? + swap))
}

/// Bytes of the whole machine; `None` elsewhere than on Linux.
pub(crate) fn total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&text, "MemTotal").map(|size| 1024 * size)
}

/// The number of a line of /proc/meminfo, which is in kB.
fn kilobytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// "2.4 GB", or "31 MB".
pub(crate) fn gigabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_what_linux_says() {
        let text = "MemTotal:       24000000 kB\nMemFree:  100 kB\nMemAvailable:   2000 kB\nSwapFree:          24 kB\n";
        assert_eq!(free_of(text), Some(1024 * 2024));
        assert_eq!(free_of("MemTotal: 1 kB"), None);
    }

    #[test]
    fn files_that_a_container_has_read_are_free_memory() {
        let kinds = "anon 200\nfile 700\ninactive_file 400\nactive_file 100\nworkingset_activate_file 9\n";
        assert_eq!(free_in_container("1000\n", "900\n", kinds), Some(600));
        assert_eq!(free_in_container("1000\n", "300\n", kinds), Some(1000), "not more than the limit");
        assert_eq!(free_in_container("1000\n", "1100\n", ""), Some(0));
        assert_eq!(free_in_container("max\n", "900\n", kinds), None);
        assert_eq!(free_in_container("9223372036854771712\n", "900\n", kinds), None);
        assert_eq!(free_in_container("", "", ""), None);
    }

    #[test]
    fn groups_are_looked_for_from_the_inside_out() {
        let names = |text| cgroup_folders(text).iter().map(|f| f.display().to_string()).collect::<Vec<_>>();
        let root = "/sys/fs/cgroup";
        assert_eq!(names("0::/a/b\n"), [format!("{root}/a/b"), format!("{root}/a"), root.into()]);
        assert_eq!(names("0::/\n"), [format!("{root}/")]);
        assert_eq!(
            names("5:cpu:/x\n4:memory,pids:/x\n"),
            [format!("{root}/memory/x"), format!("{root}/memory")]
        );
        assert_eq!(names(""), [root]);
    }

    #[test]
    fn address_space_that_is_limited_counts() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax address space         8192000    unlimited    bytes\n";
        assert_eq!(free_address_space(limits, "1000 20 3\n"), Some(8_192_000 - 4_096_000));
        assert_eq!(free_address_space(limits, "9000 20 3\n"), Some(0));
        assert_eq!(free_address_space("Max address space   unlimited   unlimited   bytes\n", "1000"), None);
    }
}
