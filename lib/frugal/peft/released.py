"""The (IA)³ vectors that T-Few's authors released: what torch wrote, a tensor a projection."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from frugal.errors import FrugalError
from frugal.peft import ia3
from frugal.peft.found import Found, Saved


def read(model: nn.Module, path: Path, tensors: Mapping[str, Tensor]) -> Saved:
    """(IA)³ from T-Few's code: `<projection>.multi_lora_b`, (out, 1), on k, v and wi_1.

    A scale of wi_1's output is one of wo's input. That code finds no wi_1 in a feed-forward that is
    not gated, whose wi it would scale in front of the activation: another function.
    """
    found = Found(model, path)
    last = {layer.up[-1].name: layer.down for layer in found.layers if len(layer.up) > 1}
    for key, tensor in tensors.items():
        module, _, part = key.rpartition(".")
        p = last[module] if module in last else found.named(module)[0]
        if part != "multi_lora_b" or p.fused or not (module in last or p.role in ("k", "v")):
            raise FrugalError(f"{path}: {key} is no (IA)³ vector of T-Few's")
        size = p.in_features if module in last else p.out_features
        found.shape(key, tensor, (size, 1))
        found.add(p, ia3.name_of(p), tensor.flatten())
    parts, weights = found.saved("ia3", {})
    if parts[0].layers is not None:
        raise FrugalError(
            f"{path}: has vectors of {len(parts[0].layers)} of {len(found.layers)} layers"
        )
    return parts, weights
