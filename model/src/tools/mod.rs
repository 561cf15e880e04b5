//! Beside the algorithm: looking into a model, making one, and showing how noise destroys a picture.

mod forward_noise;
pub mod inspect;
pub mod random_model;
pub mod shapes;
