//! The flags that commands share.

pub(crate) mod args;
