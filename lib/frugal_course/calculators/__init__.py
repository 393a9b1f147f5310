"""What the explorers compute: an answer, its picture and its controls, in plain Python.

Nothing outside the standard library is imported, so that the same module answers in a notebook,
where `frugal_course.explorers` makes widgets and figures of it, and in a page of the site, where a
browser runs it (`page`) and draws SVG.
"""

from frugal_course.calculators import budgets, costs, ia3, losses, spaces
from frugal_course.calculators.answer import Answer, Calculator, Control

CALCULATORS: dict[str, Calculator] = {
    found.name: found
    for found in (
        costs.CALCULATOR,
        ia3.CALCULATOR,
        losses.CALCULATOR,
        spaces.CALCULATOR,
        budgets.CALCULATOR,
    )
}

__all__ = ["CALCULATORS", "Answer", "Calculator", "Control"]
