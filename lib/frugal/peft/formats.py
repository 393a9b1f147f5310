"""Adapters on disk: our own layout, Hugging Face peft's, and T-Few's released checkpoints.

Everything is safetensors and JSON; a `.pt` file is read with `weights_only=True`.
"""

import json
import math
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from frugal.errors import FrugalError
from frugal.peft import ia3, surgery
from frugal.peft.ia3 import IA3
from frugal.peft.lora import LoRA
from frugal.peft.method import Method
from frugal.peft.parts import METHODS, Part
from frugal.peft.surgery import Projection

OWN = ("frugal_adapter.json", "frugal_adapter.safetensors")
HF = ("adapter_config.json", "adapter_model.safetensors")
_PREFIX = "base_model.model."  # in front of every name in a peft file
# What an HF LoRA may have beyond A and B; nothing of it is here.
_UNSUPPORTED = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")
_DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
_UNREADABLE = (*_DAMAGED, pickle.UnpicklingError, SafetensorError)

Saved = tuple[list[Part], dict[str, Tensor]]


def write(
    folder: Path,
    model: nn.Module,
    parts: Sequence[Part],
    methods: Sequence[Method],
    parameters: Mapping[str, Tensor],
) -> Path:
    """Write `parameters` of the methods into `folder`, the config last; what lay there is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    about: Any = getattr(model, "config", None)
    if (hf := _to_hf(methods, parameters)) is not None:
        names, other, (config, tensors) = HF, OWN, hf
        config["base_model_name_or_path"] = getattr(about, "name_or_path", None)
    else:
        names, other = OWN, HF
        constants = {name: t for m in methods for name, t in m.constants.items()}
        tensors = {**parameters, **constants}
        config = {"parts": [vars(part) for part in parts]}
        config["model_type"] = getattr(about, "model_type", None)
        config["trainable_params"] = sum(p.numel() for p in parameters.values())
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    fresh = [folder / f"{name}.new" for name in names]
    save_file(tensors, fresh[1], metadata={"format": "pt"})
    fresh[0].write_text(json.dumps(config, indent=2) + "\n")
    for new, name in zip(reversed(fresh), reversed(names), strict=True):
        os.replace(new, folder / name)
    for name in other:
        (folder / name).unlink(missing_ok=True)
    return folder


def read(model: nn.Module, path: Path) -> Saved:
    """What lies at `path`, whichever layout it has, as it would be attached to `model`."""
    try:
        if path.is_file():
            return _from_tfew(model, path, torch.load(path, map_location="cpu", weights_only=True))
        if (path / OWN[0]).is_file():
            config = json.loads((path / OWN[0]).read_text())
            return [Part(**part) for part in config["parts"]], load_file(path / OWN[1])
        config = json.loads((path / HF[0]).read_text())
        return _from_hf(model, path, config, load_file(path / HF[1]))
    except FrugalError:
        raise
    except _UNREADABLE as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FrugalError(f"{path}: holds no adapter that can be read ({reason})") from error


def _to_hf(
    methods: Sequence[Method], parameters: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Config and tensors in the layout of peft; None where it has no place for them."""
    tensors: dict[str, Tensor] = {}
    match methods:
        case [IA3() as method]:
            places = [p for _, p in method.places]
            for name, p in method.places:
                value, at = parameters[name].detach(), f"{_PREFIX}{p.name}.ia3_l"
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
                    tensors[f"{_PREFIX}{p.name}.{theirs}.weight"] = parameters[f"{p.key}.{ours}"]
            config = {"peft_type": "LORA", "r": method.rank, "lora_alpha": method.alpha}
            config |= {"lora_dropout": 0.0, "bias": "none"}
        case _:
            return None
    config["target_modules"] = list(dict.fromkeys(p.name for p in places))
    config["fan_in_fan_out"] = any(p.conv1d for p in places)
    return config | {"inference_mode": True, "modules_to_save": None, "task_type": None}, tensors


