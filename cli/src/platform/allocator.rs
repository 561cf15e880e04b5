//! Large buffers begin at a cache line.
//!
//! The system's allocator aligns to 16 bytes. A vector of AVX-512 is a whole line: in such a buffer
//! each would lie across two, and none could be written past the caches, which takes whole lines.
//! Only a program can choose its allocator, so this is here and not beside the tensors.

#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "each method is one idea: move a buffer up, or down again"
)]

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with large buffers moved up to the next cache line.
pub(crate) struct Aligned;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes from which on a buffer is large: smaller ones hardly ever hold numbers.
const LARGE: usize = 64 * 1024;

/// What is asked of the system: room for a line more. `None` if the buffer is small, or aligned
/// already.
fn enlarged(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE || layout.align() >= LINE {
        return None;
    }
    Layout::from_size_align(layout.size().checked_add(LINE)?, layout.align().max(align_of::<usize>())).ok()
}

/// The first line behind the start of a buffer that is a line longer than was asked for; in front
/// of it is how far that is.
///
/// # Safety
/// `start` is null or the start of a buffer of `enlarged(layout)`.
unsafe fn moved_up(start: *mut u8) -> *mut u8 {
    if start.is_null() {
        return start;
    }
    let distance = LINE - start.addr() % LINE;
    // SAFETY: the buffer is longer than asked for by a line, which is at least `distance`. The
    // start is a multiple of the size of a `usize`, and so is a line: hence there is room for one
    // in between, and it is aligned.
    unsafe {
        let line = start.add(distance);
        line.cast::<usize>().sub(1).write(distance);
        line
    }
}

// SAFETY: all memory is the system's. What `alloc` and `alloc_zeroed` move up, `dealloc` moves down
// by the distance in front of it; both decide by the layout alone, which is the same
// for both. `realloc` leaves to the system what is small before and after, and else calls the
// others.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller vouches for the layout, and `enlarged` makes it only longer and
        // stricter.
        unsafe {
            match enlarged(layout) {
                Some(enlarged) => moved_up(System.alloc(enlarged)),
                None => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe {
            match enlarged(layout) {
                Some(enlarged) => moved_up(System.alloc_zeroed(enlarged)),
                None => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, buffer: *mut u8, layout: Layout) {
        // SAFETY: the buffer came from here with this layout, so what was moved up has its distance
        // in front of it.
        unsafe {
            match enlarged(layout) {
                Some(enlarged) => {
                    let distance = buffer.cast::<usize>().sub(1).read();
                    System.dealloc(buffer.sub(distance), enlarged);
                }
                None => System.dealloc(buffer, layout),
            }
        }
    }

    unsafe fn realloc(&self, buffer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller vouches for the buffer, its layout and the new size.
        unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            if enlarged(layout).is_none() && enlarged(new).is_none() {
                return System.realloc(buffer, layout, size);
            }
            let moved = self.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(buffer, layout.size().min(size));
                self.dealloc(buffer, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn large_buffers_begin_at_a_line_and_keep_their_numbers_when_they_grow() {
        for len in [1, 1000, super::LARGE / 4 - 1, super::LARGE / 4, 1_000_001] {
            let mut numbers: Vec<u32> = (0..len as u32).collect();
            let zeros = vec![0u32; len];
            for buffer in [&numbers, &zeros] {
                assert!(
                    4 * len < super::LARGE || buffer.as_ptr().addr().is_multiple_of(super::LINE),
                    "{len}"
                );
            }
            assert!(zeros.iter().all(|&zero| zero == 0));
            for end in [2 * len, 10 * len, 20_000 + len] {
                numbers.extend(numbers.len() as u32..end as u32);
            }
            numbers.truncate(len);
            numbers.shrink_to_fit();
            assert!((0..).zip(&numbers).all(|(i, &number)| i == number), "{len}");
        }
    }
}
