//! Stable Diffusion in one file: nothing but the standard library and a reader of weights.
//!
//! ```text
//! cargo run --release -p aquatint-model --example one_file -- "a castle at night" 7 castle.ppm
//! ```
//!
//! It draws with the model that is embedded in aquatint, 128×128 pixels. Everything is written as
//! the formulas have it: loops over plain numbers, one picture at a time, no tricks. The engine in
//! this repository does the same arithmetic a hundred times faster; its picture differs by at most
//! one level of 255.
//!
//! Read it from the end: [`draw`] is the algorithm, and each function that it calls is above
//! it.
//!
//! 1. numbers: [`Tensor`], the weights, random noise
//! 2. layers: linear, convolution, the two norms, attention
//! 3. the three networks: CLIP's text encoder, the UNet, the decoder of the VAE
//! 4. sampling: from noise to a latent, then to a picture

use std::collections::HashMap;
use std::error::Error;
use std::f32::consts::{FRAC_1_SQRT_2, TAU};
use std::path::Path;
use std::{env, fs};

// ------------------------------------------------------------------------------------- numbers

/// Numbers with a shape. An image is `[channels, height, width]`, a text `[tokens, channels]`, and
/// the last index runs fastest: number (c, y, x) of an image is `data[(c·height + y)·width + x]`.
#[derive(Clone)]
struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] }
    }

    /// Every number through a function.
    fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        self.data.iter_mut().for_each(|x| *x = f(*x));
        self
    }

    /// `self + other`, number by number.
    fn plus(mut self, other: &Tensor) -> Self {
        assert_eq!(self.shape, other.shape);
        self.data.iter_mut().zip(&other.data).for_each(|(x, y)| *x += y);
        self
    }

    /// Rows and columns exchanged: `[a, b]` → `[b, a]`. An image is a matrix of channels × pixels,
    /// and a transformer wants pixels × channels.
    fn transposed(&self) -> Self {
        let [rows, columns] = [self.shape[0], self.data.len() / self.shape[0]];
        let mut out = Self::zeros(&[columns, rows]);
        for row in 0..rows {
            for column in 0..columns {
                out.data[column * rows + row] = self.data[row * columns + column];
            }
        }
        out
    }

    /// The channels of two images of one size behind each other.
    fn concat(&self, other: &Tensor) -> Self {
        let shape = vec![self.shape[0] + other.shape[0], self.shape[1], self.shape[2]];
        Self { shape, data: [&self.data[..], &other.data].concat() }
    }
}

/// The weights of a network by name, in single precision.
struct Weights(HashMap<String, Tensor>);

impl Weights {
    /// Reads a safetensors file, whose numbers are half precision here.
    fn read(path: &Path) -> Result<Self, Box<dyn Error>> {
        let bytes = fs::read(path)?;
        let file = safetensors::SafeTensors::deserialize(&bytes)?;
        let tensors = file.tensors().into_iter().map(|(name, tensor)| {
            let pairs = tensor.data().chunks_exact(2);
            let data = pairs.map(|pair| widen_f16(u16::from_le_bytes([pair[0], pair[1]]))).collect();
            (name, Tensor { shape: tensor.shape().to_vec(), data })
        });
        Ok(Self(tensors.collect()))
    }

    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the model has no tensor `{name}`"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Half precision → single: 1 bit of sign, 5 of exponent (offset 15), 10 of fraction.
fn widen_f16(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023) / 1024.0);
    match exponent {
        0 => sign * fraction * 2f32.powi(-14),
        31 => sign * if fraction == 0.0 { f32::INFINITY } else { f32::NAN },
        _ => sign * (1.0 + fraction) * 2f32.powi(exponent - 15),
    }
}

/// The random numbers of PyTorch on a CPU, so that a seed means the same noise everywhere: the
/// generator mt19937 (Matsumoto and Nishimura, 1998) and the method of Box and Muller (1958).
struct Random {
    state: [u32; 624],
    next: usize,
}

