//! Mean and variance of the channels of an image that no layer took while storing it.
//!
//! `gemm/epilogue/stats` has the sums and why they are taken in blocks; this pass reads an image
//! once and fills the same blocks.

use aquatint_tensor::View;
use rayon::prelude::*;

use crate::Isa;
use crate::cpu::partition::{row_major, rows_per_task};
use crate::cpu::simd::{Op, Simd};
use crate::cpu::stored::Stored;
use crate::gemm::NR;
use crate::gemm::stats::{
    Block, ChannelStats, MAX_STATS_BLOCK, MIN_STATS_BLOCK, RunningStats, StatsSink, load,
};

/// The statistics of the channels of `x: [n, h, w, c]`, in a pass of its own.
pub fn channel_stats<T: Stored>(isa: Isa, x: View<'_, T, 4>) -> ChannelStats {
    let [images, height, width, channels] = x.shape();
    let (x, pixels) = (row_major(x), height * width);
    let len = rows_per_task(channels).clamp(MIN_STATS_BLOCK, MAX_STATS_BLOCK);
    let parts: Vec<_> = (0..images)
        .flat_map(|image| (0..pixels).step_by(len).map(move |first| (image, first..pixels.min(first + len))))
        .collect();
    let mut stats = ChannelStats::new(images);
    let blocks = parts.iter().map(|(image, part)| Block { image: *image, count: part.len() });
    let numbers = stats.reserve(channels, blocks);
    numbers.par_chunks_mut(2 * channels.max(1)).zip(parts).for_each(|(numbers, (image, part))| {
        let first = image * pixels + part.start;
        let pixels = &x[first * channels..][..part.len() * channels];
        let (mean, squares) = numbers.split_at_mut(channels);
        isa.run(ReadStats { pixels, mean, squares });
    });
    stats
}

/// Pixels of a run when they are only read: more would be more places in memory to read from at
/// once.
const READ_RUN: usize = 8;

/// The statistics of a block of pixels.
struct ReadStats<'a, T> {
    /// As many channels as `mean` has, for each of them.
    pixels: &'a [T],
    mean: &'a mut [f32],
    /// Zeros, to begin with.
    squares: &'a mut [f32],
}

impl<T: Stored> Op for ReadStats<'_, T> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Self { pixels, mean, squares } = self;
        let channels = mean.len();
        let mut buffer = vec![0.0; channels];
        mean.copy_from_slice(T::widen(s, &pixels[..channels], &mut buffer));
        for (i, run) in pixels.chunks(READ_RUN * channels).enumerate() {
            let rows = run.len() / channels;
            for first in (0..channels).step_by(NR) {
                let columns = first..channels.min(first + NR);
                let [mean, squares] = [&mut mean[columns.clone()], &mut squares[columns.clone()]];
                let mut running = RunningStats::new(s, mean);
                for pixel in run.chunks_exact(channels) {
                    for (i, x) in pixel[columns.clone()].chunks(S::LANES).enumerate() {
                        running.add(s, i, load(s, x));
                    }
                }
                running.merge(s, [i * READ_RUN, rows], [mean, squares]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
