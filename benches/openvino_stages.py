"""One network of Stable Diffusion in OpenVINO, on a model folder's shapes with random weights (speed does not depend on values).

`aquatint bench -m DIR --against openvino --python FILE` runs this: it prints a line with the precision when the network is
ready, then runs it once for each line that it reads and prints the seconds that it took.

    python openvino_stages.py DIR "text encoder"|"UNet step"|"VAE decode"|"VAE encode" THREADS
"""
import json, os, sys, time, warnings

warnings.filterwarnings("ignore")
import numpy as np
import openvino as ov
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

TOKENS = 77
folder, stage, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_grad_enabled(False), torch.manual_seed(0)


def config(part):
    with open(os.path.join(folder, part, "config.json")) as file:
        return json.load(file)


class Call(torch.nn.Module):
    """A module whose forward is a function of tensors alone."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs):
        return self.call(self.module, *inputs)


def network():
    unet, vae = config("unet"), config("vae")
    size, factor = unet["sample_size"], 2 ** (len(vae["block_out_channels"]) - 1)
    height, width = size if isinstance(size, list) else (size, size)
    if stage == "text encoder":
        text = CLIPTextConfig(**config("text_encoder"))
        ids = torch.randint(0, text.vocab_size, (1, TOKENS))
        return Call(CLIPTextModel(text).eval(), lambda m, ids: m(ids).last_hidden_state), (ids,)
    if stage == "UNet step":
        module = UNet2DConditionModel.from_config(unet).eval()
        inputs = (torch.randn(2, unet["in_channels"], height, width), torch.tensor(500.0), torch.randn(2, TOKENS, unet["cross_attention_dim"]))
        return Call(module, lambda m, x, t, text: m(x, t, text, return_dict=False)[0]), inputs
    module = AutoencoderKL.from_config(vae).eval()
    if stage == "VAE decode":
        return Call(module, lambda m, z: m.decode(z, return_dict=False)[0]), (torch.randn(1, vae["latent_channels"], height, width),)
    return Call(module, lambda m, x: m.encode(x, return_dict=False)[0].parameters), (torch.randn(1, 3, height * factor, width * factor),)


module, inputs = network()
model = ov.convert_model(module, example_input=inputs)
for port, value in zip(model.inputs, inputs):
    port.get_node().set_partial_shape(ov.PartialShape(list(value.shape)))
model.validate_nodes_and_infer_types()
core = ov.Core()
precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
settings = dict(INFERENCE_PRECISION_HINT=precision, PERFORMANCE_HINT="LATENCY", INFERENCE_NUM_THREADS=threads, NUM_STREAMS=1)
compiled = core.compile_model(model, "CPU", settings)
del module, model
request, values = compiled.create_infer_request(), [np.asarray(value) for value in inputs]
for _ in range(2):
    request.infer(values, share_inputs=True, share_outputs=True)
print(f"OpenVINO {ov.__version__.split('-')[0]}, {precision}", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    request.infer(values, share_inputs=True, share_outputs=True)
    print(time.perf_counter() - start, flush=True)