impl Random {
    fn new(seed: u32) -> Self {
        let mut state = [seed; 624];
        for i in 1..624 {
            let before = state[i - 1] ^ state[i - 1] >> 30;
            state[i] = before.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    /// 32 random bits.
    fn bits(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let mixed = self.state[i] & 1 << 31 | self.state[(i + 1) % 624] & !(1 << 31);
                let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + 397) % 624] ^ mixed >> 1 ^ odd;
            }
            self.next = 0;
        }
        let mut x = self.state[self.next];
        self.next += 1;
        x ^= x >> 11;
        x ^= x << 7 & 0x9d2c_5680;
        x ^= x << 15 & 0xefc6_0000;
        x ^ x >> 18
    }

    /// Numbers from the normal distribution with mean 0 and variance 1, a multiple of 16 of them.
    /// Of 16 uniform numbers u, each pair 8 apart gives √(−2 ln(1 − u₁))·(cos, sin)(2π u₂).
    fn normal(&mut self, shape: &[usize]) -> Tensor {
        let mut noise = Tensor::zeros(shape);
        noise.data.fill_with(|| (self.bits() & 0xff_ffff) as f32 / (1 << 24) as f32);
        for block in noise.data.chunks_exact_mut(16) {
            for i in 0..8 {
                let (u1, u2) = (1.0 - block[i], block[i + 8]);
                let radius = (-2.0 * u1.ln()).sqrt();
                (block[i], block[i + 8]) = (radius * (TAU * u2).cos(), radius * (TAU * u2).sin());
            }
        }
        noise
    }
}

// -------------------------------------------------------------------------------------- layers

/// The weights of one layer or block: a network's weights and the beginning of their names.
#[derive(Clone)]
struct Layer<'a> {
    weights: &'a Weights,
    name: String,
}

impl<'a> Layer<'a> {
    fn at(&self, name: impl std::fmt::Display) -> Self {
        let dot = if self.name.is_empty() { "" } else { "." };
        Self { weights: self.weights, name: format!("{}{dot}{name}", self.name) }
    }

    fn weight(&self) -> &'a Tensor {
        self.weights.get(&format!("{}.weight", self.name))
    }

    /// One number for each output; zeros where the layer has none.
    fn bias(&self) -> Vec<f32> {
        let name = format!("{}.bias", self.name);
        let outputs = self.weight().shape[0];
        if self.weights.has(&name) { self.weights.get(&name).data.clone() } else { vec![0.0; outputs] }
    }

    fn exists(&self) -> bool {
        self.weights.has(&format!("{}.weight", self.name))
    }

    /// y[row, o] = bias[o] + Σᵢ weight[o, i]·x[row, i]
    fn linear(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (self.weight(), self.bias());
        let (outputs, inputs) = (weight.shape[0], x.shape[1]);
        let mut y = Tensor::zeros(&[x.shape[0], outputs]);
        for (x, y) in x.data.chunks(inputs).zip(y.data.chunks_mut(outputs)) {
            for o in 0..outputs {
                let products = weight.data[o * inputs..][..inputs].iter().zip(x).map(|(w, x)| w * x);
                y[o] = bias[o] + products.sum::<f32>();
            }
        }
        y
    }

    /// y[o, y, x] = bias[o] + Σ weight[o, i, j, k]·x[i, y·stride + j − padding, x·stride + k −
    /// padding]
    ///
    /// What lies beyond the edge counts as zero. With a window of 3, padding 1 and stride 1 the
    /// image keeps its size; with stride 2 it is halved: ⌊(size + 2·padding − window) / stride⌋ +
    /// 1.
    fn conv2d(&self, image: &Tensor, stride: usize) -> Tensor {
        let (weight, bias) = (self.weight(), self.bias());
        let [outputs, inputs, window] = [weight.shape[0], weight.shape[1], weight.shape[2]];
        let padded = pad(image, window / 2);
        let [padded_height, padded_width] = [padded.shape[1], padded.shape[2]];
        let size = |side: usize| (side - window) / stride + 1;
        let [height, width] = [size(padded_height), size(padded_width)];
        let mut result = Tensor::zeros(&[outputs, height, width]);
        for (o, plane) in result.data.chunks_mut(height * width).enumerate() {
            plane.fill(bias[o]);
            for i in 0..inputs {
                for (j, k) in (0..window).flat_map(|j| (0..window).map(move |k| (j, k))) {
                    let w = weight.data[((o * inputs + i) * window + j) * window + k];
                    for (y, row) in plane.chunks_mut(width).enumerate() {
                        let start = (i * padded_height + y * stride + j) * padded_width + k;
                        let seen = padded.data[start..].iter().step_by(stride);
                        row.iter_mut().zip(seen).for_each(|(out, x)| *out += w * x);
                    }
                }
            }
        }
        result
    }

    /// Each group of channels of an image gets mean 0 and variance 1, over all its pixels; then
    /// each channel is scaled and shifted. Groups, because a batch of one picture has no statistics
    /// over pictures, and single channels would forget how bright they are beside each other.
    fn group_norm(&self, image: &Tensor, groups: usize, eps: f32) -> Tensor {
        let (weight, bias) = (self.weight(), self.bias());
        let channels = image.shape[0];
        let pixels = image.data.len() / channels;
        let mut y = image.clone();
        for group in y.data.chunks_mut(channels / groups * pixels) {
            normalise(group, eps);
        }
        for (c, plane) in y.data.chunks_mut(pixels).enumerate() {
            plane.iter_mut().for_each(|x| *x = *x * weight.data[c] + bias[c]);
        }
        y
    }

    /// The same for each token of a text over its channels.
    fn layer_norm(&self, tokens: &Tensor) -> Tensor {
        let (weight, bias) = (self.weight(), self.bias());
        let mut y = tokens.clone();
        for token in y.data.chunks_mut(tokens.shape[1]) {
            normalise(token, 1e-5);
            token.iter_mut().enumerate().for_each(|(c, x)| *x = *x * weight.data[c] + bias[c]);
        }
        y
    }
}

