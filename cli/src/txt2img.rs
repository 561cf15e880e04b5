//! `aquatint txt2img`: a picture from a text.

use aquatint_model::Error;

use crate::args::Txt2img;
use crate::session::Session;

pub(crate) fn run(args: &Txt2img) -> Result<(), Error> {
    let session = Session::start(args)?;
    let request = session.request(None)?;
    session.make(&request, |pipeline, progress| pipeline.text_to_image(&request, progress))
}
