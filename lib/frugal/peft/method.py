"""What a method is: parameters beside a frozen model, and hooks that make its layers use them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from frugal.errors import FrugalError
from frugal.peft.surgery import Layer

# The value a hook uses for a parameter: the parameter itself; with one more axis in front, a value
# for each row of the batch; or None, where the layer is to run as if nothing were attached.
Pick = Callable[[str], Tensor | None]
Places = list[tuple[nn.Module, str]]


class Handle(Protocol):
    """What a hook leaves, to take it away again."""

    def remove(self) -> None: ...


@dataclass(eq=False, kw_only=True)
class Method:
    """One method on some layers of a model. Its fields are its options.

    Defaults are T-Few's (Liu et al., 2022, appendix D). `place` gives it its layers, and `build`,
    which a subclass writes, its parameters at their start: fp32 at least, since a half's steps are
    too coarse to train, and cast where they are used.

    neutral:    None, or the value of all parameters that changes nothing; methods that have one
                can differ from row to row of a batch
    parameters: what is trained, by a name that no other method uses
    constants:  what is saved with them and never trained
    scope:      name -> module under which the method works: the layers, or the whole model
    taken:      the model's own parameters (id of module, name) that a method trains already
    """

    neutral: ClassVar[float | None] = None

    def place(
        self, model: nn.Module, layers: Sequence[Layer], whole: bool, taken: set[tuple[int, str]]
    ) -> None:
        self.model, self.layers, self.whole, self.taken = model, layers, whole, taken
        self.parameters: dict[str, nn.Parameter] = {}
        self.constants: dict[str, Tensor] = {}
        self.scope: dict[str, nn.Module] = (
            {"": model} if whole else {layer.name: layer.module for layer in layers}
        )
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def look(self, losses: Iterable[Tensor] | None) -> None:
        """See the losses of some examples before training, where the method needs to."""

    def check(self, source: str) -> None:
        """Raise FrugalError, which names `source`, for loaded values that cannot be."""

    def hook(self, pick: Pick) -> list[Handle]:
        """Make the layers use what `pick` says, until the handles are removed.

        A method without a neutral value uses its parameters, whatever `pick` says.
        """
        raise NotImplementedError

    def changes(self) -> Places:
        """The parameters of the model that `fold` writes to; FrugalError where it cannot."""
        name = type(self).__name__
        raise FrugalError(f"{name} cannot be merged: it computes what no weight of the model can")

    def fold(self) -> None:
        """Write the method into the model's weights."""
        raise NotImplementedError


def whole(name: str, value: Any, least: int = 1) -> int:
    """`value`, if it is a whole number of at least `least`; else a FrugalError that names it."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise FrugalError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value


def full(shape: Sequence[int], value: float, like: Tensor) -> nn.Parameter:
    """`shape` filled with `value`, where `like` is, in fp32 at least."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return nn.Parameter(torch.full(tuple(shape), value, dtype=dtype, device=like.device))


def normal(shape: Sequence[int], std: float, like: Tensor) -> nn.Parameter:
    """`shape` of N(0, std²), where `like` is: the same numbers on every device."""
    parameter = full(shape, 0.0, like)
    if not like.is_meta:
        parameter.data.copy_(std * torch.randn(*shape))
    return parameter


def by_row(value: Tensor, rows: int, axes: int) -> Tensor:
    """`value` as it meets `rows` rows: one of `axes` axes is for all of them.

    Raises FrugalError where there is a value per row and the batch has another number of rows.
    """
    if value.dim() == axes:
        return value
    if len(value) != rows:
        raise FrugalError(f"the batch has {rows} rows, but tasks names {len(value)}")
    return value[:, None] if axes == 1 else value


def stand_in(module: nn.Module, name: str, value: Callable[[], Tensor]) -> list[Handle]:
    """While `module` runs, its parameter `name` reads as `value()`, and gradients go there.

    The parameter itself stays registered and untouched: an entry in the instance's dictionary is
    found before `nn.Module` looks among its parameters.
    """

    def before(module: nn.Module, args: Any) -> None:
        module.__dict__[name] = value()

    def after(module: nn.Module, args: Any, output: Any) -> None:
        module.__dict__.pop(name, None)

    return [
        module.register_forward_pre_hook(before),
        module.register_forward_hook(after, always_call=True),
    ]
