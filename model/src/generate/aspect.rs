//! The proportions of a picture, and the size that follows from them.
//!
//! Stable Diffusion XL was trained on 40 sizes of about 1024² pixels, with sides in multiples of 64
//! (Podell et al., *SDXL*, 2023, appendix I). Of these the one is taken whose proportions are
//! nearest. Models of other sizes than 1024² get sides in multiples of 64 (of 8 below 512 pixels),
//! of about the area for which they were trained.

use std::fmt::{self, Display};
use std::str::FromStr;

/// Width by height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aspect(f64);

/// As a number: "1.7777777777777777".
impl Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// From 1 to 10 down to 10 to 1.
const WIDEST: f64 = 10.0;

impl FromStr for Aspect {
    type Err = String;

    /// `16:9`, or `1.78`.
    fn from_str(text: &str) -> Result<Self, String> {
        let ratio = match text.split_once(':') {
            Some((width, height)) => {
                let side = |text: &str| text.trim().parse::<f64>().ok().filter(|side| *side > 0.0);
                side(width).zip(side(height)).map(|(width, height)| width / height)
            }
            None => text.trim().parse().ok(),
        };
        let ratio = ratio.filter(|ratio: &f64| (1.0 / WIDEST..=WIDEST).contains(ratio));
        ratio.map(Self).ok_or_else(|| {
            format!("expected width and height as in 16:9, of at most {WIDEST} to 1, found `{text}`")
        })
    }
}

/// The shorter and the longer side of Stable Diffusion XL's training sizes.
const TRAINED: [[usize; 2]; 21] = [
    [512, 2048],
    [512, 1984],
    [512, 1920],
    [512, 1856],
    [576, 1792],
    [576, 1728],
    [576, 1664],
    [640, 1600],
    [640, 1536],
    [704, 1472],
    [704, 1408],
    [704, 1344],
    [768, 1344],
    [768, 1280],
    [832, 1216],
    [832, 1152],
    [896, 1152],
    [896, 1088],
    [960, 1088],
    [960, 1024],
    [1024, 1024],
];

impl Aspect {
    /// The size of these proportions, `[width, height]`, for a model of `width`×`height`.
    pub fn size(self, [width, height]: [usize; 2]) -> [usize; 2] {
        if [width, height] == [1024, 1024] {
            let [short, long] = self.nearest();
            return if self.0 < 1.0 { [short, long] } else { [long, short] };
        }
        let multiple = if width.min(height) < 512 { 8.0 } else { 64.0 };
        let area = (width * height) as f64;
        let side = |side: f64| ((side / multiple).round().max(1.0) * multiple) as usize;
        [side((area * self.0).sqrt()), side((area / self.0).sqrt())]
    }

    /// The nearest training size; ratios are compared, not differences.
    fn nearest(self) -> [usize; 2] {
        let wanted = self.0.max(1.0 / self.0).ln();
        let distance = |[short, long]: &[usize; 2]| ((*long as f64 / *short as f64).ln() - wanted).abs();
        TRAINED.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or([1024, 1024])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aspect(text: &str) -> Aspect {
        text.parse().expect("proportions")
    }

    #[test]
    fn xl_gets_the_sizes_of_its_training() {
        for (text, expected) in [
            ("1:1", [1024, 1024]),
            ("16:9", [1344, 768]),
            ("9:16", [768, 1344]),
            ("3:2", [1216, 832]),
            ("4:3", [1152, 896]),
            ("21:9", [1536, 640]),
            ("4", [2048, 512]),
        ] {
            assert_eq!(aspect(text).size([1024, 1024]), expected, "{text}");
        }
        assert!(TRAINED.iter().all(|[a, b]| a <= b && a % 64 == 0 && b % 64 == 0));
        let area = |[a, b]: [usize; 2]| a * b;
        assert!(TRAINED.into_iter().all(|size| (900_000..=1_048_576).contains(&area(size))));
    }

    #[test]
    fn others_keep_their_area() {
        assert_eq!(aspect("16:9").size([512, 512]), [704, 384]);
        assert_eq!(aspect("1:2").size([768, 768]), [512, 1088]);
        assert_eq!(aspect("2:1").size([512, 512]), [704, 384]);
        assert_eq!(aspect("3:2").size([128, 128]), [160, 104]);
    }

    #[test]
    fn what_is_no_proportion_is_refused() {
        for text in ["", "16:", "16:0", "a:b", "-1", "0", "1:11", "NaN", "inf"] {
            let error = text.parse::<Aspect>().expect_err(text);
            assert!(error.contains("expected width and height as in 16:9"), "{error}");
        }
    }
}
