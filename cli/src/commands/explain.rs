//! `aquatint explain`: a page about one picture, from its tokens to the time of its layers.
//!
//! The page is one file without a network: `explain/page.html` with its style, its script and the
//! run's data as JSON inside. What is computed is in `model/src/tools/explain.rs`.

use std::path::PathBuf;
use std::time::Instant;

use aquatint_model::generate::{PartialRequest, PromptTokens, Seed};
use aquatint_model::rng::random_seed;
use aquatint_model::tools::explain::{ExplainedStep, Explanation, WordMaps};
use aquatint_model::{Error, Image, TextToImage};
use clap::Args;
use serde_json::{Value, json};

use crate::flags::model::ModelFlags;
use crate::flags::precision::Precision;
use crate::platform::console::warn;
use crate::run::progress::Display;
use crate::run::{files, memory, model};

/// What the page may be called.
const PAGES: &[&str] = &["html", "htm"];

#[derive(Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    model: ModelFlags,

    /// What the picture should show.
    prompt: String,

    /// What it should not show.
    #[arg(short, long)]
    negative_prompt: Option<String>,

    /// Pixels, a multiple of 8 [default: the model's own].
    #[arg(short = 'W', long)]
    width: Option<usize>,

    /// Pixels, a multiple of 8 [default: the model's own].
    #[arg(short = 'H', long)]
    height: Option<usize>,

    /// Steps from noise to picture [default: the model's own, or 20].
    #[arg(long)]
    steps: Option<usize>,

    /// How strongly the text counts [default: the model's own, or 7.5].
    #[arg(long)]
    cfg_scale: Option<f32>,

    /// The number from which all noise is drawn [default: random].
    #[arg(short, long)]
    seed: Option<Seed>,

    /// Sampler, by any of its names; `aquatint samplers` lists them [default: the model's].
    #[arg(long)]
    sampler: Option<String>,

    /// Page to write, HTML; a file of that name is kept, and the next free number is taken.
    #[arg(short, long, default_value = "explain.html")]
    output: PathBuf,
}

impl From<&Explain> for PartialRequest {
    fn from(args: &Explain) -> Self {
        Self {
            prompt: Some(args.prompt.clone()),
            negative_prompt: args.negative_prompt.clone(),
            width: args.width,
            height: args.height,
            steps: args.steps,
            cfg_scale: args.cfg_scale,
            seed: args.seed,
            sampler: args.sampler.clone(),
            ..Self::default()
        }
    }
}

pub(crate) fn run(mut args: Explain) -> Result<(), Error> {
    files::reserve(&args.output, PAGES, args.model.force)?;
    match args.model.precision {
        None | Some(Precision::F32) => args.model.precision = Some(Precision::F32),
        Some(_) => warn("attention per word is shown for --precision f32 alone"),
    }
    let settings = PartialRequest::from(&args);
    let unseeded = TextToImage { seed: random_seed()?, ..TextToImage::default() };
    let seed = settings.request(None, unseeded)?.seed;
    let pipeline = model::load(&args.model, |footprint| {
        let request = settings.request(None, footprint.defaults.clone())?;
        memory::check(footprint, &request, 1, memory::free()?).map(drop)
    })?;
    let request = TextToImage { seed, ..settings.request(None, pipeline.defaults())? };
    let mut display = Display::new(0);
    let start = Instant::now();
    let explanation = pipeline.explain(&request, &mut |event| display.update(event))?;
    display.finish();
    let page = page(&explanation, &request, start.elapsed().as_secs_f64())?;
    let path = files::place(&args.output, args.model.force, page.as_bytes())?;
    println!("{}", path.display());
    Ok(())
}

/// The page, whole.
fn page(explanation: &Explanation, request: &TextToImage, seconds: f64) -> Result<String, Error> {
    let data = data(explanation, request, seconds)?.to_string().replace('<', "\\u003c");
    let page = include_str!("explain/page.html");
    Ok(page
        .replace("/*style*/", include_str!("explain/page.css"))
        .replace("/*script*/", include_str!("explain/page.js"))
        .replace("/*data*/", &data))
}

/// All that the page's script shows.
fn data(explanation: &Explanation, request: &TextToImage, seconds: f64) -> Result<Value, Error> {
    let Explanation { image, prompts, shape, latents, steps, layers, levels, work } = explanation;
    let [channels, height, width] = *shape;
    let steps = steps.iter().map(step).collect::<Result<Vec<_>, Error>>()?;
    let channel = |channel: usize| grey(&latents[channel * height * width..][..height * width]);
    Ok(json!({
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "guidance_scale": request.guidance_scale,
        "seed": request.seed,
        "seconds": seconds,
        "infotext": image.parameters().map(ToString::to_string),
        "image": url(image)?,
        "size": [image.width(), image.height()],
        "latents": { "shape": shape, "channels": (0..channels).map(channel).collect::<Vec<_>>() },
        "tokens": tokens(&prompts[0]),
        "negative_tokens": tokens(&prompts[1]),
        "steps": steps,
        "layers": layers.iter().map(maps).collect::<Vec<_>>(),
        "levels": levels.iter().map(|level| json!({ "size": level.size, "channels": level.channels })).collect::<Vec<_>>(),
        "work": work
            .iter()
            .map(|class| json!({ "kind": class.kind, "count": class.count, "seconds": class.seconds, "flops": class.flops }))
            .collect::<Vec<_>>(),
    }))
}

fn tokens(prompt: &PromptTokens) -> Value {
    let token = |token: &aquatint_model::generate::Token| json!({ "id": token.id, "text": token.text, "weight": token.weight });
    prompt.tokens.iter().map(token).collect()
}

fn step(step: &ExplainedStep) -> Result<Value, Error> {
    let guidance = match &step.guidance {
        Some(guidance) => json!({
            "unconditional": url(&guidance.unconditional)?,
            "conditional": url(&guidance.conditional)?,
            "difference": grey(&guidance.difference),
        }),
        None => Value::Null,
    };
    Ok(json!({
        "timestep": step.timestep,
        "sigma": step.sigma,
        "input": url(&step.input)?,
        "predicted": url(&step.predicted)?,
        "guidance": guidance,
        "words": step.words.as_ref().map(maps),
    }))
}

fn maps(maps: &WordMaps) -> Value {
    json!({ "size": maps.size, "tokens": maps.tokens.iter().map(|map| grey(map)).collect::<Vec<_>>() })
}

/// A picture as a data URL.
fn url(image: &Image) -> Result<String, Error> {
    Ok(format!("data:image/png;base64,{}", base64::encode(image.to_png()?)))
}

/// Numbers as bytes from 0 (the least) to 255 (the largest), in base64.
fn grey(numbers: &[f32]) -> Value {
    let (min, max) =
        numbers.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(min, max), &x| (min.min(x), max.max(x)));
    let scale = if max > min { 255.0 / (max - min) } else { 0.0 };
    let bytes: Vec<u8> = numbers.iter().map(|x| ((x - min) * scale).round() as u8).collect();
    json!({ "min": min, "max": max, "bytes": base64::encode(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_bytes_between_their_extremes() {
        assert_eq!(
            grey(&[1.0, 3.0, 2.0]),
            json!({ "min": 1.0, "max": 3.0, "bytes": base64::encode([0u8, 255, 128]) })
        );
        assert_eq!(grey(&[5.0; 2])["bytes"], base64::encode([0u8, 0]));
    }
}
