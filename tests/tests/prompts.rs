//! Weighted prompts of any length and CLIP skip: token ids and embeddings, then whole pictures
//! within one level.
//!
//! `goldens/prompts.py` wrote out the pieces and weights of each prompt by hand and applied A1111's
//! arithmetic with torch; the pictures with CLIP skip are diffusers' own.

use aquatint_kernels::Isa;
use aquatint_model::networks::clip::{ClipTextConfig, ClipTextModel};
use aquatint_model::source::{Checkpoint, TEXT_ENCODER};
use aquatint_model::text::prompt::emphasis::{Piece, parse};
use aquatint_model::text::prompt::{PromptEncoder, PromptSyntax, chunks};
use aquatint_model::text::tokenizer::Tokenizer;
use aquatint_model::{LoadOptions, Pipeline, TextToImage};
use aquatint_tests::{Golden, json, path, relative_error};
use serde_json::Value;

const TOLERANCE: f64 = 1e-4;
const EQUAL_SHARE: f64 = 0.999;

fn tokenizer() -> Tokenizer {
    Tokenizer::load(&path("pipelines/sd1/tokenizer")).expect("a valid tokenizer")
}

fn text_encoder() -> ClipTextModel {
    let folder = path("pipelines/sd1/text_encoder");
    let config = ClipTextConfig::open(&folder.join("config.json")).expect("a valid config");
    let weights = Checkpoint::open(&folder, &TEXT_ENCODER).expect("valid weights");
    ClipTextModel::load(&weights.weights(), &config).expect("weights that fit the config")
}

fn cases() -> Vec<Value> {
    json("prompts/cases.json").as_array().expect("a list of cases").clone()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().expect("a text")
}

#[test]
fn weighted_embeddings() {
    let (tokenizer, text_encoder) = (tokenizer(), text_encoder());
    let golden = Golden::open("prompts/embeddings.safetensors");
    let prompt_encoder = PromptEncoder {
        tokenizer: &tokenizer,
        text_encoder: &text_encoder,
        syntax: PromptSyntax::A1111,
        clip_skip: 1,
    };
    let weighted: Vec<_> = cases().into_iter().filter(|case| case["syntax"] == "a1111").collect();
    assert_eq!(weighted.len(), 3);
    for case in &weighted {
        let name = text(case, "name");
        let prompts = ["negative_prompt", "prompt"]
            .map(|key| prompt_encoder.chunks(text(case, key)).expect("every text can be read").0);
        let ids = golden.integers(&format!("{name}/ids"));
        for (found, expected) in prompts.iter().zip(ids.chunks_exact(ids.len() / 2)) {
            let found: Vec<u32> = found.iter().flat_map(|chunk| chunk.ids.iter().copied()).collect();
            // What is left of the longer of the two is empty chunks.
            assert!(!found.is_empty() && found.len().is_multiple_of(77), "{name}: {} ids", found.len());
            let (given, rest) = expected.split_at(found.len());
            assert_eq!(found, given, "{name}");
            let empty = chunks::split(&[], &tokenizer).expect("every text can be read");
            assert!(rest.chunks(77).all(|chunk| chunk == empty[0].ids), "{name}: {rest:?}");
        }
        for isa in Isa::available() {
            let found = prompt_encoder.embed(isa, &prompts);
            let expected = golden.tensor(&format!("{name}/embeddings"));
            let error = relative_error(found.view(), expected.view());
            println!("{name}, {isa}: relative error {error:.1e}");
            assert!(error <= TOLERANCE, "{name}, {isa}: relative error {error:.1e} > {TOLERANCE:.0e}");
        }
    }
}

