//! 3×3 windows in a quarter of the multiplications, by Winograd's *minimal filtering*. Two
//! neighbouring outputs share two of their three inputs: four products do the work of six, F(2, 3):
//!
//! ```text
//! y₀ = d₀g₀ + d₁g₁ + d₂g₂     m₀ = (d₀ − d₂)·g₀    m₁ = (d₁ + d₂)·(g₀ + g₁ + g₂)/2
//! y₁ = d₁g₀ + d₂g₁ + d₃g₂     m₃ = (d₁ − d₃)·g₂    m₂ = (d₂ − d₁)·(g₀ − g₁ + g₂)/2
//!
//! y₀ = m₀ + m₁ + m₂           y₁ = m₁ − m₂ − m₃
//! ```
//!
//! The brackets with g are computed once for all pixels, those with d once for all output channels,
//! and the m are summed over the input channels before they become y. In two dimensions this file
//! uses F(4, 3) (`transforms.rs`): **36 products for 4×4 outputs, not 144**, each a matrix product
//! over all tiles. The price: transforms, a quarter to nearly half of the time, and three times the
//! mean error of a direct sum, 8·10⁻⁷ of the result. F(2, 3) was 1.3 to 1.9 times as slow.
//!
//! Sources: Winograd, *Arithmetic Complexity of Computations* (1980); Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks" (2016, arXiv:1509.09308). Read next:
//! `transforms.rs`, then `tasks.rs`.

mod tasks;
mod transforms;

use std::ops::Range;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use self::tasks::{Input, Products, SCRATCH};
use super::{ConvWeights, Geometry};
use crate::cpu::partition::{MIN_TASKS, row_major};
use crate::cpu::simd::MAX_LANES;
use crate::cpu::stored::Stored;
use crate::gemm::{Epilogue, NR, TileOrigin};
use crate::{Isa, Precision};

/// Output pixels of a tile along each axis.
pub(super) const OUT: usize = 4;
/// Input pixels of a tile along each axis.
const IN: usize = OUT + 2;
/// Values of a tile, and matrix products.
const POINTS: usize = IN * IN;

/// Tiles of a task: the sums of a panel take 36 × 128 × 128 bytes, half of an L2 cache of 1 MB.
const TASK_TILES: usize = 128;
/// Input channels of a block: their weights for a panel, transformed, take another 300 KB.
const BLOCK: usize = 64;
/// Values of the input that are held at a time, if one task's are not more already: 8 MB.
const SLAB: usize = 2 << 20;
/// Panels of a task.
const TASK_PANELS: usize = 10;

/// Whether this form can do it: a dense 3×3 window, one pixel at a time, one pixel of padding, in
/// f32.
pub fn can(precision: Precision, geometry: Geometry) -> bool {
    geometry == Geometry::same(3) && precision == Precision::F32
}

/// A convolution by minimal filtering; see [`conv2d`](super::conv2d()).
///
/// # Panics
/// As [`conv2d`](super::conv2d()), if it cannot ([`can`]), or if the input has no channels.
pub fn conv2d<T: Stored>(
    isa: Isa,
    x: View<'_, f32, 4>,
    w: &ConvWeights,
    geometry: Geometry,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    assert!(
        can(w.packed.precision(), geometry),
        "minimal filtering is for 3×3 windows in f32 with stride 1 and padding 1"
    );
    filter(isa, x, Size::Same, w, epilogue)
}

/// How large the image is that is filtered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// As large as the input.
    Same,
    /// Twice as high and as wide: each pixel of the input is a square of four, which are never
    /// written.
    Double,
}

impl Size {
    /// The pixel of the input that a pixel belongs to, along an axis.
    #[inline(always)]
    fn source(self, position: usize) -> usize {
        match self {
            Self::Same => position,
            Self::Double => position / 2,
        }
    }
}

/// A convolution of `x`, or of `x` doubled, by minimal filtering; see [`conv2d`](super::conv2d()).
pub(crate) fn filter<T: Stored>(
    isa: Isa,
    x: View<'_, f32, 4>,
    size: Size,
    w: &ConvWeights,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    let ([images, x_height, x_width, channels], columns) = (x.shape(), w.out_channels());
    let times = if size == Size::Double { 2 } else { 1 };
    let (height, width) = (times * x_height, times * x_width);
    w.check(channels, [3, 3]);
    assert!(channels > 0, "an image without channels has nothing to filter");
    let place = TileOrigin::of(images * height * width, columns);
    epilogue.check(place.rows, columns);
    let mut out = Tensor::recycled([images, height, width, columns]);
    if out.is_empty() {
        return out;
    }

    let x = row_major(x);
    let grid = Grid { x: &x, size, images, height, width, channels };
    let cut = TilePartition::of(&grid);
    let mut values = Tensor::<f32, 1>::recycled([cut.slab_patches(&grid) * cut.patch_len]);
    let mut rest = out.as_mut_slice();
    for slab in ranges(grid.rows(), cut.slab_rows) {
        let patches = cut.patches(&grid, slab.clone());
        let values = &mut values.as_mut_slice()[..patches.len() * cut.patch_len];
        let jobs: Vec<Input<'_>> = patches
            .iter()
            .zip(values.chunks_exact_mut(cut.patch_len))
            .flat_map(|(patch, values)| {
                let values = values[..POINTS * patch.tiles() * channels]
                    .chunks_mut(POINTS * patch.tiles() * cut.block);
                let blocks = ranges(channels, cut.block);
                blocks.zip(values).map(|(block, values)| Input { grid, patch: patch.clone(), block, values })
            })
            .collect();
        jobs.into_par_iter().for_each(|job| isa.run(job));

        let pixels: usize = slab.clone().map(|row| grid.height_of(row) * width).sum();
        let (out, after) = std::mem::take(&mut rest).split_at_mut(pixels * columns);
        rest = after;
        let tasks = cut.tasks(&grid, &patches, slab, out, columns);
        tasks.into_par_iter().for_each(|Task { patch, panels, out }| {
            SCRATCH.with_borrow_mut(|scratch| {
                let values = &values[patch * cut.patch_len..];
                let (patch, block, epilogue) = (&patches[patch], cut.block, &epilogue);
                let w = &w.packed;
                isa.run(Products { grid, patch, panels, values, block, w, epilogue, place, out, scratch });
            });
        });
    }
    out
}

