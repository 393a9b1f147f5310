"""Explorers: controls over the pure functions of the chapters, for a seminar and for playing alone.

    from frugal_course import explorers
    explorers.icl_cost(shots=16)            # shows controls, picture, sentence and numbers
    state = explorers.loss().parameters()   # plain values, as papermill takes them
    explorers.loss(**state)                 # the same again

What they compute, picture and controls included, is `frugal_course.calculators`, except for `ia3`.
Where no kernel runs, the picture, the sentence and the table of the start remain.
"""

from typing import Any

from frugal_course.calculators import CALCULATORS
from frugal_course.explorers.ia3 import ia3, saved
from frugal_course.explorers.view import Explorer, View

__all__ = ["Explorer", "View", "budget", "design_space", "ia3", "icl_cost", "loss", "saved"]


def icl_cost(**given: Any) -> Explorer:
    """Explore what a query costs; takes what `calculators.costs.look` takes."""
    return Explorer.of(CALCULATORS["icl-cost"], given)


def loss(**given: Any) -> Explorer:
    """Explore the three losses; takes what `calculators.losses.look` takes."""
    return Explorer.of(CALCULATORS["loss"], given)


def design_space(**given: Any) -> Explorer:
    """Explore designs; takes what `calculators.spaces.look` takes."""
    return Explorer.of(CALCULATORS["design-space"], given)


def budget(**given: Any) -> Explorer:
    """Explore budgets of Distill or Annotate?; takes what `calculators.budgets.look` takes."""
    return Explorer.of(CALCULATORS["budget"], given)
