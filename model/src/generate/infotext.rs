//! Settings ↔ a request.
//!
//! | key | field of [`TextToImage`] |
//! |---|---|
//! | Steps, CFG scale, Seed | `steps`, `guidance_scale`, `seed` |
//! | Sampler, Schedule type | `sampler`; `Automatic` leaves the schedule to the model |
//! | Size | `width`×`height` |
//! | Clip skip | `clip_skip`; left out if 1 |
//! | Emphasis | `prompt_syntax`: `None` is plain; left out for A1111's own |
//! | RNG | `rng`: `CPU` or `NV`; A1111 leaves it out for a GPU |
//! | Eta, Sigmas | `eta`, `sigmas`; left out unless they were chosen |
//! | Token merging ratio, DeepCache interval, Guidance interval | `approximations` |
//! | VAE tiling | `vae_tiling`: `True`, or left out |
//! | Hires upscale, steps, upscaler; Denoising strength | `hires`; the size is that of the first pass |
//! | Lora | none: `ModelSpec::loras`; left out for adapters that the prompt asks for itself |
//! | Lora hashes, TI hashes | none: by which files the picture was made, as A1111 writes |
//! | VAE | none: `ModelSpec::vae`; left out for the model's own |
//! | Original size, Crop coords, Target size, Negative …, … score | `size_conditions`; left out unless given |
//! | Refiner switch at | `refiner_at`; `Refiner` says which: `ModelSpec::refiner` |
//! | Precision | none: `LoadOptions::precision`; ours leave it out for f32 |
//!
//! Pictures from pictures have more keys; `partial.rs` reads them.
//!
//! Settings of a picture by A1111 are taken as far as we have them, but the pictures are not equal:
//! A1111 has its own samplers and spacings. Ours carry `Version: aquatint …` and can be made again
//! to the byte.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::generate::approximations::Approximations;
use crate::generate::hires::Hires;
use crate::generate::settings::with_infotext_key;
use crate::generate::values::pair;
use crate::generate::{SizeConditions, TextToImage};
use crate::image::metadata::Parameters;
use crate::precisions::Precisions;
use crate::rng::RandomSource;
use crate::samplers::{SamplerChoice, SamplerKind, Schedule};
use crate::source::ModelId;
use crate::text::prompt::PromptSyntax;

/// The value of `Version` in our pictures.
const VERSION: &str = concat!("aquatint ", env!("CARGO_PKG_VERSION"));

/// Schedules whose names at A1111 are not ours with a capital letter.
const SCHEDULE_LABELS: [(&str, &str); 2] = [("sgm_uniform", "SGM Uniform"), ("ays", "Align Your Steps")];

/// Of a picture of latents: their file.
pub const DECODED_FROM: &str = "Decoded from";

/// Of a picture with more and more noise: its file.
pub const NOISED_FROM: &str = "Noised from";
/// What Stable Diffusion XL takes of sizes, and its refiner of scores.
const ORIGINAL: &str = "Original size";
const CROP: &str = "Crop coords";
const TARGET: &str = "Target size";
const NEGATIVE_ORIGINAL: &str = "Negative original size";
const NEGATIVE_CROP: &str = "Negative crop coords";
const NEGATIVE_TARGET: &str = "Negative target size";
const SCORE: &str = "Aesthetic score";
const NEGATIVE_SCORE: &str = "Negative aesthetic score";

/// The schedule that is left to the model.
const AUTOMATIC: &str = "Automatic";

/// Settings that change nothing in a picture.
const WITHOUT_EFFECT: [&str; 16] = [
    DECODED_FROM,
    NOISED_FROM,
    "Timesteps",
    "Model hash",
    "Model",
    "Lora hashes",
    "TI hashes",
    "Version",
    "User",
    "Steps digest",
    "Grid",
    "Strip",
    "App", // SD.Next
    "Backend",
    "Operations",
    "Pipeline",
];

/// The adapters that were given beside the prompt, and their weights: "detail:0.8, fox:1:0.5".
pub const LORAS: &str = "Lora";

/// The VAE that stood in for the model's own, as A1111 writes it.
pub const VAE_KEY: &str = "VAE";

