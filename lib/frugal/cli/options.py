"""Number options: each has bounds, given here once, so that no command starts on nonsense.

A range alone lets NaN through (it is below nothing); `_finite` does not. Every option of a number
is made here, which a test of all commands asserts.
"""

import math
from typing import Annotated, Any

import typer

MOST = 10**15  # of anything that is counted: more than all tokens ever written
SEEDS = 2**32 - 1  # the widest that Python, NumPy and torch all take


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def count(*names: str, help: str, least: int = 1, most: int = MOST) -> Any:
    """An option (typer) for a whole number from `least` to `most`."""
    return typer.Option(*names, min=least, max=most, help=help)


def amount(*names: str, help: str, least: float = 0.0, most: float = 1e15) -> Any:
    """An option (typer) for a finite number from `least` to `most`."""
    return typer.Option(*names, min=least, max=most, callback=_finite, help=help)


def seed(help: str) -> Any:
    """An option (typer) for a seed, or for several."""
    return typer.Option(min=0, max=SEEDS, help=help)


UsdPerHour = Annotated[float | None, amount(help="Of that GPU; else its listed price.")]
Mfu = Annotated[float, amount(help="Share of the GPU's peak that is reached.", most=1.0)]
