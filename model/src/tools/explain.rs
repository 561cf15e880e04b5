//! One picture, looked at while it is made: what each step saw and predicted, what guidance added,
//! and how strongly each pixel looked at each word.
//!
//! ```text
//! tokens      what the text encoder sees of the prompts
//! step        x_t; x̂₀ with guidance, without the prompt, with it; where the two differ
//! words       cross-attention, averaged over heads and layers (`networks/attention_maps.rs`)
//! layers      the same for each layer, averaged over the steps
//! levels      the sizes on the UNet's way down
//! work        where the time went, by class of layer
//! ```
//!
//! The picture is the one that [`Pipeline::text_to_image`] makes: nothing here changes a bit of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use aquatint_kernels::conv2d::output_size;
use aquatint_tensor::{Tensor, View};

use crate::error::Result;

use crate::generate::{Callbacks, Interrupt, Pipeline, Progress, PromptTokens, StepInfo, TextToImage};
use crate::image::Image;
use crate::networks::attention_maps;
use crate::networks::trace::{self, LayerTime};
use crate::networks::vae::Projection;

/// Latents of at most this many pixels are decoded by the VAE at each step; of larger ones colours
/// are fitted to the finished picture.
const DECODED_PIXELS: usize = 32 * 32;

/// Tokens of a chunk: what the text encoder reads at once.
const CHUNK: usize = 77;

/// A picture, and how it came about.
pub struct Explanation {
    /// The finished picture, with its parameters.
    pub image: Image,
    /// The tokens of prompt and negative prompt.
    pub prompts: [PromptTokens; 2],
    /// `[channels, height, width]` of the latents.
    pub shape: [usize; 3],
    /// The latents of the finished picture.
    pub latents: Vec<f32>,
    /// The steps, in order.
    pub steps: Vec<ExplainedStep>,
    /// The attentions to the text, in the order of the UNet's layers, averaged over the steps; none
    /// if the UNet was not loaded in f32.
    pub layers: Vec<WordMaps>,
    /// The UNet's way down, from the size of the latents.
    pub levels: Vec<Level>,
    /// The layers of all networks by class, those that took longest first.
    pub work: Vec<ClassTime>,
}

/// A step.
pub struct ExplainedStep {
    /// The training timestep at which the UNet was asked.
    pub timestep: f32,
    /// Noise over signal.
    pub sigma: f32,
    /// What the UNet saw, x_t.
    pub input: Image,
    /// What it takes for the finished picture, x̂₀, with guidance.
    pub predicted: Image,
    /// What guidance is made of; `None` without.
    pub guidance: Option<Guidance>,
    /// For each token of the prompt's first chunk, averaged over heads and layers.
    pub words: Option<WordMaps>,
}

/// The two answers that guidance exaggerates the difference of.
pub struct Guidance {
    /// x̂₀ without the prompt (or with the negative one).
    pub unconditional: Image,
    /// x̂₀ with the prompt.
    pub conditional: Image,
    /// Where the two answers differ: the root of the mean square over channels, `[height, width]`.
    pub difference: Vec<f32>,
}

/// How strongly each pixel looks at each token.
#[derive(Clone, Debug, PartialEq)]
pub struct WordMaps {
    /// Rows and columns of pixels.
    pub size: [usize; 2],
    /// For each token `[height, width]`. The weights of a pixel sum to 1 over all tokens that the
    /// text encoder gives, with those that fill a chunk.
    pub tokens: Vec<Vec<f32>>,
}

/// A level of the UNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Rows and columns of pixels.
    pub size: [usize; 2],
    /// Numbers of each pixel.
    pub channels: usize,
}

/// The layers of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassTime {
    /// "conv 3×3", "linear", "group norm".
    pub kind: &'static str,
    /// How often such a layer ran.
    pub count: usize,
    /// All of them together.
    pub seconds: f64,
    /// Multiplications and additions by the definition.
    pub flops: f64,
}

