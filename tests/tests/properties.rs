//! What must hold whatever the numbers are: of every sampler, and of the text in a picture. The
//! inputs are drawn by proptest, as many as take a second or two, always the same ones.

use aquatint_model::image::metadata::{self, Parameters};
use aquatint_model::samplers::{Sampler, SamplerChoice, SamplerKind, SchedulerConfig, build};
use aquatint_model::{Format, Generator, Image};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs a test on `cases` inputs, the same in every run.
fn check<S: Strategy>(cases: u32, inputs: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    if let Err(error) = runner.run(&inputs, test) {
        panic!("{error}");
    }
}

/// As Stable Diffusion configures it, with PNDM's Runge-Kutta steps, for which there must be four.
fn sampler(kind: SamplerKind, steps: usize, extra: &str) -> Box<dyn Sampler> {
    let json = format!(
        r#"{{"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
            "clip_sample": false, "steps_offset": 1, "set_alpha_to_one": true {extra}}}"#
    );
    let config = SchedulerConfig::from_json(&json, "s.json").expect("a valid configuration");
    let choice = SamplerChoice { kind: Some(kind), schedule: None };
    build(&config, choice, steps).unwrap_or_else(|error| panic!("{kind:?}, {steps} steps: {error}"))
}

fn kinds() -> impl Strategy<Value = SamplerKind> {
    prop::sample::select(SamplerKind::all().collect::<Vec<_>>())
}

/// A model that knows the picture takes every sampler to that picture, but for what noise the last
/// step leaves.
#[test]
fn a_model_that_knows_the_picture_leads_to_it() {
    let inputs = (kinds(), 4usize..40, vec(-1.0f32..1.0, 8), any::<u32>());
    check(400, inputs, |(kind, steps, picture, seed)| {
        let mut sampler = sampler(kind, steps, "");
        let mut rng = Generator::new(seed.into());
        let mut sample: Vec<f32> = rng.randn(8).iter().map(|x| x * sampler.init_noise_sigma()).collect();
        for call in 0..sampler.timesteps().len() {
            let level = sampler.noise_level(call);
            let noise = |(&x, &x_0): (&f32, &f32)| (x - level.signal * x_0) / level.noise;
            let output: Vec<f32> = sample.iter().zip(&picture).map(noise).collect();
            sampler.step(&output, call, &mut sample, &mut rng);
        }
        let error = sample.iter().zip(&picture).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        prop_assert!(error < 0.2, "{kind:?}, {steps} steps: {error} from the picture");
        Ok(())
    });
}

/// A sampler that draws no noise is linear: twice the sample and twice the outputs end at twice the
/// picture. Powers of two lose no digit, so it is so to the last bit.
#[test]
fn samplers_without_noise_are_linear() {
    let drawn = kinds().prop_filter("draws noise", |kind| !kind.adds_noise());
    let inputs = (drawn, 4usize..30, vec(-2.0f32..2.0, 64), -3i32..4);
    check(400, inputs, |(kind, steps, outputs, power)| {
        let run = |factor: f32| {
            let mut sampler = sampler(kind, steps, "");
            let mut sample = [0.3, -1.0, 0.7, 0.1].map(|x| x * factor * sampler.init_noise_sigma()).to_vec();
            for call in 0..sampler.timesteps().len() {
                let output: Vec<f32> = (0..4).map(|i| outputs[(4 * call + i) % 64] * factor).collect();
                sampler.step(&output, call, &mut sample, &mut Generator::new(0));
            }
            sample
        };
        let factor = 2f32.powi(power);
        let expected: Vec<f32> = run(1.0).iter().map(|x| x * factor).collect();
        prop_assert_eq!(run(factor), expected, "{:?}, {} steps, factor {}", kind, steps, factor);
        Ok(())
    });
}

/// Time runs from noise to picture, and every call is at a time for which a model was trained.
#[test]
fn timesteps_fall_and_noise_with_them() {
    let spacings = prop::sample::select(vec!["leading", "trailing", "linspace"]);
    check(400, (kinds(), 4usize..50, spacings), |(kind, steps, spacing)| {
        let sampler = sampler(kind, steps, &format!(r#", "timestep_spacing": "{spacing}""#));
        let (timesteps, each) = (sampler.timesteps(), sampler.calls_per_step());
        prop_assert!(timesteps.iter().all(|t| (0.0..1000.0).contains(t)), "{:?}: {:?}", kind, timesteps);
        let first: Vec<usize> = (0..timesteps.len()).step_by(each).collect();
        for pair in first.windows(2) {
            prop_assert!(timesteps[pair[0]] >= timesteps[pair[1]], "{:?}: {:?}", kind, timesteps);
            let [before, after] = [pair[0], pair[1]].map(|call| {
                let level = sampler.noise_level(call);
                level.noise / level.signal
            });
            prop_assert!(before >= after, "{:?}, {} steps: {} after {}", kind, steps, after, before);
        }
        Ok(())
    });
}

/// A prompt as the form can hold it: its lines have no white space at their ends, none begins as a
/// negative prompt does, and none as the line of settings.
fn prompts() -> impl Strategy<Value = String> {
    let line = "[^\\x00-\\x1f\\x7f]{0,30}".prop_map(|line: String| line.trim().to_owned());
    vec(line, 0..4).prop_map(|lines| lines.join("\n").trim().to_owned()).prop_filter(
        "the form's own words",
        |text| {
            let own = |line: &str| line.starts_with("Negative prompt:") || line.starts_with("Steps:");
            !text.lines().any(own)
                && text.lines().all(|line| line.trim() == line)
                && text.split('\n').eq(text.lines())
        },
    )
}

fn parameters() -> impl Strategy<Value = Parameters> {
    let value = "[^\\x00-\\x1f\\x7f]{1,20}";
    let settings = vec(("[A-Z][a-z]{1,8}( [a-z]{1,5})?", value), 0..6);
    (prompts(), prompts(), 1u32..150, any::<u32>(), settings).prop_map(
        |(prompt, negative_prompt, steps, seed, extra)| {
            let known =
                [("Steps", steps.to_string()), ("Sampler", "DPM++ 2M".into()), ("Seed", seed.to_string())];
            let known = known.map(|(key, value)| (key.to_owned(), value));
            let extra = extra.into_iter().filter(|(key, _)| !known.iter().any(|(known, _)| known == key));
            let settings = known.iter().cloned().chain(extra).collect();
            Parameters { prompt, negative_prompt, settings }
        },
    )
}

#[test]
fn what_a_picture_says_is_read_as_it_was_written() {
    check(500, parameters(), |parameters| {
        let text = parameters.to_string();
        prop_assert_eq!(Parameters::parse(&text), parameters, "{}", text);
        Ok(())
    });
}

#[test]
fn files_of_every_format_say_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let formats = prop::sample::select(vec![Format::Png, Format::Jpeg(90), Format::WebP]);
    check(60, (parameters(), formats), |(parameters, format)| {
        let picture = Image::from_rgb(1, 1, vec![7; 3]).with_parameters(parameters.clone());
        let path = folder.path().join("picture");
        std::fs::write(&path, picture.to_bytes(format).expect("a picture")).expect("writable");
        let text = metadata::read(&path).expect("a picture").unwrap_or_default();
        prop_assert_eq!(Parameters::parse(&text), parameters, "{:?}", format);
        Ok(())
    });
}
