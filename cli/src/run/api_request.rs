//! A line of a manifest: a JSON object with the field names of A1111's API.
//!
//! | field | flag |
//! |---|---|
//! | prompt, negative_prompt, seed, steps, cfg_scale, width, height, eta | of the same name; seed −1 is random |
//! | sampler_name or sampler_index, scheduler | --sampler, --schedule |
//! | init_images: one path; denoising_strength | -i, --strength |
//! | mask: a path; mask_blur; inpainting_mask_invert 0 or 1 | --mask, --mask-blur, --invert-mask |
//! | inpaint_full_res, inpaint_full_res_padding | --only-masked |
//! | resize_mode 0, 1, 2 | --resize stretch, crop, fit |
//! | n_iter, batch_size | batches, and pictures in each |
//! | override_settings: CLIP_stop_at_last_layers, randn_source | --clip-skip, --rng |
//!
//! A field that is not known is an error, unless its value says "off": null, false, 0, "" or empty.

use std::path::PathBuf;

use aquatint_model::{Error, RandomSource, ResizeMode};
use serde_json::{Map, Value};

use crate::flags::generate::{Seed, seed};
use crate::run::partial::{Kind, PADDING, Wish};

/// What a line asks for.
#[derive(Debug, Default)]
pub(crate) struct Job {
    pub(crate) wish: Wish,
    pub(crate) n_iter: Option<usize>,
    pub(crate) batch_size: Option<usize>,
}

/// A manifest with more pictures in a line has a typing error.
const MOST_PICTURES: u64 = 10_000;

/// As many as the flag `--batch-size` takes.
const MOST_TOGETHER: u64 = 64;

impl Job {
    /// Reads a line.
    ///
    /// # Errors
    /// `Request` if it is no JSON object, or a field has no meaning.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Error> {
        let fields: Map<String, Value> = serde_json::from_slice(line)
            .map_err(|error| Error::request(format_args!("expected a JSON object: {error}")))?;
        let mut job = Self::default();
        let (mut full_res, mut padding) = (None, None);
        for (name, value) in &fields {
            if value.is_null() {
                continue;
            }
            let field = Field { name, value };
            let wish = &mut job.wish;
            match name.as_str() {
                "prompt" => wish.prompt = Some(field.text()?),
                "negative_prompt" => wish.negative_prompt = Some(field.text()?),
                "seed" => wish.seed = Some(field.seed()?),
                "steps" => wish.steps = Some(field.count(u64::MAX)?),
                "cfg_scale" => wish.cfg_scale = Some(field.number()? as f32),
                "width" => wish.width = Some(field.count(u64::MAX)?),
                "height" => wish.height = Some(field.count(u64::MAX)?),
                "eta" => wish.eta = Some(field.number()? as f32),
                "sampler_name" | "sampler_index" => wish.sampler = Some(field.text()?),
                "scheduler" => wish.schedule = Some(field.text()?).filter(|name| name != "Automatic"),
                "denoising_strength" => wish.strength = Some(field.number()?),
                "init_images" => wish.image = field.path_in_list()?,
                "mask" => wish.mask = Some(field.text()?.into()),
                "mask_blur" => wish.mask_blur = Some(field.count(u16::MAX.into())?),
                "inpainting_mask_invert" => wish.invert_mask = Some(field.flag()?),
                "inpaint_full_res" => full_res = Some(field.flag()?),
                "inpaint_full_res_padding" => padding = Some(field.count(u16::MAX.into())?),
                "resize_mode" => wish.resize = Some(field.resize_mode()?),
                "n_iter" => job.n_iter = Some(field.positive(MOST_PICTURES)?),
                "batch_size" => job.batch_size = Some(field.positive(MOST_TOGETHER)?),
                "override_settings" => field.override_settings(wish)?,
                _ => field.refuse()?,
            }
        }
        job.wish.only_masked = full_res.map(|only| only.then_some(padding.unwrap_or(PADDING)));
        job.wish.kind = match (&job.wish.image, &job.wish.mask) {
            (_, Some(_)) => Kind::Inpaint,
            (Some(_), None) => Kind::ImageToImage,
            (None, None) => Kind::TextToImage,
        };
        Ok(job)
    }
}

/// A name and a value.
struct Field<'a> {
    name: &'a str,
    value: &'a Value,
}

