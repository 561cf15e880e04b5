//! The flags of the commands that make pictures. Names follow the habits of the field:
//! stable-diffusion.cpp, diffusers, A1111.

use std::path::PathBuf;
use std::str::FromStr;

use aquatint_model::generate::{Aspect, PartialRequest, Seed};
use aquatint_model::{Format, PromptSyntax, RandomSource};
use clap::{Args, ValueEnum};

use crate::flags::approximations::ApproximationFlags;
use crate::flags::hires::HiresFlags;
use crate::flags::model::ModelChoice;
use crate::flags::precision::Precision;
use crate::flags::run::RunFlags;
use crate::flags::shard::Shard;
use crate::flags::xl::XlFlags;

#[derive(Args)]
pub(crate) struct GenerateFlags {
    #[command(flatten)]
    pub(crate) model: ModelChoice,

    /// What the picture should show.
    #[arg(value_name = "PROMPT", required_unless_present_any = ["prompt", "from_image", "resume", "batch"])]
    pub(crate) positional_prompt: Option<String>,

    /// What the picture should show; the same as the positional argument.
    #[arg(short, long, conflicts_with = "positional_prompt", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,

    /// What it should not show.
    #[arg(short, long, allow_hyphen_values = true)]
    pub(crate) negative_prompt: Option<String>,

    // Not a doc comment, in which [less] would be a link.
    #[arg(
        long,
        value_enum,
        value_name = "SYNTAX",
        hide_possible_values = true,
        help = "How prompts are read. plain, as diffusers: every character is text, and what exceeds 75 tokens is cut off. \
                a1111, as its web UI: (more) [less] (1.5 times:1.5) \\( \\) BREAK, [from:to:when] [a|b], a AND b :0.5, of any \
                length [default: plain]"
    )]
    pub(crate) prompt_syntax: Option<Syntax>,

    /// Which layer of the text encoder counts: 1 the last, 2 the one before, as A1111 counts;
    /// diffusers' clip_skip is one less [default: 1].
    #[arg(long, value_name = "N")]
    pub(crate) clip_skip: Option<usize>,

    /// Take all settings from this PNG, JPEG or WebP, made by aquatint or A1111; what other flags
    /// say counts more.
    #[arg(long, value_name = "PICTURE")]
    pub(crate) from_image: Option<PathBuf>,

    /// Pixels, a multiple of 8 [default: the model's own, or the picture's].
    #[arg(short = 'W', long)]
    pub(crate) width: Option<usize>,

    /// Pixels, a multiple of 8 [default: the model's own, or the picture's].
    #[arg(short = 'H', long)]
    pub(crate) height: Option<usize>,

    /// The proportions of the picture, as in 16:9; the size follows from the model's, with SDXL the
    /// nearest of those on which it was trained.
    #[arg(long, value_name = "W:H", conflicts_with_all = ["width", "height"], value_parser = Aspect::from_str)]
    pub(crate) aspect: Option<Aspect>,

    /// Steps, guidance, sampler and schedule for a kind of model of few steps; what other flags say
    /// counts more. `aquatint presets` lists them; none: 20 steps and guidance 7.5 [default: what
    /// suits the model and its adapters].
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,

    /// Steps from noise to picture [default: the preset's, the model's own, or 20].
    #[arg(long)]
    pub(crate) steps: Option<usize>,

    /// How strongly the text counts; up to 1 the negative prompt has no effect [default: the
    /// preset's, the model's own, or 7.5].
    #[arg(long, alias = "guidance-scale")]
    pub(crate) cfg_scale: Option<f32>,

    /// The number from which all noise is drawn; the same seed gives the same picture [default:
    /// random].
    #[arg(short, long, allow_negative_numbers = true, value_parser = Seed::from_str)]
    pub(crate) seed: Option<Seed>,

    /// The generator whose random numbers the seed chooses: torch's on the CPU, as diffusers'
    /// examples use them, or on a GPU, as most pictures were made (A1111's "NV") [default: cpu].
    #[arg(long, value_enum)]
    pub(crate) rng: Option<Rng>,

    /// Sampler, by its name in A1111, ComfyUI, stable-diffusion.cpp or diffusers; `aquatint
    /// samplers` lists them [default: the model's].
    #[arg(long, alias = "sampling-method")]
    pub(crate) sampler: Option<String>,

    /// Spacing of the noise levels: normal, karras, exponential, beta, sgm_uniform, trailing,
    /// simple, ays or lu [default: the preset's, or the model's].
    #[arg(long, alias = "scheduler")]
    pub(crate) schedule: Option<String>,

    /// How much fresh noise DDIM and TCD add, from 0 to 1 [default: DDIM 0, TCD 0.3].
    #[arg(long)]
    pub(crate) eta: Option<f32>,

    /// Noise levels of your own instead of a schedule: falling numbers, one for each step, as in
    /// 14.6,6.5,3.9,1.4,0.4. For samplers that have schedules.
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', conflicts_with_all = ["schedule", "steps"])]
    pub(crate) sigmas: Option<Vec<f64>>,

    /// File to write, PNG, JPEG or WebP (lossless) by its ending; a file of that name is kept, and
    /// the next free number is taken. %03d becomes the number of the picture, behind those of
    /// earlier runs; {seed} {prompt} {model} {width} {height} {steps} {cfg} {date} {time} what they
    /// say, {job} the line of --batch; - is stdout [default: aquatint-{seed}.png].
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,

    /// Replace the output file if it exists.
    #[arg(long)]
    pub(crate) force: bool,

    /// Quality of a JPEG, from 1 to 100.
    #[arg(long, value_name = "N", default_value_t = Format::QUALITY, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: u8,

    /// Let the VAE work on a strip of rows at a time: 2048×2048 in 3 GB, in about twice the time,
    /// without seams [default: where memory demands it].
    #[arg(long)]
    pub(crate) vae_tiling: bool,

    #[command(flatten)]
    pub(crate) approximations: ApproximationFlags,

    #[command(flatten)]
    pub(crate) hires: HiresFlags,

    #[command(flatten)]
    pub(crate) xl: XlFlags,

    #[command(flatten)]
    pub(crate) several: Several,

    #[command(flatten)]
    pub(crate) run: RunFlags,

    /// Threads to compute with; the picture does not depend on it [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Number format of the large products [default: the picture's, or auto].
    #[arg(long, value_enum)]
    pub(crate) precision: Option<Precision>,
}

