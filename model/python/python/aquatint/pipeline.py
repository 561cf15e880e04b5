"""``Pipeline``: a model, by the names of diffusers' ``StableDiffusionPipeline``.

A call goes the way of the command line: the same settings, in the same order, give the same bits
and the same text of how the picture was made.
"""

from __future__ import annotations

import json
import operator
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from . import _aquatint
from .arrays import floats, wrapped
from .errors import RequestError
from .images import decoded, encoded

EMBEDDED = "<embedded>"
"""The small model inside the package: emoji-like things, 128×128."""

StrPath = Union[str, "os.PathLike[str]"]
Lora = Union[StrPath, tuple[StrPath, float], tuple[StrPath, float, float]]
Callback = Callable[["Pipeline", int, float, dict[str, Any]], "Mapping[str, Any] | None"]

#: diffusers' names, and those of A1111's API for the same.
DIFFUSERS = {
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "strength": "denoising_strength",
    "sampler": "sampler_name",
    "schedule": "scheduler",
}


def setting_names() -> dict[str, str]:
    """Every name of a setting, and the one that the compiled part takes."""
    names = {field: api for field, api, _ in _aquatint.settings()}
    return {**names, **{api: api for api in names.values()}, **DIFFUSERS}


@dataclass(frozen=True)
class Output:
    """What a call made; the lists have one entry for each picture."""

    #: Images of PIL, or arrays ``[height, width, 3]`` of bytes.
    images: list[Any]
    #: How each was made, as A1111 writes it.
    parameters: list[str]
    #: The number from which the noise of each was drawn.
    seeds: list[int]
    #: The same pictures with ``save`` and ``encode``, whose files contain the parameters.
    pictures: list[_aquatint.Picture] = field(repr=False)
    #: With ``output_type="latent"``: ``[n, channels, height/8, width/8]``, and no images.
    latents: Any = field(default=None, repr=False)


