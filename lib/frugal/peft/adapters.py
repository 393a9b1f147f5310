"""Adapters: small networks with a residual connection behind a layer's sublayers.

    h ← h + W_up ReLU(W_down h + b_down) + b_up

Placement "houlsby" (Houlsby et al., ICML 2019): behind self-attention and behind the feed-forward;
"pfeiffer" (Pfeiffer et al., EACL 2021): behind the feed-forward alone. Each stands right behind the
output projection, in front of the model's own residual connection (and of BERT's norm).
Cross-attention gets none, as in T-Few's code. At the start W_up is zero, so that nothing changes.

Compacter (Mahabadi et al., NeurIPS 2021, §4) makes both matrices of few numbers:

    W = Σ_i A_i ⊗ (s_i t_iᵀ)        i = 1 … n, A_i (n, n), s_i (in/n, 1), t_i (1, out/n)

Compacter has the placement "houlsby", Compacter++ "pfeiffer". The paper shares the A_i among all
layers; T-Few's code does not, and it is its parameter counts that the defaults meet.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from frugal.errors import FrugalError, unknown
from frugal.peft import method
from frugal.peft.method import Handle, Method, Pick
from frugal.peft.surgery import Projection

PLACEMENTS = ("houlsby", "pfeiffer")


@dataclass(eq=False, kw_only=True)
class Adapter(Method):
    """Matrices `<projection>.adapter.down` (size, d) and `.up` (d, size), and a bias behind each.

    size: of the bottleneck; where it is not given, d // reduction. placement: see above
    """

    size: int | None = None
    reduction: int = 32
    placement: str = "pfeiffer"

    def build(self) -> None:
        if self.placement not in PLACEMENTS:
            raise unknown("placement", self.placement, PLACEMENTS)
        method.whole("reduction", self.reduction)
        houlsby = self.placement == "houlsby"
        self.places: list[Projection] = []
        for layer in self.layers:
            attended = [layer.attentions[0].o] if houlsby else []
            self.places += [*attended, layer.down]
        for p in self.places:
            d, at, like = p.out_features, f"{p.key}.adapter", p.module.weight
            size = self.fit(d) if self.size is None else method.whole("size", self.size)
            self.matrix(f"{at}.down", d, size, like)
            self.parameters[f"{at}.down_bias"] = method.full((size,), 0.0, like)
            self.matrix(f"{at}.up", size, d, like)
            self.parameters[f"{at}.up_bias"] = method.full((d,), 0.0, like)

    def fit(self, d: int) -> int:
        """Width of the bottleneck where none is given."""
        return max(1, d // self.reduction)

    def matrix(self, name: str, inputs: int, outputs: int, like: Tensor) -> None:
        """Make the parameters of one matrix; `up` starts at zero."""
        std = 0.0 if name.endswith("up") else 0.02
        self.parameters[name] = method.normal((outputs, inputs), std, like)

    def weight(self, name: str) -> Tensor:
        """(out, in) matrix from its parameters."""
        return self.parameters[name]

    def hook(self, pick: Pick) -> list[Handle]:
        return [
            p.module.register_forward_hook(self._behind(f"{p.key}.adapter")) for p in self.places
        ]

    def _behind(self, at: str) -> Callable[..., Tensor]:
        def hook(module: Any, args: Any, h: Tensor) -> Tensor:
            down, up = (self.weight(f"{at}.{m}").to(h) for m in ("down", "up"))
            down_bias, up_bias = (self.parameters[f"{at}.{m}_bias"].to(h) for m in ("down", "up"))
            # h + W_up ReLU(W_down h + b_down) + b_up
            return h + F.linear(F.relu(F.linear(h, down, down_bias)), up, up_bias)

        return hook


@dataclass(eq=False, kw_only=True)
class Compacter(Adapter):
    """Adapters whose matrices are sums of Kronecker products.

    n: how many products, each with an (n, n) matrix; it must divide d and the bottleneck
    shared: whether all matrices of the model share the A_i, as in the paper
    """

    n: int = 4
    shared: bool = False
    placement: str = "houlsby"

    def fit(self, d: int) -> int:
        return max(self.n, d // self.reduction // self.n * self.n)

    def matrix(self, name: str, inputs: int, outputs: int, like: Tensor) -> None:
        n = method.whole("n", self.n)
        if inputs % n or outputs % n:
            raise FrugalError(f"compacter: n = {n} does not divide both {inputs} and {outputs}")
        if self._a(name) not in self.parameters:
            self.parameters[self._a(name)] = method.normal((n, n, n), 0.02, like)
        # Glorot's deviation with the gain √2 of a ReLU, √2 √(2 / (1 + size))
        s, t = (2 / math.sqrt(1 + size // n) for size in (inputs, outputs))
        self.parameters[f"{name}.s"] = method.normal((n, inputs // n, 1), s, like)
        zero = name.endswith("up")
        self.parameters[f"{name}.t"] = method.normal((n, 1, outputs // n), 0 if zero else t, like)

    def _a(self, name: str) -> str:
        return f"{self.places[0].key}.adapter.shared_a" if self.shared else f"{name}.a"

    def weight(self, name: str) -> Tensor:
        a, s, t = (self.parameters[part] for part in (self._a(name), f"{name}.s", f"{name}.t"))
        b = s * t  # s_i t_iᵀ: (n, in/n, out/n)
        products = a[:, :, None, :, None] * b[:, None, :, None, :]  # A_i ⊗ (s_i t_iᵀ)
        return products.sum(0).reshape(self.n * s.shape[1], -1).T  # Σ_i, from (in, out)


@dataclass(eq=False, kw_only=True)
class CompacterPP(Compacter):
    """Compacter behind the feed-forward alone."""

    placement: str = "pfeiffer"
