//! Every sampler with every schedule, number of training timesteps and number of steps, as a
//! stranger's folder may combine them: a sentence, or numbers that are finite to the end.

use super::*;
use crate::Error;

/// Runs with a model whose output is small.
fn run(sampler: &mut dyn Sampler) -> std::result::Result<(), String> {
    let mut rng = Generator::new(7);
    let mut sample: Vec<f32> = rng.randn(4).iter().map(|x| x * sampler.init_noise_sigma()).collect();
    for call in 0..sampler.timesteps().len() {
        let mut input = sample.clone();
        sampler.scale_model_input(&mut input, call);
        let level = sampler.noise_level(call);
        sampler.step(&[0.1, -0.2, 0.3, 0.0], call, &mut sample, &mut rng);
        let finite = input.iter().chain(&sample).chain([&level.signal, &level.noise]).all(|x| x.is_finite());
        if !finite {
            return Err(format!("call {call}: {input:?} at {level:?} → {sample:?}"));
        }
    }
    Ok(())
}

/// Settings of folders; the rest is that of Stable Diffusion.
const FOLDERS: [&str; 5] = [
    r#""timestep_spacing": "trailing""#,
    r#""timestep_spacing": "leading", "steps_offset": 1"#,
    r#""timestep_spacing": "linspace""#,
    r#""prediction_type": "v_prediction", "rescale_betas_zero_snr": true"#,
    r#""skip_prk_steps": true, "final_sigmas_type": "sigma_min""#,
];

#[test]
fn whatever_a_folder_says_there_is_a_sentence_or_a_finite_walk() {
    let mut failures = Vec::new();
    // Each number of timesteps meets one folder, so that the test takes seconds.
    for (trained, folder) in (1..=50).chain([1000; 5]).zip(FOLDERS.iter().cycle()) {
        let json = format!(
            r#"{{"num_train_timesteps": {trained}, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
                "beta_end": 0.012, {folder}}}"#
        );
        let config = SchedulerConfig::from_json(&json, "s.json").expect("a valid configuration");
        for kind in SamplerKind::all() {
            for schedule in std::iter::once(None).chain(kind.schedules().iter().copied().map(Some)) {
                for steps in [1, 2, 3, 4, 11, 12, 23, 50, 51] {
                    let choice = SamplerChoice { kind: Some(kind), schedule };
                    let run = std::panic::catch_unwind(|| match build(&config, choice, steps) {
                        Ok(mut sampler) => run(&mut *sampler),
                        Err(Error::Request(_) | Error::Model(_)) => Ok(()),
                        Err(other) => Err(other.to_string()),
                    });
                    if let Err(what) = run.unwrap_or_else(|_| Err("a panic".into())) {
                        failures.push(format!("{kind:?} {schedule:?}, {steps} of {trained}: {what}"));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures, as\n{}", failures.len(), failures.join("\n"));
}
