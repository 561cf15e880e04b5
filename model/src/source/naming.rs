//! How a file spells the names of a network's tensors, recognised by what it holds.
//!
//! ```text
//! network        prefixes in single files                       schemes
//! UNet           model.diffusion_model. · unet. · none          LDM, diffusers; without dots for EMA
//! VAE            first_stage_model. · vae. · none               LDM, diffusers; TAESD's numbers
//! text encoder   cond_stage_model.transformer. · cond_stage_model.model. · text_encoder. · none
//!                conditioner.embedders.0.transformer.           transformers, OpenCLIP
//! the second     conditioner.embedders.1.model. · text_encoder_2. · none; of a refiner embedders.0
//! ```
//!
//! A prefix and a scheme are right if the file has the network's landmark under them.

use super::component::{Component, TEXT_ENCODER, TEXT_ENCODER_2, UNET, VAE};
use super::ldm::{self, StoredName, UNetNames};
use super::tensor_file::TensorFile;

/// Where the tensors of one network are in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// The prefix of all its names.
    pub prefix: String,
    scheme: Scheme,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Scheme {
    /// As diffusers and transformers write them.
    #[default]
    Diffusers,
    UNet(UNetNames),
    /// The same without dots, as LDM keeps the exponential moving average of the weights.
    UNetEma(UNetNames),
    Vae {
        levels: usize,
    },
    OpenClip,
    /// The tiny VAE as diffusers writes it.
    Tiny,
    /// The tiny VAE as it was published first, its halves under `taesd_encoder.` and
    /// `taesd_decoder.`.
    Taesd,
}

/// A tensor that every network of a kind has, under diffusers' name and under LDM's.
struct Landmark {
    prefixes: &'static [&'static str],
    diffusers: &'static str,
    ldm: &'static str,
}

const UNET_LANDMARK: Landmark = Landmark {
    prefixes: &["model.diffusion_model.", "unet.", "diffusion_model.", ""],
    diffusers: "time_embedding.linear_1.weight",
    ldm: "time_embed.0.weight",
};
const VAE_LANDMARK: Landmark = Landmark {
    prefixes: &["first_stage_model.", "vae.", ""],
    diffusers: "decoder.mid_block.resnets.0.conv1.weight",
    ldm: "decoder.mid.block_1.conv1.weight",
};
const TEXT_LANDMARK: Landmark = Landmark {
    prefixes: &[
        "cond_stage_model.transformer.text_model.",
        "cond_stage_model.transformer.",
        "cond_stage_model.model.",
        "conditioner.embedders.0.transformer.text_model.",
        "conditioner.embedders.0.transformer.",
        "text_encoder.text_model.",
        "text_encoder.",
        "text_model.",
        "",
    ],
    diffusers: "embeddings.token_embedding.weight",
    ldm: "token_embedding.weight",
};

/// The same of the tiny VAE, in place of LDM's its first names.
const TINY_LANDMARKS: [Landmark; 2] = [
    Landmark {
        prefixes: VAE_LANDMARK.prefixes,
        diffusers: "decoder.layers.0.weight",
        ldm: "taesd_decoder.1.weight",
    },
    Landmark {
        prefixes: VAE_LANDMARK.prefixes,
        diffusers: "encoder.layers.0.weight",
        ldm: "taesd_encoder.0.weight",
    },
];
const SECOND_TEXT_LANDMARK: Landmark = Landmark {
    prefixes: &[
        "conditioner.embedders.1.model.",
        "conditioner.embedders.0.model.",
        "conditioner.embedders.1.transformer.text_model.",
        "text_encoder_2.text_model.",
        "text_encoder_2.",
        "text_model.",
        "",
    ],
    ..TEXT_LANDMARK
};

/// In front of LDM's EMA weights, which are the UNet's alone.
const EMA_PREFIX: &str = "model_ema.diffusion_model";

impl Naming {
    /// How `file` spells the tensors of a component; `None` if it holds none.
    pub fn of(component: &Component, file: &TensorFile) -> Option<Self> {
        let landmark = match component {
            c if *c == UNET => UNET_LANDMARK,
            c if *c == VAE => VAE_LANDMARK,
            c if *c == TEXT_ENCODER => TEXT_LANDMARK,
            c if *c == TEXT_ENCODER_2 => SECOND_TEXT_LANDMARK,
            _ => return None,
        };
        let has = |prefix: &str, name: &str| file.tensor(&format!("{prefix}{name}")).is_some();
        if *component == VAE
            && let Some(tiny) = Self::of_tiny_vae(has)
        {
            return Some(tiny);
        }
        landmark.prefixes.iter().find_map(|&prefix| {
            let scheme = if has(prefix, landmark.diffusers) {
                Scheme::Diffusers
            } else if has(prefix, landmark.ldm) {
                match component {
                    c if *c == UNET => Scheme::UNet(unet_names(file, prefix)),
                    c if *c == VAE => Scheme::Vae { levels: vae_levels(file, prefix) },
                    _ => Scheme::OpenClip,
                }
            } else {
                return None;
            };
            Some(Self { prefix: prefix.to_owned(), scheme })
        })
    }

