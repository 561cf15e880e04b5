//! `aquatint txt2img`: a picture from a text.

use aquatint_model::Error;

use crate::flags::generate::GenerateFlags;
use crate::run::generate;
use crate::run::partial::Wish;

pub(crate) fn run(args: &GenerateFlags) -> Result<u8, Error> {
    generate::run(Wish::from(args), args)
}
