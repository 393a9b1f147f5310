"""What is measured on a plan, frozen before any of it was scored: our own Table 1, many shots.

A plan is `data/table1.toml` or `data/many_shots.toml`. A way is how a task is answered; each is
tried with several draws of labels, on the same test texts.
"""

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from frugal import data, peft
from frugal.engine.presets import Table
from frugal.errors import FrugalError, first_problem, unknown

PLANS = ("table1", "many-shots")


class Way(Table):
    """How a task is answered: by `shots` in the prompt, a `recipe` (T-Few's), or a linear `head`.

    draws: of labels; also: only on the tasks of `Frozen.also`
    pool, nearest, swapped, reordered: which shots, as `data/many_shots.toml` says
    """

    draws: int = Field(ge=1)
    also: bool = False
    shots: int | None = Field(None, ge=0)
    pool: int = Field(0, ge=0)
    nearest: int = Field(0, ge=0)
    swapped: bool = False
    reordered: bool = False
    recipe: dict[str, Any] = Field({})
    head: dict[str, Any] = Field({})

    @model_validator(mode="after")
    def _sound(self) -> "Way":
        shots = self.shots or 0
        if self.nearest > shots:
            raise ValueError(f"nearest: {self.nearest} of {shots} shots")
        if bool(self.pool) != bool(self.nearest) or 0 < self.pool < shots:
            raise ValueError(f"pool: {self.pool}, to choose {self.nearest} of {shots} shots from")
        if (self.swapped or self.reordered) and (self.nearest or not shots):
            raise ValueError("swapped, reordered: of shots that are the same for every query")
        return self

    @property
    def kind(self) -> Literal["prompt", "nearest", "tune", "head"]:
        if self.shots is not None:
            return "nearest" if self.nearest else "prompt"
        return "tune" if self.recipe else "head"

    def precision(self, asked: str) -> str:
        """Of its frozen weights: the one that is asked for, or float32 where it cannot be."""
        able = self.shots is not None
        if self.kind == "tune":
            able = asked in peft.precisions(self.recipe["method"])
        return asked if able else "float32"


class Rates(Table):
    """How rates are chosen: on a task that is not in the table. tried: way -> rates."""

    task: str
    draws: int = Field(ge=1)
    tried: dict[str, tuple[float, ...]]


class Frozen(Table):
    """What is measured, as `data/table1.toml` says what each is.

    rates: how those of `ways` were chosen, unless elsewhere
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    also: tuple[str, ...]
    limit: int = Field(ge=1)
    labels: int = Field(ge=1)
    encoder: str
    recipe: dict[str, Any]
    ways: dict[str, Way]
    rates: Rates | None = None


def frozen(preset: str = "", plan: str = "table1") -> Frozen:
    """What is measured on one of PLANS, with what a preset sets instead."""
    if plan not in PLANS:
        raise unknown("plan", plan, PLANS)
    file = f"{plan.replace('-', '_')}.toml"
    table = data.toml(file)
    own = table.pop("presets").get(preset, {})
    try:
        return Frozen.model_validate(table | own)
    except ValidationError as error:
        raise FrugalError(f"{file}: {first_problem(error)}") from error
