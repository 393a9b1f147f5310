"""Methods that train the model's own parameters: all, a kind, a sparse choice, a projection.

The model's parameters are left as they are. What is trained are values in fp32 that stand in for
them while a module runs, so that half-precision models train too, and detaching loses nothing.

Full fine-tuning  every parameter
LayerNorm         scales (and shifts) of the norms
BitFit            biases (Ben Zaken et al., ACL 2022); zeros where T5 and Llama have none
FISH mask         the share of all parameters with the largest Fisher information (Sung et al.,
                  NeurIPS 2021)
Intrinsic SAID    θ_D = θ_0 + λ P(θ_d): a few numbers, projected at random onto all parameters
                  (Aghajanyan et al., ACL 2021)
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugal.errors import FrugalError
from frugal.kernels.int8 import Int8Linear
from frugal.peft import method, surgery
from frugal.peft.method import Handle, Method, Pick, Places


class Weights(Method):
    """Values that stand in for parameters of the model, named as those are.

    A parameter that several modules share (tied embeddings) is one value.
    """

    def chosen(self) -> Iterator[tuple[str, Any, str]]:
        """Names of the parameters to train, their modules, and the attributes they are there."""
        raise NotImplementedError

    def build(self) -> None:
        self.places: dict[str, list[tuple[Any, str]]] = {}
        first: dict[Any, str] = {}
        for name, module, attribute in self.chosen():
            own, at = module._parameters[attribute], (id(module), attribute)
            if at not in self.taken:
                self.taken.add(at)
                key = first.setdefault(at if own is None else id(own), name)
                self.places.setdefault(key, []).append((module, attribute))
        self.values()

    def values(self) -> None:
        """Make the parameters that are trained."""
        for name in self.places:
            if (own := self.own(name)) is None:  # a bias that the model does not have
                weight = self.places[name][0][0].weight
                self.parameters[name] = method.full(weight.shape[:1], 0.0, weight)
            else:
                dtype = torch.promote_types(own.dtype, torch.float32)
                self.parameters[name] = nn.Parameter(own.detach().to(dtype, copy=True))

    def own(self, name: str) -> Any:
        """The model's own parameter called `name`, also while a value stands in for it."""
        module, attribute = self.places[name][0]
        return module._parameters[attribute]

    def value(self, name: str) -> Tensor:
        """What stands in for parameter `name`, in the model's precision."""
        own, (module, _) = self.own(name), self.places[name][0]
        like, value = module.weight if own is None else own, self.parameters[name]
        return value.to(like.dtype) if like.is_floating_point() else value  # beside int8: fp32

    def hook(self, pick: Pick) -> list[Handle]:
        return [
            handle
            for name, places in self.places.items()
            for module, attribute in places
            for handle in method.stand_in(module, attribute, partial(self.value, name))
        ]

    def changes(self) -> Places:
        for name in self.places:
            if self.own(name) is None:
                raise FrugalError(f"cannot be merged: the model has no parameter {name}")
        return [places[0] for places in self.places.values()]

    @torch.no_grad()
    def fold(self) -> None:
        for name in self.places:
            self.own(name).copy_(self.value(name))


@dataclass(eq=False, kw_only=True)
class Full(Weights):
    """Every parameter of the model, or of the layers."""

    def modules(self) -> list[tuple[str, nn.Module]]:
        return [named for at, root in self.scope.items() for named in root.named_modules(prefix=at)]

    def chosen(self) -> Iterator[tuple[str, Any, str]]:
        for name, module in self.modules():
            if isinstance(module, Int8Linear):
                raise FrugalError(
                    f"{type(self).__name__} trains {name}.weight, which is int8: a step is lost "
                    "among 255 levels; load the model in float32 or bfloat16"
                )
            for attribute, _ in module.named_parameters(recurse=False):
                yield f"{name}.{attribute}", module, attribute


@dataclass(eq=False, kw_only=True)
class LayerNorm(Full):
    """The norms: of the layers, and where all layers are tuned those around them too."""

    def modules(self) -> list[tuple[str, nn.Module]]:
        return surgery.norms(super().modules())


@dataclass(eq=False, kw_only=True)
class BitFit(Weights):
    """The biases of all projections and norms of the layers; zeros where a projection has none.

    down: whether the down projection gets one. T-Few's pattern `w_o` misses T5's `wo`, and its
    count of 1,331,200 is `{"bitfit": {"down": False}, "layernorm": {}}`
    """

    down: bool = True

    def chosen(self) -> Iterator[tuple[str, Any, str]]:
        roles = [role for role in surgery.ROLES if self.down or role != "down"]
        for layer in self.layers:
            for p in layer.projections(roles):
                yield f"{p.name}.bias", p.module, "bias"
            for name, norm in surgery.norms(layer.module.named_modules(prefix=layer.name)):
                if getattr(norm, "bias", None) is not None:
                    yield f"{name}.bias", norm, "bias"


class _Alone(Full):
    """A method whose numbers belong to all parameters at once."""

    def build(self) -> None:
        if self.taken:
            name = type(self).__name__
            raise FrugalError(f"{name} chooses among all parameters; it goes with no other method")
        super().build()


