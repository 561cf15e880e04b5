//! Flags that several commands share, and what to say to flags that there are not; flags of one
//! command alone are in its file.

pub(crate) mod adapters;
pub(crate) mod approximations;
pub(crate) mod generate;
pub(crate) mod hires;
pub(crate) mod hub;
pub(crate) mod image;
pub(crate) mod library;
pub(crate) mod mistakes;
pub(crate) mod model;
pub(crate) mod other_programs;
pub(crate) mod precision;
pub(crate) mod run;
pub(crate) mod shard;
pub(crate) mod xl;
