//! Attention for a unit that multiplies while the vectors weigh: see [`beats`](crate::gemm::bf16::beats) for what happens at a time.
//!
//! ```text
//! for each head, once:      K in steps (columns are keys), V in groups of 48 columns, a column of ones behind the last
//! for a chunk of queries:   Q in tiles; m of each query from its scores for the first 32 keys
//!     for each block of keys: the beats of all its units for all queries; then the other groups of V
//!     out = O / the column of sums
//! ```
//!
//! A block of keys stays in the L1 cache while the queries of a chunk come from L2. m is a guess, which real scores do not prove wrong: only if a later
//! score were 2¹²⁷ times as heavy would a weight overflow. That is checked at the end, and then there is no result.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::panels::{Place, contiguous_rows, for_each_chunk};
use super::rounded::Tiles;
use super::{Attention, check};
use crate::gemm::bf16::beats::{
    BLOCK, GROUP, KEYS, Plan, QUERIES, Scores, Stage, SumTile, blocks, pair_of_keys, shift, trusted,
};
use crate::gemm::bf16::{ATile, BStep, Job, Line, Lines, Pair, STEP, TILE, Unit, ZERO_TILE};
use crate::gemm::{PANEL, Panel};
use crate::isa::UnitOp;
use crate::simd::{MAX_LANES, Simd};
use crate::{Isa, Precision};

/// Tiles of queries of a task.
const CHUNK: usize = 32;
/// The same if there would be too few tasks.
const SMALL_CHUNK: usize = 8;
/// As many as should be enough for all cores.
const MIN_TASKS: usize = 16;
/// Columns of V that are multiplied in one go.
const GROUP_COLUMNS: usize = GROUP * TILE;

/// Whether this is the fastest form: with a unit that can, and if all keys are seen by all queries.
pub(super) fn pays(isa: Isa, settings: Attention) -> bool {
    isa.has_beats() && !settings.causal
}

/// Attention in bf16, interleaved; see [`attention`](super::attention()). `None` if some weights were too large to be represented: then
/// [`rounded`](super::rounded) can do it.
///
/// # Panics
/// As [`attention`](super::attention()); also if the precision is not bf16, or causal attention is asked for.
pub fn attention(
    isa: Isa,
    q: View<'_, f32, 4>,
    k: View<'_, f32, 4>,
    v: View<'_, f32, 4>,
    settings: Attention,
) -> Option<Tensor<f32, 4>> {
    let (images, queries, keys, heads, head_dim) = check(q, k, v);
    assert!(
        settings.precision == Precision::Bf16 && !settings.causal,
        "interleaved attention is for {settings:?}"
    );
    let mut out = Tensor::recycled([images, queries, heads, head_dim]);
    if out.is_empty() {
        return Some(out);
    }
    let copies = [q, k, v].map(contiguous_rows);
    let [q, k, v] = [(0, q), (1, k), (2, v)].map(|(i, x)| copies[i].as_ref().map_or(x, Tensor::view));
    let packed: Vec<Head> = (0..images * heads)
        .into_par_iter()
        .map(|i| {
            let [k, v] = [k, v].map(|x| x.select::<3>(0, i / heads).select::<2>(1, i % heads));
            isa.run_with_unit(Pack { k, v })
        })
        .collect();

    let enough = images * heads * queries.div_ceil(CHUNK * QUERIES) >= MIN_TASKS;
    let chunk = QUERIES * if enough { CHUNK } else { SMALL_CHUNK };
    let doubted = AtomicBool::new(false);
    for_each_chunk(&mut out, chunk, |place, out| {
        let head = &packed[place.image * heads + place.head];
        let Place { image, head: h, first_query } = place;
        let q = q.select::<3>(0, image).select::<2>(1, h).slice(0, first_query..first_query + out.len());
        SCRATCH.with_borrow_mut(|scratch| {
            if !isa.run_with_unit(Run { q, head, keys, scale: settings.scale, out, scratch }) {
                doubted.store(true, Relaxed);
            }
        });
    });
    (!doubted.into_inner()).then_some(out)
}

/// What all queries of a head share.
struct Head {
    /// K: `[units][steps]`
    keys: Lines,
    /// V: `[groups][units][3]` tiles
    values: Lines,
    units: usize,
}

/// K and V of a head, `[keys, head_dim]`.
struct Pack<'a> {
    k: View<'a, f32, 2>,
    v: View<'a, f32, 2>,
}