impl Pipeline {
    /// Makes a picture and explains it. `progress` hears of the steps.
    ///
    /// # Errors
    /// As [`Pipeline::text_to_image`].
    pub fn explain(&self, request: &TextToImage, progress: &mut dyn FnMut(Progress)) -> Result<Explanation> {
        let prompts = self.prompt_tokens(request)?;
        let tokens = prompts[0].tokens.len().min(CHUNK);
        let mut notes = Notes::new(tokens, progress);
        let (image, layers) =
            trace::record(|| attention_maps::record(|| self.text_to_image(request, &mut notes)));
        let image = image?;
        let (shape, latents) = (notes.shape, notes.latents);
        let [channels, height, width] = shape;
        let projection = Projection::fit(shape, &latents, &image);
        let show = |latents: &Vec<f32>| match height * width <= DECODED_PIXELS {
            true => self.decode_latents(View::from_slice([1, channels, height, width], latents)),
            false => Ok(projection.picture(latents)),
        };
        let steps = notes.steps.iter().map(|step| step.shown(&show)).collect::<Result<_>>()?;
        let count = notes.steps.len().max(1) as f32;
        let mean = |mut maps: WordMaps| {
            maps.tokens.iter_mut().flatten().for_each(|weight| *weight /= count);
            maps
        };
        Ok(Explanation {
            prompts,
            shape,
            steps,
            layers: notes.layers.into_iter().map(mean).collect(),
            levels: levels([height, width], &self.unet_config.block_out_channels),
            work: by_class(&layers),
            image,
            latents,
        })
    }
}

/// The UNet's way down: each level but the first is halved by a 3×3 convolution with stride 2 and
/// one pixel of padding on each side.
fn levels(size: [usize; 2], channels: &[usize]) -> Vec<Level> {
    let halved = |size: &[usize; 2]| Some(size.map(|side| output_size(side, 3, 2, 2, 1).unwrap_or(1)));
    let sizes = std::iter::successors(Some(size), halved);
    sizes.zip(channels).map(|(size, &channels)| Level { size, channels }).collect()
}

fn by_class(layers: &[LayerTime]) -> Vec<ClassTime> {
    let mut classes = BTreeMap::new();
    for LayerTime { work, seconds } in layers {
        let empty = ClassTime { kind: work.kind, count: 0, seconds: 0.0, flops: 0.0 };
        let class = classes.entry(work.kind).or_insert(empty);
        class.count += 1;
        class.seconds += seconds;
        class.flops += work.flops;
    }
    let mut classes: Vec<_> = classes.into_values().collect();
    classes.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    classes
}

/// What is noted while the picture is made.
struct Notes<'a> {
    tokens: usize,
    progress: &'a mut dyn FnMut(Progress),
    shape: [usize; 3],
    /// The UNet's answers of the step under way: `[texts, channels · height · width]`.
    answers: Vec<Vec<f32>>,
    steps: Vec<StepNotes>,
    /// Sums over the steps.
    layers: Vec<WordMaps>,
    latents: Vec<f32>,
}

struct StepNotes {
    timestep: f32,
    sigma: f32,
    input: Vec<f32>,
    predicted: Vec<f32>,
    guidance: Option<([Vec<f32>; 2], Vec<f32>)>,
    words: Option<WordMaps>,
}

impl<'a> Notes<'a> {
    fn new(tokens: usize, progress: &'a mut dyn FnMut(Progress)) -> Self {
        let (answers, steps, layers, latents) = Default::default();
        Self { tokens, progress, shape: [0; 3], answers, steps, layers, latents }
    }

    /// The mean over the layers, at the size of the latents; adds to the sums of each layer.
    fn words(&mut self, maps: &[Tensor<f32, 3>]) -> Option<WordMaps> {
        let [_, height, width] = self.shape;
        let maps: Vec<_> =
            maps.iter().filter_map(|map| word_maps(map, [height, width], self.tokens)).collect();
        if self.layers.is_empty() {
            self.layers.clone_from(&maps);
        } else {
            let numbers =
                |maps: &[WordMaps]| maps.iter().flat_map(|map| map.tokens.concat()).collect::<Vec<_>>();
            let new = numbers(&maps);
            let sums = self.layers.iter_mut().flat_map(|map| map.tokens.iter_mut().flatten());
            sums.zip(new).for_each(|(sum, new)| *sum += new);
        }
        let count = maps.len();
        let sum = maps.iter().map(|map| map.enlarged([height, width])).reduce(|mut sum, map| {
            let numbers = sum.tokens.iter_mut().flatten().zip(map.tokens.iter().flatten());
            numbers.for_each(|(sum, weight)| *sum += weight);
            sum
        });
        sum.map(|mut sum| {
            sum.tokens.iter_mut().flatten().for_each(|weight| *weight /= count as f32);
            sum
        })
    }
}

