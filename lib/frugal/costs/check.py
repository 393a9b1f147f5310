"""Arguments of the calculators: nonsense becomes one clear error, never a plausible number."""

import math

from frugal.errors import FrugalError


def whole(name: str, value: float, least: int = 0) -> int:
    """`value` as an int; FrugalError that names the argument unless it is whole and >= `least`."""
    if isinstance(value, bool) or not math.isfinite(value) or value != int(value):
        raise FrugalError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise FrugalError(f"{name} must be at least {least}, not {value!r}")
    return int(value)


def number(name: str, value: float, *, above: float = -math.inf, most: float = math.inf) -> float:
    """`value` as a float; FrugalError unless it is finite and above < value <= most."""
    if isinstance(value, bool) or not math.isfinite(value) or not above < value <= most:
        limits = f"above {above:g}" + (f" and at most {most:g}" if math.isfinite(most) else "")
        raise FrugalError(f"{name} must be a number {limits}, not {value!r}")
    return float(value)