@dataclass(eq=False, kw_only=True)
class Fish(_Alone):
    """`fish.values` of the parameters at `fish.index`, a flat index into all of them in order.

    share: of the parameters, 0.002 or 0.0002 in T-Few
    """

    share: float = 0.002

    def values(self) -> None:
        sizes = [self.own(name).numel() for name in self.places]
        self.start = dict(zip(self.places, itertools.accumulate([0, *sizes]), strict=False))
        self.total = sum(sizes)
        count = int(self.share * self.total)
        if not 0 < count <= self.total:
            raise FrugalError(f"fish: share = {self.share} is {count} of {self.total} parameters")
        like = self.own(next(iter(self.places)))
        self.parameters["fish.values"] = method.full((count,), 0.0, like)
        self.constants["fish.index"] = torch.zeros(count, dtype=torch.long, device=like.device)

    def look(self, losses: Iterable[Tensor] | None) -> None:
        """Choose by F = (1/N) Σ_i (∂L_i / ∂θ)², the empirical Fisher information's diagonal."""
        own = [self.own(name) for name in self.places]
        if own[0].is_meta:
            return
        if losses is None:
            raise FrugalError("fish chooses by gradients: give `losses`, one for each example")
        flags = [p.requires_grad for p in own]
        fisher = [torch.zeros_like(p, dtype=torch.float32) for p in own]

        def square(total: Tensor, p: Tensor) -> None:
            assert p.grad is not None
            gradient = p.grad.float()
            total.addcmul_(gradient, gradient)
            p.grad = None  # before the next one is computed: all of them are as large as the model

        handles = []
        try:
            for p, total in zip(own, fisher, strict=True):
                p.requires_grad_(True)
                handles.append(p.register_post_accumulate_grad_hook(partial(square, total)))
            for loss in losses:
                loss.backward()
        finally:
            for handle in handles:
                handle.remove()
            for p, flag in zip(own, flags, strict=True):
                p.requires_grad_(flag)
        importance = torch.cat([f.flatten() for f in fisher])
        index = importance.topk(len(self.constants["fish.index"])).indices.sort().values
        self.constants["fish.index"].copy_(index)
        with torch.no_grad():
            self.parameters["fish.values"].copy_(torch.cat([p.flatten() for p in own])[index])

    def check(self, source: str) -> None:
        index = self.constants["fish.index"]
        if index.is_meta:
            return
        rising = bool((index[1:] > index[:-1]).all())
        if not rising or not 0 <= int(index[0]) <= int(index[-1]) < self.total:
            raise FrugalError(
                f"{source}: fish.index does not name {self.total} parameters in order"
            )

    def hook(self, pick: Pick) -> list[Handle]:
        index = self.constants["fish.index"]
        ends = torch.tensor([*self.start.values(), self.total], device=index.device)
        bounds = [] if index.is_meta else torch.searchsorted(index, ends).tolist()
        self.bounds = dict(zip(self.places, itertools.pairwise(bounds), strict=False))
        return super().hook(pick)

    def value(self, name: str) -> Tensor:
        own, (low, high) = self.own(name), self.bounds[name]
        if low == high:
            return own
        at = self.constants["fish.index"][low:high] - self.start[name]
        chosen = self.parameters["fish.values"][low:high].to(own)
        return own.flatten().index_put((at,), chosen).view(own.shape)


@dataclass(eq=False, kw_only=True)
class Said(_Alone):
    """`said.theta`, the numbers that are projected, and `said.lambda`, a scale for each parameter.

    A matrix W (m, n) becomes W + λ u vᵀ, with (u, v) = P(θ) of m + n numbers, and a vector
    b + λ P(θ): the rank-1 form of T-Few's code. P is the Fastfood transform H G Π H B (Le et al.,
    ICML 2013). That code lets every parameter read θ from its start, so that θ beyond the largest
    m + n is never read; here each reads on where the one before it stopped.

    dimension: of θ and λ together, 20,000 or 500,000 in T-Few; seed: of P
    """

    dimension: int = 20_000
    seed: int = 0

    def values(self) -> None:
        count, like = len(self.places), self.own(next(iter(self.places)))
        if method.whole("dimension", self.dimension) <= count:
            raise FrugalError(f"said: dimension must exceed {count}, one for each parameter tensor")
        if method.whole("seed", self.seed, least=0) >= 2**63:
            raise FrugalError(f"said: seed = {self.seed} is too large")
        self.parameters["said.theta"] = method.full((self.dimension - count,), 0.0, like)
        self.parameters["said.lambda"] = method.full((count,), 1.0, like)
        generator = torch.Generator().manual_seed(self.seed)
        self.drawn: dict[str, tuple[int, int, Tensor, Tensor, Tensor]] = {}
        read = 0
        for i, name in enumerate(self.places):
            size = 2 ** math.ceil(math.log2(max(2, sum(self.own(name).shape))))
            b = 2.0 * torch.randint(2, (size,), generator=generator) - 1
            g = torch.randn(size, generator=generator)
            pi = torch.randperm(size, generator=generator)
            b, g, pi = (t.to(like.device) for t in (b, g, pi))
            self.drawn[name] = i, read, b, g, pi
            read += size

    def value(self, name: str) -> Tensor:
        own, theta = self.own(name), self.parameters["said.theta"]
        i, read, b, g, pi = self.drawn[name]
        at = torch.arange(min(len(b), len(theta)), device=own.device) + read
        x = F.pad(theta[at % len(theta)], (0, len(b) - len(at)))
        y = hadamard(g * hadamard(b * x)[pi])  # H G Π H B θ
        size = sum(own.shape)
        y = y[:size] / (g.norm() * math.sqrt(size))
        scale = self.parameters["said.lambda"][i]
        if own.dim() == 2:
            u, v = y.split(list(own.shape))
            return (own + (scale * u)[:, None] * v).to(own.dtype)  # W + λ u vᵀ
        return (own + scale * y).to(own.dtype)


def hadamard(x: Tensor) -> Tensor:
    """H x for the Walsh–Hadamard matrix H of entries ±1; (2^n,) → (2^n,), in n 2^n additions."""
    step = 1
    while step < len(x):
        a, b = x.view(-1, 2, step).unbind(1)
        x = torch.stack([a + b, a - b], dim=1).view(-1)
        step *= 2
    return x
