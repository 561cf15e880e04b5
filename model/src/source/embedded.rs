//! The model inside the program: small enough to be compiled in, so that the binary alone can make
//! a picture.
//!
//! `model/embedded/` is a folder of the same layout as every other Stable Diffusion model, and
//! diffusers reads it too. Its files are part of the program, and `files.rs` finds them under the
//! name [`EMBEDDED`]:
//!
//! ```no_run
//! use aquatint_model::{EMBEDDED, LoadOptions, Pipeline, TextToImage};
//!
//! let pipeline = Pipeline::load(EMBEDDED, &LoadOptions::default())?;
//! let request = TextToImage { prompt: "a penguin in the snow".into(), ..pipeline.defaults() };
//! pipeline.text_to_image(&request, &mut |_| {})?.save("penguin.png")?;
//! # Ok::<(), aquatint_model::Error>(())
//! ```
//!
//! It knows emoji art and nothing else: `model/embedded/README.md` says what it can draw,
//! `model/training/` how it was made.

/// In place of a folder's path: the model that is compiled into the program. Angle brackets are no
/// usual part of a file name.
pub const EMBEDDED: &str = "<embedded>";

/// Lists files of `model/embedded/` with their contents.
macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../embedded/", $name)))),*]
    };
}

/// Name, relative to the folder, and contents.
pub(crate) static FILES: &[(&str, &[u8])] = embed![
    "generation_config.json",
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];
