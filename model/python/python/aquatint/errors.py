"""The library's errors, a class for each kind.

::

    Error                  of all, to catch any
    ├─ RequestError        cannot be done as asked; also a ValueError
    ├─ ModelError          the model cannot be loaded
    ├─ RunError            failed while running; also a RuntimeError
    │  └─ NotFiniteError   a stage produced NaN; ``stage`` says which
    └─ Interrupted         ended by the caller

Each message says what was found, what was expected and what to do.
"""


class Error(Exception):
    """Any error of this package."""


class RequestError(Error, ValueError):
    """The request cannot be met: an unknown sampler, zero steps, a size that is no multiple of 8."""


class ModelError(Error):
    """The model cannot be loaded: a file is missing, a tensor has another shape."""


class RunError(Error, RuntimeError):
    """It failed while running: a full disk, threads that cannot be started."""


class NotFiniteError(RunError):
    """A stage produced NaN or an infinity, and no picture is made."""

    #: The stage: "the UNet at step 3 of 20", "the VAE decoder".
    stage: str

    def __init__(self, message: str, stage: str = "") -> None:
        super().__init__(message)
        self.stage = stage

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.stage)


class Interrupted(Error):
    """The run was ended before it had a picture."""
