//! The three networks of Stable Diffusion, and the layers that they are made of.

pub mod clip;
pub mod layers;
pub mod unet;
pub mod vae;
