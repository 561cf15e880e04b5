//! Where a picture goes: checked before the work starts, and never over another file.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use aquatint_model::rng::random_seed;
use aquatint_model::{Error, Format, Image};

/// Endings of pictures.
pub(crate) const PICTURES: &[&str] = &["png", "jpg", "jpeg", "webp"];

/// Where pictures go.
pub(crate) struct Output {
    /// What `--output` says: a file name, in which `{seed}` stands for the seed, `{job}` for the line of a manifest and `%03d` for
    /// the first free number of three digits; or `-` for stdout.
    pattern: PathBuf,
    replace: bool,
    quality: u8,
    /// Files of this run, which are not replaced.
    written: Vec<PathBuf>,
    /// Whether paths are told on stdout.
    pub(crate) tell: bool,
}

impl Output {
    pub(crate) fn new(pattern: &Path, replace: bool, quality: u8) -> Self {
        Self { pattern: pattern.to_owned(), replace, quality, written: Vec::new(), tell: true }
    }

    pub(crate) fn is_stdout(&self) -> bool {
        self.pattern == Path::new("-")
    }

    /// Refuses a name that cannot be written.
    ///
    /// # Errors
    /// See [`reserve`].
    pub(crate) fn check(&self, seed: u64) -> Result<(), Error> {
        if self.is_stdout() { Ok(()) } else { self.free(seed, Some(1)).map(drop) }
    }

    /// The name for a picture.
    fn free(&self, seed: u64, job: Option<usize>) -> Result<PathBuf, Error> {
        let wanted = self.wanted(seed, job);
        reserve(&wanted, PICTURES, self.may_replace(&wanted))
    }

    fn may_replace(&self, path: &Path) -> bool {
        self.replace && path.exists() && !self.written.iter().any(|written| written == path)
    }

    /// The pattern with seed and line filled in; `None` if it is no text.
    fn text(&self, seed: u64, job: Option<usize>) -> Option<String> {
        let text = self.pattern.to_str()?.replace("{seed}", &seed.to_string());
        Some(job.map_or(text.clone(), |job| text.replace("{job}", &job.to_string())))
    }

    /// The pattern with seed, line and the first free number filled in.
    fn wanted(&self, seed: u64, job: Option<usize>) -> PathBuf {
        let Some(text) = self.text(seed, job) else { return self.pattern.clone() };
        let free = numbered(&text).and_then(|mut paths| paths.find(|path| !path.exists()));
        free.unwrap_or_else(|| text.into())
    }

    /// The first file among those that [`Output::save`] would have written before for which `same` holds.
    pub(crate) fn find(&self, seed: u64, job: usize, same: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let text = self.text(seed, Some(job)).unwrap_or_default();
        let there = |path: &PathBuf| path.exists();
        match numbered(&text) {
            Some(paths) => paths.take_while(there).find(|path| same(path)),
            None => names(&self.wanted(seed, Some(job))).take_while(there).find(|path| same(path)),
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
        self.written.push(path.clone());
        Ok(path)
    }
}

/// Writes a picture to `wanted` or, if that exists and may not be replaced, to the next free name. Returns the name.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn save(picture: &Image, wanted: &Path, quality: u8, replace: bool) -> Result<PathBuf, Error> {
    let format = Format::of(wanted, quality).unwrap_or(Format::Png);
    place(wanted, replace, |path| match (format, picture.parameters()) {
        (Format::Jpeg(quality), Some(parameters)) => {
            let mut parameters = parameters.clone();
            parameters.insert_after("Version", "JPEG quality", quality);
            picture.clone().with_parameters(parameters).save_as(path, format)
        }
        _ => picture.save_as(path, format),
    })
}

/// A picture may be hours of work: where the disk is full, the folder gone or the name too long, it is put into the system's folder
/// for temporary files, and the error says so.
fn rescued(picture: &Image, wanted: &Path, error: Error) -> Error {
    let name = wanted.with_extension("png");
    let names = [name.file_name().unwrap_or_default(), "aquatint.png".as_ref()];
    let rescue = |name| save(picture, &std::env::temp_dir().join(name), Format::QUALITY, false).ok();
    match names.into_iter().find_map(rescue) {
        Some(rescue) => Error::run(format_args!("{error}; the picture is at `{}`", rescue.display())),
        None => error,
    }
}

