"""LoRA: a product of two thin matrices beside every projection.

Source: Hu et al., ICLR 2022, §4.1: h = W x + (α/r) B A x, with A random and B zero at the start.
T-Few's setting (appendix D and its released code): rank 4, α = 1, A of N(0, 0.01²), every matrix
of attention and feed-forward. With it the released code trains the norms too, which here is
`{"lora": {}, "layernorm": {}}`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from frugal.errors import FrugalError
from frugal.peft import method
from frugal.peft.method import Handle, Method, Pick, Places, by_row
from frugal.peft.surgery import ROLES, Projection


@dataclass(eq=False, kw_only=True)
class LoRA(Method):
    """Matrices `<projection>.lora_a` (r, in) and `.lora_b` (out, r).

    rank: r; alpha: α; init: standard deviation of A; targets: roles of the projections
    """

    rank: int = 4
    alpha: float = 1.0
    init: float = 0.01
    targets: Sequence[str] = ROLES
    neutral = 0.0

    def build(self) -> None:
        if not math.isfinite(self.alpha):
            raise FrugalError(f"lora: alpha must be finite, not {self.alpha}")
        self.scale = self.alpha / method.whole("rank", self.rank)
        self.places = [p for layer in self.layers for p in layer.projections(self.targets)]
        for p in self.places:
            a, b = (self.rank, p.in_features), (p.out_features, self.rank)
            self.parameters[f"{p.key}.lora_a"] = method.normal(a, self.init, p.module.weight)
            self.parameters[f"{p.key}.lora_b"] = method.full(b, 0.0, p.module.weight)

    def hook(self, pick: Pick) -> list[Handle]:
        return [p.module.register_forward_hook(self._add(p, pick)) for p in self.places]

    def _add(self, p: Projection, pick: Pick) -> Callable[..., Tensor | None]:
        def hook(module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            a, b = pick(f"{p.key}.lora_a"), pick(f"{p.key}.lora_b")
            if a is None or b is None:
                return None
            x = args[0]
            a, b = (by_row(m.to(x), len(x), axes=2) for m in (a, b))
            added = self.scale * (x @ a.mT @ b.mT)  # (α/r) B A x
            return output + p.padded(added.to(output), output.shape[-1], 0.0)

        return hook

    def changes(self) -> Places:
        return [(p.module, "weight") for p in self.places]

    @torch.no_grad()
    def fold(self) -> None:
        """W + (α/r) B A, in place."""
        for p in self.places:
            a, b = (self.parameters[f"{p.key}.{m}"] for m in ("lora_a", "lora_b"))
            p.weight().add_((self.scale * b @ a).to(p.module.weight))
