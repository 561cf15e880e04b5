//! Hires fix: how a picture from a text is enlarged, and denoised a second time.
//!
//! A model that was trained at 512×512 repeats heads and horizons at 1024×1024. So the composition
//! is made at the size that the model knows; the result is enlarged, and noise of a middle level is
//! taken away again, which adds details and changes no shapes. The settings and their names are
//! those of A1111's *Hires. fix*; `second_pass.rs` does it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::latent_upscale::LatentMode;
use crate::error::{Error, Result};
use crate::image::metadata::Parameters;

/// The second pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Hires {
    /// How many times wider and higher the picture becomes.
    pub scale: f64,
    /// Steps that are made; 0 for as many as in the first pass.
    pub steps: usize,
    /// From which noise level they lead to the picture: 1 is all noise.
    pub strength: f64,
    /// How the picture is enlarged.
    pub upscaler: Upscaler,
}

impl Default for Hires {
    /// A1111's values.
    fn default() -> Self {
        Self { scale: 2.0, steps: 0, strength: 0.7, upscaler: Upscaler::Latent(LatentMode::Bilinear) }
    }
}

/// How the result of the first pass is enlarged.
#[derive(Clone, Debug, PartialEq)]
pub enum Upscaler {
    /// Its latents; the second pass begins without the VAE, and needs a strength above 0.5 to make
    /// something sharp of them.
    Latent(LatentMode),
    /// Its pixels, by Lanczos' filter.
    Lanczos,
    /// Its pixels, each repeated.
    Nearest,
    /// Its pixels, by the network in a file: see [`crate::networks::upscaler`].
    Model(PathBuf),
}

/// A1111's labels.
const LABELS: [(Upscaler, &str); 8] = [
    (Upscaler::Latent(LatentMode::Bilinear), "Latent"),
    (Upscaler::Latent(LatentMode::BilinearAntialiased), "Latent (antialiased)"),
    (Upscaler::Latent(LatentMode::Bicubic), "Latent (bicubic)"),
    (Upscaler::Latent(LatentMode::BicubicAntialiased), "Latent (bicubic antialiased)"),
    (Upscaler::Latent(LatentMode::Nearest), "Latent (nearest)"),
    (Upscaler::Latent(LatentMode::NearestExact), "Latent (nearest-exact)"),
    (Upscaler::Lanczos, "Lanczos"),
    (Upscaler::Nearest, "Nearest"),
];

impl fmt::Display for Upscaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Model(path) = self {
            return write!(f, "{}", path.file_stem().unwrap_or_default().display());
        }
        let label = LABELS.iter().find(|(upscaler, _)| upscaler == self).map_or("", |(_, label)| label);
        f.write_str(label)
    }
}

/// By A1111's label, of which only letters count, so that `latent-bicubic` is one as well; or the
/// path of a file. A1111's `None` enlarges by Lanczos' filter.
impl FromStr for Upscaler {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let letters = |text: &str| {
            text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
        };
        let wanted = letters(text);
        if wanted == "none" {
            return Ok(Self::Lanczos);
        }
        let found = LABELS.iter().find(|(_, label)| letters(label) == wanted);
        let file = || Path::new(text).is_file().then(|| Self::Model(text.into()));
        found.map(|(upscaler, _)| upscaler.clone()).or_else(file).ok_or_else(|| {
            let labels = LABELS.map(|(_, label)| label).join(", ");
            Error::request(format_args!(
                "there is no upscaler `{text}`; expected one of {labels}, or the file of an upscaler"
            ))
        })
    }
}

impl Hires {
    /// Above this a typing error is likelier than intent.
    const LARGEST_SCALE: f64 = 16.0;

