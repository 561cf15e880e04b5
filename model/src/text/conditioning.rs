//! What the UNet takes of the prompts.

use std::iter::repeat_n;

use aquatint_tensor::{Tensor, concat};

/// What the UNet takes of the prompts.
#[derive(Clone)]
pub(crate) struct TextConditioning {
    /// `[prompts, tokens, c]`. There are 77 tokens; of long prompts in A1111's syntax a multiple.
    pub(crate) hidden: Tensor<f32, 3>,
    /// `[prompts, c]`
    pub(crate) pooled: Option<Tensor<f32, 2>>,
    /// Sizes and crops, or scores, of models that take them: `[prompts, numbers]`.
    pub(crate) time_ids: Option<Tensor<f32, 2>>,
}

impl TextConditioning {
    /// The conditioning of images that are made together, each text for as many as its number: the
    /// first prompt of every image, then the second, if there are two.
    ///
    /// # Panics
    /// If there are no texts, or if they do not have as many prompts and tokens.
    pub(crate) fn joined(texts: &[(Self, usize)]) -> Self {
        let [prompts, ..] = texts[0].0.hidden.shape();
        let of_prompt = |prompt| texts.iter().flat_map(move |(text, n)| repeat_n((text, prompt), *n));
        let rows: Vec<_> = (0..prompts).flat_map(of_prompt).collect();
        let hidden: Vec<_> = rows.iter().map(|(text, i)| text.hidden.view().slice(0, *i..i + 1)).collect();
        let rows_of = |part: fn(&Self) -> Option<&Tensor<f32, 2>>| {
            let views = rows.iter().map(|(text, i)| Some(part(text)?.view().slice(0, *i..i + 1)));
            let views: Option<Vec<_>> = views.collect();
            views.map(|views| concat(&views, 0))
        };
        Self {
            hidden: concat(&hidden, 0),
            pooled: rows_of(|text| text.pooled.as_ref()),
            time_ids: rows_of(|text| text.time_ids.as_ref()),
        }
    }

    /// Puts zeros in place of the first prompt's vectors.
    pub(crate) fn clear_first(&mut self) {
        let own = self.hidden.len() / self.hidden.shape()[0];
        self.hidden.as_mut_slice()[..own].fill(0.0);
        if let Some(pooled) = &mut self.pooled {
            let own = pooled.len() / pooled.shape()[0];
            pooled.as_mut_slice()[..own].fill(0.0);
        }
    }

    /// All numbers of it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[f32]> {
        let more = self.pooled.iter().chain(&self.time_ids).map(Tensor::as_slice);
        std::iter::once(self.hidden.as_slice()).chain(more)
    }
}
