//! Approximations: token merging as `tomesd` does it, DeepCache as diffusers' modules do it when
//! they are called so, guidance in a part of the steps by what it must be equal to; and a table of
//! what each changes in pictures of the embedded model. `goldens/approximations.py` asked the
//! oracles.

use std::ops::ControlFlow;

use aquatint_kernels::Isa;
use aquatint_model::generate::{Approximations, GuidanceInterval};
use aquatint_model::networks::unet::deep_cache::{CacheUse, DeepCache};
use aquatint_model::networks::unet::token_merge::Merged;
use aquatint_model::networks::unet::{Conditions, Residuals, UNet2DConditionModel, UNetConfig};
use aquatint_model::source::{Checkpoint, UNET};
use aquatint_model::{
    Callbacks, EMBEDDED, Error, Image, Interrupt, LoadOptions, Pipeline, Progress, StepInfo, TextToImage,
};
use aquatint_tensor::Tensor;
use aquatint_tests::{Golden, path, relative_error};

#[test]
fn tokens_are_merged_as_tomesd_does() {
    let golden = Golden::open("approximations.safetensors");
    for (i, (size, ratio)) in
        [([8, 8], 0.5), ([6, 9], 0.3), ([5, 7], 0.75), ([4, 4], 0.1)].into_iter().enumerate()
    {
        let tokens: Tensor<f32, 2> = golden.tensor(&format!("{i}/tokens"));
        let values: Tensor<f32, 2> = golden.tensor(&format!("{i}/values"));
        let expected: Tensor<f32, 2> = golden.tensor(&format!("{i}/there_and_back"));
        let [_, channels] = tokens.shape();
        for isa in Isa::available() {
            let merged = Merged::of(isa, tokens.view(), size, ratio);
            let (mut fewer, mut back) = (Vec::new(), Tensor::zeros(values.shape()));
            merged.merge(values.as_slice(), channels, &mut fewer);
            let count = golden.integers(&format!("{i}/count"))[0] as usize;
            assert_eq!(fewer.len(), count * channels, "{size:?}, {ratio}");
            merged.add_unmerged(&fewer, channels, back.as_mut_slice());
            let error = relative_error(back.view(), expected.view());
            assert!(error < 1e-6, "{size:?}, {ratio}, {isa}: {error:e}");
        }
    }
}

#[test]
fn a_unet_with_merged_tokens_or_a_cache_is_that_of_the_oracles() {
    let golden = Golden::open("approximations.safetensors");
    let folder = path("pipelines/sd1");
    let config = UNetConfig::open(&UNET.config_path(&folder)).expect("a valid config");
    let file = Checkpoint::open(&UNET.folder(&folder), &UNET).expect("weights");
    let unet = UNet2DConditionModel::load(&file.weights(), &config).expect("all tensors");
    let (text, timesteps): (Tensor<f32, 3>, Tensor<f32, 1>) =
        (golden.tensor("text"), golden.tensor("timesteps"));
    let latents = golden.image("latents");
    for isa in Isa::available() {
        let prepared = |token_merging| {
            let (text, timesteps) = (text.view(), timesteps.as_slice());
            unet.prepare_with(
                isa,
                Conditions { text, timesteps, guidance_scale: 1.0, token_merging, addition: None },
            )
        };
        let [exact, merged] = [0.0, 0.5].map(prepared);
        let latent = |step| latents.view().slice(0, step..step + 1);
        let check = |name: &str, found: &Tensor<f32, 4>| {
            let error = relative_error(found.view(), golden.image(name).view());
            assert!(error < 2e-5, "{name}, {isa}: {error:e}");
        };
        check("merged", &unet.forward(isa, latent(0), 0, &merged));
        let mut cache = DeepCache::default();
        let none = Residuals::default();
        let full = unet.forward_cached(isa, latent(0), 0, &exact, none, &mut CacheUse::Fill(&mut cache));
        check("exact", &full);
        let next = unet.forward_cached(isa, latent(1), 1, &exact, none, &mut CacheUse::Reuse(&cache));
        check("cached", &next);
    }
}

fn pipeline() -> Pipeline {
    Pipeline::load(path("pipelines/sd1"), &LoadOptions::default()).expect("a model")
}

fn request(approximations: Approximations) -> TextToImage {
    TextToImage {
        prompt: "a fox".into(),
        negative_prompt: "fog".into(),
        width: 32,
        height: 32,
        steps: 6,
        seed: 3,
        approximations,
        ..TextToImage::default()
    }
}

fn interval(start: f64, end: f64) -> Approximations {
    Approximations { guidance_interval: GuidanceInterval { start, end }, ..Approximations::default() }
}

#[test]
fn guidance_in_no_step_is_none_and_in_the_first_steps_leaves_them_as_they_are() {
    let pipeline = pipeline();
    let made = |request: &TextToImage| pipeline.text_to_image(request, &mut |_| {}).expect("a picture");
    let without = TextToImage { guidance_scale: 1.0, ..request(Approximations::default()) };
    let no_step = made(&request(interval(0.99, 1.0)));
    assert_eq!(no_step.pixels(), made(&without).pixels());
    let digest = |picture: &Image| {
        let parameters = picture.parameters().expect("ours have them");
        parameters.get("Steps digest").expect("and a digest").to_owned()
    };
    let (all, half) =
        (digest(&made(&request(Approximations::default()))), digest(&made(&request(interval(0.0, 0.5)))));
    // PNDM makes 7 calls of 6 steps: the first four begin in the first half.
    assert_eq!(all[..16], half[..16]);
    assert_ne!(all[16..20], half[16..20]);
}

/// Remembers the UNet's outputs, or knows the first of them.
struct Memory {
    outputs: Vec<Vec<f32>>,
    known: usize,
}

