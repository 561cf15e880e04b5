//! Where a picture goes: checked before the work starts, and never over another file.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use aquatint_model::image::metadata::{self, Parameters};
use aquatint_model::whole_file::{WholeFile, check_writable};
use aquatint_model::{Error, Format, Image};

/// Endings of pictures.
pub(crate) const PICTURES: &[&str] = &["png", "jpg", "jpeg", "webp"];

/// Where pictures go.
pub(crate) struct Output {
    /// What `--output` says: a file name, in which `{seed}` stands for the seed, `{job}` for the
    /// line of a manifest and `%03d` for the first free number of three digits; or `-` for stdout.
    pattern: PathBuf,
    replace: bool,
    quality: u8,
    /// Files of this run, which are not replaced.
    written: HashSet<PathBuf>,
    /// The files of each pattern. There may be thousands, which are looked at once.
    series: HashMap<String, Series>,
    /// Whether paths are printed on stdout.
    pub(crate) tell: bool,
}

/// The files of one pattern, once seed and line are known.
#[derive(Default)]
struct Series {
    /// Numbers from 1 that are taken.
    taken: usize,
    /// Files from 1 whose settings are known.
    read: usize,
    /// The first file with these settings.
    files: HashMap<Vec<String>, PathBuf>,
}

/// The settings of a finished picture.
fn stored_settings(path: &Path) -> Option<Vec<String>> {
    let text = metadata::read(path).ok().flatten()?;
    Some(settings_of(&Parameters::parse(&text)))
}

/// Settings in a form in which they can be compared, without those that only a finished picture
/// knows.
fn settings_of(parameters: &Parameters) -> Vec<String> {
    // As a reader of the text finds them, who sees no white space at the ends of lines.
    let Parameters { prompt, negative_prompt, settings } = Parameters::parse(&parameters.to_string());
    let finished = |key: &str| key == "Steps digest" || key == "JPEG quality";
    let settings = settings.into_iter().filter(|(key, _)| !finished(key));
    let mut all: Vec<_> = settings.map(|(key, value)| format!("{key}: {value}")).collect();
    all.sort();
    all.extend([prompt, negative_prompt]);
    all
}

impl Output {
    pub(crate) fn new(pattern: &Path, replace: bool, quality: u8) -> Self {
        Self {
            pattern: pattern.to_owned(),
            replace,
            quality,
            written: HashSet::new(),
            series: HashMap::new(),
            tell: true,
        }
    }

    pub(crate) fn is_stdout(&self) -> bool {
        self.pattern == Path::new("-")
    }

    /// Refuses a name that cannot be written.
    ///
    /// # Errors
    /// See [`reserve`].
    pub(crate) fn check(&mut self, seed: u64) -> Result<(), Error> {
        if self.is_stdout() { Ok(()) } else { self.free(seed, Some(1)).map(drop) }
    }

    /// Refuses a name that no picture can have, whether or not it can be written.
    ///
    /// # Errors
    /// If it does not end as pictures do.
    pub(crate) fn check_name(&mut self) -> Result<(), Error> {
        check_name(&self.wanted(0, Some(1)), PICTURES)
    }

    /// The name for a picture.
    fn free(&mut self, seed: u64, job: Option<usize>) -> Result<PathBuf, Error> {
        let wanted = self.wanted(seed, job);
        reserve(&wanted, PICTURES, self.may_replace(&wanted))
    }

    fn may_replace(&self, path: &Path) -> bool {
        self.replace && path.exists() && !self.written.contains(path)
    }

    /// The pattern with seed and line filled in; `None` if it is no text.
    fn text(&self, seed: u64, job: Option<usize>) -> Option<String> {
        let text = self.pattern.to_str()?.replace("{seed}", &seed.to_string());
        Some(job.map_or(text.clone(), |job| text.replace("{job}", &job.to_string())))
    }

    /// The pattern with seed, line and the first free number filled in.
    fn wanted(&mut self, seed: u64, job: Option<usize>) -> PathBuf {
        let Some(text) = self.text(seed, job) else { return self.pattern.clone() };
        let Some(names) = numbered(&text) else { return text.into() };
        let series = self.series.entry(text).or_default();
        for path in names.skip(series.taken) {
            if !path.exists() {
                return path;
            }
            series.taken += 1;
        }
        self.pattern.clone()
    }