impl UnitOp for Pack<'_> {
    type Output = Head;
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) -> Head {
        unit.run(s, PackHere(self))
    }
}

/// The same, compiled for the unit.
struct PackHere<'a>(Pack<'a>);

impl UnitOp for PackHere<'_> {
    type Output = Head;
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) -> Head {
        let Pack { k, v } = self.0;
        let [keys, head_dim] = k.shape();
        let (units, steps) = (keys.div_ceil(KEYS), head_dim.div_ceil(STEP));
        let groups = groups(head_dim);
        let mut head = Head {
            keys: Lines::recycled(units * steps * 2 * STEP / 2),
            values: Lines::recycled(groups * units * GROUP * TILE),
            units,
        };

        let mut rounded = vec![[Line::ZERO; PANEL]; steps];
        let rows: Vec<&[f32]> = k.rows().collect();
        for (rows, packed) in rows.chunks(KEYS).zip(head.keys.steps_mut().chunks_mut(steps)) {
            rounded.fill([Line::ZERO; PANEL]);
            let mut planes: Vec<&mut [Line]> = rounded.iter_mut().map(|step| &mut step[..]).collect();
            unit.round_rows(rows, &mut planes, 0);
            for (packed, step) in packed.iter_mut().zip(&rounded) {
                *packed = BStep::from_lines(s, step);
            }
        }

        let rows: Vec<&[f32]> = v.rows().collect();
        let (tiles, _) = head.values.as_chunks_mut::<TILE>();
        for (i, tile) in tiles.iter_mut().enumerate() {
            let (group, unit_of_keys, column) = (i / GROUP / units, i / GROUP % units, i % GROUP * TILE);
            let columns = group * GROUP_COLUMNS + column..;
            for (r, line) in tile.iter_mut().enumerate() {
                let first = unit_of_keys * KEYS + pair_of_keys(r);
                let [first, second] = [0, 1].map(|i| Values::of(rows.get(first + i).copied(), columns.start));
                for lane in (0..TILE).step_by(S::LANES) {
                    let [first, second] = [&first, &second].map(|x| x.load(s, lane));
                    unit.round_pairs(s, first, second, &mut line.0[lane..]);
                }
                if let Some(pair) = head_dim.checked_sub(columns.start).and_then(|at| line.0.get_mut(at)) {
                    let [first, second] = [&first, &second].map(|x| f32::from(u8::from(x.exist)).to_bits());
                    *pair = Pair::of(first, second);
                }
            }
        }
        head
    }
}

/// A key's values from some column on.
struct Values<'a> {
    numbers: &'a [f32],
    exist: bool,
}

impl<'a> Values<'a> {
    #[inline(always)]
    fn of(row: Option<&'a [f32]>, column: usize) -> Self {
        Self { numbers: row.and_then(|row| row.get(column..)).unwrap_or(&[]), exist: row.is_some() }
    }

    /// A vector of them, zeros where there are none.
    #[inline(always)]
    fn load<S: Simd>(&self, s: S, lane: usize) -> S::V {
        let numbers = self.numbers.get(lane..).unwrap_or(&[]);
        if numbers.len() >= S::LANES { s.load(numbers) } else { s.load_or(numbers, 0.0) }
    }
}

/// Groups of columns of V, with the column of ones.
fn groups(head_dim: usize) -> usize {
    (head_dim + 1).div_ceil(GROUP_COLUMNS)
}

/// Some queries of one head of one image.
struct Run<'a> {
    /// `[queries, head_dim]`
    q: View<'a, f32, 2>,
    head: &'a Head,
    keys: usize,
    scale: f32,
    /// A row for each query, `[queries][head_dim]`.
    out: Vec<&'a mut [f32]>,
    scratch: &'a mut Scratch,
}

/// Buffers that a thread keeps from task to task.
struct Scratch {
    scores: [Scores; 2],
    weights: Vec<ATile>,
    /// `[groups][tiles of queries + 1]`
    sums: Vec<[SumTile; GROUP]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { scores: [Scores::ZERO; 2], weights: Vec::new(), sums: Vec::new() }) };
}

