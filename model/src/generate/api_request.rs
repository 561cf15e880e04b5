//! A request in JSON, with the field names of A1111's API; a manifest has one a line.
//!
//! `settings.rs` has the names. Beside them there are `n_iter` and `batch_size`, and
//! `override_settings`, in which `CLIP_stop_at_last_layers` and `randn_source` are looked for. A
//! scheduler `Automatic` is the model's own.
//!
//! A field that is not known is an error, unless it changes nothing: its value says "off" (null,
//! false, 0, "" or empty), or is the one with which A1111's API fills it in.

use serde_json::{Map, Value};

use super::api_field::{ApiField, FromApi};
use super::hires::Hires;
use super::settings::PartialRequest;
use super::values::TaskKind;
use crate::error::{Error, Result, shortened};

/// What a JSON object asks for.
#[derive(Debug, Default)]
pub struct ApiRequest {
    /// The settings.
    pub settings: PartialRequest,
    /// Batches.
    pub n_iter: Option<usize>,
    /// Pictures in each.
    pub batch_size: Option<usize>,
}

/// A request for more batches has a typing error.
const MOST_BATCHES: u64 = 10_000;

/// The most pictures that are made together.
pub const LARGEST_BATCH: u64 = 64;

/// Settings of A1111's second pass over an enlarged picture; they count if `enable_hr` is true.
const OF_SECOND_PASS: &str = "hr_";

/// Values of such settings that change nothing.
const SAME_AS_FIRST_PASS: [&str; 2] = ["Use same sampler", "Use same scheduler"];

