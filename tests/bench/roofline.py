"""How much of a step's time its matrix products take alone: the share of the machine's own rate.

What `torch` multiplies in one step is written down, shapes, strides and precision; then the same
products are made with nothing between them, with the model's own weights. Attention's kernel,
which holds products as well, counts as all the rest does: as time that a step could do without.
"""

from collections.abc import Callable, Mapping
from typing import Any

import measure
import torch
from measure import Row
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten._int_mm}


class Products(TorchDispatchMode):
    """Writes down the products of what runs under it.

    A weight of `model` is kept as it is, in the place of any other tensor one of its shape.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        own = (*model.parameters(), *model.buffers())
        self._weights = {t.untyped_storage().data_ptr() for t in own}
        self._others: dict[Any, torch.Tensor] = {}
        self.found: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._overloadpacket in PRODUCTS:
            kept = [tree_map(lambda t, i=i: self._like(t, i), a) for i, a in enumerate(args)]
            self.found.append((func, kept, kwargs))
        elif func is not torch.ops.prim.device.default:
            with self:  # `linear` and `matmul` are made of products
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        return func(*args, **kwargs)

    def _like(self, t: Any, place: int) -> Any:
        if not isinstance(t, torch.Tensor) or t.untyped_storage().data_ptr() in self._weights:
            return t
        shape, stride = tuple(t.shape), t.stride()
        key = place, shape, stride, t.dtype
        if key not in self._others:
            size = 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
            flat = torch.empty(size, dtype=t.dtype)
            flat = flat.random_(-127, 128) if t.dtype == torch.int8 else flat.normal_()
            self._others[key] = flat.as_strided(shape, stride)
        return self._others[key]

    @torch.no_grad()
    def again(self) -> None:
        """Make them all."""
        for product, args, kwargs in self.found:
            product(*args, **kwargs)


def shares(
    work: str,
    runs: Mapping[str, tuple[torch.nn.Module, Callable[[], Any]]],
    goals: Mapping[str, float],
    repeats: int,
) -> list[Row]:
    """A row for each precision: seconds of the products over seconds of all.

    runs: by precision, a model and what it does
    """
    sides: dict[tuple[str, str], Callable[[], Any]] = {}
    for kind, (model, run) in runs.items():
        run()  # what is made once is no part of it
        with Products(model) as products:
            run()
        sides |= {("all", kind): run, ("products", kind): products.again}
    seconds, _ = measure.turns(sides, repeats)
    return [
        measure.row(
            work,
            "its matrix products alone",
            kind,
            kind,
            seconds["products", kind],
            seconds["all", kind],
            goals.get(kind),
            repeats,
        )
        for kind in runs
    ]
