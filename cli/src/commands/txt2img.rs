//! `aquatint txt2img`: a picture from a text.

use std::process::ExitCode;

use aquatint_model::Error;

use crate::flags::args::Txt2img;
use crate::run::generate;
use crate::run::partial::Wish;

pub(crate) fn run(args: &Txt2img) -> Result<ExitCode, Error> {
    generate::run(Wish::from(args), args)
}
