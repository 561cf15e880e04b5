//! The flags. Names follow the habits of the field: stable-diffusion.cpp, diffusers, A1111.

use std::ffi::OsString;
use std::path::PathBuf;

use aquatint_kernels::{self as kernels, Isa};
use aquatint_model::tools::random_model::Architecture;
use aquatint_model::{EMBEDDED, Error, Format, Precisions, PromptSyntax, RandomSource};
use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand, ValueEnum};

use super::mistakes;

use crate::bench::Bench;
use crate::commands::decode::Decode;
use crate::commands::demo::Demo;
use crate::commands::encode::Encode;
use crate::commands::img2img::Img2img;
use crate::commands::inpaint::Inpaint;
use crate::commands::noise::Noise;
use crate::run::callbacks::Control;
use crate::run::partial::Wish;

/// What a script wants to know; the table is in `main.rs`.
const EXIT_CODES: &str = "Results go to stdout, all else to stderr. Exit codes: 0 done; 1 failed while running; 2 the request cannot be met; \
                          3 the model cannot be loaded; 4 part of a batch failed; 130 interrupted.";

/// Stable Diffusion on a CPU, from scratch.
///
/// `aquatint "a penguin in the snow"` is short for `aquatint txt2img "a penguin in the snow"`.
#[derive(Parser)]
#[command(name = "aquatint", version, max_term_width = 110, args_override_self = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// The arguments of this process; those that begin with no command are about a picture.
    ///
    /// # Errors
    /// `Request`, with what to type instead. Help, and what clap says best, end the process.
    pub(crate) fn read() -> Result<Self, Error> {
        Self::read_from(std::env::args_os().collect())
    }

    fn read_from(given: Vec<OsString>) -> Result<Self, Error> {
        let mut command = Self::command();
        command.build(); // adds `help`
        let arguments = with_command(&command, given.clone());
        let args = Self::try_parse_from(&arguments).map_err(|error| {
            match mistakes::refused(&command, &arguments, &error) {
                Some(sentence) => Error::request(sentence),
                None => error.exit(),
            }
        })?;
        if let Command::Txt2img(txt2img) = &args.command
            && arguments.len() > given.len()
            && let Some(prompt) = &txt2img.positional_prompt
            && let Some(sentence) = mistakes::misread_prompt(&command, &given, prompt)
        {
            return Err(Error::request(sentence));
        }
        Ok(args)
    }
}

/// Puts `txt2img` before arguments that begin with a prompt or a flag.
fn with_command(command: &clap::Command, mut arguments: Vec<OsString>) -> Vec<OsString> {
    let first = arguments.get(1).and_then(|first| first.to_str());
    let known = first.is_some_and(|first| {
        ["-h", "--help", "-V", "--version"].contains(&first) || command.find_subcommand(first).is_some()
    });
    if arguments.len() > 1 && !known {
        arguments.insert(1, "txt2img".into());
    }
    arguments
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a picture from a text.
    Txt2img(Box<Txt2img>),
    /// Make a picture from a text and another picture.
    Img2img(Box<Img2img>),
    /// Make a part of a picture anew, or paint beyond its edges.
    Inpaint(Box<Inpaint>),
    /// Write the latents of a picture: what the UNet works on.
    Encode(Encode),
    /// Make a picture of latents.
    Decode(Decode),
    /// Show a picture with more and more noise: what a model learns from.
    Noise(Noise),
    /// Draw a dozen things on one sheet.
    Demo(Demo),
    /// Make a picture again from the settings that it contains, and compare.
    Verify(Verify),
    /// Say what a model folder or a safetensors file is and what it lacks, without loading its weights.
    Inspect(Inspect),
    /// Write a model folder with random weights and a published architecture, to test and to time without a download.
    RandomModel(RandomModel),
    /// Measure this machine and every kernel on it, as a table, JSON or a roofline; compare with an earlier run.
    Bench(Box<Bench>),
    /// List the samplers and schedules: what each is, when to choose it, where it was published.
    Samplers,
    /// Write what a shell needs to complete commands and flags, as in `aquatint completions bash > /etc/bash_completion.d/aquatint`.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual page, as in `aquatint man > aquatint.1`.
    Man,
}