    /// The first file among those that [`Output::save`] would have written before that is a
    /// finished picture with these settings.
    pub(crate) fn find(&mut self, seed: u64, job: usize, settings: &Parameters) -> Option<PathBuf> {
        let text = self.text(seed, Some(job))?;
        let wanted = settings_of(settings);
        let files: Box<dyn Iterator<Item = PathBuf>> = match numbered(&text) {
            Some(files) => Box::new(files),
            None => Box::new(names(text.as_ref())),
        };
        let series = self.series.entry(text).or_default();
        for path in files.skip(series.read).take_while(|path| path.exists()) {
            series.read += 1;
            if let Some(settings) = stored_settings(&path) {
                series.files.entry(settings).or_insert(path);
            }
        }
        series.files.get(&wanted).cloned()
    }

    /// Makes sure that there is room for a picture.
    ///
    /// # Errors
    /// If it could not be written.
    pub(crate) fn check_room(
        &mut self,
        seed: u64,
        job: Option<usize>,
        [width, height]: [usize; 2],
    ) -> Result<(), Error> {
        match self.is_stdout() {
            true => Ok(()),
            false => check_writable(&self.wanted(seed, job), 3 * width * height),
        }
    }

    /// Writes a picture, and its path to stdout, unless the picture goes there. Returns the path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(
        &mut self,
        picture: &Image,
        seed: u64,
        job: Option<usize>,
    ) -> Result<Option<PathBuf>, Error> {
        if self.is_stdout() {
            let mut stdout = std::io::stdout().lock();
            let written = stdout.write_all(&picture.to_png()?).and_then(|()| stdout.flush());
            written.map_err(Error::writing("-"))?;
            eprintln!("written to stdout");
            return Ok(None);
        }
        let wanted = self.wanted(seed, job);
        self.write(picture, &wanted).map(Some)
    }

    /// The same with `-suffix` behind the name; never to stdout.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save_beside(
        &mut self,
        picture: &Image,
        path: Option<&Path>,
        seed: u64,
        job: Option<usize>,
        suffix: &str,
    ) -> Result<Option<PathBuf>, Error> {
        let beside = match path {
            Some(path) => path.to_owned(),
            None if self.is_stdout() => PathBuf::from(format!("aquatint-{seed}.png")),
            None => self.wanted(seed, job),
        };
        let stem = beside.file_stem().unwrap_or_default().to_string_lossy();
        let extension = beside.extension().unwrap_or_default().to_string_lossy();
        let wanted = beside.with_file_name(format!("{stem}-{suffix}.{extension}"));
        self.write(picture, &wanted).map(Some)
    }

    fn write(&mut self, picture: &Image, wanted: &Path) -> Result<PathBuf, Error> {
        let saved = save(picture, wanted, self.quality, self.may_replace(wanted));
        let path = saved.map_err(|error| rescued(picture, wanted, error))?;
        if self.tell {
            println!("{}", path.display());
        }
        self.written.insert(path.clone());
        Ok(path)
    }
}

/// Writes a picture to `wanted` or, if that exists and may not be replaced, to the next free name.
/// Returns the name.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn save(picture: &Image, wanted: &Path, quality: u8, replace: bool) -> Result<PathBuf, Error> {
    let format = Format::of(wanted, quality).unwrap_or(Format::Png);
    let bytes = match (format, picture.parameters()) {
        (Format::Jpeg(quality), Some(parameters)) => {
            let mut parameters = parameters.clone();
            parameters.insert_after("Version", "JPEG quality", quality);
            picture.clone().with_parameters(parameters).to_bytes(format)?
        }
        _ => picture.to_bytes(format)?,
    };
    place(wanted, replace, &bytes)
}

/// A picture may be hours of work: where the disk is full, the folder gone or the name too long, it
/// is put into the system's folder for temporary files, and the error says so.
fn rescued(picture: &Image, wanted: &Path, error: Error) -> Error {
    let name = wanted.with_extension("png");
    let names = [name.file_name().unwrap_or_default(), "aquatint.png".as_ref()];
    let rescue = |name| save(picture, &std::env::temp_dir().join(name), Format::QUALITY, false).ok();
    match names.into_iter().find_map(rescue) {
        Some(rescue) => Error::run(format_args!("{error}; the picture is at `{}`", rescue.display())),
        None => error,
    }
}

/// `%03d` in a file name: what is before it, the 3, and what is after it. `%d` has no
/// least number of digits.
fn number(name: &str) -> Option<(&str, usize, &str)> {
    name.match_indices('%').find_map(|(at, _)| {
        let (digits, after) = name[at + 1..].split_once('d')?;
        let digits = match digits {
            "" => 1,
            digits => digits.strip_prefix('0')?.parse().ok().filter(|digits| (1..=9).contains(digits))?,
        };
        Some((&name[..at], digits, after))
    })
}

