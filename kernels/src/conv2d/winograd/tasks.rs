//! What runs in parallel: first the input's transform, then all products with the output's.
//!
//! ```text
//! for each slab of tiles                                  (the values of its input take 8 MB)
//!     in parallel: for each patch × block of channels
//!         values of the input = transform of 6×6 pixels   (at the border zeros)
//!     in parallel: for each patch × group of panels       (a task)
//!         for each panel, for each block of channels
//!             values of the weights = transform of 3×3    (36 × 64 channels; stay in the L2 cache)
//!             for each of the 36 points, each 12 tiles    (their sums live in registers)
//!                 sums += input · weights
//!         transform the sums to 4×4 pixels and write them, through the epilogue
//! ```
//!
//! The weights' values would be four times the weights, in f32 eight times what is published in
//! f16: seven gigabytes for Stable Diffusion 1.5. So they are made anew in each task, for 128 tiles
//! of 16 pixels, or all if there are fewer.

use std::cell::RefCell;
use std::ops::Range;

use super::{BLOCK, Grid, IN, OUT, POINTS, Patch, TASK_TILES, ranges, transforms};
use crate::cpu::simd::{Op, Simd};
use crate::cpu::stored::Stored;
use crate::gemm::{self, Epilogue, MR, MR_STEP, NR, PanelRow, TileOrigin, ZEROS, tile};

/// Channels whose weights are converted at a time: nine taps of them take 9 KB.
const CONVERTED: usize = 8;

/// Transforms a block of channels of a patch: `values: [36][tiles][channels of the block]`.
pub(super) struct Input<'a> {
    pub(super) grid: Grid<'a>,
    pub(super) patch: Patch,
    pub(super) block: Range<usize>,
    pub(super) values: &'a mut [f32],
}

impl Op for Input<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Input { grid, patch, block, values } = self;
        let (len, point_len) = (block.len(), patch.tiles() * block.len());
        let places = patch.rows.flat_map(|row| patch.columns.clone().map(move |column| (row, column)));
        for (i, (row, column)) in places.enumerate() {
            let pixels = pixels(&grid, row, column, &block);
            for c in (0..len).step_by(S::LANES) {
                let whole = c + S::LANES <= len;
                let mut tile = [[s.zero(); IN]; IN];
                for y in 0..IN {
                    for x in 0..IN {
                        let pixel = &pixels[y][x][c..];
                        tile[y][x] = if whole { s.load(pixel) } else { s.load_or(pixel, 0.0) };
                    }
                }
                let tile = transforms::input(s, &tile);
                for y in 0..IN {
                    for x in 0..IN {
                        let start = (y * IN + x) * point_len + i * len;
                        let out = &mut values[start + c..start + len];
                        if whole { s.store(tile[y][x], out) } else { s.store_part(tile[y][x], out) }
                    }
                }
            }
        }
    }
}

/// The 6×6 pixels under a tile, of each the channels of a block: its 4×4 and one more on each side.
#[inline(always)]
fn pixels<'a>(grid: &Grid<'a>, row: usize, column: usize, block: &Range<usize>) -> [[&'a [f32]; IN]; IN] {
    let (image, top) = grid.place(row);
    let mut pixels = [[&ZEROS[..block.len()]; IN]; IN];
    for y in 0..IN {
        // Line 0 of the image is line 1 of the padded one.
        let Some(line) = (top + y).checked_sub(1).filter(|&line| line < grid.height) else { continue };
        for x in 0..IN {
            let position = (column * OUT + x).checked_sub(1).filter(|&position| position < grid.width);
            if let Some(position) = position {
                pixels[y][x] = &grid.x[grid.pixel(image, line, position)..][block.clone()];
            }
        }
    }
    pixels
}

/// Buffers that a thread keeps from task to task, each padded by one row so that the 36 do not map
/// to the same cache set.
pub(super) struct WinogradBuffers {
    sums: Box<[[PanelRow; TASK_TILES + 1]]>,
    weights: Box<[[PanelRow; BLOCK + 1]]>,
    /// The outputs of a tile.
    pixels: [[PanelRow; OUT]; OUT],
}

thread_local! {
    pub(super) static SCRATCH: RefCell<WinogradBuffers> = RefCell::new(WinogradBuffers {
        sums: vec![[PanelRow::ZERO; TASK_TILES + 1]; POINTS].into(),
        weights: vec![[PanelRow::ZERO; BLOCK + 1]; POINTS].into(),
        pixels: [[PanelRow::ZERO; OUT]; OUT],
    });
}

/// A task: the products of a patch with some panels.
pub(super) struct Products<'a, T> {
    pub(super) grid: Grid<'a>,
    pub(super) patch: &'a Patch,
    pub(super) panels: Range<usize>,
    /// Of the whole patch, block by block.
    pub(super) values: &'a [f32],
    /// Channels of a block.
    pub(super) block: usize,
    pub(super) w: &'a gemm::PackedWeights,
    pub(super) epilogue: &'a Epilogue<'a, T>,
    pub(super) place: TileOrigin,
    /// The columns of `panels` of the patch's pixels.
    pub(super) out: Vec<&'a mut [T]>,
    pub(super) scratch: &'a mut WinogradBuffers,
}

