"""Pictures: those of the command line bit for bit, whatever way they are asked for."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
from conftest import QUICK, QUICK_FLAGS, gradient

import aquatint

PIL = pytest.importorskip("PIL.Image")


def photo() -> PIL.Image:
    return PIL.frombytes("RGB", (64, 64), gradient())


def mask() -> PIL.Image:
    grey = np.zeros((64, 64), np.uint8)
    grey[8:40, 16:48] = 255
    return PIL.fromarray(grey)


def test_a_text_becomes_the_file_of_the_command_line(pipe, program, tmp_path):
    program("a penguin in the snow", "-s", "7", *QUICK_FLAGS, "-o", "fox.png")
    out = pipe("a penguin in the snow", seed=7, **QUICK)
    assert out.pictures[0].encode("png") == (tmp_path / "fox.png").read_bytes()
    assert out.seeds == [7] and "Seed: 7" in out.parameters[0]
    assert out.images[0].info["parameters"] == out.parameters[0]
    out.pictures[0].save(tmp_path / "saved.png")
    assert (tmp_path / "saved.png").read_bytes() == (tmp_path / "fox.png").read_bytes()


def test_settings_by_every_name_are_those_of_the_flags(pipe, program, tmp_path):
    flags = ["--sampler", "euler_a", "--schedule", "karras", "--cfg-scale", "3", "-n", "blue", "--rng", "cuda"]
    program("a fox", "-s", "7", *QUICK_FLAGS, *flags, "-o", "fox.png")
    expected = (tmp_path / "fox.png").read_bytes()
    common = dict(QUICK, seed=7, negative_prompt="blue", rng="cuda")
    for names in (
        dict(sampler="Euler a", schedule="karras", guidance_scale=3),
        dict(sampler_name="euler_a", scheduler="Karras", cfg_scale=3.0),
    ):
        assert pipe("a fox", **common, **names).pictures[0].encode() == expected


def test_a_picture_becomes_that_of_the_command_line(pipe, program, tmp_path):
    photo().save(tmp_path / "photo.png")
    flags = ["--steps", "4", "--strength", "0.6", "-s", "3"]
    program("img2img", "a fox", "-i", "photo.png", *flags, "-o", "new.png")
    expected = (tmp_path / "new.png").read_bytes()
    inputs = [tmp_path / "photo.png", (tmp_path / "photo.png").read_bytes(), photo(), np.asarray(photo())]
    for image in [*inputs, np.asarray(photo(), np.float32) / 255]:
        out = pipe("a fox", image=image, strength=0.6, num_inference_steps=4, seed=3)
        assert out.pictures[0].encode() == expected, type(image)


def test_a_part_becomes_that_of_the_command_line(pipe, program, tmp_path):
    photo().save(tmp_path / "photo.png")
    mask().save(tmp_path / "mask.png")
    program("inpaint", "an owl", "-i", "photo.png", "--mask", "mask.png", "--steps", "2", "-s", "1", "-o", "new.png")
    expected = (tmp_path / "new.png").read_bytes()
    for mask_image in (mask(), np.asarray(mask()), np.asarray(mask()) > 0):
        out = pipe("an owl", image=photo(), mask_image=mask_image, num_inference_steps=2, seed=1)
        assert out.pictures[0].encode() == expected
    new, old = np.asarray(out.images[0]), np.asarray(photo())
    assert (new[mask_off()] == old[mask_off()]).all() and (new != old).any()


def mask_off() -> np.ndarray:
    return np.asarray(mask()) == 0


def test_transparent_parts_are_a_mask_where_margins_are_given(pipe):
    rgba = photo().convert("RGBA")
    out = pipe("an owl", image=rgba, expand="0,64,0,0", num_inference_steps=1, seed=1)
    assert out.images[0].size == (128, 64)


def test_pictures_of_a_list_are_those_of_single_calls(pipe):
    prompts = ["a fox", "a penguin"]
    together = pipe(prompts, negative_prompt=["blue", ""], num_images_per_prompt=2, seed=5, **QUICK)
    assert together.seeds == [5, 6, 7, 8]
    alone = [
        pipe(prompt, negative_prompt=negative, seed=seed, **QUICK)
        for (prompt, negative), seeds in zip(zip(prompts, ["blue", ""]), ([5, 6], [7, 8]))
        for seed in seeds
    ]
    assert [out.pictures[0].encode() for out in alone] == [picture.encode() for picture in together.pictures]


def test_seeds_may_be_listed_or_random(pipe):
    assert pipe("a fox", num_images_per_prompt=3, seed=[9, 4, 5], **QUICK).seeds == [9, 4, 5]
    found = [pipe(["a fox", "an owl"], seed=seed, **QUICK).seeds for seed in (None, -1)]
    assert all(last == first + 1 for first, last in found) and found[0] != found[1]


def test_a_generator_of_torch_gives_its_seed(pipe):
    class Generator:  # torch's has this method; torch itself is not needed for the test
        def initial_seed(self) -> int:
            return 7

    out = pipe("a fox", generator=Generator(), **QUICK)
    assert out.seeds == [7]
    assert pipe("a fox", generator=[Generator()], **QUICK).pictures[0].encode() == out.pictures[0].encode()


def test_latents_go_out_and_come_in(pipe):
    noise = aquatint.samplers.noise(7, (1, 4, 8, 8))
    drawn = pipe("a fox", seed=7, **QUICK)
    given = pipe("a fox", seed=99, latents=noise, **QUICK)
    assert np.array_equal(np.asarray(drawn.images[0]), np.asarray(given.images[0]))
    latents = pipe("a fox", seed=7, output_type="latent", **QUICK).latents
    assert latents.shape == (1, 4, 8, 8) and latents.dtype == np.float32
    [decoded] = pipe.decode(latents, output_type="np")
    assert np.array_equal(decoded, np.asarray(drawn.images[0]))
    two = pipe(["a fox", "an owl"], seed=7, output_type="latent", **QUICK).latents
    assert two.shape == (2, 4, 8, 8) and np.array_equal(two[:1], latents)
    assert pipe.encode(photo()).shape == (1, 4, 8, 8)


def test_a_callback_sees_every_step_and_its_latents_are_taken_over(pipe):
    seen = []

    def look(pipe, step, timestep, kwargs):
        seen.append((step, timestep, kwargs["latents"].shape, kwargs["pred_original_sample"].shape))
        return {}

    names = ("latents", "pred_original_sample", "noise_pred")
    settings = dict(QUICK, num_inference_steps=3, seed=7)
    looked = pipe("a fox", callback_on_step_end=look, callback_on_step_end_tensor_inputs=names, **settings)
    plain = pipe("a fox", **settings)
    assert looked.pictures[0].encode() == plain.pictures[0].encode()
    assert [step for step, *_ in seen] == [0, 1, 2] and seen[0][1] > seen[-1][1]
    assert {shape for *_, a, b in seen for shape in (a, b)} == {(1, 4, 8, 8)}

    def change(pipe, step, timestep, kwargs):
        return {"latents": kwargs["latents"] * (0.5 if step == 2 else 1)}

    changed = pipe("a fox", callback_on_step_end=change, output_type="latent", **settings).latents
    assert np.array_equal(changed, pipe("a fox", output_type="latent", **settings).latents * 0.5)


def test_a_run_can_be_ended_with_the_picture_at_which_it_has_arrived(pipe):
    steps = itertools.count()

    def stop(pipe, step, timestep, kwargs):
        next(steps)
        pipe.interrupt()

    out = pipe("a fox", callback_on_step_end=stop, **dict(QUICK, num_inference_steps=9))
    assert next(steps) == 1 and len(out.images) == 1


def test_what_a_callback_raises_ends_the_run(pipe):
    def broken(pipe, step, timestep, kwargs):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pipe("a fox", callback_on_step_end=broken, **QUICK)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(num_inference_steps=0), "steps"),
        (dict(width=63), "multiple of 8"),
        (dict(sampler="Euler z"), "unknown sampler"),
        (dict(guidance=3), "there is no setting 'guidance'"),
        (dict(num_inference_steps=2, steps=3), "twice"),
        (dict(seed=1, generator=2), "one of both"),
        (dict(seed="7"), "whole number"),
        (dict(seed=[1, 2]), "2 seeds for 1"),
        (dict(image=3), "expected a path"),
        (dict(image="none.png"), "none.png"),
        (dict(latents=np.zeros((1, 4, 9, 8), np.float32), **QUICK), "[1, 4, 8, 8]"),
        (dict(latents=np.zeros((4, 8), np.float32)), "shape"),
        (dict(output_type="pt"), "output_type"),
        (dict(num_images_per_prompt=0), "1 to 64"),
        (dict(strength=2, image=np.zeros((64, 64, 3), np.uint8)), "strength"),
    ],
)
def test_what_cannot_be_done_is_a_request_error(pipe, settings, message):
    with pytest.raises(aquatint.RequestError) as raised:
        pipe("a fox", **settings)
    assert message in str(raised.value)
    assert isinstance(raised.value, ValueError) and isinstance(raised.value, aquatint.Error)


def test_other_errors_have_other_classes(tmp_path):
    with pytest.raises(aquatint.ModelError, match="nothing-here"):
        aquatint.Pipeline(tmp_path / "nothing-here")
    with pytest.raises(aquatint.RequestError, match="precision"):
        aquatint.Pipeline(precision="fp8")
    with pytest.raises(aquatint.RequestError, match="instruction set"):
        aquatint.Pipeline(isa="avx1024")
    error = pickle.loads(pickle.dumps(aquatint.NotFiniteError("x", "the UNet at step 3 of 20")))
    assert error.stage == "the UNet at step 3 of 20" and isinstance(error, RuntimeError)


def test_a_folder_and_a_lora_are_models(program, tmp_path):
    program("random-model", "--arch", "tiny", "tiny")
    program("-m", "tiny", "a fox", "-s", "1", *QUICK_FLAGS, "-o", "fox.png")
    pipe = aquatint.Pipeline(tmp_path / "tiny")
    plain = pipe("a fox", seed=1, **QUICK)
    assert plain.pictures[0].encode() == (tmp_path / "fox.png").read_bytes()
    lora(tmp_path / "detail.safetensors")
    program(
        "-m", "tiny", "a fox", "-s", "1", *QUICK_FLAGS, "--lora", "detail.safetensors:0.5", "-o", "lora.png"
    )
    adapted = aquatint.Pipeline(tmp_path / "tiny", loras=[(tmp_path / "detail.safetensors", 0.5)])
    picture = adapted("a fox", seed=1, **QUICK).pictures[0]
    assert picture.encode() == (tmp_path / "lora.png").read_bytes()
    assert picture.pixels() != plain.pictures[0].pixels() and "1 of 1 tensors" in adapted.notes[0]
    again = pickle.loads(pickle.dumps(adapted))
    assert again("a fox", seed=1, **QUICK).pictures[0].encode() == picture.encode()


def lora(path) -> None:
    """A LoRA of rank 1 for one layer of the tiny model, written by hand."""
    import json
    import struct

    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    width = 32
    tensors = {f"{name}.lora_down.weight": [1, width], f"{name}.lora_up.weight": [width, 1]}
    header, data = {}, b""
    for key, shape in tensors.items():
        numbers = np.linspace(-1, 1, width, dtype=np.float32).tobytes()
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_a_picture_is_written_whole_and_over_nothing(pipe, tmp_path):
    picture = pipe("a fox", seed=1, **QUICK).pictures[0]
    for name in ("a.png", "a.jpg", "a.webp"):
        picture.save(tmp_path / name)
        assert aquatint._aquatint.read_parameters(tmp_path / name) == picture.parameters
    with pytest.raises(aquatint.RequestError, match="exists"):
        picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "a.png", force=True)
    with pytest.raises(aquatint.RequestError, match="ends in"):
        picture.save(tmp_path / "a.gif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.png", "a.webp"]
