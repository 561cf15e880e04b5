//! Flags of the approximations: less work for nearly the same picture.

use clap::Args;

/// All are off unless they are given; `tests/APPROXIMATIONS.md` has what they cost.
#[derive(Args, Clone)]
#[command(next_help_heading = "Approximations: faster, and nearly the same picture")]
pub(crate) struct ApproximationFlags {
    /// Merge this share of the tokens in the outermost self-attentions, up to 0.75 (ToMe); 0.5 is
    /// usual [default: none].
    #[arg(long, value_name = "RATIO", allow_negative_numbers = true)]
    pub(crate) tome: Option<f64>,

    /// Compute the inner levels of the UNet at every Nth step only (DeepCache); 2 or 3 are usual
    /// [default: every step].
    #[arg(long, value_name = "N")]
    pub(crate) deep_cache: Option<u16>,

    /// Steps with guidance, as fractions; the others are made with the prompt alone, in half of the
    /// time. 0.1:0.8 is a beginning [default: 0:1].
    #[arg(long, value_name = "START:END", allow_hyphen_values = true)]
    pub(crate) guidance_interval: Option<String>,
}