#[derive(ClapArgs)]
pub(crate) struct Txt2img {
    /// Model folder, as Hugging Face publishes it and diffusers saves it; the default is the small model inside this program.
    #[arg(short, long, default_value = EMBEDDED)]
    pub(crate) model: PathBuf,

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
                a1111, as its web UI: (more) [less] (1.5 times:1.5) \\( \\) BREAK, of any length [default: plain]"
    )]
    pub(crate) prompt_syntax: Option<Syntax>,

    /// Which layer of the text encoder counts: 1 the last, 2 the one before, as A1111 counts; diffusers' clip_skip is one
    /// less [default: 1].
    #[arg(long, value_name = "N")]
    pub(crate) clip_skip: Option<usize>,

    /// Take all settings from this PNG, JPEG or WebP, made by aquatint or A1111; what other flags say counts more.
    #[arg(long, value_name = "PICTURE")]
    pub(crate) from_image: Option<PathBuf>,

    /// Pixels, a multiple of 8 [default: the model's own, or the picture's].
    #[arg(short = 'W', long)]
    pub(crate) width: Option<usize>,

    /// Pixels, a multiple of 8 [default: the model's own, or the picture's].
    #[arg(short = 'H', long)]
    pub(crate) height: Option<usize>,

    /// Steps from noise to picture [default: the model's own, or 20].
    #[arg(long)]
    pub(crate) steps: Option<usize>,

    /// How strongly the text counts; up to 1 the negative prompt has no effect [default: the model's own, or 7.5].
    #[arg(long, alias = "guidance-scale")]
    pub(crate) cfg_scale: Option<f32>,

    /// The number from which all noise is drawn; the same seed gives the same picture [default: random].
    #[arg(short, long, allow_negative_numbers = true, value_parser = seed)]
    pub(crate) seed: Option<Seed>,

    /// Whose random numbers the seed stands for: torch's on the CPU, as diffusers' examples use them, or on a GPU, as most
    /// pictures were made (A1111's "NV") [default: cpu].
    #[arg(long, value_enum)]
    pub(crate) rng: Option<Rng>,

    /// Sampler, by its name in A1111, ComfyUI, stable-diffusion.cpp or diffusers; `aquatint samplers` lists them [default: the
    /// model's].
    #[arg(long, alias = "sampling-method")]
    pub(crate) sampler: Option<String>,

    /// Spacing of the noise levels: normal, karras, exponential, beta, sgm_uniform, simple, ays or lu [default: the model's].
    #[arg(long, alias = "scheduler")]
    pub(crate) schedule: Option<String>,

    /// How much fresh noise DDIM and TCD add, from 0 to 1 [default: DDIM 0, TCD 0.3].
    #[arg(long)]
    pub(crate) eta: Option<f32>,

    /// Noise levels of your own instead of a schedule: falling numbers, one for each step, as in 14.6,6.5,3.9,1.4,0.4. For samplers that
    /// have schedules.
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', conflicts_with_all = ["schedule", "steps"])]
    pub(crate) sigmas: Option<Vec<f64>>,

    /// File to write, PNG, JPEG or WebP (lossless) by its ending; a file of that name is kept, and the next free number is taken. {seed}
    /// becomes the seed, {job} the line of --batch, %03d the first free number of three digits; - is stdout [default:
    /// aquatint-{seed}.png].
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,

    /// Replace the output file if it exists.
    #[arg(long)]
    pub(crate) force: bool,

    /// Quality of a JPEG, from 1 to 100.
    #[arg(long, value_name = "N", default_value_t = Format::QUALITY, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: u8,

    #[command(flatten)]
    pub(crate) several: Several,

    #[command(flatten)]
    pub(crate) control: Control,

    /// Threads to compute with; the picture does not depend on it [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Number format of the large products [default: the picture's, or auto].
    #[arg(long, value_enum)]
    pub(crate) precision: Option<Precision>,
}

/// More than one picture.
#[derive(ClapArgs)]
#[command(next_help_heading = "Several pictures")]
pub(crate) struct Several {
    /// Pictures to make; picture i, counted from 0, has the seed plus i.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch_count: u32,

    /// How many of them are made together: more memory, less time, the same bits.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) batch_size: u32,

