//! Masks: white is repainted, black is kept.
//!
//! ```text
//! grey    = (19595·red + 38470·green + 7471·blue) / 2¹⁶       Pillow's luminance
//! repaint = grey ≥ ½
//! share   = min(1, distance to the nearest kept pixel / (blur + 1))
//! picture = (1 − share)·original + share·repainted            only inside the mask, so the outside keeps its bits
//! ```
//!
//! A mask that is blurred to both sides, as elsewhere, changes pixels which it was meant to
//! protect; here the seam lies inside, where everything is new anyway. The first two lines are
//! those of diffusers' mask processor.

use crate::error::{Error, Result};
use crate::image::{Image, content_hash};

/// Which pixels of a picture are made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    /// Rows from top to bottom, a byte for each pixel: 128 and more is repainted.
    grey: Vec<u8>,
}

/// Wider than any picture that is made; 255 times as much is counted without overflow.
const WIDEST_SEAM: usize = u16::MAX as usize;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

/// Pixels that a picture grows by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// Columns before the first.
    pub left: usize,
    /// Columns after the last.
    pub right: usize,
    /// Rows above the first.
    pub top: usize,
    /// Rows below the last.
    pub bottom: usize,
}

impl Margins {
    /// Width and height of what was `width`×`height`.
    fn around(self, width: usize, height: usize) -> (usize, usize) {
        (self.left + width + self.right, self.top + height + self.bottom)
    }
}

impl Mask {
    /// A mask from its bytes: rows from top to bottom, 255 white.
    ///
    /// # Panics
    /// If there are not `width · height` bytes.
    pub fn from_grey(width: usize, height: usize, grey: Vec<u8>) -> Self {
        assert_eq!(grey.len(), width * height, "a mask of {width}×{height} has a byte for each pixel");
        Self { width, height, grey }
    }

    /// The luminance of a picture.
    pub fn from_picture(picture: &Image) -> Self {
        let luminance = |rgb: &[u8; 3]| {
            let [r, g, b] = rgb.map(u32::from);
            ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
        };
        let grey = picture.pixels().as_chunks().0.iter().map(luminance).collect();
        Self::from_grey(picture.width(), picture.height(), grey)
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Rows from top to bottom, a byte for each pixel.
    pub fn grey(&self) -> &[u8] {
        &self.grey
    }

    /// Ten hex digits by which the mask can be recognised; see [`Image::hash`].
    pub fn hash(&self) -> String {
        content_hash(self.width, self.height, &self.grey)
    }

    /// White becomes black and black white.
    #[must_use]
    pub fn inverted(mut self) -> Self {
        self.grey.iter_mut().for_each(|grey| *grey = 255 - *grey);
        self
    }

    /// Whether the pixel in column `x` of row `y` is made anew.
    pub fn repaints(&self, x: usize, y: usize) -> bool {
        self.grey[y * self.width + x] >= 128
    }

    /// The part of the mask within `region`.
    #[must_use]
    pub fn cropped(&self, region: Region) -> Self {
        let rows = (region.top..region.top + region.height).map(|y| y * self.width + region.left);
        let grey = rows.flat_map(|start| &self.grey[start..start + region.width]).copied().collect();
        Self::from_grey(region.width, region.height, grey)
    }

    /// The smallest rectangle around everything that is not black, grown by `padding` and then to
    /// the proportions of `width` to `height`, as far as the picture reaches. diffusers'
    /// `get_crop_region`.
    ///
    /// # Errors
    /// `Request` if the whole mask is black.
    pub fn region(&self, padding: usize, width: usize, height: usize) -> Result<Region> {
        let column = |x: &usize| (0..self.height).any(|y| self.grey[y * self.width + x] > 0);
        let row = |y: &usize| self.grey[y * self.width..][..self.width].iter().any(|&grey| grey > 0);
        let nothing = || Error::request("the mask is black everywhere: there is nothing to repaint");
        let left = (0..self.width).find(column).ok_or_else(nothing)?;
        let right = (0..self.width).rfind(column).ok_or_else(nothing)?;
        let top = (0..self.height).find(row).ok_or_else(nothing)?;
        let bottom = (0..self.height).rfind(row).ok_or_else(nothing)?;

        let around = |first: usize, last: usize, side: usize| {
            let start = first.saturating_sub(padding);
            (start, (last + 1).saturating_add(padding).min(side) - start)
        };
        let (left, wide) = around(left, right, self.width);
        let (top, high) = around(top, bottom, self.height);
        let proportions = width as f64 / height as f64;
        let (mut columns, mut rows) = ((left, wide), (top, high));
        if wide as f64 / high as f64 > proportions {
            rows = grow(top, high, (wide as f64 / proportions) as usize, self.height);
        } else {
            columns = grow(left, wide, (high as f64 * proportions) as usize, self.width);
        }
        Ok(Region { left: columns.0, top: rows.0, width: columns.1, height: rows.1 })
    }

    /// A larger mask, its margins white.
    #[must_use]
    pub fn expanded(&self, margins: Margins) -> Self {
        let (width, height) = margins.around(self.width, self.height);
        let mut grey = vec![255; width * height];
        for (y, row) in self.grey.chunks_exact(self.width).enumerate() {
            grey[(margins.top + y) * width + margins.left..][..self.width].copy_from_slice(row);
        }
        Self::from_grey(width, height, grey)
    }

    /// `original` where the mask is black, `repainted` where it is white, with a soft seam of
    /// `blur` pixels inside the mask.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn composite(&self, original: &Image, repainted: &Image, blur: usize) -> Image {
        for picture in [original, repainted] {
            let sizes = [(self.width, self.height), (picture.width(), picture.height())];
            assert_eq!(sizes[0], sizes[1], "mask and pictures have one size");
        }
        let pairs = original.pixels().as_chunks::<3>().0.iter().zip(repainted.pixels().as_chunks::<3>().0);
        let full = blur.min(WIDEST_SEAM) + 1;
        let mix = |((old, new), distance): ((&[u8; 3], &[u8; 3]), usize)| {
            let share = distance.min(full);
            std::array::from_fn::<u8, 3, _>(|c| {
                let sum = usize::from(old[c]) * (full - share) + usize::from(new[c]) * share;
                ((sum + full / 2) / full) as u8
            })
        };
        let pixels = pairs.zip(self.distances()).flat_map(mix).collect();
        Image::from_rgb(self.width, self.height, pixels)
    }

