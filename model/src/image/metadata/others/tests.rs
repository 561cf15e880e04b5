//! Settings of other programs, in the form in which they are published.

use super::*;
use crate::generate::TextToImage;
use crate::{RandomSource, SamplerChoice};

fn found(texts: &[(&str, &str)]) -> Parameters {
    let texts: Vec<_> = texts.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    read(&texts).expect("it has a meaning").expect("it is known")
}

#[track_caller]
fn applied(parameters: &Parameters) -> TextToImage {
    let mut request = TextToImage::default();
    parameters.apply(&mut request).expect("all values are known");
    request
}

const GRAPH: &str = r#"{
    "3": {"class_type": "KSampler", "inputs": {"seed": ["20", 0], "steps": 25, "cfg": 6.5, "sampler_name": "dpmpp_2m",
        "scheduler": "karras", "denoise": 1.0, "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0],
        "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15\\dreamshaper_8.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a (red:1.2) fox", "clip": ["11", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": ["21", 0], "clip": ["11", 0]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["8", 0]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "detail.safetensors", "strength_model": 0.8,
        "strength_clip": 0.5, "model": ["4", 0], "clip": ["4", 1]}},
    "11": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]}},
    "20": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
    "21": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "blurry"}},
    "30": {"class_type": "ImageSharpen", "inputs": {"image": ["8", 0], "alpha": 1.0}}
}"#;

#[test]
fn a_plain_graph_of_comfyui() {
    let parameters = found(&[("workflow", "{}"), ("prompt", GRAPH)]);
    assert_eq!(parameters.prompt, "a (red:1.2) fox <lora:detail:0.5:0.8>");
    let request = applied(&parameters);
    assert_eq!(request.negative_prompt, "blurry");
    let numbers = (request.steps, request.guidance_scale, request.seed, request.width, request.height);
    assert_eq!(numbers, (25, 6.5, 42, 512, 768));
    assert_eq!((request.clip_skip, request.rng), (2, RandomSource::Cpu));
    assert_eq!(request.sampler, SamplerChoice::parse(Some("DPM++ 2M"), Some("karras")).expect("known"));
    assert_eq!(parameters.get("Model"), Some("dreamshaper_8"));
    assert_eq!(parameters.ignored().collect::<Vec<_>>(), ["Prompt weights", "ImageSharpen"]);
}

#[test]
fn a_graph_that_is_not_plain_is_refused() {
    let refused = |graph: &str| {
        let error = read(&[("prompt".into(), graph.into())]).expect_err("not plain").to_string();
        assert!(error.contains("ComfyUI"), "{error}");
        error
    };
    assert!(refused("{}").contains("has 0 samplers"));
    let second = GRAPH.replacen("{", r#"{"2": {"inputs": {"sampler_name": "a", "steps": 1, "cfg": 1}},"#, 1);
    assert!(refused(&second).contains("has 2 samplers"));
    let combined = GRAPH.replace("\"text\": \"a (red:1.2) fox\"", "\"conditioning_1\": [\"7\", 0]");
    assert!(refused(&combined).contains("`CLIPTextEncode`"));
    let circle = r#"{"1": {"class_type": "KSampler", "inputs": {"sampler_name": "euler", "steps": ["1", 0], "cfg": 1,
        "model": ["1", 0]}}}"#;
    found(&[("prompt", circle)]);
}

