//! Runs that are broken off and resumed, and runs of several pictures: the same bits as one at a
//! time and without a break.

use std::ops::ControlFlow;

use aquatint_model::generate::RunInfo;
use aquatint_model::{
    Callbacks, Error, ErrorKind, Generator, Image, ImageFile, ImageToImage, Inpaint, Interrupt, LoadOptions,
    Mask, Pipeline, Progress, RandomSource, RunCheckpoint, SamplerChoice, SamplerKind, StepInfo, Task,
    TextToImage,
};
use aquatint_tests::{alphas_cumprod, path};
use tempfile::TempDir;

fn load() -> Pipeline {
    Pipeline::load(path("pipelines/sd1"), &LoadOptions::default()).expect("a golden folder")
}

fn input(name: &str) -> Image {
    ImageFile::open(path(&format!("tasks/inputs/{name}.png"))).expect("a golden picture").image
}

/// The three tasks with a sampler, small and quick.
fn tasks(kind: SamplerKind) -> [Task; 3] {
    let text = TextToImage {
        prompt: "a red house".into(),
        width: 64,
        height: 64,
        steps: 6,
        seed: 40,
        sampler: SamplerChoice { kind: Some(kind), schedule: None },
        ..TextToImage::default()
    };
    let image = input("scene_64x64");
    let mask = Mask::from_picture(&input("disc_64x64"));
    let picture = ImageToImage { text: text.clone(), image: image.clone(), strength: 0.7 };
    let hole =
        Inpaint { text: text.clone(), image, mask, strength: 0.8, only_masked: None, keep_outside: Some(2) };
    [Task::TextToImage(text), Task::ImageToImage(picture), Task::Inpaint(hole)]
}

/// Keeps a run, and breaks it off after a step.
struct Keeper {
    checkpoint: RunCheckpoint,
    stop: Option<(usize, Interrupt)>,
    /// Calls for which the UNet was really asked.
    asked: usize,
}

impl Keeper {
    fn new(checkpoint: RunCheckpoint, stop: Option<(usize, Interrupt)>) -> Self {
        Self { checkpoint, stop, asked: 0 }
    }
}

impl Callbacks for Keeper {
    fn progress(&mut self, _event: Progress) {}

    fn on_run_start(&mut self, run: &RunInfo) -> Result<(), Error> {
        self.checkpoint.begin(run)
    }

    fn known_output(&mut self, step: usize) -> Option<Vec<f32>> {
        let known = self.checkpoint.output(step);
        self.asked += usize::from(known.is_none());
        known
    }

    fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>, Error> {
        self.checkpoint.record(info)?;
        Ok(match self.stop {
            Some((step, stop)) if info.done == step => ControlFlow::Break(stop),
            _ => ControlFlow::Continue(()),
        })
    }
}

/// Makes the first `steps` steps of a task, and returns the run as it comes back from a file.
fn broken_off(
    pipeline: &Pipeline,
    task: &Task,
    count: usize,
    steps: usize,
    folder: &TempDir,
) -> RunCheckpoint {
    let parameters = pipeline.task_parameters(task).expect("a valid task");
    let mut keeper = Keeper::new(RunCheckpoint::new(&parameters), Some((steps, Interrupt::Discard)));
    let error = pipeline.generate(task, count, &mut keeper).expect_err("it was broken off");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    let file = folder.path().join("run.safetensors");
    keeper.checkpoint.save(&file).expect("the folder is writable");
    let read = RunCheckpoint::open(&file).expect("a checkpoint");
    read.check(&parameters).expect("it is of this task");
    assert_eq!(read.steps().0, steps);
    read
}

#[test]
fn every_sampler_goes_on_to_the_same_bits_in_every_task() {
    let pipeline = load();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for kind in SamplerKind::all() {
        for task in tasks(kind) {
            let whole = pipeline.generate(&task, 1, &mut |_| {}).expect("a picture");
            let checkpoint = broken_off(&pipeline, &task, 1, 3, &folder);
            let total = checkpoint.steps().1;
            let mut keeper = Keeper::new(checkpoint, None);
            let resumed = pipeline.generate(&task, 1, &mut keeper).expect("a picture");
            assert_eq!(keeper.asked, total - 3, "the known outputs are not asked for again");
            assert!(resumed == whole, "{}: {:?}", kind.label(), task.text());
        }
    }
}