/// Settings of the file, of the model, and of runs that were ended early: no fields of a request.
const OF_NO_FIELD: [&str; 6] = ["Precision", LORAS, VAE_KEY, "JPEG quality", "Stopped after", "Refiner"];

impl Parameters {
    /// What is written into a picture that `model` made of `request` with the sampler `kind`.
    pub fn of(request: &TextToImage, kind: SamplerKind, model: &ModelId) -> Self {
        let mut parameters = Self {
            prompt: request.prompt.clone(),
            negative_prompt: request.negative_prompt.clone(),
            settings: Vec::new(),
        };
        parameters.push("Steps", request.steps);
        parameters.push("Sampler", sampler_label(kind));
        parameters.push("Schedule type", schedule_label(request.sampler.schedule));
        parameters.push("CFG scale", request.guidance_scale);
        parameters.push("Seed", request.seed);
        parameters.push("Size", format_args!("{}x{}", request.width, request.height));
        if let Some(hash) = model.hash() {
            parameters.push("Model hash", hash);
        }
        parameters.push("Model", model.name());
        if request.clip_skip > 1 {
            parameters.push("Clip skip", request.clip_skip);
        }
        parameters.push("RNG", rng_label(request.rng));
        if request.prompt_syntax == PromptSyntax::Plain {
            parameters.push("Emphasis", "None");
        }
        if let Some(eta) = request.eta {
            parameters.push("Eta", eta);
        }
        if !request.sigmas.is_empty() {
            let sigmas: Vec<_> = request.sigmas.iter().map(f64::to_string).collect();
            parameters.push("Sigmas", sigmas.join(", "));
        }
        request.approximations.describe(&mut parameters);
        parameters.push_sizes(&request.size_conditions);
        if let Some(at) = request.refiner_at {
            parameters.push("Refiner switch at", at);
        }
        if request.vae_tiling {
            parameters.push("VAE tiling", "True");
        }
        if let Some(hires) = &request.hires {
            hires.describe(&mut parameters);
        }
        parameters.push("Version", VERSION);
        parameters
    }

    /// The same, made by a model that was loaded for this precision.
    #[must_use]
    pub fn with_precision(mut self, precision: Precisions) -> Self {
        if precision != Precisions::default() {
            self.push("Precision", precision);
        }
        self
    }

    /// The precision with which a picture of ours was made; `None` for pictures by others, which do
    /// not say.
    ///
    /// # Errors
    /// `Request` if the value has no meaning.
    pub fn precision(&self) -> Result<Option<Precisions>> {
        match self.get("Precision") {
            Some(name) => match Precisions::named(name) {
                Some(precisions) => Ok(Some(precisions)),
                None => Err(meaningless("Precision", name, "f32, bf16, mixed or bf16x3")),
            },
            None => Ok(self.is_ours().then(Precisions::default)),
        }
    }

    fn push_sizes(&mut self, given: &SizeConditions) {
        let sizes = [
            (ORIGINAL, given.original),
            (CROP, given.crop),
            (TARGET, given.target),
            (NEGATIVE_ORIGINAL, given.negative_original),
            (NEGATIVE_CROP, given.negative_crop),
            (NEGATIVE_TARGET, given.negative_target),
        ];
        for (key, [x, y]) in sizes.into_iter().filter_map(|(key, pair)| Some((key, pair?))) {
            self.push(key, format_args!("{x}x{y}"));
        }
        for (key, score) in [(SCORE, given.aesthetic_score), (NEGATIVE_SCORE, given.negative_aesthetic_score)]
        {
            if let Some(score) = score {
                self.push(key, score);
            }
        }
    }

    fn sizes(&self) -> Result<SizeConditions> {
        let pixels = |key: &str| {
            let expected = "two numbers of pixels, like 1024x768";
            let read = |text: &str| pair(text).map_err(|_| meaningless(key, text, expected));
            self.get(key).map(read).transpose()
        };
        Ok(SizeConditions {
            original: pixels(ORIGINAL)?,
            crop: pixels(CROP)?,
            target: pixels(TARGET)?,
            negative_original: pixels(NEGATIVE_ORIGINAL)?,
            negative_crop: pixels(NEGATIVE_CROP)?,
            negative_target: pixels(NEGATIVE_TARGET)?,
            aesthetic_score: self.parsed(SCORE, "a number")?,
            negative_aesthetic_score: self.parsed(NEGATIVE_SCORE, "a number")?,
        })
    }

