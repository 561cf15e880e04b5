//! What is asked of the operating system: a request before anything else happens, and a clock.

/// Ends the program quietly when nobody reads its output any more, as in `aquatint inspect sd15 | head -1`.
///
/// Rust's runtime ignores the signal that says so, and the next `println!` would panic.
pub(crate) fn end_when_output_is_closed() {
    #[cfg(unix)]
    // SAFETY: restores the default action of one signal, at the very start of `main`, before there is a second thread.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

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
