"""Designs on models: what a design says, attached through `peft`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from frugal import peft
from frugal.costs import arch
from frugal.errors import FrugalError
from frugal.spaces import sizes, space
from frugal.spaces.design import METHODS, Design, parse, single
from frugal.spaces.sizes import BUDGET, Sized


def named(text: str, layers: int) -> Design:
    """The design that `text` writes out, or the paper's `s4`, or one method in all layers: `A`."""
    if text == "s4":
        return space.s4(layers)
    return single(text, layers) if text in METHODS else parse(text)


def sized(model: Any, design: Design | str, budget: float = BUDGET) -> Sized:
    """The sizes with which `design` trains `budget` (a share) of the parameters of `model`.

    Raises FrugalError where they do not exist, and for a model that `costs` has no form for.
    """
    shape = arch.from_config(model.config)
    if isinstance(design, str):
        design = named(design, shape.layers + shape.decoder_layers)
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