    /// Steps, also diagonal ones, to the nearest pixel that is kept: 0 for those that are. The
    /// picture's edge counts for nothing; a mask that keeps nothing is far from everything.
    fn distances(&self) -> Vec<usize> {
        let (width, height) = (self.width, self.height);
        let far = usize::MAX / 2; // from here one can count on without overflow
        let mut distances: Vec<usize> =
            self.grey.iter().map(|&grey| if grey >= 128 { far } else { 0 }).collect();
        // Down with the neighbours above and to the left, then up with the others: exact for this
        // distance.
        let mut relax = |x: usize, y: usize, neighbours: [(isize, isize); 4]| {
            for (dx, dy) in neighbours {
                let (Some(x2), Some(y2)) = (x.checked_add_signed(dx), y.checked_add_signed(dy)) else {
                    continue;
                };
                if x2 < width && y2 < height {
                    let through = distances[y2 * width + x2] + 1;
                    let here = &mut distances[y * width + x];
                    *here = (*here).min(through);
                }
            }
        };
        for y in 0..height {
            (0..width).for_each(|x| relax(x, y, [(-1, 0), (-1, -1), (0, -1), (1, -1)]));
        }
        for y in (0..height).rev() {
            (0..width).rev().for_each(|x| relax(x, y, [(1, 0), (1, 1), (0, 1), (-1, 1)]));
        }
        distances
    }
}

/// Grows an interval to `wanted`, evenly to both sides, then moved back into `0..side` and cut.
fn grow(start: usize, length: usize, wanted: usize, side: usize) -> (usize, usize) {
    let more = wanted.saturating_sub(length);
    let length = length + more;
    // The formula may leave 0..side on either end; first the far end is brought back, then the near
    // one.
    let start = start as isize - (more / 2) as isize;
    let start = (start - (start + length as isize - side as isize).max(0)).max(0) as usize;
    (start, length.min(side - start))
}

impl Image {
    /// The part of the picture within `region`.
    ///
    /// # Panics
    /// If the region is not within the picture.
    pub fn cropped(&self, region: Region) -> Self {
        let rows = (region.top..region.top + region.height).map(|y| 3 * (y * self.width() + region.left));
        let pixels =
            rows.flat_map(|start| &self.pixels()[start..start + 3 * region.width]).copied().collect();
        Self::from_rgb(region.width, region.height, pixels)
    }

    /// This picture with `part` laid over it.
    ///
    /// # Panics
    /// If `part` does not have the region's size, or the region is not within the picture.
    #[must_use]
    pub fn with_part(&self, part: &Self, region: Region) -> Self {
        assert_eq!(
            (part.width(), part.height()),
            (region.width, region.height),
            "a part of the region's size"
        );
        let mut pixels = self.pixels().to_vec();
        for (y, row) in part.pixels().chunks_exact(3 * region.width).enumerate() {
            let start = 3 * ((region.top + y) * self.width() + region.left);
            pixels[start..start + row.len()].copy_from_slice(row);
        }
        Self::from_rgb(self.width(), self.height(), pixels)
    }

    /// A larger picture, its margins filled with the outermost pixels.
    ///
    /// # Panics
    /// If the picture has no pixels.
    pub fn expanded(&self, margins: Margins) -> Self {
        let (width, height) = margins.around(self.width(), self.height());
        let inside = |i: usize, margin: usize, side: usize| i.saturating_sub(margin).min(side - 1);
        let mut pixels = Vec::with_capacity(3 * width * height);
        for y in 0..height {
            let row = inside(y, margins.top, self.height()) * self.width();
            for x in 0..width {
                let start = 3 * (row + inside(x, margins.left, self.width()));
                pixels.extend_from_slice(&self.pixels()[start..start + 3]);
            }
        }
        Self::from_rgb(width, height, pixels)
    }
}
