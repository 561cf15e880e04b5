//! One-file checkpoints, written from the small folders as `goldens/single_files.py` wrote them.
//!
//! ```text
//! write("sd1_ema", path)   the folder's tensors → LDM's names → what this variant changes → one safetensors file
//! ```
//!
//! The goldens keep pictures and a SHA-256 of all tensors of a variant; `write` checks that it
//! wrote the same. The renames here go from diffusers' names to LDM's, those of the loader the
//! other way.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{json, path};

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
const CLIP: &str = "cond_stage_model.transformer.";
const OPEN_CLIP: &str = "cond_stage_model.model.";

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, little endian.
    pub bytes: Vec<u8>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Stored>;

impl Stored {
    /// A tensor in f32.
    pub fn f32(shape: &[usize], numbers: &[f32]) -> Self {
        let bytes = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// Its numbers in f32.
    ///
    /// # Panics
    /// If they are neither f32, f16 nor bf16.
    pub fn numbers(&self) -> Vec<f32> {
        let pairs = self.bytes.as_chunks::<2>().0.iter();
        match self.dtype {
            Dtype::F32 => self.bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
            Dtype::F16 => pairs.map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
            Dtype::BF16 => pairs.map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
            other => panic!("{other} is no type of the folders"),
        }
    }

    /// The same numbers, rounded to another type; whole numbers stay what they are.
    pub fn cast(&self, dtype: Dtype) -> Self {
        if matches!(self.dtype, Dtype::I64 | Dtype::I32) || self.dtype == dtype {
            return self.clone();
        }
        let numbers = self.numbers();
        let bytes = match dtype {
            Dtype::F32 => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Dtype::F16 => numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            Dtype::BF16 => numbers.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
            Dtype::F8_E4M3 => numbers.iter().map(|&x| eight_bits(x, 3)).collect(),
            Dtype::F8_E5M2 => numbers.iter().map(|&x| eight_bits(x, 2)).collect(),
            other => panic!("{other} is no type of a variant"),
        };
        Self { dtype, shape: self.shape.clone(), bytes }
    }

    fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        let numbers: Vec<f32> = self.numbers().into_iter().map(f).collect();
        Self::f32(&self.shape, &numbers).cast(self.dtype)
    }

    fn with_shape(mut self, shape: &[usize]) -> Self {
        self.shape = shape.to_vec();
        self
    }
}

/// `x` in a sign, 7 − `mantissa` bits of exponent and `mantissa` bits, rounded to nearest even;
/// `|x|` is in range.
fn eight_bits(x: f32, mantissa: i32) -> u8 {
    let bias = if mantissa == 3 { 7 } else { 15 };
    let value = |code: u8| {
        let (exponent, fraction) = (i32::from(code >> mantissa), f32::from(code & ((1 << mantissa) - 1)));
        let fraction = fraction / (1 << mantissa) as f32;
        match exponent {
            0 => fraction * 2f32.powi(1 - bias),
            _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
        }
    };
    // The values of the codes rise, and neighbours differ in the last bit.
    let (mut low, mut high) = (0u8, if mantissa == 3 { 0x7e } else { 0x7b });
    while high - low > 1 {
        let middle = low.midpoint(high);
        if value(middle) <= x.abs() { low = middle } else { high = middle }
    }
    let (below, above) = (x.abs() - value(low), value(high) - x.abs());
    let code = if below < above || (below == above && low % 2 == 0) { low } else { high };
    code | if x.is_sign_negative() { 0x80 } else { 0 }
}

/// The entry of `single_files/cases.json`.
///
/// # Panics
/// If there is none.
pub fn case(name: &str) -> Value {
    let cases = json("single_files/cases.json");
    let mut cases = cases.as_array().expect("a list").iter();
    cases.find(|case| case["name"] == name).unwrap_or_else(|| panic!("no variant `{name}`")).clone()
}

