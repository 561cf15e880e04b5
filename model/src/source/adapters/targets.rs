//! The layers that adapters change, and how they are named in the files of adapters.
//!
//! ```text
//! lora_unet_down_blocks_0_attentions_0_proj_in     kohya: dots became underscores
//! lora_unet_input_blocks_1_1_proj_in               the same of LDM's names
//! lora_te1_…, lora_te2_…                           SDXL's two text encoders
//! unet.down_blocks.0.attentions.0.proj_in          diffusers, PEFT
//! unet:3:up                                        the first format: the number of the layer
//! ```
//!
//! All of them are found in one table, whose keys are the network's own names with underscores; it
//! is made of the names that the network asks for.

use std::collections::BTreeMap;

use crate::source::ldm::UNetNames;
use crate::source::{Component, TEXT_ENCODER, TEXT_ENCODER_2, TensorSpec, UNET};

/// A layer of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The network.
    pub component: &'static Component,
    /// The layer's name, without `.weight`.
    pub module: String,
    /// The shape of its weight.
    pub shape: Vec<usize>,
    /// Whether it has a bias.
    pub bias: bool,
}

/// All layers of a model's text encoders and UNet.
pub struct Targets {
    layers: Vec<Target>,
    /// With underscores → where in `layers`.
    unet: BTreeMap<String, usize>,
    text: BTreeMap<String, usize>,
    text_2: BTreeMap<String, usize>,
}

/// Beginnings of names, and which networks they may mean.
const PREFIXES: [(&str, &[&Component]); 12] = [
    ("lora_unet_", &[&UNET]),
    ("lora_te_", &[&TEXT_ENCODER]),
    ("lora_te1_", &[&TEXT_ENCODER]),
    ("lora_te2_", &[&TEXT_ENCODER_2]),
    ("lycoris_", &[&UNET]),
    ("base_model.model.unet.", &[&UNET]),
    ("base_model.model.text_encoder.", &[&TEXT_ENCODER]),
    ("base_model.model.text_encoder_2.", &[&TEXT_ENCODER_2]),
    ("base_model.model.", &[&UNET, &TEXT_ENCODER]),
    ("unet.", &[&UNET]),
    ("text_encoder.", &[&TEXT_ENCODER]),
    ("text_encoder_2.", &[&TEXT_ENCODER_2]),
];

/// What a name without such a beginning may mean.
const WITHOUT_PREFIX: (&str, &[&Component]) = ("", &[&UNET, &TEXT_ENCODER]);