    /// That of the tiny VAE, or of half of one, by what there is.
    fn of_tiny_vae(has: impl Fn(&str, &str) -> bool) -> Option<Self> {
        TINY_LANDMARKS.iter().find_map(|landmark| {
            landmark.prefixes.iter().find_map(|&prefix| {
                let scheme = match () {
                    () if has(prefix, landmark.diffusers) => Scheme::Tiny,
                    () if has(prefix, landmark.ldm) => Scheme::Taesd,
                    () => return None,
                };
                Some(Self { prefix: prefix.to_owned(), scheme })
            })
        })
    }

    /// The tiny VAE's first names, under a prefix.
    pub fn taesd(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), scheme: Scheme::Taesd }
    }

    /// The same in single files, where ComfyUI finds it.
    pub fn ldm_taesd() -> Self {
        Self::taesd(VAE_LANDMARK.prefixes[0])
    }

    /// Whether it is the tiny VAE.
    pub fn is_tiny_vae(&self) -> bool {
        matches!(self.scheme, Scheme::Tiny | Scheme::Taesd)
    }

    /// That of the averaged weights of the same UNet, if `file` holds them.
    pub fn ema(&self, file: &TensorFile) -> Option<Self> {
        let Scheme::UNet(names) = &self.scheme else { return None };
        let ema = Self { prefix: EMA_PREFIX.to_owned(), scheme: Scheme::UNetEma(names.clone()) };
        let landmark = ema.stored(UNET_LANDMARK.diffusers)?;
        file.tensor(&landmark.name).map(|_| ema)
    }

    /// The names of a UNet in LDM's single files.
    pub fn ldm_unet(names: UNetNames) -> Self {
        Self { prefix: UNET_LANDMARK.prefixes[0].to_owned(), scheme: Scheme::UNet(names) }
    }

    /// The names of a VAE in LDM's single files.
    pub fn ldm_vae(levels: usize) -> Self {
        Self { prefix: VAE_LANDMARK.prefixes[0].to_owned(), scheme: Scheme::Vae { levels } }
    }

    /// The names of a text encoder in LDM's single files: OpenAI's as transformers has it, of
    /// Stable Diffusion 1.x or of XL.
    pub fn ldm_text_encoder(xl: bool) -> Self {
        let prefix =
            if xl { "conditioner.embedders.0.transformer." } else { "cond_stage_model.transformer." };
        Self { prefix: prefix.to_owned(), scheme: Scheme::Diffusers }
    }

    /// The same of OpenCLIP's text tower, below `cond_stage_model` or `conditioner.embedders.1`.
    pub fn ldm_open_clip(module: &str) -> Self {
        Self { prefix: format!("{module}.model."), scheme: Scheme::OpenClip }
    }

    /// The file's name for a tensor of the network; `None` if this scheme has none.
    pub fn stored(&self, name: &str) -> Option<StoredName> {
        let StoredName { name, third, transposed } = match &self.scheme {
            Scheme::Diffusers | Scheme::Tiny => StoredName::whole(name),
            Scheme::UNet(names) => StoredName::whole(names.translate(name)?),
            Scheme::UNetEma(names) => StoredName::whole(names.translate(name)?.replace('.', "")),
            Scheme::Vae { levels } => StoredName::whole(ldm::vae(name, *levels)?),
            Scheme::OpenClip => ldm::open_clip(name)?,
            Scheme::Taesd => StoredName::whole(ldm::taesd(name)?),
        };
        // transformers' projection is beside `text_model`, not in it.
        let prefix = match self.prefix.strip_suffix("text_model.") {
            Some(outer) if name.starts_with("text_projection") => outer,
            _ => &self.prefix,
        };
        Some(StoredName { name: format!("{prefix}{name}"), third, transposed })
    }

    /// In words.
    pub fn describe(&self) -> &'static str {
        match self.scheme {
            Scheme::Diffusers | Scheme::Tiny => "diffusers' names",
            Scheme::UNet(_) | Scheme::Vae { .. } => "LDM's names",
            Scheme::UNetEma(_) => "LDM's names of averaged (EMA) weights",
            Scheme::OpenClip => "OpenCLIP's names",
            Scheme::Taesd => "TAESD's names",
        }
    }

    /// Whether the text encoder is OpenCLIP's.
    pub fn is_open_clip(&self) -> bool {
        self.scheme == Scheme::OpenClip
    }
}

/// A level has as many residual blocks as there are blocks in front of the first that halves the
/// image.
fn unet_names(file: &TensorFile, prefix: &str) -> UNetNames {
    let has = |name: String| file.tensor(&format!("{prefix}{name}")).is_some();
    let first = (1..64).find(|place| has(format!("input_blocks.{place}.0.op.weight")));
    let layers_per_block = first.unwrap_or(3) - 1;
    let attention =
        |level: &usize| has(format!("output_blocks.{}.1.norm.weight", level * (layers_per_block + 1)));
    let exists =
        |level: &usize| has(format!("output_blocks.{}.0.in_layers.0.weight", level * (layers_per_block + 1)));
    let up_attention = (0..64).take_while(exists).map(|level| attention(&level)).collect();
    UNetNames { layers_per_block, up_attention }
}

fn vae_levels(file: &TensorFile, prefix: &str) -> usize {
    let exists =
        |level: &usize| file.tensor(&format!("{prefix}decoder.up.{level}.block.0.norm1.weight")).is_some();
    (0..64).take_while(exists).count()
}