/// Writes a variant of `single_files/cases.json`.
///
/// # Panics
/// If it is not what the oracle had, to the bit.
pub fn write(name: &str, file: &Path) {
    let tensors = variant(name);
    assert_eq!(case(name)["sha256"], sha256(&tensors), "{name}: not the tensors that the oracle had");
    save(&tensors, file);
}

/// Writes tensors to a safetensors file.
///
/// # Panics
/// If it cannot be written.
pub fn save(tensors: &Tensors, file: &Path) {
    let views = tensors.iter().map(|(name, tensor)| {
        (
            name,
            TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("bytes of the shape"),
        )
    });
    safetensors::serialize_to_file(views, None, file).expect("a writable folder");
}

/// The tensors of a variant.
///
/// # Panics
/// If there is none of this name.
pub fn variant(name: &str) -> Tensors {
    let (folder, change) = name.split_once('_').unwrap_or((name, ""));
    let whole = || ldm(folder);
    let large = |name: &str, tensor: &Stored| name.starts_with(UNET) && tensor.shape.len() > 1;
    let cast = |dtype| mapped(whole(), |_, tensor| tensor.cast(dtype));
    let rounded = |dtype| {
        mapped(whole(), |name, tensor| if large(name, &tensor) { tensor.cast(dtype) } else { tensor })
    };
    match change {
        "" => whole(),
        "f16" => cast(Dtype::F16),
        "bf16" => cast(Dtype::BF16),
        "fp8_e4m3fn" => rounded(Dtype::F8_E4M3),
        "fp8_e5m2" => rounded(Dtype::F8_E5M2),
        "fp8_weight_scale" => scaled(whole(), "weight_scale"),
        "fp8_scale_weight" => {
            let mut tensors = scaled(whole(), "scale_weight");
            tensors.insert("scaled_fp8".into(), Stored::f32(&[2], &[0.0; 2]).cast(Dtype::F8_E4M3));
            tensors
        }
        "no_position_ids" => kept(whole(), |name| !name.ends_with(".position_ids")),
        "ema" | "ema_taken" => with_ema(whole()),
        "leftovers" => {
            // The oracle's values of these do not matter, but the check is over all bytes: they are
            // kept beside the cases.
            let mut tensors = whole();
            tensors.extend(read(&[path("single_files/leftovers.safetensors")]));
            tensors
        }
        "vae_matrices" => mapped(whole(), |name, tensor| match vae_attention(name) {
            true => tensor.clone().with_shape(&tensor.shape[..2]),
            false => tensor,
        }),
        "proj_matrices" => mapped(whole(), |name, tensor| match projection(name) {
            true => tensor.clone().with_shape(&tensor.shape[..2]),
            false => tensor,
        }),
        "proj_kernels" => mapped(whole(), |name, tensor| match projection(name) {
            true => tensor.clone().with_shape(&[tensor.shape[0], tensor.shape[1], 1, 1]),
            false => tensor,
        }),
        "text_without_prefix" => renamed(whole(), |name| name.replace(&format!("{CLIP}text_model."), CLIP)),
        "unet" => kept(whole(), |name| name.starts_with(UNET)),
        "unet_without_prefix" => {
            renamed(kept(whole(), |name| name.starts_with(UNET)), |name| name.replace(UNET, ""))
        }
        "unet_diffusers" => part(folder, "unet").0,
        "no_vae" => kept(whole(), |name| !name.starts_with(VAE)),
        "no_text_encoder" => kept(whole(), |name| !name.starts_with(CLIP)),
        "vae_without_prefix" => {
            renamed(kept(whole(), |name| name.starts_with(VAE)), |name| name.replace(VAE, ""))
        }
        "last_layer" => one_layer_more(whole()),
        "clip_names" => ldm_with(folder, false),
        other => panic!("no variant `{other}` of `{folder}`"),
    }
}

fn kept(tensors: Tensors, keep: impl Fn(&str) -> bool) -> Tensors {
    tensors.into_iter().filter(|(name, _)| keep(name)).collect()
}

