//! Patterns of file names: `{prompt}-%03d.png`.
//!
//! | written | becomes |
//! |---|---|
//! | `%03d`, `%d` | the number of the picture, of three digits: behind those of earlier runs |
//! | `{seed}` | its seed |
//! | `{job}` | the line of the manifest |
//! | `{prompt}` | the beginning of its prompt, letters and digits only |
//! | `{model}` | the model's name |
//! | `{width}` `{height}` `{steps}` `{cfg}` | as numbers |
//! | `{date}` `{time}` | when the program began, in UTC: 2026-12-01, 18-30-05 |
//!
//! Anything else in braces is refused; `{{` and `}}` are braces.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aquatint_model::{Error, TextToImage};

/// Characters of a prompt in a name.
const PROMPT_LENGTH: usize = 60;

/// What a name can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Seed,
    Job,
    Prompt,
    Model,
    Width,
    Height,
    Steps,
    Cfg,
    Date,
    Time,
}

const FIELDS: [(&str, Field); 10] = [
    ("seed", Field::Seed),
    ("job", Field::Job),
    ("prompt", Field::Prompt),
    ("model", Field::Model),
    ("width", Field::Width),
    ("height", Field::Height),
    ("steps", Field::Steps),
    ("cfg", Field::Cfg),
    ("date", Field::Date),
    ("time", Field::Time),
];

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    /// Bytes that stay.
    Bytes(Vec<u8>),
    Field(Field),
    /// A number with at least this many digits.
    Number(usize),
}

/// A pattern that was read.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pieces: Vec<Piece>,
    model: String,
    /// "2026-12-01" and "18-30-05".
    started: [String; 2],
}

/// What the pattern of a picture is filled with.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    pub(crate) seed: u64,
    pub(crate) job: Option<usize>,
    prompt: String,
    numbers: [String; 4],
}

impl Fields {
    /// Those of a picture of this request, of a line of a manifest if it has one.
    pub(crate) fn of(request: &TextToImage, job: Option<usize>) -> Self {
        let TextToImage { width, height, steps, guidance_scale, .. } = request;
        let numbers = [width.to_string(), height.to_string(), steps.to_string(), guidance_scale.to_string()];
        Self { seed: request.seed, job, prompt: sanitised(&request.prompt), numbers }
    }

    /// The same for a picture with another seed.
    pub(crate) fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

/// A text as part of a file name on every system: letters, digits and a few signs, one `_` for all
/// between them.
pub(crate) fn sanitised(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || "-+.,()'".contains(c) => name.push(c),
            _ if name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    let name = name.trim_matches(['_', '.', ',', ' ']);
    let short: String = name.chars().take(PROMPT_LENGTH).collect();
    match short.trim_end_matches(['_', '.']) {
        "" => "picture".into(),
        short => short.into(),
    }
}

impl Pattern {
    /// Reads a pattern; `model` is the model's path or id.
    ///
    /// # Errors
    /// `Request` if there is an unknown word in braces.
    pub(crate) fn parse(pattern: &Path, model: &Path) -> Result<Self, Error> {
        let bytes = bytes_of(pattern.as_os_str());
        let (mut pieces, mut rest, mut kept) = (Vec::new(), &bytes[..], Vec::new());
        while let Some((&first, after)) = rest.split_first() {
            let found = match first {
                b'{' | b'}' if after.first() == Some(&first) => Some((Piece::Bytes(vec![first]), 2)),
                b'{' => Some(field(pattern, rest)?),
                b'%' => number(after).map(|(digits, length)| (Piece::Number(digits), 1 + length)),
                _ => None,
            };
            match found {
                Some((Piece::Bytes(brace), length)) => {
                    kept.extend(brace);
                    rest = &rest[length..];
                }
                Some((piece, length)) => {
                    pieces.extend([Piece::Bytes(std::mem::take(&mut kept)), piece]);
                    rest = &rest[length..];
                }
                None => {
                    kept.push(first);
                    rest = after;
                }
            }
        }
        pieces.push(Piece::Bytes(kept));
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string(); // 2026-12-01T18:30:05Z
        let (date, time) = now.split_once('T').unwrap_or((&now, ""));
        let started = [date.to_owned(), time.trim_end_matches('Z').replace(':', "-")];
        let model = sanitised(&model.file_stem().unwrap_or_default().to_string_lossy());
        Ok(Self { pieces, model, started })
    }