#[test]
fn invokeai_in_its_three_forms() {
    let new = r#"{"generation_mode": "txt2img", "positive_prompt": "a fox", "negative_prompt": "dark", "width": 512,
        "height": 640, "seed": 7, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 30, "scheduler": "dpmpp_2m_k",
        "clip_skip": 1, "model": {"key": "1", "name": "dreamshaper", "hash": "blake3:12"}, "app_version": "5.0.0",
        "loras": [{"weight": 1}], "seamless_x": false}"#;
    let parameters = found(&[("invokeai_metadata", new), ("invokeai_graph", "{}")]);
    let request = applied(&parameters);
    assert_eq!((request.prompt.as_str(), request.negative_prompt.as_str()), ("a fox", "dark"));
    assert_eq!((request.steps, request.seed, request.height, request.clip_skip), (30, 7, 640, 2));
    assert_eq!(request.sampler, SamplerChoice::parse(Some("DPM++ 2M"), Some("karras")).expect("known"));
    assert_eq!(parameters.ignored().collect::<Vec<_>>(), ["loras"]);

    let older = r#"{"model": "stable diffusion", "model_weights": "sd-1.5", "image": {"prompt": [{"prompt":
        "a fox [dark, blurry]", "weight": 1.0}], "steps": 50, "cfg_scale": 7.5, "sampler": "k_lms", "seed": 9,
        "width": 512, "height": 512, "type": "txt2img"}}"#;
    let dream = r#""a fox [dark, blurry]" -s 50 -S 9 -W 512 -H 512 -C 7.5 -A k_lms"#;
    for text in [("sd-metadata", older), ("Dream", dream)] {
        let request = applied(&found(&[text]));
        assert_eq!((request.prompt.as_str(), request.negative_prompt.as_str()), ("a fox", "dark, blurry"));
        assert_eq!((request.steps, request.seed, request.guidance_scale), (50, 9, 7.5));
        assert_eq!(request.sampler, SamplerChoice::parse(Some("LMS"), None).expect("known"));
    }
}

#[test]
fn novelai() {
    let comment = r#"{"steps": 28, "sampler": "k_euler_ancestral", "seed": 11, "strength": 0.69, "noise": 0.2, "scale": 11.0,
        "uc": "lowres", "noise_schedule": "native", "height": 768, "width": 512}"#;
    let texts = [
        ("Title", "AI generated image"),
        ("Description", "{fox} in the snow"),
        ("Software", "NovelAI"),
        ("Source", "Stable Diffusion 1D44365E"),
        ("Comment", comment),
    ];
    let parameters = found(&texts);
    let request = applied(&parameters);
    assert_eq!((request.prompt.as_str(), request.negative_prompt.as_str()), ("{fox} in the snow", "lowres"));
    assert_eq!((request.steps, request.guidance_scale, request.rng), (28, 11.0, RandomSource::Cuda));
    assert_eq!(parameters.get("Model"), Some("Stable Diffusion"));
    assert_eq!(parameters.ignored().collect::<Vec<_>>(), ["Prompt weights"]);
}

#[test]
fn fooocus() {
    let text = r#"{"prompt": "a fox", "negative_prompt": "", "styles": "['Fooocus V2']", "steps": 30,
        "resolution": "(1024, 768)", "guidance_scale": 4.0, "sharpness": 2.0, "base_model": "dreamshaper_8",
        "base_model_hash": "879db523c3", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "123",
        "clip_skip": 2, "version": "Fooocus v2.5.5", "metadata_scheme": "fooocus"}"#;
    let parameters = found(&[("parameters", text)]);
    let request = applied(&parameters);
    assert_eq!((request.width, request.height, request.seed, request.clip_skip), (1024, 768, 123, 2));
    assert_eq!(request.sampler, SamplerChoice::parse(Some("DPM++ 2M SDE"), Some("karras")).expect("known"));
    assert_eq!(parameters.get("Model hash"), Some("879db523c3"));
    assert_eq!(parameters.ignored().collect::<Vec<_>>(), ["styles", "sharpness"]);
}

#[test]
fn names_of_samplers_are_known() {
    let invokeai = "ddim ddpm deis lms lms_k pndm heun heun_k euler euler_k euler_a kdpm_2 kdpm_2_k kdpm_2_a dpmpp_2s \
                    dpmpp_2s_k dpmpp_2m dpmpp_2m_k dpmpp_2m_sde dpmpp_2m_sde_k dpmpp_sde dpmpp_sde_k unipc lcm tcd";
    let novelai = "k_euler k_euler_ancestral k_dpmpp_2m k_dpmpp_2s_ancestral k_dpmpp_sde ddim_v3 k_dpm_2";
    for name in invokeai.split_whitespace().chain(novelai.split_whitespace()) {
        let mut parameters = Parameters::default();
        sampler_into(&mut parameters, name, None);
        assert!(applied(&parameters).sampler.kind.is_some(), "{name}");
    }
}

#[test]
fn a1111s_own_text_is_left_to_its_reader() {
    let texts = [("parameters".to_owned(), "a fox\nSteps: 1, Seed: 2, Size: 8x8".to_owned())];
    assert_eq!(read(&texts).expect("it has a meaning"), None);
    assert_eq!(read(&[]).expect("nothing"), None);
}
