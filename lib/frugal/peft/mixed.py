"""Several adapters on one model, and one batch whose rows belong to different tasks.

T-Few, §3.3: (IA)³ needs no batch of its own for each task, since a row's activations are
multiplied by its own vectors, h ⊙ l[task]. The vectors of all tasks are stacked and gathered by
row; LoRA's matrices likewise. A row of the batch has one task, also where several examples are
packed into it; an encoder–decoder's encoder and decoder have the same rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from frugal.errors import FrugalError, unknown
from frugal.peft import formats
from frugal.peft.found import Saved
from frugal.peft.method import Method
from frugal.peft.parts import METHODS, build
from frugal.peft.tuned import Attached, take


class Mixed(Attached):
    """What `mixed` returns. Outside of `tasks(…)` the model computes what it did before."""

    def __init__(self, model: nn.Module, saved: Mapping[str, Saved]) -> None:
        (first, (parts, _)), *others = saved.items()
        for name, (other, _) in others:
            if other != parts:
                raise FrugalError(
                    f"tasks {first!r} and {name!r} differ in method, options or layers"
                )
        for part in parts:
            if METHODS[part.method].neutral is None:
                raise FrugalError(f"{part.method} cannot differ from row to row; ia3 and lora can")
        self._tasks: dict[str, dict[str, nn.Parameter]] = {}
        for name, (_, weights) in saved.items():
            methods = build(model, parts)
            take(methods, weights, f"task {name!r}")
            self._tasks[name] = {key: p for m in methods for key, p in m.parameters.items()}
        self._rows: tuple[list[str | None], Tensor] | None = None
        super().__init__(model, parts, methods)

    def pick(self, method: Method, name: str) -> Tensor | None:
        """(rows, …) a parameter's value for each row of the batch."""
        if self._rows is None:
            return None
        tasks, index = self._rows
        neutral = torch.full_like(method.parameters[name], method.neutral or 0.0).detach()
        each = torch.stack([neutral if t is None else self._tasks[t][name] for t in tasks])
        return each[index.to(each.device)]

    @contextmanager
    def tasks(self, names: Sequence[str | None]) -> Iterator[None]:
        """Run batches whose row i belongs to task `names[i]`; None is the model without any.

        Raises FrugalError for a name that does not exist, and in the forward pass for a batch
        with another number of rows than there are names.
        """
        for name in names:
            if name is not None and name not in self._tasks:
                raise unknown("task", name, self._tasks)
        different = list(dict.fromkeys(names))
        before = self._rows
        self._rows = different, torch.tensor([different.index(name) for name in names])
        try:
            yield
        finally:
            self._rows = before

    def named_parameters(self, task: str | None = None) -> Iterator[tuple[str, nn.Parameter]]:
        """The trainable parameters of one task by place, or of all as "task/place"."""
        if task is None:
            return ((f"{t}/{name}", p) for t, own in self._tasks.items() for name, p in own.items())
        if task not in self._tasks:
            raise unknown("task", task, self._tasks)
        return iter(self._tasks[task].items())

    def parameters(self, task: str | None = None) -> Iterator[nn.Parameter]:
        return (p for _, p in self.named_parameters(task))

    def save(self, task: str, folder: str | Path) -> Path:
        """Write one task's parameters, as `Tuned.save` does."""
        parameters = dict(self.named_parameters(task))
        return formats.write(
            Path(folder), self.model, self.parts, self.methods, parameters, self.base
        )


def mixed(model: nn.Module, tasks: Mapping[str, str | Path]) -> Mixed:
    """Attach the adapters in the folders `tasks` side by side; all of one method, ia3 or lora.

    Raises FrugalError where they differ, do not fit the model, or cannot be read.
    """
    if not tasks:
        raise FrugalError("mixed needs at least one task")
    return Mixed(model, {name: formats.read(model, Path(at)) for name, at in tasks.items()})
