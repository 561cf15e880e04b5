//! The settings that a picture contains.

use std::path::Path;

use aquatint_model::Error;
use aquatint_model::image::metadata::{self, Parameters};

use crate::warn;

/// The settings that a picture contains.
///
/// # Errors
/// If it is no picture, or contains none.
pub(crate) fn stored(picture: &Path) -> Result<Parameters, Error> {
    let parameters = metadata::read(picture)?.map(|text| Parameters::parse(&text));
    let parameters = parameters.filter(|parameters| !parameters.settings.is_empty()).ok_or_else(|| {
        Error::request(format_args!(
            "`{}` does not say how it was made; expected a PNG with a text chunk `parameters`, or a JPEG or WebP with an EXIF \
             user comment, as aquatint and A1111 write",
            picture.display()
        ))
    })?;
    let ignored = parameters.ignored().map(|key| format!("`{key}`")).collect::<Vec<_>>();
    if !ignored.is_empty() {
        warn(format_args!("the picture's {} are not supported and ignored", ignored.join(", ")));
    }
    Ok(parameters)
}
