//! The fields of a request, from the library's table of settings: for the page, and for the
//! description of the interface.

use aquatint_model::generate::api_request::LARGEST_BATCH;
use aquatint_model::generate::{LARGEST_SIDE, SETTINGS, Setting, ValueKind};
use aquatint_model::{SamplerKind, Schedule, TextToImage};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Pictures that one job may ask for.
pub(crate) const MOST_PICTURES: usize = 100;

/// A setting, as a form shows it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Field {
    /// The field of a request.
    pub(crate) name: &'static str,
    /// A short name.
    pub(crate) label: String,
    /// What it is.
    pub(crate) help: &'static str,
    /// integer, number, text, choice, flag or image.
    pub(crate) kind: &'static str,
    /// What counts where a request is silent; null where it depends on the rest.
    pub(crate) default: Value,
    /// The smallest value.
    pub(crate) min: Option<f64>,
    /// The largest value.
    pub(crate) max: Option<f64>,
    /// The distance between values.
    pub(crate) step: Option<f64>,
    /// The same in words where it depends on the rest.
    pub(crate) default_text: &'static str,
    /// The values of a choice.
    pub(crate) choices: Vec<Choice>,
}

/// A value of a choice.
#[derive(Serialize, ToSchema)]
pub(crate) struct Choice {
    /// As a request says it.
    value: Value,
    /// As people call it.
    label: String,
    /// What it is and when to take it.
    help: Option<String>,
}

impl Choice {
    fn new(value: impl Into<Value>, label: &str) -> Self {
        Self { value: value.into(), label: label.into(), help: None }
    }
}

/// All settings, with the defaults of a model whose sides are multiples of `multiple`.
pub(crate) fn list(defaults: &TextToImage, multiple: usize) -> Vec<Field> {
    let mut fields: Vec<_> = SETTINGS.iter().map(|setting| field(setting, defaults, multiple)).collect();
    for (name, help, most) in [
        ("n_iter", "Batches, one after the other.", MOST_PICTURES as u64),
        ("batch_size", "Pictures that are made together.", LARGEST_BATCH),
    ] {
        fields.push(Field {
            name,
            label: label(name),
            help,
            kind: "integer",
            default: 1.into(),
            default_text: "1",
            min: Some(1.0),
            max: Some(most as f64),
            step: Some(1.0),
            choices: Vec::new(),
        });
    }
    fields
}

fn field(setting: &Setting, defaults: &TextToImage, multiple: usize) -> Field {
    let name = setting.api_keys[0];
    let (kind, choices) = match setting.kind {
        ValueKind::Text => match names(setting) {
            Some(names) => ("choice", names),
            None => ("text", Vec::new()),
        },
        ValueKind::Margins | ValueKind::Numbers => ("text", Vec::new()),
        ValueKind::Count(_) | ValueKind::Seed => ("integer", Vec::new()),
        ValueKind::Number => ("number", Vec::new()),
        ValueKind::Flag => ("flag", Vec::new()),
        ValueKind::Image => ("image", Vec::new()),
        ValueKind::Words(words) => ("choice", words.iter().map(|&word| Choice::new(word, word)).collect()),
        ValueKind::Numbered(words) => {
            ("choice", words.iter().enumerate().map(|(number, word)| Choice::new(number, word)).collect())
        }
    };
    let (min, max, step) = match (setting.field, setting.kind) {
        ("width" | "height", _) => (Some(multiple as f64), Some(LARGEST_SIDE as f64), Some(multiple as f64)),
        ("strength" | "eta", _) => (Some(0.0), Some(1.0), Some(0.01)),
        ("cfg_scale", _) => (Some(0.0), Some(30.0), Some(0.5)),
        ("steps" | "clip_skip", _) => {
            (Some(1.0), Some(if setting.field == "steps" { 1000.0 } else { 12.0 }), Some(1.0))
        }
        (_, ValueKind::Count(most)) => (Some(0.0), Some(most as f64), Some(1.0)),
        (_, ValueKind::Seed) => (Some(-1.0), None, Some(1.0)),
        _ => (None, None, None),
    };
    Field {
        name,
        label: label(setting.field),
        help: setting.help,
        kind,
        default: default(setting, defaults),
        default_text: setting.default,
        min,
        max,
        step,
        choices,
    }
}

