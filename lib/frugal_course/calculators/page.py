"""A calculator in a page: texts of its address in, what the page shows out.

The page is written with this at `make site`, and a browser calls it when a control is moved: the
numbers, the words and the picture are the same, since they are made in one place.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from frugal.errors import FrugalError, unknown
from frugal_course.calculators import CALCULATORS, svg
from frugal_course.calculators.answer import Control, Value, written
from frugal_course.names import said


def answered(name: str, given: Mapping[str, str], moved: str = "") -> str:
    """JSON of what the calculator called `name` shows for the texts of its controls.

    given: by argument, those that are not there by default; moved: the one moved last

    Keys: title, sentence, wide and narrow (SVG), table (HTML), controls (each with name, value,
    low, high, step and options). Where values are refused: error, and what controls there are.
    """
    calculator, shown = CALCULATORS[name], list[Control]()
    try:
        state = _state(_start(name), given)
        shown = calculator.controls(state, moved)
        answer = calculator.look(**{control.name: control.value for control in shown})
    except (FrugalError, OverflowError) as error:
        why = "a number is too large" if isinstance(error, OverflowError) else str(error)
        return json.dumps({"error": why, "controls": [_control(c) for c in shown]})
    return json.dumps(
        {
            "title": said(answer.picture.title),
            "sentence": said(answer.sentence),
            "wide": svg.drawn(answer.picture, wide=True),
            "narrow": svg.drawn(answer.picture, wide=False),
            "table": table(answer.rows),
            "controls": [_control(control) for control in shown],
        }
    )


@cache
def _start(name: str) -> list[Control]:
    return CALCULATORS[name].start({})


def _state(start: Sequence[Control], given: Mapping[str, str]) -> dict[str, Value]:
    usual = {control.name: control.value for control in start}
    for name in given:
        if name not in usual:
            raise unknown("control", name, usual)
    return usual | {name: _read(name, text, usual[name]) for name, text in given.items()}


def _read(name: str, text: str, like: Value) -> Value:
    """A value of the same type as `like`."""
    try:
        if type(like) is bool:
            return {"true": True, "false": False}[text]
        value = type(like)(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(text)
        return value
    except (KeyError, ValueError) as error:
        kind = {bool: "true or false", int: "a whole number"}.get(type(like), "a number")
        raise FrugalError(f"{name} must be {kind}, not {text!r}") from error


def _control(control: Control) -> dict[str, Any]:
    return {
        "name": control.name,
        "value": control.value,
        "low": control.low,
        "high": control.high,
        "step": control.step,
        "options": control.options,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """HTML of records, numbers as they are read best."""
    head = "".join(f'<th scope="col">{html.escape(said(column))}</th>' for column in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(written(cell))}</td>' for cell in row.values())}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
