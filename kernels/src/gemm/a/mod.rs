//! A, the left operand: rows that stand anywhere, or that were rounded and packed for a tile unit.

pub(crate) mod packed;
pub(crate) mod rows;
