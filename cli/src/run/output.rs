//! Where a picture goes: checked before the work starts, and never over another file.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use aquatint_model::image::metadata::{self, Parameters};
use aquatint_model::whole_file::check_writable;
use aquatint_model::{Error, Image, TextToImage};

use crate::run::files::{self, PICTURES, check_name, names, rescued, reserve, with_suffix};
use crate::run::pattern::{Fields, Pattern};

/// Where pictures go.
pub(crate) struct Output {
    /// Whether they go to stdout.
    stdout: bool,
    pattern: Pattern,
    replace: bool,
    quality: u8,
    /// The number of the next picture, if names have one; found when it is first needed.
    number: Option<usize>,
    /// Files of this run, which are not replaced.
    written: HashSet<PathBuf>,
    /// The files of folders. There may be thousands, which are looked at once.
    listings: HashMap<PathBuf, Vec<PathBuf>>,
    /// What is known of earlier files with one name but for the number.
    series: HashMap<PathBuf, Series>,
    /// Whether paths are told on stdout.
    pub(crate) tell: bool,
}

/// Files whose names differ in their number.
#[derive(Default)]
struct Series {
    /// Files whose settings are known.
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
    /// `pattern` is what `--output` says, `model` the path or id of the model.
    ///
    /// # Errors
    /// `Request` if the pattern has an unknown word.
    pub(crate) fn new(pattern: &Path, model: &Path, replace: bool, quality: u8) -> Result<Self, Error> {
        Ok(Self {
            stdout: files::is_stdout(pattern),
            pattern: Pattern::parse(pattern, model)?,
            replace,
            quality,
            number: None,
            written: HashSet::new(),
            listings: HashMap::new(),
            series: HashMap::new(),
            tell: true,
        })
    }

    pub(crate) fn is_stdout(&self) -> bool {
        self.stdout
    }

    /// Whether pictures of different seeds, lines or numbers have different names.
    pub(crate) fn tells_apart(&self) -> bool {
        self.pattern.tells_apart()
    }

    /// Refuses a name that cannot be written.
    ///
    /// # Errors
    /// See [`reserve`].
    pub(crate) fn check(&mut self, fields: &Fields) -> Result<(), Error> {
        if self.stdout { files::check_stdout() } else { self.free(fields).map(drop) }
    }

    /// Refuses a name that no picture can have, whether or not it can be written.
    ///
    /// # Errors
    /// If it does not end as pictures do.
    pub(crate) fn check_name(&mut self) -> Result<(), Error> {
        check_name(&self.wanted(&Fields::of(&TextToImage::default(), Some(1))), PICTURES)
    }

    /// The name for a picture.
    fn free(&mut self, fields: &Fields) -> Result<PathBuf, Error> {
        let wanted = self.wanted(fields);
        reserve(&wanted, PICTURES, self.may_replace(&wanted))
    }

    fn may_replace(&self, path: &Path) -> bool {
        let is_there = path.symlink_metadata().is_ok(); // also a link to nothing
        self.replace && is_there && !self.written.contains(path)
    }

    /// The files of the folder of a path.
    fn listing(&mut self, path: &Path) -> &[PathBuf] {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        self.listings.entry(folder).or_insert_with_key(|folder| {
            let named = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let entries = named.read_dir().into_iter().flatten().flatten();
            entries.map(|entry| folder.join(entry.file_name())).collect()
        })
    }

    /// The pattern filled in, with the number of the next picture: one more than that of any
    /// earlier file.
    fn wanted(&mut self, fields: &Fields) -> PathBuf {
        if !self.pattern.has_number() {
            return self.pattern.fill(fields, 0);
        }
        let number = self.number.unwrap_or_else(|| {
            let pattern = self.pattern.clone();
            let files = self.listing(&pattern.fill(fields, 0));
            files.iter().filter_map(|file| pattern.number_in(file, None)).max().unwrap_or(0) + 1
        });
        self.number = Some(number);
        self.pattern.fill(fields, number)
    }

    /// The first file among those that [`Output::save`] would have written before that is a
    /// finished picture with these settings.
    pub(crate) fn find(&mut self, fields: &Fields, settings: &Parameters) -> Option<PathBuf> {
        let name = self.pattern.fill(fields, 0);
        let files: Vec<PathBuf> = match self.pattern.has_number() {
            true => {
                let pattern = self.pattern.clone();
                let number = |file: &PathBuf| Some((pattern.number_in(file, Some(fields))?, file.clone()));
                let mut files: Vec<_> = self.listing(&name).iter().filter_map(number).collect();
                files.sort();
                files.into_iter().map(|(_, file)| file).collect()
            }
            false => names(&name).take_while(|path| path.exists()).collect(),
        };
        let series = self.series.entry(name).or_default();
        for path in files.into_iter().skip(series.read) {
            series.read += 1;
            if let Some(settings) = stored_settings(&path) {
                series.files.entry(settings).or_insert(path);
            }
        }
        series.files.get(&settings_of(settings)).cloned()
    }

    /// Makes sure that there is room for a picture.
    ///
    /// # Errors
    /// If it could not be written.
    pub(crate) fn check_room(&mut self, fields: &Fields, [width, height]: [usize; 2]) -> Result<(), Error> {
        match self.stdout {
            true => Ok(()),
            false => check_writable(&self.wanted(fields), 3 * width * height),
        }
    }