/// The image with a border of zeros.
fn pad(image: &Tensor, border: usize) -> Tensor {
    let [channels, height, width] = [image.shape[0], image.shape[1], image.shape[2]];
    let mut padded = Tensor::zeros(&[channels, height + 2 * border, width + 2 * border]);
    for (at, row) in image.data.chunks(width).enumerate() {
        let (c, y) = (at / height, at % height + border);
        let start = (c * (height + 2 * border) + y) * (width + 2 * border) + border;
        padded.data[start..][..width].copy_from_slice(row);
    }
    padded
}

/// (x − mean) / √(variance + eps)
fn normalise(numbers: &mut [f32], eps: f32) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = numbers.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    numbers.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) * scale) as f32);
}

/// x·sigmoid(x), the activation of UNet and VAE.
fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}

/// x·Φ(x), where Φ is the normal distribution's: ½·(1 + erf(x / √2)). The error function by
/// Abramowitz and Stegun, formula 7.1.26, whose error is below 1.5·10⁻⁷.
fn gelu(x: f32) -> f32 {
    let z = (x * FRAC_1_SQRT_2).abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let polynomial = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let erf = 1.0 - polynomial.iter().fold(0.0, |sum, a| (sum + a) * t) * (-z * z).exp();
    0.5 * x * (1.0 + erf.copysign(x))
}

/// softmax(Q·Kᵀ / √d)·V for each head: what a query takes from each value depends on how well it
/// fits the value's key. `q: [queries, channels]`, `k` and `v: [keys, channels]`; a head is some of
/// the channels. In a `causal` text no token sees those behind it.
fn attention([q, k, v]: [&Tensor; 3], heads: usize, causal: bool) -> Tensor {
    let (channels, keys) = (q.shape[1], k.shape[0]);
    let width = channels / heads;
    let mut out = Tensor::zeros(&q.shape);
    for head in 0..heads {
        let of = |x: &'_ Tensor, row: usize| row * x.shape[1] + head * width;
        for query in 0..q.shape[0] {
            let seen = if causal { query + 1 } else { keys };
            let fit = |key: usize| -> f32 {
                let (q, k) = (&q.data[of(q, query)..][..width], &k.data[of(k, key)..][..width]);
                q.iter().zip(k).map(|(q, k)| q * k).sum::<f32>() / (width as f32).sqrt()
            };
            let fits: Vec<f32> = (0..seen).map(fit).collect();
            let largest = fits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = fits.iter().map(|fit| (fit - largest).exp()).collect();
            let sum: f32 = weights.iter().sum();
            let out = &mut out.data[query * channels + head * width..][..width];
            for (key, weight) in weights.iter().enumerate() {
                let v = &v.data[of(v, key)..][..width];
                out.iter_mut().zip(v).for_each(|(out, v)| *out += weight / sum * v);
            }
        }
    }
    out
}

