//! A field of A1111's JSON, and how each type of setting is read from it.

use serde_json::Value;

use super::aspect::Aspect;
use super::image_input::ImageInput;
use super::mask_input::MaskInput;
use super::values::{Seed, margins, pair};
use crate::error::{Error, Result, shortened};
use crate::image::ResizeMode;
use crate::image::mask::Margins;
use crate::rng::RandomSource;
use crate::text::prompt::PromptSyntax;

/// The largest whole number of a setting: sides, steps, pixels of a seam.
const LARGEST_COUNT: u64 = u16::MAX as u64;

/// Values that change nothing, with which A1111's API fills in fields that we do not have.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("do_not_save_grid", &["true"]),
    ("do_not_save_samples", &["true"]),
    ("disable_extra_networks", &["true"]),
    ("image_cfg_scale", &["1.5"]),
    ("include_init_images", &["true"]),
    ("initial_noise_multiplier", &["1", "1.0"]),
    ("inpainting_fill", &["1"]),
    ("mask_round", &["true"]),
    ("override_settings_restore_afterwards", &["true"]),
    ("s_noise", &["1", "1.0"]),
    ("save_images", &["true"]),
    ("scheduler", &["\"Automatic\"", "\"automatic\""]),
    ("seed_resize_from_h", &["-1"]),
    ("seed_resize_from_w", &["-1"]),
    ("send_images", &["true"]),
    ("subseed", &["-1"]),
];

/// A key and its value.
pub(super) struct ApiField<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a Value,
}

impl ApiField<'_> {
    pub(super) fn unexpected(&self, expected: &str) -> Error {
        let (key, value) = (shortened(self.key), self.value.to_string());
        Error::request(format_args!("`{key}` is {}; expected {expected}", shortened(&value)))
    }

    pub(super) fn count(&self, most: u64) -> Result<usize> {
        let count = self.value.as_u64().filter(|&count| count <= most).map(|count| count as usize);
        count.ok_or_else(|| self.unexpected(&format!("a whole number up to {most}")))
    }

    pub(super) fn positive(&self, most: u64) -> Result<usize> {
        let count = self.count(most).ok().filter(|&count| count > 0);
        count.ok_or_else(|| self.unexpected(&format!("a whole number from 1 to {most}")))
    }

    pub(super) fn number(&self) -> Result<f64> {
        self.value.as_f64().ok_or_else(|| self.unexpected("a number"))
    }

    pub(super) fn text(&self) -> Result<&str> {
        self.value.as_str().ok_or_else(|| self.unexpected("a text"))
    }

    pub(super) fn is_neutral(&self) -> bool {
        let row = NEUTRAL.iter().find(|(key, _)| *key == self.key);
        row.is_some_and(|(_, values)| values.contains(&self.value.to_string().as_str()))
    }

    /// A field without a meaning for us, which is no loss if it is off.
    pub(super) fn refuse(&self) -> Result<()> {
        let off = match self.value {
            Value::Null => true,
            Value::Bool(on) => !on,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
        };
        if off { Ok(()) } else { Err(self.unexpected("it to be off, because this field is not supported")) }
    }
}

/// How a value of a setting is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A text.
    Text,
    /// A whole number from 0 to this one.
    Count(u64),
    /// A whole number from 0, or -1 for a random one.
    Seed,
    /// A number.
    Number,
    /// A list of numbers.
    Numbers,
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Words(&'static [&'static str]),
    /// The number of one of these words, counted from 0.
    Numbered(&'static [&'static str]),
    /// Four numbers of pixels in a text: `left,right,top,bottom`.
    Margins,
    /// A picture: base64, alone, in a data URL or in a list.
    Image,
}

/// How a type of setting is written in JSON. `None` says nothing, as if the field were not there.
pub(super) trait FromApi: Sized {
    const KIND: ValueKind;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>>;

    /// The way back.
    fn to_api(&self) -> Value;
}

impl FromApi for String {
    const KIND: ValueKind = ValueKind::Text;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        field.text().map(|text| Some(text.to_owned()))
    }

    fn to_api(&self) -> Value {
        self.as_str().into()
    }
}

impl FromApi for usize {
    const KIND: ValueKind = ValueKind::Count(LARGEST_COUNT);

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        field.count(LARGEST_COUNT).map(Some)
    }

    fn to_api(&self) -> Value {
        (*self).into()
    }
}

impl FromApi for f64 {
    const KIND: ValueKind = ValueKind::Number;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        field.number().map(Some)
    }

    fn to_api(&self) -> Value {
        (*self).into()
    }
}

impl FromApi for f32 {
    const KIND: ValueKind = ValueKind::Number;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        field.number().map(|number| Some(number as Self))
    }

    fn to_api(&self) -> Value {
        // Through its shortest decimal form: 7.1 rather than 7.099999904632568.
        self.to_string().parse::<f64>().unwrap_or_default().into()
    }
}

/// A Boolean or, as A1111 has some of them, 0 or 1.
impl FromApi for bool {
    const KIND: ValueKind = ValueKind::Flag;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        let number = field.value.as_u64().filter(|&number| number < 2).map(|number| number == 1);
        let flag = field.value.as_bool().or(number);
        flag.map(Some).ok_or_else(|| field.unexpected("true or false"))
    }

    fn to_api(&self) -> Value {
        (*self).into()
    }
}

