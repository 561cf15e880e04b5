//! Where a picture goes: checked before the work starts, and never over another file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use aquatint_model::{Error, Picture};

/// Where a picture goes.
pub(crate) enum Destination {
    File(PathBuf),
    Stdout,
}

impl Destination {
    /// What `--output` says: a file name, in which `{seed}` stands for the seed and `%03d` for the first free number of three
    /// digits; or `-` for stdout.
    ///
    /// # Errors
    /// See [`reserve`].
    pub(crate) fn reserve(output: &Path, seed: u64, replace: bool) -> Result<Self, Error> {
        if output == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let Some(text) = output.to_str() else { return reserve(output, "png", replace).map(Self::File) };
        let text = text.replace("{seed}", &seed.to_string());
        let Some((before, digits, after)) = number(&text) else {
            return reserve(Path::new(&text), "png", replace).map(Self::File);
        };
        let numbered = |i: u32| PathBuf::from(format!("{before}{i:0digits$}{after}"));
        let free = (1..).map(numbered).find(|path| !path.exists());
        let free = free.ok_or_else(|| Error::run("no free file name is left"))?;
        reserve(&free, "png", false).map(Self::File)
    }

    /// Writes the picture, and its path to stdout, unless the picture goes there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&self, picture: &Picture) -> Result<(), Error> {
        match self {
            Self::File(path) => {
                picture.save(path)?;
                println!("{}", path.display());
            }
            Self::Stdout => {
                let mut stdout = std::io::stdout().lock();
                let written = stdout.write_all(&picture.to_png()?).and_then(|()| stdout.flush());
                written.map_err(Error::writing("-"))?;
                eprintln!("written to stdout");
            }
        }
        Ok(())
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

/// A name under which a picture can be saved.
///
/// `extension` is what it must end in. If `wanted` exists and may not be replaced, this is the first free name among `fox-1.png`, `fox-2.png`, …
///
/// # Errors
/// If no file can be written there, or the name does not end so.
pub(crate) fn reserve(wanted: &Path, extension: &str, replace: bool) -> Result<PathBuf, Error> {
    let fits = wanted.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension));
    let name = wanted.file_stem().filter(|_| fits && !wanted.is_dir()).ok_or_else(|| {
        Error::request(format_args!(
            "the output is `{}`; expected a file name ending in .{extension}",
            wanted.display()
        ))
    })?;
    check_writable(wanted)?;
    if replace || !wanted.exists() {
        return Ok(wanted.to_owned());
    }
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
        let free = |replace| reserve(&wanted, "png", replace).expect("the folder is writable");
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
        fs::write(folder.path().join("fox-7-001.png"), b"mine").expect("the folder is writable");
        for (pattern, expected) in [
            ("fox-{seed}-%03d.png", "fox-7-002.png"),
            ("%d.png", "1.png"),
            ("%05d-{seed}.png", "00001-7.png"),
            ("100%.png", "100%.png"),
            ("%xd %3d.png", "%xd %3d.png"),
        ] {
            let destination =
                Destination::reserve(&folder.path().join(pattern), 7, true).expect("the folder is writable");
            let Destination::File(path) = destination else { panic!("{pattern} is a file") };
            assert_eq!(path, folder.path().join(expected), "{pattern}");
        }
        assert!(matches!(Destination::reserve(Path::new("-"), 7, false), Ok(Destination::Stdout)));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, message) in
            [("none/fox.png", "cannot write"), ("fox.gif", "ending in .png"), ("", "ending in .png")]
        {
            let error = reserve(&folder.path().join(name), "png", false)
                .expect_err("it cannot be written")
                .to_string();
            assert!(error.contains(message) && error.contains(name), "{error}");
        }
    }
}
