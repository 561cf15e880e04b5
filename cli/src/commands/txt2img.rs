//! `aquatint txt2img`: a picture from a text.

use aquatint_model::Error;
use aquatint_model::generate::PartialRequest;

use crate::flags::generate::GenerateFlags;
use crate::run::generate;

pub(crate) fn run(args: &GenerateFlags) -> Result<u8, Error> {
    generate::run(PartialRequest::from(args), args)
}
