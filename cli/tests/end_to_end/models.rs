//! Models in their forms: folder, single file, an id in Hugging Face's cache; components of their
//! own.

use std::fs;

use aquatint_tests::hub_server::HubServer;

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
    for part in ["UNet2DConditionModel", "LDM's names", "prediction: epsilon"] {
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
    assert!(run.stdout.starts_with("org/tiny\tStableDiffusionPipeline\tF16\t"), "{}", run.stdout);
    let run = with_cache(&[&PICTURE[..], &["-m", "tiny", "-o", "b.png"]].concat());
    assert_eq!(run.code, 0, "the last part of an id is enough: {}", run.stderr);
    let run = with_cache(&[&PICTURE[..], &["-m", "org/tiny", "-o", "a.png"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn models_adapters_and_embeddings_of_a_folder_go_by_their_names() {
    let folder = with_model();
    let goldens = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens");
    let at = |name: &str| folder.path().join(name);
    for name in ["webui/models/Stable-diffusion", "webui/models/Lora/styles", "webui/embeddings"] {
        fs::create_dir_all(at(name)).expect("writable");
    }
    fs::rename(at("tiny"), at("webui/models/Stable-diffusion/fox")).expect("writable");
    let models =
        |arguments: &[&str]| aquatint_with(folder.path(), arguments, &[("AQUATINT_MODELS", "webui")]);
    let run = models(&["models", "--models-dir", goldens]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let expected = "fox\tStableDiffusionPipeline\tF16\t";
    assert!(run.stdout.contains(expected), "{}", run.stdout);
    let run = models(&[&PICTURE[..], &["-m", "fox", "-o", "a.png"]].concat());
    assert_eq!((run.code, run.stdout.as_str()), (0, "a.png\n"), "{}", run.stderr);
    let run = models(&[&PICTURE[..], &["-m", "fox", "--lora", "owl:0.5", "-o", "b.png"]].concat());
    refused(&run, 2, "there is no adapter `owl` in `webui/models/Lora`");
    let run = models(&[&PICTURE[..], &["-m", "foxx", "-o", "b.png"]].concat());
    refused(&run, 3, "no model of this name; did you mean `fox`?");
    let run = models(&["inspect", "kohya", "--models-dir", &format!("{goldens}/adapters")]);
    assert!(run.code == 0 && run.stdout.contains("rank 4\n    alpha 2\n"), "{} {}", run.stdout, run.stderr);
    refused(&models(&["models", "--models-dir", "absent"]), 2, "there is no folder `absent`");
}

#[test]
fn models_that_are_not_in_the_cache_are_downloaded() {
    let folder = with_model();
    let server = HubServer::of(&folder.path().join("tiny"));
    let endpoint = server.endpoint();
    let with_hub = |arguments: &[&str], offline| {
        let variables = [("HF_HOME", "home"), ("HF_ENDPOINT", &*endpoint), ("HF_HUB_OFFLINE", offline)];
        aquatint_with(folder.path(), &[&PICTURE[..], arguments].concat(), &variables)
    };
    refused(&with_hub(&["-m", "org/tiny", "-o", "a.png"], "1"), 3, "HF_HUB_OFFLINE is set");
    let run = with_hub(&["-m", "org/tiny", "-o", "a.png"], "0");
    assert_eq!((run.code, run.stdout.as_str()), (0, "a.png\n"), "{}", run.stderr);
    assert!(run.stderr.contains("downloading org/tiny: "), "{}", run.stderr);
    drop(server);
    let run = with_hub(&["-m", "org/tiny", "-o", "b.png"], "0");
    assert_eq!(run.code, 0, "it is in the cache: {}", run.stderr);
    let read = |name: &str| fs::read(folder.path().join(name)).expect("it was made");
    assert_eq!(read("a.png"), read("b.png"));
}
