//! diffusers' own scheduler tests: full loops with a made-up model, and the sums that its test
//! files expect.
//!
//! The set-up of `tests/schedulers/test_schedulers.py` of diffusers: a sample of 768 values,
//! `model(x, t) = x·t/(t + 1)`, linear betas, 10 steps. Those tests overwrite the sample by its
//! scaled form and step from that, which no pipeline does.

use super::*;
use crate::Error;

const VALUES: usize = 768;

/// 0/768, 1/768, ... as an array [3, 8, 8, 4], permuted to [4, 3, 8, 8].
fn sample() -> Vec<f32> {
    let pixels = VALUES / 4;
    (0..VALUES).map(|i| (i % pixels * 4 + i / pixels) as f32 / VALUES as f32).collect()
}

/// The same values in reverse order, 767/768 first.
fn noise() -> Vec<f32> {
    let last = (VALUES - 1) as f32 / VALUES as f32;
    sample().into_iter().map(|x| last - x).collect()
}

fn config(json: &str) -> SchedulerConfig {
    SchedulerConfig::from_json(json, "scheduler_config.json").expect("a valid configuration")
}

fn sampler(class: &str, settings: &str, steps: usize) -> Result<Box<dyn Sampler>> {
    let json = format!(r#"{{"_class_name": "{class}" {settings}}}"#);
    build(&config(&json), SamplerChoice::default(), steps)
}

/// Runs the loop of diffusers' tests from call `start` and returns Σ|x|.
fn full_loop(class: &str, settings: &str, start: usize) -> f64 {
    let mut sampler = sampler(class, settings, 10).expect("a supported configuration");
    let mut rng = Generator::new(0);
    let mut x: Vec<f32> = sample().into_iter().map(|x| x * sampler.init_noise_sigma()).collect();
    if start > 0 {
        sampler.add_noise(&mut x, &noise(), start);
    }
    for call in start..sampler.timesteps().len() {
        let t = sampler.timesteps()[call];
        sampler.scale_model_input(&mut x, call);
        let output: Vec<f32> = x.iter().map(|x| x * t / (t + 1.0)).collect();
        sampler.step(&output, call, &mut x, &mut rng);
    }
    x.iter().map(|x| f64::from(x.abs())).sum()
}

/// One of diffusers' tests: the published sum, with the tolerance of that test, and the sum that
/// diffusers 0.42.1 gives with torch 2.15, to 1 part in 50,000.
struct Case {
    class: &'static str,
    settings: &'static str,
    start: usize,
    published: f64,
    measured: f64,
}

const fn case(class: &'static str, settings: &'static str, published: f64, measured: f64) -> Case {
    Case { class, settings, start: 0, published, measured }
}

const fn with_noise(class: &'static str, settings: &'static str, start: usize, sums: [f64; 2]) -> Case {
    Case { class, settings, start, published: sums[0], measured: sums[1] }
}

#[track_caller]
fn check(cases: &[Case]) {
    for &Case { class, settings, start, published, measured } in cases {
        let found = full_loop(class, settings, start);
        assert!(
            (found - published).abs() < 1e-2,
            "{class} {settings}: found {found}, published is {published}"
        );
        let close = (found - measured).abs() < 2e-5 * measured;
        assert!(close, "{class} {settings}: found {found}, diffusers gives {measured}");
    }
}

#[test]
fn ddim_gives_diffusers_sums() {
    const CLASS: &str = "DDIMScheduler";
    check(&[
        case(CLASS, "", 172.0067, 172.006714),
        case(CLASS, r#", "prediction_type": "v_prediction""#, 52.5302, 52.530205),
        case(CLASS, r#", "set_alpha_to_one": true, "beta_start": 0.01"#, 149.8295, 149.829453),
        case(CLASS, r#", "set_alpha_to_one": false, "beta_start": 0.01"#, 149.0784, 149.078415),
        with_noise(CLASS, "", 8, [354.5418, 354.541809]),
    ]);
}

#[test]
fn pndm_gives_diffusers_sums() {
    const CLASS: &str = "PNDMScheduler";
    check(&[
        case(CLASS, "", 198.1318, 198.131836),
        case(CLASS, r#", "prediction_type": "v_prediction""#, 67.3986, 67.398605),
        case(CLASS, r#", "set_alpha_to_one": true, "beta_start": 0.01"#, 230.0399, 230.033646),
        case(CLASS, r#", "set_alpha_to_one": false, "beta_start": 0.01"#, 186.9482, 186.941238),
        // Not among the published ones: the form that Stable Diffusion's folders use.
        case(CLASS, r#", "skip_prk_steps": true"#, 197.7155, 197.715546),
    ]);
}

#[test]
fn euler_gives_diffusers_sums() {
    const CLASS: &str = "EulerDiscreteScheduler";
    let velocity = r#", "num_train_timesteps": 1100, "prediction_type": "v_prediction""#;
    check(&[
        case(CLASS, r#", "num_train_timesteps": 1100"#, 10.0807, 10.080681),
        case(CLASS, r#", "num_train_timesteps": 1100, "use_karras_sigmas": true"#, 124.52299, 124.522598),
        with_noise(CLASS, r#", "num_train_timesteps": 1100"#, 8, [57062.9297, 57062.929688]),
    ]);
    // The published sum 0.0002 is within its tolerance of nothing at all.
    let found = full_loop(CLASS, velocity, 0);
    assert!((found / 2.41815e-10 - 1.0).abs() < 1e-3, "{found}");
}

#[test]
fn euler_ancestral_gives_diffusers_sums() {
    const CLASS: &str = "EulerAncestralDiscreteScheduler";
    let velocity = r#", "num_train_timesteps": 1100, "prediction_type": "v_prediction""#;
    check(&[
        case(CLASS, r#", "num_train_timesteps": 1100"#, 152.3192, 152.319290),
        case(CLASS, velocity, 108.4439, 108.443894),
        with_noise(CLASS, r#", "num_train_timesteps": 1100"#, 8, [56163.0508, 56163.050781]),
    ]);
}

#[test]
fn dpmpp_2m_gives_diffusers_sums() {
    const CLASS: &str = "DPMSolverMultistepScheduler";
    const SET_UP: &str = r#", "lower_order_final": false, "final_sigmas_type": "sigma_min""#;
    let velocity = format!(r#"{SET_UP}, "prediction_type": "v_prediction""#);
    // Those tests publish the mean with a tolerance of 1e-3.
    for (settings, mean, measured) in [
        (SET_UP.to_owned(), 0.3301, 253.551422),
        (velocity.clone(), 0.2251, 172.873978),
        (format!(r#"{velocity}, "use_karras_sigmas": true"#), 0.2096, 160.664200),
        (format!(r#"{velocity}, "use_lu_lambdas": true"#), 0.1554, 119.364822),
    ] {
        let found = full_loop(CLASS, &settings, 0);
        assert!((found / VALUES as f64 - mean).abs() < 1e-3, "{settings}: {found}");
        assert!(
            (found - measured).abs() < 2e-5 * measured,
            "{settings}: found {found}, diffusers gives {measured}"
        );
    }
    check(&[with_noise(CLASS, SET_UP, 5, [318.4111, 318.411102])]);
}

/// Stable Diffusion 1.5's `scheduler_config.json`.
const SD_1_5: &str = r#"{"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false, "num_train_timesteps": 1000,
    "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null}"#;

/// What diffusers' `OtherScheduler.from_config(folder_config)` gives for 7 steps: timesteps and
/// `init_noise_sigma`.
#[test]
fn the_timesteps_are_diffusers_for_every_spacing() {
    let wide = 14.614647;
    let all: &[(&str, &str, &[f32], f32)] = &[
        ("ddim", "", &[853., 711., 569., 427., 285., 143., 1.], 1.0),
        ("ddim", "linspace", &[999., 832., 666., 500., 333., 166., 0.], 1.0),
        ("ddim", "trailing", &[999., 856., 713., 570., 428., 285., 142.], 1.0),
        ("pndm", "", &[853., 711., 711., 569., 427., 285., 143., 1.], 1.0),
        ("pndm", "linspace", &[999., 832., 832., 666., 500., 333., 166., 0.], 1.0),
        ("pndm", "trailing", &[999., 856., 856., 713., 570., 428., 285., 142.], 1.0),
        ("euler", "", &[999., 832.5, 666., 499.5, 333., 166.5, 0.], wide),
        ("euler", "leading", &[853., 711., 569., 427., 285., 143., 1.], 6.646312),
        ("euler", "trailing", &[999., 856., 713., 570., 428., 285., 142.], wide),
        ("euler karras", "", &[999., 868.41565, 687.15326, 427.48978, 145.93906, 17.858501, 0.], wide),
        ("euler a", "", &[999., 832.5, 666., 499.5, 333., 166.5, 0.], wide),
        ("euler a", "leading", &[853., 711., 569., 427., 285., 143., 1.], 6.646312),
        ("dpm++ 2m", "", &[999., 856., 714., 571., 428., 285., 143.], 1.0),
        ("dpm++ 2m", "leading", &[876., 751., 626., 501., 376., 251., 126.], 1.0),
        ("dpm++ 2m", "trailing", &[999., 856., 713., 570., 428., 285., 142.], 1.0),
        ("dpm++ 2m karras", "", &[999., 868., 687., 427., 146., 18., 0.], 1.0),
    ];
    for &(name, spacing, expected, sigma) in all {
        let spacing_key = format!(r#""timestep_spacing": "{spacing}","#);
        let key = if spacing.is_empty() { "" } else { &spacing_key };
        let config = config(&SD_1_5.replacen('{', &format!("{{{key}"), 1));
        let choice = SamplerChoice::parse(Some(name), None).expect("a known name");
        let sampler = build(&config, choice, 7).expect("a supported configuration");
        let found = sampler.timesteps();
        let close = |a: f32, b: f32| (a - b).abs() <= 1e-6 * b.abs();
        let equal = found.len() == expected.len() && found.iter().zip(expected).all(|(&a, &b)| close(a, b));
        assert!(equal, "{name} {spacing}: found {found:?}, expected {expected:?}");
        assert!(close(sampler.init_noise_sigma(), sigma), "{name} {spacing}: {}", sampler.init_noise_sigma());
    }
}

#[test]
fn runge_kutta_steps_come_first_unless_they_are_skipped() {
    let config = config(&SD_1_5.replace(r#""skip_prk_steps": true"#, r#""skip_prk_steps": false"#));
    let timesteps = |steps| build(&config, SamplerChoice::default(), steps).map(|s| s.timesteps().to_vec());
    let expected = [853, 782, 782, 711, 711, 640, 640, 569, 569, 498, 498, 427, 427, 285, 143, 1];
    assert_eq!(timesteps(7).expect("enough steps"), expected.map(|t| t as f32));
    assert!(timesteps(4).is_ok());
    assert!(matches!(timesteps(3), Err(Error::Request(_))));
}

/// What diffusers 0.42.1 saves for a default object of each class.
#[test]
fn the_configurations_that_diffusers_saves_are_accepted() {
    let common = r#""_diffusers_version": "0.42.1", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
        "num_train_timesteps": 1000, "prediction_type": "epsilon", "steps_offset": 0, "trained_betas": null"#;
    for (class, rest) in [
        (
            "PNDMScheduler",
            r#""set_alpha_to_one": false, "skip_prk_steps": false, "timestep_spacing": "leading""#,
        ),
        (
            "DDIMScheduler",
            r#""clip_sample": true, "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995,
            "rescale_betas_zero_snr": false, "sample_max_value": 1.0, "set_alpha_to_one": true, "thresholding": false,
            "timestep_spacing": "leading""#,
        ),
        (
            "EulerDiscreteScheduler",
            r#""final_sigmas_type": "zero", "interpolation_type": "linear", "rescale_betas_zero_snr": false,
            "sigma_max": null, "sigma_min": null, "timestep_spacing": "linspace", "timestep_type": "discrete",
            "use_beta_sigmas": false, "use_exponential_sigmas": false, "use_karras_sigmas": false"#,
        ),
        (
            "EulerAncestralDiscreteScheduler",
            r#""rescale_betas_zero_snr": false, "timestep_spacing": "linspace""#,
        ),
        (
            "DPMSolverMultistepScheduler",
            r#""algorithm_type": "dpmsolver++", "dynamic_thresholding_ratio": 0.995, "euler_at_final": false,
            "final_sigmas_type": "zero", "flow_shift": 1.0, "lambda_min_clipped": -Infinity, "lower_order_final": true,
            "rescale_betas_zero_snr": false, "sample_max_value": 1.0, "solver_order": 2, "solver_type": "midpoint",
            "thresholding": false, "time_shift_type": "exponential", "timestep_spacing": "linspace",
            "use_beta_sigmas": false, "use_dynamic_shifting": false, "use_exponential_sigmas": false,
            "use_flow_sigmas": false, "use_karras_sigmas": false, "use_lu_lambdas": false, "variance_type": null"#,
        ),
    ] {
        let config = config(&format!(r#"{{"_class_name": "{class}", {common}, {rest}}}"#));
        for kind in SamplerKind::all() {
            let choice = SamplerChoice { kind: Some(kind), schedule: None };
            assert!(build(&config, choice, 20).is_ok(), "{class} as {}", kind.label());
        }
    }
}

#[test]
fn too_few_and_too_many_steps_are_bad_requests() {
    for kind in SamplerKind::all() {
        for steps in [0, 1001, usize::MAX] {
            let choice = SamplerChoice { kind: Some(kind), schedule: None };
            let error = build(&config(SD_1_5), choice, steps).err().expect("impossible");
            assert!(matches!(error, Error::Request(_)), "{error}");
            let message = match kind {
                SamplerKind::Lcm | SamplerKind::Tcd => {
                    format!("{steps} steps are not possible with this sampler; choose from 1 to 50")
                }
                _ => format!("{steps} steps are not possible with this model; choose from 1 to 1000"),
            };
            assert!(error.to_string().starts_with(&message), "{error}");
        }
        let choice = SamplerChoice { kind: Some(kind), schedule: None };
        assert!(build(&config(SD_1_5), choice, 1).is_ok());
    }
    // With `steps_offset` 1 the first of 1000 timesteps is 1000, which no sampler that looks ᾱ up
    // can visit.
    let ddim = SamplerChoice { kind: Some(SamplerKind::Ddim), schedule: None };
    assert!(matches!(build(&config(SD_1_5), ddim, 1000), Err(Error::Request(_))));
}

#[test]
fn a_setting_that_is_not_supported_is_named() {
    for (class, setting, expected) in [
        ("DDIMScheduler", r#""thresholding": true"#, "`thresholding` is true; accepted: false, null"),
        (
            "DDIMScheduler",
            r#""beta_schedule": "sigmoid""#,
            r#"`beta_schedule` is "sigmoid"; accepted: "linear", "scaled_linear", "squaredcos_cap_v2""#,
        ),
        (
            "DDIMScheduler",
            r#""num_train_timesteps": -1"#,
            "`num_train_timesteps` is -1; accepted: whole numbers from 2",
        ),
        ("DDIMScheduler", r#""beta_end": 1e300"#, "`beta_end` is 1e+300; accepted: numbers between 0 and 1"),
        ("DDIMScheduler", r#""trained_betas": [0.5]"#, "`trained_betas`: expected a list of 1000 numbers"),
        ("EulerDiscreteScheduler", r#""sigma_min": 0.03"#, "`sigma_min` is 0.03; accepted: null"),
        ("UniPCMultistepScheduler", r#""sigma_min": 0.03"#, "`sigma_min` is 0.03; accepted: null"),
        ("UniPCMultistepScheduler", r#""sigma_max": 14.6"#, "`sigma_max` is 14.6; accepted: null"),
        ("UniPCMultistepScheduler", r#""shift_terminal": 0.1"#, "`shift_terminal` is 0.1; accepted: null"),
        (
            "DPMSolverMultistepScheduler",
            r#""solver_order": 3"#,
            "`solver_order` is 3; accepted: whole numbers from 1 to 2",
        ),
        (
            "DPMSolverMultistepScheduler",
            r#""algorithm_type": "dpmsolver""#,
            r#"`algorithm_type` is "dpmsolver"; accepted: "dpmsolver++", "sde-dpmsolver++", "deis", null"#,
        ),
    ] {
        let error = sampler(class, &format!(", {setting}"), 10).err().expect("not supported");
        assert!(matches!(error, Error::Model(_)), "{error}");
        let start = format!("`scheduler_config.json`: {expected}");
        assert!(error.to_string().starts_with(&start), "found {error}, expected {start}");
    }
}

/// `DPMSolverSinglestepScheduler` of diffusers 0.42 has no `rescale_betas_zero_snr`; the class of
/// DPM++ 2M has.
#[test]
fn zero_terminal_snr_is_for_the_classes_that_have_it() {
    let first_level = |class, setting| {
        let sampler = sampler(class, setting, 10).unwrap_or_else(|error| panic!("{error}"));
        sampler.noise_level(0).signal
    };
    let rescaled = r#", "rescale_betas_zero_snr": true"#;
    for (class, has_it) in [("DPMSolverSinglestepScheduler", false), ("DPMSolverMultistepScheduler", true)] {
        assert_eq!(first_level(class, rescaled) != first_level(class, ""), has_it, "{class}");
    }
}
