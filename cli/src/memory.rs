//! Does it fit into memory? Asked before the model is loaded, because an allocation that fails ends the program without a word.

use std::fs;

use aquatint_model::pipeline::LARGEST_SIDE;
use aquatint_model::{Error, Footprint, TextToImage};

/// Bytes that may be used, in place of what the operating system says is free.
const VARIABLE: &str = "AQUATINT_MEMORY";

/// The bytes that `together` pictures of a request need.
///
/// # Errors
/// `Request` if they are more than there are, with what would fit.
pub(crate) fn check(footprint: &Footprint, request: &TextToImage, together: usize) -> Result<u64, Error> {
    if request.width.max(request.height) > LARGEST_SIDE {
        return Ok(0); // refused for another reason
    }
    let needed = footprint.bytes(request, together);
    match available()? {
        Some(free) if needed > free => Err(Error::request(refusal(footprint, request, together, free))),
        _ => Ok(needed),
    }
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
fn available() -> Result<Option<u64>, Error> {
    if let Ok(text) = std::env::var(VARIABLE) {
        let bytes = text.parse().map(Some);
        return bytes
            .map_err(|_| Error::request(format_args!("{VARIABLE} is `{text}`; expected a number of bytes")));
    }
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| free_of(&text));
    // In a container its limit counts as well.
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let container =
        number("memory.max").zip(number("memory.current")).map(|(max, now)| max.saturating_sub(now));
    Ok(machine.into_iter().chain(container).min())
}

/// `MemAvailable` and `SwapFree` of /proc/meminfo, which are in kB.
fn free_of(meminfo: &str) -> Option<u64> {
    let kilobytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(1024 * (kilobytes("MemAvailable")? + kilobytes("SwapFree").unwrap_or(0)))
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
}
