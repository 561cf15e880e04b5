//! ComfyUI: the graph of nodes that was executed, followed from its sampler.
//!
//! ```text
//! KSampler.model          → LoraLoader … → CheckpointLoaderSimple.ckpt_name
//!         .positive       → CLIPTextEncode.text       .clip → CLIPSetLastLayer
//!         .negative       → the same
//!         .latent_image   → EmptyLatentImage.width, height   or VAEEncode: a picture to begin with
//! ```
//!
//! A value is a number or text, or a link `["node", output]`. Nodes that are not on this way are
//! listed as ignored. Noise is drawn on the CPU; weights of prompts are ComfyUI's, whose mean is
//! not restored.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Parameters, note_syntax, said, sampler_into};
use crate::error::{Error, Result};

/// A link may go through nodes that only pass it on; longer chains go in circles.
const LONGEST_CHAIN: usize = 64;

/// Nodes that show or save a picture, or decode it, and change nothing in it.
const WITHOUT_EFFECT: [&str; 6] =
    ["SaveImage", "PreviewImage", "VAEDecode", "VAEDecodeTiled", "Note", "MarkdownNote"];

type Graph = Map<String, Value>;

/// Follows links and remembers where it was.
struct Walk<'a> {
    graph: &'a Graph,
    seen: BTreeSet<&'a str>,
}

#[derive(Clone, Copy)]
struct Node<'a> {
    class: &'a str,
    inputs: &'a Value,
}

/// The settings of a graph with one sampler.
///
/// # Errors
/// `Request` if it has none or several, or if a prompt is put together by nodes.
pub(super) fn parameters(graph: &Graph) -> Result<Parameters> {
    let is_sampler = |node: &Value| {
        let has = |key| node["inputs"].get(key).is_some();
        has("sampler_name") && has("steps") && has("cfg")
    };
    let samplers: Vec<_> = graph.iter().filter(|(_, node)| is_sampler(node)).map(|(id, _)| id).collect();
    let [sampler] = samplers[..] else {
        return Err(Error::request(format_args!(
            "the picture's ComfyUI graph has {} samplers; expected one: its settings cannot be taken over",
            samplers.len()
        )));
    };
    let mut walk = Walk { graph, seen: BTreeSet::new() };
    let sampler =
        walk.node(sampler).ok_or_else(|| Error::request("the picture's ComfyUI graph has no nodes"))?;
    let mut parameters = Parameters::default();
    let mut clip_skip = None;
    parameters.prompt = walk.prompt(sampler, "positive", &mut clip_skip)?;
    parameters.negative_prompt = walk.prompt(sampler, "negative", &mut clip_skip)?;

    for (name, key) in [("steps", "Steps"), ("cfg", "CFG scale")] {
        parameters.settings.extend(walk.value(sampler, name).map(|value| (key.to_owned(), value)));
    }
    let scheduler = walk.value(sampler, "scheduler");
    if let Some(name) = walk.value(sampler, "sampler_name") {
        sampler_into(&mut parameters, &name, scheduler.as_deref());
    }
    let seed = walk.value(sampler, "seed").or_else(|| walk.value(sampler, "noise_seed"));
    parameters.settings.extend(seed.map(|seed| ("Seed".to_owned(), seed)));
    let latents = walk.follow(sampler, "latent_image");
    if let Some(node) = latents {
        if let (Some(width), Some(height)) = (walk.value(node, "width"), walk.value(node, "height")) {
            parameters.push("Size", format_args!("{width}x{height}"));
        }
        if walk.value(node, "batch_size").is_some_and(|size| size != "1") {
            parameters.push("batch_size", "more than 1");
        }
    }
    walk.model(sampler, &mut parameters);
    let begins_with_picture = latents.is_some_and(|node| node.inputs.get("pixels").is_some());
    let denoise = walk.value(sampler, "denoise");
    if let Some(strength) =
        denoise.filter(|denoise| begins_with_picture || !["1", "1.0"].contains(&denoise.as_str()))
    {
        parameters.push("Denoising strength", strength);
    }
    parameters.settings.extend(clip_skip.map(|skip| ("Clip skip".to_owned(), skip)));
    parameters.push("RNG", "CPU");
    parameters.push("Version", "ComfyUI");
    note_syntax(&mut parameters, "ComfyUI", &['(']);
    walk.list_unseen(&mut parameters);
    Ok(parameters)
}

