//! A job: a request that was accepted, what has become of it, and its pictures.
//!
//! ```text
//! queued → running → done
//!                  → failed       with a sentence
//!        →         → cancelled
//! ```
//!
//! The journal keeps a job as JSON in this form, and `/api/jobs` answers with it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What is made from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A picture from a text.
    Txt2img,
    /// A picture from a text and a picture.
    Img2img,
    /// A part of a picture anew.
    Inpaint,
}

/// What has become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It waits for its turn.
    Queued,
    /// It is being drawn.
    Running,
    /// All its pictures are there.
    Done,
    /// It could not be made; `error` says why.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl State {
    /// Whether nothing more will happen to the job.
    pub(crate) fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A request that was accepted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Job {
    /// Its number; later jobs have larger ones.
    pub(crate) id: u64,
    /// What has become of it.
    pub(crate) state: State,
    /// What is made from what.
    pub(crate) kind: Kind,
    /// The fields of the request; pictures are addresses from which they can be had.
    #[schema(value_type = Object)]
    pub(crate) request: Map<String, Value>,
    /// The model that makes it.
    pub(crate) model: String,
    /// The seed of picture 0; picture i has this seed plus i.
    pub(crate) seed: u64,
    /// Pictures that were asked for.
    pub(crate) count: usize,
    /// When it was accepted, RFC 3339.
    pub(crate) created: String,
    /// When it was begun.
    pub(crate) started: Option<String>,
    /// When it came to an end.
    pub(crate) finished: Option<String>,
    /// Steps done of the pictures that are being made.
    pub(crate) step: usize,
    /// Steps in all.
    pub(crate) steps: usize,
    /// Seconds until the last picture is there, as far as that is known.
    pub(crate) eta_seconds: Option<f64>,
    /// Jobs that come before it, if it waits.
    pub(crate) position: Option<usize>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// The finished pictures.
    pub(crate) images: Vec<JobImage>,
}

/// A finished picture of a job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct JobImage {
    /// Where the PNG is.
    pub(crate) url: String,
    /// Where a small JPEG of it is.
    pub(crate) thumbnail_url: String,
    /// Pixels.
    pub(crate) width: usize,
    /// Pixels.
    pub(crate) height: usize,
    /// Its seed.
    pub(crate) seed: u64,
    /// How it was made, as A1111 writes it.
    pub(crate) infotext: String,
}

impl JobImage {
    /// Picture `index` of job `id`.
    pub(crate) fn new(id: u64, index: usize, size: [usize; 2], seed: u64, infotext: String) -> Self {
        Self {
            url: format!("/api/images/{id}/{index}.png"),
            thumbnail_url: format!("/api/images/{id}/{index}.thumb.jpg"),
            width: size[0],
            height: size[1],
            seed,
            infotext,
        }
    }
}

/// A picture that came with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The one to start from.
    Init,
    /// Where it is repainted.
    Mask,
}

impl Input {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Init, Self::Mask];

    /// The field of a request.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Init => "init_images",
            Self::Mask => "mask",
        }
    }

    /// The last part of its address.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Init => "init.png",
            Self::Mask => "mask.png",
        }
    }

    /// What a job's request has in its place.
    pub(crate) fn reference(self, id: u64) -> Value {
        let url = format!("/api/images/{id}/{}", self.file());
        match self {
            Self::Init => Value::from(vec![url]),
            Self::Mask => url.into(),
        }
    }
}

/// Now, as jobs say it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