fn renamed(tensors: Tensors, rename: impl Fn(&str) -> String) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect()
}

fn mapped(tensors: Tensors, change: impl Fn(&str, Stored) -> Stored) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (name.clone(), change(&name, tensor))).collect()
}

fn vae_attention(name: &str) -> bool {
    name.starts_with(VAE)
        && name.contains(".mid.attn_1.")
        && name.ends_with(".weight")
        && !name.contains(".norm.")
}

fn projection(name: &str) -> bool {
    name.starts_with(UNET) && (name.ends_with(".proj_in.weight") || name.ends_with(".proj_out.weight"))
}

/// The UNet's matrices in 8 bits, each with a factor that makes its largest value 448; the others
/// in f16.
fn scaled(tensors: Tensors, suffix: &str) -> Tensors {
    let mut made = Tensors::new();
    for (name, tensor) in tensors {
        let large = name.starts_with(UNET) && name.ends_with(".weight") && tensor.shape.len() > 1;
        if !large {
            made.insert(name, tensor.cast(Dtype::F16));
            continue;
        }
        let factor = tensor.numbers().iter().fold(0f32, |most, x| most.max(x.abs())) / 448.0;
        let rounded = tensor.map(|x| x / factor).cast(Dtype::F8_E4M3);
        made.insert(name.replace(".weight", &format!(".{suffix}")), Stored::f32(&[], &[factor]));
        made.insert(name, rounded);
    }
    made
}

fn with_ema(mut tensors: Tensors) -> Tensors {
    let ema: Tensors = tensors
        .iter()
        .filter(|(name, _)| name.starts_with(UNET))
        .map(|(name, tensor)| {
            let flat = name.split('.').skip(1).collect::<String>();
            (format!("model_ema.{flat}"), tensor.map(|x| x * 1.0625))
        })
        .collect();
    tensors.extend(ema);
    tensors.insert("model_ema.decay".into(), Stored::f32(&[], &[0.9999]));
    let updates = Stored { dtype: Dtype::I32, shape: vec![], bytes: 7i32.to_le_bytes().to_vec() };
    tensors.insert("model_ema.num_updates".into(), updates);
    tensors
}

fn one_layer_more(mut tensors: Tensors) -> Tensors {
    let layer = |name: &str| name.strip_prefix(OPEN_CLIP)?.split('.').nth(2)?.parse::<usize>().ok();
    let last = tensors.keys().filter_map(|name| layer(name)).max().expect("a layer");
    let more: Tensors = tensors
        .iter()
        .filter(|(name, _)| layer(name) == Some(last))
        .map(|(name, tensor)| {
            let name = name.replace(&format!(".resblocks.{last}."), &format!(".resblocks.{}.", last + 1));
            (name, tensor.map(|x| x * -0.5))
        })
        .collect();
    tensors.extend(more);
    let width = tensors[&format!("{OPEN_CLIP}ln_final.weight")].shape[0];
    let eye: Vec<f32> = (0..width * width).map(|i| f32::from(u8::from(i / width == i % width))).collect();
    let projection = Stored::f32(&[width, width], &eye).cast(Dtype::F16);
    tensors.insert(format!("{OPEN_CLIP}text_projection"), projection);
    tensors.insert(format!("{OPEN_CLIP}logit_scale"), Stored::f32(&[], &[4.6052]).cast(Dtype::F16));
    tensors
}

/// A whole checkpoint in LDM's names; the attention of the VAE is in 1×1 kernels, as it was first
/// published.
fn ldm(folder: &str) -> Tensors {
    ldm_with(folder, folder == "sd2")
}

