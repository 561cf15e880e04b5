//! Models and what is made with them. Python's lock is released while anything is computed.

use std::iter::repeat_n;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;

use aquatint_kernels::Isa;
use aquatint_model::generate::api_request::LARGEST_BATCH;
use aquatint_model::generate::{ApiRequest, ImageInput, PartialRequest, SETTINGS, Seed, TaskKind};
use aquatint_model::rng::random_seed;
use aquatint_model::source::adapters::LoraSpec;
use aquatint_model::source::hub::{HubSettings, Wanted as Files, locate_or_download};
use aquatint_model::source::{TEXT_ENCODER, VAE};
use aquatint_model::{Error, Image, ImageFile, LoadOptions, ModelSpec, Precisions, Task};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::arrays::{ArrayIn, ArrayOut, returned, tensor};
use crate::callbacks::{PythonCallbacks, Wanted};
use crate::error::{raised, refused};
use crate::picture::Picture;
use crate::threads;

/// A picture that comes with a request: a path, or the bytes of a file.
#[derive(FromPyObject)]
enum PictureIn {
    Bytes(PyBackedBytes),
    Path(PathBuf),
}

impl PictureIn {
    fn input(self) -> ImageInput {
        match self {
            Self::Bytes(bytes) => bytes.to_vec().into(),
            Self::Path(path) => path.into(),
        }
    }
}

/// How a model is loaded, by the names of Python's arguments.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Load {
    model: PathBuf,
    vae: Option<PathBuf>,
    text_encoder: Option<PathBuf>,
    config: Option<PathBuf>,
    ema: bool,
    prediction: Option<String>,
    /// File, weight in the UNet, weight in the text encoder.
    loras: Vec<(PathBuf, f32, f32)>,
    lora_folders: Vec<PathBuf>,
    embeddings: Vec<PathBuf>,
    strict: bool,
    precision: String,
    isa: Option<String>,
    keep: bool,
}

impl Load {
    fn spec(&self) -> Result<ModelSpec, Error> {
        let hub = HubSettings::from_env()?;
        let found = |path: &PathBuf, files| locate_or_download(path, files, &hub, &mut |_| {});
        let located =
            |path: &Option<PathBuf>, files| path.as_ref().map(|path| found(path, files)).transpose();
        let lora = |(path, unet, text_encoder): &(PathBuf, f32, f32)| LoraSpec {
            path: path.clone(),
            unet: *unet,
            text_encoder: *text_encoder,
        };
        Ok(ModelSpec {
            model: found(&self.model, Files::Model)?,
            vae: located(&self.vae, Files::Component(&VAE))?,
            text_encoder: located(&self.text_encoder, Files::Component(&TEXT_ENCODER))?,
            config: located(&self.config, Files::Settings)?,
            ema: self.ema,
            prediction: self.prediction.clone(),
            loras: self.loras.iter().map(lora).collect(),
            lora_folders: self.lora_folders.clone(),
            embeddings: self.embeddings.clone(),
            strict: self.strict,
            ..ModelSpec::default()
        })
    }

    fn options(&self) -> PyResult<LoadOptions> {
        let isa = self.isa.as_deref().map_or_else(Isa::from_env, Isa::named).map_err(refused)?;
        let precision = match self.precision.as_str() {
            "auto" => Precisions::auto(isa),
            name => Precisions::named(name).ok_or_else(|| {
                refused(format_args!(
                    "there is no precision `{name}`; expected auto, f32, bf16, mixed or bf16x3"
                ))
            })?,
        };
        Ok(LoadOptions { isa, precision, keep: self.keep })
    }
}

/// What one call makes.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Order {
    /// JSON objects with the names of A1111's API, and how many pictures, with seeds in a row, of
    /// each.
    requests: Vec<(PyBackedBytes, usize)>,
    image: Option<PictureIn>,
    mask: Option<PictureIn>,
    /// First noise, `[pictures, channels, height, width]`.
    latents: Option<ArrayIn>,
    callback: Option<Py<PyAny>>,
    /// Which arrays the callback gets.
    tensors: Vec<String>,
    /// Whether the run ends before decoding.
    only_latents: bool,
}