/// Each pixel becomes a square of four.
fn upsample(image: &Tensor) -> Tensor {
    let [channels, height, width] = [image.shape[0], image.shape[1], image.shape[2]];
    let mut out = Tensor::zeros(&[channels, 2 * height, 2 * width]);
    for (at, pixel) in out.data.iter_mut().enumerate() {
        let (x, y, c) = (at % (2 * width), at / (2 * width) % (2 * height), at / (4 * height * width));
        *pixel = image.data[(c * height + y / 2) * width + x / 2];
    }
    out
}

// ---------------------------------------------------------------------------- the text encoder

/// Tokens in a text: what is shorter is padded, what is longer is cut.
const TOKENS: usize = 77;

/// Text → token ids, by byte-pair encoding: a word is first a list of bytes, and the pair that was
/// merged earliest when the vocabulary was made is merged first.
struct Tokenizer {
    /// Each pair and its rank.
    merges: HashMap<(String, String), usize>,
    ids: HashMap<String, usize>,
}

impl Tokenizer {
    fn read(merges: &Path) -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(merges)?;
        let pairs = text.lines().skip(1).filter_map(|line| line.split_once(' '));
        let pairs: Vec<_> = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        // The vocabulary: bytes, bytes that end a word, what each merge makes, two marks.
        let visible = (33..=126).chain(161..=172).chain(174..=255);
        let hidden = (0..=32).chain(127..=160).chain([173]);
        let letters: Vec<String> = visible.chain(hidden).map(|byte| letter(byte).to_string()).collect();
        let ends = letters.iter().map(|letter| format!("{letter}</w>"));
        let merged = pairs.iter().map(|(a, b)| format!("{a}{b}"));
        let words = letters.iter().cloned().chain(ends).chain(merged);
        let ids = words.enumerate().map(|(id, word)| (word, id)).collect();
        Ok(Self { merges: pairs.into_iter().enumerate().map(|(rank, pair)| (pair, rank)).collect(), ids })
    }

    /// Start, the text, end, and the end again until there are 77.
    fn encode(&self, text: &str) -> Vec<usize> {
        let start = self.ids.len();
        let end = start + 1;
        let tokens = words(&text.to_lowercase()).into_iter().flat_map(|word| self.merge(&word));
        let mut ids: Vec<usize> = [start].into_iter().chain(tokens.take(TOKENS - 2)).collect();
        ids.resize(TOKENS, end);
        ids
    }

    fn merge(&self, word: &str) -> Vec<usize> {
        let mut parts: Vec<String> = word.bytes().map(|byte| letter(byte).to_string()).collect();
        parts.last_mut().expect("words have letters").push_str("</w>");
        loop {
            let rank = |i: usize| self.merges.get(&(parts[i].clone(), parts[i + 1].clone())).copied();
            let ranked = (1..parts.len()).filter_map(|i| Some((rank(i - 1)?, i - 1)));
            let Some((_, first)) = ranked.min() else { break };
            let second = parts.remove(first + 1);
            parts[first].push_str(&second);
        }
        parts.iter().map(|part| self.ids[part]).collect()
    }
}

/// A visible letter for each byte: its own in Latin-1, or one of those behind it.
fn letter(byte: u8) -> char {
    match byte {
        0..=32 => char::from_u32(256 + u32::from(byte)),
        127..=160 => char::from_u32(256 + 33 + u32::from(byte) - 127),
        173 => char::from_u32(256 + 33 + 34),
        _ => Some(char::from(byte)),
    }
    .expect("below the surrogates")
}

/// Cuts a text into words, single digits and runs of other signs; the ends of "it's" and "we'll"
/// are words of their own.
fn words(text: &str) -> Vec<String> {
    const ENDS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    let kind = |c: char| match c {
        _ if c.is_whitespace() => 0,
        _ if c.is_alphabetic() => 1,
        _ if c.is_numeric() => 2,
        _ => 3,
    };
    let mut words = Vec::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let end = ENDS.iter().find(|end| rest.starts_with(**end)).map(|end| end.len());
        let run = rest.find(|c| kind(c) != kind(first)).unwrap_or(rest.len());
        let length = end.unwrap_or(if kind(first) == 2 { first.len_utf8() } else { run });
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    words
}

