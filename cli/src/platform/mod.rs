//! What concerns the whole process: its allocator, signals, threads, processors, clock and streams.
//! The lowest layer: nothing here knows of flags, runs or commands.

#[macro_use]
pub(crate) mod console;

pub(crate) mod allocator;
pub(crate) mod clock;
pub(crate) mod peak_memory;
pub(crate) mod signals;
pub(crate) mod stdin;
pub(crate) mod threads;
pub(crate) mod topology;
