//! `--batch`: the pictures of a manifest, one JSON object a line, with the field names of A1111's
//! API.
//!
//! ```text
//! {"prompt": "a fox", "seed": 7, "steps": 20, "sampler_name": "Euler a", "n_iter": 4}
//! {"prompt": "the same in winter", "init_images": ["fox.png"], "denoising_strength": 0.6}
//! ```
//!
//! A line that cannot be read or made is reported by its number, and the rest goes on; in the end
//! the exit code is 4. What is already there with the same settings is not made again, so that an
//! interrupted batch is finished by running it again.

use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use aquatint_model::generate::{ApiRequest, PartialRequest, Seed};
use aquatint_model::{Error, ErrorKind, Footprint, TextToImage, input_file};
use serde_json::json;

use crate::flags::generate::{GenerateFlags, Several};
use crate::flags::shard::Shard;

use crate::platform::stdin as input;
use crate::run::output::Output;
use crate::run::pattern::Fields;

use crate::run::session::{Batch, GeneratedImage, Session};

/// Some pictures were not made.
const PART_FAILED: u8 = 4;

/// A larger manifest has an error.
const LARGEST_MANIFEST: u64 = 1 << 30;

/// Where pictures go unless it is said.
const OUTPUT: &str = "{job}-{seed}.png";

/// Makes the pictures of all lines.
pub(crate) fn run(manifest: &Path, flags: &PartialRequest, args: &GenerateFlags) -> Result<u8, Error> {
    let text = read(manifest)
        .map_err(|error| Error::request(format_args!("cannot read `{}`: {error}", manifest.display())))?;
    let pattern = args.output.as_deref().unwrap_or(Path::new(OUTPUT));
    let prompts = is_prompts(manifest, &text);
    if lines_of(&text, None).next().is_none() {
        return Err(Error::request(format_args!(
            "`{}` has no lines; expected a prompt or a JSON object in each",
            manifest.display()
        )));
    }
    let mut output = Output::new(pattern, &args.model.model, args.force, args.quality)?;
    output.tell = false; // the results are told as JSON
    if output.is_stdout() {
        return Err(Error::request("stdout is taken by the results of --batch; give -o a file name"));
    }
    if !output.tells_apart() {
        return Err(Error::request(format_args!(
            "`{}` is one name for all pictures; expected {{job}}, {{seed}} or a %03d in it",
            pattern.display()
        )));
    }
    output.check_name()?;
    // Each line has its own size, which is judged when its turn comes: of a finished batch no
    // picture is made.
    let smallest = |footprint: &Footprint| {
        let request = flags.request(None, footprint.defaults.clone())?;
        let side = footprint.size_multiple();
        Ok(TextToImage { width: side, height: side, ..request })
    };
    let session = Session::start(args, None, smallest)?;
    let (mut failed, mut lines) = (0, 0);
    for (line, bytes) in lines_of(&text, args.several.shard) {
        lines += 1;
        let made = guarded(|| {
            let request = if prompts { prompt_of(bytes) } else { ApiRequest::parse(bytes)? };
            made(request, bytes, flags, args, &session, line, &mut output)
        });
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                failed += 1;
                eprintln!("error: {}:{line}: {error}", manifest.display());
                println!("{}", json!({ "job": line, "status": "failed", "error": error.to_string() }));
            }
        }
    }
    if failed == 0 {
        return Ok(0);
    }
    eprintln!("error: {failed} of {lines} lines failed");
    Ok(PART_FAILED)
}

/// The manifest, from a file or from a pipe that is already open, as in `--batch <(jq …
/// lines.json)`.
fn read(manifest: &Path) -> io::Result<Vec<u8>> {
    let open_already = ["/dev/stdin", "/dev/fd/", "/proc/self/fd/"];
    if input::is_stdin(manifest) {
        return input::stdin().map_err(io::Error::other);
    }
    if open_already.iter().any(|start| manifest.to_string_lossy().starts_with(start)) {
        return input_file::read_up_to(File::open(manifest)?, LARGEST_MANIFEST);
    }
    input_file::read(manifest, LARGEST_MANIFEST)
}

/// A panic is a mistake of this program, or of one of the decoders in it; the other lines are made
/// all the same.
fn guarded(line: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let result = panic::catch_unwind(AssertUnwindSafe(line));
    result.unwrap_or_else(|_| {
        Err(Error::run("this program failed where it should not; please report the line"))
    })
}

/// The lines with something in them that are ours to make, with their numbers from 1.
fn lines_of(text: &[u8], shard: Option<Shard>) -> impl Iterator<Item = (usize, &[u8])> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let Shard { index, of } = shard.unwrap_or(Shard { index: 1, of: 1 });
    let lines = text.split(|&byte| byte == b'\n').zip(1..).map(|(line, number)| (number, line.trim_ascii()));
    let written = lines.filter(|(_, line)| !line.is_empty());
    written.enumerate().filter(move |(i, _)| i % of == index - 1).map(|(_, line)| line)
}