/// A request with the pictures that it comes with.
fn settings_of(json: &[u8], inputs: &[Option<ImageInput>; 2]) -> Result<PartialRequest, Error> {
    let ApiRequest { mut settings, n_iter, batch_size } = ApiRequest::parse(json)?;
    if n_iter.or(batch_size).is_some() {
        return Err(Error::request(
            "`n_iter` and `batch_size` are those of a manifest; expected num_images_per_prompt",
        ));
    }
    let [image, mask] = inputs;
    settings.image = image.clone().or(settings.image);
    settings.mask = mask.clone().map(Into::into).or(settings.mask);
    settings.kind = match (&settings.image, &settings.mask, settings.expand) {
        (None, None, None) => TaskKind::TextToImage,
        (Some(_), None, None) => TaskKind::ImageToImage,
        _ => TaskKind::Inpaint,
    };
    Ok(settings)
}

/// A loaded model.
#[pyclass(frozen, module = "aquatint._aquatint")]
pub(crate) struct Pipeline {
    pipeline: aquatint_model::Pipeline,
    options: LoadOptions,
}

#[pymethods]
impl Pipeline {
    /// Loads a model; `load` is a mapping of all arguments of Python's `Pipeline`.
    #[new]
    fn new(py: Python<'_>, load: Load) -> PyResult<Self> {
        threads::ensure()?;
        let options = load.options()?;
        let opened = py.detach(|| aquatint_model::Pipeline::load(load.spec()?, &options));
        Ok(Self { pipeline: opened.map_err(raised)?, options })
    }

    /// Makes the pictures of one call: a list of them or, if only latents are asked for, an array
    /// `[count, channels, height, width]`; then their seeds, and what to warn of.
    fn generate<'py>(&self, py: Python<'py>, order: Bound<'py, PyAny>) -> PyResult<Made<'py>> {
        threads::ensure()?;
        let Order { requests, image, mask, latents, callback, tensors, only_latents } = order.extract()?;
        let noise = latents.map(|latents| tensor::<4>("latents", &latents)).transpose()?;
        let mut callbacks = PythonCallbacks::new(callback, noise, Wanted::new(&tensors, only_latents)?);
        let inputs = [image, mask].map(|input| input.map(PictureIn::input));
        // A panic is a mistake of the library or of a decoder in it; Python's caller goes on.
        let made = py.detach(|| {
            let made =
                panic::catch_unwind(AssertUnwindSafe(|| self.make(&requests, &inputs, &mut callbacks)));
            made.unwrap_or_else(|_| {
                Err(Error::run("this library failed where it should not; please report it"))
            })
        });
        if let Some(raised) = callbacks.raised.take() {
            return Err(raised);
        }
        let (seeds, warnings) = (callbacks.seeds, callbacks.warnings);
        let pictures = made.map_err(raised)?.into_iter().zip(&seeds);
        let pictures = pictures.map(|(image, &seed)| Picture::new(image, Some(seed))).collect();
        let latents = callbacks.latents.map(|latents| returned(py, &latents)).transpose()?;
        Ok((pictures, latents, seeds, warnings))
    }

