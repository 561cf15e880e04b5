//! The flags that only Stable Diffusion XL has. Sizes are those that its UNet takes as inputs; the
//! size of the picture is `--width` and `--height`.

use aquatint_model::generate::PartialRequest;
use aquatint_model::generate::values::pair;
use clap::Args;

#[derive(Args)]
#[command(next_help_heading = "Stable Diffusion XL")]
pub(crate) struct XlFlags {
    /// The size that a training picture like this would have had before it was scaled and cropped,
    /// as in 1024x768: smaller ones make blurred pictures [default: the picture's].
    #[arg(long, value_name = "WxH", value_parser = pair)]
    original_size: Option<[usize; 2]>,

    /// What would have been cut off its left and top, in pixels: others than 0,0 make pictures that
    /// look cut [default: 0,0].
    #[arg(long, value_name = "X,Y", value_parser = pair)]
    crop_coords: Option<[usize; 2]>,

    /// The size to which it would have been brought [default: the picture's].
    #[arg(long, value_name = "WxH", value_parser = pair)]
    target_size: Option<[usize; 2]>,

    /// The original size of the negative prompt [default: the other's].
    #[arg(long, value_name = "WxH", value_parser = pair)]
    negative_original_size: Option<[usize; 2]>,

    /// The crop of the negative prompt [default: the other's, with negative sizes 0,0].
    #[arg(long, value_name = "X,Y", value_parser = pair)]
    negative_crop_coords: Option<[usize; 2]>,

    /// The target size of the negative prompt [default: the other's].
    #[arg(long, value_name = "WxH", value_parser = pair)]
    negative_target_size: Option<[usize; 2]>,

    /// How well the refiner's picture would be liked, from 1 to 10 [default: 6].
    #[arg(long, value_name = "SCORE")]
    aesthetic_score: Option<f32>,

    /// The same for the negative prompt [default: 2.5].
    #[arg(long, value_name = "SCORE")]
    negative_aesthetic_score: Option<f32>,

    /// After which share of the noise levels --refiner takes over, between 0 and 1 [default: 0.8].
    #[arg(long, value_name = "SHARE")]
    refiner_at: Option<f64>,
}

impl XlFlags {
    /// The request with what the flags say.
    pub(crate) fn add_to(&self, request: PartialRequest) -> PartialRequest {
        PartialRequest {
            original_size: self.original_size,
            crop: self.crop_coords,
            target_size: self.target_size,
            negative_original_size: self.negative_original_size,
            negative_crop: self.negative_crop_coords,
            negative_target_size: self.negative_target_size,
            aesthetic_score: self.aesthetic_score,
            negative_aesthetic_score: self.negative_aesthetic_score,
            refiner_at: self.refiner_at,
            ..request
        }
    }
}
