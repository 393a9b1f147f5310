"""Exercises: each a solution, the mistakes people make, and cases from the papers.

A chapter is a module here. `notebooks` makes the notebooks from it: `exercises/` with the bodies of
the solutions taken out, `solutions/` with them. `check` takes a learner's own function.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from frugal.errors import unknown
from frugal_course.exercises.exercise import Exercise, Verdict

CHAPTERS = {
    1: "ch1_costs",
    2: "ch2_ia3",
    3: "ch3_tfew",
    4: "ch4_spaces",
    5: "ch5_budgets",
    6: "ch6_choice",
}

__all__ = ["CHAPTERS", "Exercise", "Verdict", "chapter", "check", "get", "of_chapter"]


def chapter(number: int) -> Any:
    """The module of a chapter; only then what it needs, such as torch, is imported."""
    return import_module(f"{__name__}.{CHAPTERS[number]}")


def of_chapter(number: int) -> list[Exercise]:
    """The exercises of a chapter, in order."""
    return list(chapter(number).EXERCISES)


def get(name: str) -> Exercise:
    """The exercise whose function is called `name`; FrugalError with the nearest name."""
    known: dict[str, Exercise] = {}
    for number in CHAPTERS:  # one after the other: the first needs no torch
        known |= {e.name: e for e in of_chapter(number)}
        if name in known:
            return known[name]
    raise unknown("exercise", name, known)


def check(name: str, function: Callable[..., Any]) -> Verdict:
    """Whether a learner's `function` solves the exercise `name`; if not, what is wrong in words."""
    return get(name).check(function)