    /// The latents of a picture, `[1, channels, height/8, width/8]`, scaled as the UNet knows them.
    fn encode<'py>(&self, py: Python<'py>, image: PictureIn) -> PyResult<ArrayOut<'py>> {
        let latents = py.detach(|| {
            let ImageFile { image, .. } = image.input().open()?;
            self.pipeline.encode(&image)
        });
        returned(py, &latents.map_err(raised)?)
    }

    /// The picture of each of the latents `[n, channels, height, width]`.
    fn decode(&self, py: Python<'_>, latents: ArrayIn) -> PyResult<Vec<Picture>> {
        let latents = tensor::<4>("latents", &latents)?;
        let decode = |i| self.pipeline.decode_latents(latents.view().slice(0, i..i + 1));
        let images = py.detach(|| (0..latents.shape()[0]).map(decode).collect::<Result<Vec<_>, _>>());
        Ok(images.map_err(raised)?.into_iter().map(|image| Picture::new(image, None)).collect())
    }

    /// Width and height for which the model was trained, the steps and the guidance that it
    /// recommends.
    #[getter]
    fn defaults(&self) -> (usize, usize, usize, f32) {
        let defaults = self.pipeline.defaults();
        (defaults.width, defaults.height, defaults.steps, defaults.guidance_scale)
    }

    /// What was odd about the model's files.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.pipeline.warnings().to_vec()
    }

    /// A line about each adapter and embedding.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.pipeline.notes()
    }

    /// "mixed, avx512_bf16": how it computes.
    #[getter]
    fn computing(&self) -> (String, &'static str) {
        let LoadOptions { isa, precision, .. } = self.options;
        (precision.to_string(), isa.name_for(precision.products()))
    }
}

/// Pictures, latents, seeds and warnings.
type Made<'py> = (Vec<Picture>, Option<ArrayOut<'py>>, Vec<u64>, Vec<String>);

impl Pipeline {
    /// The same steps in the same order as the command line, so that pictures and their texts are
    /// the same. Neighbours that are alike share the calls of the UNet.
    fn make(
        &self,
        requests: &[(PyBackedBytes, usize)],
        inputs: &[Option<ImageInput>; 2],
        callbacks: &mut PythonCallbacks,
    ) -> Result<Vec<Image>, Error> {
        let mut random = None; // one for all that have none
        let mut tasks = Vec::new();
        for (json, count) in requests {
            let settings = settings_of(json, inputs)?;
            let mut task = settings.task(settings.open_images()?, None, &self.pipeline)?;
            let first = callbacks.seeds.len() as u64;
            let seed = match (settings.seed, random) {
                (Some(Seed::Given(seed)), _) => seed,
                (_, Some(seed)) => first.wrapping_add(seed),
                _ => first.wrapping_add(*random.insert(random_seed()?)),
            };
            task.text_mut().seed = seed;
            callbacks.seeds.extend((0..*count).map(|i| task.text().seed_of(i)));
            tasks.push((settings, task, *count));
        }
        let (mut made, mut rest) = (Vec::new(), &tasks[..]);
        while !rest.is_empty() && !callbacks.stopped {
            let together = self.alike(rest)?;
            let group: Vec<_> = rest[..together].iter().map(|(_, task, count)| (task, *count)).collect();
            callbacks.begin(group.iter().map(|(_, count)| count).sum());
            let settings =
                rest[..together].iter().flat_map(|(settings, _, count)| repeat_n(settings, *count));
            match self.pipeline.generate_together(&group, callbacks) {
                Ok(images) => made.extend(images.into_iter().zip(settings).map(|(mut image, settings)| {
                    if let Some(parameters) = image.parameters_mut() {
                        settings.describe(parameters);
                    }
                    image
                })),
                Err(Error::Interrupted) if callbacks.has_latents() => {}
                Err(error) => return Err(error),
            }
            rest = &rest[together..];
        }
        callbacks.end();
        Ok(made)
    }

    /// How many of the first tasks can be made together.
    fn alike(&self, tasks: &[(PartialRequest, Task, usize)]) -> Result<usize, Error> {
        let [(_, first, count), others @ ..] = tasks else { return Ok(tasks.len()) };
        if others.is_empty() {
            return Ok(1);
        }
        let (likeness, mut pictures, mut alike) = (self.pipeline.likeness(first)?, *count, 1);
        for (_, task, count) in others {
            pictures += count;
            if pictures > LARGEST_BATCH as usize || self.pipeline.likeness(task)? != likeness {
                break;
            }
            alike += 1;
        }
        Ok(alike)
    }
}

/// Every setting: its field, its first name in A1111's API, and its default in words.
#[pyfunction]
pub(crate) fn settings() -> Vec<(&'static str, &'static str, &'static str)> {
    SETTINGS.iter().map(|setting| (setting.field, setting.api_keys[0], setting.default)).collect()
}
