//! `aquatint txt2img`: a picture from a text.

use std::process::ExitCode;

use aquatint_model::Error;

use crate::args::Txt2img;
use crate::make;
use crate::wish::Wish;

pub(crate) fn run(args: &Txt2img) -> Result<ExitCode, Error> {
    make::run(Wish::from(args), args)
}