#[test]
fn a_walk_that_is_another_is_refused() {
    let pipeline = load();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [task, from_picture, _] = tasks(SamplerKind::Euler);
    let checkpoint = broken_off(&pipeline, &task, 1, 2, &folder);
    let changed = |change: &dyn Fn(&mut TextToImage)| {
        let mut task = task.clone();
        change(task.text_mut());
        task
    };
    for (task, name) in [
        (changed(&|text| text.seed = 41), "Seed: 40 instead of 41"),
        (changed(&|text| text.prompt = "a house".into()), "the prompt"),
        (changed(&|text| text.steps = 7), "Steps: 6 instead of 7"),
        (from_picture, "Denoising strength: nothing instead of 0.7"),
    ] {
        let parameters = pipeline.task_parameters(&task).expect("a valid task");
        let error = checkpoint.check(&parameters).expect_err("another run").to_string();
        assert!(error.contains(name), "{name}: {error}");
        // Whoever does not compare the settings is stopped by the digest of the start, before the
        // first step.
        let mut keeper = Keeper::new(checkpoint.clone(), None);
        let error = pipeline.generate(&task, 1, &mut keeper).expect_err("another run");
        assert_eq!(error.kind(), ErrorKind::Request);
        assert!(error.to_string().contains("is not of this request"), "{error}");
        assert_eq!(keeper.asked, 0);
    }
    let mut keeper = Keeper::new(checkpoint, None);
    assert!(pipeline.generate(&task, 2, &mut keeper).is_err(), "two pictures instead of one");
}

#[test]
fn damaged_checkpoints_are_refused() {
    let pipeline = load();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [task, ..] = tasks(SamplerKind::Ddim);
    broken_off(&pipeline, &task, 1, 2, &folder);
    let file = folder.path().join("run.safetensors");
    let bytes = std::fs::read(&file).expect("it was written");
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("writable");
        let error = RunCheckpoint::open(&file).expect_err("it is damaged");
        assert_eq!(error.kind(), ErrorKind::Request);
        assert!(error.to_string().contains("run.safetensors"), "{error}");
    };
    refused(&bytes[..bytes.len() - 8]);
    refused(&bytes[..4]);
    refused(b"");
    // A single bit, which the digest of the content finds.
    let mut flipped = bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    refused(&flipped);
}

#[test]
fn pictures_made_together_are_those_made_alone() {
    let pipeline = load();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for kind in [SamplerKind::Pndm, SamplerKind::EulerAncestral, SamplerKind::Dpm2, SamplerKind::UniPc] {
        for mut task in tasks(kind) {
            let text = task.text_mut();
            (text.steps, text.rng, text.negative_prompt) = (3, RandomSource::Cuda, "dark".into());
            let together = pipeline.generate(&task, 3, &mut |_| {}).expect("pictures");
            let resumed = broken_off(&pipeline, &task, 3, 1, &folder);
            let resumed = pipeline.generate(&task, 3, &mut Keeper::new(resumed, None)).expect("pictures");
            for (i, picture) in together.iter().enumerate() {
                let mut alone = task.clone();
                alone.text_mut().seed += i as u64;
                let alone = pipeline.generate(&alone, 1, &mut |_| {}).expect("a picture");
                assert!(alone[0] == *picture, "{}, picture {i}", kind.label());
                assert!(resumed[i] == *picture, "{}, picture {i}, resumed", kind.label());
            }
            assert_ne!(together[0], together[1]);
        }
    }
}

/// The prediction of x_0 in a run that was ended early becomes a picture, which says so; that of
/// the last step is the picture itself.
#[test]
fn an_ended_run_leaves_its_prediction() {
    let pipeline = load();
    for task in tasks(SamplerKind::Euler) {
        let parameters = pipeline.task_parameters(&task).expect("a valid task");
        let ended = |steps| {
            let mut keeper = Keeper::new(RunCheckpoint::new(&parameters), Some((steps, Interrupt::Decode)));
            pipeline.generate(&task, 1, &mut keeper).expect("a picture").remove(0)
        };
        let early = ended(2);
        assert!(early.parameters().is_some_and(|found| found.get("Stopped after") == Some("2")));
        let whole = pipeline.generate(&task, 1, &mut |_| {}).expect("a picture").remove(0);
        let total = whole.parameters().map_or(0, |found| {
            let digest = found.get("Steps digest").expect("it has a digest");
            digest.len() / aquatint_model::generate::DIGITS_PER_STEP
        });
        assert_eq!(ended(total), whole, "after the last step nothing is left to end");
        assert_ne!(early.pixels(), whole.pixels());
    }
}

