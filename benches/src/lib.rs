//! Criterion benches for those who work on a kernel; `aquatint bench` measures all of them for
//! those who use it.
//!
//! | bench | what |
//! |---|---|
//! | `peak` | multiply-adds that never leave the registers: what the others are shares of |
//! | `gemm`, `conv2d` | each rung in f32 on each instruction set |
//! | `attention` | the form in f32 on each instruction set |
//! | `norms`, `activations` | what reads and writes memory |
//! | `stages` | whole networks |
//!
//! Products in bf16 are measured by `aquatint bench` only, with random numbers: a tile unit is
//! faster where all numbers are alike.
//!
//! Each bench asserts its result before it is timed, and runs with the allocator of the program,
//! whose large buffers begin at a cache line. The shapes are those of
//! [`aquatint_model::tools::shapes`].

#[path = "../../cli/src/platform/allocator.rs"]
mod allocator;

#[global_allocator]
static ALLOCATOR: allocator::Aligned = allocator::Aligned;

/// Asserts that all numbers are as expected, but for `tolerance` times the largest of them.
///
/// # Panics
/// If they are not, or there are more or fewer.
pub fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: numbers");
    let bound = tolerance * expected.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        // A NaN is not within any bound.
        let close = (found - expected).abs() <= bound;
        assert!(close, "{what}: number {i} is {found}, expected {expected}");
    }
}
