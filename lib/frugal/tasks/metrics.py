"""Scores as GLUE computes them, each from predictions and labels of the same length.

Source: Wang et al., ICLR 2019, section 3: accuracy; F1 of class 1 (QQP, MRPC); Matthews'
correlation (CoLA); Pearson's (STS-B). A correlation with what does not vary is 0, as GLUE has it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    return float(np.mean(np.asarray(predicted) == np.asarray(labels)))


def f1(predicted: ArrayLike, labels: ArrayLike) -> float:
    """2 TP / (2 TP + FP + FN), 0 where nothing is of class 1 or said to be."""
    said, true = np.asarray(predicted) == 1, np.asarray(labels) == 1
    both = int(np.sum(said & true))
    return 2 * both / max(1, int(np.sum(said) + np.sum(true)))


def pearson(predicted: ArrayLike, labels: ArrayLike) -> float:
    x, y = (np.asarray(v, dtype=np.float64) for v in (predicted, labels))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def matthews(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Of two classes; it is Pearson's correlation of their indicators."""
    return pearson(np.asarray(predicted) == 1, np.asarray(labels) == 1)


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
}
