"""A program for the type checkers, which must accept every line of it; it is not run."""

from collections.abc import Mapping
from typing import Any

import aquatint
from aquatint import kernels, samplers
from aquatint.ray import Draw

pipe: aquatint.Pipeline = aquatint.Pipeline("sd15", loras=["a.safetensors", ("b.safetensors", 0.8)])


def callback(pipe: aquatint.Pipeline, step: int, timestep: float, kwargs: dict[str, Any]) -> Mapping[str, Any]:
    if step > 3:
        pipe.interrupt()
    return kwargs


out: aquatint.Output = pipe(["a fox", "an owl"], seed=[7, 8], num_inference_steps=4, callback_on_step_end=callback)
picture: aquatint.Picture = out.pictures[0]
png: bytes = picture.encode("png")
picture.save("fox.png", force=True)
names: list[str] = kernels.isas() + kernels.RUNGS["conv2d"] + samplers.SAMPLERS["Euler"] + out.parameters
size: int = kernels.output_size(512, 3, stride=2)
y: Any = kernels.conv2d([[[[1.0]]]], [[[[1.0]]]], rung="winograd", isa="avx2")
made: Any = Draw(folder="out", threads=1, guidance_scale=3.0)({"prompt": ["a fox"]})
error: ValueError = aquatint.RequestError("x")
stage: str = aquatint.NotFiniteError("x", "y").stage
