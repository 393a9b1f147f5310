"""How sure a number is: the only home of certainty.

A way of answering is tried on draws of its labels and on test texts, and another draw or other
texts would have given another number. `compare` says of a difference which truths fit what was
seen, its 95 % interval; `average` does so over tasks, `power` says what an experiment can tell.
Differences are fractions, as accuracies are; their text is in points: "+15 points [+9, +21]".
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from frugal.errors import FrugalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

SURE = 0.95  # of an interval
FEWEST = 3  # draws that can carry an interval; of two, t is 12.7
TINY = 1e-20  # a variance that is rounding
Z = 1.96  # of a normal distribution: 95 % intervals
RESAMPLES = 4000  # of examples
REDRAWS = 10_000  # of designs
JUDGED = ("name", "mean", "low", "high", "runs", "again", "shrunk")


class Components(NamedTuple):
    """Variances of a difference: between draws, between texts, and of what neither explains."""

    draw: float
    text: float
    rest: float = 0.0

    @classmethod
    def assumed(cls, spread: float, accuracy: float, correlation: float) -> Components:
        """Before anything is measured, and cautious: no draw changes which texts are answered.

        spread:      standard deviation of the difference between draws, a fraction
        accuracy:    of either way
        correlation: of the two ways' hits over texts; 0 where they do not answer the same ones
        """
        return cls(spread**2, 2 * accuracy * (1 - accuracy) * (1 - correlation))


@dataclass(frozen=True)
class Difference:
    """A difference of two means, as a fraction, and how sure it is.

    low, high:  its 95 % interval; None where fewer than three draws cannot carry one
    draws:      of the side that has fewer; 0 where neither has any: the interval is over texts
    texts:      that both answered
    variance:   of the difference, and the `degrees` of freedom of that
    components: of the variance, for `power`; None for an average
    """

    difference: float
    low: float | None
    high: float | None
    draws: int
    texts: int
    variance: float
    degrees: float
    components: Components | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and self.low * self.high > 0

    @property
    def bound(self) -> float:
        """The size that is excluded either way: the farther end of the interval."""
        return math.inf if self.low is None or self.high is None else max(-self.low, self.high)

    @property
    def interval(self) -> str:
        """As in "[+9, +21]", in points; "" where there is none."""
        return "" if self.low is None else "".join(str(self).partition("[")[1:])

    def of(self, ours: str, theirs: str, *where: str) -> str:
        """A whole verdict, as notebooks and reports state it: what less what, where, and how sure.

        "T-Few less 16-shot ICL, movie-reviews: +15 points [+9, +21]", for example. A test collects
        these, and refuses two that contradict each other.
        """
        return f"{', '.join((f'{ours} less {theirs}', *where))}: {self}"

    def between(self, ours: str, theirs: str) -> str:
        """Direction and size in words, for a title; what is excluded where the interval holds 0."""
        if self.low is None or self.high is None:
            return self.of(ours, theirs)
        if self.clear:
            size = str(self).lstrip("+-").partition(" [")[0]
            where = "above" if self.difference > 0 else "below"
            return f"{ours} is {size} {where} {theirs} {self.interval}"
        tens = 10 ** _digits(self.low, self.high)
        size = f"{math.ceil(100 * tens * self.bound - 1e-9) / tens:g} points"
        return f"{ours} and {theirs} differ by less than {size} either way {self.interval}"

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return in_points(self.difference, self.low, self.high)
        draws = "1 draw" if self.draws == 1 else f"{self.draws} draws"
        size = _points(self.difference, 0)
        return f"{size} {_unit(size)} ({draws}; an interval needs {FEWEST})"


def in_points(difference: float, low: float, high: float) -> str:
    """Fractions as text: "+15 points [+9, +21]"; with a decimal near 0, or of a narrow interval."""
    digits = _digits(low, high)
    size, *ends = (_points(value, digits) for value in (difference, low, high))
    return f"{size} {_unit(size)} [{', '.join(ends)}]"


def _digits(low: float, high: float) -> int:
    return 0 if high - low >= 0.02 and min(abs(low), abs(high)) >= 0.005 else 1


def _points(share: float, digits: int) -> str:
    return f"{round(100 * share, digits) + 0.0:+.{digits}f}"  # + 0.0: no -0


def _unit(size: str) -> str:
    return "point" if size in ("+1", "-1") else "points"


def compare(a: ArrayLike, b: ArrayLike | float, *, of: int = 1) -> Difference:
    """Mean of `a` less mean of `b`, and its 95 % interval.

    a, b: (draws, texts) hits or other scores of each text; (texts,) for a way that draws nothing,
        as zero-shot does; (draws, 1) where only a draw's mean is known, so that the texts are taken
        as given. b may be a level that is known exactly: guessing, a published number
    of:   how many comparisons are looked at together: the best of ten is not one of ten. All their
        intervals hold at once in 95 % of experiments (Bonferroni)

    Texts are paired. As many draws on each side are paired by place, which is right for independent
    draws too; otherwise each side has a variance over its own draws, and these add up. One draw
    beside several counts as a way that draws nothing.

    With MS the mean squares of D draws, E texts and the rest in an analysis of variance by two
    crossed factors, Var = (MS_draw + MS_text - MS_rest) / (D E), at least MS_rest / (D E); degrees
    of freedom by Satterthwaite (1946). Where no hit differs from another, up to 1 - 0.05^(1/E) of
    other texts may (the rule of three); where no other score does, the interval is a point.

    Raises FrugalError for other shapes, texts that differ in number, or NaN.
    """
    import numpy as np

    scores = [_scores("a", a)] + ([] if np.ndim(b) == 0 else [_scores("b", b)])
    level = float(b) if np.ndim(b) == 0 else 0.0  # type: ignore[arg-type]
    if not math.isfinite(level):
        raise FrugalError(f"compare: b is {level}, which is no level")
    drawn = [len(own) for own in scores if own.ndim == 2]
    draws = min([count for count in drawn if count > 1] or drawn, default=0)
    sides = [np.atleast_2d(own) for own in scores]
    if len({side.shape[1] for side in sides}) > 1:
        counts = " and ".join(f"{side.shape[1]:,}" for side in sides)
        raise FrugalError(f"compare: {counts} texts: both sides must answer the same ones")
    if len(sides) == 2 and len(sides[0]) == len(sides[1]):
        sides = [sides[0] - sides[1]]
    apart = sides[0].mean(0) - level  # (texts,)
    if len(sides) == 2:
        apart = apart - sides[1].mean(0)
    parts, components = _parts(sides, apart)
    found = Difference(
        difference=float(apart.mean()),
        low=None,
        high=None,
        draws=draws,
        texts=len(apart),
        variance=math.nan,
        degrees=math.nan,
        components=components if draws > 1 else None,
    )
    if not parts or (drawn and draws < FEWEST):
        return found
    least = sum(-part for part, _ in parts if part < 0)
    variance = max(least, sum(part for part, _ in parts))
    if variance < TINY and len(apart) > 1 and all(np.isin(own, (0, 1)).all() for own in scores):
        variance = ((1 - (1 - SURE) ** (1 / len(apart))) / student_t(SURE, math.inf)) ** 2
        parts = [(variance, math.inf)]
    return _sure(found, variance, parts, of)


def average(tasks: Sequence[Difference], *, sample: bool = False, of: int = 1) -> Difference:
    """Mean of differences of several tasks, and its 95 % interval.

    tasks:  each compared on its own draws and texts
    sample: whether these tasks are a sample, and the mean over others like them is asked for; that
        interval is wider. Otherwise it is about these tasks: the root of the summed variances
    of:     how many averages are looked at together, as in `compare`

    Raises FrugalError for no task, or a sample of fewer than three.
    """
    count = len(tasks)
    if count < (FEWEST if sample else 1):
        raise FrugalError(f"average: {count} tasks; it needs {FEWEST if sample else 1}")
    means = [task.difference for task in tasks]
    parts = [(task.variance / count**2, task.degrees) for task in tasks]
    found = Difference(
        difference=statistics.fmean(means),
        low=None,
        high=None,
        draws=min(task.draws for task in tasks),
        texts=sum(task.texts for task in tasks),
        variance=math.nan,
        degrees=math.nan,
    )
    if any(task.low is None for task in tasks):
        return found
    variance = sum(part for part, _ in parts)
    between = statistics.variance(means) / count if sample else 0.0  # holds what is within, too
    if between > variance:
        variance, parts = between, [(between, count - 1)]
    return _sure(found, variance, parts, of)


def jackknife(
    estimate: Callable[[NDArray[np.bool_]], NDArray[np.float64]], groups: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """An estimate and the half-width of its 95 % interval, from leaving out each group in turn.

    estimate: takes a mask of the rows that are kept; groups: (rows,), the group of each, of which
        the estimate is a smooth function and which are alike in more than it explains
    """
    import numpy as np

    names = np.unique(groups)
    whole = estimate(np.full(len(np.asarray(groups)), True))
    left = np.array([estimate(groups != name) for name in names])
    error = np.sqrt((len(names) - 1) * ((left - left.mean(axis=0)) ** 2).mean(axis=0))
    return whole, student_t(SURE, len(names) - 1) * error


def half_width(given: Components, draws: int, texts: int) -> float:
    """Of the 95 % interval that so many draws and texts are expected to give, as a fraction."""
    variance, degrees = _expected(given, draws, texts)
    return student_t(SURE, degrees) * math.sqrt(variance)


def power(
    difference: float,
    given: Components,
    *,
    draws: int | None = None,
    texts: int | None = None,
    chance: float = 0.8,
) -> int | None:
    """How many texts with so many `draws`, or draws with so many `texts`, tell a difference from 0.

    difference: the true one, a fraction
    given:      the components of a pilot's `compare`, or `Components.assumed`
    chance:     of an interval that leaves out 0

    None where no number of them is enough. To see a smaller half-width instead, ask `half_width`.

    Raises FrugalError unless one of draws and texts is given, or for a difference of 0.
    """
    if (draws is None) == (texts is None):
        raise FrugalError("power: give either draws or texts; the other one is found")
    if not difference:
        raise FrugalError("power: no number of draws and texts tells 0 from 0")

    def tells(count: int) -> bool:
        tried = (count, texts) if draws is None else (draws, count)
        variance, degrees = _expected(given, *tried)  # type: ignore[arg-type]
        needed = student_t(SURE, degrees) + student_t(2 * chance - 1, degrees)
        return abs(difference) >= needed * math.sqrt(variance)

    low, high = (FEWEST, 1_000) if draws is None else (2, 1_000_000)
    if not tells(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if tells(middle) else (middle + 1, high)
    return high


@functools.lru_cache(maxsize=1024)
def student_t(sure: float, degrees: float) -> float:
    """The t that |T| of Student's distribution does not exceed with probability `sure`.

    degrees: of freedom, at least 1; math.inf is the normal distribution
    """
    t = statistics.NormalDist().inv_cdf((1 + sure) / 2)
    if degrees > 1e6:
        return t
    tail, a = 1 - sure, degrees / 2
    norm = math.lgamma(a + 0.5) - math.lgamma(a) - 0.5 * math.log(degrees * math.pi)
    # Newton's method on log P(|T| > t) by log t, which is concave and falls: from the normal's t,
    # which is too small, the first step is too large and all others come back from there.
    for _ in range(60):
        left = _beta(degrees / (degrees + t * t), a, 0.5)  # P(|T| > t)
        density = math.exp(norm - (a + 0.5) * math.log1p(t * t / degrees))
        step = math.log(left / tail) * left / (2 * density * t)
        t *= math.exp(step)
        if abs(step) < 1e-9:
            break
    return t


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz)."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(front + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    value = d
    for m in range(1, 1000):
        for part in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / (1 + part * d or tiny)
            c = 1 + part / c or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value


def _scores(name: str, given: ArrayLike) -> NDArray[np.float64]:
    import numpy as np

    found = np.asarray(given, dtype=float)
    if found.ndim not in (1, 2) or not found.size:
        raise FrugalError(
            f"compare: {name} has shape {found.shape}, not (draws, texts) or (texts,)"
        )
    if not np.isfinite(found).all():
        raise FrugalError(f"compare: {name} holds a score that is no number")
    return found


def _parts(
    sides: Sequence[NDArray[np.float64]], apart: NDArray[np.float64]
) -> tuple[list[tuple[float, float]], Components]:
    """The terms of the variance of a mean, each with its degrees of freedom; and the components.

    sides: (draws, texts) each, with draws of its own; apart: (texts,) mean difference over draws
    """
    texts, parts = len(apart), []
    draw = rest = within = between = 0.0
    if texts > 1:
        between = float(apart.var(ddof=1))
        parts.append((between / texts, texts - 1.0))  # MS_text / (D E)
    for side in sides:
        if (draws := len(side)) == 1:
            continue
        by_draw = side.mean(1)
        spread = float(by_draw.var(ddof=1))
        parts.append((spread / draws, draws - 1.0))  # MS_draw / (D E)
        square = 0.0
        if texts > 1:
            left = side - by_draw[:, None] - side.mean(0) + side.mean()
            square = float((left**2).sum()) / ((draws - 1) * (texts - 1))  # MS_rest
            parts.append((-square / (draws * texts), (draws - 1.0) * (texts - 1)))
        draw += max(0.0, spread - square / texts)
        rest, within = rest + square, within + square / draws
    return parts, Components(draw, max(0.0, between - within), rest)


def _expected(given: Components, draws: int, texts: int) -> tuple[float, float]:
    """Variance of a mean over so many draws and texts, and its degrees of freedom."""
    rest = given.rest / (draws * texts)
    parts = [
        (given.draw / draws + rest, draws - 1.0),
        (given.text / texts + rest, texts - 1.0),
        (-rest, (draws - 1.0) * (texts - 1)),
    ]
    variance = sum(part for part, _ in parts)
    return variance, _degrees(variance, parts)


def _degrees(variance: float, parts: Sequence[tuple[float, float]]) -> float:
    """Satterthwaite's degrees of freedom of a sum of mean squares; no fewer than of its worst."""
    total = sum(part**2 / degrees for part, degrees in parts)
    if not total:
        return math.inf
    return max(variance**2 / total, min(degrees for _, degrees in parts))


