//! How the kernels whose time is reading and writing are cut into tasks: by shape, never by the
//! number of threads, so that each sum has the same order everywhere and a seed gives the same bits
//! on every machine of one instruction set.

use std::borrow::Cow;
use std::cell::Cell;

use aquatint_tensor::{Element, View};
use rayon::prelude::*;

/// As many tasks as keep all cores at work: where large ones would be fewer, they are made smaller.
pub(crate) const MIN_TASKS: usize = 16;

/// Numbers in a task. 64 KiB stay in the L2 cache from one pass to the next, and take longer than
/// starting a task does.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Rows of `columns` numbers that make up a task: about [`CHUNK`] numbers, at least one row.
pub(crate) fn rows_per_task(columns: usize) -> usize {
    (CHUNK / columns.max(1)).max(1)
}

thread_local! {
    /// Whether this thread is inside of [`for_each_chain`].
    static IN_CHAIN: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` for each item in parallel, depth first: the products and norms that `f` calls are not
/// cut into tasks for other threads, so that what one leaves in the cache is there for the next.
pub fn for_each_chain<T: Send>(items: Vec<T>, f: impl Fn(T) + Sync) {
    /// Leaves the chain, also if `f` panics.
    struct Guard(bool);
    impl Drop for Guard {
        fn drop(&mut self) {
            IN_CHAIN.set(self.0);
        }
    }
    items.into_par_iter().for_each(|item| {
        let _guard = Guard(IN_CHAIN.replace(true));
        f(item);
    });
}

/// Calls `f` for all tasks of a kernel: in parallel, or inside of a chain one after the other.
pub(crate) fn for_each_task<T: Send>(
    tasks: impl IndexedParallelIterator<Item = T>,
    f: impl Fn(T) + Sync + Send,
) {
    if IN_CHAIN.get() {
        tasks.with_min_len(usize::MAX).for_each(f);
    } else {
        tasks.for_each(f);
    }
}

/// As many tasks as a kernel should have: [`MIN_TASKS`], inside of a chain one.
pub(crate) fn min_tasks() -> usize {
    if IN_CHAIN.get() { 1 } else { MIN_TASKS }
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