impl<T: Stored> Op for Products<'_, T> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(mut self, s: S) {
        let tiles = self.patch.tiles();
        let blocks: Vec<Range<usize>> = ranges(self.grid.channels, self.block).collect();
        for panel in self.panels.clone() {
            for (i, block) in blocks.iter().enumerate() {
                transform_weights(s, self.w, panel, block.clone(), &mut self.scratch.weights);
                // While this block is multiplied, the next one's weights come from memory: nine
                // short pieces, for which the CPU's own prefetching is too late.
                match blocks.get(i + 1) {
                    Some(next) => prefetch_weights(s, self.w, panel, next),
                    None if panel + 1 < self.panels.end => {
                        prefetch_weights(s, self.w, panel + 1, &blocks[0]);
                    }
                    None => {}
                }
                let values = &self.values[POINTS * tiles * block.start..];
                for (point, (sums, weights)) in
                    self.scratch.sums.iter_mut().zip(&self.scratch.weights).enumerate()
                {
                    let values = &values[point * tiles * block.len()..][..tiles * block.len()];
                    multiply(s, values, &weights[..block.len()], sums, block.start == 0);
                }
            }
            self.store(s, panel);
        }
    }
}

/// `sums += values · weights` at one point; `values: [tiles][channels]`.
#[inline(always)]
fn multiply<S: Simd>(s: S, values: &[f32], weights: &[PanelRow], sums: &mut [PanelRow], first: bool) {
    let len = weights.len();
    let tiles = values.len() / len;
    let sums = &mut sums[..tiles.next_multiple_of(MR_STEP)];
    for (values, sums) in values.chunks(MR * len).zip(sums.chunks_mut(MR)) {
        let mut rows = [&ZEROS[..len]; MR];
        for (row, values) in rows.iter_mut().zip(values.chunks_exact(len)) {
            *row = values;
        }
        tile(s, &rows[..sums.len()], weights, sums, first);
    }
}

/// Has all taps of a block of channels of a panel's weights fetched.
#[inline(always)]
fn prefetch_weights<S: Simd>(s: S, w: &gemm::PackedWeights, panel: usize, block: &Range<usize>) {
    for tap in 0..9 {
        w.prefetch(s, panel, tap * w.segment_len() + block.start, block.len());
    }
}

/// The values of a block of channels of a panel's weights, `[36][channels]`.
#[inline(always)]
fn transform_weights<S: Simd>(
    s: S,
    w: &gemm::PackedWeights,
    panel: usize,
    block: Range<usize>,
    values: &mut [[PanelRow; BLOCK + 1]],
) {
    let values: &mut [[PanelRow; BLOCK + 1]; POINTS] = values.try_into().expect("a row for each point");
    let mut rooms = [[PanelRow::ZERO; CONVERTED]; 9];
    for part in ranges(block.len(), CONVERTED) {
        let mut taps: [&[PanelRow]; 9] = [&[]; 9];
        for (segment, (tap, room)) in taps.iter_mut().zip(&mut rooms).enumerate() {
            let start = segment * w.segment_len() + block.start + part.start;
            *tap = w.block(s, panel, start, part.len(), room);
        }
        for (i, k) in part.enumerate() {
            for column in (0..NR).step_by(S::LANES) {
                let mut window = [[s.zero(); 3]; 3];
                for y in 0..3 {
                    for x in 0..3 {
                        window[y][x] = s.load(&taps[3 * y + x][i][column..]);
                    }
                }
                let window = transforms::weights(s, &window);
                for y in 0..IN {
                    for x in 0..IN {
                        s.store(window[y][x], &mut values[y * IN + x][k][column..]);
                    }
                }
            }
        }
    }
}

impl<T: Stored> Products<'_, T> {
    /// Transforms the sums of a panel and writes them.
    #[inline(always)]
    fn store<S: Simd>(&mut self, s: S, panel: usize) {
        let (grid, Patch { rows, columns }) = (self.grid, self.patch);
        let WinogradBuffers { sums, pixels, .. } = &mut *self.scratch;
        let sums: &[[PanelRow; TASK_TILES + 1]; POINTS] = (&**sums).try_into().expect("a row for each point");
        let place = TileOrigin { column: panel * NR, ..self.place };
        let column = (panel - self.panels.start) * NR;
        let left = columns.start * OUT;
        let width = (columns.end * OUT).min(grid.width) - left;
        let (mut i, mut first) = (0, 0);
        for row in rows.clone() {
            let ((image, top), height) = (grid.place(row), grid.height_of(row));
            for x in (left..left + width).step_by(OUT) {
                transform_sums(s, sums, i, pixels);
                let pixels_wide = OUT.min(left + width - x);
                for dy in 0..height {
                    let m = (image * grid.height + top + dy) * grid.width + x;
                    let out = &mut self.out[first + dy * width + x - left..][..pixels_wide];
                    let sums = &pixels[dy][..pixels_wide];
                    self.epilogue.store_rows(s, sums, (m, place), false, (out, column), &mut ());
                }
                i += 1;
            }
            first += height * width;
        }
    }
}

/// The 4×4 pixels of tile `i`.
#[inline(always)]
fn transform_sums<S: Simd>(
    s: S,
    sums: &[[PanelRow; TASK_TILES + 1]; POINTS],
    i: usize,
    pixels: &mut [[PanelRow; OUT]; OUT],
) {
    for column in (0..NR).step_by(S::LANES) {
        let mut products = [[s.zero(); IN]; IN];
        for y in 0..IN {
            for x in 0..IN {
                products[y][x] = s.load(&sums[y * IN + x][i][column..]);
            }
        }
        let products = transforms::output(s, &products);
        for y in 0..OUT {
            for x in 0..OUT {
                s.store(products[y][x], &mut pixels[y][x][column..]);
            }
        }
    }
}
