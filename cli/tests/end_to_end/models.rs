//! Models in their forms: folder, single file, an id in Hugging Face's cache; components of their
//! own.

use std::fs;

use crate::{aquatint, aquatint_with, refused, with_model};

const PICTURE: [&str; 11] = ["fox", "-s", "7", "--steps", "2", "-W", "32", "-H", "32", "--precision", "f32"];

#[test]
fn a_single_file_makes_the_picture_of_its_folder() {
    let folder = with_model();
    let run = aquatint(folder.path(), &["convert", "tiny", "tiny.safetensors"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "tiny.safetensors\n"), "{}", run.stderr);
    let pixels = |model: &[&str], file: &str| {
        let run = aquatint(folder.path(), &[&PICTURE[..], &["-o", file], model].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
        let picture = image::open(folder.path().join(file)).expect("a picture");
        picture.into_rgb8().into_raw()
    };
    let expected = pixels(&["-m", "tiny"], "a.png");
    assert_eq!(pixels(&["-m", "tiny.safetensors", "--config", "tiny"], "b.png"), expected);
    let own = ["-m", "tiny/unet/diffusion_pytorch_model.safetensors", "--config", "tiny"];
    let parts = ["--vae", "tiny.safetensors", "--text-encoder", "tiny/text_encoder"];
    assert_eq!(pixels(&[&own[..], &parts[..]].concat(), "c.png"), expected);

    let run = aquatint(folder.path(), &["inspect", "tiny.safetensors", "--config", "tiny"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for part in ["UNet2DConditionModel", "LDM's names", "modelspec.prediction_type: epsilon"] {
        assert!(run.stdout.contains(part), "expected \"{part}\" in: {}", run.stdout);
    }
    let run = aquatint(folder.path(), &[&PICTURE[..], &own[..], &["-o", "d.png"]].concat());
    refused(&run, 3, "holds UNet, but no VAE");
    assert!(run.stderr.contains("--vae"), "the flag is named: {}", run.stderr);
    let run = aquatint(folder.path(), &["inspect", "tiny.safetensors"]);
    assert!(run.code == 3 && run.stderr.contains("expected 768"), "{}", run.stderr);
}

#[test]
fn models_in_hugging_faces_cache_go_by_their_ids() {
    let folder = with_model();
    let cache = folder.path().join("cache");
    let repository = cache.join("models--org--tiny");
    fs::create_dir_all(repository.join("refs")).expect("writable");
    fs::create_dir_all(repository.join("snapshots")).expect("writable");
    fs::write(repository.join("refs/main"), "0123").expect("writable");
    fs::rename(folder.path().join("tiny"), repository.join("snapshots/0123")).expect("writable");
    let cache = cache.to_str().expect("UTF-8");
    let with_cache = |arguments: &[&str]| {
        aquatint_with(folder.path(), arguments, &[("HF_HUB_CACHE", cache), ("AQUATINT_MODELS", "")])
    };
    let run = with_cache(&["models"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("org/tiny\tStableDiffusionPipeline"), "{}", run.stdout);
    let run = with_cache(&[&PICTURE[..], &["-m", "org/tiny", "-o", "a.png"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let run = with_cache(&[&PICTURE[..], &["-m", "org/other", "-o", "b.png"]].concat());
    refused(&run, 3, "`org/other` is not in the cache");
}
