"""Which candidate is best, and how sure that is: what a search over noisy scores can say.

The highest of several noisy means is too high: its candidate was chosen for its luck too. The paper
reports the means alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95  # of the intervals

COLUMNS = ["name", "mean", "low", "high", "runs", "chance", "shrunk"]


def judge(scores: Mapping[str, Sequence[float]], *, seed: int = 0) -> pd.DataFrame:
    """One row a candidate, in the given order, from the scores of its designs.

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
    found = {name: np.asarray(own, dtype=float) for name, own in scores.items() if len(own)}
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    uniform = np.random.default_rng(seed).random((RESAMPLES, max(map(len, found.values()))))
    records = []
    for name, own in found.items():
        means = own[(uniform[:, : len(own)] * len(own)).astype(int)].mean(axis=1)
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        records.append([name, own.mean(), low, high, len(own)])
    table = pd.DataFrame(records, columns=COLUMNS[:5])
    places = min(map(len, found.values()))
    together = np.stack([own[:places] for own in found.values()])  # (candidates, places)
    if places < 2:
        return table.assign(chance=np.nan, shrunk=np.nan)
    drawn = together[:, (uniform[:, :places] * places).astype(int)].mean(axis=2)
    best = drawn == drawn.max(axis=0)
    return table.assign(chance=(best / best.sum(axis=0)).mean(axis=1), shrunk=_shrunk(together))


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
