//! Packed numbers: panels in the type in which they were published, or rounded for a tile unit.

use aquatint_tensor::{Element, bf16, f16};
use half::slice::HalfFloatSliceExt;

use crate::Precision;
use crate::cpu::tile::{BTile, PanelRow, Row};

/// The packed numbers. Not part of the public interface.
#[doc(hidden)]
pub enum Panels {
    F32(Vec<PanelRow>),
    F16(Vec<Row<f16>>),
    Bf16(Vec<Row<bf16>>),
    /// PackedA for [`Precision::Bf16`], or split for [`Precision::Bf16x3`].
    Steps(Precision, Vec<BTile>),
}

/// An element type that weights can be packed from: `f32`, `f16` or `bf16`.
pub trait Packable: Element {
    #[doc(hidden)]
    fn wrap(panels: Vec<Row<Self>>) -> Panels;
    /// `out[i] = x[i]`
    #[doc(hidden)]
    fn widen(x: &[Self], out: &mut [f32]);
}

impl Packable for f32 {
    fn wrap(panels: Vec<PanelRow>) -> Panels {
        Panels::F32(panels)
    }
    fn widen(x: &[Self], out: &mut [f32]) {
        out.copy_from_slice(x);
    }
}
impl Packable for f16 {
    fn wrap(panels: Vec<Row<f16>>) -> Panels {
        Panels::F16(panels)
    }
    fn widen(x: &[Self], out: &mut [f32]) {
        x.convert_to_f32_slice(out);
    }
}
impl Packable for bf16 {
    fn wrap(panels: Vec<Row<bf16>>) -> Panels {
        Panels::Bf16(panels)
    }
    fn widen(x: &[Self], out: &mut [f32]) {
        x.convert_to_f32_slice(out);
    }
}
