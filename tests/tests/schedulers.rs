//! Every sampler against diffusers: timesteps, noise levels, and whole loops with a made-up model.
//!
//! `goldens/schedulers.py` ran diffusers' schedulers, in the settings of its own tests and in those of Stable Diffusion
//! folders, and wrote down what it saw. The loop starts from a sample of 768 values; the model is `x·t / (t + 1)`.

use aquatint_model::Generator;
use aquatint_model::samplers::{Sampler, SamplerChoice, SchedulerConfig, build};
use aquatint_tensor::View;
use aquatint_tests::{Golden, json, relative_error};
use serde_json::Value;

const VALUES: usize = 768;

/// A scheduler, what was done with it, and what came out.
struct Case(Value);

fn cases() -> Vec<Case> {
    let Value::Array(cases) = json("schedulers.json") else { panic!("a list of cases") };
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    cases.into_iter().map(Case).collect()
}

impl Case {
    fn name(&self) -> &str {
        self.0["name"].as_str().expect("a name")
    }

    fn number(&self, key: &str) -> f64 {
        self.0[key].as_f64().unwrap_or_else(|| panic!("{}: no `{key}`", self.name()))
    }

    fn numbers(&self, key: &str) -> Option<Vec<f64>> {
        Some(self.0[key].as_array()?.iter().map(|x| x.as_f64().expect("a number")).collect())
    }

    /// The sampler that the case's scheduler_config.json asks for.
    fn sampler(&self) -> Box<dyn Sampler> {
        let config = SchedulerConfig::from_json(&self.0["scheduler"].to_string(), self.name());
        let steps = self.number("steps") as usize;
        let choice = SamplerChoice::parse(None, self.0["schedule"].as_str()).expect("a known schedule");
        config
            .and_then(|config| build(&config, choice, steps))
            .unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }

    /// The whole loop; what is left of the sample at its end.
    fn run(&self) -> Vec<f32> {
        let mut sampler = self.sampler();
        let mut rng = Generator::new(0);
        let mut sample: Vec<f32> = ramp(|i| i).iter().map(|x| x * sampler.init_noise_sigma()).collect();
        let start = self.0["noise_from"].as_u64().unwrap_or(0) as usize;
        if start > 0 {
            sampler.add_noise(&mut sample, &ramp(|i| VALUES - 1 - i), start);
        }
        for call in start..sampler.timesteps().len() {
            let t = sampler.timesteps()[call];
            let mut input = sample.clone();
            sampler.scale_model_input(&mut input, call);
            let output: Vec<f32> = input.iter().map(|x| x * t / (t + 1.0)).collect();
            if self.0["loop"] == "test" {
                sample = input; // diffusers' tests step from the scaled sample, which no pipeline does
            }
            sampler.step(&output, call, &mut sample, &mut rng);
        }
        sample
    }
}

/// The values value(0)/768, value(1)/768, … laid out as `[3, 8, 8, 4]`, permuted to `[4, 3, 8, 8]`.
fn ramp(value: impl Fn(usize) -> usize) -> Vec<f32> {
    let pixels = VALUES / 4;
    (0..VALUES).map(|i| value(i % pixels * 4 + i / pixels) as f32 / VALUES as f32).collect()
}

/// Whether two numbers agree within `tolerance` of the second.
fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs()
}

#[test]
fn timesteps_and_first_noise() {
    for case in cases() {
        let sampler = case.sampler();
        let expected = case.numbers("timesteps").expect("a list");
        let found: Vec<f64> = sampler.timesteps().iter().map(|&t| f64::from(t)).collect();
        // Karras timesteps are interpolated, and may differ in the last digits of an f32; those in the middle of a step
        // of DPM2 are interpolated in f32 and may differ in the last digits of its logarithm.
        let alike = |(&t, &e): (&f64, &f64)| close(t, e, 1e-6) || (t - e).abs() < 1e-4;
        let same = found.len() == expected.len() && found.iter().zip(&expected).all(alike);
        assert!(same, "{}: {found:?}, expected {expected:?}", case.name());
        let (found, expected) = (f64::from(sampler.init_noise_sigma()), case.number("init_noise_sigma"));
        assert!(close(found, expected, 1e-6), "{}: {found}, expected {expected}", case.name());
    }
}

/// The noise level of a call is what `add_noise` makes of a sample of 0 and a noise of 1. The last level, behind all
/// calls, shows only in the loops.
#[test]
fn sigmas() {
    let mut seen = 0;
    for case in cases() {
        let Some(sigmas) = case.numbers("sigmas") else { continue };
        let sampler = case.sampler();
        let variance_is_kept = sampler.init_noise_sigma() == 1.0;
        for call in 0..sampler.timesteps().len() {
            let mut level = [0.0];
            sampler.add_noise(&mut level, &[1.0], call);
            // Some keep samples at variance 1, so that their noise level is σ/√(σ² + 1).
            let sigma = sigmas[call];
            let expected = if variance_is_kept { sigma / (sigma * sigma + 1.0).sqrt() } else { sigma };
            let found = f64::from(level[0]);
            assert!(close(found, expected, 1e-6), "{}, call {call}: {found}, not {expected}", case.name());
            seen += 1;
        }
    }
    assert!(seen > 1000, "{seen} noise levels were compared");
}

#[test]
fn loops_end_where_those_of_diffusers_end() {
    let golden = Golden::open("schedulers.safetensors");
    for case in cases() {
        let (name, found) = (case.name(), case.run());
        let expected = golden.tensor::<4>(name);
        let error = relative_error(View::from_slice(expected.shape(), &found), expected.view());
        println!("{name}: relative error {error:.1e}");
        // Most are below 1e-6. PNDM with betas from 0.01 starts where ᾱ is nearly 0, and divides by it.
        assert!(error <= 2e-4, "{name}: relative error {error:.1e}");
    }
}

/// What diffusers' test files state, within their own tolerances, and the sums that diffusers gave here.
#[test]
fn sums() {
    let mut published = 0;
    for case in cases() {
        let (name, found) = (case.name(), case.run());
        let sum: f64 = found.iter().map(|&x| f64::from(x).abs()).sum();
        let mean = sum / VALUES as f64;
        // The third order of DEIS divides small differences of f32 logarithms, also in diffusers.
        let rounding = if case.0["sampler"] == "deis" { 1e-4 } else { 2e-5 };
        for (what, found, tolerance) in [("sum", sum, 1e-2), ("mean", mean, 1e-3)] {
            let expected = case.number(&format!("result_{what}"));
            assert!(close(found, expected, rounding), "{name}: {what} {found}, expected {expected}");
            if let Some(expected) = case.0["published"][what].as_f64() {
                assert!((found - expected).abs() < tolerance, "{name}: {what} {found}, published {expected}");
                published += 1;
            }
        }
    }
    assert!(published >= 58, "{published} published numbers were compared");
}
