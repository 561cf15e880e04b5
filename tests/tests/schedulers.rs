//! Every sampler against diffusers: timesteps, noise levels, and whole loops with a made-up model.
//!
//! `goldens/schedulers.py` ran diffusers' schedulers, in the settings of its own tests and in those
//! of Stable Diffusion folders, and wrote down what it saw. The loop starts from a sample of 768
//! values; the model is `x·t / (t + 1)`.

use aquatint_model::Generator;
use aquatint_model::samplers::{Sampler, SamplerChoice, SamplerKind, Schedule, SchedulerConfig, build};
use aquatint_tensor::View;
use aquatint_tests::{Golden, json, path, relative_error};
use serde_json::Value;

const VALUES: usize = 768;

/// A scheduler, what was done with it, and what came out.
struct Case(Value);

fn cases() -> Vec<Case> {
    let Value::Array(cases) = json("schedulers.json") else { panic!("a list of cases") };
    assert!(cases.len() >= 272, "only {} cases", cases.len());
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

    /// The scheduler_config.json, and what is chosen besides: a schedule that diffusers takes as an
    /// argument, and the sampler for which it has no class.
    fn config(&self) -> (SchedulerConfig, SamplerChoice) {
        let config = SchedulerConfig::from_json(&self.0["scheduler"].to_string(), self.name());
        let config = config.unwrap_or_else(|error| panic!("{}: {error}", self.name()));
        let without_class = self.0["sampler"].as_str().filter(|&name| name == "dpm++2s_a");
        let choice = SamplerChoice::parse(without_class, self.0["schedule"].as_str());
        let mut choice = choice.expect("known names");
        // What the folder can say, the schedule can say as well.
        let (kind, schedule) = config.resolve(choice).expect("a known sampler");
        let trailing = self.0["scheduler"]["timestep_spacing"] == "trailing" && schedule == Schedule::Normal;
        if trailing && kind.schedules().contains(&Schedule::Trailing) {
            choice.schedule = Some(Schedule::Trailing);
            return (config.with("timestep_spacing", "leading"), choice);
        }
        (config, choice)
    }

    /// The sampler that the case asks for.
    fn sampler(&self) -> Box<dyn Sampler> {
        let ((config, choice), steps) = (self.config(), self.number("steps") as usize);
        build(&config, choice, steps).unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }

    /// The whole loop; what is left of the sample at its end.
    fn run(&self) -> Vec<f32> {
        let mut sampler = self.sampler();
        let mut rng = Generator::new(0);
        let mut sample: Vec<f32> = ramp(|i| i).iter().map(|x| x * sampler.init_noise_sigma()).collect();
        let start = self.0["noise_from"].as_u64().unwrap_or(0) as usize;
        if start > 0 && self.0["loop"] != "from" {
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
        // Karras timesteps are interpolated, and may differ in the last digits of an f32; those in
        // the middle of a step of DPM2 are interpolated in f32 and may differ in the last digits of
        // its logarithm.
        let alike = |(&t, &e): (&f64, &f64)| close(t, e, 1e-6) || (t - e).abs() < 1e-4;
        let same = found.len() == expected.len() && found.iter().zip(&expected).all(alike);
        assert!(same, "{}: {found:?}, expected {expected:?}", case.name());
        let (found, expected) = (f64::from(sampler.init_noise_sigma()), case.number("init_noise_sigma"));
        assert!(close(found, expected, 1e-6), "{}: {found}, expected {expected}", case.name());
    }
}

/// The noise level of a call is what `add_noise` makes of a sample of 0 and a noise of 1. The last
/// level, behind all calls, shows only in the loops.
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
        // Most are below 1e-6. PNDM with betas from 0.01 starts where ᾱ is nearly 0, and divides by
        // it.
        assert!(error <= 2e-4, "{name}: relative error {error:.1e}");
    }
}

/// What diffusers' test files state, within their own tolerances, and the sums that diffusers gave
/// here.
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
    assert!(published >= 62, "{published} published numbers were compared");
}

