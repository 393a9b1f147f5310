"""Explorers: controls over the pure functions of the chapters, for a seminar and for playing alone.

    from frugal_course import explorers
    explorers.icl_cost(shots=16)            # shows controls, picture, sentence and numbers
    state = explorers.loss().parameters()   # plain values, as papermill takes them
    explorers.loss(**state)                 # the same again

Each module has a pure function `look` of the same arguments: figure, sentence and table without a
browser. Where no kernel runs, the picture, the sentence and the table of the start remain.
"""

from frugal_course.explorers.budgets import budget
from frugal_course.explorers.costs import icl_cost
from frugal_course.explorers.ia3 import ia3, saved
from frugal_course.explorers.losses import loss
from frugal_course.explorers.spaces import design_space
from frugal_course.explorers.view import Explorer, View

__all__ = ["Explorer", "View", "budget", "design_space", "ia3", "icl_cost", "loss", "saved"]
