"""What a person looks at: figures and tables of results. Knows DataFrames, never models."""

from frugal.show.closing import claims
from frugal.show.figures import (
    accuracy_against_cost,
    accuracy_sentence,
    order_dots,
    training_curve,
)
from frugal.show.style import picture

__all__ = [
    "accuracy_against_cost",
    "accuracy_sentence",
    "claims",
    "order_dots",
    "picture",
    "training_curve",
]