    /// The second pass of a picture of ours or of A1111, if its text has one; `size` is that of the
    /// first pass.
    ///
    /// # Errors
    /// `Request` if a value has no meaning.
    pub(super) fn of(stored: &Parameters, [width, height]: [usize; 2]) -> Result<Option<Self>> {
        if !stored.settings.iter().any(|(key, _)| key.starts_with("Hires ")) {
            return Ok(None);
        }
        let mut hires = Self::default();
        if let Some(scale) = stored.parsed("Hires upscale", "a number")? {
            hires.scale = scale;
        } else if let Some(text) = stored.get("Hires resize") {
            let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
            let (wide, high): (usize, usize) =
                sides.filter(|(w, h)| w * height == h * width).ok_or_else(|| {
                    let expected = "width and height in the proportions of the first pass";
                    Error::request(format_args!(
                        "the picture says `Hires resize: {text}`; expected {expected}"
                    ))
                })?;
            hires.scale = wide.max(high) as f64 / width.max(height) as f64;
        }
        hires.steps = stored.parsed("Hires steps", "a number of steps")?.unwrap_or(0);
        hires.strength = stored.parsed("Denoising strength", "a number")?.unwrap_or(hires.strength);
        if let Some(name) = stored.get("Hires upscaler") {
            hires.upscaler = name.parse()?;
        }
        Ok(Some(hires))
    }

    /// Writes the settings down as A1111 does; the strength is behind the model.
    pub(super) fn describe(&self, parameters: &mut Parameters) {
        parameters.insert_after("Model", "Denoising strength", self.strength);
        parameters.push("Hires upscale", self.scale);
        if self.steps > 0 {
            parameters.push("Hires steps", self.steps);
        }
        parameters.push("Hires upscaler", &self.upscaler);
    }

    /// The size of the finished picture, in multiples of `multiple`, which is cut off.
    pub(super) fn size(&self, first: [usize; 2], multiple: usize) -> [usize; 2] {
        first.map(|side| (side as f64 * self.scale) as usize / multiple * multiple)
    }

    /// Steps that are made, and the steps of the whole schedule whose last ones they are: A1111
    /// lengthens the schedule by 1/strength.
    ///
    /// → `[made, whole]`
    pub(super) fn schedule(&self, first_pass: usize) -> [usize; 2] {
        let made = if self.steps > 0 { self.steps } else { first_pass };
        [made, (made as f64 / self.strength.min(0.999)) as usize]
    }

    /// Whether the values have a meaning.
    pub(super) fn check(&self) -> Result<()> {
        if !(1.0..=Self::LARGEST_SCALE).contains(&self.scale) {
            return Err(Error::request(format_args!(
                "the second pass enlarges {} times; expected 1 to {}",
                self.scale,
                Self::LARGEST_SCALE
            )));
        }
        if !(self.strength > 0.0 && self.strength <= 1.0) {
            return Err(Error::request(format_args!(
                "the strength of the second pass is {}; expected above 0, up to 1",
                self.strength
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_upscaler_is_found_by_its_label_and_by_a_short_name() {
        for (upscaler, label) in LABELS {
            assert_eq!(label.parse::<Upscaler>().expect("its own label"), upscaler);
            assert_eq!(upscaler.to_string(), label);
        }
        let short = "latent-bicubic-antialiased".parse::<Upscaler>().expect("a short name");
        assert_eq!(short, Upscaler::Latent(LatentMode::BicubicAntialiased));
        assert_eq!("None".parse::<Upscaler>().expect("A1111 has it"), Upscaler::Lanczos);
        let error = "R-ESRGAN 4x+".parse::<Upscaler>().expect_err("a file").to_string();
        assert!(error.contains("`R-ESRGAN 4x+`; expected one of Latent, "), "{error}");
    }

    /// A1111: `int(steps / min(strength, 0.999))` steps, of which the last are made.
    #[test]
    fn the_schedule_is_lengthened_as_a1111_does() {
        for (steps, strength, first_pass, expected) in
            [(0, 0.7, 20, [20, 28]), (10, 0.5, 20, [10, 20]), (0, 1.0, 20, [20, 20]), (3, 0.35, 9, [3, 8])]
        {
            let hires = Hires { steps, strength, ..Hires::default() };
            assert_eq!(hires.schedule(first_pass), expected, "{steps} {strength}");
        }
    }

    #[test]
    fn a_resize_is_read_as_a_scale() {
        let text =
            |resize: &str| Parameters::parse(&format!("p\nSteps: 9, CFG scale: 2, Hires resize: {resize}"));
        let read = |resize: &str| Hires::of(&text(resize), [512, 768]);
        assert_eq!(read("768x1152").expect("proportional").map(|hires| hires.scale), Some(1.5));
        let error = read("768x768").expect_err("distorted").to_string();
        assert!(error.contains("`Hires resize: 768x768`; expected"), "{error}");
    }
}
