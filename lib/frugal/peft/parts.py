"""Which methods there are, and what of them is attached to which layers of a model."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from frugal.errors import FrugalError, unknown
from frugal.kernels.precision import FLOATS, NAMES
from frugal.peft import surgery
from frugal.peft.adapters import Adapter, Compacter, CompacterPP
from frugal.peft.ia3 import IA3
from frugal.peft.lora import LoRA
from frugal.peft.method import Method
from frugal.peft.prefix import Prefix, Prompt
from frugal.peft.weights import BitFit, Fish, Full, LayerNorm, Said

# In the order in which methods on one projection apply, and are folded into it.
METHODS: dict[str, type[Method]] = {
    "full": Full,
    "fish": Fish,
    "said": Said,
    "layernorm": LayerNorm,
    "bitfit": BitFit,
    "lora": LoRA,
    "ia3": IA3,
    "adapter": Adapter,
    "compacter": Compacter,
    "compacter++": CompacterPP,
    "prefix": Prefix,
    "prompt": Prompt,
}
_ON_WEIGHTS = ("full", "fish", "said")  # train the model's own weights, which int8 would round
Methods = Mapping[str, Mapping[str, Any]]  # name -> options


def precisions(method: str) -> tuple[str, ...]:
    """In which precisions of a model a method can be trained."""
    return FLOATS if method in _ON_WEIGHTS else NAMES


@dataclass(frozen=True)
class Part:
    """One method, its options, and the layers it is on (None: the whole model)."""

    method: str
    options: dict[str, Any]
    layers: list[int] | None

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or self.method not in METHODS:
            raise unknown("method", str(self.method), METHODS)
        if not isinstance(self.options, dict):
            raise FrugalError(f"{self.method}: options must be a mapping, not {self.options!r}")
        if self.layers is None:
            return
        if not self.layers:
            raise FrugalError(f"{self.method}: no layer is named")
        if not isinstance(self.layers, list) or any(type(i) is not int for i in self.layers):
            raise FrugalError(f"{self.method}: layers must be whole numbers, not {self.layers!r}")
        if len(set(self.layers)) < len(self.layers):
            raise FrugalError(f"{self.method}: a layer is named twice in {self.layers}")


def parts_of(
    what: str | Methods | Mapping[int, Methods],
    options: Mapping[str, Any] | None,
    layers: Sequence[int] | None,
) -> list[Part]:
    """What `attach` is asked for, as a list: layers with the same method and options are one."""
    if isinstance(what, str):
        what = {what: options or {}}
    elif options is not None:
        raise FrugalError(
            "options go with one method; where there are several, each brings its own"
        )
    per_layer = {key: value for key, value in what.items() if isinstance(key, int)}
    if not per_layer:
        on = None if layers is None else sorted(set(layers))
        found = [Part(name, dict(o), on) for name, o in what.items()]  # type: ignore[arg-type]
    elif len(per_layer) < len(what) or layers is not None:
        raise FrugalError("name either layers or methods: {0: {'lora': {}}} or {'lora': {}}")
    else:
        alike: dict[str, list[int]] = {}
        for layer, methods in sorted(per_layer.items()):
            for name, o in methods.items():
                alike.setdefault(json.dumps([name, dict(o)], sort_keys=True), []).append(layer)
        named = [(*json.loads(key), on) for key, on in alike.items()]
        found = [Part(name, o, on) for name, o, on in named]
    if not found:
        raise FrugalError("no method is named")
    return sorted(found, key=lambda part: list(METHODS).index(part.method))


def build(model: nn.Module, parts: Sequence[Part]) -> list[Method]:
    """The methods with their parameters at their start; the model is not touched."""
    layers = surgery.layers(model)
    found: list[Method] = []
    taken: set[tuple[int, str]] = set()
    names: set[str] = set()
    for part in parts:
        kind = METHODS[part.method]
        known = [field.name for field in dataclasses.fields(kind)]
        for option in part.options:
            if option not in known:
                raise unknown(f"option of {part.method!r}:", option, known or ["none"])
        wanted = range(len(layers)) if part.layers is None else part.layers
        for index in wanted:
            if index not in range(len(layers)):
                raise FrugalError(
                    f"there is no layer {index}; the model has 0 to {len(layers) - 1}"
                )
        method = kind(**part.options)
        try:
            method.place(model, [layers[i] for i in wanted], part.layers is None, taken)
        except FrugalError:
            raise
        except (TypeError, ValueError, ArithmeticError) as error:
            raise FrugalError(f"{part.method}: {part.options} do not serve ({error})") from error
        if both := sorted(names & method.parameters.keys()):
            raise FrugalError(f"{part.method}: {both[0]} is in another part already")
        names |= method.parameters.keys()
        found.append(method)
    return found