    /// Writes a picture, and its path to stdout, unless the picture goes there. Returns the path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&mut self, picture: &Image, fields: &Fields) -> Result<Option<PathBuf>, Error> {
        if self.stdout {
            return files::save(picture, Path::new("-"), self.quality, false).map(|_| None);
        }
        let wanted = self.wanted(fields);
        let path = self.write(picture, &wanted)?;
        self.number = self.number.map(|number| number + 1);
        Ok(Some(path))
    }

    /// The same with `-suffix` behind the name; never to stdout.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save_beside(
        &mut self,
        picture: &Image,
        path: Option<&Path>,
        fields: &Fields,
        suffix: &str,
    ) -> Result<Option<PathBuf>, Error> {
        let beside = match path {
            Some(path) => path.to_owned(),
            None if self.stdout => PathBuf::from(format!("aquatint-{}.png", fields.seed)),
            None => self.wanted(fields),
        };
        self.write(picture, &with_suffix(&beside, suffix)).map(Some)
    }

    fn write(&mut self, picture: &Image, wanted: &Path) -> Result<PathBuf, Error> {
        let saved = files::save(picture, wanted, self.quality, self.may_replace(wanted));
        let path = saved.map_err(|error| rescued(picture, wanted, error))?;
        if self.tell {
            println!("{}", path.display());
        }
        self.written.insert(path.clone());
        if let Some(listing) = self.listings.get_mut(path.parent().unwrap_or(Path::new(""))) {
            listing.push(path.clone());
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::pattern::tests::fields;

    fn output(pattern: &Path, replace: bool) -> Output {
        let mut output = Output::new(pattern, Path::new("m"), replace, 90).expect("a pattern");
        output.tell = false;
        output
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
            let mut output = output(&folder.path().join(pattern), true);
            let path = output.free(&fields(7, Some(3))).expect("the folder is writable");
            assert_eq!(path, folder.path().join(expected), "{pattern}");
        }
        assert!(output(Path::new("-"), false).is_stdout());
    }

    #[test]
    fn the_number_is_that_of_the_picture_behind_earlier_ones() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let picture = Image::from_rgb(1, 1, vec![0; 3]);
        let run = |seeds: std::ops::Range<u64>| {
            let mut output = output(&folder.path().join("%02d-{seed}.png"), false);
            let save = |seed| output.save(&picture, &fields(seed, None)).expect("the folder is writable");
            let paths: Vec<_> = seeds.filter_map(save).collect();
            paths.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(run(100..103), ["01-100.png", "02-101.png", "03-102.png"]);
        assert_eq!(run(100..102), ["04-100.png", "05-101.png"]);
    }

    #[test]
    fn pictures_of_one_run_never_replace_each_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut output = output(&folder.path().join("fox.png"), true);
        fs::write(folder.path().join("fox.png"), b"mine").expect("the folder is writable");
        let picture = Image::from_rgb(1, 1, vec![0; 3]);
        for expected in ["fox.png", "fox-1.png"] {
            let path = output.save(&picture, &fields(7, None)).expect("the folder is writable");
            assert_eq!(path, Some(folder.path().join(expected)));
        }
    }

    /// The picture is where the error of [`Output::save`] says, and nothing else is left.
    #[track_caller]
    fn is_rescued(folder: &Path, name: &str) {
        let mut output = output(&folder.join(name), false);
        let picture = Image::from_rgb(1, 1, vec![7; 3]);
        let message = output.save(&picture, &fields(7, None)).expect_err("it cannot be written").to_string();
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
        let output = |letters: usize| output(&folder.path().join("x".repeat(letters) + ".png"), false);
        assert!(output(300).check(&fields(7, None)).is_err());
        let picture = Image::from_rgb(1, 1, vec![0; 3]);
        let path = output(250).save(&picture, &fields(7, None)).expect("the folder is writable");
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
            let mut output = output(&folder.path().join(pattern), false);
            let path = output.save_beside(&picture, None, &fields(7, Some(3)), "partial");
            assert_eq!(path.expect("the folder is writable"), Some(folder.path().join(expected)));
        }
    }

    #[test]
    fn what_an_earlier_run_wrote_is_found() {
        let text = |seed: u64| format!("p\nSteps: 1, Sampler: Euler, Size: 1x1, Seed: {seed}");
        let save = |output: &mut Output, seed| {
            let picture = Image::from_rgb(1, 1, vec![0; 3])
                .with_parameters(Parameters::parse(&(text(seed) + ", Steps digest: 1a")));
            output.save(&picture, &fields(7, Some(3))).expect("the folder is writable")
        };
        for (pattern, names) in [
            ("{job}-{seed}.png", ["3-7.png", "3-7-1.png", "3-7-2.png"]),
            ("{job}-%02d.png", ["3-01.png", "3-02.png", "3-03.png"]),
        ] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let new = || output(&folder.path().join(pattern), false);
            let seven = fields(7, Some(3));
            let mut earlier = new();
            assert_eq!(earlier.find(&seven, &Parameters::parse(&text(1))), None);
            save(&mut earlier, 1);
            save(&mut earlier, 2);
            let mut output = new();
            for (seed, name) in [(2, Some(names[1])), (1, Some(names[0])), (3, None)] {
                let found = output.find(&seven, &Parameters::parse(&text(seed)));
                assert_eq!(found, name.map(|name| folder.path().join(name)), "{pattern}");
            }
            assert_eq!(save(&mut output, 3), Some(folder.path().join(names[2])));
            assert_eq!(output.find(&seven, &Parameters::parse(&text(3))), Some(folder.path().join(names[2])));
        }
    }
}
