//! Prompts that change during the run, and prompts of several parts, against pictures that
//! diffusers made with the same embeddings at the same steps, and against what they must be equal
//! to.

use aquatint_model::{
    Image, ImageFile, LoadOptions, Pipeline, Progress, PromptSyntax, SamplerChoice, SamplerKind, Task,
    TextToImage,
};
use aquatint_tests::{json, path};

fn load() -> Pipeline {
    Pipeline::load(path("pipelines/sd1"), &LoadOptions::default()).expect("a golden folder")
}

fn request(prompt: &str) -> TextToImage {
    TextToImage {
        prompt: prompt.into(),
        negative_prompt: "a grey wall".into(),
        prompt_syntax: PromptSyntax::A1111,
        width: 64,
        height: 64,
        steps: 8,
        guidance_scale: 7.0,
        seed: 5,
        sampler: SamplerChoice { kind: Some(SamplerKind::Ddim), schedule: None },
        ..TextToImage::default()
    }
}

fn made(pipeline: &Pipeline, request: &TextToImage) -> Image {
    pipeline.text_to_image(request, &mut |_| {}).expect("a picture")
}

fn worst(a: &Image, b: &Image) -> u8 {
    a.pixels().iter().zip(b.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn pictures_are_those_of_diffusers() {
    let (pipeline, cases) = (load(), json("prompt_editing/cases.json"));
    let prompts = cases["prompts"].as_object().expect("prompts by name");
    assert_eq!(prompts.len(), 5);
    for (name, prompt) in prompts {
        let prompt = prompt.as_str().expect("a text");
        let found = made(&pipeline, &request(prompt));
        let expected =
            ImageFile::open(path(&format!("prompt_editing/{name}.png"))).expect("a golden picture").image;
        assert!(worst(&found, &expected) <= 1, "{prompt}: {} levels", worst(&found, &expected));
        let plain = made(&pipeline, &request("a red house"));
        assert!(worst(&found, &plain) > 2, "{prompt}: {} levels from one text", worst(&found, &plain));
    }
}

#[test]
fn what_means_the_same_makes_the_same_picture() {
    let pipeline = load();
    let fox = made(&pipeline, &request("a fox"));
    for prompt in
        ["a [house:fox:0]", "a [fox:house:1.0]", "a [fox::8]", "a [fox|fox]", "a fox AND a house :0"]
    {
        assert_eq!(made(&pipeline, &request(prompt)).pixels(), fox.pixels(), "{prompt}");
    }
    let strong = made(&pipeline, &TextToImage { guidance_scale: 14.0, ..request("a fox") });
    assert_eq!(made(&pipeline, &request("a fox :2")).pixels(), strong.pixels());
    let twice = made(&pipeline, &request("a fox AND a fox"));
    assert!(worst(&twice, &strong) <= 1, "the sum of two differences: {}", worst(&twice, &strong));
}

#[test]
fn a_weight_that_may_be_a_ratio_is_reported() {
    let mut reports = Vec::new();
    let request = TextToImage { steps: 1, ..request("a fox, 16:9") };
    load().text_to_image(&request, &mut |event| reports.push(event)).expect("a picture");
    assert!(reports.contains(&Progress::ReadAsWeight { weight: ":9".into() }), "{reports:?}");
}

#[test]
fn words_are_drawn_by_the_seed_and_are_in_the_picture() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("animal.txt"), "fox\nwolf\nbear\n").expect("writable");
    let spec = aquatint_model::ModelSpec {
        model: path("pipelines/sd1"),
        wildcards: Some(folder.path().into()),
        ..Default::default()
    };
    let pipeline = Pipeline::load(spec, &LoadOptions::default()).expect("a golden folder");
    let task = Task::TextToImage(TextToImage { steps: 1, ..request("a __animal__") });
    let picture = pipeline.generate(&task, 1, &mut |_| {}).expect("a picture").remove(0);
    let prompt = picture.parameters().expect("it says how it was made").prompt.clone();
    assert!(["a fox", "a wolf", "a bear"].contains(&prompt.as_str()), "{prompt}");
    assert_eq!(made(&pipeline, &TextToImage { steps: 1, ..request(&prompt) }).pixels(), picture.pixels());
    let error = pipeline.generate(&task, 2, &mut |_| {}).expect_err("two texts").to_string();
    assert!(error.contains("one at a time"), "{error}");
}
