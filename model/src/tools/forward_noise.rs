//! The forward process: what a picture looks like after more and more noise. Nothing here is needed
//! to make pictures.
//!
//! ```text
//! x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · noise     x_0 = vae.encode(image); ᾱ falls from almost 1 to 0
//! ```
//!
//! **Why does noise let a model learn?** To draw a picture out of nothing is a task without a right
//! answer: many pictures would do, and the average of them, which is what training settles on, is a
//! grey fog. To say which noise was added to a given picture *has* an answer, and exercises are
//! free: take a picture, draw noise, mix, and ask. With little noise (small t) the answer lies in
//! edges and textures; with much of it only in the large shapes; at the end nothing is left of the
//! picture, and what is left is known exactly: a normal distribution, from which one can draw. So
//! the one impossible step is cut into a thousand small ones, each of which can be learned alone,
//! and undone one after the other.
//!
//! The strength of `img2img.rs` chooses among the t of this strip. Source: Ho et al., *Denoising
//! Diffusion Probabilistic Models* (2020), equation 4; diffusers' `add_noise`.

use crate::error::{Error, Result};
use crate::generate::Pipeline;
use crate::image::Image;
use crate::rng::Generator;
use crate::samplers::{self, SamplerChoice, SamplerKind};

impl Pipeline {
    /// `picture` with the noise of each timestep, in latent space, decoded. The noise is the same
    /// in all of them, drawn from `seed`. With `vae_tiling` the VAE works in strips.
    ///
    /// # Errors
    /// `Request` if the model was not trained at one of the timesteps; see also
    /// [`Pipeline::encode`].
    pub fn noised(
        &self,
        picture: &Image,
        timesteps: &[usize],
        seed: u64,
        vae_tiling: bool,
    ) -> Result<Vec<Image>> {
        let choice = SamplerChoice { kind: Some(SamplerKind::Ddim), ..SamplerChoice::default() };
        let build = |spacing: &str, steps| {
            let config = self.scheduler.clone().with("timestep_spacing", spacing).with("steps_offset", 0);
            samplers::build(&config, choice, steps)
        };
        // One trailing step begins at the model's last timestep.
        let trained = build("trailing", 1)?.timesteps()[0] as usize + 1;
        if let Some(t) = timesteps.iter().find(|&&t| t >= trained) {
            let last = trained - 1;
            return Err(Error::request(format_args!(
                "timestep {t} is beyond the model's last; expected 0 to {last}"
            )));
        }
        // A sampler that visits every training timestep, from the noisiest down, knows them all.
        let sampler = build("leading", trained)?;

        let clean = match vae_tiling {
            true => self.encode_in_strips(picture)?,
            false => self.encode(picture)?,
        };
        let noise = Generator::new(seed).randn(clean.len());
        let noised = |&t: &usize| {
            let mut latents = clean.as_slice().to_vec();
            sampler.add_noise(&mut latents, &noise, trained - 1 - t);
            self.decode(clean.shape(), latents, vae_tiling)
        };
        timesteps.iter().map(noised).collect()
    }
}
