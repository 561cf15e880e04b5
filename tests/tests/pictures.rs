//! Whole pictures: every value within one level of diffusers', at least 99.9 % of them equal, on
//! every instruction set.
//!
//! `goldens/pipelines.py` made the folders `sd1` and `sd2` and, with diffusers, one picture for
//! each entry of `cases.json`: the first five samplers, with and without guidance and negative
//! prompt, sizes that are not square or halve unevenly, prompts with Unicode and one that is too
//! long. `goldens/sampler_pictures.py` added `sampler_cases.json`, with the other samplers and
//! schedules.

use std::collections::HashMap;

use aquatint_kernels::{Isa, Precision};
use aquatint_model::samplers::SchedulerConfig;
use aquatint_model::{Image, LoadOptions, Pipeline, Progress, SamplerChoice, TextToImage};
use aquatint_tensor::Tensor;
use aquatint_tests::{Golden, json, path};
use serde_json::Value;

const EQUAL_SHARE: f64 = 0.999;

#[derive(Clone)]
struct Case {
    name: String,
    folder: String,
    request: TextToImage,
    /// The sampler's settings, where they are not what the folder says.
    scheduler: Option<SchedulerConfig>,
    /// The oracle's picture.
    golden: Image,
}

impl Case {
    /// The cases of the two small pipelines.
    fn all() -> Vec<Self> {
        Self::of("pipelines/cases.json")
    }

    /// Those of the samplers and schedules that came later.
    fn samplers() -> Vec<Self> {
        Self::of("pipelines/sampler_cases.json")
    }

    fn of(index: &str) -> Vec<Self> {
        let cases = json(index);
        let read = |case: &Value| {
            let picture = path("pipelines").join(case["picture"].as_str().expect("a file name"));
            let image = image::open(picture).expect("a valid PNG").into_rgb8();
            let golden = Image::from_rgb(image.width() as usize, image.height() as usize, image.into_raw());
            let folder = format!("pipelines/{}", case["pipeline"].as_str().expect("a folder"));
            // Settings of its own: the whole config as diffusers had it. Otherwise the folder's
            // config and two names, as the command line.
            let own = case["settings"].as_object().is_some_and(|settings| !settings.is_empty());
            Self::read(case, folder, own, golden)
        };
        cases.as_array().expect("a list of cases").iter().map(read).collect()
    }

    /// diffusers' own test components.
    fn dummy() -> Vec<Self> {
        let cases = json("dummy/cases.json");
        let images = Golden::open("dummy/images.safetensors");
        let read = |case: &Value| {
            let image: Tensor<f32, 3> =
                images.tensor(&format!("{}/image", case["name"].as_str().expect("a name")));
            let [height, width, _] = image.shape();
            let bytes = image.as_slice().iter().map(|x| (x * 255.0).round_ties_even() as u8).collect();
            let golden = Image::from_rgb(width, height, bytes);
            Self::read(case, "dummy".into(), true, golden)
        };
        cases.as_array().expect("a list of cases").iter().map(read).collect()
    }

    fn read(case: &Value, folder: String, own_scheduler: bool, golden: Image) -> Self {
        let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
        let count = |key: &str| case[key].as_u64().expect("a whole number");
        let scheduler = own_scheduler.then(|| {
            SchedulerConfig::from_json(&case["scheduler"].to_string(), "cases.json")
                .expect("a supported scheduler")
        });
        let sampler = match own_scheduler {
            true => SamplerChoice::default(),
            false => SamplerChoice::parse(case["sampler"].as_str(), case["schedule"].as_str())
                .expect("known names"),
        };
        let request = TextToImage {
            prompt: text("prompt"),
            negative_prompt: text("negative_prompt"),
            width: count("width") as usize,
            height: count("height") as usize,
            steps: count("steps") as usize,
            guidance_scale: case["guidance_scale"].as_f64().expect("a number") as f32,
            seed: count("seed"),
            sampler,
            ..TextToImage::default()
        };
        Self { name: text("name"), folder, request, scheduler, golden }
    }

    fn picture(&self, pipeline: &mut Pipeline) -> Image {
        let stock = pipeline.scheduler().clone();
        if let Some(scheduler) = &self.scheduler {
            pipeline.set_scheduler(scheduler.clone());
        }
        let picture = pipeline.text_to_image(&self.request, &mut |_| {});
        pipeline.set_scheduler(stock);
        picture.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn load(folder: &str, isa: Isa) -> Pipeline {
    load_for(folder, isa, Precision::F32)
}

fn load_for(folder: &str, isa: Isa, precision: Precision) -> Pipeline {
    let options = LoadOptions { isa, precision: precision.into(), ..LoadOptions::default() };
    Pipeline::load(path(folder), &options).unwrap_or_else(|error| panic!("{folder}: {error}"))
}

/// The largest difference, and the share of values that are equal.
fn compare(found: &Image, expected: &Image) -> (u8, f64) {
    let size = |picture: &Image| (picture.width(), picture.height());
    assert_eq!(size(found), size(expected));
    let differences = found.pixels().iter().zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b));
    let worst = differences.clone().max().unwrap_or(0);
    let equal = differences.filter(|&difference| difference == 0).count();
    (worst, equal as f64 / found.pixels().len() as f64)
}

