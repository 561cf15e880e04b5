//! The pool of threads that every parallel loop of the process uses.

use aquatint_model::Error;

use crate::platform::topology;

/// Starts the pool. Without a number, `RAYON_NUM_THREADS` counts, and else there is a thread for each
/// physical core; `topology.rs` says why.
///
/// # Errors
/// If the operating system has no more threads.
pub(crate) fn start(threads: Option<usize>) -> Result<(), Error> {
    // 0 is rayon's own rule.
    let chosen_by_rayon = std::env::var_os("RAYON_NUM_THREADS").map(|_| 0);
    let threads = threads.or(chosen_by_rayon).unwrap_or_else(topology::physical_cores);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(Error::run)
}