    /// Whether this program wrote the text.
    pub fn is_ours(&self) -> bool {
        self.get("Version").is_some_and(|version| version.starts_with("aquatint "))
    }

    /// What this picture is of several: "4x3" for a sheet, "every 2 steps" for a strip, a file of
    /// latents. `None` for a picture that can be made again.
    pub fn shows(&self) -> Option<&str> {
        ["Grid", "Strip", DECODED_FROM, NOISED_FROM].into_iter().find_map(|key| self.get(key))
    }

    /// Takes the settings over into `request`; what the text does not mention stays as it is.
    ///
    /// # Errors
    /// `Request` if a value has no meaning, or means a sampler that we do not have.
    pub fn apply(&self, request: &mut TextToImage) -> Result<()> {
        request.prompt.clone_from(&self.prompt);
        request.negative_prompt.clone_from(&self.negative_prompt);
        self.number("Steps", &mut request.steps)?;
        self.number("CFG scale", &mut request.guidance_scale)?;
        self.number("Seed", &mut request.seed)?;
        if let Some(size) = self.get("Size") {
            let sides = size.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
            (request.width, request.height) =
                sides.ok_or_else(|| meaningless("Size", size, "width and height, like 512x512"))?;
        }
        if let Some(sampler) = self.get("Sampler") {
            request.sampler = self.sampler(sampler)?;
        }
        request.clip_skip = 1;
        self.number("Clip skip", &mut request.clip_skip)?;
        request.prompt_syntax = match self.get("Emphasis") {
            Some("None") => PromptSyntax::Plain,
            Some("Original") | None => PromptSyntax::A1111,
            Some(other) => return Err(meaningless("Emphasis", other, "None or Original")),
        };
        request.rng = match self.get("RNG") {
            Some("CPU" | "cpu") => RandomSource::Cpu,
            Some("NV" | "GPU" | "cuda") => RandomSource::Cuda,
            // ComfyUI draws on the CPU and says nothing about it; A1111 on the GPU.
            None if self.get("Version").is_some_and(|version| version.starts_with("ComfyUI")) => {
                RandomSource::Cpu
            }
            None => RandomSource::Cuda,
            Some(other) => return Err(meaningless("RNG", other, "CPU, NV or GPU")),
        };
        request.eta = None;
        if let Some(eta) = self.get("Eta").or(self.get("Eta DDIM")) {
            let eta = eta.parse().map_err(|_| meaningless("Eta", eta, "a number"))?;
            request.eta = self.takes_eta().then_some(eta);
        }
        let sigmas = self.get("Sigmas").unwrap_or_default();
        let numbers = sigmas.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse);
        request.sigmas = numbers
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| meaningless("Sigmas", sigmas, "falling numbers"))?;
        request.approximations = Approximations::of(self)?;
        request.vae_tiling = match self.get("VAE tiling") {
            None | Some("False") => false,
            Some("True") => true,
            Some(other) => return Err(meaningless("VAE tiling", other, "True or False")),
        };
        request.hires = Hires::of(self, [request.width, request.height])?;
        request.size_conditions = self.sizes()?;
        request.refiner_at = self.parsed("Refiner switch at", "a number")?;
        Ok(())
    }

    /// The keys of settings that [`Parameters::apply`] does not know, and that may change the
    /// picture.
    pub fn ignored(&self) -> impl Iterator<Item = &str> {
        let keys = self.settings.iter().map(|(key, _)| key.as_str());
        let known = |key: &&str| {
            WITHOUT_EFFECT.contains(key)
                || OF_NO_FIELD.contains(key)
                || with_infotext_key(key).next().is_some()
        };
        let takes_eta = self.takes_eta();
        let known = move |key: &&str| known(key) && (takes_eta || !key.starts_with("Eta"));
        keys.filter(move |key| !known(key))
    }

    /// Whether the sampler of the text has an eta. A1111 writes one of ancestral samplers as well,
    /// whose fresh noise is always all of it here.
    fn takes_eta(&self) -> bool {
        let kind = self.get("Sampler").and_then(|sampler| self.sampler(sampler).ok()?.kind);
        kind.is_none_or(SamplerKind::has_eta)
    }

    /// The sampler of this name; ComfyUI's savers join it and its schedule:
    /// `euler_ancestral_normal`.
    fn sampler(&self, name: &str) -> Result<SamplerChoice> {
        let whole = SamplerChoice::parse(Some(name), self.schedule(name));
        if whole.is_ok() {
            return whole;
        }
        let joined = name
            .match_indices('_')
            .find_map(|(at, _)| SamplerChoice::parse(Some(&name[..at]), Some(&name[at + 1..])).ok());
        joined.map_or(whole, Ok)
    }

    /// The value of a setting, if it is there.
    ///
    /// # Errors
    /// `Request` if its value has no meaning.
    pub fn parsed<T: FromStr>(&self, key: &str, expected: &str) -> Result<Option<T>> {
        let parse = |text: &str| text.parse().map_err(|_| meaningless(key, text, expected));
        self.get(key).map(parse).transpose()
    }

    fn number<T: FromStr>(&self, key: &str, into: &mut T) -> Result<()> {
        if let Some(text) = self.get(key) {
            *into = text.parse().map_err(|_| meaningless(key, text, "a number"))?;
        }
        Ok(())
    }

    /// The name of the schedule to ask for.
    fn schedule(&self, sampler: &str) -> Option<&str> {
        match self.get("Schedule type")? {
            "Given" => None, // `Sigmas` has them
            AUTOMATIC if self.is_ours() => None,
            // A1111 has a recommendation for each of its samplers.
            AUTOMATIC if sampler == "DPM++ 3M SDE" => Some("exponential"),
            AUTOMATIC if sampler.starts_with("DPM++") || sampler.starts_with("DPM2") => Some("karras"),
            AUTOMATIC => None,
            "Uniform" => Some("normal"),
            label => {
                let known = SCHEDULE_LABELS.iter().find(|(_, a1111)| *a1111 == label);
                Some(known.map_or(label, |(ours, _)| *ours))
            }
        }
    }
}

