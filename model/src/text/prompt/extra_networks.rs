//! `<lora:detail:0.8>` in a prompt: which adapters it asks for.
//!
//! ```text
//! <lora:name>             weight 1
//! <lora:name:0.8>         0.8
//! <lora:name:0.5:0.8>     0.5 in the text encoder, 0.8 in the UNet; also te=0.5, unet=0.8
//! ```
//!
//! As in A1111, a tag is no part of the text that is read, and only those of the prompt count, not
//! those of the negative prompt. `<lyco:…>` is the same; other tags, such as `<hypernet:…>`, cannot
//! be met.

use std::sync::LazyLock;

use regex::Regex;

use crate::error::{Error, Result};

/// An adapter that a prompt asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// The name of its file without ending.
    pub name: String,
    /// Its weight in the text encoder.
    pub text_encoder: f32,
    /// Its weight in the UNet.
    pub unet: f32,
}

static TAG: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"<(lora|lyco|hypernet):([^<>]+)>").expect("the expression is valid"));

/// The tags of a prompt.
///
/// # Errors
/// `Request` if a weight is no number, or if something else than an adapter is asked for.
pub fn tags(prompt: &str) -> Result<Vec<Tag>> {
    TAG.captures_iter(prompt).map(|found| tag(&found[0], &found[1], &found[2])).collect()
}

fn tag(whole: &str, kind: &str, arguments: &str) -> Result<Tag> {
    let refused = |message: &str| Error::request(format_args!("`{whole}` in the prompt: {message}"));
    if kind == "hypernet" {
        return Err(refused("there are no hypernetworks here; LoRA is `<lora:name:weight>`"));
    }
    let number = |text: &str| match text.trim().parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(refused("expected a number for each weight, as in `<lora:name:0.8>`")),
    };
    let (mut positional, mut te, mut unet) = (Vec::new(), None, None);
    for argument in arguments.split(':') {
        match argument.split_once('=') {
            Some(("te", weight)) => te = Some(number(weight)?),
            Some(("unet", weight)) => unet = Some(number(weight)?),
            Some(_) => return Err(refused("expected te=, unet= or a number")),
            None => positional.push(argument),
        }
    }
    let weight = |i: usize| positional.get(i).map(|text| number(text)).transpose();
    let text_encoder = te.or(weight(1)?).unwrap_or(1.0);
    let unet = unet.or(weight(2)?).unwrap_or(text_encoder);
    let name = positional.first().copied().unwrap_or_default().trim().to_owned();
    Ok(Tag { name, text_encoder, unet })
}

/// The prompt without its tags.
pub fn without_tags(prompt: &str) -> String {
    TAG.replace_all(prompt, "").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_as_a1111_reads_them() {
        let weights = |tag: &str| {
            let tags = tags(&format!("a fox <{tag}> in the snow")).expect("a tag");
            (tags[0].name.clone(), tags[0].text_encoder, tags[0].unet)
        };
        assert_eq!(weights("lora:detail"), ("detail".into(), 1.0, 1.0));
        assert_eq!(weights("lora:more.detail:0.8"), ("more.detail".into(), 0.8, 0.8));
        assert_eq!(weights("lyco:a b:0.5:0.75"), ("a b".into(), 0.5, 0.75));
        assert_eq!(weights("lora:x:te=0:unet=-1"), ("x".into(), 0.0, -1.0));
        assert_eq!(weights("lora:x:0.3:unet=1"), ("x".into(), 0.3, 1.0));
        assert_eq!(tags("a <3 b, <cat-toy>, lora:x:1").expect("no tags"), []);
        assert_eq!(without_tags("a<lora:x:1> fox <lora:y:2>, <cat-toy>"), "a fox , <cat-toy>");
    }

    #[test]
    fn what_cannot_be_met_is_refused() {
        for tag in ["<lora:x:much>", "<lora:x:nan>", "<lora:x:lbw=1>", "<hypernet:x:1>"] {
            assert!(tags(tag).expect_err("nonsense").to_string().contains(tag));
        }
    }
}
