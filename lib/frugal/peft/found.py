"""Vectors and matrices of a foreign file, put on the projections of a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from frugal.errors import FrugalError
from frugal.peft import ia3, surgery
from frugal.peft.parts import METHODS, Part
from frugal.peft.surgery import Projection

Saved = tuple[list[Part], dict[str, Tensor]]


class Found:
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

    def shape(self, name: str, value: Tensor, expected: tuple[int, ...]) -> None:
        if tuple(value.shape) != expected:
            raise FrugalError(
                f"{self.path}: does not fit this model; {name} has shape {tuple(value.shape)}, "
                f"not {expected}"
            )

    def add(self, projection: Projection, name: str, value: Tensor) -> None:
        self.weights[name], self.on[projection.key] = value, projection

    def drop(self, projections: Sequence[Projection]) -> None:
        for p in projections:
            del self.weights[ia3.name_of(p)], self.on[p.key]

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
