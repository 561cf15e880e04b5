//! Beside the algorithm: looking into a model, making one, and showing how noise destroys a
//! picture.

pub mod convert;
pub mod explain;
mod forward_noise;
pub mod inspect;
mod new_folder;
pub mod random_adapter;
pub mod random_model;
pub mod shapes;