/// Makes the pictures of one line, and tells each of them.
fn made(
    request: ApiRequest,
    bytes: &[u8],
    flags: &PartialRequest,
    args: &GenerateFlags,
    session: &Session<'_>,
    line: usize,
    output: &mut Output,
) -> Result<(), Error> {
    let Several { batch_count, batch_size, .. } = args.several;
    let count = match (request.n_iter, request.batch_size) {
        (None, None) => batch_count as usize,
        // In A1111's API the count is that of the batches.
        (batches, size) => batches.unwrap_or(1) * size.unwrap_or(1),
    };
    let together = request.batch_size.unwrap_or(batch_size as usize);
    let settings = request.settings.or(flags.clone());
    let seed = settings.seed.map_or_else(|| Ok(seed_of(bytes)), Seed::number)?;
    let mut task = settings.task(settings.open_images()?, None, &session.pipeline)?;
    task.text_mut().seed = seed;
    session.fit_memory(&mut task, together.min(count));
    let mut batch =
        Batch { task, settings: &settings, wanted: Vec::new(), together, job: Some(line), resumed: None };
    for picture in 0..count {
        let parameters = batch.parameters(picture, &session.pipeline)?;
        let seed = batch.task.text().seed_of(picture);
        let text = TextToImage { prompt: parameters.prompt.clone(), seed, ..batch.task.text().clone() };
        let there = (!args.force).then(|| output.find(&Fields::of(&text, Some(line)), &parameters)).flatten();
        match there {
            None => batch.wanted.push(picture),
            Some(path) => {
                let text = parameters.to_string();
                tell(line, "skipped", &Told { path: &path, seed, infotext: &text, seconds: 0.0 });
            }
        }
    }
    session.run(batch, output, &mut |made| {
        let GeneratedImage { path, seed, parameters, seconds, partial, .. } = &made;
        let path = path.as_deref().unwrap_or(Path::new("-"));
        let status = if *partial { "partial" } else { "made" };
        tell(line, status, &Told { path, seed: *seed, infotext: parameters, seconds: *seconds });
    })
}

/// What is reported of a picture.
struct Told<'a> {
    path: &'a Path,
    seed: u64,
    infotext: &'a str,
    seconds: f64,
}

/// The result of a picture, a line of JSON on stdout.
fn tell(line: usize, status: &str, &Told { path, seed, infotext, seconds }: &Told<'_>) {
    let path = path.to_string_lossy();
    let seconds = (seconds * 100.0).round() / 100.0;
    println!(
        "{}",
        json!({ "job": line, "status": status, "path": path, "seed": seed, "seconds": seconds, "infotext": infotext })
    );
}

/// Whether a manifest is a text of prompts, one a line: its name ends in `.txt` or, unless it ends
/// as JSON does, its first line does not begin as an object.
fn is_prompts(manifest: &Path, text: &[u8]) -> bool {
    let ends_in = |endings: &[&str]| {
        manifest
            .extension()
            .is_some_and(|found| endings.iter().any(|ending| found.eq_ignore_ascii_case(ending)))
    };
    let first = lines_of(text, None).next().and_then(|(_, line)| line.first().copied());
    ends_in(&["txt"]) || (!ends_in(&["jsonl", "json", "ndjson"]) && first != Some(b'{'))
}

/// A line that is a prompt.
fn prompt_of(line: &[u8]) -> ApiRequest {
    let prompt = Some(String::from_utf8_lossy(line).into_owned());
    ApiRequest { settings: PartialRequest { prompt, ..PartialRequest::default() }, ..ApiRequest::default() }
}

/// The seed of a line that has none: 32 bits of its hash, so that the same line makes the same
/// pictures again.
fn seed_of(line: &[u8]) -> u64 {
    let hash = |offset: u32| {
        line.iter().fold(offset, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    };
    hash(0x811c_9dc5).into() // FNV-1a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_prompts_is_known_by_its_name_or_its_first_line() {
        for (name, text, expected) in [
            ("p.txt", "{red|blue} fox", true),
            ("p.jsonl", "a fox", false),
            ("-", "\n  {\"prompt\": \"x\"}", false),
            ("prompts", "a fox\na cat", true),
        ] {
            assert_eq!(is_prompts(Path::new(name), text.as_bytes()), expected, "{name}");
        }
        assert_eq!(prompt_of(b"a fox").settings.prompt.as_deref(), Some("a fox"));
    }

    #[test]
    fn lines_are_numbered_as_an_editor_numbers_them_and_shards_share_them() {
        let text = b"\xef\xbb\xbf{1}\n\n  {3}\r\n{4}\n{5}";
        let lines = |shard| lines_of(text, shard).map(|(line, _)| line).collect::<Vec<_>>();
        assert_eq!(lines(None), [1, 3, 4, 5]);
        assert_eq!(lines(Some(Shard { index: 1, of: 2 })), [1, 4]);
        assert_eq!(lines(Some(Shard { index: 2, of: 2 })), [3, 5]);
        assert!(lines(Some(Shard { index: 5, of: 5 })).is_empty());
        assert_eq!(lines_of(text, None).nth(1), Some((3, &b"{3}"[..])));
    }

    /// The published values of FNV-1a, 32 bits.
    #[test]
    fn a_line_without_a_seed_always_has_the_same_one() {
        assert_eq!(seed_of(b""), 0x811c_9dc5);
        assert_eq!(seed_of(b"a"), 0xe40c_292c);
        assert_eq!(seed_of(b"foobar"), 0xbf9c_f968);
    }
}
