"""Adapters in the layout of Hugging Face's peft: (IA)³ and LoRA, written and read."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frugal.errors import FrugalError
from frugal.peft import ia3
from frugal.peft.found import Found, Saved
from frugal.peft.ia3 import IA3
from frugal.peft.lora import LoRA
from frugal.peft.method import Method

FILES = ("adapter_config.json", "adapter_model.safetensors")
OLD = "adapter_model.bin"  # the tensors, before peft 0.7
PREFIX = "base_model.model."  # in front of every name in a peft file


def written(
    methods: Sequence[Method], parameters: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Config and tensors in the layout of peft; None where it has no place for them."""
    tensors: dict[str, Tensor] = {}
    match methods:
        case [IA3() as method]:
            places = [p for _, p in method.places]
            for name, p in method.places:
                value, at = parameters[name].detach(), f"{PREFIX}{p.name}.ia3_l"
                if p.role in ia3.ON_INPUT:
                    tensors[at] = value[None, :]
                else:  # slices of one module each fill in theirs
                    whole = p.padded(value, p.module.weight.shape[int(p.conv1d)], 1.0)[:, None]
                    tensors[at] = tensors.get(at, torch.ones_like(whole)) * whole
            in_front = [p.name for p in places if p.role in ia3.ON_INPUT]
            config: dict[str, Any] = {"peft_type": "IA3", "feedforward_modules": in_front}
        case [LoRA() as method] if not any(p.fused for p in method.places):
            places = method.places
            for p in places:
                for ours, theirs in (("lora_a", "lora_A"), ("lora_b", "lora_B")):
                    tensors[f"{PREFIX}{p.name}.{theirs}.weight"] = parameters[f"{p.key}.{ours}"]
            config = {"peft_type": "LORA", "r": method.rank, "lora_alpha": method.alpha}
            config |= {"lora_dropout": 0.0, "bias": "none"}
        case _:
            return None
    config["target_modules"] = list(dict.fromkeys(p.name for p in places))
    config["fan_in_fan_out"] = any(p.conv1d for p in places)
    return config | {"inference_mode": True, "modules_to_save": None, "task_type": None}, tensors


def read(
    model: nn.Module,
    path: Path,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> Saved:
    """Parts and parameters of a peft folder with (IA)³ or LoRA, whose configuration is plain."""
    from frugal.peft import configs

    found = Found(model, path)
    parts = ("lora_A.weight", "lora_B.weight") if kind == "LORA" else ("ia3_l",)
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part = next((part for part in parts if key.endswith(f".{part}")), None)
        if part is None or not key.startswith(PREFIX):
            raise FrugalError(f"{path}: {key} is no tensor of a plain {kind}")
        module = key.removeprefix(PREFIX).removesuffix(f".{part}")
        modules.setdefault(module, {})[part] = tensor
    named = configs.adapted(path, config, (name for name, _ in model.named_modules()))
    for module in modules:
        found.named(module)
        if module not in named:
            raise FrugalError(f"{path}: has tensors of {module}, which target_modules leaves out")
    for module in sorted(named):
        if missing := [part for part in parts if part not in modules.get(module, {})]:
            raise FrugalError(f"{path}: {module}.{missing[0]} is missing from its tensors")
    if kind == "LORA":
        rank = config["r"]  # rank-stabilised LoRA scales by α / √r
        alpha = config["lora_alpha"] * (math.sqrt(rank) if config.get("use_rslora") else 1)
        for module, own in modules.items():
            p, *_ = projections = found.named(module)
            a, b = (own[part] for part in parts)
            found.shape(f"{module}.lora_A", a, (rank, p.in_features))
            found.shape(f"{module}.lora_B", b, (p.module_features, rank))
            for p in projections:
                found.add(p, f"{p.key}.lora_a", a)
                found.add(p, f"{p.key}.lora_b", b[p.outputs])
        return found.saved("lora", {"rank": rank, "alpha": alpha})
    ones = []
    for module, own in modules.items():
        p, *_ = projections = found.named(module)
        in_front, scale = p.role in ia3.ON_INPUT, own["ia3_l"]
        if configs.in_front(path, config, module) != in_front:
            side = "output" if in_front else "input"
            raise FrugalError(f"{path}: scales the {side} of {module}; here it is the other end")
        shape = (1, p.in_features) if in_front else (p.module_features, 1)
        found.shape(f"{module}.ia3_l", scale, shape)
        for p in projections:
            value = scale.flatten() if in_front else scale[p.outputs].flatten()
            found.add(p, ia3.name_of(p), value)
            if p.fused and p.role == "q" and bool((value == 1).all()):
                ones.append(p)
    if len(ones) == sum(p.fused and p.role == "q" for p in found.on.values()):
        found.drop(ones)  # GPT-2's k and v, which are a matrix with q
    return found.saved("ia3", {})
