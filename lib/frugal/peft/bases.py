"""Which model an adapter belongs to: a few of its weights, kept with the adapter.

Adapters of two models of one shape fit each other's, and say nothing of it. So eight values of
every tensor of the blocks and of the embeddings are kept, about 10 kB, at positions that depend on
the tensor alone. They tell a model from another, and from itself after fine-tuning or merging; a
renamed folder and another float type are the same model.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frugal.peft.surgery import Layer

_EACH = 8  # values of a tensor
_STRIDE = 7919  # between them: a prime, so that they are of many rows and columns
# Two roundings to bfloat16 or float16 of one number differ by less than 1 % of it.
_RELATIVE, _ABSOLUTE = 0.01, 1e-7


def sample(model: Any, layers: Sequence[Layer]) -> Tensor | None:
    """(tensors, 8) values of a model's frozen weights; None where it holds none (device meta).

    Heads other than the output embeddings are left out: transformers starts them anew at each load.
    """
    named = {f"{at.name}.{n}": p for at in layers for n, p in at.module.named_parameters()}
    tensors: list[Any] = [p for _, p in sorted(named.items())]
    for name in ("get_input_embeddings", "get_output_embeddings"):
        module = getattr(model, name)() if hasattr(model, name) else None
        tensors.append(getattr(module, "weight", None))
    tensors = [t.detach() for t in tensors if t is not None and t.is_floating_point()]
    if any(t.is_meta for t in tensors):
        return None
    steps = torch.arange(_EACH) * _STRIDE
    values = [t.reshape(-1)[(steps % t.numel()).to(t.device)].float() for t in tensors]
    return torch.stack(values).cpu()


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two samples are of one model, each in whatever float type."""
    return a.shape == b.shape and bool(torch.isclose(a, b, rtol=_RELATIVE, atol=_ABSOLUTE).all())


def encode(values: Tensor) -> str:
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def decode(text: Any) -> Tensor | None:
    """What `encode` wrote; None where it is something else."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
        return torch.from_numpy(values.astype(np.float32)).view(-1, _EACH)
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