/// The largest error of a sampler with a schedule, and the number of cases.
type Agreement = (f64, usize);

/// A sampler and its schedules.
type Row = (SamplerKind, Vec<(Schedule, Option<Agreement>)>);

/// For each sampler and each of its schedules, what the loops above found.
fn agreements() -> Vec<Row> {
    let golden = Golden::open("schedulers.safetensors");
    let found: Vec<_> = cases()
        .iter()
        .map(|case| {
            let (config, choice) = case.config();
            let (found, expected) = (case.run(), golden.tensor::<4>(case.name()));
            let error = relative_error(View::from_slice(expected.shape(), &found), expected.view());
            (config.resolve(choice).expect("a known sampler"), error)
        })
        .collect();
    let of = |kind, schedule| {
        let errors = found.iter().filter(|(which, _)| *which == (kind, schedule)).map(|(_, error)| *error);
        let worst = errors.clone().reduce(f64::max)?;
        Some((worst, errors.count()))
    };
    let row = |kind: SamplerKind| (kind, kind.schedules().iter().map(|&s| (s, of(kind, s))).collect());
    SamplerKind::all().map(row).collect()
}

/// The columns of the table.
fn columns() -> Vec<Schedule> {
    Schedule::all().chain([Schedule::Given]).collect()
}

/// The table as it is committed.
fn table() -> String {
    let mut text = String::from(
        "# How far each sampler is from diffusers\n\n\
         For each sampler and schedule the largest difference of a value at the end of a whole loop, relative to the size of\n\
         all values (root of their mean square), and in how many loops it was looked for: `goldens/schedulers.json` lists them, with a made-up\n\
         model and all spacings and predictions. `-`: the sampler follows that schedule, and diffusers has no counterpart to compare with.\n\
         Empty: it does not follow it. DPM++ 2S a, which diffusers lacks, is compared with its formula in torch, in f64; DPM++ SDE with\n\
         diffusers' class on our Brownian path. Whole pictures are in `tests/pictures.rs`: every value within one level of 255.\n\n\
         `AQUATINT_WRITE=1 cargo test -p aquatint-tests --test schedulers table` writes this file.\n\n| sampler | class in diffusers |",
    );
    let columns = columns();
    text.extend(columns.iter().map(|schedule| format!(" {} |", schedule.label())));
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(columns.len()));
    for (kind, cells) in agreements() {
        text.push_str(&format!("\n| {} | {} |", kind.label(), kind.class().unwrap_or("-")));
        for column in &columns {
            let cell = match cells.iter().find(|(schedule, _)| schedule == column) {
                None => String::new(),
                Some((_, None)) => "-".into(),
                Some((_, Some((error, count)))) => format!("{error:.0e} ({count})"),
            };
            text.push_str(&format!(" {cell} |"));
        }
    }
    text + "\n"
}

/// A table that is not kept up becomes a lie: rows, columns and counts must be those of today, and
/// no error may be twice as large.
#[test]
fn the_table_of_agreement_is_that_of_today() {
    let (file, found) = (path("../SAMPLERS.md"), table());
    if std::env::var_os("AQUATINT_WRITE").is_some() {
        std::fs::write(&file, &found).expect("the repository is writable");
    }
    let committed = std::fs::read_to_string(&file).expect("the table is committed");
    let cells = |text: &str| text.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let (found, committed) = (cells(&found), cells(&committed));
    assert_eq!(found.len(), committed.len(), "rows or columns differ: write the table again");
    for (found, committed) in found.iter().zip(&committed) {
        let number = |cell: &str| cell.split(" (").next().and_then(|number| number.parse::<f64>().ok());
        match (number(found), number(committed)) {
            // Logarithms differ in their last bit from one C library to another.
            (Some(now), Some(then)) => {
                assert!(now <= 2.0 * then + 1e-6, "found {found}, the table says {committed}");
                assert_eq!(found.split(' ').nth(1), committed.split(' ').nth(1), "number of loops");
            }
            _ => assert_eq!(found, committed, "write the table again"),
        }
    }
}
