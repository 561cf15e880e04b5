//! aquatint
fn main() {}
