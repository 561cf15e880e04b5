//! Buffers that are used again: the memory of a finished layer serves the next.
//!
//! A large buffer comes from the operating system a page at a time, each cleared when it is first
//! touched, and goes back when it is freed. A UNet step at 512×512 allocates 3 GB like that, one
//! layer after the other: 700 000 page faults. While somebody holds a [`Recycling`], freed buffers
//! of `f32` and `f16` are kept instead, and [`Tensor::recycled`](crate::Tensor::recycled) takes the
//! smallest that will do. Sizes repeat from step to step, so from the second step on nothing is
//! asked of the operating system any more.
//!
//! Where sizes grow from layer to layer, as in the VAE's decoder, nothing that is kept would fit
//! any more. So a buffer that has to be allocated takes the place of smaller ones, which are freed
//! until as much is gained as it needs.
//!
//! Huge pages were tried as well and are not asked for. The layers took 2 % less CPU time on them;
//! but on a virtual machine, whose host gives memory a small page at a time, each of them took 3 ms
//! to appear: three seconds for the weights of Stable Diffusion 1.5.
//!
//! No plan of lifetimes is needed: Rust frees each tensor at its last use, which is what such a
//! plan would compute.

use std::sync::{Mutex, PoisonError};

use crate::element::{Element, f16};

/// Numbers in the smallest buffer that is kept, 64 KiB; smaller ones the allocator keeps itself.
const SMALLEST: usize = 16 * 1024;

/// Freed buffers of one type.
#[doc(hidden)]
pub struct Pool<T> {
    /// How many hold a [`Recycling`].
    holders: usize,
    /// Freed buffers, by capacity.
    buffers: Vec<Vec<T>>,
    /// Numbers in buffers that were handed out and have not come back. No more is kept than that: a
    /// tensor whose memory came from elsewhere, once in each step, would otherwise make the pool
    /// larger in each step.
    lent: usize,
}

impl<T> Pool<T> {
    const fn empty() -> Self {
        Self { holders: 0, buffers: Vec::new(), lent: 0 }
    }
}

static F32: Mutex<Pool<f32>> = Mutex::new(Pool::empty());
static F16: Mutex<Pool<f16>> = Mutex::new(Pool::empty());

/// A number of whose tensors the memory is kept.
pub trait Recycled: Element {
    /// The buffers of such numbers.
    #[doc(hidden)]
    fn pool() -> &'static Mutex<Pool<Self>>;
}

impl Recycled for f32 {
    fn pool() -> &'static Mutex<Pool<Self>> {
        &F32
    }
}

impl Recycled for f16 {
    fn pool() -> &'static Mutex<Pool<Self>> {
        &F16
    }
}

/// While one is alive, buffers that are freed anywhere in the process are kept for
/// [`Tensor::recycled`](crate::Tensor::recycled); with the last one all of them are freed.
///
/// ```
/// # use aquatint_tensor::{Recycling, Tensor};
/// let recycling = Recycling::start();
/// for _step in 0..20 {
///     let mut x = Tensor::<f32, 2>::recycled([1000, 1000]); // the same memory each time
///     x.as_mut_slice().fill(1.0);
/// }
/// drop(recycling);
/// ```
#[must_use = "buffers are kept as long as this is alive"]
pub struct Recycling(());

impl Recycling {
    /// From now on.
    pub fn start() -> Self {
        start::<f32>();
        start::<f16>();
        Self(())
    }
}

impl Drop for Recycling {
    fn drop(&mut self) {
        end::<f32>();
        end::<f16>();
    }
}

fn start<T: Recycled>() {
    let mut pool = T::pool().lock().unwrap_or_else(PoisonError::into_inner);
    if pool.holders == 0 {
        pool.lent = 0;
    }
    pool.holders += 1;
}

fn end<T: Recycled>() {
    let mut pool = T::pool().lock().unwrap_or_else(PoisonError::into_inner);
    pool.holders -= 1;
    if pool.holders == 0 {
        pool.buffers = Vec::new();
    }
}

impl<T> Pool<T> {
    /// The smallest buffer for `len` numbers, unless it would waste more than half of itself. If
    /// there is none, room is made for one.
    fn take(&mut self, len: usize) -> Option<Vec<T>> {
        let mut i = self.buffers.partition_point(|buffer| buffer.capacity() < len);
        if self.buffers.get(i).is_some_and(|buffer| buffer.capacity() / 2 <= len) {
            let buffer = self.buffers.remove(i);
            self.lent += buffer.capacity();
            return Some(buffer);
        }
        self.lent += len;
        let mut freed = 0;
        while i > 0 && freed < len {
            i -= 1;
            freed += self.buffers.remove(i).capacity();
        }
        None
    }

