"""How sure a number is: the only home of intervals and comparisons.

The highest of several noisy means is too high: its candidate was chosen for its luck too.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from frugal.errors import FrugalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Z = 1.96  # of a normal distribution: 95 % intervals
TAILS = (0.025, 0.975)  # the percentiles of a 95 % interval
RESAMPLES = 4000  # of examples
REDRAWS = 10_000  # of designs
JUDGED = ("name", "mean", "low", "high", "runs", "chance", "shrunk")


class Gap(NamedTuple):
    """A difference of two mean accuracies in points, and twice its standard error."""

    points: float
    noise: float

    @property
    def inside(self) -> bool:
        return abs(self.points) <= self.noise

    def __str__(self) -> str:
        where = "inside" if self.inside else "outside"
        return f"{round(self.points):+d} points, {where} the noise of ±{self.noise:.0f}"


def gap(ours: Sequence[float], theirs: Sequence[float] | float, examples: int) -> Gap:
    """Mean of `ours` less mean of `theirs`, and what of it chance alone could do.

    ours, theirs: an accuracy per run, all on the same `examples` test examples; or, for theirs, a
        level that is known exactly, such as that of guessing

    The variance of a side is that of its runs' mean (0 for a single run, which shows none), and
    p (1 - p) / examples for the examples: cautious, since both sides answer the same ones.
    """
    sides = [list(ours)] if isinstance(theirs, float) else [list(ours), list(theirs)]
    if not all(sides) or examples < 1:
        raise FrugalError("gap: needs a run on each side, and at least one test example")
    means, variance = [statistics.fmean(side) for side in sides], 0.0
    for side, p in zip(sides, means, strict=True):
        variance += p * (1 - p) / examples
        variance += statistics.variance(side) / len(side) if len(side) > 1 else 0.0
    level = theirs if isinstance(theirs, float) else means[1]
    return Gap(100 * (means[0] - level), 200 * math.sqrt(variance))


def paired(apart: ArrayLike) -> Gap:
    """Mean of differences, and what of it chance alone could do.

    apart: (runs, texts) on each text of each run; or (runs,), a mean of each run

    Where both sides answered the same texts, the variance is that of the differences over texts,
    plus that over runs; one alone shows none.
    """
    import numpy as np

    found = np.asarray(apart, dtype=float)
    by_run = found if found.ndim == 1 else found.mean(1)
    variance = by_run.var(ddof=1) / len(by_run) if len(by_run) > 1 else 0.0
    if found.ndim > 1 and found.shape[1] > 1:
        variance += found.mean(0).var(ddof=1) / found.shape[1]
    return Gap(100 * float(by_run.mean()), 200 * math.sqrt(variance))


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


def bootstrap(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Accuracy of `first` minus that of `second` on the same examples, and its 95 % interval.

    The percentiles of the mean paired difference over examples drawn again with replacement.
    """
    import numpy as np

    drawn = resampled(np.stack([first, second]))
    return interval(first, second, drawn[:, 0] - drawn[:, 1])


def interval(
    first: NDArray[np.bool_], second: NDArray[np.bool_], drawn: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Mean of `first` less that of `second`, and the 95 % interval of that, drawn so often."""
    import numpy as np

    low, high = np.quantile(drawn, TAILS)
    return float(first.mean() - second.mean()), float(low), float(high)


def judge(scores: Mapping[str, Sequence[float]], *, seed: int = 0) -> dict[str, list[Any]]:
    """A column each of JUDGED, a place a candidate in the given order, from its designs' scores.

    name:   of the candidate
    mean, low, high: with a bootstrap interval over designs (percentiles, 95 %)
    runs:   designs that were scored
    chance: that it is really the best: how often its mean is highest when designs are drawn again.
        Designs at the same place of all candidates are drawn together, as they are alike
    shrunk: its mean, drawn towards that of all as far as noise explains their differences
        (empirical Bayes: τ² / (τ² + σ²/n), τ² the variance between candidates, σ² that of what
        neither candidate nor place explains); the winner's own shows the winner's curse

    Candidates without a score are left out. `chance` and `shrunk` use the places that all have, and
    are NaN where these are fewer than two.
    """
    import numpy as np

    found = {name: np.asarray(own, dtype=float) for name, own in scores.items() if len(own)}
    if not found:
        return {column: [] for column in JUDGED}
    uniform = np.random.default_rng(seed).random((REDRAWS, max(map(len, found.values()))))
    records = []
    for name, own in found.items():
        means = own[(uniform[:, : len(own)] * len(own)).astype(int)].mean(axis=1)
        low, high = np.quantile(means, TAILS)
        records.append([name, own.mean(), low, high, len(own)])
    table = dict(zip(JUDGED, map(list, zip(*records, strict=True)), strict=False))
    places = min(map(len, found.values()))
    together = np.stack([own[:places] for own in found.values()])  # (candidates, places)
    if places < 2:
        unknown = [math.nan] * len(records)
        return table | {"chance": unknown, "shrunk": unknown}
    drawn = together[:, (uniform[:, :places] * places).astype(int)].mean(axis=2)
    best = drawn == drawn.max(axis=0)
    chance = (best / best.sum(axis=0)).mean(axis=1)
    return table | {"chance": list(chance), "shrunk": list(_shrunk(together))}


def _shrunk(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(candidates,) means of (candidates, places), each moved towards the mean of all."""
    candidates, places = scores.shape
    means = scores.mean(axis=1)
    if candidates == 1:
        return means
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    noise = (rest**2).sum() / ((candidates - 1) * (places - 1)) / places  # σ²/n
    between = max(0.0, means.var(ddof=1) - noise)  # τ²
    kept = between / (between + noise) if between else 0.0
    return means.mean() + kept * (means - means.mean())
