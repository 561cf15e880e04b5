//! The production form in f32: minimal filtering of a doubled image that never exists.
//!
//! [`winograd`] reads 6×6 pixels for each tile of 4×4 outputs. Of a doubled image these are 4×4
//! pixels of the small one, most of them in four places: halving the coordinates is all that it
//! takes. 36 products make 16 outputs, where four 2×2 windows need 64.

use aquatint_tensor::{Tensor, View};

use super::{UpsampleWeights, check};
use crate::Isa;
use crate::conv2d::winograd::{self, Size};
use crate::cpu::stored::Stored;
use crate::gemm::Epilogue;

/// See [`upsample_conv`](super::upsample_conv()).
///
/// # Panics
/// As [`upsample_conv`](super::upsample_conv()); also if the weights are not for f32, or the input
/// has no channels.
pub fn upsample_conv<T: Stored>(
    isa: Isa,
    x: View<'_, f32, 4>,
    w: &UpsampleWeights,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    check(x, w, &epilogue);
    winograd::filter(isa, x, Size::Double, w.plain(), epilogue)
}
