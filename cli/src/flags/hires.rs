//! Flags of the second pass that makes a picture larger: A1111's hires fix.

use clap::Args;

/// Any of them asks for a second pass.
#[derive(Args, Clone)]
#[command(next_help_heading = "A second pass that makes the picture larger (hires fix)")]
pub(crate) struct HiresFlags {
    /// How many times wider and higher the picture becomes: it is made at its size, enlarged, and
    /// denoised once more. 0 makes no second pass of a picture's settings [default: none, or 2 with
    /// one of the flags below].
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub(crate) hires_scale: Option<f64>,

    /// Steps of the second pass [default: as many as --steps].
    #[arg(long, value_name = "N")]
    pub(crate) hires_steps: Option<u16>,

    /// How much the second pass replaces, from above 0 to 1 (all) [default: 0.7].
    #[arg(long, value_name = "STRENGTH", allow_negative_numbers = true)]
    pub(crate) hires_strength: Option<f64>,

    /// How the picture is enlarged: latent, latent-antialiased, latent-bicubic,
    /// latent-bicubic-antialiased, latent-nearest or latent-nearest-exact for its latents, lanczos
    /// or nearest for its pixels, or the file of an ESRGAN, Real-ESRGAN or SRVGG model [default:
    /// latent].
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) hires_upscaler: Option<String>,
}