/// CLIP's text encoder: `[77, 128]`, one vector for each token, which also knows the tokens before.
fn encode_text(clip: &Weights, ids: &[usize]) -> Tensor {
    const HEADS: usize = 4;
    let clip = Layer { weights: clip, name: "text_model".into() };
    let (tokens, places) =
        (clip.at("embeddings.token_embedding").weight(), clip.at("embeddings.position_embedding").weight());
    let channels = tokens.shape[1];
    let row = |id: &usize| tokens.data[id * channels..][..channels].to_vec();
    let embedded = Tensor { shape: vec![ids.len(), channels], data: ids.iter().flat_map(row).collect() };
    let mut x = embedded.plus(places);
    for layer in (0..).map(|i| clip.at(format!("encoder.layers.{i}"))) {
        if !layer.at("layer_norm1").exists() {
            break;
        }
        let normed = layer.at("layer_norm1").layer_norm(&x);
        let project = |name: &str| layer.at("self_attn").at(name).linear(&normed);
        let attended = attention([&project("q_proj"), &project("k_proj"), &project("v_proj")], HEADS, true);
        x = x.plus(&layer.at("self_attn.out_proj").linear(&attended));
        let normed = layer.at("layer_norm2").layer_norm(&x);
        let hidden = layer.at("mlp.fc1").linear(&normed).map(|x| x / (1.0 + (-1.702 * x).exp()));
        x = x.plus(&layer.at("mlp.fc2").linear(&hidden));
    }
    clip.at("final_layer_norm").layer_norm(&x)
}

// ------------------------------------------------------------------------------------ the UNet

/// Groups of its norms, heads of its attention.
const UNET_GROUPS: usize = 32;
const UNET_HEADS: usize = 4;

/// A residual block: two convolutions, and what the time says between them.
///
/// h = conv2(silu(norm2(conv1(silu(norm1(x))) + time_emb_proj(silu(temb)))));  x + h
fn resnet(layer: &Layer<'_>, x: &Tensor, temb: Option<&Tensor>, [groups, eps]: [f32; 2]) -> Tensor {
    let norm = |name: &str, x: &Tensor| layer.at(name).group_norm(x, groups as usize, eps).map(silu);
    let mut h = layer.at("conv1").conv2d(&norm("norm1", x), 1);
    if let Some(temb) = temb {
        let shift = layer.at("time_emb_proj").linear(&temb.clone().map(silu));
        let pixels = h.shape[1] * h.shape[2];
        for (plane, shift) in h.data.chunks_mut(pixels).zip(&shift.data) {
            plane.iter_mut().for_each(|x| *x += shift);
        }
    }
    let h = layer.at("conv2").conv2d(&norm("norm2", &h), 1);
    match layer.at("conv_shortcut") {
        shortcut if shortcut.exists() => shortcut.conv2d(x, 1).plus(&h),
        _ => x.clone().plus(&h),
    }
}

/// A transformer: every pixel looks at all pixels, then at all words, then thinks for itself.
fn transformer(layer: &Layer<'_>, image: &Tensor, text: &Tensor) -> Tensor {
    let normed = layer.at("norm").group_norm(image, UNET_GROUPS, 1e-6);
    let mut x = layer.at("proj_in").conv2d(&normed, 1).transposed(); // [pixels, channels]
    let block = layer.at("transformer_blocks.0");
    let attend = |name: &str, x: &Tensor, seen: &Tensor| {
        let part = block.at(name);
        let (q, k, v) =
            (part.at("to_q").linear(x), part.at("to_k").linear(seen), part.at("to_v").linear(seen));
        part.at("to_out.0").linear(&attention([&q, &k, &v], UNET_HEADS, false))
    };
    let normed = block.at("norm1").layer_norm(&x);
    x = x.plus(&attend("attn1", &normed, &normed));
    let normed = block.at("norm2").layer_norm(&x);
    x = x.plus(&attend("attn2", &normed, text));
    // GEGLU: half of the hidden numbers say how much of the other half passes.
    let hidden = block.at("ff.net.0.proj").linear(&block.at("norm3").layer_norm(&x));
    let half = hidden.shape[1] / 2;
    let gated = |row: &[f32]| -> Vec<f32> { (0..half).map(|i| row[i] * gelu(row[half + i])).collect() };
    let gated = hidden.data.chunks(2 * half).flat_map(gated).collect();
    let gated = Tensor { shape: vec![x.shape[0], half], data: gated };
    x = x.plus(&block.at("ff.net.2").linear(&gated));
    let image_again = Tensor { shape: image.shape.clone(), data: x.transposed().data };
    layer.at("proj_out").conv2d(&image_again, 1).plus(image)
}

