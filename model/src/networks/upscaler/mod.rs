//! Upscalers: small convolutional networks that make a picture larger, ESRGAN and its relatives.
//!
//! ```text
//! rrdbnet.rs   RRDBNet: ESRGAN, BSRGAN, Real-ESRGAN (x4, x2, x1), hundreds of trained models
//! srvgg.rs     SRVGGNetCompact: a chain of convolutions, ten times faster
//! naming.rs    which of them a file holds; spelling.rs: how it spells their tensors
//! tiles.rs     a large picture in tiles that overlap
//! ```
//!
//! They see red, green and blue in 0..1 and know nothing of prompts or noise. Files are torch's
//! pickles (`.pth`, read without executing them) or safetensors.
//!
//! Source: Wang et al., *ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks* (2018),
//! and *Real-ESRGAN* (2021).

mod naming;
mod rrdbnet;
mod spelling;
mod srvgg;
mod tiles;

use std::path::{Path, PathBuf};

use aquatint_kernels::Isa;
use aquatint_tensor::Tensor;

pub use tiles::Tiles;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::precisions::Precisions;
use crate::source::Checkpoint;
use naming::Kind;
use rrdbnet::RrdbNet;
use srvgg::SrvggNetCompact;

/// A loaded upscaler.
pub struct UpscaleModel {
    path: PathBuf,
    network: Network,
    scale: usize,
}

enum Network {
    Rrdb(Box<RrdbNet>),
    Srvgg(Box<SrvggNetCompact>),
}

impl UpscaleModel {
    /// Loads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is no upscaler of these two architectures with three channels.
    pub fn open(path: impl AsRef<Path>, precision: Precisions) -> Result<Self> {
        let path = path.as_ref();
        let file = Checkpoint::from_files(&[path.to_owned()])?;
        let found = naming::find(&file).map_err(|reason| Error::in_file(path, reason))?;
        let weights = file.weights().for_precision(precision);
        let weights = match found.prefix.strip_suffix('.') {
            Some(prefix) => weights.at(prefix),
            None => weights,
        };
        let (network, scale) = match &found.kind {
            Kind::Rrdb(config) => (Network::Rrdb(Box::new(RrdbNet::load(&weights, config)?)), config.scale()),
            Kind::Srvgg(config) => {
                (Network::Srvgg(Box::new(SrvggNetCompact::load(&weights, config)?)), config.scale)
            }
        };
        let used = file.used();
        let unused = |name: &&str| name.starts_with(&found.prefix) && !used.contains(*name);
        if let Some(name) = file.names().find(unused) {
            return Err(Error::in_file(
                path,
                format_args!("the upscaler has a tensor `{name}`, which is of no layer that is known here"),
            ));
        }
        Ok(Self { path: path.to_owned(), network, scale })
    }

    /// How many times larger a picture becomes.
    pub fn scale(&self) -> usize {
        self.scale
    }

    /// By which name it goes: that of the file, without its ending.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The picture, `scale` times larger.
    ///
    /// # Errors
    /// If the network made NaN or infinity of it.
    pub fn upscale(&self, isa: Isa, picture: &Image, tiles: Tiles) -> Result<Image> {
        tiles.apply(picture, self.scale, |x| {
            let y = self.forward(isa, x);
            match y.as_slice().iter().all(|x| x.is_finite()) {
                true => Ok(y),
                false => Err(Error::not_finite(format!("the upscaler `{}`", self.path.display()))),
            }
        })
    }

    /// `x: [1, h, w, 3]` in 0..1 → `[1, scale·h, scale·w, 3]`, about 0..1.
    pub fn forward(&self, isa: Isa, x: Tensor<f32, 4>) -> Tensor<f32, 4> {
        match &self.network {
            Network::Rrdb(network) => network.forward(isa, x),
            Network::Srvgg(network) => network.forward(isa, x),
        }
    }
}
