"""What all calculators share: an answer, the controls that ask for it, numbers as they are read."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from frugal_course.calculators.picture import Picture
from frugal_course.names import said

Value = str | int | float | bool
State = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """A picture, what it says in a sentence, and all numbers: a record a row, by column."""

    picture: Picture
    sentence: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Control:
    """What a reader moves: the argument `name` of a calculator, called `label`.

    low, high, step: of a slider or a number; options: (label, value) of a choice
    """

    name: str
    label: str
    kind: Literal["slider", "number", "choice", "tick"]
    value: Value
    low: float = 0
    high: float = 0
    step: float = 1
    options: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True)
class Calculator:
    """A pure function of plain values, and its controls.

    name:     in addresses and classes of pages; title: what it is about
    look:     answers; its arguments are the controls', all of them with a default. Raises
              FrugalError for nonsense
    controls: those that go with a state, in which the argument `moved` was moved last: options and
              values of others may follow it
    """

    name: str
    title: str
    look: Callable[..., Answer]
    controls: Callable[[State, str], list[Control]]

    def start(self, given: State) -> list[Control]:
        """The controls where it starts: the arguments that are given, the others by default.

        What `look` refuses is said here, before there is a control.
        """
        usual = {name: p.default for name, p in inspect.signature(self.look).parameters.items()}
        self.look(**given)
        return self.controls({**usual, **given}, "")


def slider(name: str, label: str, value: float, low: float, high: float, step: float) -> Control:
    """A slider whose range holds `value`, whole where the value is."""
    return Control(name, label, "slider", value, min(low, value), max(high, value), step)


def number(name: str, label: str, value: float, high: float, step: float = 1) -> Control:
    """A field for a number from 0 on."""
    return Control(name, label, "number", value, 0, max(high, value), step)


def choice(name: str, label: str, value: Value, options: Iterable[Any]) -> Control:
    """A list to choose from; its options are values, or pairs of a label and a value."""
    pairs = tuple(o if isinstance(o, tuple) else (str(o), o) for o in options)
    return Control(name, label, "choice", value, options=pairs)


def tick(name: str, label: str, value: bool) -> Control:
    """A box to tick."""
    return Control(name, label, "tick", value)


def written(value: Any) -> str:
    """A number as it is read best: 1,273, 3.4, 1.44e15; a dash for what is not there."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return said(value)
    if value == 0 or 1e3 <= abs(value) < 1e7 or (value == int(value) and abs(value) < 1e3):
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1e3 else said(f"{value:.3g}")
