//! A picture in tiles that overlap: memory for a tile instead of the whole.
//!
//! ```text
//! ├── overlap ──┼──────── kept ────────┼── overlap ──┤      side = kept + 2·overlap
//! ```
//!
//! A network without norms sees only what its windows reach, and the farther a pixel is, the less
//! it counts. So each tile is enlarged with some pixels around it, and they are cut off.

use aquatint_tensor::Tensor;

use crate::error::Result;
use crate::image::Image;

/// How large tiles are, in pixels of the small picture.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    /// Pixels of a side, without the overlap.
    pub kept: usize,
    /// Pixels around them.
    pub overlap: usize,
}

impl Default for Tiles {
    /// 256 pixels a side in all; fourfold enlargement needs about a gigabyte then.
    fn default() -> Self {
        Self { kept: 224, overlap: 16 }
    }
}

impl Tiles {
    /// `f` of each tile, `[1, h, w, 3]` in 0..1, laid together.
    pub(super) fn apply(
        self,
        picture: &Image,
        scale: usize,
        f: impl Fn(Tensor<f32, 4>) -> Result<Tensor<f32, 4>>,
    ) -> Result<Image> {
        let (width, height) = (picture.width(), picture.height());
        let overlap = self.overlap.next_multiple_of(4); // see `parts`
        let out_width = scale * width;
        let mut pixels = vec![0; 3 * out_width * scale * height];
        for [top, bottom] in self.parts(height) {
            let rows = top.saturating_sub(overlap)..(bottom + overlap).min(height);
            for [left, right] in self.parts(width) {
                let columns = left.saturating_sub(overlap)..(right + overlap).min(width);
                let tile = Tensor::from_fn([1, rows.len(), columns.len(), 3], |[_, y, x, c]| {
                    let pixel = (rows.start + y) * width + columns.start + x;
                    f32::from(picture.pixels()[3 * pixel + c]) / 255.0
                });
                let large = f(tile)?;
                let [_, _, tile_width, _] = large.shape();
                for y in scale * top..scale * bottom {
                    let from = 3 * ((y - scale * rows.start) * tile_width + scale * (left - columns.start));
                    let to = 3 * (y * out_width + scale * left);
                    let length = 3 * scale * (right - left);
                    let bytes = large.as_slice()[from..from + length].iter();
                    let byte = |x: &f32| (x.clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
                    pixels[to..to + length].iter_mut().zip(bytes).for_each(|(out, x)| *out = byte(x));
                }
            }
        }
        Ok(Image::from_rgb(out_width, scale * height, pixels))
    }

    /// Equal parts of a side, as few as there may be: where each begins and ends. They begin at
    /// multiples of 4, so that a network that takes squares of pixels takes the same ones.
    fn parts(self, side: usize) -> impl Iterator<Item = [usize; 2]> + Clone {
        let most = self.kept.max(4);
        let length = side.div_ceil(side.div_ceil(most).max(1)).next_multiple_of(4);
        (0..side).step_by(length.max(4)).map(move |first| [first, side.min(first + length)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_picture_once() {
        let picture = Image::from_rgb(37, 21, (0..3 * 37 * 21).map(|i| (i * 7 % 256) as u8).collect());
        for (kept, overlap) in [(8, 4), (12, 0), (100, 16)] {
            let tiles = Tiles { kept, overlap };
            let same = tiles.apply(&picture, 1, Ok).expect("nothing fails");
            assert_eq!(same.pixels(), picture.pixels(), "{tiles:?}");
            let doubled = tiles.apply(&picture, 2, |x| {
                let [n, h, w, c] = x.shape();
                Ok(Tensor::from_fn([n, 2 * h, 2 * w, c], |[n, y, column, c]| x[[n, y / 2, column / 2, c]]))
            });
            let doubled = doubled.expect("nothing fails");
            assert_eq!(doubled.pixels(), picture.nearest(74, 42).pixels(), "{tiles:?}");
        }
    }
}