/// What the timestep is for the network: 64 cosines and 64 sines of it, from fast to slow waves,
/// then two layers.
fn embed_time(unet: &Layer<'_>, t: usize) -> Tensor {
    let half = unet.at("time_embedding.linear_1").weight().shape[1] / 2;
    let angle = |i: usize| t as f32 * (-(10000f32.ln()) * i as f32 / half as f32).exp();
    let waves = (0..half).map(|i| angle(i).cos()).chain((0..half).map(|i| angle(i).sin())).collect();
    let waves = Tensor { shape: vec![1, 2 * half], data: waves };
    let hidden = unet.at("time_embedding.linear_1").linear(&waves).map(silu);
    unet.at("time_embedding.linear_2").linear(&hidden)
}

/// The UNet: noisy latent `[4, 16, 16]`, timestep and text → the network's prediction, `[4, 16,
/// 16]`.
///
/// On the way down the image becomes smaller; on the way up each block sees also what the block of
/// its size on the way down made (the "skips"), so that nothing fine is lost.
fn unet(weights: &Weights, latent: &Tensor, t: usize, text: &Tensor) -> Tensor {
    let unet = Layer { weights, name: String::new() };
    let temb = embed_time(&unet, t);
    let norm = [UNET_GROUPS as f32, 1e-5];
    let resnet = |layer: &Layer<'_>, x: &Tensor| resnet(layer, x, Some(&temb), norm);

    let mut x = unet.at("conv_in").conv2d(latent, 1);
    let mut skips = vec![x.clone()];
    for block in (0..2).map(|i| unet.at("down_blocks").at(i)) {
        x = resnet(&block.at("resnets.0"), &x);
        if block.at("attentions.0.norm").exists() {
            x = transformer(&block.at("attentions.0"), &x, text);
        }
        skips.push(x.clone());
        if block.at("downsamplers.0.conv").exists() {
            x = block.at("downsamplers.0.conv").conv2d(&x, 2);
            skips.push(x.clone());
        }
    }
    let middle = unet.at("mid_block");
    x = resnet(&middle.at("resnets.0"), &x);
    x = transformer(&middle.at("attentions.0"), &x, text);
    x = resnet(&middle.at("resnets.1"), &x);
    for block in (0..2).map(|i| unet.at("up_blocks").at(i)) {
        for i in 0..2 {
            let skip = skips.pop().expect("as many as there are blocks");
            x = resnet(&block.at("resnets").at(i), &x.concat(&skip));
            let attention = block.at("attentions").at(i);
            if attention.at("norm").exists() {
                x = transformer(&attention, &x, text);
            }
        }
        if block.at("upsamplers.0.conv").exists() {
            x = block.at("upsamplers.0.conv").conv2d(&upsample(&x), 1);
        }
    }
    let x = unet.at("conv_norm_out").group_norm(&x, UNET_GROUPS, 1e-5).map(silu);
    unet.at("conv_out").conv2d(&x, 1)
}

// ------------------------------------------------------------------------------------- the VAE

/// The decoder of the VAE: latent `[4, 16, 16]` → picture `[3, 128, 128]`, about −1 to 1.
fn decode(weights: &Weights, latent: &Tensor) -> Tensor {
    let norm @ [groups, eps] = [8.0, 1e-6];
    let vae = Layer { weights, name: String::new() };
    let decoder = vae.at("decoder");
    let resnet = |layer: &Layer<'_>, x: &Tensor| resnet(layer, x, None, norm);

    let mut x = decoder.at("conv_in").conv2d(&vae.at("post_quant_conv").conv2d(latent, 1), 1);
    let middle = decoder.at("mid_block");
    x = resnet(&middle.at("resnets.0"), &x);
    let attention_layer = middle.at("attentions.0");
    let tokens = attention_layer.at("group_norm").group_norm(&x, groups as usize, eps).transposed();
    let project = |name: &str| attention_layer.at(name).linear(&tokens);
    let attended = attention([&project("to_q"), &project("to_k"), &project("to_v")], 1, false);
    let attended = attention_layer.at("to_out.0").linear(&attended).transposed();
    x = Tensor { shape: x.shape.clone(), data: attended.data }.plus(&x);
    x = resnet(&middle.at("resnets.1"), &x);
    for block in (0..4).map(|i| decoder.at("up_blocks").at(i)) {
        for i in 0..2 {
            x = resnet(&block.at("resnets").at(i), &x);
        }
        if block.at("upsamplers.0.conv").exists() {
            x = block.at("upsamplers.0.conv").conv2d(&upsample(&x), 1);
        }
    }
    let x = decoder.at("conv_norm_out").group_norm(&x, groups as usize, eps).map(silu);
    decoder.at("conv_out").conv2d(&x, 1)
}

