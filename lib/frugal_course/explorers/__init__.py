"""Explorers: controls over the pure functions of the chapters, for a seminar and for playing alone.

    from frugal_course import explorers
    explorers.icl_cost(shots=16)            # shows controls, picture, sentence and numbers
    state = explorers.loss().parameters()   # plain values, as papermill takes them
    explorers.loss(**state)                 # the same again

What they compute, picture and controls included, is `frugal_course.calculators`. Where no kernel
runs, the picture, the sentence and the table of the start remain.
"""

from collections.abc import Sequence
from typing import Any

from frugal_course.calculators import CALCULATORS
from frugal_course.calculators import ia3 as vectors_of
from frugal_course.calculators.ia3 import Vector, saved
from frugal_course.explorers.view import Explorer, View

__all__ = ["Explorer", "View", "budget", "design_space", "ia3", "icl_cost", "loss", "saved"]


def icl_cost(**given: Any) -> Explorer:
    """Explore what a query costs; takes what `calculators.costs.look` takes."""
    return Explorer.of(CALCULATORS["icl-cost"], given)


def ia3(vectors: Sequence[Vector] = (), rows: Sequence[str | None] = (), **given: Any) -> Explorer:
    """Explore (IA)³ vectors, as `saved` reads them; without any, those pretrained for nano-t0.

    rows: tasks of a mixed batch, None for the model without vectors; by default each task in turn
    given: what else `calculators.ia3.look` takes
    """
    if not vectors:
        return Explorer.of(CALCULATORS["ia3"], given)
    batch = [task or vectors_of.NOBODY for task in rows]
    return Explorer.of(vectors_of.calculator(vectors, batch), given)


def loss(**given: Any) -> Explorer:
    """Explore the three losses; takes what `calculators.losses.look` takes."""
    return Explorer.of(CALCULATORS["loss"], given)


def design_space(**given: Any) -> Explorer:
    """Explore designs; takes what `calculators.spaces.look` takes."""
    return Explorer.of(CALCULATORS["design-space"], given)


def budget(**given: Any) -> Explorer:
    """Explore budgets of Distill or Annotate?; takes what `calculators.budgets.look` takes."""
    return Explorer.of(CALCULATORS["budget"], given)
