//! Model folders that cannot be loaded, and one that loads but computes NaN: each ends in one
//! sentence, never in a panic.

use std::fs;
use std::path::Path;

use aquatint_model::tools::inspect::inspect;
use aquatint_model::{Error, ErrorKind, LoadOptions, Pipeline};
use aquatint_tests::path;
use tempfile::TempDir;

/// A copy of the small pipeline, to be damaged.
fn copy() -> TempDir {
    fn copy_into(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("writable");
        for entry in fs::read_dir(from).expect("readable").flatten() {
            let target = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy_into(&entry.path(), &target),
                false => drop(fs::copy(entry.path(), target).expect("writable")),
            }
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy_into(&path("pipelines/sd1"), folder.path());
    folder
}

fn load(folder: &Path) -> Result<Pipeline, Error> {
    Pipeline::load(folder, &LoadOptions::default())
}

/// Damages a copy and demands an error about the model that says all of `expected`.
#[track_caller]
fn refused(damage: impl FnOnce(&Path), expected: &[&str]) {
    let folder = copy();
    damage(folder.path());
    let Err(error) = load(folder.path()) else { panic!("the damaged folder was loaded") };
    assert_eq!(error.kind(), ErrorKind::Model, "{error}");
    let message = error.to_string();
    assert!(!message.contains('\n'), "one sentence, not {message}");
    for expected in expected {
        assert!(message.contains(expected), "`{expected}` is not in: {message}");
    }
    let reported = inspect(folder.path()).map_or(true, |report| !report.problems.is_empty());
    assert!(reported, "`inspect` has nothing to say where loading fails with: {message}");
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("readable");
    assert!(text.contains(from), "{from} is not in {}", file.display());
    fs::write(file, text.replace(from, to)).expect("writable");
}

#[test]
fn the_undamaged_copy_loads_without_a_warning() {
    let folder = copy();
    let pipeline = load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(pipeline.warnings(), [""; 0]);
}

#[test]
fn folders() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for path in [folder.path().join("absent"), folder.path().to_owned()] {
        let Err(error) = load(&path) else { panic!("loaded nothing") };
        assert!(error.to_string().contains("model_index.json"), "{error}");
    }
    refused(|f| fs::write(f.join("model_index.json"), "[").expect("writable"), &["model_index.json"]);
    refused(
        |f| replace(&f.join("model_index.json"), "StableDiffusionPipeline", "StableDiffusion3Pipeline"),
        &["model_index.json", "\"StableDiffusion3Pipeline\"", "expected StableDiffusionPipeline"],
    );
    refused(
        |f| replace(&f.join("model_index.json"), "StableDiffusionPipeline", "StableDiffusionXLPipeline"),
        &["`tokenizer_2` is null", "expected CLIPTokenizer"],
    );
    refused(
        |f| replace(&f.join("model_index.json"), "CLIPTextModel", "T5EncoderModel"),
        &["`text_encoder`", "T5EncoderModel"],
    );
    refused(
        |f| replace(&f.join("model_index.json"), "\"unet\"", "\"another\""),
        &["model_index.json", "`unet` is null"],
    );
}

#[test]
fn missing_parts() {
    for part in ["tokenizer", "text_encoder", "unet", "vae", "scheduler"] {
        refused(|f| fs::remove_dir_all(f.join(part)).expect("writable"), &[part, "missing"]);
    }
    for file in
        ["unet/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"]
    {
        refused(|f| fs::remove_file(f.join(file)).expect("writable"), &["cannot read", file]);
    }
    refused(
        |f| fs::remove_file(f.join("vae/diffusion_pytorch_model.safetensors")).expect("writable"),
        &["vae", "no weights", "diffusion_pytorch_model.safetensors"],
    );
}

#[test]
fn parts_that_do_not_fit() {
    let unet = "unet/config.json";
    refused(
        |f| replace(&f.join(unet), "\"in_channels\": 4", "\"in_channels\": 5"),
        &["`in_channels`", "found 5", "expected 4"],
    );
    refused(
        |f| replace(&f.join(unet), "\"cross_attention_dim\": 32", "\"cross_attention_dim\": 48"),
        &["`cross_attention_dim`", "found 48", "expected 32"],
    );
    refused(
        |f| replace(&f.join(unet), "\"layers_per_block\": 2", "\"layers_per_block\": 3"),
        &["diffusion_pytorch_model.safetensors", "there is no tensor `down_blocks.0.resnets.2"],
    );
    refused(
        |f| {
            replace(
                &f.join("tokenizer/tokenizer_config.json"),
                "\"model_max_length\": 77",
                "\"model_max_length\": 100",
            );
        },
        &["100 tokens", "takes 77"],
    );
    refused(
        |f| replace(&f.join("vae/config.json"), "\"in_channels\": 3", "\"in_channels\": 4"),
        &["`in_channels`", "found 4", "expected 3"],
    );
    refused(
        |f| replace(&f.join("text_encoder/config.json"), "\"vocab_size\": 1214", "\"vocab_size\": 1000"),
        &["1214", "1000"],
    );
}

#[test]
fn damaged_weights() {
    let weights = "unet/diffusion_pytorch_model.safetensors";
    let damage = |change: fn(&mut Vec<u8>)| {
        move |folder: &Path| {
            let mut bytes = fs::read(folder.join(weights)).expect("readable");
            change(&mut bytes);
            fs::write(folder.join(weights), bytes).expect("writable");
        }
    };
    refused(damage(|bytes| bytes.truncate(bytes.len() / 2)), &[weights, "not a valid safetensors file"]);
    refused(damage(|bytes| bytes.truncate(7)), &[weights, "not a valid safetensors file"]);
    refused(damage(Vec::clear), &[weights, "it is empty"]);
    refused(damage(|bytes| bytes[..8].fill(0xff)), &[weights, "not a valid safetensors file"]);
    refused(damage(|bytes| bytes[20] ^= 0xff), &[weights, "not a valid safetensors file"]);
    let of_integers = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(5).position(|text| text == b"\"F32\"").expect("weights in f32");
        bytes[at..at + 5].copy_from_slice(b"\"I32\"");
    };
    refused(damage(of_integers), &[weights, "expected element type F32, F16, BF16 or F8, found I32"]);
}

#[test]
fn nan_stops_with_the_name_of_the_stage() {
    // The last four bytes of each file: the end of some tensor, as a NaN.
    for (file, stage) in [
        ("text_encoder/model.safetensors", "the text encoder"),
        ("unet/diffusion_pytorch_model.safetensors", "the UNet at step 1 of 3"),
        ("vae/diffusion_pytorch_model.safetensors", "the VAE decoder"),
    ] {
        let folder = copy();
        poison(&folder.path().join(file));
        let pipeline = load(folder.path()).unwrap_or_else(|error| panic!("{error}"));
        let request = aquatint_model::TextToImage { steps: 2, ..pipeline.defaults() };
        let Err(error) = pipeline.text_to_image(&request, &mut |_| {}) else { panic!("a picture of NaN") };
        assert_eq!(error.kind(), ErrorKind::Run);
        assert!(error.to_string().starts_with(stage), "{error}");
    }
}

/// Makes every number of the file a NaN.
fn poison(file: &Path) {
    let mut bytes = fs::read(file).expect("readable");
    let header = u64::from_le_bytes(*bytes.first_chunk().expect("eight bytes")) as usize;
    for number in bytes[8 + header..].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    fs::write(file, bytes).expect("writable");
}