class Pipeline:
    """A loaded model.

    ``model`` is a folder as diffusers saves it, a single file, an id in Hugging Face's cache
    (``org/name``; what is not there is downloaded), or ``EMBEDDED``. ``loras`` are files, or ``(file, weight)``, or ``(file, weight
    in the UNet, weight in the text encoder)``. ``precision`` is auto, f32, bf16, mixed or bf16x3;
    ``isa`` one of ``kernels.isas()``. With ``keep=False`` each network is freed when a picture has
    passed it: less memory, and slower from the second picture on.

    A pipeline may be used by several threads. It can be pickled: the copy loads the model again.
    """

    def __init__(
        self,
        model: StrPath = EMBEDDED,
        *,
        vae: StrPath | None = None,
        text_encoder: StrPath | None = None,
        config: StrPath | None = None,
        ema: bool = False,
        prediction: str | None = None,
        loras: Iterable[Lora] = (),
        lora_folders: Iterable[StrPath] = (),
        embeddings: Iterable[StrPath] = (),
        strict: bool = False,
        precision: str = "auto",
        isa: str | None = None,
        keep: bool = True,
    ) -> None:
        self._load: dict[str, Any] = dict(
            model=os.fspath(model),
            vae=vae,
            text_encoder=text_encoder,
            config=config,
            ema=ema,
            prediction=prediction,
            loras=[_lora(lora) for lora in loras],
            lora_folders=list(lora_folders),
            embeddings=list(embeddings),
            strict=strict,
            precision=precision,
            isa=isa,
            keep=keep,
        )
        self._interrupt = False
        self._pipeline = _aquatint.Pipeline(self._load)
        for warning in self._pipeline.warnings:
            warnings.warn(warning, stacklevel=2)

    @classmethod
    def from_pretrained(cls, model: StrPath, **how: Any) -> Pipeline:
        """diffusers' name for ``Pipeline(model, ...)``."""
        return cls(model, **how)

    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: Any = None,
        image: Any = None,
        mask_image: Any = None,
        padding_mask_crop: int | None = None,
        clip_skip: int | None = None,
        latents: Any = None,
        output_type: str = "pil",
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        **settings: Any,
    ) -> Output:
        """Makes pictures: from text; with ``image`` from a picture; with ``mask_image`` a part anew.

        Further settings by diffusers' names (``num_inference_steps``, ``guidance_scale``,
        ``strength``, ``width``, ``height``, ``eta``, ``sigmas``), by those of the command line
        (``sampler``, ``schedule``, ``rng``, ``prompt_syntax``, ``mask_blur``, ``invert_mask``, …)
        or of A1111's API. What is not given is the model's own; ``strength`` is 0.75, with a mask 1.

        ``seed``: picture i, counted over all prompts, has the seed plus i; a list has one for each.
        ``generator``: a ``torch.Generator``, or a list of them, of which the seed counts.
        ``clip_skip``: as diffusers counts, the layers that are left out.
        ``latents``: first noise with variance 1, ``[n, channels, height/8, width/8]``.
        ``output_type``: "pil", "np" (arrays of bytes) or "latent".
        ``callback_on_step_end(pipe, step, timestep, kwargs)`` gets arrays by the names that
        ``callback_on_step_end_tensor_inputs`` lists (latents, pred_original_sample, noise_pred);
        latents that it returns in a mapping are taken over. ``pipe.interrupt()`` ends the run with
        the picture at which it has arrived. Ctrl-C ends it after the step.
        """
        if output_type not in ("pil", "np", "latent"):
            raise RequestError(f"output_type is {output_type!r}; expected 'pil', 'np' or 'latent'")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negative = _for_each(negative_prompt, len(prompts), "negative_prompt")
        count = _count(num_images_per_prompt)
        request = self._request(settings)
        if clip_skip is not None:
            request["clip_skip"] = clip_skip + 1
        if padding_mask_crop is not None:
            request.update(inpaint_full_res=True, inpaint_full_res_padding=padding_mask_crop)
        seeds = _seeds(seed, generator, len(prompts) * count)
        noise = None if latents is None else floats(latents, "latents")
        requests = []
        for first, together, i in _runs(seeds, len(prompts), count):
            run = {**request, "prompt": prompts[i], "negative_prompt": negative[i]}
            if seeds is not None:
                run["seed"] = seeds[first]
            requests.append((json.dumps(run).encode(), together))
        self._interrupt = False
        pictures, raw_latents, made_seeds, notes = self._pipeline.generate(
            {
                "requests": requests,
                "image": None if image is None else encoded(image, "image"),
                "mask": None if mask_image is None else encoded(mask_image, "mask_image"),
                "latents": noise,
                "callback": self._after_step(callback_on_step_end),
                "tensors": list(callback_on_step_end_tensor_inputs) if callback_on_step_end else [],
                "only_latents": output_type == "latent",
            }
        )
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return Output(
            images=[decoded(picture, output_type) for picture in pictures],
            parameters=[picture.parameters for picture in pictures],
            seeds=made_seeds,
            pictures=pictures,
            latents=None if raw_latents is None else wrapped(raw_latents),
        )

    def encode(self, image: Any) -> Any:
        """The latents of a picture, ``[1, channels, height/8, width/8]``: the most likely ones."""
        return wrapped(self._pipeline.encode(encoded(image, "image")))

    def decode(self, latents: Any, output_type: str = "pil") -> list[Any]:
        """The pictures of latents ``[n, channels, height/8, width/8]``; also a preview of a step."""
        pictures = self._pipeline.decode(floats(latents, "latents"))
        return [decoded(picture, output_type) for picture in pictures]

    def interrupt(self) -> None:
        """Ends the run after this step with the picture at which it has arrived."""
        self._interrupt = True

    @property
    def defaults(self) -> dict[str, Any]:
        """What the model recommends: width, height, num_inference_steps, guidance_scale."""
        names = ("width", "height", "num_inference_steps", "guidance_scale")
        return dict(zip(names, self._pipeline.defaults))

    @property
    def computing(self) -> str:
        """Precision and instruction set."""
        return ", ".join(self._pipeline.computing)

    @property
    def notes(self) -> list[str]:
        """A line about each LoRA and embedding: how much of it was used."""
        return self._pipeline.notes

    def _request(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        names = setting_names()
        request: dict[str, Any] = {}
        for name, value in settings.items():
            if name not in names:
                known = ", ".join(sorted(names))
                raise RequestError(f"there is no setting {name!r}; expected one of {known}")
            if value is None:
                continue
            if names[name] in request:
                raise RequestError(f"{name} is given twice, under two names")
            request[names[name]] = _plain(value)
        return request

    def _after_step(self, callback: Callback | None) -> Any:
        if callback is None:
            return None

        def after_step(step: int, timestep: float, raw: dict[str, Any]) -> tuple[bool, Any]:
            arrays = {name: wrapped(array) for name, array in raw.items()}
            answer = callback(self, step, timestep, dict(arrays))
            latents = None if answer is None else answer.get("latents")
            return self._interrupt, None if latents is None else floats(latents, "the callback's latents")

        return after_step

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, (self._load,)

    def __repr__(self) -> str:
        return f"<aquatint.Pipeline {self._load['model']}: {self.computing}>"


def _loaded(load: dict[str, Any]) -> Pipeline:
    return Pipeline(**load)


def _lora(lora: Lora) -> tuple[str, float, float]:
    if isinstance(lora, (str, os.PathLike)):
        return os.fspath(lora), 1.0, 1.0
    path, unet, *text_encoder = lora
    return os.fspath(path), unet, text_encoder[0] if text_encoder else unet


def _count(number: int) -> int:
    if not isinstance(number, int) or not 1 <= number <= 64:
        raise RequestError(f"num_images_per_prompt is {number!r}; expected 1 to 64")
    return number


def _for_each(value: str | Sequence[str] | None, count: int, name: str) -> list[str]:
    if value is None or isinstance(value, str):
        return [value or ""] * count
    if len(value) != count:
        raise RequestError(f"{name} has {len(value)} texts for {count} prompts")
    return list(value)


def _seeds(seed: Any, generator: Any, count: int) -> list[int] | None:
    """A seed for each picture; None for random ones."""
    if seed is not None and generator is not None:
        raise RequestError("seed and generator are given; expected one of both")
    value = generator if seed is None else seed
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str):
        seeds = [_seed(one) for one in value]
        if len(seeds) != count:
            raise RequestError(f"{len(seeds)} seeds for {count} pictures; expected one for each")
        return seeds
    first = _seed(value)
    return None if first == -1 else [(first + i) % 2**64 for i in range(count)]


def _seed(value: Any) -> int:
    if hasattr(value, "initial_seed"):
        value = value.initial_seed()
    if hasattr(value, "__index__") and -1 <= operator.index(value) < 2**64:
        return operator.index(value)
    raise RequestError(f"the seed is {value!r}; expected a whole number from 0 to {2**64 - 1}, or a torch.Generator")


def _runs(seeds: list[int] | None, prompts: int, count: int) -> Iterable[tuple[int, int, int]]:
    """Pictures of one prompt whose seeds are in a row: the first, how many, and which prompt."""
    for i in range(prompts):
        first = i * count
        last = first + count
        while first < last:
            together = 1
            while first + together < last and (
                seeds is None or seeds[first + together] == (seeds[first] + together) % 2**64
            ):
                together += 1
            yield first, together, i
            first += together


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, tuple):
        return list(value)
    return value
