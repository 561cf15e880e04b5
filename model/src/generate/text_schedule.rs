//! What the UNet attends to at each of its calls.
//!
//! A prompt may change during the run (`[a:b:0.5]`) and have several parts (`a AND b`). Each
//! different set of texts goes through the text encoder once; the keys and values that the UNet
//! makes of it are computed again whenever it takes the place of another, which is little beside a
//! step.

use super::load::loaded;
use super::pipeline::Pipeline;
use super::request::TextToImage;
use crate::error::{Error, Result};
use crate::text::conditioning::TextConditioning;
use crate::text::prompt::PromptSyntax;
use crate::text::prompt::composition::{self, Part};
use crate::text::prompt::extra_networks::without_tags;
use crate::text::prompt::schedule::{Scheduled, index_at, schedule};

/// The texts of a run, encoded.
pub(super) struct TextSchedule {
    /// The different ones. Of each: the negative prompt, if there is guidance by it, and the parts
    /// of the prompt.
    pub(super) conditionings: Vec<TextConditioning>,
    /// Which of them each call of the UNet sees.
    pub(super) of_call: Vec<usize>,
    /// How strongly each part of the prompt counts.
    pub(super) weights: Vec<f32>,
}

impl TextSchedule {
    /// What a call sees. A second pass, over a larger picture, sees what the last call of the first
    /// has seen.
    pub(super) fn at(&self, call: usize) -> &TextConditioning {
        &self.conditionings[self.index(call)]
    }

    /// Whether a call sees other texts than the one before.
    pub(super) fn changes_at(&self, call: usize) -> bool {
        call > 0 && self.index(call) != self.index(call - 1)
    }

    fn index(&self, call: usize) -> usize {
        self.of_call.get(call).or(self.of_call.last()).copied().unwrap_or(0)
    }
}

/// The texts of a request as schedules.
pub(super) struct Prompts {
    /// Without guidance by a second text there is none.
    negative: Option<Vec<Scheduled>>,
    /// The parts of the prompt.
    parts: Vec<Vec<Scheduled>>,
    pub(super) weights: Vec<f32>,
}

impl Prompts {
    /// The texts of a request for a run of `calls` calls of the UNet.
    fn of(request: &TextToImage, calls: usize, guided: bool) -> Self {
        let as_it_is = |text: &str| vec![Scheduled { until: calls, text: text.to_owned() }];
        let (parts, negative) = match request.prompt_syntax {
            PromptSyntax::Plain => {
                (vec![Part { text: request.prompt.clone(), weight: 1.0 }], as_it_is(&request.negative_prompt))
            }
            // As in A1111, adapters are asked for in the prompt alone, and only it has parts.
            PromptSyntax::A1111 => (
                composition::parts(&without_tags(&request.prompt)),
                schedule(&request.negative_prompt, calls),
            ),
        };
        let weights = parts.iter().map(|part| part.weight).collect();
        let parts = parts.iter().map(|part| match request.prompt_syntax {
            PromptSyntax::Plain => as_it_is(&part.text),
            PromptSyntax::A1111 => schedule(&part.text, calls),
        });
        Self { negative: guided.then_some(negative), parts: parts.collect(), weights }
    }

    /// The texts that a call sees, the negative prompt first.
    fn at(&self, call: usize) -> Vec<&str> {
        let text = |texts: &'_ Vec<Scheduled>| index_at(texts, call);
        let all = self.negative.iter().chain(&self.parts);
        all.map(|texts| texts[text(texts)].text.as_str()).collect()
    }

    /// The different sets of texts of the first `calls` calls, and which of them each call sees.
    pub(super) fn sets(&self, calls: usize) -> (Vec<Vec<&str>>, Vec<usize>) {
        let mut sets: Vec<Vec<&str>> = Vec::new();
        let of_call = (0..calls).map(|call| {
            let texts = self.at(call);
            sets.iter().position(|set| *set == texts).unwrap_or_else(|| {
                sets.push(texts);
                sets.len() - 1
            })
        });
        let of_call = of_call.collect();
        (sets, of_call)
    }

    /// The different texts of the prompt, or of the negative prompt, by their names.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let negative = self.negative.iter().flatten().map(|at| ("negative prompt", at.text.as_str()));
        negative.chain(self.parts.iter().flatten().map(|at| ("prompt", at.text.as_str())))
    }

    /// The weight of a prompt of a single part, if it is not 1.
    pub(super) fn single_weight(&self) -> Option<f32> {
        let single = <[f32; 1]>::try_from(self.weights.as_slice()).ok();
        single.map(|[weight]| weight).filter(|&weight| weight != 1.0)
    }
}

impl TextToImage {
    /// How many texts each call of the UNet sees, if the guidance scale is no input of it.
    pub(super) fn texts(&self) -> usize {
        let parts = match self.prompt_syntax {
            PromptSyntax::Plain => 1,
            PromptSyntax::A1111 => composition::parts(&without_tags(&self.prompt)).len(),
        };
        parts + usize::from(self.guided() || parts > 1)
    }
}

impl Pipeline {
    /// The texts of a request.
    ///
    /// # Errors
    /// `Request` if the model cannot weigh prompts against each other.
    pub(super) fn prompts(&self, request: &TextToImage, calls: usize) -> Result<Prompts> {
        let mut prompts = Prompts::of(request, calls, self.classifier_free_guidance(request));
        let weighed = prompts.weights.len() > 1 || prompts.single_weight().is_some();
        if weighed && self.unet_config.time_cond_proj_dim.is_some() {
            return Err(Error::request(
                "the prompt has parts with weights (`AND`, or `:1.2` at its end), which need guidance by a negative prompt; this \
                 model takes the guidance scale as an input instead: expected a prompt of one part",
            ));
        }
        if weighed && prompts.negative.is_none() {
            prompts.negative = Some(schedule(&request.negative_prompt, calls));
        }
        Ok(prompts)
    }

    /// Loads the text encoders; they stay in memory as long as what is returned.
    pub(super) fn hold_text_encoders(
        &self,
        callbacks: &mut dyn super::Callbacks,
    ) -> Result<Vec<std::sync::Arc<crate::networks::clip::ClipTextModel>>> {
        let encoders = self.text_encoders.iter();
        encoders.map(|encoder| loaded(&encoder.network, encoder.component, callbacks)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(prompt: &str, negative: &str) -> TextToImage {
        TextToImage {
            prompt: prompt.into(),
            negative_prompt: negative.into(),
            prompt_syntax: PromptSyntax::A1111,
            ..TextToImage::default()
        }
    }

    #[test]
    fn each_set_of_texts_is_encoded_once() {
        let request = request("[a|b] AND c :0.5 <lora:x:1>", "[d:e:2]");
        let prompts = Prompts::of(&request, 6, true);
        let (sets, of_call) = prompts.sets(6);
        // The first text of a schedule has a call more than it says.
        assert_eq!(of_call, [0, 0, 1, 2, 3, 2]);
        assert_eq!(sets, [["d", "a", " c"], ["d", "b", " c"], ["e", "a", " c"], ["e", "b", " c"]]);
        assert_eq!(prompts.weights, [1.0, 0.5]);
        assert_eq!(request.texts(), 3);
    }

    #[test]
    fn plain_prompts_have_no_syntax() {
        let request = TextToImage { prompt_syntax: PromptSyntax::Plain, ..request("[a|b] AND c:2", "") };
        let prompts = Prompts::of(&request, 4, false);
        assert_eq!(prompts.sets(4), (vec![vec!["[a|b] AND c:2"]], vec![0; 4]));
        assert_eq!((prompts.single_weight(), request.texts()), (None, 2));
    }
}
