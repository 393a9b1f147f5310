"""A model with a method attached: count, save, load, merge, detach."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from frugal.errors import FrugalError, unknown
from frugal.peft import ia3, surgery

METHODS = {"ia3": ia3}

_CONFIG, _WEIGHTS = "frugal_adapter.json", "frugal_adapter.safetensors"


class Tuned:
    """What `attach` returns: the new parameters, and the way back to the model as it was."""

    def __init__(self, model: nn.Module, method: str, options: Mapping[str, Any]) -> None:
        self.model, self.method, self.options = model, method, dict(options)
        self._layers = surgery.layers(model)
        try:
            self._parameters = METHODS[method].parameters(self._layers, **options)
        except TypeError as error:
            raise FrugalError(f"method {method!r} has no such option: {error}") from error
        self._handles = METHODS[method].hook(self._layers, self._parameters)
        self._before = surgery.freeze(model)
        self._unmerged: dict[str, Tensor] | None = None
        model._frugal_tuned = self  # type: ignore[assignment]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable parameters, by place."""
        return iter(self._parameters.items())

    def places(self) -> list[str]:
        """The model's module that each parameter belongs to, in the order of `parameters`."""
        return [projection.name for _, projection, _ in ia3.places(self._layers)]

    def parameters(self) -> Iterator[nn.Parameter]:
        return iter(self._parameters.values())

    @property
    def trainable_params(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def save(self, folder: str | Path) -> Path:
        """Write the parameters and what they belong to into `folder`; the config comes last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: p.detach().cpu().contiguous() for name, p in self.named_parameters()}
        config = {
            "method": self.method,
            "options": self.options,
            "model_type": getattr(getattr(self.model, "config", None), "model_type", None),
            "trainable_params": self.trainable_params,
        }
        save_file(weights, folder / f"{_WEIGHTS}.new")
        os.replace(folder / f"{_WEIGHTS}.new", folder / _WEIGHTS)
        (folder / f"{_CONFIG}.new").write_text(json.dumps(config, indent=2) + "\n")
        os.replace(folder / f"{_CONFIG}.new", folder / _CONFIG)
        return folder

    @torch.no_grad()
    def take(self, weights: Mapping[str, Tensor], source: str) -> None:
        """Copy saved parameters in; a FrugalError that names `source` where they do not fit."""
        if missing := sorted(set(self._parameters) ^ set(weights)):
            raise FrugalError(
                f"{source}: does not fit this model; {len(missing)} names differ, "
                f"the first is {missing[0]}"
            )
        for name, parameter in self.named_parameters():
            if weights[name].shape != parameter.shape:
                raise FrugalError(
                    f"{source}: {name} has shape {tuple(weights[name].shape)}, "
                    f"this model's has {tuple(parameter.shape)}"
                )
            parameter.copy_(weights[name])

    def merge(self) -> None:
        """Fold the parameters into the weights, so that inference costs what the base costs.

        The weights that change are kept beside, as many bytes again, so that `unmerge` is exact.
        """
        if self._unmerged is not None:
            raise FrugalError("already merged")
        modules = {p.name: p.module for _, p, _ in ia3.places(self._layers)}
        self._unmerged = {
            f"{name}.{key}": value.detach().clone()
            for name, module in modules.items()
            for key, value in module.named_parameters(recurse=False)
        }
        self._unhook()
        METHODS[self.method].fold(self._layers, self._parameters)

    def unmerge(self) -> None:
        """Undo `merge`, bit for bit."""
        if self._unmerged is None:
            raise FrugalError("not merged")
        with torch.no_grad():
            for name, value in self._unmerged.items():
                self.model.get_parameter(name).copy_(value)
        self._unmerged = None
        self._handles = METHODS[self.method].hook(self._layers, self._parameters)

    def detach(self) -> None:
        """Leave the model as it was before `attach`, bit for bit."""
        if self._unmerged is not None:
            self.unmerge()
        self._unhook()
        surgery.restore(self.model, self._before)
        del self.model._frugal_tuned

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def attach(model: nn.Module, method: str, options: Mapping[str, Any] | None = None) -> Tuned:
    """Freeze `model` and give it the trainable parameters of `method`, at their start.

    Raises FrugalError for an unknown method or option, a model whose architecture is not
    supported, and a model that already has something attached.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if hasattr(model, "_frugal_tuned"):
        raise FrugalError("this model has parameters attached already; detach them first")
    return Tuned(model, method, options or {})


def load(model: nn.Module, folder: str | Path) -> Tuned:
    """Attach what `Tuned.save` wrote into `folder`."""
    folder = Path(folder)
    try:
        config = json.loads((folder / _CONFIG).read_text())
        weights = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise FrugalError(f"{folder}: holds no adapter that can be read ({error})") from error
    tuned = attach(model, config["method"], config["options"])
    try:
        tuned.take(weights, str(folder))
    except FrugalError:
        tuned.detach()
        raise
    return tuned
