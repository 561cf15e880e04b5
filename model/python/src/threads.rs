//! The thread pool of the process, as the command line starts it: a thread for each physical core
//! that the process may use, within a container's quota.
//!
//! It starts with the first computation, so that a number can be chosen before. A process that is
//! forked after that has no threads, and a computation in it would wait for ever; it is refused.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::error::{RunError, expect, raised};

/// The process that started the pool.
static OWNER: Mutex<Option<u32>> = Mutex::new(None);

/// Starts the pool if it is not there yet.
///
/// # Errors
/// If it cannot be started, or is that of the process from which this one was forked.
pub(crate) fn ensure() -> PyResult<()> {
    started(None).map(drop)
}

/// Whether this call started it.
fn started(threads: Option<usize>) -> PyResult<bool> {
    let mut owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    match *owner {
        Some(pid) if pid == process => return Ok(false),
        Some(pid) => {
            return Err(RunError::new_err(format!(
                "this process was forked from {pid}, whose threads it does not have; start processes with \
                 `spawn` or `forkserver`, or before the first picture"
            )));
        }
        None => aquatint_cli::start_threads(threads).map_err(raised)?,
    }
    *owner = Some(process);
    Ok(true)
}

/// Chooses how many threads compute, before the first computation. Pictures do not depend on it.
#[pyfunction]
pub(crate) fn set_num_threads(threads: usize) -> PyResult<()> {
    expect((1..=1024).contains(&threads), || format!("{threads} threads; expected 1 to 1024"))?;
    let fits = started(Some(threads))? || rayon::current_num_threads() == threads;
    expect(fits, || {
        format!(
            "{} threads compute already; choose their number before the first model is loaded",
            rayon::current_num_threads()
        )
    })
}

/// How many threads compute. Starts them.
#[pyfunction]
pub(crate) fn get_num_threads() -> PyResult<usize> {
    ensure()?;
    Ok(rayon::current_num_threads())
}