def _sure(
    found: Difference, variance: float, parts: Sequence[tuple[float, float]], of: int
) -> Difference:
    """What was found, with its interval."""
    degrees = _degrees(variance, parts)
    half = student_t(1 - (1 - SURE) / of, degrees) * math.sqrt(variance)
    low, high = found.difference - half, found.difference + half
    return replace(found, low=low, high=high, variance=variance, degrees=degrees)


def hits(answers: Iterable[str]) -> NDArray[np.bool_]:
    """(draws, texts) from what records keep of each draw: a 1 for a text that it got right, or 0.

    Raises FrugalError where draws have not answered the same number of texts, and for other digits,
    as `packed` has them.
    """
    import numpy as np

    answers = list(answers)
    if wrong := next((row for row in answers if row.strip("01")), None):
        raise FrugalError(f"hits: a 1 or a 0 for every text, not {wrong[:16]!r}")
    rows = [[hit == "1" for hit in row] for row in answers]
    if len({len(row) for row in rows}) > 1:
        raise FrugalError("hits: the draws have not answered the same texts")
    return np.array(rows, dtype=bool)


def packed(hits: NDArray[Any]) -> str:
    """(texts,) right or wrong, as hexadecimal digits: four texts each, the first one highest."""
    import numpy as np

    return np.packbits(hits.astype(bool)).tobytes().hex()


