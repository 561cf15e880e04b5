//! Where a picture goes: checked before the work starts, and never over another file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use aquatint_model::parameters::Parameters;
use aquatint_model::{Error, Format, Picture};

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
        let free = |path: &Path| !path.exists() || self.replace && !self.written.iter().any(|w| w == path);
        if let Some(text) = self.text(seed, job)
            && let Some((before, digits, after)) = number(&text)
        {
            let numbered = |i: u32| PathBuf::from(format!("{before}{i:0digits$}{after}"));
            let path = (1..).map(numbered).find(|path| !path.exists());
            return reserve(&path.ok_or_else(|| Error::run("no free file name is left"))?, PICTURES, false);
        }
        let wanted = self.wanted(seed, job);
        reserve(&wanted, PICTURES, free(&wanted))
    }

    /// The pattern with seed and line filled in; `None` if it is no text.
    fn text(&self, seed: u64, job: Option<usize>) -> Option<String> {
        let text = self.pattern.to_str()?.replace("{seed}", &seed.to_string());
        Some(job.map_or(text.clone(), |job| text.replace("{job}", &job.to_string())))
    }

    fn wanted(&self, seed: u64, job: Option<usize>) -> PathBuf {
        self.text(seed, job).map_or_else(|| self.pattern.clone(), PathBuf::from)
    }

    /// The first file among those that [`Output::save`] would have written before for which `same` holds.
    pub(crate) fn find(&self, seed: u64, job: usize, same: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        let wanted = self.wanted(seed, Some(job));
        let text = self.text(seed, Some(job)).unwrap_or_default();
        let numbered = |i: u32| match number(&text) {
            Some((before, digits, after)) => Some(PathBuf::from(format!("{before}{i:0digits$}{after}"))),
            None if i == 0 => Some(wanted.clone()),
            None => {
                let (stem, extension) = (wanted.file_stem()?.to_str()?, wanted.extension()?.to_str()?);
                Some(wanted.with_file_name(format!("{stem}-{i}.{extension}")))
            }
        };
        let first = u32::from(number(&text).is_some());
        (first..).map_while(numbered).take_while(|path| path.exists()).find(|path| same(path))
    }

    /// Writes a picture, and its path to stdout, unless the picture goes there. Returns the path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(
        &mut self,
        picture: &Picture,
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
        let path = self.free(seed, job)?;
        self.write(picture, path).map(Some)
    }

    /// The same with `-suffix` behind the name; never to stdout.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save_beside(
        &mut self,
        picture: &Picture,
        path: Option<&Path>,
        seed: u64,
        suffix: &str,
    ) -> Result<Option<PathBuf>, Error> {
        let beside = match path {
            Some(path) => path.to_owned(),
            None if self.is_stdout() => PathBuf::from(format!("aquatint-{seed}.png")),
            None => self.wanted(seed, None),
        };
        let stem = beside.file_stem().unwrap_or_default().to_string_lossy();
        let extension = beside.extension().unwrap_or_default().to_string_lossy();
        let wanted = beside.with_file_name(format!("{stem}-{suffix}.{extension}"));
        let path = reserve(&wanted, PICTURES, self.replace && !self.written.contains(&wanted))?;
        self.write(picture, path).map(Some)
    }

    fn write(&mut self, picture: &Picture, path: PathBuf) -> Result<PathBuf, Error> {
        let format = Format::of(&path, self.quality).unwrap_or(Format::Png);
        let saved = Self::save_as(picture, &path, format);
        if let Err(error) = saved {
            return Err(rescued(picture, &path, error));
        }
        if self.tell {
            println!("{}", path.display());
        }
        self.written.push(path.clone());
        Ok(path)
    }

    fn save_as(picture: &Picture, path: &Path, format: Format) -> Result<(), Error> {
        match (format, picture.parameters()) {
            (Format::Jpeg(quality), Some(text)) => {
                let mut parameters = Parameters::parse(text);
                parameters.insert_after("Version", "JPEG quality", quality);
                picture.clone().with_parameters(parameters.to_string()).save_as(path, format)
            }
            _ => picture.save_as(path, format),
        }
    }
}

/// A picture may be hours of work: where the disk is full, or the folder gone, it is put into the system's folder for temporary files,
/// and the error says so.
fn rescued(picture: &Picture, path: &Path, error: Error) -> Error {
    let name = path.with_extension("png");
    let wanted = std::env::temp_dir().join(name.file_name().unwrap_or_default());
    let rescue = reserve(&wanted, PICTURES, false).and_then(|rescue| picture.save(&rescue).map(|()| rescue));
    match rescue {
        Ok(rescue) => Error::run(format_args!("{error}; the picture is at `{}`", rescue.display())),
        Err(_) => error,
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
    let name = wanted.file_stem().filter(|_| fits && !wanted.is_dir()).ok_or_else(|| {
        Error::request(format_args!(
            "the output is `{}`; expected a file name ending in .{}",
            wanted.display(),
            extensions.join(", .")
        ))
    })?;
    check_writable(wanted)?;
    if replace || !wanted.exists() {
        return Ok(wanted.to_owned());
    }
    let extension = wanted.extension().unwrap_or_default().to_string_lossy();
    let numbered = |i| wanted.with_file_name(format!("{}-{i}.{extension}", name.to_string_lossy()));
    let free = (1..).map(numbered).find(|path| !path.exists());
    free.ok_or_else(|| Error::run("no free file name is left"))
}

/// Writes and removes a small file beside `path`.
fn check_writable(path: &Path) -> Result<(), Error> {
    let probe = path.with_file_name(format!(".aquatint.{}.probe", std::process::id()));
    fs::write(&probe, b"aquatint").and_then(|()| fs::remove_file(&probe)).map_err(Error::writing(path))
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
        let picture = Picture::from_rgb(1, 1, vec![0; 3]);
        for expected in ["fox.png", "fox-1.png"] {
            let path = output.save(&picture, 7, None).expect("the folder is writable");
            assert_eq!(path, Some(folder.path().join(expected)));
        }
    }

    #[test]
    fn a_picture_that_cannot_be_saved_is_not_lost() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = format!("aquatint-rescued-{}.jpg", std::process::id());
        let mut output = Output::new(&folder.path().join(&name), false, 90);
        output.tell = false;
        let picture = Picture::from_rgb(1, 1, vec![7; 3]);
        let error =
            output.write(&picture, folder.path().join("gone").join(&name)).expect_err("no such folder");
        let message = error.to_string();
        let rescue = message.split('`').nth(3).unwrap_or_else(|| panic!("no place is named: {message}"));
        let read = image::open(rescue).expect("it is there").into_rgb8();
        fs::remove_file(rescue).expect("it is there");
        assert_eq!(read.as_raw(), picture.pixels());
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
