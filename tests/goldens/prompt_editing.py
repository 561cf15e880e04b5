"""Pictures of prompts that change during the run, and of prompts with several parts, by diffusers' own pipeline.

Behind pipelines.py. Writes prompt_editing/*.png and prompt_editing/cases.json. diffusers has neither syntax; it has what
they mean: a callback that exchanges `prompt_embeds` between two steps, and a UNet whose second output may be changed
before the guidance. A1111's parser says at which step (its first text has a call more than it says).
"""


import torch

from common import HERE, write_json
from diffusers import DDIMScheduler, StableDiffusionPipeline

OUT = HERE / "prompt_editing"
REQUEST = {"width": 64, "height": 64, "num_inference_steps": 8, "guidance_scale": 7.0, "negative_prompt": "a grey wall"}


def load():
    pipe = StableDiffusionPipeline.from_pretrained(HERE / "pipelines" / "sd1", safety_checker=None, feature_extractor=None,
                                                   requires_safety_checker=False)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


def embeds(pipe, text):
    return pipe.encode_prompt(text, "cpu", 1, True, REQUEST["negative_prompt"])  # prompt, negative prompt


def edited(texts):
    """`texts`: for each step the text that is in force."""
    pipe = load()

    def exchange(pipe, step, timestep, tensors):
        if step + 1 < len(texts):
            prompt, negative = embeds(pipe, texts[step + 1])
            tensors["prompt_embeds"] = torch.cat([negative, prompt])
        return tensors

    return pipe(texts[0], **REQUEST, generator=torch.Generator().manual_seed(5), callback_on_step_end=exchange,
                callback_on_step_end_tensor_inputs=["prompt_embeds"]).images[0]


def composed(parts):
    """`parts`: texts and weights."""
    pipe = load()
    others = [(embeds(pipe, text)[0], weight) for text, weight in parts[1:]]
    (first, first_weight), forward = parts[0], pipe.unet.forward

    def weighed(sample, timestep, encoder_hidden_states, **more):
        more["return_dict"] = True
        call = lambda x, text: forward(x, timestep, encoder_hidden_states=text, **more).sample
        negative, text = call(sample, encoder_hidden_states).chunk(2)
        total = negative + first_weight * (text - negative)
        for other, weight in others:
            total = total + weight * (call(sample[:1], other) - negative)
        return (torch.cat([negative, total]),)

    pipe.unet.forward = weighed
    return pipe(first, **REQUEST, generator=torch.Generator().manual_seed(5)).images[0]


def main():
    OUT.mkdir(exist_ok=True)
    house, fox = "a red house", "a blue fox in the snow"
    cases = {
        "change": ("a [red house:blue fox in the snow:3]", edited([house] * 4 + [fox] * 4)),
        "share": ("a [red house:blue fox in the snow:0.25]", edited([house] * 3 + [fox] * 5)),
        "turns": ("a [red house|blue fox in the snow]", edited([house, house, fox, house, fox, house, fox, house])),
        "and": (f"{house} AND {fox} :0.5", composed([(house, 1.0), (fox, 0.5)])),
        "and_not": (f"{house} :1.3 AND {fox} :-0.4", composed([(house, 1.3), (fox, -0.4)])),
    }
    plain = edited([house] * 8)
    for name, (prompt, picture) in cases.items():
        assert picture.tobytes() != plain.tobytes(), name
        picture.save(OUT / f"{name}.png")
    write_json(OUT / "cases.json", {"negative_prompt": REQUEST["negative_prompt"], "prompts": {k: v[0] for k, v in cases.items()}})


main()