impl Field<'_> {
    fn unexpected(&self, expected: &str) -> Error {
        Error::request(format_args!("`{}` is {}; expected {expected}", self.name, self.value))
    }

    fn text(&self) -> Result<String, Error> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.unexpected("a text"))
    }

    fn number(&self) -> Result<f64, Error> {
        self.value.as_f64().ok_or_else(|| self.unexpected("a number"))
    }

    fn count(&self, most: u64) -> Result<usize, Error> {
        let count = self.value.as_u64().filter(|&count| count <= most).map(|count| count as usize);
        count.ok_or_else(|| self.unexpected(&format!("a whole number up to {most}")))
    }

    fn positive(&self, most: u64) -> Result<usize, Error> {
        let count = self.count(most).ok().filter(|&count| count > 0);
        count.ok_or_else(|| self.unexpected(&format!("a whole number from 1 to {most}")))
    }

    /// A Boolean, or as A1111 has some of them, 0 or 1.
    fn flag(&self) -> Result<bool, Error> {
        let number = self.value.as_u64().filter(|&number| number < 2).map(|number| number == 1);
        self.value.as_bool().or(number).ok_or_else(|| self.unexpected("true or false"))
    }

    fn seed(&self) -> Result<Seed, Error> {
        seed(&self.value.to_string())
            .map_err(|expected| self.unexpected(expected.trim_start_matches("expected ")))
    }

    fn path_in_list(&self) -> Result<Option<PathBuf>, Error> {
        match self.value.as_array().map(Vec::as_slice) {
            Some([]) => Ok(None),
            Some([Value::String(path)]) => Ok(Some(path.into())),
            _ => Err(self.unexpected("a list with one path")),
        }
    }

    fn resize_mode(&self) -> Result<ResizeMode, Error> {
        match self.value.as_u64() {
            Some(0) => Ok(ResizeMode::Stretch),
            Some(1) => Ok(ResizeMode::Crop),
            Some(2) => Ok(ResizeMode::Fit),
            _ => Err(self.unexpected("0 (stretch), 1 (crop) or 2 (fit)")),
        }
    }

    fn override_settings(&self, wish: &mut Wish) -> Result<(), Error> {
        let settings = self.value.as_object().ok_or_else(|| self.unexpected("an object"))?;
        for (name, value) in settings {
            let field = Field { name, value };
            match (name.as_str(), value.as_str()) {
                ("CLIP_stop_at_last_layers", _) => wish.clip_skip = Some(field.count(u64::MAX)?),
                ("randn_source", Some("CPU")) => wish.rng = Some(RandomSource::Cpu),
                ("randn_source", Some("NV" | "GPU")) => wish.rng = Some(RandomSource::Cuda),
                _ => field.refuse()?,
            }
        }
        Ok(())
    }

    /// A field without a meaning for us, which is no loss if it is off.
    fn refuse(&self) -> Result<(), Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_for_a1111_is_read() {
        let line = r#"{"prompt": "a fox", "negative_prompt": "", "seed": -1, "steps": 12, "cfg_scale": 6.5, "width": 64,
            "sampler_name": "Euler a", "scheduler": "Automatic", "init_images": ["a.png"], "mask": "b.png", "mask_blur": 2,
            "inpainting_mask_invert": 1, "inpaint_full_res": true, "resize_mode": 0, "n_iter": 2, "batch_size": 3,
            "override_settings": {"CLIP_stop_at_last_layers": 2, "randn_source": "NV"}, "restore_faces": false, "styles": [],
            "tiling": null, "subseed_strength": 0}"#;
        let Job { wish, n_iter, batch_size } = Job::parse(line.as_bytes()).expect("all of it is known");
        assert_eq!((n_iter, batch_size), (Some(2), Some(3)));
        assert_eq!((wish.prompt.as_deref(), wish.negative_prompt.as_deref()), (Some("a fox"), Some("")));
        assert!(matches!(wish.seed, Some(Seed::Random)));
        assert_eq!(
            (wish.steps, wish.cfg_scale, wish.width, wish.height),
            (Some(12), Some(6.5), Some(64), None)
        );
        assert_eq!((wish.sampler.as_deref(), wish.schedule), (Some("Euler a"), None));
        assert_eq!(
            (wish.kind, wish.image, wish.mask),
            (Kind::Inpaint, Some("a.png".into()), Some("b.png".into()))
        );
        assert_eq!(
            (wish.mask_blur, wish.invert_mask, wish.only_masked),
            (Some(2), Some(true), Some(Some(32)))
        );
        assert_eq!((wish.resize, wish.clip_skip), (Some(ResizeMode::Stretch), Some(2)));
        assert_eq!(wish.rng, Some(RandomSource::Cuda));
    }

    #[test]
    fn what_has_no_meaning_is_named() {
        for (line, message) in [
            ("{", "expected a JSON object"),
            ("[1]", "expected a JSON object"),
            (r#"{"steps": "many"}"#, r#"`steps` is "many"; expected a whole number"#),
            (r#"{"steps": -3}"#, "`steps` is -3; expected a whole number"),
            (r#"{"seed": 1.5}"#, "`seed` is 1.5; expected a whole number from 0"),
            (r#"{"init_images": ["a", "b"]}"#, "expected a list with one path"),
            (r#"{"n_iter": 100000}"#, "from 1 to 10000"),
            (r#"{"n_iter": 0}"#, "`n_iter` is 0; expected a whole number from 1"),
            (r#"{"batch_size": 0}"#, "from 1 to 64"),
            (r#"{"resize_mode": 3}"#, "0 (stretch), 1 (crop) or 2 (fit)"),
            (r#"{"enable_hr": true}"#, "`enable_hr` is true; expected it to be off"),
            (r#"{"override_settings": {"eta_noise_seed_delta": 31337}}"#, "`eta_noise_seed_delta` is 31337"),
        ] {
            let error = Job::parse(line.as_bytes()).expect_err(line).to_string();
            assert!(error.contains(message), "{line}: {error}");
        }
    }
}