impl Callbacks for Memory {
    fn progress(&mut self, _: Progress) {}

    fn known_output(&mut self, step: usize) -> Option<Vec<f32>> {
        (step < self.known).then(|| self.outputs[step].clone())
    }

    fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>, Error> {
        if info.done > self.outputs.len() {
            self.outputs.push(info.outputs().to_vec());
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A run that goes on from a checkpoint lacks what the last full step kept.
#[test]
fn a_run_with_a_cache_goes_on_to_the_same_bits() {
    let pipeline = pipeline();
    let cached = Approximations { deep_cache: 3, token_merging: 0.5, ..interval(0.2, 0.9) };
    let mut whole = Memory { outputs: Vec::new(), known: 0 };
    let expected = pipeline.text_to_image(&request(cached), &mut whole).expect("a picture");
    let exact = pipeline.text_to_image(&request(Approximations::default()), &mut |_| {}).expect("a picture");
    assert_ne!(exact.pixels(), expected.pixels(), "it is an approximation");
    for known in 1..whole.outputs.len() {
        let mut memory = Memory { outputs: whole.outputs.clone(), known };
        let found = pipeline.text_to_image(&request(cached), &mut memory).expect("a picture");
        assert_eq!(found.pixels(), expected.pixels(), "{known} steps known");
    }
}

#[test]
fn what_has_no_meaning_is_refused() {
    let pipeline = pipeline();
    for (approximations, message) in [
        (Approximations { token_merging: 0.9, ..Approximations::default() }, "0.9 of the tokens"),
        (Approximations { token_merging: f64::NAN, ..Approximations::default() }, "NaN of the tokens"),
        (Approximations { deep_cache: 5000, ..Approximations::default() }, "every 5000 steps"),
        (interval(0.5, 0.5), "the guidance interval is `0.5:0.5`"),
    ] {
        let error = pipeline.text_to_image(&request(approximations), &mut |_| {}).expect_err("it has none");
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// The settings of the table.
fn settings() -> Vec<(&'static str, Approximations)> {
    let none = Approximations::default();
    vec![
        ("--deep-cache 2", Approximations { deep_cache: 2, ..none }),
        ("--deep-cache 3", Approximations { deep_cache: 3, ..none }),
        ("--deep-cache 5", Approximations { deep_cache: 5, ..none }),
        ("--guidance-interval 0:0.8", interval(0.0, 0.8)),
        ("--guidance-interval 0.1:0.8", interval(0.1, 0.8)),
        ("--guidance-interval 0.2:0.6", interval(0.2, 0.6)),
    ]
}

const PROMPTS: [(&str, u64); 3] =
    [("a penguin in the snow", 1), ("a red car in the city", 2), ("a castle at night", 3)];
const STEPS: usize = 15;

fn psnr(a: &Image, b: &Image) -> f64 {
    let squares: f64 =
        a.pixels().iter().zip(b.pixels()).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * a.pixels().len() as f64 / squares).log10()
}

/// The table as it is committed.
fn table() -> String {
    let pipeline = Pipeline::load(EMBEDDED, &LoadOptions::default()).expect("the embedded model");
    let pictures = |approximations, more| {
        PROMPTS.map(|(prompt, seed)| {
            let request = TextToImage {
                prompt: prompt.into(),
                seed: seed + more,
                steps: STEPS,
                approximations,
                ..pipeline.defaults()
            };
            pipeline.text_to_image(&request, &mut |_| {}).expect("a picture")
        })
    };
    let exact = pictures(Approximations::default(), 0);
    let mut text = format!(
        "# What approximations cost\n\n\
         PSNR in dB against the exact picture, of the embedded model at 128×128 in {STEPS} steps, in f32. The first row is\n\
         another picture of the same prompt. The embedded model is small and its pictures are flat: with other models the same settings\n\
         change more or less. `--tome` is not in the table: that model has no attention at its outermost level, where tokens are merged.\n\n\
         `AQUATINT_WRITE=1 cargo test -p aquatint-tests --test approximations table` writes this file.\n\n\
         | setting | {} | mean |\n|---|---|---|---|---|\n",
        PROMPTS.map(|(prompt, _)| prompt).join(" | ")
    );
    let others = [("another seed", Approximations::default(), 100)];
    let settings = settings().into_iter().map(|(flag, approximations)| (flag, approximations, 0));
    for (flag, approximations, more) in others.into_iter().chain(settings) {
        let found = pictures(approximations, more);
        let all: Vec<f64> = found.iter().zip(&exact).map(|(a, b)| psnr(a, b)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let cells: Vec<_> = all.iter().chain([&mean]).map(|db| format!("{db:.1}")).collect();
        text.push_str(&format!("| `{flag}` | {} |\n", cells.join(" | ")));
    }
    text
}

/// A table that is not kept up becomes a lie. Instruction sets differ in last digits, which steps
/// enlarge.
#[test]
fn the_table_of_prices_is_that_of_today() {
    let (file, found) = (path("../APPROXIMATIONS.md"), table());
    if std::env::var_os("AQUATINT_WRITE").is_some() {
        std::fs::write(&file, &found).expect("the repository is writable");
    }
    let committed = std::fs::read_to_string(&file).expect("the table is committed");
    let cells = |text: &str| text.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let (found, committed) = (cells(&found), cells(&committed));
    assert_eq!(found.len(), committed.len(), "rows or columns differ: write the table again");
    for (found, committed) in found.iter().zip(&committed) {
        match (found.parse::<f64>(), committed.parse::<f64>()) {
            (Ok(now), Ok(then)) => {
                assert!((now - then).abs() <= 0.5, "found {found} dB, the table says {committed}");
            }
            _ => assert_eq!(found, committed, "write the table again"),
        }
    }
}
