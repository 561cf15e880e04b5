//! What concerns the whole process: its allocator, signals, processors and clock.

pub(crate) mod allocator;
pub(crate) mod signals;
pub(crate) mod system;
pub(crate) mod topology;