/// All images, one below the other, seen as rows of tiles.
#[derive(Clone, Copy)]
struct Grid<'a> {
    x: &'a [f32],
    /// Of the images over `x`.
    size: Size,
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
}

impl Grid<'_> {
    /// Rows of tiles in all images.
    fn rows(&self) -> usize {
        self.images * self.height.div_ceil(OUT)
    }

    /// Tiles in a row.
    fn columns(&self) -> usize {
        self.width.div_ceil(OUT)
    }

    /// The image that a row of tiles belongs to, and its first row of pixels there.
    fn place(&self, row: usize) -> (usize, usize) {
        let rows = self.height.div_ceil(OUT);
        (row / rows, row % rows * OUT)
    }

    /// Where in `x` a pixel of an image begins.
    #[inline(always)]
    fn pixel(&self, image: usize, line: usize, position: usize) -> usize {
        let [height, width, line, position] =
            [self.height, self.width, line, position].map(|length| self.size.source(length));
        ((image * height + line) * width + position) * self.channels
    }

    /// Rows of pixels that a row of tiles has before the image ends.
    fn height_of(&self, row: usize) -> usize {
        OUT.min(self.height - self.place(row).1)
    }
}

/// A rectangle of tiles.
#[derive(Clone)]
struct Patch {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Patch {
    fn tiles(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

/// A patch, by its number in the slab; some panels; and the pieces of its pixels, row by row.
struct Task<'a, T> {
    patch: usize,
    panels: Range<usize>,
    out: Vec<&'a mut [T]>,
}

/// How the work is cut: by its shape alone.
struct TilePartition {
    patch_rows: usize,
    patch_columns: usize,
    /// Room for the values of a patch.
    patch_len: usize,
    /// Rows of tiles whose values are held at a time.
    slab_rows: usize,
    /// Input channels of a block.
    block: usize,
}

impl TilePartition {
    fn of(grid: &Grid<'_>) -> Self {
        let even = |length: usize, longest: usize| length.div_ceil(length.div_ceil(longest));
        let patch_columns = even(grid.columns(), TASK_TILES);
        let patch_rows = even(grid.rows(), (TASK_TILES / patch_columns).max(1));
        let patch_len = POINTS * patch_rows * patch_columns * grid.channels;
        let across = grid.columns().div_ceil(patch_columns);
        Self {
            patch_rows,
            patch_columns,
            patch_len,
            slab_rows: patch_rows * (SLAB / (patch_len * across)).max(1),
            block: even(grid.channels, BLOCK).next_multiple_of(MAX_LANES),
        }
    }

    /// Patches of a full slab.
    fn slab_patches(&self, grid: &Grid<'_>) -> usize {
        self.slab_rows.min(grid.rows()).div_ceil(self.patch_rows)
            * grid.columns().div_ceil(self.patch_columns)
    }

    /// The patches of some rows of tiles.
    fn patches(&self, grid: &Grid<'_>, slab: Range<usize>) -> Vec<Patch> {
        let across = || ranges(grid.columns(), self.patch_columns);
        ranges(slab.len(), self.patch_rows)
            .map(|rows| slab.start + rows.start..slab.start + rows.end)
            .flat_map(|rows| across().map(move |columns| Patch { rows: rows.clone(), columns }))
            .collect()
    }

    /// Patches × groups of panels, sorted by panels, with the pixels of `out` dealt to them.
    fn tasks<'a, T>(
        &self,
        grid: &Grid<'_>,
        patches: &[Patch],
        slab: Range<usize>,
        out: &'a mut [T],
        columns: usize,
    ) -> Vec<Task<'a, T>> {
        let (panels, count) = (columns.div_ceil(NR), patches.len());
        let groups = panels.div_ceil(TASK_PANELS).max(MIN_TASKS.div_ceil(count)).min(panels);
        let group = panels.div_ceil(groups);
        let mut tasks: Vec<Task<'a, T>> = ranges(panels, group)
            .flat_map(|panels| (0..count).map(move |patch| (patch, panels.clone())))
            .map(|(patch, panels)| Task { patch, panels, out: Vec::new() })
            .collect();
        let across = grid.columns().div_ceil(self.patch_columns);
        let rows = slab.clone().flat_map(|row| std::iter::repeat_n(row - slab.start, grid.height_of(row)));
        for (row, pixels) in rows.zip(out.chunks_exact_mut(grid.width * columns)) {
            for (i, pixels) in pixels.chunks_mut(self.patch_columns * OUT * columns).enumerate() {
                let patch = row / self.patch_rows * across + i;
                for pixel in pixels.chunks_exact_mut(columns) {
                    for (i, piece) in pixel.chunks_mut(group * NR).enumerate() {
                        tasks[i * count + patch].out.push(piece);
                    }
                }
            }
        }
        tasks
    }
}

/// 0..length in pieces of `step`, the last of which may be shorter.
fn ranges(length: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(step).map(move |start| start..(start + step).min(length))
}

#[cfg(test)]
mod tests;