fn meaningless(key: &str, found: &str, expected: &str) -> Error {
    Error::request(format_args!("the picture says `{key}: {found}`; expected {expected}"))
}

/// A1111 calls the form of PNDM that Stable Diffusion uses by its older name.
fn sampler_label(kind: SamplerKind) -> &'static str {
    match kind {
        SamplerKind::Pndm => "PLMS",
        other => other.label(),
    }
}

fn schedule_label(schedule: Option<Schedule>) -> String {
    let Some(schedule) = schedule else { return AUTOMATIC.to_owned() };
    let label = schedule.label();
    if let Some((_, a1111)) = SCHEDULE_LABELS.iter().find(|(ours, _)| *ours == label) {
        return (*a1111).to_owned();
    }
    let (first, rest) = label.split_at_checked(1).unwrap_or((label, ""));
    first.to_uppercase() + rest
}

fn rng_label(rng: RandomSource) -> &'static str {
    match rng {
        RandomSource::Cpu => "CPU",
        RandomSource::Cuda => "NV",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::generate::approximations::GuidanceInterval;
    use crate::generate::hires::Upscaler;

    fn model() -> ModelId {
        ModelId::new(Path::new("models/v1-5"), vec!["/dev/null".into()])
    }

    #[test]
    fn numbers_are_short_and_keys_in_a1111s_order() {
        let request = TextToImage {
            prompt: "a fox".into(),
            guidance_scale: 7.0,
            seed: 965400086,
            sampler: SamplerChoice::parse(Some("euler_a"), None).expect("a known sampler"),
            ..TextToImage::default()
        };
        let text = Parameters::of(&request, SamplerKind::EulerAncestral, &model()).to_string();
        let expected = "a fox\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 965400086, \
                        Size: 512x512, Model hash: e3b0c44298, Model: v1-5, RNG: CPU, Emphasis: None, Version: aquatint ";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn a_request_survives_the_way_there_and_back() {
        for kind in SamplerKind::all() {
            // A list of noise levels is stored by itself.
            let named = kind.schedules().iter().copied().filter(|&schedule| schedule != Schedule::Given);
            for schedule in std::iter::once(None).chain(named.map(Some)) {
                let request = TextToImage {
                    prompt: "a (fox:1.2), BREAK\nsnow".into(),
                    negative_prompt: "dark: very, \"blurry\"".into(),
                    width: 8,
                    height: 4096,
                    steps: 31,
                    guidance_scale: 6.1,
                    seed: u64::MAX,
                    rng: RandomSource::Cuda,
                    prompt_syntax: PromptSyntax::A1111,
                    clip_skip: 2,
                    sampler: SamplerChoice { kind: Some(kind), schedule },
                    eta: kind.has_eta().then_some(0.25),
                    sigmas: if schedule.is_none() { vec![14.6, 3.25, 0.1] } else { Vec::new() },
                    approximations: Approximations {
                        token_merging: if schedule.is_some() { 0.5 } else { 0.0 },
                        deep_cache: if schedule.is_some() { 3 } else { 0 },
                        guidance_interval: match schedule {
                            Some(_) => GuidanceInterval { start: 0.125, end: 0.9 },
                            None => GuidanceInterval::default(),
                        },
                    },
                    vae_tiling: schedule.is_some(),
                    hires: schedule.map(|_| Hires {
                        scale: 1.75,
                        steps: 7,
                        strength: 0.4,
                        upscaler: Upscaler::Lanczos,
                    }),
                    size_conditions: SizeConditions {
                        original: Some([1024, 768]),
                        crop: Some([0, 16]),
                        target: None,
                        negative_original: Some([512, 512]),
                        negative_crop: Some([1, 2]),
                        negative_target: Some([3, 4]),
                        aesthetic_score: Some(6.5),
                        negative_aesthetic_score: None,
                    },
                    refiner_at: Some(0.75),
                };
                let text = Parameters::of(&request, kind, &model()).to_string();
                let parameters = Parameters::parse(&text);
                let mut found = TextToImage::default();
                parameters.apply(&mut found).expect("all values are known");
                assert_eq!(found, request, "{text}");
                assert_eq!(parameters.ignored().count(), 0, "{text}");
            }
        }
    }

    #[test]
    fn a1111s_defaults_are_not_ours() {
        let mut request = TextToImage::default();
        let text = "p\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Automatic, Seed: 1, Hires prompt: q, Version: v1.10.1";
        let parameters = Parameters::parse(text);
        parameters.apply(&mut request).expect("all values are known");
        assert_eq!(request.sampler.schedule, Some(Schedule::Karras));
        assert_eq!(request.rng, RandomSource::Cuda);
        assert_eq!(parameters.ignored().collect::<Vec<_>>(), ["Hires prompt"]);
    }

    #[test]
    fn a_picture_says_its_precision_unless_it_is_f32() {
        for precision in Precisions::ALL {
            let request = TextToImage::default();
            let parameters = Parameters::of(&request, SamplerKind::Euler, &model()).with_precision(precision);
            assert_eq!(parameters.get("Precision").is_some(), precision != Precisions::default());
            let read = Parameters::parse(&parameters.to_string());
            assert_eq!(read.precision().expect("it has a meaning"), Some(precision));
            assert_eq!(read.ignored().count(), 0);
        }
        let theirs = Parameters::parse("Steps: 20, Sampler: Euler, Version: v1.10.1");
        assert_eq!(theirs.precision().expect("there is none"), None);
        let odd = Parameters::parse("Steps: 20, Sampler: Euler, Precision: fp8");
        let error = odd.precision().expect_err("it has no meaning").to_string();
        assert!(error.contains("`Precision: fp8`; expected f32, bf16, mixed or bf16x3"), "{error}");
    }

    #[test]
    fn a_value_without_meaning_is_named() {
        for (setting, message) in [
            ("Size: 512", "`Size: 512`; expected width and height"),
            ("Seed: -3", "`Seed: -3`; expected a number"),
            ("Emphasis: Ignore", "`Emphasis: Ignore`; expected None or Original"),
            ("RNG: TPU", "`RNG: TPU`; expected CPU, NV or GPU"),
            ("Sampler: none", "unknown sampler `none`"),
        ] {
            let parameters = Parameters::parse(&format!("Steps: 1, CFG scale: 2, {setting}"));
            let error = parameters.apply(&mut TextToImage::default()).expect_err("it has no meaning");
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
