//! `scheduler_config.json`: the settings of a sampler, as diffusers saves them.
//!
//! Each sampler reads the keys that its class in diffusers has, and where the file is silent takes
//! that class's default:
//!
//! | | PNDM | DDIM | Euler | Euler a | DPM++ 2M |
//! |---|---|---|---|---|---|
//! | `timestep_spacing` | leading | leading | linspace | linspace | linspace |
//! | `set_alpha_to_one` | no | yes | | | |
//! | `clip_sample` | | yes, ±1 | | | |
//! | `final_sigmas_type` | | | zero | | zero |
//!
//! and for all `num_train_timesteps` 1000, `beta_start` 0.0001, `beta_end` 0.02, `beta_schedule`
//! linear, `prediction_type` epsilon, `steps_offset` 0. Choosing another sampler than the folder's
//! is `OtherScheduler.from_config(folder_config)` in diffusers: the keys of the file that the other
//! class also has carry over, except those that the file lists in `_use_default_values`; all else
//! is the other class's default. Stable Diffusion 1.5 says nothing of `timestep_spacing`, so its
//! PNDM is leading and its Euler is linspace.
//!
//! A setting that would change the picture and is not supported is an error, never ignored.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::noise_schedule::{NoiseSchedule, Prediction};
use super::{SamplerChoice, SamplerKind, Schedule};
use crate::source::files;
use crate::{Error, Result};

/// A parsed `scheduler_config.json`.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    path: PathBuf,
    keys: Map<String, Value>,
}

/// The keys of diffusers' schedulers. Each sampler judges those that it has; the others have no
/// meaning for it.
const KNOWN_KEYS: &[&str] = &[
    "algorithm_type",
    "beta_end",
    "beta_schedule",
    "beta_start",
    "clip_sample",
    "clip_sample_range",
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "eta", // ours: diffusers takes it as an argument of each step
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "lambda_min_clipped",
    "lower_order_final",
    "noise_sampler_seed",
    "num_train_timesteps",
    "original_inference_steps",
    "predict_x0",
    "prediction_type",
    "rescale_betas_zero_snr",
    "sample_max_value",
    "set_alpha_to_one",
    "shift_terminal",
    "sigma_max",
    "sigma_min",
    "sigmas", // ours: diffusers takes them as an argument of `set_timesteps`
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "steps_offset",
    "thresholding",
    "time_shift_type",
    "timestep_scaling",
    "timestep_spacing",
    "timestep_type",
    "trained_betas",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
];

/// Ours: whether a distilled model's timesteps are those of `timestep_spacing`, as diffusers takes
/// them as an argument of `set_timesteps`.
pub(super) const OWN_TIMESTEPS: &str = "own_timesteps";

