//! Whole networks of a model folder: text encoder, UNet step with guidance, VAE decode and encode,
//! a picture from prompt to pixels.
//!
//! Sizes are those for which the model was trained. Each network is loaded when it is due and
//! dropped after it, so that the memory of one is enough. The text encoder's precision is that in a
//! pipeline. Operations are counted for Stable Diffusion 1.5 only.

use std::path::Path;

use aquatint_kernels::Isa;
use aquatint_model::networks::clip::{ClipTextConfig, ClipTextModel};
use aquatint_model::networks::unet::{UNet2DConditionModel, UNetConfig};
use aquatint_model::networks::vae::{Decoder, Encoder, VaeConfig};
use aquatint_model::source::{Checkpoint, Component, TEXT_ENCODER, UNET, VAE};
use aquatint_model::tools::shapes;
use aquatint_model::{Error, LoadOptions, Pipeline, Precisions, TextToImage};
use aquatint_tensor::Tensor;

use super::cases::{Run, matches, name};
use super::probe::Probe;
use super::report::Row;
use super::timing::{Timing, measure};

/// What all stages share.
pub(super) struct Stages<'a> {
    pub(super) folder: &'a Path,
    pub(super) isa: Isa,
    /// Of the large products in UNet and VAE.
    pub(super) precision: Precisions,
    pub(super) threads: usize,
    pub(super) filter: &'a [String],
}

/// A network at the size for which it was trained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Network {
    TextEncoder,
    UnetStep,
    VaeDecode,
    VaeEncode,
}

const TOKENS: usize = 77;

impl Network {
    const ALL: [Self; 4] = [Self::TextEncoder, Self::UnetStep, Self::VaeDecode, Self::VaeEncode];

    /// In the table, and for filters.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TextEncoder => TEXT_ENCODER.title,
            Self::UnetStep => "UNet step",
            Self::VaeDecode => "VAE decode",
            Self::VaeEncode => "VAE encode",
        }
    }

    /// By the definition, of Stable Diffusion 1.5.
    fn gflop(self) -> f64 {
        match self {
            Self::TextEncoder => shapes::TEXT_GFLOP,
            Self::UnetStep => shapes::UNET_GFLOP,
            Self::VaeDecode => shapes::DECODE_GFLOP,
            Self::VaeEncode => shapes::ENCODE_GFLOP,
        }
    }
}

/// The configs of a folder.
pub(super) struct Configs {
    text_encoder: ClipTextConfig,
    unet: UNetConfig,
    vae: VaeConfig,
}

impl Configs {
    /// # Errors
    /// If one of them is missing, or says what is not supported.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self {
            text_encoder: ClipTextConfig::open(&TEXT_ENCODER.config_path(folder))?,
            unet: UNetConfig::open(&UNET.config_path(folder))?,
            vae: VaeConfig::open(&VAE.config_path(folder))?,
        })
    }

    /// Operations of a network, or 0 where they are not counted.
    fn gflop(&self, network: Network) -> f64 {
        let UNetConfig { block_out_channels, cross_attention_dim, sample_size, .. } = &self.unet;
        let published = *block_out_channels == [320, 640, 1280, 1280] && cross_attention_dim[0] == 768;
        if published && *sample_size == [64, 64] { network.gflop() } else { 0.0 }
    }

    fn shape(&self, network: Network) -> String {
        let ([height, width], factor) = (self.unet.sample_size, self.vae.scale_factor());
        match network {
            Network::TextEncoder => format!("{TOKENS} tokens"),
            Network::UnetStep => format!("{height}×{width}, guided"),
            Network::VaeDecode | Network::VaeEncode => format!("{}×{}", height * factor, width * factor),
        }
    }
}