impl Targets {
    /// The layers that own the tensors for which the networks ask.
    pub fn new(networks: &[(&'static Component, Vec<TensorSpec>)]) -> Self {
        let mut layers = Vec::new();
        for (component, tensors) in networks {
            for tensor in tensors {
                if let Some(module) = tensor.name.strip_suffix(".weight") {
                    let bias = tensors.iter().any(|other| other.name.strip_suffix(".bias") == Some(module));
                    let (module, shape) = (module.to_owned(), tensor.shape.clone());
                    layers.push(Target { component, module, shape, bias });
                }
            }
        }
        let unet = networks.iter().find(|(component, _)| **component == UNET);
        let ldm = ldm_names(unet.map_or(&[], |(_, tensors)| tensors));
        let (unet, text, text_2) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut made = Self { layers, unet, text, text_2 };
        for (i, layer) in made.layers.iter().enumerate() {
            let key = layer.module.replace('.', "_");
            if layer.component == &UNET {
                if let Some(name) = ldm.translate(&format!("{}.weight", layer.module)) {
                    made.unet.insert(name.trim_end_matches(".weight").replace('.', "_"), i);
                }
                made.unet.insert(key, i);
            } else {
                let table = if layer.component == &TEXT_ENCODER { &mut made.text } else { &mut made.text_2 };
                // transformers 5 leaves this beginning out, and so do the names of single files.
                let short = key.strip_prefix("text_model_").unwrap_or(&key);
                table.insert(format!("text_model_{short}"), i);
                table.insert(short.to_owned(), i);
            }
        }
        made
    }

    /// The layer that a file of adapters means.
    pub fn find(&self, name: &str) -> Option<&Target> {
        let known = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        let &(prefix, networks) = known.unwrap_or(&WITHOUT_PREFIX);
        let key = name[prefix.len()..].replace('.', "_").replace("_processor", "");
        let found = |table: &BTreeMap<String, usize>, key: &str| table.get(key).map(|&i| &self.layers[i]);
        networks.iter().find_map(|&network| {
            let table = match network {
                c if *c == UNET => &self.unet,
                c if *c == TEXT_ENCODER => &self.text,
                _ => &self.text_2,
            };
            found(table, &key).or_else(|| match *network == UNET {
                // diffusers' first names end in `to_out` where the layer is `to_out.0`.
                true => found(table, &format!("{key}_0")),
                // Its first names of the text encoder's projections are those of the UNet.
                false => {
                    let (module, layer) = key.rsplit_once("_to_")?;
                    found(table, &format!("{module}_{layer}_proj"))
                }
            })
        })
    }

    /// Whether the model is Stable Diffusion XL.
    pub fn is_xl(&self) -> bool {
        !self.text_2.is_empty()
    }

    /// How many channels the prompt's vectors have, as the UNet and as the text encoder have them.
    pub fn text_width(&self) -> Option<usize> {
        let key = self.layers.iter().find(|layer| layer.module.ends_with(".attn2.to_k"))?;
        key.shape.get(1).copied()
    }

    /// The layers that the first format numbers: the matrices of attention and of the gated unit,
    /// as torch walked the UNet of its time, whose feed-forward stood between the two attentions.
    pub fn first_format_unet(&self) -> Vec<&Target> {
        const ORDER: [&str; 9] = [
            "attn1.to_q",
            "attn1.to_k",
            "attn1.to_v",
            "attn1.to_out.0",
            "ff.net.0.proj",
            "attn2.to_q",
            "attn2.to_k",
            "attn2.to_v",
            "attn2.to_out.0",
        ];
        const BLOCKS: [&str; 3] = ["down_blocks.", "up_blocks.", "mid_block."]; // the middle one was registered last
        let mut found: Vec<_> = (self.layers.iter())
            .filter_map(|layer| {
                let (block, place) = layer.module.split_once(".transformer_blocks.")?;
                let (depth, place) = place.split_once('.')?;
                let outer = BLOCKS.iter().position(|beginning| block.starts_with(beginning))?;
                let inner = ORDER.iter().position(|name| *name == place)?;
                let numbers: Vec<usize> = block.split('.').filter_map(|part| part.parse().ok()).collect();
                Some(((outer, numbers, depth.parse::<usize>().ok()?, inner), layer))
            })
            .collect();
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        found.into_iter().map(|(_, layer)| layer).collect()
    }

    /// The same of the text encoder: the projections of its attention, as transformers registers
    /// them.
    pub fn first_format_text_encoder(&self) -> Vec<&Target> {
        let layer = |i: usize, name: &str| {
            let key = format!("text_model_encoder_layers_{i}_self_attn_{name}");
            self.text.get(&key).map(|&i| &self.layers[i])
        };
        let names = ["k_proj", "v_proj", "q_proj", "out_proj"];
        (0..)
            .map_while(|i| names.map(|name| layer(i, name)).into_iter().collect::<Option<Vec<_>>>())
            .flatten()
            .collect()
    }
}

/// The numbers on which LDM's names depend, from the names that the UNet asks for.
fn ldm_names(unet: &[TensorSpec]) -> UNetNames {
    let has = |name: String| unet.iter().any(|tensor| tensor.name == name);
    let layers_per_block =
        (0..64).take_while(|i| has(format!("down_blocks.0.resnets.{i}.conv1.weight"))).count();
    let levels = (0..64).take_while(|i| has(format!("up_blocks.{i}.resnets.0.conv1.weight")));
    let up_attention = levels.map(|i| has(format!("up_blocks.{i}.attentions.0.norm.weight"))).collect();
    UNetNames { layers_per_block, up_attention }
}
