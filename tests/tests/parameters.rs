//! The text in a picture as others read and write it: files that Pillow wrote the way A1111 does,
//! and what sd-parsers read in them (`goldens/prompts.py`); JPEG and WebP files as piexif writes
//! and reads them (`goldens/exif.py`).

use aquatint_model::image::metadata::{self, Parameters, exif, png};
use aquatint_model::{Image, RandomSource, SamplerChoice, TextToImage};
use aquatint_tests::{json, path};

#[test]
fn what_sd_parsers_reads_is_what_we_read_and_write() {
    let cases = json("parameters/sd_parsers.json");
    let cases = cases.as_array().expect("a list of cases");
    assert_eq!(cases.len(), 2);
    for case in cases {
        let file = path("parameters").join(case["file"].as_str().expect("a file name"));
        let text = png::read(&file).expect("a valid PNG").expect("it has a text");
        assert_eq!(text, case["text"], "{}", file.display());

        let parameters = Parameters::parse(&text);
        assert_eq!(parameters.to_string(), text, "we write it as we read it");
        assert_eq!(parameters.prompt, case["prompt"]);
        assert_eq!(parameters.negative_prompt, case["negative_prompt"]);
        let sampler = &case["sampler_parameters"];
        for (key, expected) in [
            ("Sampler", &case["sampler"]),
            ("Model", &case["model"]),
            ("Model hash", &case["model_hash"]),
            ("Schedule type", &sampler["scheduler"]),
            ("CFG scale", &sampler["cfg_scale"]),
            ("Seed", &sampler["seed"]),
            ("Steps", &sampler["steps"]),
        ] {
            assert_eq!(parameters.get(key), expected.as_str(), "{key}");
        }
        for (key, expected) in case["metadata"].as_object().expect("an object") {
            assert_eq!(parameters.get(key), expected.as_str(), "{key}");
        }
        assert_eq!(parameters.settings.len(), 7 + case["metadata"].as_object().map_or(0, |rest| rest.len()));
        parameters.apply(&mut TextToImage::default()).expect("a request that we could meet");
    }
}

#[test]
fn our_file_is_read_like_pillows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["latin_1.png", "unicode.png"] {
        let theirs = path("parameters").join(name);
        let text = png::read(&theirs).expect("a valid PNG").expect("it has a text");
        let ours = folder.path().join(name);
        let picture = Image::from_rgb(2, 1, vec![0; 6]).with_parameters(Parameters::parse(&text));
        picture.save(&ours).expect("the folder is writable");
        assert_eq!(png::read(&ours).expect("a valid PNG"), Some(text));
        // The same kind of chunk, so that a program that knows one of them only reads both.
        let kind = |path| {
            let bytes = std::fs::read(path).expect("readable");
            ["tEXt", "iTXt", "zTXt"].map(|chunk| bytes.windows(4).any(|window| window == chunk.as_bytes()))
        };
        assert_eq!(kind(&ours), kind(&theirs), "{name}");
    }
}

/// piexif writes and reads for A1111; `ours.jpg` and `ours.webp` are this program's.
#[test]
fn exif_is_read_and_written_like_piexifs() {
    let cases = json("parameters/exif.json");
    let cases = cases.as_array().expect("a list of cases");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let name = case["file"].as_str().expect("a file name");
        let file = path("parameters").join(name);
        let text = metadata::read(&file).expect("a valid picture").expect("it has a text");
        assert_eq!(text, case["piexif"], "{name}");
        let parameters = Parameters::parse(&text);
        assert_eq!(parameters.prompt, case["prompt"], "{name}");
        assert_eq!(parameters.negative_prompt, case["negative_prompt"], "{name}");
        assert_eq!(parameters.get("Sampler"), case["sampler"].as_str(), "{name}");
        assert_eq!(parameters.get("Seed"), case["sampler_parameters"]["seed"].as_str(), "{name}");
        // What piexif and sd-parsers read there is what is written today.
        if name.starts_with("ours") {
            let (block, bytes) =
                (exif::encode(&text).expect("a short text"), std::fs::read(&file).expect("readable"));
            assert!(bytes.windows(block.len()).any(|window| window == block), "{name}");
        }
    }
}

