"""How a printed number is judged: the rules of the audit, each a function of numbers.

A number is *reproduced* where the recomputed value, rounded half up to the printed digits, is the
printed one; *rounded* where it is not, but the printed digits of what went into it, or a cut
instead of a rounding, leave room for it; *failed* otherwise.
"""

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

Verdict = Literal["reproduced", "rounded", "failed"]

SUFFIX = {"K": 3, "M": 6, "B": 9, "kB": 3, "MB": 6, "GB": 9}
_NUMBER = re.compile(r"^\$?([\d,]*\.?\d+)(?:e(\d+))?\s*(K|M|B|kB|MB|GB|×|%)?$")


@dataclass(frozen=True)
class Item:
    """One printed number beside its recomputed value.

    id: unique; where: table and cell, or section; rule: the function or formula that was used
    printed, recomputed: as text, in the same unit; note: one sentence, empty where all is well
    finding: id of what its failure belongs to (`data/findings.csv`), empty where it did not fail
    """

    id: str
    paper: str
    where: str
    rule: str
    printed: str
    recomputed: str
    verdict: Verdict
    note: str = ""
    finding: str = ""


def finding(
    id_: str,
    where: str,
    rule: str,
    printed: str,
    recomputed: str,
    verdict: Verdict | bool,
    note: str = "",
    *,
    why: str = "",
) -> Item:
    """An `Item` whose id begins with its paper; a claim that is no number holds or does not.

    note: stands there whatever the verdict; why: only where the number is not reproduced
    """
    if isinstance(verdict, bool):
        verdict = "reproduced" if verdict else "failed"
    paper = re.split("[/_]", id_)[0]
    note = note or ("" if verdict == "reproduced" else why)
    return Item(id_, paper, where, rule, printed, recomputed, verdict, note)


def number(printed: str) -> Decimal:
    """The number in `printed`: "4.2 MB" is 4.2e6, "1,000×" 1000, "72.4%" 72.4."""
    digits, exponent, suffix = _match(printed)
    return Decimal(digits).scaleb(exponent + SUFFIX.get(suffix, 0))


def unit(printed: str) -> Decimal:
    """What one step of the last printed digit is worth: 0.1e12 for "1.1e12", 0.1 for "72.4%"."""
    digits, exponent, suffix = _match(printed)
    places = len(digits.partition(".")[2])
    return Decimal(1).scaleb(exponent + SUFFIX.get(suffix, 0) - places)


def significant(printed: str, digits: int) -> Decimal:
    """The step of the `digits`-th significant digit: 10 for "20" and one digit."""
    return Decimal(1).scaleb(number(printed).adjusted() - digits + 1)


def _match(printed: str) -> tuple[str, int, str]:
    match = _NUMBER.match(printed)
    if match is None:
        raise ValueError(f"no number in {printed!r}")
    digits, exponent, suffix = match.groups()
    return digits.replace(",", ""), int(exponent or 0), suffix or ""


def rounds(value: Decimal, step: Decimal) -> Decimal:
    """`value` to the nearest multiple of `step`, halves up."""
    return (value / step).quantize(Decimal(1), ROUND_HALF_UP) * step


def cut(value: Decimal, step: Decimal) -> Decimal:
    """`value` down to a multiple of `step`."""
    return value // step * step


def judge(
    printed: str,
    value: Decimal | int | float,
    *,
    step: Decimal | None = None,
    slack: Decimal = Decimal(0),
    cuts: bool = False,
) -> Verdict:
    """The verdict on `printed`, given the recomputed `value`.

    step:  the printed precision where the text does not show it ("about 20": 10)
    slack: how far the rounding of the inputs may have moved the result
    cuts:  whether cutting digits off counts as rounding
    """
    exact = value if isinstance(value, Decimal) else Decimal(str(value))
    shown, precision = number(printed), unit(printed)
    if rounds(exact, precision) == shown:
        return "reproduced"
    if step is not None and rounds(exact, step) == shown:
        return "rounded"
    if cuts and cut(exact, precision) == shown:
        return "rounded"
    # Some value within the slack rounds, either way at a half, to what is printed.
    if slack and abs(exact - shown) <= slack + precision / 2:
        return "rounded"
    return "failed"


def mean_of_row(values: list[Decimal]) -> Decimal:
    """The unweighted mean (Σ x) / n."""
    return sum(values, Decimal(0)) / len(values)


def mean_slack(values: list[str]) -> Decimal:
    """How far a mean can move while every input keeps its printed digits: the mean half-step."""
    return mean_of_row([unit(v) / 2 for v in values])


def two_sample_t(first: float, second: float, spread: float, runs: int) -> float:
    """Student's t of two means over `runs` runs each, with one standard deviation for both.

    t = (x − y) / (s sqrt(2 / n))
    """
    return (first - second) / (spread * (2 / runs) ** 0.5)


def show(value: Decimal | int | float) -> str:
    """A value as text, with six significant digits."""
    return f"{float(value):.6g}"
