//! What a picture shall be like: the flags, before them a picture's own text, before that the model's defaults.

use std::path::Path;

use aquatint_model::parameters::{Parameters, png};
use aquatint_model::{Error, SamplerChoice, TextToImage};

use crate::args::{Seed, Txt2img};
use crate::warn;

/// The settings that a picture contains.
///
/// # Errors
/// If it is no PNG, or contains none.
pub(crate) fn stored(picture: &Path) -> Result<Parameters, Error> {
    let parameters = png::read(picture)?.map(|text| Parameters::parse(&text));
    let parameters = parameters.filter(|parameters| !parameters.settings.is_empty()).ok_or_else(|| {
        Error::request(format_args!(
            "`{}` does not say how it was made; expected a PNG with a text chunk `parameters`, as aquatint and A1111 write",
            picture.display()
        ))
    })?;
    let ignored = parameters.ignored().map(|key| format!("`{key}`")).collect::<Vec<_>>();
    if !ignored.is_empty() {
        warn(format_args!("the picture's {} are not supported and ignored", ignored.join(", ")));
    }
    Ok(parameters)
}

/// The request that flags, a picture's settings and defaults make, in this order of importance.
///
/// # Errors
/// If a name or a value has no meaning.
pub(crate) fn request(
    args: &Txt2img,
    stored: Option<&Parameters>,
    defaults: TextToImage,
) -> Result<TextToImage, Error> {
    let mut request = defaults;
    if let Some(stored) = stored {
        stored.apply(&mut request)?;
    }
    fn set<T>(field: &mut T, flag: Option<T>) {
        if let Some(value) = flag {
            *field = value;
        }
    }
    set(&mut request.prompt, args.prompt.clone().or_else(|| args.positional_prompt.clone()));
    set(&mut request.negative_prompt, args.negative_prompt.clone());
    set(&mut request.prompt_syntax, args.prompt_syntax.map(Into::into));
    set(&mut request.clip_skip, args.clip_skip);
    set(&mut request.width, args.width);
    set(&mut request.height, args.height);
    set(&mut request.steps, args.steps);
    set(&mut request.guidance_scale, args.cfg_scale);
    set(&mut request.rng, args.rng.map(Into::into));
    if let Some(Seed::Given(seed)) = args.seed {
        request.seed = seed;
    }
    let SamplerChoice { kind, schedule } =
        SamplerChoice::parse(args.sampler.as_deref(), args.schedule.as_deref())?;
    if kind.is_some() {
        // Another sampler may not have the stored schedule.
        request.sampler = SamplerChoice { kind, schedule };
    } else if schedule.is_some() {
        request.sampler.schedule = schedule;
    }
    Ok(request)
}
