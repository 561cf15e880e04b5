//! `--save-steps`: a run as a strip. Above, what the UNet at each step takes for the finished
//! picture; below, what it saw.

use aquatint_model::networks::vae::Projection;
use aquatint_model::{Error, Image, Pipeline, ResizeMode, StepInfo};
use aquatint_tensor::View;

use crate::flags::run::Preview;

/// Pixels of the longer side of a small picture.
const READABLE: usize = 128;

/// The latents of a run's steps.
pub(crate) struct Strip {
    every: usize,
    /// `[channels, height, width]`
    shape: [usize; 3],
    /// Of each step, "step 5/20" and "sigma 3.86".
    captions: Vec<[String; 2]>,
    /// For each picture, for each step: predicted picture and model input.
    steps: Vec<Vec<[Vec<f32>; 2]>>,
    /// For each picture, its last latents, and what the VAE made of them.
    finished: Vec<(Vec<f32>, Image)>,
}

impl Strip {
    pub(crate) fn new(every: usize) -> Self {
        Self { every, shape: [0; 3], captions: Vec::new(), steps: Vec::new(), finished: Vec::new() }
    }

    /// Takes note of every Nth step, and of the last.
    pub(crate) fn record(&mut self, info: &StepInfo<'_>) {
        if self.shape != info.shape() {
            // The second pass of an enlarged picture has a strip of its own.
            self.shape = info.shape();
            self.steps.clear();
        }
        self.steps.resize_with(info.pictures(), Vec::new);
        if info.done.is_multiple_of(self.every) || info.done == info.total {
            let sigma = info.sigma();
            self.captions.push([format!("step {}/{}", info.done, info.total), format!("sigma {sigma:.2}")]);
            for (i, steps) in self.steps.iter_mut().enumerate() {
                steps.push([info.pred_original_sample(i), info.model_input(i)]);
            }
        }
    }

    /// "every 2 steps": for the strip's text.
    pub(crate) fn describe(&self) -> String {
        if self.every == 1 { "every step".into() } else { format!("every {} steps", self.every) }
    }

    pub(crate) fn finished(&mut self, latents: &[f32], picture: &Image) {
        self.finished.push((latents.to_vec(), picture.clone()));
    }

    /// The strip of one picture; `None` if it was ended before the first step that counts.
    pub(crate) fn picture(
        &self,
        index: usize,
        preview: Preview,
        pipeline: &Pipeline,
    ) -> Result<Option<Image>, Error> {
        let steps = &self.steps[index];
        if steps.is_empty() {
            return Ok(None);
        }
        let (latents, picture) = &self.finished[index];
        let [channels, height, width] = self.shape;
        let projection = Projection::fit(self.shape, latents, picture);
        let shape = [1, channels, height, width];
        let show = |latents: &Vec<f32>| match preview {
            Preview::Vae => pipeline.decode_latents(View::from_slice(shape, latents)),
            Preview::Taesd => pipeline.decode_preview(View::from_slice(shape, latents)),
            Preview::Linear => {
                // A quarter of the picture's sides, but no smaller than can be looked at.
                let full = [picture.width(), picture.height()];
                let shown = (full[0].max(full[1]) / 4).max(READABLE).min(full[0].max(full[1]));
                let size = full.map(|side| (side * shown / full[0].max(full[1])).max(1));
                Ok(projection.picture(latents).resized(size[0], size[1], ResizeMode::Stretch))
            }
        };
        // First all guesses, then all inputs.
        let latents = (0..2).flat_map(|which| steps.iter().map(move |step| &step[which]));
        let captions = (0..2).flat_map(|which| self.captions.iter().map(move |captions| &captions[which]));
        let captioned = latents.zip(captions).map(|(latents, caption)| Ok(show(latents)?.captioned(caption)));
        let pictures: Vec<_> = captioned.collect::<Result<_, Error>>()?;
        Ok(Some(Image::sheet(&pictures, steps.len())))
    }
}
