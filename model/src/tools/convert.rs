//! From a model in one form to the same in another: folder ↔ single file, and other element types.
//!
//! ```text
//! a folder        the settings of the model, and its weights under diffusers' and transformers' names
//! a single file   the weights under LDM's names, as A1111, ComfyUI and diffusers' `from_single_file` read them
//! ```
//!
//! Which tensors there are, the load code says; so only what a picture needs is written. One tensor
//! at a time is in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use aquatint_tensor::{DType, Element, bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, View, serialize_to_file};

use super::new_folder;
use crate::error::{Error, Result};
use crate::generate::{AdapterSet, TextEncoderSource};
use crate::networks;
use crate::networks::clip::{ClipActivation, ClipTextConfig};
use crate::networks::unet::{BlockKind, UNetConfig};
use crate::networks::vae::{VaeClass, VaeConfig};
use crate::source::ldm::{StoredName, UNetNames};
use crate::source::{
    Component, ModelSource, ModelSpec, Naming, SCHEDULER, Schema, StoredType, TEXT_ENCODER, TEXT_ENCODER_2,
    TEXT_ENCODERS, TensorSource, TensorSpec, UNET, VAE, files, read_index,
};
use crate::text::tokenizer;

/// Writes the model `from` to `out`: a single file if it ends in `.safetensors`, else a folder.
/// Without `dtype` every tensor keeps its type, if it is f32, f16 or bf16.
///
/// # Errors
/// If the model cannot be read, or if `out` exists or cannot be written.
pub fn convert(from: impl Into<ModelSpec>, out: &Path, dtype: Option<DType>) -> Result<()> {
    let source = ModelSource::open(from)?;
    let mut networks = Vec::new();
    for component in source.networks() {
        let checkpoint = Arc::new(source.checkpoint(component)?);
        let architecture = networks::architecture(component, source.config(component)?)?;
        architecture.read(&checkpoint.weights().without_numbers())?;
        let schema = Schema::of(&*checkpoint);
        architecture.read(&schema.weights())?;
        let tensors = schema.tensors();
        networks.push(Network { component, tensors, dtype, source: checkpoint });
    }
    merge_adapters(&source, &mut networks)?;
    if out.extension().is_some_and(|ending| ending == "safetensors") {
        return write_file(&source, &networks, out);
    }
    new_folder::write(out, |folder| {
        write_settings(&source, folder)?;
        for network in &networks {
            let path = network.component.folder(folder).join(network.component.weights_file());
            let metadata = BTreeMap::from([("format", "pt".to_owned())]);
            write_tensors(network.under_published_names(), metadata, &path)?;
        }
        Ok(())
    })
}

/// From now on the weights have what the adapters of the model add to them.
fn merge_adapters(source: &ModelSource, networks: &mut [Network]) -> Result<()> {
    let mut configs = Vec::new();
    for network in networks.iter().filter(|network| is_text_encoder(network.component)) {
        configs.push((network, text_config(source, network.component)?));
    }
    let Some(unet) = networks.iter().find(|network| *network.component == UNET) else { return Ok(()) };
    let unet_config = UNetConfig::from_config(source.config(&UNET)?)?;
    let texts: Vec<_> = (configs.iter())
        .map(|(network, config)| TextEncoderSource {
            component: network.component,
            config,
            source: Arc::clone(&network.source),
        })
        .collect();
    let adapters = AdapterSet::open(source.spec(), &texts, (&unet_config, Arc::clone(&unet.source)))?;
    for network in networks.iter_mut().filter(|network| *network.component != VAE) {
        network.source = adapters.source(network.component);
    }
    Ok(())
}

fn is_text_encoder(component: &Component) -> bool {
    TEXT_ENCODERS.iter().any(|(_, encoder)| *encoder == component)
}

fn text_config(source: &ModelSource, component: &Component) -> Result<ClipTextConfig> {
    let config = source.config(component)?;
    match *component == TEXT_ENCODER_2 {
        true => ClipTextConfig::with_projection(config),
        false => ClipTextConfig::from_config(config),
    }
}

/// A network that is to be written.
struct Network {
    component: &'static Component,
    /// Its weights, with adapters if there are some.
    source: Arc<dyn TensorSource>,
    /// Under the names that it has in the source.
    tensors: Vec<TensorSpec>,
    dtype: Option<DType>,
}

/// The tensors that become one, with their places in it.
type Thirds<'a> = Vec<(usize, &'a TensorSpec)>;

/// A tensor of the new file: tensors of the source, one behind the other.
struct Converted<'a> {
    network: &'a Network,
    names: Vec<&'a str>,
    shape: Vec<usize>,
    /// Whether it is a matrix that is written the other way round.
    transposed: bool,
    dtype: DType,
}

