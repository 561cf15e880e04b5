//! `aquatint._aquatint`: what Python's package `aquatint` calls.
//!
//! The package in `python/aquatint/` has the names of diffusers, converts pictures and arrays, and
//! fills in what is not given; this crate hands over to the library, without Python's lock while it
//! computes. Bytes cross the border: Python's stable ABI has the buffer protocol from 3.11 on, and
//! the package is for 3.10 and later, so arrays come as `(bytes, shape)` and go as `(bytearray,
//! shape)`.
//!
//! | file | what it holds |
//! |---|---|
//! | `pipeline` | `Pipeline`: models, pictures, latents |
//! | `callbacks` | what a run calls back: Python's function, Ctrl-C, latents of one's own |
//! | `picture` | `Picture`: pixels, the text of how it was made, files |
//! | `kernels`, `samplers` | for those who study them |
//! | `arrays`, `error`, `threads` | numbers, exceptions, the thread pool |

mod arrays;
mod callbacks;
mod error;
mod kernels;
mod picture;
mod pipeline;
mod samplers;
mod threads;

use pyo3::prelude::*;

/// The compiled part of the package `aquatint`.
#[pymodule]
mod _aquatint {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::kernels::{
        attention, conv2d, gelu, group_norm, isas, layer_norm, linear, nearest, output_size, rungs, silu,
        softmax, upsample_conv,
    };
    #[pymodule_export]
    use crate::picture::{Picture, png, read_parameters};
    #[pymodule_export]
    use crate::pipeline::{Pipeline, settings};
    #[pymodule_export]
    use crate::samplers::{noise, noise_levels, sampler_names};
    #[pymodule_export]
    use crate::threads::{get_num_threads, set_num_threads};

    /// The version of the package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Runs the command line program with these arguments, the first of which is its name. Returns
    /// the exit code; see `aquatint_cli::main_from`.
    #[pyfunction]
    fn main(py: Python<'_>, args: Vec<OsString>) -> u8 {
        py.detach(|| aquatint_cli::main_from(args))
    }
}