def _from_hf(
    model: nn.Module, path: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Saved:
    """Parts and parameters of a peft folder with (IA)³ or LoRA."""
    kind = {"IA3": "ia3", "LORA": "lora"}.get(str(config.get("peft_type")))
    if kind is None:
        raise FrugalError(f"{path}: peft_type is {config.get('peft_type')}, not IA3 or LORA")
    extra = [key for key in _UNSUPPORTED if config.get(key)]
    if extra or config.get("bias", "none") != "none":
        raise FrugalError(f"{path}: {', '.join(extra) or 'bias'} is set, which is not supported")
    options: dict[str, Any] = {}
    if kind == "lora":
        rank = config["r"]  # rank-stabilised LoRA scales by α / √r
        alpha = config["lora_alpha"] * (math.sqrt(rank) if config.get("use_rslora") else 1)
        options = {"rank": rank, "alpha": alpha}
    found = _Found(model, path)
    for key, tensor in tensors.items():
        module, _, part = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        for p in found.named(module):
            if kind == "lora":
                value = tensor[p.outputs] if part == "lora_B" else tensor
                found.add(p, f"{p.key}.{part.lower()}", value)
            elif (p.role in ia3.ON_INPUT) != (tensor.shape[0] == 1):
                side = "output" if p.role in ia3.ON_INPUT else "input"
                raise FrugalError(
                    f"{path}: scales the {side} of {module}; here it is the other end"
                )
            elif not p.fused or not bool((tensor[p.outputs] == 1).all()) or p.role != "q":
                value = tensor.flatten() if p.role in ia3.ON_INPUT else tensor[p.outputs].flatten()
                found.add(p, ia3.name_of(p), value)
    return found.saved(kind, options)


def _from_tfew(model: nn.Module, path: Path, tensors: Mapping[str, Tensor]) -> Saved:
    """(IA)³ from T-Few's code: `<projection>.multi_lora_b`, (out, 1), on k, v and wi_1.

    A scale of wi_1's output is one of wo's input.
    """
    found = _Found(model, path)
    last = {layer.up[-1].name: layer.down for layer in found.layers}
    for key, tensor in tensors.items():
        module, _, part = key.rpartition(".")
        p = last[module] if module in last else found.named(module)[0]
        if part != "multi_lora_b" or not (module in last or p.role in ("k", "v")):
            raise FrugalError(f"{path}: {key} is no (IA)³ vector of T-Few's")
        found.add(p, ia3.name_of(p), tensor.flatten())
    return found.saved("ia3", {})


class _Found:
    """Parameters that were found on projections of a model, and the part that has just those."""

    def __init__(self, model: nn.Module, path: Path) -> None:
        self.layers, self.path = surgery.layers(model), path
        self.layer = {p.key: layer.index for layer in self.layers for p in layer.projections()}
        self.projections: dict[str, list[Projection]] = {}
        for layer in self.layers:
            for p in layer.projections():
                self.projections.setdefault(p.name, []).append(p)
        self.weights: dict[str, Tensor] = {}
        self.on: dict[str, Projection] = {}

    def named(self, module: str) -> list[Projection]:
        if module not in self.projections:
            raise FrugalError(
                f"{self.path}: does not fit this model; {module!r} is none of its attention and "
                "feed-forward projections"
            )
        return self.projections[module]

    def add(self, projection: Projection, name: str, value: Tensor) -> None:
        self.weights[name], self.on[projection.key] = value, projection

    def saved(self, method: str, options: dict[str, Any]) -> Saved:
        """Where not all roles or layers are there, the part says so."""
        if not self.on:
            raise FrugalError(f"{self.path}: holds no parameters")
        roles = [r for r in surgery.ROLES if any(p.role == r for p in self.on.values())]
        usual: Any = METHODS[method]().targets  # type: ignore[attr-defined]
        if set(roles) != set(usual):
            options["targets"] = roles
        layers = sorted({self.layer[key] for key in self.on})
        on = None if len(layers) == len(self.layers) else layers
        return [Part(method, options, on)], self.weights
