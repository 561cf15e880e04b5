//! How the kernels whose time is reading and writing are cut into tasks: by shape, never by the number of threads, so
//! that each sum has the same order everywhere and a seed gives the same bits on every machine of one instruction set.

use std::borrow::Cow;

use aquatint_tensor::{Element, View};
use rayon::prelude::*;

/// As many tasks as keep all cores at work: where large ones would be fewer, they are made smaller.
pub(crate) const MIN_TASKS: usize = 16;

/// Numbers in a task. 64 KiB stay in the L2 cache from one pass to the next, and take longer than starting a task does.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Rows of `columns` numbers that make up a task: about [`CHUNK`] numbers, at least one row.
pub(crate) fn rows_per_task(columns: usize) -> usize {
    (CHUNK / columns.max(1)).max(1)
}

/// Calls `f` with each [`CHUNK`] of `x`, in parallel if there is more than one.
pub(crate) fn for_each_chunk(x: &mut [f32], f: impl Fn(&mut [f32]) + Send + Sync) {
    if x.len() <= CHUNK {
        f(x);
    } else {
        x.par_chunks_mut(CHUNK).for_each(f);
    }
}

/// The elements in row-major order, copied only if they do not stand like that already.
pub(crate) fn row_major<T: Element, const N: usize>(x: View<'_, T, N>) -> Cow<'_, [T]> {
    x.as_slice().map_or_else(|| x.to_tensor().into_vec().into(), Cow::from)
}