/// The names that a `%03d` stands for, from 1; `None` if there is none in `name`.
fn numbered(name: &str) -> Option<impl Iterator<Item = PathBuf> + use<>> {
    let (before, digits, after) = number(name)?;
    let (before, after) = (before.to_owned(), after.to_owned());
    Some((1..=u32::MAX).map(move |i| PathBuf::from(format!("{before}{i:0digits$}{after}"))))
}

/// `fox.png`, `fox-1.png`, `fox-2.png`, …
fn names(wanted: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let wanted = wanted.to_owned();
    let [stem, extension] = [wanted.file_stem(), wanted.extension()]
        .map(|part| part.unwrap_or_default().to_string_lossy().into_owned());
    let first = std::iter::once(wanted.clone());
    first.chain((1..=u32::MAX).map(move |i| wanted.with_file_name(format!("{stem}-{i}.{extension}"))))
}

/// A name under which a file can be saved.
///
/// `extensions` are what it may end in. If `wanted` exists and may not be replaced, this is the
/// first free name among `fox-1.png`, `fox-2.png`, …
///
/// # Errors
/// If no file can be written there, or the name does not end so.
pub(crate) fn reserve(wanted: &Path, extensions: &[&str], replace: bool) -> Result<PathBuf, Error> {
    check_name(wanted, extensions)?;
    check_writable(wanted, 1)?;
    let free = names(wanted).find(|path| replace || !path.exists());
    free.ok_or_else(|| Error::run("no free file name is left"))
}

/// Makes sure that a path names a file with one of these endings.
fn check_name(wanted: &Path, extensions: &[&str]) -> Result<(), Error> {
    let known =
        |found: &std::ffi::OsStr| extensions.iter().any(|extension| found.eq_ignore_ascii_case(extension));
    let fits = wanted.extension().is_some_and(known);
    if wanted.file_stem().is_none() || !fits || wanted.is_dir() {
        return Err(Error::request(format_args!(
            "the output is `{}`; expected a file name ending in .{}",
            wanted.display(),
            extensions.join(", .")
        )));
    }
    Ok(())
}