impl SchedulerConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Read` if there is no such file, `Model` if it is no JSON object or holds an unknown
    /// setting.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_json(&files::read_to_string(path)?, path)
    }

    /// Reads `text`; `path` is for messages.
    ///
    /// # Errors
    /// `Model` if it is no JSON object or holds an unknown setting.
    pub fn from_json(text: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut keys: Map<String, Value> = serde_json::from_str(&quote_python_numbers(text))
            .map_err(|e| Error::in_file(path, format_args!("not a JSON object: {e}")))?;
        if let Some(Value::Array(defaults)) = keys.get("_use_default_values").cloned() {
            keys.retain(|key, _| !defaults.iter().any(|default| default == key));
        }
        for (key, value) in &keys {
            let neutral = matches!(value, Value::Null | Value::Bool(false));
            if !neutral && !key.starts_with('_') && !KNOWN_KEYS.contains(&key.as_str()) {
                let known = KNOWN_KEYS.join(", ");
                let message =
                    format_args!("`{key}` is {value}, and there is no such setting; known are {known}");
                return Err(Error::in_file(path, message));
            }
        }
        Ok(Self { path: path.to_owned(), keys })
    }

    /// The same config with one setting changed, whether the file has it or not.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.keys.insert(key.to_owned(), value.into());
        self
    }

    /// The same config with another `eta`. Checked here, because JSON has no word for NaN or
    /// infinity.
    ///
    /// # Errors
    /// `Request` if it is not from 0 to 1.
    pub fn with_eta(self, eta: f32) -> Result<Self> {
        match (0.0..=1.0).contains(&eta) {
            true => Ok(self.with("eta", eta)),
            false => Err(Error::request(format_args!("`eta` is {eta}; expected 0 to 1"))),
        }
    }

    /// The sampler and schedule that `choice` means for this folder.
    ///
    /// # Errors
    /// `Request` if the sampler lacks the chosen schedule; `Model` if nothing was chosen and the
    /// folder's own sampler is not supported.
    pub fn resolve(&self, choice: SamplerChoice) -> Result<(SamplerKind, Schedule)> {
        let kind = choice.kind.map_or_else(|| self.sampler(), Ok)?;
        let schedule = choice.schedule.map_or_else(|| self.schedule(kind), Ok)?;
        if kind.schedules().contains(&schedule) {
            return Ok((kind, schedule));
        }
        let (sampler, wanted) = (kind.label(), schedule.label());
        let able = SamplerKind::all().filter(|other| other.schedules().contains(&schedule));
        let able = able.map(|other| format!("`{}`", other.label())).collect::<Vec<_>>().join(", ");
        Err(Error::request(format!(
            "the sampler `{sampler}` has no schedule `{wanted}`; the samplers that have: {able}"
        )))
    }

    /// Whether the folder's timesteps are even from the noisiest down.
    pub(crate) fn is_trailing(&self) -> bool {
        self.get("timestep_spacing").and_then(Value::as_str) == Some("trailing")
    }

    /// Noise levels of the training: 1000.
    ///
    /// # Errors
    /// If the file says what is no such number.
    pub(crate) fn num_train_timesteps(&self) -> Result<usize> {
        self.count("num_train_timesteps", 1000, 2..=100_000)
    }

    /// What the model's output means.
    pub(crate) fn prediction(&self) -> Result<Prediction> {
        NoiseSchedule::read_prediction(self)
    }

    /// The folder's own sampler.
    fn sampler(&self) -> Result<SamplerKind> {
        let class = self.get("_class_name").and_then(Value::as_str).unwrap_or_default();
        let text = |key| self.get(key).and_then(Value::as_str);
        if Some(class) == SamplerKind::DpmPp2M.class() && text("algorithm_type") == Some("sde-dpmsolver++") {
            let third_order = self.count("solver_order", 2, 2..=3)? == 3;
            return Ok(if third_order { SamplerKind::DpmPp3MSde } else { SamplerKind::DpmPp2MSde });
        }
        SamplerKind::all().find(|kind| kind.class() == Some(class)).ok_or_else(|| {
            let known = SamplerKind::all().filter_map(SamplerKind::class).collect::<Vec<_>>().join(", ");
            self.error(format!(
                "`_class_name` is \"{class}\", which is not supported (supported are {known}); choose another sampler"
            ))
        })
    }

    /// The folder's own schedule, if `kind` is used.
    fn schedule(&self, kind: SamplerKind) -> Result<Schedule> {
        if self.get("sigmas").is_some() {
            return Ok(Schedule::Given);
        }
        // `EulerAncestralDiscreteScheduler` has none of the keys below; its schedules come by
        // choice alone.
        if kind == SamplerKind::EulerAncestral {
            return Ok(Schedule::Normal);
        }
        for (schedule, key) in [
            (Schedule::Karras, "use_karras_sigmas"),
            (Schedule::Lu, "use_lu_lambdas"),
            (Schedule::Exponential, "use_exponential_sigmas"),
            (Schedule::Beta, "use_beta_sigmas"),
        ] {
            if kind.schedules().contains(&schedule) && self.flag(key, false)? {
                return Ok(schedule);
            }
        }
        Ok(Schedule::Normal)
    }

    /// How much fresh noise a sampler adds that leaves it open: `eta`, from 0 to 1.
    pub(super) fn eta(&self, default: f32) -> Result<f32> {
        let Some(value) = self.get("eta") else { return Ok(default) };
        let eta = value.as_f64().filter(|eta| (0.0..=1.0).contains(eta));
        eta.map(|eta| eta as f32).ok_or_else(|| Error::request(format!("`eta` is {value}; expected 0 to 1")))
    }

    /// The noise levels that `sigmas` lists, if all of them are numbers.
    pub(super) fn sigmas(&self) -> Option<Vec<f64>> {
        self.get("sigmas")?.as_array()?.iter().map(Value::as_f64).collect()
    }

    /// The value of `key`; null means absent, as in diffusers.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// A Boolean.
    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.unexpected(key, "true, false"))
    }

    /// A whole number within `range`.
    pub(super) fn count(&self, key: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        let (low, high) = (range.start(), range.end());
        let expected = format!("whole numbers from {low} to {high}");
        count.filter(|count| range.contains(count)).ok_or_else(|| self.unexpected(key, &expected))
    }

    /// A number strictly between `low` and `high`.
    pub(super) fn number(&self, key: &str, default: f64, (low, high): (f64, f64)) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let expected = format!("numbers between {low} and {high}");
        let within = |number: &f64| low < *number && *number < high;
        value.as_f64().filter(within).ok_or_else(|| self.unexpected(key, &expected))
    }

    /// A word out of a list.
    pub(super) fn word<T: Copy>(&self, key: &str, default: T, accepted: &[(&str, T)]) -> Result<T> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let row = accepted.iter().find(|(word, _)| value.as_str() == Some(word));
        let words = || accepted.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        row.map(|&(_, meaning)| meaning).ok_or_else(|| self.unexpected(key, &words()))
    }

    /// Refuses a setting that is not supported, unless it is absent or has one of these values,
    /// which change nothing.
    pub(super) fn neutral(&self, key: &str, accepted: &[Value]) -> Result<()> {
        match self.get(key) {
            Some(value) if !accepted.contains(value) => {
                let words = accepted.iter().map(Value::to_string).chain(["null".into()]);
                Err(self.unexpected(key, &words.collect::<Vec<_>>().join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// The error for a value that is not accepted.
    pub(super) fn unexpected(&self, key: &str, accepted: &str) -> Error {
        let found = self.keys.get(key).map_or("absent".into(), Value::to_string);
        self.error(format!("`{key}` is {found}; accepted: {accepted}"))
    }

    /// An error that names this file.
    pub(super) fn error(&self, message: String) -> Error {
        Error::in_file(&self.path, message)
    }
}

/// Python writes `-Infinity` (so `lambda_min_clipped` by default), which is no JSON: such words
/// become strings.
fn quote_python_numbers(text: &str) -> String {
    // Strings are the odd pieces between quotation marks; `\"` inside one is put aside while
    // splitting.
    const ESCAPED: &str = "\u{0}";
    let pieces = text.replace("\\\"", ESCAPED);
    let pieces = pieces.split('"').enumerate().map(|(i, piece)| {
        if i % 2 == 1 {
            return piece.to_owned();
        }
        let quoted = piece.replace("NaN", "\"NaN\"").replace("Infinity", "\"Infinity\"");
        quoted.replace("-\"Infinity\"", "\"-Infinity\"")
    });
    pieces.collect::<Vec<_>>().join("\"").replace(ESCAPED, "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SchedulerConfig> {
        SchedulerConfig::from_json(text, "scheduler_config.json")
    }

    #[test]
    fn pythons_infinity_is_read_and_strings_are_left_alone() {
        let config = parse(r#"{"lambda_min_clipped": -Infinity, "_note": "say \"Infinity\", NaN"}"#)
            .expect("readable");
        assert_eq!(config.get("lambda_min_clipped"), Some(&Value::from("-Infinity")));
        assert_eq!(config.get("_note"), Some(&Value::from("say \"Infinity\", NaN")));
    }

    #[test]
    fn values_that_were_only_defaults_are_dropped() {
        let text = r#"{"timestep_spacing": "leading", "steps_offset": 1, "_use_default_values": ["timestep_spacing"]}"#;
        let config = parse(text).expect("readable");
        assert_eq!(config.get("timestep_spacing"), None);
        assert_eq!(config.get("steps_offset"), Some(&Value::from(1)));
    }

    #[test]
    fn an_unknown_setting_is_refused_unless_it_is_off() {
        assert!(parse(r#"{"use_magic": false, "magic": null, "_private": 3}"#).is_ok());
        let message = parse(r#"{"use_magic": true}"#).expect_err("unknown").to_string();
        assert!(
            message.starts_with("`scheduler_config.json`: `use_magic` is true, and there is no such"),
            "{message}"
        );
    }

    #[test]
    fn the_folders_own_sampler_is_the_default() {
        let config = parse(r#"{"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": true}"#)
            .expect("ok");
        let resolved = |choice| config.resolve(choice).ok();
        assert_eq!(resolved(SamplerChoice::default()), Some((SamplerKind::DpmPp2M, Schedule::Karras)));
        let normal = SamplerChoice { schedule: Some(Schedule::Normal), ..Default::default() };
        assert_eq!(resolved(normal), Some((SamplerKind::DpmPp2M, Schedule::Normal)));
        let ddim = SamplerChoice { kind: Some(SamplerKind::Ddim), schedule: None };
        assert_eq!(resolved(ddim), Some((SamplerKind::Ddim, Schedule::Normal)));
        // diffusers' from_config drops the key, as Euler a has no `use_karras_sigmas` (0.42).
        let euler_a = SamplerChoice { kind: Some(SamplerKind::EulerAncestral), schedule: None };
        assert_eq!(resolved(euler_a), Some((SamplerKind::EulerAncestral, Schedule::Normal)));
        let chosen = SamplerChoice { schedule: Some(Schedule::Karras), ..euler_a };
        assert_eq!(resolved(chosen), Some((SamplerKind::EulerAncestral, Schedule::Karras)));
        let other = parse(r#"{"_class_name": "AmusedScheduler"}"#).expect("readable");
        assert!(other.resolve(SamplerChoice::default()).is_err());
        assert!(other.resolve(ddim).is_ok());
    }

    #[test]
    fn eta_is_a_number_from_0_to_1() {
        let with_eta = |eta| parse("{}").and_then(|config| config.with_eta(eta));
        for eta in [f32::NAN, f32::INFINITY, -0.5, 1.5] {
            let error = with_eta(eta).expect_err("out of range");
            assert!(matches!(error, Error::Request(_)));
            assert_eq!(error.to_string(), format!("`eta` is {eta}; expected 0 to 1"));
        }
        assert_eq!(with_eta(0.5).and_then(|config| config.eta(0.0)).expect("within range"), 0.5);
    }

    #[test]
    fn a_schedule_that_a_sampler_lacks_is_a_bad_request() {
        let choice = SamplerChoice { kind: Some(SamplerKind::Ddim), schedule: Some(Schedule::Karras) };
        let error = parse("{}").and_then(|config| config.resolve(choice)).expect_err("no such schedule");
        assert!(matches!(error, Error::Request(_)));
        let start = "the sampler `DDIM` has no schedule `karras`; the samplers that have: `LMS`, `Euler`, ";
        assert!(error.to_string().starts_with(start), "{error}");
    }
}
