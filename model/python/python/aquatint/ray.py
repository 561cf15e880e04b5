"""Many machines: the class that Ray Data, Dask and others call with a batch of rows.

::

    import ray
    from aquatint.ray import Draw

    rows = ray.data.read_json("prompts.jsonl")           # prompt, and any setting by its name
    rows = rows.map_batches(Draw, fn_constructor_kwargs={"folder": "/shared/out"}, batch_size=8,
                            compute=ray.data.ActorPoolStrategy(size=2), num_cpus=1)
    rows.write_parquet("/shared/rows")                   # picture, path, seed, parameters, error

An actor loads the model once. A row that fails has its ``error``, the others their pictures. The
same row gives the same bits wherever and however often it is made: a row without a seed has one that
follows from its content. With ``folder``, a picture that is there is not made again, so a run that
was broken off goes on where it was. Nothing here imports Ray: a batch is a mapping of columns, or a
DataFrame of pandas.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from . import _aquatint
from .errors import RequestError
from .pipeline import EMBEDDED, Pipeline, StrPath, setting_names

#: The columns that are added.
COLUMNS = ("picture", "path", "seed", "parameters", "error")


class Draw:
    """Makes the pictures of rows.

    Columns by the name of a setting (``prompt``, ``seed``, ``num_inference_steps``, ``image``, …) count
    for their row, ``settings`` for all; other columns are kept. Added are ``picture`` (a PNG with its
    parameters inside), ``path``, ``seed``, ``parameters`` and ``error``, empty where there is none.

    ``threads`` compute in this process, by default as many as Ray or Dask gave to it as
    ``OMP_NUM_THREADS``, else one for each core.
    """

    def __init__(
        self,
        model: StrPath = EMBEDDED,
        *,
        folder: StrPath | None = None,
        threads: int | None = None,
        load: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.model, self.load, self.settings = model, dict(load or {}), settings
        self.folder = None if folder is None else pathlib.Path(folder)
        self.threads = threads
        self._pipeline: Pipeline | None = None

    def __call__(self, batch: Any) -> Any:
        """A mapping of columns, or a DataFrame → the same with the columns added."""
        columns = {str(name): list(batch[name]) for name in batch}
        made = [self.row({name: values[i] for name, values in columns.items()}) for i in range(len(batch_rows(batch)))]
        added = {name: [row[name] for row in made] for name in COLUMNS}
        if hasattr(batch, "assign"):
            return batch.assign(**added)
        return {**{name: batch[name] for name in batch}, **{name: column(name, added[name]) for name in added}}

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The added columns of one row."""
        found: dict[str, Any] = {"picture": b"", "path": "", "seed": 0, "parameters": "", "error": ""}
        pipeline = self.pipeline()  # a model that cannot be loaded is no error of a row
        try:
            request = self.request(row)
            path = self.path(request)
            if path is not None and path.is_file():
                found.update(picture=path.read_bytes(), path=str(path), seed=request["seed"])
                found.update(parameters=_aquatint.read_parameters(path))
                return found
            picture = pipeline(**request).pictures[0]
            png = picture.encode("png")
            if path is not None:
                write_whole(path, png)
                found["path"] = str(path)
            found.update(picture=png, seed=picture.seed, parameters=picture.parameters)
        except Exception as error:  # of one row: the others are made all the same
            found["error"] = f"{type(error).__name__}: {error}"
        return found

    def request(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a row, with its seed."""
        known = {"image", "mask_image", "padding_mask_crop", "clip_skip", "seed", "prompt", *setting_names()}
        own = {name: plain(value) for name, value in row.items() if name in known}
        request = {**self.settings, **{name: value for name, value in own.items() if value is not None}}
        if request.get("seed") is None:
            request["seed"] = int.from_bytes(digest(request)[:4], "little")
        return request

    def path(self, request: Mapping[str, Any]) -> pathlib.Path | None:
        """The file of a request: by its content, so that another one has another name."""
        if self.folder is None:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {**request, " model": os.fspath(self.model), " load": self.load}
        return self.folder / f"{digest(content).hex()[:32]}.png"

    def pipeline(self) -> Pipeline:
        """The model, loaded when the first row needs it."""
        if self._pipeline is None:
            given = os.environ.get("OMP_NUM_THREADS", "")
            threads = self.threads or (int(given) if given.isdigit() else 0)
            try:
                if threads:
                    _aquatint.set_num_threads(threads)
            except RequestError:  # another model of this process has started them
                if self.threads:
                    raise
            self._pipeline = Pipeline(self.model, **self.load)
        return self._pipeline

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pipeline": None}


def batch_rows(batch: Any) -> Any:
    """Something as long as the batch has rows."""
    return batch if hasattr(batch, "assign") else next(iter(batch.values()), [])


def column(name: str, values: list[Any]) -> Any:
    """A column for Ray, which wants arrays of numpy."""
    from .arrays import numpy

    np = numpy()
    if np is None:
        return values
    return np.array(values, dtype=object if name == "picture" else None)


def plain(value: Any) -> Any:
    """A value of a column as Python has it; NaN, which pandas has for nothing, is None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if value != value else value


def digest(content: Mapping[str, Any]) -> bytes:
    """SHA-256 of a request, the same whatever the order of its settings."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_bytes).encode()).digest()


def _bytes(value: Any) -> str:
    data = value if isinstance(value, (bytes, bytearray)) else repr(value).encode()
    return hashlib.sha256(data).hexdigest()


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Writes a file that appears whole or not at all; of two who write the same, one wins."""
    beside = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
