"""Arguments of the calculators: nonsense becomes one clear error, never a plausible number."""

import math

from frugal.errors import FrugalError


def _finite(value: object) -> bool:
    """Whether it is a number, and neither endless nor too large for a float."""
    try:
        return not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return False


def whole(name: str, value: float, least: int = 0) -> int:
    """`value` as an int; FrugalError that names the argument unless it is whole and >= `least`."""
    if not _finite(value) or value != int(value):
        raise FrugalError(f"{name} must be a whole number, not {_short(value)}")
    if value < least:
        raise FrugalError(f"{name} must be at least {least}, not {_short(value)}")
    return int(value)


def number(name: str, value: float, *, above: float = -math.inf, most: float = math.inf) -> float:
    """`value` as a float; FrugalError unless it is finite and above < value <= most."""
    if not _finite(value) or not above < value <= most:
        kind = "a number that is finite" if above == -math.inf else f"a number above {above:g}"
        limit = f" and at most {most:g}" if most < math.inf else ""
        raise FrugalError(f"{name} must be {kind}{limit}, not {_short(value)}")
    return float(value)


def amount(name: str, value: float) -> float:
    """`value` as a float; FrugalError that names the argument unless it is finite and >= 0."""
    if not _finite(value) or value < 0:
        negative = _finite(value) and value < 0
        wanted = (
            "must not be negative, but is" if negative else "must be a number that is finite, not"
        )
        raise FrugalError(f"{name} {wanted} {_short(value)}")
    return float(value)


def _short(value: object) -> str:
    """As a person would want to read it back, however long it is."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:40]}…"