impl<'a> Walk<'a> {
    fn node(&mut self, id: &str) -> Option<Node<'a>> {
        let (id, node) = self.graph.get_key_value(id)?;
        self.seen.insert(id);
        Some(Node { class: node["class_type"].as_str().unwrap_or_default(), inputs: &node["inputs"] })
    }

    /// The node to which an input is linked.
    fn follow(&mut self, node: Node<'a>, input: &str) -> Option<Node<'a>> {
        let link = node.inputs.get(input)?.as_array()?.first()?;
        let id = link.as_str().map_or_else(|| link.to_string(), str::to_owned);
        self.node(&id)
    }

    /// A value of a node; where it is linked, the only value of that node.
    fn value(&mut self, node: Node<'a>, input: &str) -> Option<String> {
        let mut node = node;
        let mut value = node.inputs.get(input)?;
        for _ in 0..LONGEST_CHAIN {
            let Some(link) = value.as_array() else { return said(value) };
            let id = link.first()?;
            node = self.node(&id.as_str().map_or_else(|| id.to_string(), str::to_owned))?;
            let inputs = node.inputs.as_object()?;
            let own = ["value", "text", "string", "seed", "int", "float", "number"];
            value = own.into_iter().find_map(|name| inputs.get(name)).or_else(|| match inputs.len() {
                1 => inputs.values().next(),
                _ => None,
            })?;
        }
        None
    }

    /// The text of a condition of the sampler.
    fn prompt(&mut self, sampler: Node<'a>, input: &str, clip_skip: &mut Option<String>) -> Result<String> {
        let Some(node) = self.follow(sampler, input) else { return Ok(String::new()) };
        if node.inputs.get("text").is_none() {
            return Err(Error::request(format_args!(
                "the {input} prompt of the picture's ComfyUI graph is made by the node `{}`; expected `CLIPTextEncode`: its \
                 settings cannot be taken over",
                node.class
            )));
        }
        let mut clip = node;
        for _ in 0..LONGEST_CHAIN {
            let Some(next) = self.follow(clip, "clip") else { break };
            clip = next;
            if let Some(layer) =
                next.inputs.get("stop_at_clip_layer").and_then(Value::as_i64).filter(|&l| l < -1)
            {
                *clip_skip = Some((-layer).to_string());
            }
        }
        Ok(self.value(node, "text").unwrap_or_default())
    }

    /// The checkpoint, and the adapters on the way to it as tags of the prompt.
    fn model(&mut self, sampler: Node<'a>, parameters: &mut Parameters) {
        let mut node = sampler;
        for _ in 0..LONGEST_CHAIN {
            let Some(next) = self.follow(node, "model") else { break };
            node = next;
            let name = |file: &str| {
                let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
                name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
            };
            if let Some(file) = self.value(node, "ckpt_name") {
                parameters.push("Model", name(&file));
            } else if let Some(file) = self.value(node, "lora_name") {
                let mut weight = |input| self.value(node, input).unwrap_or_else(|| "1".into());
                let (unet, text) = (weight("strength_model"), weight("strength_clip"));
                parameters.prompt.push_str(&format!(" <lora:{}:{text}:{unet}>", name(&file)));
            } else {
                parameters.push(node.class, "a node between model and sampler");
            }
        }
    }

    /// Lists the nodes that were not on the way.
    fn list_unseen(&self, parameters: &mut Parameters) {
        let unseen = self.graph.iter().filter(|(id, _)| !self.seen.contains(id.as_str()));
        let classes = unseen.filter_map(|(_, node)| node["class_type"].as_str());
        let classes: BTreeSet<_> = classes.filter(|class| !WITHOUT_EFFECT.contains(class)).collect();
        for class in classes {
            parameters.push(class, "a node");
        }
    }
}