    fn give(&mut self, buffer: Vec<T>) {
        let Some(lent) = self.lent.checked_sub(buffer.capacity()) else { return };
        self.lent = lent;
        let i = self.buffers.partition_point(|other| other.capacity() < buffer.capacity());
        self.buffers.insert(i, buffer);
    }
}

/// `len` numbers, of any value; NaN in a debug build, so that a test fails if one of them is not
/// written.
pub(crate) fn take<T: Recycled>(len: usize) -> Vec<T> {
    let kept = match len < SMALLEST {
        true => None,
        false => T::pool().lock().unwrap_or_else(PoisonError::into_inner).take(len),
    };
    let mut buffer = match kept {
        Some(mut buffer) => {
            buffer.resize(len, T::default());
            buffer
        }
        None => vec![T::default(); len],
    };
    if cfg!(debug_assertions) {
        buffer.fill(T::from_f32(f32::NAN));
    }
    buffer
}

/// Keeps `buffer`, if it is large and somebody wants it to be kept.
pub(crate) fn give<T: Recycled>(buffer: Vec<T>) {
    if buffer.capacity() >= SMALLEST {
        let mut pool = T::pool().lock().unwrap_or_else(PoisonError::into_inner);
        if pool.holders > 0 {
            pool.give(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(capacities: &[usize]) -> Pool<f32> {
        let mut pool = Pool { holders: 1, buffers: Vec::new(), lent: capacities.iter().sum() };
        capacities.iter().for_each(|&capacity| pool.give(Vec::with_capacity(capacity)));
        pool
    }

    #[test]
    fn the_smallest_buffer_that_is_large_enough_is_taken() {
        let mut pool = pool(&[400, 100, 200]);
        assert_eq!(pool.take(150).map(|buffer| buffer.capacity()), Some(200));
        assert_eq!(pool.take(99), Some(vec![])); // no more than half of 100 is wasted
        pool.give(Vec::with_capacity(100));
        assert_eq!(pool.take(200).map(|buffer| buffer.capacity()), Some(400));
        assert_eq!(pool.take(100).map(|buffer| buffer.capacity()), Some(100));
        assert!(pool.buffers.is_empty());
    }

    #[test]
    fn a_new_buffer_takes_the_place_of_smaller_ones() {
        let mut pool = pool(&[50, 100, 200, 1000]);
        assert_eq!(pool.take(250), None); // 1000 would waste more than half
        let left: Vec<usize> = pool.buffers.iter().map(Vec::capacity).collect();
        assert_eq!(left, [50, 1000], "200 and 100 were freed, which is enough");
        assert_eq!(pool.take(60), None);
        assert_eq!(pool.buffers.len(), 1);
    }

    #[test]
    fn no_more_is_kept_than_was_lent() {
        let mut pool = pool(&[100, 200]);
        assert_eq!(pool.take(150).map(|buffer| buffer.capacity()), Some(200));
        assert_eq!(pool.take(300), None); // the 100 make room for a new one
        for _step in 0..10 {
            pool.give(Vec::with_capacity(300));
            pool.give(Vec::with_capacity(200)); // these two come back, or others like them
            pool.give(Vec::with_capacity(150)); // this one came from elsewhere
            let left: Vec<usize> = pool.buffers.iter().map(Vec::capacity).collect();
            assert_eq!(left, [200, 300]);
            assert!(pool.take(300).is_some() && pool.take(200).is_some());
        }
    }

    #[test]
    fn memory_is_kept_while_somebody_recycles_and_freed_afterwards() {
        // Of a length that no other test uses: the pool is shared by all threads.
        let len = 12_345_678;
        let has = || {
            let pool = f32::pool().lock().unwrap_or_else(PoisonError::into_inner);
            pool.buffers.iter().any(|buffer| buffer.capacity() == len)
        };
        give(vec![1.0_f32; len]);
        assert!(!has(), "recycling is off");
        let (outer, inner) = (Recycling::start(), Recycling::start());
        let first = take::<f32>(len);
        assert!(
            !cfg!(debug_assertions) || first.iter().all(|x| x.is_nan()),
            "a debug build marks what was not written"
        );
        let place = first.as_ptr();
        give(first);
        drop(inner);
        assert!(has(), "somebody else still recycles");
        let second = take::<f32>(len - 1);
        assert_eq!((second.len(), second.as_ptr()), (len - 1, place));
        give(second);
        drop(outer);
        assert!(!has());
    }
}
