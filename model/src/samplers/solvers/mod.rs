//! One file a sampler: the formula of its step. The table in [`crate::samplers`] has papers and
//! classes.

pub mod ddim;
pub mod ddpm;
pub mod deis;
pub mod dpm2;
pub mod dpm2_ancestral;
pub mod dpmpp_2m;
pub mod dpmpp_2s;
pub mod dpmpp_2s_ancestral;
pub mod dpmpp_sde;
pub mod dpmpp_sde_multistep;
pub mod euler;
pub mod euler_ancestral;
pub mod heun;
pub mod lcm;
pub mod lms;
pub mod midpoint;
pub mod pndm;
pub mod tcd;
pub mod unipc;