impl Network {
    /// All tensors under the names that diffusers and transformers publish.
    fn under_published_names(&self) -> BTreeMap<String, Converted<'_>> {
        let mut tensors = BTreeMap::new();
        for spec in &self.tensors {
            let name = published_name(self.component, &spec.name);
            tensors.insert(name, self.converted(vec![&spec.name], spec.shape.clone(), false));
        }
        tensors
    }

    /// All tensors under other names; those that are thirds of one are joined.
    fn under(&self, naming: &Naming) -> Result<BTreeMap<String, Converted<'_>>> {
        let mut places: BTreeMap<String, (bool, Thirds<'_>)> = BTreeMap::new();
        for spec in &self.tensors {
            let name = published_name(self.component, &spec.name);
            let StoredName { name, third, transposed } = naming.stored(&name).ok_or_else(|| {
                Error::model(format_args!("tensor `{}` has no name in a single file", spec.name))
            })?;
            let place = places.entry(name).or_default();
            place.0 = transposed;
            place.1.push((third.unwrap_or(0), spec));
        }
        let mut tensors = BTreeMap::new();
        for (name, (transposed, mut parts)) in places {
            parts.sort_by_key(|(third, _)| *third);
            let mut shape = parts[0].1.shape.clone();
            shape[0] *= parts.len();
            if name.contains(".mid.attn_1.") && shape.len() == 2 {
                shape.extend([1, 1]); // the VAE's attention is made of 1×1 convolutions there
            }
            if transposed {
                shape.reverse();
            }
            let names = parts.into_iter().map(|(_, spec)| spec.name.as_str()).collect();
            tensors.insert(name, self.converted(names, shape, transposed));
        }
        Ok(tensors)
    }

    fn converted<'a>(&'a self, names: Vec<&'a str>, shape: Vec<usize>, transposed: bool) -> Converted<'a> {
        let found = self.source.find(names[0]);
        let own = found.map_or(DType::F32, |found| match found.stored.dtype {
            StoredType::F32 | StoredType::F64 => DType::F32,
            StoredType::Bf16 => DType::Bf16,
            _ => DType::F16,
        });
        Converted { network: self, names, shape, transposed, dtype: self.dtype.unwrap_or(own) }
    }
}

/// A tensor's name in published folders, where those of old and new versions of diffusers and
/// transformers differ.
fn published_name(component: &Component, name: &str) -> String {
    let beside = ["text_model.", "text_projection."].iter().any(|beginning| name.starts_with(beginning));
    if is_text_encoder(component) && !beside {
        return format!("text_model.{name}");
    }
    let renamed =
        [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];
    match renamed.iter().find(|(old, _)| *component == VAE && name.contains(old)) {
        Some((old, new)) => name.replace(old, new),
        None => name.to_owned(),
    }
}

fn write_file(source: &ModelSource, networks: &[Network], out: &Path) -> Result<()> {
    let unet = UNetConfig::from_config(source.config(&UNET)?)?;
    let vae = VaeConfig::from_config(source.config(&VAE)?)?;
    let xl = unet.addition.is_some();
    let layers_per_block = unet.layers_per_block[0];
    if unet.layers_per_block.iter().any(|&layers| layers != layers_per_block) {
        return Err(Error::model(
            "a single file cannot hold a UNet whose levels have different numbers of layers",
        ));
    }
    let up_attention = unet.up_blocks.iter().map(|&kind| kind == BlockKind::CrossAttention).collect();
    // SD 2.x; its readers expect OpenCLIP's tower
    let open_clip = match xl {
        true => false,
        false => text_config(source, &TEXT_ENCODER)?.hidden_act == ClipActivation::Gelu,
    };
    // XL's second text encoder is the first module of its refiner.
    let second = usize::from(source.has(&TEXT_ENCODER));
    let mut tensors = BTreeMap::new();
    for network in networks {
        let naming = match network.component {
            c if *c == UNET => {
                Naming::ldm_unet(UNetNames { layers_per_block, up_attention: Vec::clone(&up_attention) })
            }
            c if *c == VAE => match &vae.class {
                VaeClass::Kl(config) => Naming::ldm_vae(config.block_out_channels.len()),
                VaeClass::Tiny(_) => Naming::ldm_taesd(),
            },
            c if *c == TEXT_ENCODER_2 => Naming::ldm_open_clip(&format!("conditioner.embedders.{second}")),
            _ if open_clip => Naming::ldm_open_clip("cond_stage_model"),
            _ => Naming::ldm_text_encoder(xl),
        };
        tensors.extend(network.under(&naming)?);
    }
    let prediction = scheduler_json(source)?["prediction_type"].as_str().unwrap_or("epsilon").to_owned();
    let architecture = match (xl, source.has(&TEXT_ENCODER), open_clip) {
        (true, true, _) => "stable-diffusion-xl-v1-base",
        (true, false, _) => "stable-diffusion-xl-v1-refiner",
        (false, _, true) => "stable-diffusion-v2",
        (false, ..) => "stable-diffusion-v1",
    };
    let short = if prediction.starts_with('v') { "v" } else { "epsilon" };
    let metadata = BTreeMap::from([
        ("format", "pt".to_owned()),
        ("modelspec.architecture", architecture.to_owned()),
        ("modelspec.prediction_type", short.to_owned()),
    ]);
    new_folder::write_file(out, |partial| write_tensors(tensors, metadata, partial))
}

