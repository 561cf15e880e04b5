//! The pool of threads that every parallel loop of the process uses.

use aquatint_model::Error;

use crate::platform::topology;

/// More threads than any machine has cores; each would take a stack.
const MOST: usize = 1024;

/// rayon's own variable.
const VARIABLE: &str = "RAYON_NUM_THREADS";

/// Starts the pool. Without a number, `RAYON_NUM_THREADS` counts, and else there is a thread for
/// each physical core; `topology.rs` says why.
///
/// # Errors
/// `Request` if the variable is no number of threads; `Run` if the operating system has no more
/// threads.
pub fn start(threads: Option<usize>) -> Result<(), Error> {
    let threads = match (threads, std::env::var(VARIABLE)) {
        (Some(threads), _) => threads,
        (None, Ok(text)) => parse(&text)?,
        (None, Err(_)) => topology::physical_cores(),
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(|error| {
        Error::run(format_args!("{threads} threads cannot be started: {error}; choose fewer"))
    })
}

/// The variable's value; 0 means as many as there are logical CPUs, as for rayon.
fn parse(text: &str) -> Result<usize, Error> {
    let threads = text.trim().parse().ok().filter(|threads| *threads <= MOST);
    threads
        .ok_or_else(|| Error::request(format_args!("{VARIABLE} is `{text}`; expected a number up to {MOST}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_numbers_are_refused() {
        assert_eq!((parse("4").ok(), parse("0").ok(), parse("1024").ok()), (Some(4), Some(0), Some(1024)));
        for text in ["1025", "99999999999999999999", "-1", "many", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