def unpacked(hits: str, examples: int) -> NDArray[np.bool_]:
    """(examples,) right or wrong, of what `packed` made; FrugalError for what it did not."""
    import numpy as np

    try:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(hits), dtype=np.uint8)).astype(bool)
    except (TypeError, ValueError) as error:
        raise FrugalError(f"hits: no hexadecimal digits: {str(hits)[:16]!r}") from error
    if not 0 <= len(bits) - examples < 8 or bits[examples:].any():
        raise FrugalError(f"hits: {hits[:16]!r} … is not of {examples} texts")
    return bits[:examples]


def wilson(right: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, `right` of `of` (Wilson 1927)."""
    share, z2 = right / of, Z**2
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2)) / (1 + z2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def resampled(hits: NDArray[np.bool_], *, seed: int = 0) -> NDArray[np.float64]:
    """(RESAMPLES, ways) accuracies on examples drawn again with replacement.

    hits: (ways, examples); all answer the same draws
    """
    import numpy as np

    # Examples with the same hits are alike: it is enough to draw how many there are of each kind.
    kinds, counts = np.unique(hits, axis=1, return_counts=True)
    examples = hits.shape[1]
    drawn = np.random.default_rng(seed).multinomial(examples, counts / examples, size=RESAMPLES)
    found: NDArray[np.float64] = drawn @ kinds.T / examples
    return found


def judge(scores: Mapping[str, Sequence[float]], *, seed: int = 0) -> dict[str, list[Any]]:
    """A column each of JUDGED, a place a candidate in the given order, from its designs' scores.

    name:   of the candidate
    mean, low, high: with its 95 % interval over designs; NaN where there are fewer than three
    runs:   designs that were scored
    again:  how often its mean is highest when these designs are drawn again, with replacement.
        Designs at the same place of all candidates are drawn together, as they are alike
    shrunk: its mean, drawn towards that of all as far as luck explains their differences
        (empirical Bayes: τ² / (τ² + σ²/n), τ² the variance between candidates, σ² that of what
        neither candidate nor place explains); the winner's own shows the winner's curse

    Candidates without a score are left out. `again` and `shrunk` use the places that all have, and
    are NaN where these are fewer than two.
    """
    import numpy as np

    found = {name: np.asarray(own, dtype=float) for name, own in scores.items() if len(own)}
    if not found:
        return {column: [] for column in JUDGED}
    records = []
    for name, own in found.items():
        level = compare(own[:, None], 0.0)
        span = (math.nan, math.nan) if level.low is None else (level.low, level.high)
        records.append([name, level.difference, *span, len(own)])
    table = dict(zip(JUDGED, map(list, zip(*records, strict=True)), strict=False))
    places = min(map(len, found.values()))
    together = np.stack([own[:places] for own in found.values()])  # (candidates, places)
    if places < 2:
        unknown = [math.nan] * len(records)
        return table | {"again": unknown, "shrunk": unknown}
    drawn = np.random.default_rng(seed).integers(places, size=(REDRAWS, places))
    means = together[:, drawn].mean(axis=2)
    best = means == means.max(axis=0)
    again = (best / best.sum(axis=0)).mean(axis=1)
    return table | {"again": list(again), "shrunk": list(_shrunk(together))}


def _shrunk(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(candidates,) means of (candidates, places), each moved towards the mean of all."""
    candidates, places = scores.shape
    means = scores.mean(axis=1)
    if candidates == 1:
        return means
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    luck = (rest**2).sum() / ((candidates - 1) * (places - 1)) / places  # σ²/n
    between = max(0.0, means.var(ddof=1) - luck)  # τ²
    kept = between / (between + luck) if between else 0.0
    return means.mean() + kept * (means - means.mean())
