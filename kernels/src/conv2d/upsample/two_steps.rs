//! As the networks are drawn: the doubled image is written to memory, then convolved.

use aquatint_tensor::{Tensor, View};

use super::{UpsampleWeights, check};
use crate::Isa;
use crate::conv2d::upsample::nearest_2x;
use crate::conv2d::{Geometry, conv2d};
use crate::cpu::stored::Stored;
use crate::gemm::Epilogue;

/// See [`upsample_conv`](super::upsample_conv()).
///
/// # Panics
/// As [`upsample_conv`](super::upsample_conv()).
pub fn upsample_conv<T: Stored>(
    isa: Isa,
    x: View<'_, f32, 4>,
    w: &UpsampleWeights,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    check(x, w, &epilogue);
    conv2d(isa, nearest_2x(isa, x).view(), w.plain(), Geometry::same(3), epilogue)
}