/// Writes a file that appears whole as `wanted` or, if that exists and may not be replaced, under
/// the next free name. Returns the name.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn place(wanted: &Path, replace: bool, bytes: &[u8]) -> Result<PathBuf, Error> {
    let mut file = WholeFile::write(wanted, bytes)?;
    if replace {
        file.replace(wanted)?;
        return Ok(wanted.to_owned());
    }
    for path in names(wanted) {
        if file.name(&path)? {
            return Ok(path);
        }
    }
    Err(Error::run("no free file name is left"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_existing_file_is_kept_unless_it_may_be_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wanted = folder.path().join("fox.png");
        let free = |replace| reserve(&wanted, PICTURES, replace).expect("the folder is writable");
        assert_eq!(free(false), wanted);
        for name in ["fox.png", "fox-1.png"] {
            fs::write(folder.path().join(name), b"mine").expect("the folder is writable");
        }
        assert_eq!(free(false), folder.path().join("fox-2.png"));
        assert_eq!(free(true), wanted);
        assert_eq!(fs::read(&wanted).expect("it is still there"), b"mine");
    }

    #[test]
    fn a_pattern_becomes_the_seed_and_a_free_number() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("3")).expect("the folder is writable");
        fs::write(folder.path().join("fox-7-001.png"), b"mine").expect("the folder is writable");
        for (pattern, expected) in [
            ("fox-{seed}-%03d.png", "fox-7-002.png"),
            ("%d.png", "1.png"),
            ("%05d-{seed}.png", "00001-7.png"),
            ("100%.png", "100%.png"),
            ("%xd %3d.png", "%xd %3d.png"),
            ("{job}/{seed}.jpg", "3/7.jpg"),
        ] {
            let mut output = Output::new(&folder.path().join(pattern), true, 90);
            let path = output.free(7, Some(3)).expect("the folder is writable");
            assert_eq!(path, folder.path().join(expected), "{pattern}");
        }
        assert!(Output::new(Path::new("-"), false, 90).is_stdout());
    }

    #[test]
    fn pictures_of_one_run_never_replace_each_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut output = Output::new(&folder.path().join("fox.png"), true, 90);
        output.tell = false;
        fs::write(folder.path().join("fox.png"), b"mine").expect("the folder is writable");
        let picture = Image::from_rgb(1, 1, vec![0; 3]);
        for expected in ["fox.png", "fox-1.png"] {
            let path = output.save(&picture, 7, None).expect("the folder is writable");
            assert_eq!(path, Some(folder.path().join(expected)));
        }
    }

    /// The picture is where the error of [`Output::save`] says, and nothing else is left.
    #[track_caller]
    fn is_rescued(folder: &Path, name: &str) {
        let mut output = Output::new(&folder.join(name), false, 90);
        output.tell = false;
        let picture = Image::from_rgb(1, 1, vec![7; 3]);
        let message = output.save(&picture, 7, None).expect_err("it cannot be written").to_string();
        let rescue = message.split('`').nth(3).unwrap_or_else(|| panic!("no place is named: {message}"));
        let read = image::open(rescue).expect("it is there").into_rgb8();
        fs::remove_file(rescue).expect("it is there");
        assert_eq!(read.as_raw(), picture.pixels());
    }

    #[test]
    fn a_picture_that_cannot_be_saved_is_not_lost() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = format!("aquatint-rescued-{}.jpg", std::process::id());
        is_rescued(&folder.path().join("gone"), &name);
        is_rescued(folder.path(), &format!("{}.png", "x".repeat(300)));
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
    }

    #[test]
    fn a_long_name_is_no_obstacle_and_one_too_long_is_found_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = |letters: usize| {
            let mut output = Output::new(&folder.path().join("x".repeat(letters) + ".png"), false, 90);
            output.tell = false;
            output
        };
        assert!(output(300).check(7).is_err());
        let picture = Image::from_rgb(1, 1, vec![0; 3]);
        let path = output(250).save(&picture, 7, None).expect("the folder is writable");
        assert!(path.is_some_and(|path| path.is_file()));
    }

    #[test]
    fn what_stands_beside_a_picture_has_its_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("3")).expect("the folder is writable");
        fs::write(folder.path().join("fox-001.png"), b"mine").expect("the folder is writable");
        let picture = Image::from_rgb(1, 1, vec![0; 3]);
        for (pattern, expected) in [
            ("{job}/{seed}.png", "3/7-partial.png"),
            ("{job}-{seed}.jpg", "3-7-partial.jpg"),
            ("fox-%03d.png", "fox-002-partial.png"),
            ("fox-%03d.png", "fox-002-partial-1.png"),
        ] {
            let mut output = Output::new(&folder.path().join(pattern), false, 90);
            output.tell = false;
            let path = output.save_beside(&picture, None, 7, Some(3), "partial");
            assert_eq!(path.expect("the folder is writable"), Some(folder.path().join(expected)));
        }
    }

    #[test]
    fn what_an_earlier_run_wrote_is_found() {
        let text = |seed: u64| format!("p\nSteps: 1, Sampler: Euler, Size: 1x1, Seed: {seed}");
        let save = |output: &mut Output, seed| {
            let picture = Image::from_rgb(1, 1, vec![0; 3])
                .with_parameters(Parameters::parse(&(text(seed) + ", Steps digest: 1a")));
            output.save(&picture, 7, Some(3)).expect("the folder is writable")
        };
        for (pattern, names) in [
            ("{job}-{seed}.png", ["3-7.png", "3-7-1.png", "3-7-2.png"]),
            ("{job}-%02d.png", ["3-01.png", "3-02.png", "3-03.png"]),
        ] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let new = || {
                let mut output = Output::new(&folder.path().join(pattern), false, 90);
                output.tell = false;
                output
            };
            let mut earlier = new();
            assert_eq!(earlier.find(7, 3, &Parameters::parse(&text(1))), None);
            save(&mut earlier, 1);
            save(&mut earlier, 2);
            let mut output = new();
            for (seed, name) in [(2, Some(names[1])), (1, Some(names[0])), (3, None)] {
                let found = output.find(7, 3, &Parameters::parse(&text(seed)));
                assert_eq!(found, name.map(|name| folder.path().join(name)), "{pattern}");
            }
            assert_eq!(save(&mut output, 3), Some(folder.path().join(names[2])));
            assert_eq!(output.find(7, 3, &Parameters::parse(&text(3))), Some(folder.path().join(names[2])));
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, message) in
            [("none/fox.png", "cannot write"), ("fox.gif", "ending in .png"), ("", "ending in .png")]
        {
            let error = reserve(&folder.path().join(name), PICTURES, false)
                .expect_err("it cannot be written")
                .to_string();
            assert!(error.contains(message) && error.contains(name), "{error}");
        }
    }
}
