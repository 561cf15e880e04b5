"""Stable Diffusion on a CPU, from scratch.

>>> import aquatint
>>> pipe = aquatint.Pipeline()                      # the embedded model; or a folder, a file, a Hub id
>>> out = pipe("a penguin in the snow", seed=7)
>>> out.images[0].size
(128, 128)

``aquatint.kernels`` and ``aquatint.samplers`` have the parts, ``aquatint.ray.Draw`` makes the pictures
of many machines, ``python -m aquatint`` is the command line program.
"""

from . import kernels, samplers
from ._aquatint import Picture, __version__, get_num_threads, set_num_threads
from .errors import Error, Interrupted, ModelError, NotFiniteError, RequestError, RunError
from .pipeline import EMBEDDED, Output, Pipeline

__all__ = [
    "EMBEDDED",
    "Error",
    "Interrupted",
    "ModelError",
    "NotFiniteError",
    "Output",
    "Picture",
    "Pipeline",
    "RequestError",
    "RunError",
    "__version__",
    "get_num_threads",
    "kernels",
    "samplers",
    "set_num_threads",
]
