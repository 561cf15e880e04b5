"""Adapters as PEFT's `save_pretrained` writes them: a folder whose settings are not in the file of weights.

Reads pipelines/ (pipelines.py comes first). Writes adapters/peft_folders/NAME/adapter_model.safetensors and adapter_config.json,
and adapters/peft_folders.json: for each folder the tensors that PEFT's `merge_and_unload` changes, 16 numbers of each.
"""

import json
import shutil

import torch
from peft import LoHaConfig, LoraConfig, get_peft_model

from common import HERE, write_json
from pipelines import load_folder

OUT = HERE / "adapters" / "peft_folders"
SAMPLES = 16

CASES = {
    "alpha": LoraConfig(r=4, lora_alpha=12, target_modules=r"mid_block.*attn\d\.to_[qkv]", init_lora_weights=False),
    "rslora": LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=r"mid_block.*attn\d\.to_[qkv]", init_lora_weights=False),
    "patterns": LoraConfig(
        r=4, lora_alpha=2, target_modules=r"mid_block.*(attn\d\.to_[qkv]|ff\.net\.2)", init_lora_weights=False,
        rank_pattern={"attn1.to_q": 2}, alpha_pattern={"attn1.to_q": 8, r".*attn2\.to_(k|v)": 1},
    ),
    "loha": LoHaConfig(r=2, alpha=6, target_modules=r"mid_block.*attn1\.to_[qkv]", init_weights=False),
}


def main():
    if OUT.exists():
        shutil.rmtree(OUT)
    expected = {}
    for seed, (name, config) in enumerate(CASES.items()):
        unet = load_folder("sd1").unet
        plain = {key: value.clone() for key, value in unet.state_dict().items()}
        torch.manual_seed(seed)
        model = get_peft_model(unet, config)
        model.save_pretrained(OUT / name)
        (OUT / name / "adapter_model.safetensors").chmod(0o644)
        (OUT / name / "README.md").unlink(missing_ok=True)
        settings = OUT / name / "adapter_config.json"
        kept = {key: value for key, value in json.loads(settings.read_text()).items() if value not in (None, {}, [], False)}
        write_json(settings, kept)
        merged = model.merge_and_unload().state_dict()
        changed = {key: value.flatten() for key, value in merged.items() if not torch.equal(value, plain[key])}
        assert changed and all((value - plain[key].flatten()).abs().max() > 1e-3 for key, value in changed.items()), name
        pick = lambda value: [value[k * (len(value) - 1) // (SAMPLES - 1)].item() for k in range(SAMPLES)]
        expected[name] = {key: pick(value) for key, value in sorted(changed.items())}
        print(f"{name:10} {len(changed)} tensors changed", flush=True)
    write_json(HERE / "adapters" / "peft_folders.json", expected)


if __name__ == "__main__":
    main()
