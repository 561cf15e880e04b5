//! A run: from settings to files.

pub(crate) mod callbacks;
pub(crate) mod files;
pub(crate) mod generate;
pub(crate) mod manifest;
pub(crate) mod memory;
pub(crate) mod model;
pub(crate) mod output;
pub(crate) mod pattern;
pub(crate) mod progress;
pub(crate) mod session;
pub(crate) mod strip;
