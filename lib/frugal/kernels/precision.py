"""In which precision a model computes: a name, or whatever is fastest on this machine.

Frozen weights are kept in it. Weights that are trained are float32 in any: in bfloat16 they are
multiplied (`products`), since a small step would be rounded away.

Nothing is assumed of a processor by its name. Some multiply bfloat16 twice and int8 four times as
fast as float32; others, without the instructions, take longer for the smaller numbers. So "fastest"
is measured, on a linear map of a small model's size, and is a name from then on: what a run is
known by, and what a resumed run keeps.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from frugal.errors import FrugalError, unknown
from frugal.kernels import int8

Float = Literal["float32", "bfloat16"]
FLOATS: tuple[Float, ...] = ("float32", "bfloat16")
NAMES = (*FLOATS, "int8")
FASTEST = "fastest"
# A few short texts; SmolLM2-135M's gate and up, which read one input, as most of its layers do.
_TOKENS, _IN, _OUT = 256, 576, 3072
_SECONDS = 0.1  # of measuring


def resolve(name: str, device: str | torch.device = "cpu", allowed: Collection[str] = NAMES) -> str:
    """`name` itself, or the one of `allowed` that is fastest on `device`.

    Raises FrugalError for a name that does not exist, and for one that is not allowed.
    """
    if name == FASTEST:
        taken = seconds(device, allowed)
        return min(taken, key=taken.__getitem__)
    if name not in NAMES:
        raise unknown("precision", name, (*NAMES, FASTEST))
    if name not in allowed:
        raise FrugalError(f"precision {name!r} does not serve here; {', '.join(allowed)} can")
    return name


@contextlib.contextmanager
def products(name: Float, device: torch.device) -> Iterator[None]:
    """While this lasts, float32 tensors are multiplied in `name`, one of FLOATS."""
    if name == "float32":
        yield
        return
    own = _Attention() if device.type == "cpu" else contextlib.nullcontext()
    with torch.autocast(device.type, torch.bfloat16), own:
        yield


class _Attention(TorchFunctionMode):
    """Attention in float32: on a CPU its backward takes six times as long in bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_float, args), **{k: _float(v) for k, v in kwargs.items()})


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def rates(device: str | torch.device) -> dict[str, float]:
    """Name -> FLOP/s of that linear map: a multiplication and an addition for each product."""
    return {name: 2 * _TOKENS * _IN * _OUT / s for name, s in seconds(device).items()}


@torch.inference_mode()
def seconds(device: str | torch.device, names: Collection[str] = NAMES) -> dict[str, float]:
    """Name -> seconds of y = x Wᵀ for 256 tokens, 576 inputs and 3,072 outputs: the least of some.

    All take turns, for a tenth of a second, so that a slow moment of the machine slows each.
    """
    each = {name: found for name, found in _products(device).items() if name in names}
    least = dict.fromkeys(each, float("inf"))
    for product in each.values():
        product()  # the first call makes what the others reuse
    until = time.perf_counter() + _SECONDS
    while True:
        for name, product in each.items():
            started = time.perf_counter()
            product()
            least[name] = min(least[name], time.perf_counter() - started)
        if time.perf_counter() >= until:
            return least


def _products(device: str | torch.device) -> Mapping[str, Callable[[], float]]:
    """The linear map in each precision, input and output as a layer has them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_TOKENS, _IN, generator=generator).to(device)
    w = torch.randn(_OUT, _IN, generator=generator).to(device)
    joined = int8.Joined([w], None)
    half_x, half_w = x.bfloat16(), w.bfloat16()
    # A value is read, so that a GPU's answer is waited for.
    return {
        "float32": lambda: (x @ w.T)[0, 0].item(),
        "bfloat16": lambda: (half_x @ half_w.T)[0, 0].item(),
        "int8": lambda: joined(x, 0)[0, 0].item(),
    }
