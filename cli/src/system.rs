//! What is asked of the operating system and its C library: two requests before anything else happens, and a clock.

/// Keeps freed memory for the next layer.
///
/// A picture of 512×512 needs hundreds of buffers of up to 270 MB, one after the other. The GNU C library by default takes
/// each of them from the kernel and gives it back at once, and the kernel clears every page anew: 3.3 million page faults
/// for four steps and a decode, a tenth of the time. Two settings make it keep what was freed. Elsewhere this does nothing.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes two integers and only changes how later allocations are served; it is called at the very start
        // of `main`, before there is a second thread. A refused setting (return value 0) leaves the default, which is merely slower.
        let _ = unsafe { libc::mallopt(libc::M_MMAP_MAX, 0) };
        // SAFETY: as above.
        let _ = unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) };
    }
}

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
