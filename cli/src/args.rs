//! The whole command line: the commands, which of them is meant, and what to say to mistakes.

use std::ffi::OsString;

use aquatint_model::Error;
use clap::{CommandFactory, Parser, Subcommand};

use crate::bench;
use crate::commands::{
    convert, decode, demo, doctor, encode, explain, img2img, inpaint, inspect, models, noise, random_model,
    upscale, verify,
};
use crate::flags::generate::GenerateFlags;
use crate::flags::mistakes;
use crate::serve;

/// What a script wants to know; the table is in `lib.rs`.
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

    /// Tell only results, warnings and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Tell of every step, and of what is computed with.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

impl Args {
    /// Reads arguments, of which the first is the program; those that begin with no command are
    /// about a picture.
    ///
    /// # Errors
    /// `Request`, with what to type instead. Help, and what clap says best, end the process.
    pub(crate) fn read(given: Vec<OsString>) -> Result<Self, Error> {
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
    Txt2img(Box<GenerateFlags>),
    /// Make a picture from a text and another picture.
    Img2img(Box<img2img::Img2img>),
    /// Make a part of a picture anew, or paint beyond its edges.
    Inpaint(Box<inpaint::Inpaint>),
    /// Write the latents of a picture: what the UNet works on.
    Encode(encode::Encode),
    /// Make a picture of latents.
    Decode(decode::Decode),
    /// Show a picture with more and more noise: what a model learns from.
    Noise(noise::Noise),
    /// Make a picture larger, by an ESRGAN network or a filter.
    Upscale(upscale::Upscale),
    /// Make a picture and a page that explains it: tokens, steps, guidance, attention for each
    /// word.
    Explain(Box<explain::Explain>),
    /// Draw a dozen things on one sheet.
    Demo(demo::Demo),
    /// Make a picture again from the settings that it contains, and compare.
    Verify(verify::Verify),
    /// Say what a model or another file of weights is and what it lacks, without loading its
    /// weights.
    Inspect(inspect::Inspect),
    /// Write a model in another form: folder or single file, f32, f16 or bf16.
    Convert(convert::Convert),
    /// List the models on this machine: those in Hugging Face's cache, and in folders of your own.
    Models(models::Models),
    /// Write a model folder with random weights and a published architecture, to test and to time
    /// without a download.
    RandomModel(random_model::RandomModel),
    /// Measure this machine and every kernel on it, as a table, JSON or a roofline; compare with an
    /// earlier run.
    Bench(Box<bench::Bench>),
    /// Serve a page to draw on, and the interfaces of A1111 and OpenAI for other programs.
    Serve(Box<serve::Serve>),
    /// Say what this machine has, what of it is used and why, and whether it computes right.
    Doctor(doctor::Doctor),
    /// List the samplers and schedules: what each is, when to choose it, where it was published.
    Samplers,
    /// List the presets: settings for models and adapters of few steps, by which names these are
    /// recognised, and who recommends the settings.
    Presets,
    /// Write what a shell needs to complete commands and flags, as in `aquatint completions bash >
    /// /etc/bash_completion.d/aquatint`.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual page, as in `aquatint man > aquatint.1`.
    Man,
}

impl Command {
    /// Whether it takes time, and says how much it took.
    pub(crate) fn computes(&self) -> bool {
        !matches!(
            self,
            Self::Inspect(_)
                | Self::Models(_)
                | Self::Doctor(_)
                | Self::Samplers
                | Self::Completions { .. }
                | Self::Man
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquatint_model::generate::Seed;

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
            let read = Args::read(line.split(' ').map(OsString::from).collect());
            let error = read.err().unwrap_or_else(|| panic!("`{line}` is taken")).to_string();
            assert!(error.contains(expected), "`{line}`: {error}");
            assert!(!error.contains("-- -"), "`{line}`: {error}");
        }
    }

    #[test]
    fn prompts_of_one_word_are_drawn() {
        for word in ["penguin", "fox", "dome", "bear", "painting", "noise-cancelling", "castle", "a demo"] {
            let read = Args::read(vec!["aquatint".into(), word.into()]);
            assert!(read.is_ok(), "{word}: {}", read.err().map(|e| e.to_string()).unwrap_or_default());
        }
        assert!(Args::read(["aquatint", "-p", "inpaint"].map(OsString::from).into()).is_ok());
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

    #[test]
    fn every_setting_has_its_flag() {
        let args = Args::command();
        for setting in aquatint_model::generate::SETTINGS {
            let has = |command: &str| {
                let command = args.find_subcommand(command).expect("a command of this program");
                command.get_arguments().any(|argument| argument.get_long() == Some(setting.flag))
            };
            assert!(has("inpaint"), "{}: there is no --{}", setting.field, setting.flag);
        }
    }
}
