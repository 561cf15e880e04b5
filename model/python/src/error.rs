//! The library's errors as exceptions of Python, a class for each kind; `errors.py` defines them.

use std::fmt::Display;

use aquatint_model::{Error, ErrorKind};
use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(aquatint.errors, RequestError);
import_exception!(aquatint.errors, ModelError);
import_exception!(aquatint.errors, RunError);
import_exception!(aquatint.errors, NotFiniteError);
import_exception!(aquatint.errors, Interrupted);

/// The exception of an error; made to be used as `.map_err(raised)`.
pub(crate) fn raised(error: Error) -> PyErr {
    let message = error.to_string();
    match (error.kind(), error) {
        (_, Error::NotFinite { stage }) => NotFiniteError::new_err((message, stage)),
        (ErrorKind::Request, _) => RequestError::new_err(message),
        (ErrorKind::Model, _) => ModelError::new_err(message),
        (ErrorKind::Run, _) => RunError::new_err(message),
        (ErrorKind::Interrupted, _) => Interrupted::new_err(message),
    }
}

/// A `RequestError` with this sentence.
pub(crate) fn refused(sentence: impl Display) -> PyErr {
    RequestError::new_err(sentence.to_string())
}

/// `Err(refused(sentence))` unless `condition` holds.
pub(crate) fn expect(condition: bool, sentence: impl FnOnce() -> String) -> PyResult<()> {
    if condition { Ok(()) } else { Err(refused(sentence())) }
}
