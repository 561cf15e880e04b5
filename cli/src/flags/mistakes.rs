//! What to say to arguments that mean nothing, or not what they seem to.
//!
//! - A word near a command's name draws no picture: `inpsect`, `serve`.
//! - A command behind options is no prompt: `-m sd15 inpaint`.
//! - A model file is no prompt: `model.safetensors "a fox"`.
//! - A flag of another program gets its name here (`other_programs.rs`), and no unknown flag is
//!   advised to become a prompt.

use std::ffi::OsString;
use std::path::Path;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::other_programs::{self, Answer};

/// Words that are commands elsewhere: in other programs of this kind, or in most programs.
const COMMANDS_ELSEWHERE: &[(&str, &str)] = &[
    ("generate", "txt2img"),
    ("img_gen", "txt2img"),
    ("run", "txt2img"),
    ("draw", "txt2img"),
    ("outpaint", "inpaint"),
    ("info", "inspect"),
    ("show", "inspect"),
    ("benchmark", "bench"),
    ("list", "--help"),
    ("commands", "--help"),
    ("version", "--version"),
    ("serve", "--help"),
    ("server", "--help"),
    ("webui", "--help"),
    ("ui", "--help"),
    ("gui", "--help"),
    ("web", "--help"),
    ("download", "--help"),
    ("train", "--help"),
    ("schedulers", "samplers"),
    ("schedules", "samplers"),
];

/// Ordinary words that are one letter from a command's name, and are drawn.
const WORDS_NEAR_COMMANDS: [&str; 7] = ["beach", "bunch", "nose", "poise", "demon", "memo", "decide"];

/// Endings of model files.
const MODEL_FILES: [&str; 7] = ["safetensors", "ckpt", "pt", "pth", "bin", "gguf", "onnx"];

/// The command that a prompt of one word was perhaps meant to be.
pub(crate) fn meant_command<'a>(command: &'a Command, word: &'a str) -> Option<&'a str> {
    let lower = word.to_lowercase();
    if let Some((_, meant)) = COMMANDS_ELSEWHERE.iter().find(|(name, _)| *name == lower) {
        return Some(meant);
    }
    if WORDS_NEAR_COMMANDS.contains(&lower.as_str()) {
        return None;
    }
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, name);
    let is_near = |name: &&str| distance(name) <= if name.len() < 7 { 1 } else { 2 };
    command.get_subcommands().map(Command::get_name).filter(is_near).min_by_key(|name| distance(name))
}

/// Why these arguments would draw a picture that was not asked for. `arguments` are those of a
/// prompt without a command, the program's name first; `prompt` is what would be drawn.
pub(crate) fn misread_prompt(command: &Command, arguments: &[OsString], prompt: &str) -> Option<String> {
    if command.find_subcommand(prompt).is_some() {
        return Some(format!(
            "`{prompt}` is a command and comes first: `aquatint {prompt} …`; to draw the word, `-p {prompt}`"
        ));
    }
    let path = Path::new(prompt);
    let is_model_file =
        path.extension().is_some_and(|e| MODEL_FILES.iter().any(|m| e.eq_ignore_ascii_case(m)));
    if is_model_file || path.join("model_index.json").exists() {
        return Some(format!(
            "`{prompt}` is a model and no prompt: `aquatint -m {prompt} \"a fox in the snow\"`"
        ));
    }
    let is_first = arguments.get(1).is_some_and(|first| first == prompt);
    let meant =
        meant_command(command, prompt).filter(|_| is_first && !prompt.contains(char::is_whitespace))?;
    Some(format!(
        "there is no command `{prompt}`; did you mean `aquatint {meant}`? To draw the word, `-p {prompt}`"
    ))
}

/// The sentence for arguments that clap refuses, where ours is better than clap's.
pub(crate) fn refused(command: &Command, arguments: &[OsString], error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(found)) = error.get(ContextKind::InvalidArg) else { return None };
    let used =
        arguments.get(1).and_then(|first| first.to_str()).and_then(|first| command.find_subcommand(first));
    if !found.starts_with('-') {
        let is_command = |word: &&str| command.find_subcommand(word).is_some();
        let misplaced = arguments.iter().skip(2).filter_map(|a| a.to_str()).find(is_command);
        if let Some(name) = misplaced {
            return Some(format!("`{name}` is a command and comes first: `aquatint {name} …`"));
        }
        let first = arguments.get(2).and_then(|first| first.to_str()).unwrap_or_default();
        let meant = meant_command(command, first).map(|meant| format!("did you mean `aquatint {meant}`? "));
        let quotes = "Put a prompt of several words in quotes";
        return Some(format!("`{found}` is one argument too many; {}{quotes}", meant.unwrap_or_default()));
    }
    let help =
        used.map_or("aquatint --help".to_owned(), |used| format!("aquatint {} --help", used.get_name()));
    Some(match other_programs::answer(found) {
        Some(Answer::CalledHere(name)) => format!("there is no `{found}`; here it is `{name}`"),
        Some(Answer::NotNeeded(why)) => format!("there is no `{found}`, and it is not needed: {why}"),
        Some(Answer::Unsupported(why)) => format!("`{found}` is not supported: {why}"),
        None => match error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(near)) => format!("there is no `{found}`; did you mean `{near}`?"),
            _ => format!("there is no `{found}`; `{help}` lists all flags"),
        },
    })
}
