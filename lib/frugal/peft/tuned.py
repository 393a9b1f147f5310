"""A model with methods attached: count, save, load, merge, detach."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from frugal.errors import FrugalError
from frugal.kernels.int8 import Int8Linear
from frugal.peft import bases, formats, surgery
from frugal.peft.method import Handle, Method
from frugal.peft.parts import Methods, Part, build, parts_of


def take(methods: Sequence[Method], weights: Mapping[str, Tensor], source: str) -> None:
    """Copy saved parameters in; a FrugalError that names `source` where they do not fit."""
    own = {name: p for m in methods for name, p in [*m.parameters.items(), *m.constants.items()]}
    if missing := sorted(set(own) ^ set(weights)):
        raise FrugalError(
            f"{source}: does not fit this model; {len(missing)} names differ, "
            f"the first is {missing[0]}"
        )
    if not own:
        raise FrugalError(f"{source}: holds no parameters")
    for name, mine in own.items():
        value = weights[name]
        if value.shape != mine.shape:
            raise FrugalError(
                f"{source}: {name} has shape {tuple(value.shape)}, "
                f"this model's has {tuple(mine.shape)}"
            )
        if value.is_floating_point() != mine.is_floating_point():
            raise FrugalError(f"{source}: {name} holds {value.dtype}, not {mine.dtype}")
        value = value.to(mine.dtype)
        if not bool(torch.isfinite(value).all()):
            raise FrugalError(f"{source}: {name} holds a value that is not finite")
        mine.data.copy_(value)
    for method in methods:
        method.check(source)


def of(model: nn.Module) -> "Attached | None":
    """What is attached to `model` now, by `attach`, `load` or `mixed`."""
    return getattr(model, "_frugal_tuned", None)


class Attached:
    """Methods on a model whose own weights are frozen, and the way back.

    method: what is attached, such as "lora" or "lora+layernorm"
    base:   a sample of the model's weights as they were, of `bases.sample`
    """

    def __init__(self, model: nn.Module, parts: Sequence[Part], methods: Sequence[Method]) -> None:
        if of(model) is not None:
            raise FrugalError("this model has parameters attached already; detach them first")
        model._frugal_tuned = self  # type: ignore[assignment]
        self.model, self.parts, self.methods = model, list(parts), list(methods)
        self.method = "+".join(dict.fromkeys(part.method for part in parts))
        self.base = bases.sample(model, surgery.layers(model))
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
        parameters = dict(self.named_parameters())
        return formats.write(
            Path(folder), self.model, self.parts, self.methods, parameters, self.base
        )

    def merge(self) -> None:
        """Fold the parameters into the weights, so that inference costs what the base costs.

        The weights that change are kept beside, as many bytes again, so that `unmerge` is exact.
        Raises FrugalError for a method that adds computation: adapters, prefixes, prompts, biases
        where the model has none; and for weights that are int8.
        """
        if self._originals is not None:
            raise FrugalError("already merged")
        places = {place for method in self.methods for place in method.changes()}
        for module, name in places:
            if isinstance(module, Int8Linear) and name == "weight":
                raise FrugalError(
                    f"{self.method} cannot be merged: the weights are int8, whose 255 levels would "
                    "round it away; merge into a model in float32 or bfloat16"
                )
        changed = [module.get_parameter(name) for module, name in places]
        self._originals = [(p, p.detach().clone()) for p in changed]
        self._unhook()
        for method in self.methods:
            method.fold()

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model as if nothing were attached, for a while; FrugalError where it is merged."""
        if self._originals is not None:
            raise FrugalError("merged: the weights hold what was attached")
        self._unhook()
        try:
            yield
        finally:
            self._hook()

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

    Also takes a file of T-Few's released (IA)³ vectors, `….pt`. Raises FrugalError, which names the
    folder, for what is damaged, incomplete, no plain adapter (see `configs`), or of another model;
    warns (FrugalWarning) where the model can be told by its name alone, and that is another.
    """
    parts, weights = formats.read(model, Path(folder))
    methods = build(model, parts)
    take(methods, weights, str(folder))
    return Tuned(model, parts, methods)
