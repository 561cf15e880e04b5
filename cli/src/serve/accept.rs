//! From a request to a job: everything that can be refused is refused here, before the job is
//! queued, and the worker makes of the stored request the same task again.
//!
//! ```text
//! fields (JSON) ── check ──→ job + pictures ── journal ──→ task ──→ pictures
//! ```

use std::path::Path;

use aquatint_model::generate::api_request::LARGEST_BATCH;
use aquatint_model::generate::{ApiRequest, ImageInput, Likeness, PartialRequest, Seed, TaskKind};
use aquatint_model::image::metadata::Parameters;
use aquatint_model::{Error, Task, TextToImage};
use serde_json::{Map, Value};

use crate::run::memory;
use crate::serve::error::{ApiError, ApiResult};
use crate::serve::fields::MOST_PICTURES;
use crate::serve::job::{Input, Job, Kind, State};
use crate::serve::journal::Inputs;
use crate::serve::model::Loaded;
use crate::serve::queue::NewJob;
use crate::serve::server::Server;

/// Pictures of like jobs that are made together.
pub(crate) const MOST_TOGETHER: usize = 8;

/// The field with the text of a picture, whose settings count where the request is silent.
const INFOTEXT: &str = "infotext";

/// The upscaler in the text of a picture.
pub(crate) const UPSCALER: &str = "Hires upscaler";

/// The key of A1111's `override_settings` that names a model.
const MODEL: &str = "sd_model_checkpoint";

/// A request that was read.
pub(crate) struct Read {
    pub(crate) settings: PartialRequest,
    /// The settings of a picture, which count where `settings` is silent.
    stored: Option<Parameters>,
    pub(crate) count: usize,
    /// How many pictures are made together.
    pub(crate) together: usize,
}

/// Reads the fields of a request.
///
/// # Errors
/// If one has no meaning.
pub(crate) fn read(kind: Kind, fields: &Map<String, Value>, inputs: Inputs) -> Result<Read, Error> {
    let mut fields = fields.clone();
    let infotext = fields.shift_remove(INFOTEXT);
    for (input, _) in &inputs {
        fields.shift_remove(input.field()); // an address is there
    }
    let ApiRequest { settings, n_iter, batch_size } = ApiRequest::from_fields(&fields)?;
    let mut settings = settings;
    settings.kind = match kind {
        Kind::Txt2img => TaskKind::TextToImage,
        Kind::Img2img => TaskKind::ImageToImage,
        Kind::Inpaint => TaskKind::Inpaint,
    };
    for (input, bytes) in inputs {
        match input {
            Input::Init => settings.image = Some(ImageInput::from(bytes)),
            Input::Mask => settings.mask = Some(ImageInput::from(bytes).into()),
        }
    }
    let stored = match infotext {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(Parameters::parse(&text)),
        Some(other) => {
            return Err(Error::request(format_args!("`{INFOTEXT}` is {other}; expected a text")));
        }
    };
    check_upscaler(settings.hires_upscaler.as_deref())?;
    if let Some(stored) = &stored {
        check_upscaler(stored.get(UPSCALER))?;
        settings = settings.or(PartialRequest::from_parameters(stored)?);
    }
    let together = batch_size.unwrap_or(1);
    let count = n_iter.unwrap_or(1) * together;
    if count > MOST_PICTURES {
        return Err(Error::request(format_args!(
            "`n_iter` is {}; expected at most {MOST_PICTURES} pictures in all",
            n_iter.unwrap_or(1)
        )));
    }
    Ok(Read { settings, stored, count, together: together.min(LARGEST_BATCH as usize) })
}

/// Refuses an upscaler that may be a file: on the command line a name is looked for as one, and no
/// request may do so.
///
/// # Errors
/// See above.
pub(crate) fn check_upscaler(name: Option<&str>) -> Result<(), Error> {
    match name {
        Some(name) if name.contains(['/', '\\', '.', ':']) || Path::new(name).exists() => {
            Err(Error::request(format_args!(
                "`hr_upscaler` is a path; expected the name of an upscaler, as Latent or Lanczos"
            )))
        }
        _ => Ok(()),
    }
}

impl Read {
    /// The task for a model, with the seed of its first picture.
    ///
    /// # Errors
    /// If the model cannot do it.
    pub(crate) fn task(&self, loaded: &Loaded, seed: u64) -> Result<Task, Error> {
        let pipeline = &loaded.pipeline;
        let images = self.settings.open_images()?;
        let mut task = self.settings.task(images, self.stored.as_ref(), pipeline)?;
        task.text_mut().seed = seed;
        Ok(task)
    }

    /// What the task needs to have in common with others to be drawn together with them; `None` if
    /// it is drawn alone, because it is too large for memory or for a batch.
    ///
    /// # Errors
    /// If the model cannot do the task.
    fn likeness(&self, loaded: &Loaded, task: &Task) -> Result<Option<Likeness>, Error> {
        let common = loaded.pipeline.likeness(task)?;
        let room = memory::check(&loaded.footprint, task.text(), MOST_TOGETHER, loaded.free).is_ok();
        Ok(Some(common).filter(|_| room && self.count <= MOST_TOGETHER))
    }

