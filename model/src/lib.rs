//! Stable Diffusion 1.x and 2.x: from a folder of weights and a sentence to a picture.
//!
//! | file | what it holds |
//! |---|---|
//! | [`pipeline`] | the whole algorithm, in the order in which it runs |
//! | [`tokenizer`] | text → 77 numbers |
//! | [`prompt`] | weights inside of a text, texts of any length |
//! | [`clip`] | numbers → 77 vectors: the text encoder |
//! | [`rng`] | seed → noise, number for number as torch draws it |
//! | [`unet`] | noisy latent, time, text → the noise in it |
//! | [`samplers`] | how much of that noise is taken away at each step |
//! | [`vae`] | latent → picture, and back |
//! | [`picture`], [`photo`] | picture → PNG; picture files, other sizes, masks |
//! | [`parameters`] | the text inside a picture that says how it was made |
//! | [`checkpoint`], [`config`] | reading weights and settings, and refusing what is not understood |
//! | [`precisions`] | in which numbers the networks compute |
//! | [`layers`] | linear, convolution, norms, attention: weights beside the kernels |
//! | [`embedded`] | the small model inside the program |
//! | [`inspect`], [`random_model`] | what a folder holds and lacks; a folder with random weights to test and time with |
//! | [`shapes`] | the layers of SD 1.5 as a table, for benches |
//!
//! **Reading order for learners:** `pipeline/mod.rs` from top to bottom; then `unet/mod.rs` and the files that it names;
//! `samplers/mod.rs`; `clip/mod.rs`; `vae/mod.rs`. Each network's `forward` is its formula, line by line. The arithmetic
//! itself is in `aquatint-kernels`.
//!
//! Activations are f32 and channels-last: images `[n, h, w, c]`, tokens `[n, tokens, c]`.

pub mod checkpoint;
pub mod clip;
pub mod config;
pub mod embedded;
pub mod error;
mod files;
pub mod inspect;
pub mod layers;
pub mod parameters;
pub mod photo;
pub mod picture;
pub mod pipeline;
pub mod precisions;
pub mod prompt;
pub mod random_model;
pub mod rng;
pub mod samplers;
pub mod shapes;
pub mod tokenizer;
pub mod unet;
pub mod vae;

pub use embedded::EMBEDDED;
pub use error::{Error, ErrorKind, Result};
pub use photo::{Mask, Photo, ResizeMode};
pub use picture::{Format, Picture};
pub use pipeline::{
    Footprint, ImageToImage, Inpaint, LoadOptions, Moment, Observer, Pipeline, Progress, Snapshot, Stop,
    Task, TextToImage,
};
pub use precisions::Precisions;
pub use prompt::PromptSyntax;
pub use rng::{Generator, RandomSource};
pub use samplers::{SamplerChoice, SamplerKind, Schedule};
