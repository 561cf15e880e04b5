//! aquatint