    /// What all tasks share, without the pictures from which they begin.
    ///
    /// # Errors
    /// If a name or a number has no meaning.
    pub(crate) fn text(&self, loaded: &Loaded) -> Result<TextToImage, Error> {
        self.settings.request(self.stored.as_ref(), loaded.pipeline.defaults())
    }

    /// How much of a picture is replaced, if the request says so.
    pub(crate) fn strength(&self) -> Option<f64> {
        self.settings.strength.filter(|_| self.settings.kind != TaskKind::TextToImage)
    }

    /// The seed: what the request says, then what the picture says, else a random one.
    fn seed(&self) -> Result<u64, Error> {
        match (self.settings.seed, &self.stored) {
            (Some(seed), _) => seed.number(),
            (None, Some(stored)) => match stored.parsed("Seed", "a whole number")? {
                Some(seed) => Ok(seed),
                None => Seed::Random.number(),
            },
            (None, None) => Seed::Random.number(),
        }
    }
}

/// Makes a job of a request, which is not queued yet.
///
/// # Errors
/// If the request cannot be met.
pub(crate) fn check(server: &Server, kind: Kind, mut fields: Map<String, Value>) -> ApiResult<NewJob> {
    let model = model(server, &mut fields)?;
    let inputs = take_inputs(kind, &mut fields)?;
    let read = read(kind, &fields, inputs.clone())?;
    let seed = read.seed()?;
    let loaded = server.models.current();
    let mut likeness = None;
    if loaded.name == model {
        let task = read.task(&loaded, seed)?;
        check_size(server, &loaded, &task, read.together)?;
        loaded.pipeline.task_parameters(&task)?;
        likeness = read.likeness(&loaded, &task)?; // refuses what cannot be done
    }
    let steps = read.settings.steps.unwrap_or(loaded.pipeline.defaults().steps);
    let job = Job {
        id: 0,
        state: State::Queued,
        kind,
        request: fields,
        model,
        seed,
        count: read.count,
        created: String::new(),
        started: None,
        finished: None,
        step: 0,
        steps,
        eta_seconds: None,
        position: None,
        error: None,
        images: Vec::new(),
    };
    Ok(NewJob { job, inputs, likeness })
}

/// The likeness of a job from a text that another process has accepted.
pub(crate) fn stored_likeness(loaded: &Loaded, job: &Job) -> Option<Likeness> {
    if job.kind != Kind::Txt2img || job.model != loaded.name || !job.images.is_empty() {
        return None;
    }
    let read = read(job.kind, &job.request, Inputs::new()).ok()?;
    read.likeness(loaded, &read.task(loaded, job.seed).ok()?).ok()?
}

/// Refuses what is larger than this server makes, or than memory holds.
pub(crate) fn check_size(server: &Server, loaded: &Loaded, task: &Task, together: usize) -> ApiResult<()> {
    let text = task.text();
    let scale = text.hires.as_ref().map_or(1.0, |hires| hires.scale.max(1.0));
    let [width, height] = [text.width, text.height].map(|side| (side as f64 * scale) as usize);
    if width.saturating_mul(height) > server.max_pixels {
        let most = server.max_pixels;
        return Err(ApiError::field(
            "width",
            format_args!(
                "the picture is {width}×{height}; this server makes pictures of up to {most} pixels"
            ),
        ));
    }
    memory::check(&loaded.footprint, text, together, loaded.free)?;
    Ok(())
}

/// The model that a request names, or the chosen one.
fn model(server: &Server, fields: &mut Map<String, Value>) -> ApiResult<String> {
    let named = fields.get_mut("override_settings").and_then(Value::as_object_mut);
    match named.and_then(|settings| settings.shift_remove(MODEL)) {
        Some(Value::String(name)) if !name.is_empty() => Ok(server.models.find(&name)?.name),
        _ => Ok(server.models.chosen()),
    }
}

/// Takes the pictures out of the fields.
///
/// # Errors
/// If one is a path, or comes with a task that has none.
fn take_inputs(kind: Kind, fields: &mut Map<String, Value>) -> ApiResult<Inputs> {
    let mut inputs = Inputs::new();
    for input in Input::ALL {
        let field = input.field();
        let Some(value) = fields.shift_remove(field) else { continue };
        let list = match value {
            Value::Null => continue,
            Value::Array(list) => list,
            one => vec![one],
        };
        let text = match &list[..] {
            [] => continue,
            [Value::String(text)] if text.is_empty() => continue,
            [Value::String(text)] => text,
            _ => {
                return Err(ApiError::field(
                    field,
                    format_args!("`{field}`: expected one picture in base64"),
                ));
            }
        };
        let takes = match input {
            Input::Init => kind != Kind::Txt2img,
            Input::Mask => kind == Kind::Inpaint,
        };
        if !takes {
            return Err(ApiError::field(field, format_args!("`{field}`: this task takes no such picture")));
        }
        match ImageInput::parse(text).map_err(|error| ApiError::field(field, error))? {
            ImageInput::Bytes(bytes) => inputs.push((input, bytes.to_vec())),
            ImageInput::Path(_) => {
                return Err(ApiError::field(
                    field,
                    format_args!(
                        "`{field}`: expected a PNG, JPEG or WebP picture in base64, or as a data URL"
                    ),
                ));
            }
        }
    }
    Ok(inputs)
}
