"""What our own Table 1 measures, frozen before any of it was scored (`data/table1.toml`).

A way is how a task is answered; each is tried with several draws of labels, on the same test texts.
"""

from typing import Any, Literal

from pydantic import Field, ValidationError

from frugal import data, peft
from frugal.engine.presets import Table
from frugal.errors import FrugalError, first_problem


class Way(Table):
    """How a task is answered: by `shots` in the prompt, a `recipe` (T-Few's), or a linear `head`.

    draws: of labels; also: only on the tasks of `Frozen.also`
    """

    draws: int = Field(ge=1)
    also: bool = False
    shots: int | None = Field(None, ge=0)
    recipe: dict[str, Any] = Field({})
    head: dict[str, Any] = Field({})

    @property
    def kind(self) -> Literal["prompt", "tune", "head"]:
        if self.shots is not None:
            return "prompt"
        return "tune" if self.recipe else "head"

    def precision(self, asked: str) -> str:
        """Of its frozen weights: the one that is asked for, or float32 where it cannot be."""
        able = self.kind == "prompt"
        if self.kind == "tune":
            able = asked in peft.precisions(self.recipe["method"])
        return asked if able else "float32"


class Rates(Table):
    """How rates are chosen: on a task that is not in the table. tried: way -> rates."""

    task: str
    draws: int = Field(ge=1)
    tried: dict[str, tuple[float, ...]]


class Frozen(Table):
    """What is measured, as `data/table1.toml` says what each is."""

    tasks: tuple[str, ...] = Field(min_length=1)
    also: tuple[str, ...]
    limit: int = Field(ge=1)
    labels: int = Field(ge=1)
    encoder: str
    recipe: dict[str, Any]
    ways: dict[str, Way]
    rates: Rates


def frozen(preset: str = "") -> Frozen:
    """What is measured, with what a preset sets instead."""
    table = data.toml("table1.toml")
    own = table.pop("presets").get(preset, {})
    try:
        return Frozen.model_validate(table | own)
    except ValidationError as error:
        raise FrugalError(f"table1.toml: {first_problem(error)}") from error
