"""What all explorers share: controls, picture, sentence and table; live, and as they stood."""

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from frugal.errors import FrugalError
from frugal_course.calculators.answer import Calculator, Control, State, written
from frugal_course.explorers import picture
from frugal_course.figures import style
from frugal_course.names import said

_WIDE: dict[str, Any] = {"layout": {"width": "27em"}, "style": {"description_width": "12em"}}


@dataclass(frozen=True)
class View:
    """What an explorer shows: a figure, what it says in a sentence, and all numbers in a table."""

    figure: Figure
    sentence: str
    table: pd.DataFrame


class Explorer:
    """Controls over a pure function. In a notebook it shows itself.

    name:     of the explorer; its parts carry the class `explorer-<name>` in a page
    look:     what is shown for the values of the controls, which are its arguments
    controls: at their start
    follow:   the controls that go with a state, in which an argument has moved

    Raises FrugalError where `look` refuses the start; where it refuses a later value, the message
    takes the place of the sentence, and the picture stays.
    """

    def __init__(
        self,
        name: str,
        look: Callable[..., View],
        controls: Sequence[Control],
        follow: Callable[[State, str], Sequence[Control]] = lambda state, moved: (),
    ) -> None:
        self.name, self.controls = name, {c.name: _widget(c) for c in controls}
        self._look, self._follow, self._moving = look, follow, False
        fit = {"width": "auto", "max_width": "100%", "align_self": "flex-start"}
        self._picture = widgets.Image(format="png", layout=fit)
        self._words = widgets.HTML()
        self.draw(look(**self.parameters()))
        for argument, control in self.controls.items():
            control.observe(lambda change, moved=argument: self._move(moved), "value")
        row = widgets.Box(list(self.controls.values()), layout={"flex_flow": "row wrap"})
        self._upper = widgets.VBox([row, self._picture])
        for part in (self._upper, self._words):
            part.add_class(f"explorer-{name}")

    @classmethod
    def of(cls, calculator: Calculator, given: State) -> "Explorer":
        """The explorer of a calculator, at the arguments that are given."""

        def look(**asked: Any) -> View:
            answer = calculator.look(**asked)
            table = pd.DataFrame([*answer.rows])
            return View(picture.figure(answer.picture), answer.sentence, table)

        return cls(calculator.name, look, calculator.start(given), calculator.controls)

    def parameters(self) -> dict[str, Any]:
        """The values of the controls: arguments for the same explorer, parameters for papermill."""
        return {argument: control.value for argument, control in self.controls.items()}

    @property
    def picture(self) -> bytes:
        """The figure, as a PNG file."""
        return bytes(self._picture.value)

    def draw(self, view: View) -> None:
        """Show `view`."""
        self.view = View(view.figure, said(view.sentence), view.table)
        self._picture.value = style.png(view.figure)
        self._words.value = _html(self.view)

    def _move(self, moved: str) -> None:
        if self._moving:  # a control that follows another one
            return
        self._moving = True
        try:
            for control in self._follow(self.parameters(), moved):
                _adjust(self.controls[control.name], control)
            self.draw(self._look(**self.parameters()))
        except FrugalError as error:
            self._words.value = f'<p role="alert">{html.escape(str(error))}</p>'
        finally:
            self._moving = False

    def _ipython_display_(self) -> None:
        """Two outputs, each with what takes its place where no kernel runs."""
        sentence, table = self.view.sentence, self.view.table
        still = base64.b64encode(self.picture).decode()
        upper, words = map(_shown, (self._upper, self._words))
        display({**upper, "image/png": still, "text/plain": sentence}, raw=True)
        text = f"{sentence}\n\n{_formatted(table).to_string(index=False)}"
        display({**words, "text/html": _html(self.view), "text/plain": text}, raw=True)


def _shown(widget: Any) -> dict[str, Any]:
    """The output that a front-end takes for a widget, in ipywidgets 7 (Colab's) as in 8."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view, "text/plain": repr(widget)}


def _html(view: View) -> str:
    table = _formatted(view.table).to_html(index=False, border=0, justify="left")  # escapes
    for cell in ("th", "td"):
        table = table.replace(f"<{cell}>", f'<{cell} style="padding: 0 1.5em 0 0">')
    sentence = html.escape(view.sentence)
    return f'<p aria-live="polite" style="line-height: 1.5">{sentence}</p>\n{table}'


def _formatted(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype(object).map(written).rename(columns=said)


def _widget(control: Control) -> Any:
    """The widget of a control, which has its name and takes keys."""
    look = {"description": control.label, **_WIDE}
    match control.kind:
        case "choice":
            return widgets.Dropdown(value=control.value, options=_options(control), **look)
        case "tick":
            return widgets.Checkbox(value=control.value, **look)
    whole = isinstance(control.value, int)
    look |= {"value": control.value, "min": control.low, "max": control.high}
    look["step"] = control.step
    if control.kind == "number":
        return (widgets.BoundedIntText if whole else widgets.BoundedFloatText)(**look)
    look["continuous_update"] = False
    if whole:
        return widgets.IntSlider(**look)
    return widgets.FloatSlider(readout_format=".2f" if control.step < 1 else ".0f", **look)


def _options(control: Control) -> list[Any]:
    plain = all(label == value for label, value in control.options)
    return [value if plain else (label, value) for label, value in control.options]


def _adjust(widget: Any, control: Control) -> None:
    """Make a widget offer what goes with another one that has moved."""
    if control.kind == "choice" and widget.options != tuple(_options(control)):
        widget.options = _options(control)
    if widget.value != control.value:
        widget.value = control.value