/// x_0 from what the UNet took and gave: (x − √(1 − ᾱ)·ε)/√ᾱ, or √ᾱ·x − √(1 − ᾱ)·v.
///
/// Checked at every whole timestep of all samplers, for a model of ε and one of v. Euler's last
/// step goes to σ = 0, which is x_0 itself.
#[test]
fn predictions_and_inputs_are_those_of_the_formulas() {
    struct Formula {
        velocity: bool,
        alphas: Vec<f64>,
        checked: usize,
        deviations: Vec<f64>,
        name: String,
        last: [Vec<f32>; 2],
    }
    impl Callbacks for Formula {
        fn progress(&mut self, _event: Progress) {}
        fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>, Error> {
            let (input, x0) = (info.model_input(0), info.pred_original_sample(0));
            let square: f64 = input.iter().map(|&x| f64::from(x).powi(2)).sum();
            self.deviations.push((square / input.len() as f64).sqrt());
            self.last = [x0.clone(), info.latents(0).to_vec()];
            if info.timestep().fract() != 0.0 {
                return Ok(ControlFlow::Continue(()));
            }
            let alpha = self.alphas[info.timestep() as usize];
            let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
            let formula = |(&x, &output): (&f32, &f32)| match (f64::from(x), f64::from(output)) {
                (x, v) if self.velocity => signal * x - noise * v,
                (x, e) => (x - noise * e) / signal,
            };
            let expected: Vec<f64> = input.iter().zip(info.outputs()).map(formula).collect();
            let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            let pairs = x0.iter().zip(&expected);
            let worst = pairs.map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max) / largest;
            assert!(worst < 2e-3, "{}, timestep {}: {worst:.1e}", self.name, info.timestep());
            self.checked += 1;
            Ok(ControlFlow::Continue(()))
        }
    }
    for folder in ["sd1", "sd2"] {
        let pipeline = Pipeline::load(path("pipelines").join(folder), &LoadOptions::default());
        let pipeline = pipeline.expect("a golden folder");
        let velocity = folder == "sd2";
        for kind in SamplerKind::all() {
            let [task, ..] = tasks(kind);
            let mut formula = Formula {
                velocity,
                alphas: alphas_cumprod(),
                checked: 0,
                deviations: Vec::new(),
                name: format!("{folder}, {}", kind.label()),
                last: [const { Vec::new() }; 2],
            };
            pipeline.generate(&task, 1, &mut formula).expect("a picture");
            let Formula { checked, deviations, name, last: [x0, latents], .. } = formula;
            assert!(checked > 0, "{name}: no whole timestep");
            assert!(
                (deviations[0] - 1.0).abs() < 0.1,
                "{name}: unit noise goes in first, not {deviations:?}"
            );
            if kind == SamplerKind::Euler {
                let worst = x0.iter().zip(&latents).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-3, "{name}: the last prediction is {worst} away");
            }
        }
    }
}

#[test]
fn networks_that_are_freed_in_between_make_the_same_pictures() {
    let options = LoadOptions { keep: false, ..LoadOptions::default() };
    let (kept, freed) = (load(), Pipeline::load(path("pipelines/sd1"), &options).expect("a golden folder"));
    for task in tasks(SamplerKind::Euler) {
        let make = |pipeline: &Pipeline| pipeline.generate(&task, 2, &mut |_| {}).expect("a valid task");
        let expected = make(&kept);
        for found in [make(&freed), make(&freed)] {
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.pixels(), expected.pixels());
            }
        }
    }
}

/// Gives noise, and changes the latents after a step.
struct Given {
    noise: Option<Vec<f32>>,
    after: Option<(usize, Vec<f32>)>,
    seen: Vec<Vec<f32>>,
}

impl Callbacks for Given {
    fn progress(&mut self, _event: Progress) {}

    fn initial_noise(&mut self, _index: usize, shape: [usize; 3]) -> Result<Option<Vec<f32>>, Error> {
        assert_eq!(shape, [4, 8, 8]);
        Ok(self.noise.clone())
    }

    fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>, Error> {
        self.seen.push(info.latents(0).to_vec());
        Ok(ControlFlow::Continue(()))
    }

    fn replaced_latents(&mut self) -> Option<Vec<f32>> {
        let (step, latents) = self.after.as_ref()?;
        (*step == self.seen.len()).then(|| latents.clone())
    }
}

#[test]
fn noise_and_latents_of_the_caller_take_the_place_of_those_of_the_run() {
    let pipeline = load();
    let run = |task: &Task, seed: u64, noise: Option<&Vec<f32>>, after: Option<(usize, Vec<f32>)>| {
        let mut task = task.clone();
        task.text_mut().seed = seed;
        let mut given = Given { noise: noise.cloned(), after, seen: Vec::new() };
        let made = pipeline.generate(&task, 1, &mut given);
        made.map(|mut pictures| (pictures.remove(0), given.seen))
    };
    let [text, picture, _] = tasks(SamplerKind::Euler);
    let noise = Generator::new(40).randn(4 * 8 * 8);
    let (plain, steps) = run(&text, 40, None, None).expect("a picture");
    let (given, _) = run(&text, 41, Some(&noise), None).expect("a picture");
    assert_eq!(given.pixels(), plain.pixels());
    // With an ancestral sampler the seed still draws, from its beginning.
    let [ancestral, ..] = tasks(SamplerKind::EulerAncestral);
    let pictures = [40, 41].map(|seed| run(&ancestral, seed, Some(&noise), None).expect("a picture").0);
    assert_ne!(pictures[0].pixels(), pictures[1].pixels());

    let (same, _) = run(&text, 40, None, Some((2, steps[1].clone()))).expect("a picture");
    assert_eq!(same.pixels(), plain.pixels());
    let (other, seen) = run(&text, 40, None, Some((2, vec![0.5; 4 * 8 * 8]))).expect("a picture");
    assert!(other.pixels() != plain.pixels() && seen[1] == steps[1] && seen[2] != steps[2]);

    for refused in [
        run(&picture, 40, Some(&noise), None),
        run(&text, 40, Some(&vec![0.0; 3]), None),
        run(&text, 40, None, Some((1, vec![0.0; 3]))),
    ] {
        assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Request));
    }
}