impl Stages<'_> {
    /// Measures all stages that the filter names, for `budget` seconds each, the picture with so
    /// many `steps`; each is handed to `found` when it is done.
    ///
    /// # Errors
    /// If the model cannot be loaded.
    pub(super) fn run(
        &self,
        (budget, steps): (f64, usize),
        probe: &Probe,
        found: &mut dyn FnMut(Row),
    ) -> Result<(), Error> {
        let configs = Configs::open(self.folder)?;
        for network in self.wanted_networks(&configs) {
            let mut run = self.load(network, &configs)?;
            found(self.row(network, &configs, measure(budget, probe, &mut run)));
        }
        let (stage, shape) = ("picture", format!("{steps} steps"));
        if self.wanted(stage, self.precision, &shape) {
            let timing = self.picture(budget, steps, probe)?;
            found(self.row_of(stage, self.precision, shape, timing));
        }
        Ok(())
    }

    /// Those that the filter names.
    pub(super) fn wanted_networks(&self, configs: &Configs) -> Vec<Network> {
        let wanted = |network: &Network| {
            self.wanted(network.name(), self.precision_of(*network), &configs.shape(*network))
        };
        Network::ALL.into_iter().filter(wanted).collect()
    }

    /// Loads a network; the result runs it once.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub(super) fn load(&self, network: Network, configs: &Configs) -> Result<Run, Error> {
        let (isa, precision) = (self.isa, self.precision_of(network));
        let open =
            |component: &'static Component| Checkpoint::open(&component.folder(self.folder), component);
        let [height, width] = configs.unet.sample_size;
        Ok(match network {
            Network::TextEncoder => {
                let (weights, config) = (open(&TEXT_ENCODER)?, &configs.text_encoder);
                let text_encoder = ClipTextModel::load(&weights.weights().for_precision(precision), config)?;
                let tokens = TOKENS.min(config.max_position_embeddings);
                let ids: Vec<u32> = (0..tokens).map(|i| (i * 613 % config.vocab_size) as u32).collect();
                Box::new(move || drop(text_encoder.forward(isa, &[&ids])))
            }
            Network::UnetStep => {
                let (weights, config) = (open(&UNET)?, &configs.unet);
                let unet = UNet2DConditionModel::load(&weights.weights().for_precision(precision), config)?;
                let text = waves([2, TOKENS, config.cross_attention_dim[0]]);
                let conditioning = unet.prepare(isa, text.view(), &[500.0]);
                let latents = waves([1, height, width, config.in_channels]);
                Box::new(move || drop(unet.forward(isa, latents.view(), 0, &conditioning)))
            }
            Network::VaeDecode => {
                let (weights, config) = (open(&VAE)?, &configs.vae);
                let decoder = Decoder::load(&weights.weights().for_precision(precision), config)?;
                let latents = waves([1, height, width, config.latent_channels]);
                Box::new(move || drop(decoder.forward(isa, latents.view())))
            }
            Network::VaeEncode => {
                let (weights, config) = (open(&VAE)?, &configs.vae);
                let encoder = Encoder::load(&weights.weights().for_precision(precision), config)?;
                let factor = config.scale_factor();
                let picture = waves([1, height * factor, width * factor, config.in_channels]);
                Box::new(move || drop(encoder.forward(isa, picture.view())))
            }
        })
    }

    fn picture(&self, budget: f64, steps: usize, probe: &Probe) -> Result<Timing, Error> {
        let options = LoadOptions { isa: self.isa, precision: self.precision, keep: true };
        let pipeline = Pipeline::load(self.folder, &options)?;
        let request = TextToImage { prompt: "a fox in the snow".into(), steps, ..pipeline.defaults() };
        let mut failed = None;
        let timing = measure(budget, probe, || {
            failed = pipeline.text_to_image(&request, &mut |_| ()).err().or(failed.take());
        });
        failed.map_or(Ok(timing), Err)
    }

    pub(super) fn wanted(&self, stage: &str, precision: Precisions, shape: &str) -> bool {
        matches(&name("stage", stage, precision, self.isa.name_for(precision.products()), shape), self.filter)
    }

    /// The text encoder's is that in a pipeline.
    pub(super) fn precision_of(&self, network: Network) -> Precisions {
        match network {
            Network::TextEncoder => self.precision.for_text(self.isa).into(),
            _ => self.precision,
        }
    }

    pub(super) fn row(&self, network: Network, configs: &Configs, timing: Timing) -> Row {
        let row = self.row_of(network.name(), self.precision_of(network), configs.shape(network), timing);
        Row { flops: 1e9 * configs.gflop(network), ..row }
    }

    pub(super) fn row_of(&self, stage: &str, precision: Precisions, shape: String, timing: Timing) -> Row {
        Row {
            kernel: "stage".into(),
            rung: stage.into(),
            precision,
            isa: self.isa.name_for(precision.products()).into(),
            shape,
            threads: self.threads,
            count: 1,
            flops: 0.0,
            bytes: 0.0,
            timing,
        }
    }
}

/// Numbers between −1 and 1 with some variety.
fn waves<const N: usize>(shape: [usize; N]) -> Tensor<f32, N> {
    Tensor::from_fn(shape, |index| {
        let position: usize = index.iter().zip([1, 3, 7, 5]).map(|(i, factor)| i * factor).sum();
        (position % 11) as f32 * 0.2 - 1.0
    })
}
