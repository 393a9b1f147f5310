"""A model with methods attached: count, save, load, merge, detach."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frugal.errors import FrugalError, unknown
from frugal.peft import surgery
from frugal.peft.adapters import Adapter, Compacter, CompacterPP
from frugal.peft.ia3 import IA3
from frugal.peft.lora import LoRA
from frugal.peft.method import Handle, Method
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
Methods = Mapping[str, Mapping[str, Any]]  # name -> options


@dataclass(frozen=True)
class Part:
    """One method, its options, and the layers it is on (None: the whole model)."""

    method: str
    options: dict[str, Any]
    layers: list[int] | None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        if self.layers == []:
            raise FrugalError(f"{self.method}: no layer is named")


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
        except TypeError as error:
            raise FrugalError(f"{part.method}: {part.options} do not serve ({error})") from error
        found.append(method)
    return found


def take(methods: Sequence[Method], weights: Mapping[str, Tensor], source: str) -> None:
    """Copy saved parameters in; a FrugalError that names `source` where they do not fit."""
    own = {name: p for m in methods for name, p in [*m.parameters.items(), *m.constants.items()]}
    if missing := sorted(set(own) ^ set(weights)):
        raise FrugalError(
            f"{source}: does not fit this model; {len(missing)} names differ, "
            f"the first is {missing[0]}"
        )
    for name, mine in own.items():
        if weights[name].shape != mine.shape:
            raise FrugalError(
                f"{source}: {name} has shape {tuple(weights[name].shape)}, "
                f"this model's has {tuple(mine.shape)}"
            )
        mine.data.copy_(weights[name])


class Attached:
    """Methods on a model whose own weights are frozen, and the way back.

    method: what is attached, such as "lora" or "lora+layernorm"
    """

    def __init__(self, model: nn.Module, parts: Sequence[Part], methods: Sequence[Method]) -> None:
        if hasattr(model, "_frugal_tuned"):
            raise FrugalError("this model has parameters attached already; detach them first")
        model._frugal_tuned = self  # type: ignore[assignment]
        self.model, self.parts, self.methods = model, list(parts), list(methods)
        self.method = "+".join(dict.fromkeys(part.method for part in parts))
        self._before = surgery.freeze(model)
        self._handles: list[Handle] = []
        self._hook()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable parameters, by place."""
        return (named for method in self.methods for named in method.parameters.items())

    def parameters(self) -> Iterator[nn.Parameter]:
        return (p for _, p in self.named_parameters())

    @property
    def trainable_params(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def pick(self, method: Method, name: str) -> Tensor | None:
        """The value that the layers use for a parameter of a method."""
        return method.parameters[name]

    def detach(self) -> None:
        """Leave the model as it was before, bit for bit."""
        self._unhook()
        surgery.restore(self.model, self._before)
        del self.model._frugal_tuned

    def _hook(self) -> None:
        for method in self.methods:
            self._handles += method.hook(partial(self.pick, method))

    def _unhook(self) -> None:
        while self._handles:
            self._handles.pop().remove()


class Tuned(Attached):
    """What `attach` returns: the new parameters, and the way back to the model as it was."""

    _originals: list[tuple[nn.Parameter, Tensor]] | None = None

    def save(self, folder: str | Path) -> Path:
        """Write the parameters and what they belong to into `folder`; the config comes last.

        (IA)³ and LoRA are written in the layout of Hugging Face's peft, which loads them too (but
        not a LoRA of GPT-2, whose q, k and v are one matrix there); all others in our own.
        """
        from frugal.peft import formats

        return formats.write(
            Path(folder), self.model, self.parts, self.methods, dict(self.named_parameters())
        )

    def merge(self) -> None:
        """Fold the parameters into the weights, so that inference costs what the base costs.

        The weights that change are kept beside, as many bytes again, so that `unmerge` is exact.
        Raises FrugalError for a method that adds computation: adapters, prefixes, prompts, biases
        where the model has none.
        """
        if self._originals is not None:
            raise FrugalError("already merged")
        places = {place for method in self.methods for place in method.changes()}
        changed = [module.get_parameter(name) for module, name in places]
        self._originals = [(p, p.detach().clone()) for p in changed]
        self._unhook()
        for method in self.methods:
            method.fold()

    @torch.no_grad()
    def unmerge(self) -> None:
        """Undo `merge`, bit for bit."""
        if self._originals is None:
            raise FrugalError("not merged")
        for parameter, original in self._originals:
            parameter.copy_(original)
        self._originals = None
        self._hook()

    def detach(self) -> None:
        """Leave the model as it was before `attach`, bit for bit."""
        if self._originals is not None:
            self.unmerge()
        super().detach()


def attach(
    model: nn.Module,
    method: str | Methods | Mapping[int, Methods],
    options: Mapping[str, Any] | None = None,
    *,
    layers: Sequence[int] | None = None,
    losses: Iterable[Tensor] | None = None,
) -> Tuned:
    """Freeze `model` and give it the trainable parameters of `method`, at their start.

    method:  a name of METHODS; several with their options, `{"lora": {"rank": 4}, "bitfit": {}}`;
             or such a dict for each layer that is tuned, `{0: {"adapter": {"size": 8}}, 3: {…}}`
    options: of a method given by name
    layers:  indices of the layers to tune, from 0, decoder after encoder; all unless given
    losses:  scalar losses of some examples, one by one, for methods that look at gradients before
             they start (FISH)

    Raises FrugalError for an unknown method, option or layer, a model whose architecture is not
    supported, and a model that already has something attached.
    """
    parts = parts_of(method, options, layers)
    methods = build(model, parts)
    for m in methods:
        m.look(losses)
    return Tuned(model, parts, methods)


def load(model: nn.Module, folder: str | Path) -> Tuned:
    """Attach what lies in `folder`: of `Tuned.save`, or of Hugging Face's peft ((IA)³ and LoRA).

    Also takes a file of T-Few's released (IA)³ vectors, `….pt`.
    """
    from frugal.peft import formats

    parts, weights = formats.read(model, Path(folder))
    methods = build(model, parts)
    take(methods, weights, str(folder))
    return Tuned(model, parts, methods)
