//! Stable Diffusion 1.x, 2.x and XL: from a folder of weights and a sentence to a picture.
//!
//! | file | what it holds |
//! |---|---|
//! | [`generate`] | the whole algorithm, in the order in which it runs |
//! | [`text`] | text → 77 numbers; weights inside of a text, texts of any length |
//! | [`networks`] | CLIP (ids → 77 vectors), UNet (the noise in a latent), VAE (latent ↔ image) |
//! | [`rng`] | seed → noise, number for number as torch draws it |
//! | [`samplers`] | how much of that noise is taken away at each step |
//! | [`image`] | image files, sizes, masks; the parameters inside a file |
//! | [`source`] | reading weights and settings, and refusing what is not understood |
//! | [`precisions`] | in which numbers the networks compute |
//! | [`tools`] | what a folder holds and lacks; random weights; layer shapes; the forward process |
//!
//! **Reading order for learners:** `generate/mod.rs` from top to bottom; then
//! `networks/unet/mod.rs` and the files that it names; `samplers/mod.rs`; `networks/clip/mod.rs`;
//! `networks/vae/mod.rs`. Each network's `forward` is its formula, line by line. The arithmetic
//! itself is in `aquatint-kernels`.
//!
//! Activations are channels-last: images `[n, h, w, c]`, tokens `[n, tokens, c]`.

pub mod error;
pub mod generate;
mod guard;
pub mod image;
pub mod input_file;
pub mod networks;
pub mod precisions;
pub mod rng;
pub mod samplers;
pub mod source;
pub mod text;
pub mod tools;
pub mod whole_file;

pub use self::image::{Format, Image, ImageFile, Mask, ResizeMode};
pub use error::{Error, ErrorKind, Result};
pub use generate::{
    Callbacks, Footprint, ImageToImage, Inpaint, Interrupt, LoadOptions, Pipeline, Progress, RunCheckpoint,
    StepInfo, Task, TextToImage,
};
pub use precisions::Precisions;
pub use rng::{Generator, RandomSource};
pub use samplers::{SamplerChoice, SamplerKind, Schedule};
pub use source::embedded::EMBEDDED;
pub use source::{ModelSource, ModelSpec};
pub use text::prompt::PromptSyntax;
