//! Criterion benches for those who work on a kernel; `aquatint bench` measures all of them for those who use it.
//!
//! | bench | what |
//! |---|---|
//! | `peak` | multiply-adds that never leave the registers: what the others are shares of |
//! | `gemm`, `conv2d` | each rung in f32 on each instruction set |
//! | `attention` | the form in f32 on each instruction set |
//! | `norms`, `activations` | what reads and writes memory |
//! | `stages` | whole networks |
//!
//! Products in bf16 are measured by `aquatint bench` only, with random numbers: a tile unit is faster where all numbers are alike.
//!
//! The shapes are those of [`aquatint_model::tools::shapes`].
