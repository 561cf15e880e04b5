//! B, the right operand: weights in panels, packed once.

pub(in crate::gemm) mod pack;
pub(in crate::gemm) mod panels;
pub(in crate::gemm) mod weights;
