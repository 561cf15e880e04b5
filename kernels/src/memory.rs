//! Large buffers on huge pages.
//!
//! Memory comes from the kernel in pages of 4 KiB, each mapped and cleared when it is first touched. The weights of Stable Diffusion 1.5
//! in f16 are 500 000 such pages, and finding them again costs time later as well: a core remembers the places of a few thousand pages,
//! a row of an image of 42 MB lies on any of ten thousand. Linux can map 2 MiB at a time, if a range is aligned to
//! that and it is asked before the range is touched. [`HugePages`] asks, for every allocation that is large enough; a program turns it on with one line:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: aquatint_kernels::memory::HugePages = aquatint_kernels::memory::HugePages;
//! # let x = vec![0u8; 4 << 20];
//! # assert!(!cfg!(target_os = "linux") || x.as_ptr().addr() % (2 << 20) == 0);
//! ```
//!
//! What is freed goes back to the kernel at once. [`Recycling`](aquatint_tensor::Recycling) keeps what will be needed again.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, but allocations of 2 MiB and more begin on a huge page, where the operating system has such.
pub struct HugePages;

/// The size of a huge page on x86-64, and on aarch64 with pages of 4 KiB.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

// SAFETY: small allocations are the system allocator's from beginning to end, large ones `large`'s; `is_large` decides by the layout, which is
// the same when a block is allocated and freed. A block that changes from one side to the other is moved.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_large(layout) {
            true => large::map(layout.size()),
            // SAFETY: the caller's promises are those that `System` asks for.
            false => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_large(layout) {
            true => large::map(layout.size()), // new pages are zero
            // SAFETY: as above.
            false => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match is_large(layout) {
            // SAFETY: the caller promises that the block was allocated here with this layout, so by `map` and with this size.
            true => unsafe { large::unmap(block, layout.size()) },
            // SAFETY: as above.
            false => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises a size that does not overflow when it is rounded up to the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if !is_large(layout) && !is_large(new_layout) {
            // SAFETY: as above; the block stays on the system's side.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        // SAFETY: a new block of a size that the caller promises not to be zero.
        let new_block = unsafe { self.alloc(new_layout) };
        if !new_block.is_null() {
            let length = layout.size().min(new_size);
            // SAFETY: both blocks are at least so long, and a block that was just allocated overlaps no other.
            unsafe { std::ptr::copy_nonoverlapping(block, new_block, length) };
            // SAFETY: the caller promises that the block was allocated here with this layout; it is not used any more.
            unsafe { self.dealloc(block, layout) };
        }
        new_block
    }
}

#[cfg(target_os = "linux")]
fn is_large(layout: Layout) -> bool {
    layout.size() >= HUGE && layout.align() <= HUGE
}

#[cfg(not(target_os = "linux"))]
fn is_large(_: Layout) -> bool {
    false
}

/// Blocks that are mapped, each on its own.
#[cfg(target_os = "linux")]
mod large {
    use std::ptr::null_mut;

    use super::HUGE;

    /// A new block of zeros, aligned to a huge page; null if there is no memory.
    pub(super) fn map(size: usize) -> *mut u8 {
        // Where a mapping begins cannot be chosen, so a larger one is made and both ends are cut off. They are whole pages of 4 KiB, since the
        // mapping, its size and a huge page are.
        let Some(reserved) = pages(size).and_then(|size| size.checked_add(HUGE)) else { return null_mut() };
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping at a place that the kernel chooses touches nothing that exists.
        let start = unsafe { libc::mmap(null_mut(), reserved, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return null_mut();
        }
        let start = start.cast::<u8>();
        let before = start.addr().wrapping_neg() % HUGE;
        let block = start.wrapping_add(before);
        let size = reserved - HUGE;
        for (end, length) in [(start, before), (block.wrapping_add(size), HUGE - before)] {
            if length > 0 {
                // SAFETY: both ends lie in the mapping that was just made, outside of the block, and nobody knows of them.
                unsafe { libc::munmap(end.cast(), length) };
            }
        }
        // SAFETY: the range is the block. It is advice: a refusal changes nothing.
        unsafe { libc::madvise(block.cast(), size, libc::MADV_HUGEPAGE) };
        block
    }

    /// Gives a block back.
    ///
    /// # Safety
    /// It must come from `map` with the same size, and not be used any more.
    pub(super) unsafe fn unmap(block: *mut u8, size: usize) {
        if let Some(size) = pages(size) {
            // SAFETY: by the caller's promise these are exactly the pages of one block.
            unsafe { libc::munmap(block.cast(), size) };
        }
    }

    /// `size` in whole pages; `None` if that is more than there are addresses.
    fn pages(size: usize) -> Option<usize> {
        const LARGEST_SMALL_PAGE: usize = 64 << 10; // of any Linux
        size.checked_next_multiple_of(LARGEST_SMALL_PAGE)
    }
}

#[cfg(not(target_os = "linux"))]
mod large {
    pub(super) fn map(_: usize) -> *mut u8 {
        unreachable!("nothing is large here")
    }

    pub(super) unsafe fn unmap(_: *mut u8, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 4).expect("a valid layout")
    }

    /// Allocates, checks and fills a block of each size, changes its size, and checks what was kept.
    #[test]
    fn blocks_are_zero_where_asked_keep_their_contents_and_are_aligned() {
        let sizes = [1, 1000, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 7 << 20];
        for (size, new_size) in sizes.iter().flat_map(|&a| sizes.map(|b| (a, b))) {
            // SAFETY: neither size is zero.
            let block = unsafe { HugePages.alloc_zeroed(layout(size)) };
            assert!(!block.is_null());
            if cfg!(target_os = "linux") && size >= 2 << 20 {
                assert_eq!(block.addr() % (2 << 20), 0, "{size} bytes");
            }
            // SAFETY: the block has so many bytes, which are zero, and is only used here.
            let bytes = unsafe { std::slice::from_raw_parts_mut(block, size) };
            assert!(bytes.iter().all(|&byte| byte == 0), "{size} bytes");
            bytes.fill(7);
            // SAFETY: the block was allocated with this layout, and `bytes` is not used again.
            let block = unsafe { HugePages.realloc(block, layout(size), new_size) };
            // SAFETY: as many bytes of the new block as both sizes have were written.
            let bytes = unsafe { std::slice::from_raw_parts(block, size.min(new_size)) };
            assert!(bytes.iter().all(|&byte| byte == 7), "{size} to {new_size} bytes");
            // SAFETY: the block now has this layout, and `bytes` is not used again.
            unsafe { HugePages.dealloc(block, layout(new_size)) };
        }
    }

    #[test]
    fn more_than_there_is_gives_null() {
        // SAFETY: the size is not zero.
        let block = unsafe { HugePages.alloc(layout(isize::MAX as usize - 7)) };
        assert!(block.is_null());
    }
}
