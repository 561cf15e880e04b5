//! Mean and variance of each channel, taken by the layer that stores an image, for the group norm
//! behind it.
//!
//! A group norm on its own reads an image twice, up to a tenth of the time of the convolution
//! before it, which had every number in a register. Variance is easy to get wrong. `mean(x²) −
//! mean(x)²` in f32 loses its digits when the mean is far from zero: for a mean of 100 and a
//! deviation of 1 it subtracts 10000 from 10001, and of seven digits three remain, before any of
//! the 40 000 additions has rounded. So:
//!
//! ```text
//! for each block of at most 256 pixels of an image:
//!     mean = first pixel, squares = 0, n = 0
//!     for each run of at most 32, of each channel:               f32
//!         sum = Σ(x − mean), square = Σ(x − mean)²               mean: of the pixels before
//!         n += run;  squares += square − sum²/n;  mean += sum/n
//! for each channel, then group: merge its blocks                 f64
//! ```
//!
//! The update is exact: Σ(x − m′)² = Σ(x − m)² − n·(m′ − m)². Blocks depend on the size of an image
//! alone, and are merged in order: the same bits on any number of threads, and in any batch.

mod running;

use std::ops::Range;

pub(crate) use running::{RunningStats, StatsSink, load};

use crate::cpu::tile::NR;

/// Pixels of a block at the most.
pub(crate) const MAX_STATS_BLOCK: usize = 256;
/// The fewest pixels of a block that are worth the merging.
pub(crate) const MIN_STATS_BLOCK: usize = 32;

/// Count, mean and sum of squared deviations of each channel of some images.
#[derive(Clone)]
pub struct ChannelStats {
    images: usize,
    channels: usize,
    blocks: Vec<Block>,
    /// Of each block `[mean, squares][channels]`.
    numbers: Vec<f32>,
}

/// Some pixels of an image.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) image: usize,
    pub(crate) count: usize,
}

impl ChannelStats {
    /// Statistics of as many images, without a block yet: a layer adds them while it stores its
    /// result.
    pub(crate) fn new(images: usize) -> Self {
        Self { images, channels: 0, blocks: Vec::new(), numbers: Vec::new() }
    }

    /// Those of some rows of an image, `pixels` in all, that are to be normalised with the
    /// statistics of the whole: its means and variances, for as many pixels as there are.
    pub fn of_whole(whole: &[Welford], pixels: usize) -> Self {
        let mut stats = Self::new(1);
        let numbers = stats.reserve(whole.len(), std::iter::once(Block { image: 0, count: pixels }));
        let (means, squares) = numbers.split_at_mut(whole.len());
        for ((mean, squares), whole) in means.iter_mut().zip(squares).zip(whole) {
            *mean = whole.mean as f32;
            *squares = (whole.variance() * pixels as f64) as f32;
        }
        stats
    }

    /// For these rows of a product of `[all_rows, columns]`. `None` if its images cannot be cut
    /// into equal blocks, or there is nothing.
    pub(crate) fn slots(
        &mut self,
        rows: Range<usize>,
        [all_rows, columns]: [usize; 2],
    ) -> Option<StatsSlots<'_>> {
        let images = self.images;
        assert!(all_rows.is_multiple_of(images), "{all_rows} rows cannot belong to {images} images");
        let pixels = all_rows.checked_div(images).filter(|&pixels| pixels > 0 && columns > 0)?;
        let count = MAX_STATS_BLOCK.min(1 << pixels.trailing_zeros());
        if count < MIN_STATS_BLOCK {
            return None;
        }
        let blocks = rows.step_by(count).map(|row| Block { image: row / pixels, count });
        Some(StatsSlots {
            block: count,
            numbers: self.reserve(columns, blocks).chunks_exact_mut(columns).collect(),
        })
    }

    /// Adds blocks: the places of their statistics.
    pub(crate) fn reserve(&mut self, channels: usize, blocks: impl Iterator<Item = Block>) -> &mut [f32] {
        let before = self.numbers.len();
        self.channels = channels;
        self.blocks.extend(blocks);
        self.numbers.resize(self.blocks.len() * 2 * channels, 0.0);
        &mut self.numbers[before..]
    }

    /// Itself, unless no block was added.
    pub(crate) fn if_any(self) -> Option<Self> {
        (!self.blocks.is_empty()).then_some(self)
    }

    /// Whether they can be those of images of this shape.
    pub(crate) fn match_shape(&self, [images, height, width, channels]: [usize; 4]) -> bool {
        let pixels = |image: usize| -> usize {
            self.blocks.iter().filter(|block| block.image == image).map(|block| block.count).sum()
        };
        let complete = || (0..images).all(|image| pixels(image) == height * width);
        self.images == images && self.channels == channels && (channels == 0 || complete())
    }

    /// Of each channel of image number `image` mod n.
    pub fn of_image(&self, image: usize) -> Vec<Welford> {
        let image = image % self.images;
        let blocks = || {
            let numbers = self.numbers.chunks_exact(2 * self.channels.max(1));
            self.blocks.iter().zip(numbers).filter(move |(block, _)| block.image == image)
        };
        let count = blocks().map(|(block, _)| block.count).sum::<usize>() as f64;
        let mut channels = vec![Welford { count, ..Welford::default() }; self.channels];
        // Twice through the blocks: with the mean of all there is nothing to divide by.
        for (block, numbers) in blocks() {
            let share = block.count as f64 / count;
            for (channel, &mean) in channels.iter_mut().zip(numbers) {
                channel.mean += share * f64::from(mean);
            }
        }
        for (block, numbers) in blocks() {
            let (means, squares) = numbers.split_at(self.channels);
            for ((channel, &mean), &squares) in channels.iter_mut().zip(means).zip(squares) {
                let delta = f64::from(mean) - channel.mean;
                channel.squares += f64::from(squares) + block.count as f64 * delta * delta;
            }
        }
        channels
    }
}

/// The places of the statistics of some rows of a product.
pub(crate) struct StatsSlots<'a> {
    /// Rows of a block.
    pub(crate) block: usize,
    /// Of each block the means, then the squares of its columns.
    pub(crate) numbers: Vec<&'a mut [f32]>,
}

impl StatsSlots<'_> {
    /// Of the block of a row, from a column on, at most a panel: how many of its rows come before,
    /// and `[mean, squares]`.
    #[inline(always)]
    pub(crate) fn at(&mut self, row: usize, column: usize) -> (usize, [&mut [f32]; 2]) {
        let Some([mean, squares]) = self.numbers[row / self.block * 2..].first_chunk_mut() else {
            panic!("each block has room")
        };
        let columns = column..mean.len().min(column + NR);
        (row % self.block, [&mut mean[columns.clone()], &mut squares[columns]])
    }
}

/// What one must know of some numbers to get their variance, and to merge them with others.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Welford {
    /// How many they are.
    pub count: f64,
    /// Their mean.
    pub mean: f64,
    /// Σ(x − mean)²
    pub squares: f64,
}

impl Welford {
    /// Of both sets together (Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise
    /// algorithm for computing sample variances", equation 2.1).
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        let share = other.count / count;
        Self {
            count,
            mean: self.mean + delta * share,
            squares: self.squares + other.squares + delta * delta * self.count * share,
        }
    }

    /// Divided by the count, not by one less: the variance of all there is, not an estimate from a
    /// sample.
    pub fn variance(self) -> f64 {
        // A NaN must come out as NaN, which `f64::max` would hide.
        let variance = self.squares / self.count;
        if variance < 0.0 { 0.0 } else { variance }
    }
}
