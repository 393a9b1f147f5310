"""A picture as plain data: panels with axes, and what stands in them. Others draw it.

Colours are names of the companion's four; shape and dash differ with the colour.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Colour = Literal["blue", "orange", "green", "grey", "black"]
Place = Literal["right", "left", "above", "below"]


@dataclass(frozen=True)
class Line:
    """Points joined; `name` stands above its end. Where y is None, the line is broken."""

    points: Sequence[tuple[float, float | None]]
    colour: Colour
    name: str = ""
    dash: Literal["", "dashed", "dotted"] = ""


@dataclass(frozen=True)
class Mark:
    """A point; published values are not `filled`."""

    x: float
    y: float
    colour: Colour
    shape: Literal["circle", "diamond", "cross"] = "circle"
    filled: bool = True
    text: str = ""
    place: Place = "right"


@dataclass(frozen=True)
class Bar:
    """A rectangle from (left, bottom) to (right, top); `pattern` tells it from others in print."""

    left: float
    bottom: float
    right: float
    top: float
    colour: Colour
    pattern: Literal["", "lines", "dots", "crosses"] = ""
    text: str = ""
    place: Literal["within", "right"] = "within"


@dataclass(frozen=True)
class Rule:
    """A dotted line across the panel where `axis` is `at`, with its text at one end."""

    axis: Literal["x", "y"]
    at: float
    text: str


@dataclass(frozen=True)
class Grid:
    """Rows of values that fill the panel, the first on top; the `framed` one is spoken of.

    Blue is below `middle`, orange above it, in full at `spread` from it; name: of what they are
    """

    values: Sequence[Sequence[float]]
    middle: float
    spread: float
    name: str
    framed: int


@dataclass(frozen=True)
class Axis:
    """From low to high; ticks: (value, text), by default round numbers, or powers of ten."""

    label: str
    low: float
    high: float
    log: bool = False
    ticks: Sequence[tuple[float, str]] | None = None

    def share(self, value: float) -> float:
        """Where `value` is: 0 at `low`, 1 at `high`."""
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return (at - low) / (high - low)

    def marked(self, most: int = 6) -> list[tuple[float, str]]:
        """The ticks, about `most` of them where they are not given."""
        if self.ticks is not None:
            return [*self.ticks]
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            every = max(1, -(-(last - first + 1) // most))
            return [
                (10.0**n, f"10{str(n).translate(_RAISED)}") for n in range(first, last + 1, every)
            ]
        rough = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(n * unit for n in (1, 2, 5, 10) if n * unit >= rough * 0.999)
        steps = range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
        return [(n * step, f"{n * step:,.10g}") for n in steps]


@dataclass(frozen=True)
class Panel:
    """What stands in one frame; heading: what it shows; share: of the picture's width."""

    heading: str
    x: Axis
    y: Axis
    things: Sequence[Line | Mark | Bar | Rule | Grid]
    share: float = 1


@dataclass(frozen=True)
class Picture:
    """Panels side by side under a title, which states the finding."""

    title: str
    panels: Sequence[Panel]


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