// ---------------------------------------------------------------------------------- sampling

/// How much of the picture is left at each of the 1000 noise levels, ᾱ[t]: the product of 1 − β up
/// to t, where √β rises evenly.
fn alphas_cumprod() -> Vec<f64> {
    let (first, last) = (0.00085f64.sqrt(), 0.012f64.sqrt());
    let beta = |t: usize| (first + (last - first) * t as f64 / 999.0).powi(2);
    let next = |product: &mut f64, t| {
        *product *= 1.0 - beta(t);
        Some(*product)
    };
    (0..1000).scan(1.0, next).collect()
}

/// From a prompt to a picture `[3, 128, 128]` of levels from 0 to 255.
///
/// Training mixed latents of pictures with noise, x = √ᾱ·picture + √(1 − ᾱ)·noise, and asked the
/// UNet for v = √ᾱ·noise − √(1 − ᾱ)·picture. Both can be had back from x and v, so each step takes
/// the noise that the UNet sees away and adds it again at the next, lower level (DDIM, Song et al.
/// 2020). The UNet answers twice, with the prompt and without a text, and the difference is
/// exaggerated: classifier-free guidance (Ho and Salimans 2022).
pub(crate) fn draw(model: &Path, prompt: &str, seed: u32, steps: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    const GUIDANCE: f32 = 4.0;
    let tokenizer = Tokenizer::read(&model.join("tokenizer/merges.txt"))?;
    let clip = Weights::read(&model.join("text_encoder/model.safetensors"))?;
    let unet_weights = Weights::read(&model.join("unet/diffusion_pytorch_model.safetensors"))?;
    let vae = Weights::read(&model.join("vae/diffusion_pytorch_model.safetensors"))?;

    let text = encode_text(&clip, &tokenizer.encode(prompt));
    let no_text = encode_text(&clip, &tokenizer.encode(""));
    let alphas = alphas_cumprod();
    let mut x = Random::new(seed).normal(&[4, 16, 16]);
    // The last of 1000 levels first, then evenly down: 999, 949, … for 20 steps.
    for i in (1..=steps).rev() {
        let t = (1000 * i + steps / 2) / steps - 1;
        let alpha_next = t.checked_sub(1000 / steps).map_or(1.0, |next| alphas[next]);

        let (with_text, without) = (unet(&unet_weights, &x, t, &text), unet(&unet_weights, &x, t, &no_text));
        let guide = |(with, without): (f32, f32)| without + GUIDANCE * (with - without);
        let v = with_text.data.into_iter().zip(without.data).map(guide);

        let [signal, noise] = [alphas[t].sqrt() as f32, (1.0 - alphas[t]).sqrt() as f32];
        let [signal_next, noise_next] = [alpha_next.sqrt() as f32, (1.0 - alpha_next).sqrt() as f32];
        for (x, v) in x.data.iter_mut().zip(v) {
            let picture = signal * *x - noise * v;
            let the_noise = signal * v + noise * *x;
            *x = signal_next * picture + noise_next * the_noise;
        }
    }
    let picture = decode(&vae, &x);
    Ok(picture.data.iter().map(|x| ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let argument = |i: usize, default: &str| arguments.get(i).cloned().unwrap_or(default.to_owned());
    let (prompt, seed, file) =
        (argument(0, "a castle at night"), argument(1, "7").parse()?, argument(2, "one_file.ppm"));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("embedded");
    let levels = draw(&model, &prompt, seed, 20)?;
    // A PPM file: a line of text, then red, green and blue of each pixel.
    let pixels = levels.len() / 3;
    let mut ppm = b"P6 128 128 255\n".to_vec();
    ppm.extend((0..pixels).flat_map(|i| [levels[i], levels[pixels + i], levels[2 * pixels + i]]));
    fs::write(&file, ppm)?;
    println!("{file}");
    Ok(())
}