    /// Whether pictures of different seeds, lines or numbers have different names.
    pub(crate) fn tells_apart(&self) -> bool {
        let differs =
            |piece: &Piece| matches!(piece, Piece::Field(Field::Seed | Field::Job) | Piece::Number(_));
        self.pieces.iter().any(differs)
    }

    /// Whether there is a number in it.
    pub(crate) fn has_number(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Number(_)))
    }

    /// The name of a picture.
    pub(crate) fn fill(&self, fields: &Fields, number: usize) -> PathBuf {
        let mut name = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => name.extend(bytes),
                Piece::Number(digits) => name.extend(format!("{number:0digits$}").bytes()),
                Piece::Field(field) => name.extend(self.value(*field, fields).bytes()),
            }
        }
        os(name).into()
    }

    fn value(&self, field: Field, fields: &Fields) -> String {
        let [width, height, steps, cfg] = &fields.numbers;
        match field {
            Field::Seed => fields.seed.to_string(),
            Field::Job => fields.job.unwrap_or(1).to_string(),
            Field::Prompt => fields.prompt.clone(),
            Field::Model => self.model.clone(),
            Field::Width => width.clone(),
            Field::Height => height.clone(),
            Field::Steps => steps.clone(),
            Field::Cfg => cfg.clone(),
            Field::Date => self.started[0].clone(),
            Field::Time => self.started[1].clone(),
        }
    }

    /// The number in a file's path if it has the form of the pattern: with `fields`, for a picture
    /// like them; else for any.
    pub(crate) fn number_in(&self, path: &Path, fields: Option<&Fields>) -> Option<usize> {
        let path = bytes_of(path.as_os_str());
        let mut found = None;
        self.fits(&self.pieces, &path, fields, &mut found).then_some(found).flatten()
    }

    /// Whether the rest of a path has the form of the rest of the pattern.
    fn fits(
        &self,
        pieces: &[Piece],
        path: &[u8],
        fields: Option<&Fields>,
        number: &mut Option<usize>,
    ) -> bool {
        let Some((piece, rest)) = pieces.split_first() else { return path.is_empty() };
        match piece {
            Piece::Bytes(bytes) => {
                path.strip_prefix(&bytes[..]).is_some_and(|path| self.fits(rest, path, fields, number))
            }
            Piece::Field(field) => match fields {
                Some(fields) => {
                    let value = self.value(*field, fields);
                    path.strip_prefix(value.as_bytes())
                        .is_some_and(|path| self.fits(rest, path, Some(fields), number))
                }
                None => {
                    let longest = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
                    (1..=longest).any(|length| self.fits(rest, &path[length..], fields, number))
                }
            },
            Piece::Number(digits) => {
                let count = path.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let read = str::from_utf8(&path[..count]).ok().and_then(|text| text.parse().ok());
                let (Some(read), true) = (read, count >= *digits) else { return false };
                *number = Some(read);
                self.fits(rest, &path[count..], fields, number)
            }
        }
    }
}

/// `{seed}` and its length.
fn field(pattern: &Path, rest: &[u8]) -> Result<(Piece, usize), Error> {
    let end = rest.iter().position(|&byte| byte == b'}');
    let word = end.and_then(|end| str::from_utf8(&rest[1..end]).ok());
    let known = word.and_then(|word| FIELDS.iter().find(|(name, _)| *name == word));
    match (known, end) {
        (Some((_, field)), Some(end)) => Ok((Piece::Field(*field), end + 1)),
        _ => {
            let names: Vec<_> = FIELDS.iter().map(|(name, _)| format!("{{{name}}}")).collect();
            Err(Error::request(format_args!(
                "the output `{}` has `{}`; expected {} or %03d ({{{{ is a brace)",
                pattern.display(),
                String::from_utf8_lossy(&rest[..end.map_or(rest.len(), |end| end + 1)]),
                names.join(", ")
            )))
        }
    }
}

