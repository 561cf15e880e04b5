//! Latents in another size: what A1111's latent upscalers do, torch's `interpolate`.
//!
//! ```text
//! out[y, x] = Σ_ij w[y, i]·w[x, j]·in[i, j]      each channel alone, both axes alike
//! c = (x + ½)·s,  s = old/new                    where the centre of pixel x is in the old picture
//! nearest         pixel ⌊x·s⌋                    nearest-exact   pixel ⌊c⌋
//! bilinear        1 − |t| for |t| < 1            t = i + ½ − c
//! bicubic         Keys' cubic with a = −¾; antialiased with a = −½
//! ```
//!
//! Beyond its edge the picture goes on with its last pixel; antialiased filters leave those pixels
//! out, divide by the sum of the weights, and are as much wider as the picture becomes smaller.
//!
//! Source: `torch.nn.functional.interpolate` with `align_corners=False`; Keys, *Cubic Convolution
//! Interpolation for Digital Image Processing* (1981).

/// How latents are enlarged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatentMode {
    /// Two neighbours along each axis. A1111's default.
    Bilinear,
    /// The same, normalised at the edges.
    BilinearAntialiased,
    /// Four neighbours along each axis.
    Bicubic,
    /// The same with a softer cubic, normalised at the edges.
    BicubicAntialiased,
    /// The pixel whose square holds the upper left corner.
    Nearest,
    /// The pixel whose square holds the centre.
    NearestExact,
}

/// The weights of one output pixel: pairs of an input pixel and its weight.
type Taps = Vec<(usize, f32)>;

impl LatentMode {
    /// `latents: [channels, old[0], old[1]]` → `[channels, new[0], new[1]]`.
    ///
    /// ```
    /// # use aquatint_model::generate::LatentMode;
    /// let doubled = LatentMode::Bilinear.resize(&[0.0, 4.0], [1, 2], [1, 4]);
    /// assert_eq!(doubled, [0.0, 1.0, 3.0, 4.0]);
    /// ```
    ///
    /// # Panics
    /// If a side is 0, or there is not a whole number of channels.
    pub fn resize(self, latents: &[f32], old: [usize; 2], new: [usize; 2]) -> Vec<f32> {
        let [height, width] = old;
        assert!(old.into_iter().chain(new).all(|side| side > 0), "a side is 0: {old:?} to {new:?}");
        assert!(latents.len().is_multiple_of(height * width), "channels of {height}×{width}");
        let [rows, columns] = [0, 1].map(|axis| {
            let taps = |x| self.taps(x, old[axis], new[axis]);
            (0..new[axis]).map(taps).collect::<Vec<_>>()
        });
        let mut out = Vec::with_capacity(latents.len() / (height * width) * new[0] * new[1]);
        for channel in latents.chunks_exact(height * width) {
            let sum = |row: &[f32], taps: &Taps| taps.iter().map(|&(i, weight)| weight * row[i]).sum();
            let wide: Vec<Vec<f32>> = channel
                .chunks_exact(width)
                .map(|row| columns.iter().map(|taps| sum(row, taps)).collect())
                .collect();
            for taps in &rows {
                out.extend((0..new[1]).map(|x| taps.iter().map(|&(i, w)| w * wide[i][x]).sum::<f32>()));
            }
        }
        out
    }

    fn taps(self, x: usize, old: usize, new: usize) -> Taps {
        let scale = old as f64 / new as f64;
        let centre = (x as f64 + 0.5) * scale;
        match self {
            // The corner is multiplied in f32, as in torch: 6 of 14 from 3 pixels is 1.2857 there.
            Self::Nearest => vec![(((x as f32 * scale as f32) as usize).min(old - 1), 1.0)],
            Self::NearestExact => {
                vec![((((x as f32 + 0.5) * scale as f32) as usize).min(old - 1), 1.0)]
            }
            Self::Bilinear => edge_repeated(centre, old, 1, triangle),
            Self::Bicubic => edge_repeated(centre, old, 2, |t| cubic(t, -0.75)),
            Self::BilinearAntialiased => normalised(centre, scale, old, 1.0, triangle),
            Self::BicubicAntialiased => normalised(centre, scale, old, 2.0, |t| cubic(t, -0.5)),
        }
    }
}

/// `2·reach` neighbours; those beyond the edge are the last pixel.
fn edge_repeated(centre: f64, old: usize, reach: i64, filter: impl Fn(f64) -> f64) -> Taps {
    let left = (centre - 0.5).floor() as i64;
    let neighbours = left + 1 - reach..=left + reach;
    let tap = |i: i64| {
        let weight = filter(i as f64 + 0.5 - centre) as f32;
        (i.clamp(0, old as i64 - 1) as usize, weight)
    };
    neighbours.map(tap).collect()
}

/// The neighbours within `support` that are inside; their weights sum to 1.
fn normalised(centre: f64, scale: f64, old: usize, support: f64, filter: impl Fn(f64) -> f64) -> Taps {
    let widen = scale.max(1.0);
    let first = (centre - support * widen + 0.5).max(0.0) as usize;
    let end = ((centre + support * widen + 0.5) as usize).min(old);
    let weight = |i: usize| filter((i as f64 + 0.5 - centre) / widen);
    let sum: f64 = (first..end).map(weight).sum();
    (first..end).map(|i| (i, (weight(i) / sum) as f32)).collect()
}

fn triangle(t: f64) -> f64 {
    (1.0 - t.abs()).max(0.0)
}

/// Keys' cubic: `(a + 2)|t|³ − (a + 3)t² + 1` up to 1, `a(|t|³ − 5t² + 8|t| − 4)` up to 2.
fn cubic(t: f64, a: f64) -> f64 {
    let t = t.abs();
    if t <= 1.0 {
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        ((t - 5.0) * t + 8.0) * t * a - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [LatentMode; 6] = [
        LatentMode::Bilinear,
        LatentMode::BilinearAntialiased,
        LatentMode::Bicubic,
        LatentMode::BicubicAntialiased,
        LatentMode::Nearest,
        LatentMode::NearestExact,
    ];

    #[test]
    fn the_same_size_is_the_same_picture_and_a_constant_stays_one() {
        let latents: Vec<f32> = (0..24).map(|i| ((i * 5 % 7) as f32).sin()).collect();
        for mode in MODES {
            let same = mode.resize(&latents, [3, 4], [3, 4]);
            let differ = same.iter().zip(&latents).any(|(a, b)| (a - b).abs() > 1e-6);
            assert!(!differ, "{mode:?}: {same:?}");
            let flat = mode.resize(&[0.5; 12], [3, 4], [5, 9]);
            assert!(flat.iter().all(|x| (x - 0.5).abs() < 1e-6), "{mode:?}: {flat:?}");
        }
    }
}