#[test]
fn pictures_with_weights_and_clip_skip() {
    for isa in Isa::available() {
        let pipeline = Pipeline::load(path("pipelines/sd1"), &LoadOptions { isa, ..LoadOptions::default() })
            .expect("a valid folder");
        for case in cases() {
            let count = |key: &str| case[key].as_u64().expect("a whole number") as usize;
            let request = TextToImage {
                prompt: text(&case, "prompt").into(),
                negative_prompt: text(&case, "negative_prompt").into(),
                prompt_syntax: match text(&case, "syntax") {
                    "a1111" => PromptSyntax::A1111,
                    _ => PromptSyntax::Plain,
                },
                clip_skip: count("clip_skip"),
                width: count("width"),
                height: count("height"),
                steps: count("steps"),
                guidance_scale: case["guidance_scale"].as_f64().expect("a number") as f32,
                seed: count("seed") as u64,
                ..TextToImage::default()
            };
            let name = text(&case, "name");
            let found = pipeline.text_to_image(&request, &mut |_| {}).expect("a picture");
            let golden =
                image::open(path("prompts").join(text(&case, "picture"))).expect("a valid PNG").into_rgb8();
            let differences: Vec<u8> =
                found.pixels().iter().zip(golden.as_raw()).map(|(a, b)| a.abs_diff(*b)).collect();
            let worst = differences.iter().max().copied().unwrap_or(0);
            let equal = differences.iter().filter(|d| **d == 0).count() as f64 / differences.len() as f64;
            println!("{name:8} {isa:8} worst {worst}, equal {:.3} %", 100.0 * equal);
            assert!(worst <= 1 && equal >= EQUAL_SHARE, "{name}, {isa}: worst {worst}, equal {equal}");
        }
    }
}

#[test]
fn layers_that_do_not_exist_cannot_be_skipped_to() {
    let pipeline = Pipeline::load(path("pipelines/sd1"), &LoadOptions::default()).expect("a valid folder");
    for clip_skip in [0, 4] {
        let request = TextToImage { clip_skip, ..pipeline.defaults() };
        let error = pipeline.text_to_image(&request, &mut |_| {}).expect_err("it has three layers");
        let expected = format!("CLIP skip is {clip_skip}; expected 1 (the last layer) to 3 (the first)");
        assert_eq!(error.to_string(), expected);
    }
}

/// How many tokens of the text are in each chunk. Every letter is a token here.
fn lengths(prompt: &str) -> Vec<usize> {
    let tokenizer = tokenizer();
    let chunks = chunks::split(&parse(prompt), &tokenizer).expect("every text can be read");
    let end = tokenizer.id("<|endoftext|>").expect("a special token");
    let length = |ids: &[u32]| ids.iter().position(|&id| id == end).expect("an end") - 1;
    chunks.iter().map(|chunk| length(&chunk.ids)).collect()
}

#[test]
fn chunks_are_cut_at_a_near_comma() {
    let letters = |n: usize| "a ".repeat(n);
    assert_eq!(lengths(""), [0]);
    assert_eq!(lengths(&letters(75)), [75]);
    assert_eq!(lengths(&letters(76)), [75, 1]);
    assert_eq!(lengths(&letters(151)), [75, 75, 1]);
    // The comma is token 56 of 75: 19 follow it in the chunk, and move to the next with the one
    // that did not fit.
    assert_eq!(lengths(&format!("{},{}", letters(55), letters(20))), [56, 20]);
    assert_eq!(lengths(&format!("{},{}", letters(54), letters(21))), [75, 1], "too far back");
    assert_eq!(lengths(&format!("{},{}", letters(75), letters(3))), [75, 4], "the comma itself did not fit");
    assert_eq!(lengths(&format!("{},{}", letters(74), letters(3))), [75, 3]);
    assert_eq!(lengths("a BREAK b c BREAK"), [1, 2]);
    assert_eq!(lengths("BREAK BREAK a"), [0, 0, 1]);
}

#[test]
fn weights_stand_at_their_tokens() {
    let pieces = [Piece::Text("a".into(), 2.0), Piece::Text("b c".into(), 0.5)];
    let chunks = chunks::split(&pieces, &tokenizer()).expect("every text can be read");
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0].weights[..5], [1.0, 2.0, 0.5, 0.5, 1.0]);
    assert_eq!((chunks[0].ids.len(), chunks[0].weights.len()), (77, 77));
}