impl UnitOp for Run<'_> {
    /// Whether the sums can be trusted.
    type Output = bool;
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) -> bool {
        let Run { q, head, keys, scale, mut out, scratch } = self;
        let [queries, head_dim] = q.shape();
        let (steps, tiles, groups) = (head_dim.div_ceil(STEP), queries.div_ceil(QUERIES), groups(head_dim));
        let factor = scale * std::f32::consts::LOG2_E;
        let q = Tiles::pack(unit, q, 1);
        let (k, units) = (head.keys.steps(), head.units);
        let (v, _) = head.values.as_chunks::<TILE>();
        let values = |group: usize| &v[group * units * GROUP..][..units * GROUP];
        let shifts = estimate((s, unit), q.all(), &k[..steps], keys.min(KEYS), factor);

        let Scratch { scores, weights, sums } = scratch;
        sums.clear();
        sums.resize(groups * (tiles + 1), [SumTile::ZERO; GROUP]);
        let plan_of = |units: usize| Plan::new(tiles, units, steps, groups > 1);
        let mut plan = plan_of(units.min(BLOCK));
        weights.resize(plan.weights(), ZERO_TILE);
        for block in blocks(units) {
            if block.len() < BLOCK {
                plan = plan_of(block.len());
            }
            let stage = Stage {
                factor,
                queries: q.all(),
                keys: &k[block.start * steps..],
                values: &values(0)[block.start * GROUP..],
                shifts: &shifts,
                scores,
                weights,
                sums: &mut sums[..=tiles],
            };
            unit.play(&plan, stage);
            for group in 1..groups {
                let values = &values(group)[block.start * GROUP..block.end * GROUP];
                let sums = &mut sums[group * (tiles + 1)..][..tiles];
                for (weights, sums) in weights.chunks(block.len()).zip(sums) {
                    unit.add_values(weights, values, sums);
                }
            }
        }

        let column = |sums: &[[SumTile; GROUP]], i: usize, column: usize| -> [f32; TILE] {
            let (group, tile) = (column / GROUP_COLUMNS, column % GROUP_COLUMNS / TILE);
            sums[group * (tiles + 1) + i / QUERIES][tile].0[i % QUERIES]
        };
        let mut good = true;
        for (i, out) in out.iter_mut().enumerate() {
            let total = column(sums, i, head_dim)[head_dim % TILE];
            good &= trusted(total);
            let factor = s.splat(1.0 / total);
            for (first, out) in (0..head_dim).step_by(TILE).zip(out.chunks_mut(TILE)) {
                let sums = column(sums, i, first);
                for (lane, out) in (0..TILE).step_by(S::LANES).zip(out.chunks_mut(S::LANES)) {
                    let mean = s.mul(s.load(&sums[lane..]), factor);
                    if out.len() == S::LANES { s.store(mean, out) } else { s.store_part(mean, out) }
                }
            }
        }
        good
    }
}

/// The shift of each query for an m that is its largest score for the keys of the first unit, rounded up.
#[inline(always)]
fn estimate<S: Simd, U: Unit>(
    (s, unit): (S, U),
    queries: &[ATile],
    keys: &[BStep],
    count: usize,
    factor: f32,
) -> Vec<[f32; QUERIES]> {
    let steps = keys.len();
    let mut sums = [Panel::ZERO; 2 * TILE];
    let mut shifts = Vec::with_capacity(queries.len() / steps + 1);
    for pair in queries.chunks(2 * steps) {
        let tiles: Vec<&ATile> = pair.iter().collect();
        let (upper, lower) = tiles.split_at(steps);
        let lower = (!lower.is_empty()).then_some(lower);
        let rows = if lower.is_some() { 2 * TILE } else { TILE };
        unit.multiply(s, Job { upper, lower, b: keys, first: true }, &mut sums[..rows]);
        for rows in sums[..rows].chunks(TILE) {
            let mut tile = [0.0; QUERIES];
            for (rows, tile) in rows.chunks(S::LANES).zip(tile.chunks_mut(S::LANES)) {
                let mut largest = [s.splat(f32::MIN); MAX_LANES];
                for (largest, row) in largest.iter_mut().zip(rows) {
                    *largest = s.reduce(&row[..count], f32::MIN, *largest, |a, b| s.max(a, b));
                }
                s.transpose(&mut largest);
                let all = largest[..S::LANES].iter().fold(largest[0], |a, &b| s.max(a, b));
                s.store(all, tile);
            }
            shifts.push(tile.map(|largest| shift((largest * factor).ceil())));
        }
    }
    shifts
}
