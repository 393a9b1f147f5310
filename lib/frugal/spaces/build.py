"""Designs on models: what a design says, attached through `peft`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from frugal import peft
from frugal.costs import arch, flops, methods
from frugal.costs.arch import Architecture
from frugal.errors import FrugalError
from frugal.spaces import sizes, space
from frugal.spaces.design import METHODS, Design, grouped, parse
from frugal.spaces.sizes import BUDGET, Sized


def named(text: str, layers: int) -> Design:
    """The design that `text` writes out, or the paper's `s4`, or one method in all layers: `A`."""
    if text == "s4":
        return space.s4(layers)
    return grouped([layers], [text]) if text in METHODS else parse(text)


def sized(model: Any, text: str, budget: float = BUDGET) -> Sized:
    """The sizes with which the design `text` trains `budget` (a share) of what `model` has.

    Raises FrugalError where they do not exist, and for a model that `costs` has no form for.
    """
    shape = arch.from_config(model.config)
    design = named(text, shape.layers + shape.decoder_layers)
    return sizes.solve(design, shape, budget)


def attach(model: nn.Module, found: Sized) -> peft.Tuned:
    """Freeze `model` and give it the parameters of the design, at their start.

    Raises FrugalError where their number is not the one the design declares.
    """
    layers = {
        layer - 1: dict(_options(method, size) for method, size in of.items())
        for layer, of in found.sizes.items()
    }
    tuned = peft.attach(model, layers)
    if tuned.trainable_params != found.params:
        params = tuned.trainable_params
        tuned.detach()
        raise FrugalError(f"{found.design}: declares {found.params} parameters, but has {params}")
    return tuned


@dataclass(frozen=True)
class Part:
    """A sized design, as the small classifier takes what it trains (`encoders.schedule.Part`)."""

    sized: Sized

    @property
    def frozen(self) -> int:
        return min(self.sized.sizes) - 1

    def attach(self, model: nn.Module) -> peft.Tuned:
        return attach(model, self.sized)

    def flops(self, shape: Architecture, tokens: int, *, train: bool) -> int:
        """Exact FLOPs of a text of so many tokens through an encoder with this design.

        train: of a training step, gradients included, instead of a forward pass. Neither an
        encoder's pooler nor a head is counted. Raises FrugalError for a model that is no encoder.
        """
        if shape.kind != "encoder-only":
            raise FrugalError(f"{shape.name} is no encoder, but {shape.kind}")
        layer, found, total = shape.replace(layers=1, pooler=False), self.sized.sizes, 0
        for number in range(1, shape.layers + 1):
            # Gradients go back to the first tuned layer: above it every layer's input needs one,
            # as it does where norms are trained, whose own arithmetic holds no matrix product.
            size = found.get(number, {})
            method = methods.Method(  # placed as in `_options`
                "design",
                norms=number > min(found),
                placement="pfeiffer" if "A" in size else "",
                size=size.get("A"),
                prefix="P" in size,
                tokens=size.get("P", 0),
                biases="B" in size,
                rank=size.get("L", 0),
                targets=("q", "v"),
            )
            step = flops.train_step(layer, prompt_tokens=tokens, method=method)
            total += sum(n for part, n in step.items() if train or part.startswith("forward/"))
        return total


def _options(method: str, size: int) -> tuple[str, Mapping[str, Any]]:
    """Name and options in `peft`; placements as the paper's released code has them.

    That code's LoRA has α = r, so that what it adds is not scaled.
    """
    options: dict[str, dict[str, Any]] = {
        "A": {"size": size, "placement": "pfeiffer"},
        "P": {"tokens": size},
        "B": {},
        "L": {"rank": size, "alpha": float(size), "targets": ["q", "v"]},
    }
    return METHODS[method], options[method]