    /// Make the pictures of a manifest, one JSON object a line, with the field names of A1111's API: prompt, negative_prompt, seed, steps,
    /// cfg_scale, width, height, sampler_name, scheduler, init_images, denoising_strength, mask, n_iter, batch_size and others; pictures
    /// are paths. Flags hold where a line is silent. Says the result of each picture as a line of JSON. What exists with the same settings is
    /// skipped, so an interrupted batch can be run again; for that, a line without a seed has one that follows from its text. One that fails
    /// does not stop the rest.
    #[arg(long, value_name = "JSONL", conflicts_with_all = ["from_image", "checkpoint"])]
    pub(crate) batch: Option<PathBuf>,

    /// Of the manifest's lines, take the ith of every n, as in 2/4: for several machines.
    #[arg(long, value_name = "I/N", value_parser = shard, requires = "batch")]
    pub(crate) shard: Option<Shard>,
}

/// Every `of`th line, beginning with line `index`, from 1.
#[derive(Clone, Copy)]
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) of: usize,
}

fn shard(text: &str) -> Result<Shard, String> {
    let numbers = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
    match numbers {
        Some((index, of)) if (1..=of).contains(&index) => Ok(Shard { index, of }),
        _ => Err("expected i/n with i from 1 to n, as in 2/4".into()),
    }
}

impl From<&Txt2img> for Wish {
    fn from(args: &Txt2img) -> Self {
        Self {
            prompt: args.prompt.clone().or_else(|| args.positional_prompt.clone()),
            negative_prompt: args.negative_prompt.clone(),
            prompt_syntax: args.prompt_syntax.map(Into::into),
            clip_skip: args.clip_skip,
            width: args.width,
            height: args.height,
            steps: args.steps,
            cfg_scale: args.cfg_scale,
            seed: args.seed,
            rng: args.rng.map(Into::into),
            sampler: args.sampler.clone(),
            schedule: args.schedule.clone(),
            eta: args.eta,
            sigmas: args.sigmas.clone(),
            ..Self::default()
        }
    }
}

/// A seed, or the wish for a random one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seed {
    Given(u64),
    Random,
}