/// Makes every picture on every instruction set.
#[track_caller]
fn check(cases: &[Case]) {
    let mut failures = Vec::new();
    for isa in Isa::available() {
        let mut pipelines: HashMap<&str, Pipeline> = HashMap::new();
        for case in cases {
            let pipeline = pipelines.entry(&case.folder).or_insert_with(|| load(&case.folder, isa));
            let (worst, equal) = compare(&case.picture(pipeline), &case.golden);
            let line = format!("{:22} {isa:8} worst {worst}, equal {:.3} %", case.name, 100.0 * equal);
            println!("{line}");
            if worst > 1 || equal < EQUAL_SHARE {
                failures.push(line);
            }
        }
    }
    assert!(failures.is_empty(), "too far from diffusers:\n{}", failures.join("\n"));
}

#[test]
fn pictures_are_those_of_diffusers() {
    let cases = Case::all();
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    check(&cases);
}

/// Every sampler and schedule that diffusers has.
#[test]
fn pictures_of_every_sampler_are_those_of_diffusers() {
    let cases = Case::samplers();
    assert!(cases.len() >= 33, "only {} cases", cases.len());
    check(&cases);
}

/// Weights as torch initialises them, a VAE that halves once, text encoder names without
/// `text_model.`.
#[test]
fn pictures_of_diffusers_own_test_components() {
    let cases = Case::dummy();
    assert!(cases.len() >= 8, "only {} cases", cases.len());
    check(&cases);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    // Large enough that its layers are cut into several tasks.
    let [first, ..] = &Case::all()[..] else { panic!("there are cases") };
    let request = TextToImage { width: 256, height: 192, steps: 2, ..first.request.clone() };
    let case = &Case { request, ..first.clone() };
    for precision in Precision::ALL {
        let mut pipeline = load_for(&case.folder, Isa::best(), precision);
        let mut on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| case.picture(&mut pipeline))
        };
        let one = on(1);
        for threads in [2, 5] {
            assert!(on(threads) == one, "{precision}: {threads} threads give another picture");
        }
    }
}

/// Products of split operands, on the fastest unit and, a few, in software: within two levels of
/// diffusers' pictures in f32.
#[test]
fn pictures_of_split_operands_are_those_of_f32() {
    for (isa, every) in [(Isa::best(), 5), (Isa::available().pop().expect("a portable one"), 20)] {
        for case in Case::all().iter().step_by(every) {
            let (worst, equal) =
                compare(&case.picture(&mut load_for(&case.folder, isa, Precision::Bf16x3)), &case.golden);
            println!("{:22} {isa:8} worst {worst}, equal {:.3} %", case.name, 100.0 * equal);
            assert!(worst <= 2, "{}, {isa}: {worst} levels from diffusers", case.name);
        }
    }
}

#[test]
fn what_a_long_prompt_loses_is_reported() {
    let cases = Case::all();
    let case = cases.iter().find(|case| case.name == "euler_a_long").expect("the case with a long prompt");
    let request = TextToImage { steps: 2, ..case.request.clone() };
    let mut reports = Vec::new();
    load(&case.folder, Isa::best())
        .text_to_image(&request, &mut |progress| match progress {
            Progress::Loading { percent, .. } => assert!(percent <= 100, "{percent} %"),
            Progress::Denoising { decoding_percent } => {
                assert!((1..10_000).contains(&decoding_percent), "{decoding_percent} %");
            }
            other => reports.push(other),
        })
        .expect("a picture");
    let Some(Progress::Truncated { text: "prompt", cut }) = reports.first() else {
        panic!("expected a report of the cut, found {reports:?}");
    };
    assert!(cut.contains("and this tail is cut off"), "{cut}");
    let rest = [
        Progress::Step { done: 0, total: 2 },
        Progress::Step { done: 1, total: 2 },
        Progress::Step { done: 2, total: 2 },
        Progress::Decoding,
    ];
    assert_eq!(reports[1..], rest);
}

#[test]
fn requests_that_cannot_be_met_are_refused_before_any_work() {
    let pipeline = load("pipelines/sd1", Isa::best());
    let defaults = pipeline.defaults();
    assert_eq!((defaults.width, defaults.height), (64, 64), "the folder's own size");
    let refused = |request: TextToImage, expected: &str| {
        let error = pipeline
            .text_to_image(&request, &mut |progress| panic!("work has begun: {progress:?}"))
            .err()
            .unwrap_or_else(|| panic!("accepted: {request:?}"));
        assert_eq!(error.kind(), aquatint_model::ErrorKind::Request, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let request = || defaults.clone();
    refused(TextToImage { width: 100, ..request() }, "multiple of 8: the nearest are 96 and 104");
    refused(TextToImage { height: 0, ..request() }, "height is 0; expected 8 to 4096");
    refused(TextToImage { width: usize::MAX, ..request() }, "expected 8 to 4096");
    refused(TextToImage { steps: 0, ..request() }, "steps");
    refused(TextToImage { guidance_scale: f32::NAN, ..request() }, "guidance scale is NaN");
}
