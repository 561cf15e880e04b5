//! Criterion benches for those who work on a kernel; `aquatint bench` measures all of them for those who use it.
//!
//! | bench | what |
//! |---|---|
//! | `peak` | multiply-adds that never leave the registers: what the others are shares of |
//! | `gemm`, `conv2d`, `attention` | each rung on each instruction set |
//! | `norms`, `activations` | what reads and writes memory |
//! | `stages` | whole networks |
//!
//! The shapes are those of [`aquatint_model::shapes`].