/// `03d` or `d` behind a `%`: the digits, and the length.
fn number(rest: &[u8]) -> Option<(usize, usize)> {
    let length = rest.iter().position(|&byte| byte == b'd')?;
    let digits = str::from_utf8(&rest[..length]).ok()?;
    let digits = match digits {
        "" => 1,
        digits => digits.strip_prefix('0')?.parse().ok().filter(|digits| (1..=9).contains(digits))?,
    };
    Some((digits, length + 1))
}

#[cfg(unix)]
fn bytes_of(name: &OsStr) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    name.as_bytes().to_vec()
}

#[cfg(unix)]
fn os(bytes: Vec<u8>) -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(bytes)
}

#[cfg(not(unix))]
fn bytes_of(name: &OsStr) -> Vec<u8> {
    name.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
fn os(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn fields(seed: u64, job: Option<usize>) -> Fields {
        let request =
            TextToImage { prompt: "A fox: <red>/\"blue\" \u{7}".into(), seed, ..TextToImage::default() };
        Fields::of(&request, job)
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(Path::new(text), Path::new("models/sd 1.5.safetensors")).expect("all of it is known")
    }

    #[test]
    fn a_pattern_is_filled() {
        for (text, expected) in [
            ("fox-{seed}-%03d.png", "fox-7-012.png"),
            ("%d.png", "12.png"),
            ("100%.png", "100%.png"),
            ("%xd %3d.png", "%xd %3d.png"),
            ("{job}/{{{seed}}}.jpg", "3/{7}.jpg"),
            ("{prompt}.png", "A_fox_red_blue.png"),
            ("{model}-{width}x{height}-{steps}-{cfg}.png", "sd_1.5-512x512-20-7.5.png"),
        ] {
            assert_eq!(pattern(text).fill(&fields(7, Some(3)), 12), Path::new(expected), "{text}");
        }
        let dated = pattern("{date} {time}").fill(&fields(7, None), 1).to_string_lossy().into_owned();
        assert!(dated.starts_with("20") && dated.len() == "2026-12-01 18-30-05".len(), "{dated}");
    }

    #[test]
    fn unknown_words_are_refused() {
        for text in ["{size}.png", "{seed.png", "{}.png", "{Seed}.png"] {
            let error = Pattern::parse(Path::new(text), Path::new("m")).expect_err(text).to_string();
            assert!(error.contains("expected {seed}, {job}, {prompt}"), "{error}");
        }
    }

    #[test]
    fn a_prompt_becomes_a_name_that_every_system_has() {
        for (prompt, expected) in [
            ("", "picture"),
            ("../../etc/passwd", "etc_passwd"),
            ("a\nb\0c", "a_b_c"),
            ("狐, fox", "狐,_fox"),
            ("...", "picture"),
            ("CON|x*?", "CON_x"),
        ] {
            assert_eq!(sanitised(prompt), expected, "{prompt:?}");
        }
        assert_eq!(sanitised(&"a ".repeat(500)).chars().count(), PROMPT_LENGTH - 1);
    }

    #[test]
    fn numbers_of_earlier_files_are_read() {
        let pattern = pattern("out/{seed}-%02d.png");
        let any = |path: &str| pattern.number_in(Path::new(path), None);
        assert_eq!((any("out/100-07.png"), any("out/x-123.png")), (Some(7), Some(123)));
        assert_eq!((any("out/100-7.png"), any("out/100-07.jpg"), any("out/-07.png")), (None, None, None));
        let of = |seed| pattern.number_in(Path::new("out/100-07.png"), Some(&fields(seed, None)));
        assert_eq!((of(100), of(10)), (Some(7), None));
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_kept() {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(OsStr::from_bytes(b"caf\xe9-{seed}.png"));
        let pattern = Pattern::parse(name, Path::new("m")).expect("all of it is known");
        assert_eq!(pattern.fill(&fields(7, None), 1).as_os_str().as_bytes(), b"caf\xe9-7.png");
    }
}
