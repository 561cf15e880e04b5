//! `aquatint verify`: is a picture what its own text says?

use std::path::Path;

use aquatint_model::{Error, LoadOptions, Picture, Pipeline, TextToImage};

use crate::args::Verify;
use crate::progress::Display;
use crate::{machine, settings, warn};

/// Makes the picture again; an error if the two are not equal, after the figures went to stdout.
pub(crate) fn run(args: &Verify) -> Result<(), Error> {
    let isa = machine(args.threads.map(usize::from))?;
    let stored = settings::stored(&args.picture)?;
    let expected = read(&args.picture)?;
    stored.apply(&mut TextToImage::default())?; // refused before the model is loaded, if at all
    if stored.get("Denoising strength").is_some() {
        return Err(Error::request(
            "the picture was made from another picture, which it does not contain; expected one made by `txt2img`",
        ));
    }
    if !stored.is_ours() {
        warn("the picture was made by another program; an equal one is not to be expected");
    }

    let pipeline = Pipeline::load(&args.model, &LoadOptions { isa })?;
    pipeline.warnings().iter().for_each(warn);
    if let (Some(theirs), Some(ours)) = (stored.get("Model hash"), pipeline.model().hash())
        && theirs != ours
    {
        warn(format_args!(
            "the picture's model has the hash {theirs}, `{}` has {ours}",
            args.model.display()
        ));
    }
    let mut request = pipeline.defaults();
    stored.apply(&mut request)?;
    let mut display = Display::new();
    let found = pipeline.text_to_image(&request, &mut |event| display.update(event));
    display.finish();
    report(&found?, &expected)
}

/// The pixels of the picture.
fn read(path: &Path) -> Result<Picture, Error> {
    let image = image::open(path)
        .map_err(|e| Error::request(format_args!("cannot read `{}`: {e}", path.display())))?
        .into_rgb8();
    Ok(Picture::from_rgb(image.width() as usize, image.height() as usize, image.into_raw()))
}

fn report(found: &Picture, expected: &Picture) -> Result<(), Error> {
    let [found_size, expected_size] = [found, expected].map(|picture| (picture.width(), picture.height()));
    if found_size != expected_size {
        let ((w, h), (w2, h2)) = (found_size, expected_size);
        return Err(Error::run(format_args!("the picture has {w2}×{h2} pixels, its text says {w}×{h}")));
    }
    let Difference { largest, equal, psnr } = Difference::of(found.pixels(), expected.pixels());
    if largest == 0 {
        println!("equal");
        return Ok(());
    }
    println!(
        "different: PSNR {psnr:.2} dB, largest difference {largest} of 255, {:.3} % of values equal",
        100.0 * equal
    );
    Err(Error::run("the picture is not what its text says, or was made on another version or machine"))
}

/// How far two pictures are apart.
struct Difference {
    /// The largest difference of two values.
    largest: u8,
    /// The share of equal values.
    equal: f64,
    /// 10 log₁₀(255² / mean squared difference), in dB.
    psnr: f64,
}

impl Difference {
    fn of(a: &[u8], b: &[u8]) -> Self {
        let differences = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
        let count = a.len().max(1) as f64;
        let squares: f64 = differences.clone().map(|d| f64::from(d).powi(2)).sum();
        Self {
            largest: differences.clone().max().unwrap_or(0),
            equal: differences.filter(|&d| d == 0).count() as f64 / count,
            psnr: 10.0 * (255.0 * 255.0 * count / squares).log10(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_one_level_everywhere_is_48_db() {
        let Difference { largest, equal, psnr } = Difference::of(&[1, 2, 3], &[2, 1, 4]);
        assert_eq!((largest, equal), (1, 0.0));
        assert!((psnr - 48.1308).abs() < 1e-4, "{psnr}");
        assert_eq!(Difference::of(&[7, 9], &[7, 9]).largest, 0);
    }
}
