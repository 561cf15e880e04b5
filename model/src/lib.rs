//! aquatint

mod error;
mod rng;

pub use error::{Error, ErrorKind, Result};
pub use rng::Generator;
