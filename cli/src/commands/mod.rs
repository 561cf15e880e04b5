//! The commands, one file each.

pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod decode;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod encode;
pub(crate) mod explain;
pub(crate) mod img2img;
pub(crate) mod inpaint;
pub(crate) mod inspect;
pub(crate) mod models;
pub(crate) mod noise;
pub(crate) mod presets;
pub(crate) mod random_model;
pub(crate) mod samplers;
pub(crate) mod txt2img;
pub(crate) mod upscale;
pub(crate) mod verify;