/// `%03d` in a file name: what stands before it, the 3, and what stands behind it. `%d` has no least number of digits.
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
fn numbered(name: &str) -> Option<impl Iterator<Item = PathBuf>> {
    let (before, digits, after) = number(name)?;
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
/// `extensions` are what it may end in. If `wanted` exists and may not be replaced, this is the first free name among `fox-1.png`,
/// `fox-2.png`, …
///
/// # Errors
/// If no file can be written there, or the name does not end so.
pub(crate) fn reserve(wanted: &Path, extensions: &[&str], replace: bool) -> Result<PathBuf, Error> {
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
    check_writable(wanted)?;
    let free = names(wanted).find(|path| replace || !path.exists());
    free.ok_or_else(|| Error::run("no free file name is left"))
}

/// Lets `write` make a file under a hidden name, which becomes `wanted` or, if that exists by then and may not be replaced, the next
/// free name. Returns the name.
///
/// # Errors
/// Those of `write`, or if the file cannot have the name.
pub(crate) fn place(
    wanted: &Path,
    replace: bool,
    write: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let hidden = hidden(wanted, "part")?;
    let placed = write(&hidden).and_then(|()| match replace {
        true => fs::rename(&hidden, wanted).map(|()| wanted.to_owned()).map_err(Error::writing(wanted)),
        false => rename_to_free(&hidden, wanted),
    });
    placed.map_err(|error| {
        let _ = fs::remove_file(&hidden); // it may not exist; the first error is the one to report
        match error {
            Error::Write { source, .. } => Error::writing(wanted)(source),
            error => error,
        }
    })
}

/// Gives a file the first of [`names`] that nobody has. Whoever creates a file has its name: two programs never get the same.
fn rename_to_free(file: &Path, wanted: &Path) -> Result<PathBuf, Error> {
    let created = |path: PathBuf| match File::create_new(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
        created => Some(created.map(|_| path)),
    };
    let free = names(wanted).find_map(created).ok_or_else(|| Error::run("no free file name is left"))?;
    let path = free.map_err(Error::writing(wanted))?;
    fs::rename(file, &path).map_err(|error| {
        let _ = fs::remove_file(&path); // it is empty
        Error::writing(wanted)(error)
    })?;
    Ok(path)
}

/// Makes sure that a file could be written: makes and removes a small one beside `path`.
pub(crate) fn check_writable(path: &Path) -> Result<(), Error> {
    path.try_exists().map_err(Error::writing(path))?; // not of a name that is too long
    let probe = hidden(path, "probe")?;
    let written = fs::write(&probe, b"aquatint");
    let removed = fs::remove_file(&probe);
    written.and(removed).map_err(Error::writing(path))
}

/// A short hidden name in the folder of `path`, which no other program uses, not even on another machine.
fn hidden(path: &Path, extension: &str) -> Result<PathBuf, Error> {
    Ok(path.with_file_name(format!(".aquatint.{:08x}.{extension}", random_seed()?)))
}

#[cfg(test)]
mod tests {
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
            let output = Output::new(&folder.path().join(pattern), true, 90);
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
    fn a_file_that_came_meanwhile_is_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wanted = folder.path().join("fox.png");
        let write = |path: &Path| {
            fs::write(&wanted, b"mine").expect("the folder is writable");
            fs::write(path, b"new").map_err(Error::writing(path))
        };
        let path = place(&wanted, false, write).expect("the folder is writable");
        assert_eq!(path, folder.path().join("fox-1.png"));
        assert_eq!(fs::read(&wanted).expect("it is still there"), b"mine");
        assert_eq!(place(&wanted, true, write).expect("the folder is writable"), wanted);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 2, "nothing hidden is left");
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
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (pattern, name) in [("{job}-{seed}.png", "3-7-1.png"), ("{job}-%02d.png", "3-02.png")] {
            let output = Output::new(&folder.path().join(pattern), false, 90);
            let wanted = folder.path().join(name);
            let find = || output.find(7, 3, |path| path == wanted);
            assert_eq!(find(), None);
            for name in ["3-7.png", "3-01.png", name] {
                fs::write(folder.path().join(name), b"").expect("the folder is writable");
            }
            assert_eq!(find().as_ref(), Some(&wanted), "{pattern}");
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