impl Callbacks for Notes<'_> {
    fn progress(&mut self, event: Progress) {
        (self.progress)(event);
    }

    fn on_predictions(&mut self, predictions: View<'_, f32, 4>) {
        let texts = predictions.shape()[0];
        let channels_first = predictions.permute([0, 3, 1, 2]);
        self.answers =
            (0..texts).map(|text| channels_first.slice(0, text..text + 1).iter().collect()).collect();
    }

    fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>> {
        self.shape = info.shape();
        let answers = std::mem::take(&mut self.answers);
        let guidance = match &answers[..] {
            [unconditional, conditional] => {
                let pixels = self.shape[1] * self.shape[2];
                let mut difference = vec![0.0f32; pixels];
                for (i, (a, b)) in unconditional.iter().zip(conditional).enumerate() {
                    difference[i % pixels] += (a - b).powi(2) / self.shape[0] as f32;
                }
                difference.iter_mut().for_each(|x| *x = x.sqrt());
                let both = [unconditional, conditional].map(|x| info.pred_original_sample_of(0, x));
                Some((both, difference))
            }
            _ => None,
        };
        let words = self.words(&attention_maps::take());
        self.steps.push(StepNotes {
            timestep: info.timestep(),
            sigma: info.sigma(),
            input: info.model_input(0),
            predicted: info.pred_original_sample(0),
            guidance,
            words,
        });
        Ok(ControlFlow::Continue(()))
    }

    fn on_image(&mut self, _index: usize, latents: &[f32], _picture: &Image) {
        self.latents = latents.to_vec();
    }
}

impl StepNotes {
    fn shown(&self, show: &dyn Fn(&Vec<f32>) -> Result<Image>) -> Result<ExplainedStep> {
        let guidance = match &self.guidance {
            Some(([unconditional, conditional], difference)) => Some(Guidance {
                unconditional: show(unconditional)?,
                conditional: show(conditional)?,
                difference: difference.clone(),
            }),
            None => None,
        };
        Ok(ExplainedStep {
            timestep: self.timestep,
            sigma: self.sigma,
            input: show(&self.input)?,
            predicted: show(&self.predicted)?,
            guidance,
            words: self.words.clone(),
        })
    }
}

/// The last text's part of a map `[texts, pixels, tokens]`, for latents of this size; `None` if the
/// pixels are of none of the UNet's levels.
fn word_maps(map: &Tensor<f32, 3>, latents: [usize; 2], tokens: usize) -> Option<WordMaps> {
    let [texts, pixels, all_tokens] = map.shape();
    let mut size = latents;
    while size[0] * size[1] > pixels {
        size = size.map(|side| side.div_ceil(2));
    }
    if size[0] * size[1] != pixels {
        return None;
    }
    let weights = &map.as_slice()[(texts - 1) * pixels * all_tokens..];
    let of = |token: usize| weights.iter().skip(token).step_by(all_tokens).copied().collect();
    Some(WordMaps { size, tokens: (0..tokens.min(all_tokens)).map(of).collect() })
}

impl WordMaps {
    /// The nearest pixel for each pixel of a larger size.
    fn enlarged(&self, size: [usize; 2]) -> Self {
        let [height, width] = self.size;
        let pixel = |i: usize| (i / size[1] * height / size[0]) * width + i % size[1] * width / size[1];
        let larger = |map: &Vec<f32>| (0..size[0] * size[1]).map(|i| map[pixel(i)]).collect();
        Self { size, tokens: self.tokens.iter().map(larger).collect() }
    }
}
