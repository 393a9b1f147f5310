"""Which model an adapter belongs to: a few of its weights, kept with the adapter.

Adapters of two models of one shape fit each other's, and say nothing of it. So eight values of
every tensor of the blocks and of the embeddings are kept, about 10 kB, at positions that depend on
the tensor alone. They tell a model from another, and from itself after fine-tuning or merging; a
renamed folder, another float type, and weights that became int8 are the same model.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frugal.kernels import int8
from frugal.peft.surgery import Layer

# Two roundings to bfloat16 or float16 of one number differ by less than 1 % of it.
_RELATIVE, _ABSOLUTE = 0.01, 1e-7


def sample(model: Any, layers: Sequence[Layer]) -> Tensor | None:
    """(tensors, 8) values of a model's frozen weights; None where it holds none (device meta).

    Heads other than the output embeddings are left out: transformers starts them anew at each load.
    """
    blocks: dict[str, Tensor] = {}
    for at in layers:
        for n, p in at.module.named_parameters():
            if p.is_floating_point():
                blocks[f"{at.name}.{n}"] = int8.sample(p)
        for n, module in at.module.named_modules():
            if isinstance(module, int8.Int8Linear):
                blocks[f"{at.name}.{n}.weight"] = module.sample
    values = [blocks[name] for name in sorted(blocks)]
    for name in ("get_input_embeddings", "get_output_embeddings"):
        module = getattr(model, name)() if hasattr(model, name) else None
        if (weight := getattr(module, "weight", None)) is not None and weight.is_floating_point():
            values.append(int8.sample(weight))
    return None if any(v.is_meta for v in values) else torch.stack([v.cpu() for v in values])


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two samples are of one model, each in whatever float type."""
    return a.shape == b.shape and bool(torch.isclose(a, b, rtol=_RELATIVE, atol=_ABSOLUTE).all())


def encode(values: Tensor) -> str:
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def decode(text: Any) -> Tensor | None:
    """What `encode` wrote; None where it is something else."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
        return torch.from_numpy(values.astype(np.float32)).view(-1, int8.KEPT)
    except (binascii.Error, TypeError, ValueError, RuntimeError):
        return None


def name(model: nn.Module) -> str:
    """What transformers loaded the model from; "" where that is not known."""
    found = getattr(getattr(model, "config", None), "name_or_path", None)
    return found if isinstance(found, str) else ""


def alike(a: str, b: str) -> bool:
    """Whether two names may be one model: a folder that moved keeps its last part, and a hub's
    name is a folder's after a download."""
    return bool(a) and _last(a) == _last(b)


def _last(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold()