impl FromApi for Seed {
    const KIND: ValueKind = ValueKind::Seed;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        let seed = field.value.to_string().parse();
        seed.map(Some).map_err(|expected: String| field.unexpected(expected.trim_start_matches("expected ")))
    }

    fn to_api(&self) -> Value {
        match *self {
            Self::Given(seed) => seed.into(),
            Self::Random => (-1).into(),
        }
    }
}

impl FromApi for RandomSource {
    const KIND: ValueKind = ValueKind::Words(&["CPU", "NV"]);

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        match field.value.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("cpu") => Ok(Some(Self::Cpu)),
            Some("nv" | "gpu" | "cuda") => Ok(Some(Self::Cuda)),
            _ => Err(field.unexpected("CPU, GPU or NV")),
        }
    }

    fn to_api(&self) -> Value {
        match self {
            Self::Cpu => "CPU".into(),
            Self::Cuda => "NV".into(),
        }
    }
}

impl FromApi for PromptSyntax {
    const KIND: ValueKind = ValueKind::Words(&["plain", "a1111"]);

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        match field.value.as_str() {
            Some("plain") => Ok(Some(Self::Plain)),
            Some("a1111") => Ok(Some(Self::A1111)),
            _ => Err(field.unexpected("plain or a1111")),
        }
    }

    fn to_api(&self) -> Value {
        match self {
            Self::Plain => "plain".into(),
            Self::A1111 => "a1111".into(),
        }
    }
}

impl FromApi for ResizeMode {
    const KIND: ValueKind = ValueKind::Numbered(&["Stretch", "Crop", "Fit"]);

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        match field.value.as_u64() {
            Some(0) => Ok(Some(Self::Stretch)),
            Some(1) => Ok(Some(Self::Crop)),
            Some(2) => Ok(Some(Self::Fit)),
            _ => Err(field.unexpected("0 (stretch), 1 (crop) or 2 (fit)")),
        }
    }

    fn to_api(&self) -> Value {
        match self {
            Self::Stretch => 0.into(),
            Self::Crop => 1.into(),
            Self::Fit => 2.into(),
        }
    }
}

impl FromApi for Margins {
    const KIND: ValueKind = ValueKind::Margins;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        margins(field.text()?)
            .map(Some)
            .map_err(|expected| field.unexpected(expected.trim_start_matches("expected ")))
    }

    fn to_api(&self) -> Value {
        let Self { left, right, top, bottom } = self;
        format!("{left},{right},{top},{bottom}").into()
    }
}

/// A text such as `1024x768`, or a list of two.
impl FromApi for [usize; 2] {
    const KIND: ValueKind = ValueKind::Text;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        let listed = field.value.as_array().map(|list| {
            let numbers: Vec<String> = list.iter().map(Value::to_string).collect();
            numbers.join(",")
        });
        let text = listed.or_else(|| field.value.as_str().map(str::to_owned)).unwrap_or_default();
        pair(&text).map(Some).map_err(|expected| field.unexpected(expected.trim_start_matches("expected ")))
    }

    fn to_api(&self) -> Value {
        format!("{}x{}", self[0], self[1]).into()
    }
}

impl FromApi for Aspect {
    const KIND: ValueKind = ValueKind::Text;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        let aspect = field.text()?.parse();
        aspect
            .map(Some)
            .map_err(|expected: String| field.unexpected(expected.trim_start_matches("expected ")))
    }

    fn to_api(&self) -> Value {
        self.to_string().into()
    }
}

impl FromApi for Vec<f64> {
    const KIND: ValueKind = ValueKind::Numbers;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        let numbers = field.value.as_array().map(|list| list.iter().map(Value::as_f64).collect());
        numbers.flatten().map(Some).ok_or_else(|| field.unexpected("a list of numbers"))
    }

    fn to_api(&self) -> Value {
        self.clone().into()
    }
}

/// A picture as for [`ImageInput`], or rectangles.
impl FromApi for MaskInput {
    const KIND: ValueKind = ValueKind::Image;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        match field.value {
            Value::String(text) => Self::parse(text).map(Some),
            _ => Ok(ImageInput::from_api(field)?.map(Self::from)),
        }
    }

    fn to_api(&self) -> Value {
        match self {
            Self::Image(image) => image.to_api(),
            Self::Boxes(_) => self.to_string().into(),
        }
    }
}

/// A path or base64, alone or in a list of one.
impl FromApi for ImageInput {
    const KIND: ValueKind = ValueKind::Image;

    fn from_api(field: &ApiField<'_>) -> Result<Option<Self>> {
        match (field.value, field.value.as_array().map(Vec::as_slice)) {
            (_, Some([])) => Ok(None),
            (Value::String(text), _) | (_, Some([Value::String(text)])) => Self::parse(text).map(Some),
            _ => Err(field.unexpected("one picture: a path, or base64")),
        }
    }

    fn to_api(&self) -> Value {
        match self {
            Self::Path(path) => path.to_string_lossy().into_owned().into(),
            Self::Bytes(bytes) => base64::encode(bytes).into(),
        }
    }
}
