//! The flags that commands share.

pub(crate) mod args;
mod mistakes;
mod other_programs;