fn write_tensors(
    tensors: BTreeMap<String, Converted<'_>>,
    metadata: BTreeMap<&str, String>,
    path: &Path,
) -> Result<()> {
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    serialize_to_file(tensors, Some(metadata), path)
        .map_err(|error| Error::run(format_args!("cannot write `{}`: {error}", path.display())))?;
    new_folder::make_readable(path)
}

/// Everything of a model folder but weights.
fn write_settings(source: &ModelSource, folder: &Path) -> Result<()> {
    for component in source.networks() {
        let config = source.config(component)?.to_json();
        write_text(&component.config_path(folder), &config)?;
    }
    write_text(&SCHEDULER.config_path(folder), &scheduler_json(source)?.to_string())?;
    let settings = source.settings();
    let (_, mut index) = read_index(settings)?;
    let unet = UNetConfig::from_config(source.config(&UNET)?)?;
    if unet.in_channels == 9 {
        let xl = if unet.addition.is_some() { "XL" } else { "" };
        index["_class_name"] = format!("StableDiffusion{xl}InpaintPipeline").into();
    }
    let vae = VaeConfig::from_config(source.config(&VAE)?)?;
    index[VAE.name] = serde_json::json!(["diffusers", vae.class_name()]);
    write_text(&folder.join("model_index.json"), &index.to_string())?;
    copy(&settings.join("generation_config.json"), &folder.join("generation_config.json"))?;
    for (tokenizer, _) in TEXT_ENCODERS.iter().filter(|(_, encoder)| source.has(encoder)) {
        let (from, to) = (tokenizer.folder(settings), tokenizer.folder(folder));
        for name in [
            "tokenizer_config.json",
            "special_tokens_map.json",
            "added_tokens.json",
            "vocab.json",
            "merges.txt",
            "tokenizer.json",
        ] {
            copy(&from.join(name), &to.join(name))?;
        }
        if files::is_published(settings) {
            tokenizer::write_clip_vocabulary(&to)?;
        }
    }
    Ok(())
}

/// The sampler's settings with what the source says beyond its folder.
fn scheduler_json(source: &ModelSource) -> Result<serde_json::Value> {
    let path = SCHEDULER.config_path(source.settings());
    let mut config: serde_json::Value =
        serde_json::from_str(&files::read_to_string(&path)?).map_err(|error| Error::in_file(&path, error))?;
    for (key, value) in source.overrides(&SCHEDULER) {
        config[key] = value.clone();
    }
    Ok(config)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if files::is_file(from) { write_text(to, &files::read_to_string(from)?) } else { Ok(()) }
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).and_then(|()| fs::write(path, text)).map_err(Error::writing(path))
}

impl Converted<'_> {
    fn encoded<T: Element, const SIZE: usize>(
        &self,
        numbers: &[f32],
        encode: fn(T) -> [u8; SIZE],
    ) -> Vec<u8> {
        let mut bytes = vec![0; numbers.len() * SIZE];
        bytes.par_chunks_exact_mut(SIZE).zip(numbers).for_each(|(bytes, &x)| {
            bytes.copy_from_slice(&encode(T::from_f32(x)));
        });
        bytes
    }
}

impl View for Converted<'_> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        for name in &self.names {
            let found = self.network.source.find(name);
            // All of them were found and checked before the first was written.
            let numbers = found.as_ref().and_then(|found| found.elements().ok()).map(|x| x.into_f32());
            let mut numbers = numbers.unwrap_or_default();
            if let ([rows, columns], true) = (&self.shape[..], self.transposed) {
                let own = aquatint_tensor::View::from_slice([*columns, *rows], &numbers);
                numbers = own.permute([1, 0]).to_tensor().into_vec();
            }
            bytes.extend(match self.dtype {
                DType::F32 => self.encoded(&numbers, f32::to_le_bytes),
                DType::F16 => self.encoded(&numbers, f16::to_le_bytes),
                DType::Bf16 => self.encoded(&numbers, bf16::to_le_bytes),
            });
            if let Some(found) = found {
                found.release();
            }
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }
}