fn ldm_with(folder: &str, open: bool) -> Tensors {
    let (unet, config) = part(folder, "unet");
    let mut made = renamed(unet, |name| format!("{UNET}{}", unet_name(name, &config)));
    let (vae, config) = part(folder, "vae");
    let levels = config["block_out_channels"].as_array().expect("a list").len();
    let vae = renamed(vae, |name| format!("{VAE}{}", vae_name(name, levels)));
    made.extend(mapped(vae, |name, tensor| match vae_attention(name) {
        true => tensor.clone().with_shape(&[tensor.shape[0], tensor.shape[1], 1, 1]),
        false => tensor,
    }));
    let (text, _) = part(folder, "text_encoder");
    made.extend(match open {
        true => renamed(open_clip(&text), |name| format!("{OPEN_CLIP}{name}")),
        false => renamed(text, |name| format!("{CLIP}{name}")),
    });
    made
}

/// The tensors of a folder's part and its config.
fn part(folder: &str, part: &str) -> (Tensors, Value) {
    let place = match (folder, part) {
        ("unet9", "unet") => "tasks/unet9".to_owned(),
        ("unet9", _) => format!("pipelines/sd1/{part}"),
        _ => format!("pipelines/{folder}/{part}"),
    };
    let files =
        std::fs::read_dir(path(&place)).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|end| end == "safetensors")).collect();
    (read(&files), json(&format!("{place}/config.json")))
}

/// All tensors of safetensors files.
///
/// # Panics
/// If one is damaged.
pub fn read(files: &[std::path::PathBuf]) -> Tensors {
    let mut tensors = Tensors::new();
    for file in files {
        let bytes = std::fs::read(file).expect("a golden");
        for (name, view) in SafeTensors::deserialize(&bytes).expect("safetensors").tensors() {
            let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            tensors.insert(name, Stored { dtype, shape, bytes });
        }
    }
    tensors
}

fn unet_name(name: &str, config: &Value) -> String {
    const TOP: [(&str, &str); 5] = [
        ("conv_in.", "input_blocks.0.0."),
        ("time_embedding.linear_1.", "time_embed.0."),
        ("time_embedding.linear_2.", "time_embed.2."),
        ("conv_norm_out.", "out.0."),
        ("conv_out.", "out.2."),
    ];
    const RESNET: [(&str, &str); 6] = [
        (".norm1.", ".in_layers.0."),
        (".conv1.", ".in_layers.2."),
        (".time_emb_proj.", ".emb_layers.1."),
        (".norm2.", ".out_layers.0."),
        (".conv2.", ".out_layers.3."),
        (".conv_shortcut.", ".skip_connection."),
    ];
    if let Some((new, rest)) = TOP.iter().find_map(|(old, new)| Some((new, name.strip_prefix(old)?))) {
        return format!("{new}{rest}");
    }
    let block_size = config["layers_per_block"].as_u64().expect("a number") as usize + 1;
    let parts: Vec<&str> = name.split('.').collect();
    let number = |i: usize| parts[i].parse::<usize>().expect("a number");
    let tail = |from: usize| format!(".{}", parts[from..].join("."));
    let (place, rest) = match (parts[0], parts[1], parts[2]) {
        ("mid_block", "resnets", _) => (format!("middle_block.{}", 2 * number(2)), tail(3)),
        ("mid_block", ..) => ("middle_block.1".into(), tail(3)),
        ("down_blocks", _, "downsamplers") => {
            (format!("input_blocks.{}.0.op", (number(1) + 1) * block_size), tail(5))
        }
        ("up_blocks", _, "upsamplers") => {
            let kind = config["up_block_types"][number(1)].as_str().expect("a type");
            let place = 1 + usize::from(kind.starts_with("CrossAttn"));
            (format!("output_blocks.{}.{place}", (number(1) + 1) * block_size - 1), tail(4))
        }
        (way, _, what) => {
            let (way, first) = if way == "down_blocks" { ("input", 1) } else { ("output", 0) };
            let place = usize::from(what == "attentions");
            (format!("{way}_blocks.{}.{place}", first + number(1) * block_size + number(3)), tail(4))
        }
    };
    let is_resnet = parts.contains(&"resnets");
    let rest = RESNET.iter().filter(|_| is_resnet).fold(rest, |rest, (old, new)| rest.replace(old, new));
    format!("{place}{rest}")
}