/// More than one picture.
#[derive(Args)]
#[command(next_help_heading = "Several pictures")]
pub(crate) struct Several {
    /// Pictures to make; picture i, counted from 0, has the seed plus i.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_count: u32,

    /// How many of them are made together: more memory, less time, the same bits.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) batch_size: u32,

    /// Make the pictures of a manifest: a text file of prompts, one a line, or one JSON object a
    /// line, with the field names of A1111's API: prompt, negative_prompt, seed, steps, cfg_scale,
    /// width, height, sampler_name, scheduler, init_images, denoising_strength, mask, n_iter,
    /// batch_size and others; pictures are paths; - is stdin. Flags hold where a line is silent.
    /// Says the result of each picture as a line of JSON. What exists with the same settings is
    /// skipped, so an interrupted batch can be run again; for that, a line without a seed has one
    /// that follows from its text. One that fails does not stop the rest.
    #[arg(long, value_name = "JSONL", conflicts_with_all = ["from_image", "checkpoint"])]
    pub(crate) batch: Option<PathBuf>,

    /// Write all pictures on one sheet as well.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["batch", "resume"])]
    pub(crate) grid: Option<PathBuf>,

    /// Of the manifest's lines, take the ith of every n, as in 2/4: for several machines. auto is
    /// the task of a Slurm array, auto/n that of a Kubernetes Indexed Job of n.
    #[arg(long, value_name = "I/N", value_parser = Shard::from_str, requires = "batch")]
    pub(crate) shard: Option<Shard>,
}

/// How prompts are read.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Syntax {
    Plain,
    A1111,
}

impl From<Syntax> for PromptSyntax {
    fn from(syntax: Syntax) -> Self {
        match syntax {
            Syntax::Plain => Self::Plain,
            Syntax::A1111 => Self::A1111,
        }
    }
}

/// Whose random numbers are drawn.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Rng {
    /// torch on the CPU: mt19937.
    Cpu,
    /// torch on a GPU: Philox.
    #[value(alias = "nv", alias = "gpu")]
    Cuda,
}

impl From<Rng> for RandomSource {
    fn from(rng: Rng) -> Self {
        match rng {
            Rng::Cpu => Self::Cpu,
            Rng::Cuda => Self::Cuda,
        }
    }
}

impl From<&GenerateFlags> for PartialRequest {
    fn from(args: &GenerateFlags) -> Self {
        args.xl.add_to(Self {
            prompt: args.prompt.clone().or_else(|| args.positional_prompt.clone()),
            negative_prompt: args.negative_prompt.clone(),
            prompt_syntax: args.prompt_syntax.map(Into::into),
            clip_skip: args.clip_skip,
            width: args.width,
            height: args.height,
            aspect: args.aspect,
            preset: args.preset.clone(),
            steps: args.steps,
            cfg_scale: args.cfg_scale,
            seed: args.seed,
            rng: args.rng.map(Into::into),
            sampler: args.sampler.clone(),
            schedule: args.schedule.clone(),
            eta: args.eta,
            sigmas: args.sigmas.clone(),
            token_merging: args.approximations.tome,
            deep_cache: args.approximations.deep_cache.map(usize::from),
            guidance_interval: args.approximations.guidance_interval.clone(),
            vae_tiling: args.vae_tiling.then_some(true),
            hires_scale: args.hires.hires_scale,
            hires_steps: args.hires.hires_steps.map(usize::from),
            hires_strength: args.hires.hires_strength,
            hires_upscaler: args.hires.hires_upscaler.clone(),
            ..Self::default()
        })
    }
}