pub(crate) fn seed(text: &str) -> Result<Seed, String> {
    match text {
        "-1" => Ok(Seed::Random),
        _ => text
            .parse()
            .map(Seed::Given)
            .map_err(|_| format!("expected a whole number from 0 to {}, or -1 for a random one", u64::MAX)),
    }
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

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Precision {
    /// The fastest that keeps the picture: bf16 with AMX, mixed with AMD's AVX-512 BF16, else f32.
    Auto,
    /// Single precision: the picture that diffusers makes in float32.
    F32,
    /// Operands rounded to 8 bits, sums in f32: nearly the same picture, and fast on CPUs with AMX or, less so, AVX-512 BF16.
    Bf16,
    /// As bf16, but for 3×3 convolutions, which f32 does with a quarter of the multiplications.
    Mixed,
    /// Operands split in two bf16 parts, sums in f32: the same picture within two levels, three times the products.
    Bf16x3,
}

impl Precision {
    /// What it means on an instruction set.
    pub(crate) fn on(self, isa: Isa) -> Precisions {
        match self {
            Self::Auto => Precisions::auto(isa),
            Self::F32 => kernels::Precision::F32.into(),
            Self::Bf16 => kernels::Precision::Bf16.into(),
            Self::Mixed => Precisions::MIXED,
            Self::Bf16x3 => kernels::Precision::Bf16x3.into(),
        }
    }
}

#[derive(ClapArgs)]
pub(crate) struct Verify {
    /// A PNG, JPEG or WebP that aquatint made.
    pub(crate) picture: PathBuf,

    /// The model that made it.
    #[arg(short, long, default_value = EMBEDDED)]
    pub(crate) model: PathBuf,

    /// The picture from which it was made, if it was.
    #[arg(short, long, alias = "init-img", value_name = "PICTURE")]
    pub(crate) image: Option<PathBuf>,

    /// The mask with which it was made, if it was; otherwise what is transparent in -i.
    #[arg(long, value_name = "PICTURE", requires = "image")]
    pub(crate) mask: Option<PathBuf>,

    /// Threads to compute with [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(ClapArgs)]
pub(crate) struct Inspect {
    /// Model folder or safetensors file.
    #[arg(default_value = EMBEDDED)]
    pub(crate) path: PathBuf,
}

#[derive(ClapArgs)]
pub(crate) struct RandomModel {
    /// Folder to write; it must not exist, or be empty.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,

    /// Which architecture.
    #[arg(long, value_parser = architecture, default_value = "tiny")]
    pub(crate) arch: Architecture,

    /// Number format of the weights.
    #[arg(long, value_enum, default_value = "f16")]
    pub(crate) dtype: WeightType,

    /// The number from which all weights are drawn.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

fn architecture(name: &str) -> Result<Architecture, String> {
    Architecture::parse(name).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum WeightType {
    F32,
    F16,
    Bf16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_alone_is_a_command() {
        let complete = |line: &str| {
            let arguments = line.split(' ').map(OsString::from).collect();
            let mut command = Args::command();
            command.build();
            let complete: Vec<_> =
                with_command(&command, arguments).into_iter().map(OsString::into_string).collect();
            complete.into_iter().collect::<Result<Vec<_>, _>>().expect("all is text").join(" ")
        };
        for (line, expected) in [
            ("aquatint penguin", "aquatint txt2img penguin"),
            ("aquatint -s 7 penguin", "aquatint txt2img -s 7 penguin"),
            ("aquatint inspect sd15", "aquatint inspect sd15"),
            ("aquatint help inspect", "aquatint help inspect"),
            ("aquatint --version", "aquatint --version"),
            ("aquatint", "aquatint"),
        ] {
            assert_eq!(complete(line), expected);
        }
    }

    #[test]
    fn mistakes_draw_no_picture() {
        for (line, expected) in [
            ("aquatint inpsect", "did you mean `aquatint inspect`"),
            ("aquatint inpsect sd15", "did you mean `aquatint inspect`"),
            ("aquatint version", "did you mean `aquatint --version`"),
            ("aquatint -m sd15 inpaint --steps 1", "`aquatint inpaint …`"),
            ("aquatint -m sd15 inpaint hand -i x.png", "`aquatint inpaint …`"),
            ("aquatint dreamshaper_8.safetensors fox", "one argument too many"),
            ("aquatint dreamshaper_8.safetensors", "`aquatint -m dreamshaper_8.safetensors"),
            ("aquatint txt2img a fox", "quotes"),
            ("aquatint fox --num-inference-steps 4", "here it is `--steps`"),
            ("aquatint fox --diffusion-fa", "not needed"),
            ("aquatint fox --control-net x", "not supported: ControlNet"),
            ("aquatint fox -M img_gen", "a command: txt2img"),
            ("aquatint fox --stepps 3", "did you mean `--steps`"),
            ("aquatint fox --no-such-thing", "`aquatint txt2img --help` lists all flags"),
        ] {
            let read = Args::read_from(line.split(' ').map(OsString::from).collect());
            let error = read.err().unwrap_or_else(|| panic!("`{line}` is taken")).to_string();
            assert!(error.contains(expected), "`{line}`: {error}");
            assert!(!error.contains("-- -"), "`{line}`: {error}");
        }
    }

    #[test]
    fn prompts_of_one_word_are_drawn() {
        for word in ["penguin", "fox", "dome", "bear", "painting", "noise-cancelling", "castle", "a demo"] {
            let read = Args::read_from(vec!["aquatint".into(), word.into()]);
            assert!(read.is_ok(), "{word}: {}", read.err().map(|e| e.to_string()).unwrap_or_default());
        }
        assert!(Args::read_from(["aquatint", "-p", "inpaint"].map(OsString::from).into()).is_ok());
    }

    #[test]
    fn flags_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn names_of_other_programs_work() {
        let line = "aquatint txt2img -m sd15 -p fox -W 512 -H 768 -s -1 --sampling-method euler_a --scheduler karras \
                    --guidance-scale 5";
        let args = Args::try_parse_from(line.split_whitespace()).expect("all these flags exist");
        let Command::Txt2img(args) = args.command else { panic!("another command was found") };
        assert_eq!((args.width, args.height, args.cfg_scale), (Some(512), Some(768), Some(5.0)));
        assert!(matches!(args.seed, Some(Seed::Random)));
    }
}