/// Samplers and schedules, with what a user should know of them.
fn names(setting: &Setting) -> Option<Vec<Choice>> {
    let explained = |label: &str, help: String| Choice { help: Some(help), ..Choice::new(label, label) };
    match setting.field {
        "sampler" => {
            let sampler = |kind: SamplerKind| {
                let about = kind.description();
                explained(kind.label(), format!("{} ({})", about.what, about.when))
            };
            Some(SamplerKind::all().map(sampler).collect())
        }
        "schedule" => {
            let schedules = Schedule::all()
                .map(|schedule| explained(schedule.label(), schedule.description().to_owned()));
            Some(std::iter::once(Choice::new("Automatic", "Automatic")).chain(schedules).collect())
        }
        _ => None,
    }
}

/// What the library takes where no value is given.
fn default(setting: &Setting, defaults: &TextToImage) -> Value {
    match setting.field {
        "prompt" | "negative_prompt" => "".into(),
        "prompt_syntax" => "plain".into(),
        "clip_skip" => defaults.clip_skip.into(),
        "width" => defaults.width.into(),
        "height" => defaults.height.into(),
        "steps" => defaults.steps.into(),
        "cfg_scale" => json!(defaults.guidance_scale),
        "seed" => (-1).into(),
        "rng" => "CPU".into(),
        "schedule" => "Automatic".into(),
        "resize" => 1.into(),
        "invert_mask" | "only_masked" => false.into(),
        "composite" => true.into(),
        "aesthetic_score" | "negative_aesthetic_score" => Value::Null, // for a refiner alone
        // The rest is said in words, or depends on the task.
        _ => setting.default.parse::<u64>().map_or(Value::Null, Value::from),
    }
}

/// As people call it: `mask_blur` → "Mask blur".
fn label(name: &str) -> String {
    match name {
        "cfg_scale" => return "CFG scale".into(),
        "rng" => return "RNG".into(),
        "n_iter" => return "Batches".into(),
        "batch_size" => return "Pictures in each".into(),
        _ => {}
    }
    let words = name.replace('_', " ");
    let (first, rest) = words.split_at_checked(1).unwrap_or((&words, ""));
    first.to_uppercase() + rest
}

/// The fields of a request, in the description of the interface.
pub(crate) struct Fields;

impl ToSchema for Fields {
    fn name() -> std::borrow::Cow<'static, str> {
        "Request".into()
    }
}

impl PartialSchema for Fields {
    fn schema() -> RefOr<Schema> {
        let mut object = ObjectBuilder::new()
            .description(Some("A request, with the field names of A1111's API."))
            .additional_properties(Some(AdditionalProperties::FreeForm(true)));
        for field in list(&TextToImage::default(), 8) {
            let property = ObjectBuilder::new().description(Some(field.help));
            let property: RefOr<Schema> = match field.kind {
                "image" if field.name == "init_images" => {
                    let items = ObjectBuilder::new().schema_type(Type::String);
                    ArrayBuilder::new().items(items).max_items(Some(1)).into()
                }
                // Other spellings of the words are taken as well.
                "choice" => {
                    let values: Vec<_> = field.choices.into_iter().map(|choice| choice.value).collect();
                    let word = values.first().is_some_and(Value::is_string);
                    let kind = if word { Type::String } else { Type::Integer };
                    property.schema_type(kind).examples(values).into()
                }
                "integer" => property.schema_type(Type::Integer).minimum(field.min).maximum(field.max).into(),
                "number" => property.schema_type(Type::Number).minimum(field.min).maximum(field.max).into(),
                "flag" => property.schema_type(Type::Boolean).into(),
                _ if field.name == "sigmas" => {
                    let items = ObjectBuilder::new().schema_type(Type::Number);
                    ArrayBuilder::new().description(Some(field.help)).items(items).into()
                }
                _ => property.schema_type(Type::String).into(),
            };
            object = object.property(field.name, property);
        }
        object.into()
    }
}