impl ApiRequest {
    /// Reads an object.
    ///
    /// # Errors
    /// `Request` if it is no JSON object, or a field has no meaning.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(json).map_err(|error| {
            Error::request(format_args!("expected a JSON object: {}", shortened(&error.to_string())))
        })?;
        Self::from_fields(&fields)
    }

    /// Reads the fields of an object.
    ///
    /// # Errors
    /// `Request` if a field has no meaning.
    pub fn from_fields(fields: &Map<String, Value>) -> Result<Self> {
        let mut request = Self::default();
        let second_pass = match fields.get("enable_hr") {
            None | Some(Value::Null) => false,
            Some(value) => bool::from_api(&ApiField { key: "enable_hr", value })?.unwrap_or(false),
        };
        for (key, value) in fields {
            if key == "enable_hr" || !second_pass && key.starts_with(OF_SECOND_PASS) {
                continue;
            }
            request.read(fields, &ApiField { key, value })?;
        }
        let settings = &mut request.settings;
        settings.kind = match (&settings.image, &settings.mask) {
            (_, Some(_)) => TaskKind::Inpaint,
            (Some(_), None) => TaskKind::ImageToImage,
            (None, None) => TaskKind::TextToImage,
        };
        if second_pass {
            settings.hires_scale = settings.hires_scale.or(Some(Hires::default().scale));
            if settings.kind == TaskKind::TextToImage {
                settings.hires_strength = settings.hires_strength.or(settings.strength.take());
            }
        }
        Ok(request)
    }

    fn read(&mut self, fields: &Map<String, Value>, field: &ApiField<'_>) -> Result<()> {
        if field.value.is_null() || field.is_neutral() {
            return Ok(());
        }
        match field.key {
            "n_iter" => self.n_iter = Some(field.positive(MOST_BATCHES)?),
            "batch_size" => self.batch_size = Some(field.positive(LARGEST_BATCH)?),
            // The older name of `sampler_name`, which counts more.
            "sampler_index" if fields.get("sampler_name").is_some_and(|name| !name.is_null()) => {}
            "mask_blur_x" | "mask_blur_y" => {
                let both = fields.get("mask_blur").cloned().unwrap_or_else(|| 4.into());
                if *field.value != both {
                    return Err(field.unexpected("the value of `mask_blur`"));
                }
            }
            "override_settings" => {
                let inner = field.value.as_object().ok_or_else(|| field.unexpected("an object"))?;
                for (key, value) in inner {
                    let field = ApiField { key, value };
                    if !value.is_null() && !self.settings.set_from_api(key, value)? {
                        field.refuse()?;
                    }
                }
            }
            key if self.settings.set_from_api(key, field.value)? => {}
            key if key.starts_with(OF_SECOND_PASS)
                && field.value.as_str().is_some_and(|value| SAME_AS_FIRST_PASS.contains(&value)) => {}
            _ => field.refuse()?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::image_input::ImageInput;
    use crate::generate::values::Seed;
    use crate::image::ResizeMode;
    use crate::image::mask::Margins;
    use crate::rng::RandomSource;
    use crate::text::prompt::PromptSyntax;

    #[test]
    fn a_request_for_a1111_is_read() {
        let line = r#"{"prompt": "a fox", "negative_prompt": "", "seed": -1, "steps": 12, "cfg_scale": 6.5, "width": 64,
            "sampler_index": "Euler", "sampler_name": "Euler a", "scheduler": "Automatic", "init_images": ["a.png"],
            "mask": "b.png", "mask_blur": 2, "mask_blur_x": 2, "inpainting_mask_invert": 1, "inpaint_full_res": true,
            "resize_mode": 0, "n_iter": 2, "batch_size": 3, "enable_hr": false, "hr_scale": 2.0,
            "override_settings": {"CLIP_stop_at_last_layers": 2, "randn_source": "NV"}, "restore_faces": false,
            "styles": [], "tiling": null, "subseed": -1, "subseed_strength": 0, "send_images": true, "s_noise": 1.0}"#;
        let ApiRequest { settings, n_iter, batch_size } =
            ApiRequest::parse(line.as_bytes()).expect("all of it is known");
        assert_eq!((n_iter, batch_size), (Some(2), Some(3)));
        let path = |name: &str| Some(ImageInput::Path(name.into()));
        let expected = PartialRequest {
            kind: TaskKind::Inpaint,
            prompt: Some("a fox".into()),
            negative_prompt: Some(String::new()),
            clip_skip: Some(2),
            width: Some(64),
            steps: Some(12),
            cfg_scale: Some(6.5),
            seed: Some(Seed::Random),
            rng: Some(RandomSource::Cuda),
            sampler: Some("Euler a".into()),
            image: path("a.png"),
            resize: Some(ResizeMode::Stretch),
            mask: path("b.png").map(Into::into),
            invert_mask: Some(true),
            only_masked: Some(true),
            mask_blur: Some(2),
            ..PartialRequest::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn what_a1111_does_not_have_can_be_said_as_well() {
        let line = r#"{"prompt_syntax": "a1111", "sigmas": [3, 1.5], "expand": "8,0,0,8", "composite": false, "rng": "cuda"}"#;
        let found = ApiRequest::parse(line.as_bytes()).expect("all of it is known").settings;
        assert_eq!((found.prompt_syntax, found.sigmas), (Some(PromptSyntax::A1111), Some(vec![3.0, 1.5])));
        assert_eq!((found.composite, found.rng), (Some(false), Some(RandomSource::Cuda)));
        assert_eq!(found.expand, Some(Margins { left: 8, right: 0, top: 0, bottom: 8 }));
    }

    #[test]
    fn a_second_pass_is_read_if_it_is_enabled() {
        let line = |enabled: bool| {
            format!(
                r#"{{"enable_hr": {enabled}, "hr_scale": 1.5, "hr_second_pass_steps": 9, "hr_upscaler": "Lanczos",
                    "denoising_strength": 0.4, "hr_sampler_name": "Use same sampler", "hr_prompt": "",
                    "hr_resize_x": 0}}"#
            )
        };
        let read = |enabled| ApiRequest::parse(line(enabled).as_bytes()).expect("all is known").settings;
        let (on, off) = (read(true), read(false));
        assert_eq!((on.hires_scale, on.hires_steps, on.hires_strength), (Some(1.5), Some(9), Some(0.4)));
        assert_eq!((on.hires_upscaler.as_deref(), on.strength), (Some("Lanczos"), None));
        assert!(!off.says("hires_scale") && !off.says("hires_strength") && off.strength == Some(0.4));
        let bare = ApiRequest::parse(br#"{"enable_hr": true}"#).expect("it is known").settings;
        assert_eq!(bare.hires_scale, Some(2.0));
    }

    #[test]
    fn what_has_no_meaning_is_named() {
        for (line, message) in [
            ("{", "expected a JSON object"),
            ("[1]", "expected a JSON object"),
            (r#"{"steps": "many"}"#, r#"`steps` is "many"; expected a whole number"#),
            (r#"{"steps": -3}"#, "`steps` is -3; expected a whole number"),
            (r#"{"seed": 1.5}"#, "`seed` is 1.5; expected a whole number from 0"),
            (r#"{"init_images": ["a", "b"]}"#, "expected one picture"),
            (r#"{"n_iter": 100000}"#, "from 1 to 10000"),
            (r#"{"n_iter": 0}"#, "`n_iter` is 0; expected a whole number from 1"),
            (r#"{"batch_size": 0}"#, "from 1 to 64"),
            (r#"{"resize_mode": 3}"#, "0 (stretch), 1 (crop) or 2 (fit)"),
            (r#"{"enable_hr": 3, "hr_scale": 2}"#, "`enable_hr` is 3; expected true or false"),
            (r#"{"enable_hr": true, "hr_prompt": "x"}"#, "`hr_prompt` is \"x\"; expected it to be off"),
            (r#"{"subseed": 7}"#, "`subseed` is 7; expected it to be off"),
            (
                r#"{"mask_blur": 4, "mask_blur_x": 5}"#,
                "`mask_blur_x` is 5; expected the value of `mask_blur`",
            ),
            (r#"{"override_settings": {"eta_noise_seed_delta": 31337}}"#, "`eta_noise_seed_delta` is 31337"),
        ] {
            let error = ApiRequest::parse(line.as_bytes()).expect_err(line).to_string();
            assert!(error.contains(message), "{line}: {error}");
        }
    }

    #[test]
    fn a_long_value_is_not_repeated() {
        let long = "a".repeat(100_000);
        for line in [format!(r#"{{"foo": "{long}"}}"#), format!(r#"{{"{long}": 1}}"#), long.clone()] {
            let error = ApiRequest::parse(line.as_bytes()).expect_err("it is not known").to_string();
            assert!(error.len() < 500, "{} characters", error.len());
        }
    }
}
