//! Where a model comes from: its files, their formats and names, its settings, and a cursor that
//! reads weights by name.
//!
//! ```text
//! component.rs      the table of components: text encoder, UNet, VAE, …
//! model.rs          a model: where its settings are, and the tensors of each network
//! folder.rs         unet/ → the file, its fp16 variant, or the shards that an index lists
//! tensor_file.rs    one file, memory-mapped; safetensors.rs and torch_file.rs read its header,
//!                   the latter by way of zip.rs and pickle.rs
//! tensor.rs         a stored tensor, and its numbers in the types that kernels pack
//! found.rs          a network's name → a stored tensor and what is done to it: slice, scale, adapters
//! naming.rs         how a file spells those names; ldm.rs has LDM's
//! taesd.rs          the tiny VAE's files
//! family.rs         which published model a single file is like; published.rs has their settings
//! account.rs        what became of each tensor
//! hub/              models on the Hub of Hugging Face, and in the cache of its libraries
//! library.rs        the models on this machine
//! lazy.rs           a network, loaded when it is needed
//! packed.rs         packed weights that are kept when a network is loaded again
//! reader.rs         the cursor: w.at("mid_block").at("resnets.0").conv("conv1.weight", [64, 64, 3, 3])
//! schema.rs         the same reads without a file: which tensors does an architecture need?
//! ```
//!
//! Layers ask for the tensor that they need, by name and shape; nothing else in the project lists
//! tensor names. The file's own pages are given back as soon as a tensor is packed, so a model is
//! never in memory twice.
//!
//! Read next: [`crate::networks::layers`], where the reads happen.

mod account;
pub mod adapters;
mod checkpoint;
mod component;
pub mod config;
pub mod embedded;
mod family;
pub(crate) mod files;
mod folder;
mod found;
mod header;
pub mod hub;
pub(crate) mod lazy;
pub mod ldm;
pub mod library;
mod model;
pub mod model_id;
mod naming;
pub(crate) mod packed;
mod pickle;
pub mod published;
mod reader;
mod safetensors;
mod schema;
mod spec;
mod taesd;
mod tensor;
mod tensor_file;
mod torch_file;
mod zip;

pub use account::{Account, accounts};
pub use checkpoint::Checkpoint;
pub use component::{
    COMPONENTS, Component, SCHEDULER, TEXT_ENCODER, TEXT_ENCODER_2, TEXT_ENCODERS, TOKENIZER, TOKENIZER_2,
    UNET, VAE,
};
pub(crate) use family::foreign;
pub use folder::WeightFiles;
pub use found::{FoundTensor, TensorSource, WeightDelta};
pub use model::{ModelSource, ModelSpec, read_index};
pub use model_id::ModelId;
pub use naming::Naming;
pub use reader::{Table, Weights};
pub use schema::{Mismatch, Schema};
pub use spec::{Role, TensorKind, TensorSpec, Usage};
pub use tensor::{Elements, StoredTensor, StoredType, Visitor};
pub use tensor_file::TensorFile;

#[cfg(test)]
mod tests;