fn vae_name(name: &str, levels: usize) -> String {
    const ATTENTION: [(&str, &str); 9] = [
        (".group_norm.", ".norm."),
        (".to_q.", ".q."),
        (".to_k.", ".k."),
        (".to_v.", ".v."),
        (".to_out.0.", ".proj_out."),
        (".query.", ".q."),
        (".key.", ".k."),
        (".value.", ".v."),
        (".proj_attn.", ".proj_out."),
    ];
    let mut name = name.replace(".conv_norm_out.", ".norm_out.").replace(".conv_shortcut.", ".nin_shortcut.");
    if name.contains(".mid_block.attentions.0.") {
        name = name.replace(".mid_block.attentions.0.", ".mid.attn_1.");
        return ATTENTION.iter().fold(name, |name, (old, new)| name.replace(old, new));
    }
    for i in 0..2 {
        name = name.replace(&format!(".mid_block.resnets.{i}."), &format!(".mid.block_{}.", i + 1));
    }
    for i in 0..levels {
        name = name
            .replace(&format!(".down_blocks.{i}.resnets."), &format!(".down.{i}.block."))
            .replace(&format!(".down_blocks.{i}.downsamplers.0."), &format!(".down.{i}.downsample."))
            .replace(&format!(".up_blocks.{i}.resnets."), &format!(".up.{}.block.", levels - 1 - i))
            .replace(&format!(".up_blocks.{i}.upsamplers.0."), &format!(".up.{}.upsample.", levels - 1 - i));
    }
    name
}

/// The text encoder as OpenCLIP saves it: q, k and v are one matrix; the tables have no `.weight`.
fn open_clip(tensors: &Tensors) -> Tensors {
    const RENAMES: [(&str, &str); 5] = [
        ("encoder.layers.", "transformer.resblocks."),
        (".self_attn.", ".attn."),
        (".layer_norm", ".ln_"),
        (".fc1.", ".mlp.c_fc."),
        (".mlp.mlp.", ".mlp."),
    ];
    let mut made = Tensors::new();
    for (name, tensor) in tensors {
        let short = name.strip_prefix("text_model.").unwrap_or(name);
        let short = short.replace("embeddings.token_embedding.", "token_embedding.");
        let short = short.replace("embeddings.position_embedding.weight", "positional_embedding");
        let short = short.replace("final_layer_norm.", "ln_final.");
        let short = RENAMES.iter().fold(short, |name, (old, new)| name.replace(old, new));
        let short = short.replace(".mlp.fc2.", ".mlp.c_proj.");
        if short.contains(".k_proj.") || short.contains(".v_proj.") {
            continue;
        }
        if !short.contains(".q_proj.") {
            made.insert(short, tensor.clone());
            continue;
        }
        let mut joined = tensor.clone();
        for other in ["k_proj", "v_proj"] {
            joined.bytes.extend(&tensors[&name.replace("q_proj", other)].bytes);
        }
        joined.shape[0] *= 3;
        made.insert(short.replace(".q_proj.", ".in_proj_"), joined);
    }
    made
}

/// Over name, type, shape and bytes of each tensor, in the order of the names.
pub fn sha256(tensors: &Tensors) -> String {
    let mut digest = Sha256::new();
    for (name, tensor) in tensors {
        digest.update(format!("{name} {:?} {:?}\n", tensor.dtype, tensor.shape));
        digest.update(&tensor.bytes);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_what_the_oracle_had() {
        let cases = json("single_files/cases.json");
        for case in cases.as_array().expect("a list") {
            let name = case["name"].as_str().expect("a name");
            let tensors = variant(name);
            assert_eq!(tensors.len() as u64, case["tensors"], "{name}");
            assert_eq!(sha256(&tensors), case["sha256"], "{name}");
        }
    }
}