/// Texts of other programs: stable-diffusion.cpp, ComfyUI's savers, A1111 with extensions.
#[test]
fn texts_of_other_programs_are_read() {
    let read = |name: &str| {
        let file = path("parameters").join(format!("{name}.png"));
        let parameters = Parameters::parse(&png::read(&file).expect("a valid PNG").expect("it has a text"));
        let mut request = TextToImage::default();
        parameters.apply(&mut request).unwrap_or_else(|error| panic!("{name}: {error}"));
        let ignored: Vec<String> = parameters.ignored().map(str::to_owned).collect();
        (request, ignored)
    };
    let sampler = |name, schedule| SamplerChoice::parse(Some(name), schedule).expect("a known sampler");

    let (request, ignored) = read("stable-diffusion-cpp");
    assert_eq!((request.prompt.as_str(), request.negative_prompt.as_str()), ("a lovely cat", "blurry"));
    assert_eq!((request.rng, request.sampler), (RandomSource::Cuda, sampler("Euler a", None)));
    assert_eq!(ignored, ["Guidance"]);

    let (request, _) = read("comfyui-saver");
    assert_eq!((request.rng, request.sampler), (RandomSource::Cpu, sampler("Euler a", Some("normal"))));
    let (request, _) = read("comfyui-noise");
    assert_eq!((request.rng, request.sampler), (RandomSource::Cpu, sampler("DPM++ 2M", Some("karras"))));

    let (request, ignored) = read("eta-of-ancestral-sampler");
    assert_eq!((request.eta, request.clip_skip, request.rng), (None, 2, RandomSource::Cuda));
    assert_eq!(ignored, ["ENSD", "Eta"]);

    let (request, ignored) = read("lines-behind-settings");
    assert_eq!((request.prompt.as_str(), request.negative_prompt.as_str()), ("a fox", "bad"));
    assert_eq!((request.steps, request.seed, request.width), (2, 5, 64));
    assert_eq!(ignored, ["Template", "Negative Template"]);

    let (request, _) = read("utf8-in-latin1-chunk");
    assert_eq!(request.prompt, "жёлтый кот, 猫 テスト");
}

/// Files in the form of other programs, and what sd-parsers reads in them
/// (`goldens/other_programs.py`).
#[test]
fn settings_of_other_programs_are_those_that_sd_parsers_reads() {
    let cases = json("other_programs/read.json");
    let cases = cases.as_object().expect("files by name");
    assert_eq!(cases.len(), 6);
    for (name, case) in cases {
        let file = path("other_programs").join(format!("{name}.png"));
        let found = metadata::read_parameters(&file).expect("it has a meaning").expect("there are settings");
        let prompt = found.prompt.split(" <lora:").next().unwrap_or_default();
        assert_eq!(
            (prompt, found.negative_prompt.as_str()),
            (case["prompt"].as_str().unwrap_or_default(), "blurry")
        );
        let mut request = TextToImage::default();
        found.apply(&mut request).expect("a request that we could meet");
        assert_eq!(Some(request.seed), case["seed"].as_u64(), "{name}");
        assert_eq!(Some(f64::from(request.guidance_scale)), case["cfg_scale"].as_f64(), "{name}");
        if let Some(steps) = case["steps"].as_u64() {
            assert_eq!(request.steps as u64, steps, "{name}");
        }
        if let Some(model) = case["model"].as_str() {
            assert_eq!(found.get("Model"), Some(model), "{name}");
        }
        let sampler = case["sampler"].as_str().unwrap_or_default();
        let sampler = sampler.trim_start_matches("k_").trim_end_matches("_gpu");
        let expected = SamplerChoice::parse(Some(sampler), None).expect("a known sampler").kind;
        assert_eq!(request.sampler.kind, expected, "{name}");
    }
}
