"""What all explorers share: controls, picture, sentence and table; live, and as they stood."""

import base64
import html
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from frugal.errors import FrugalError
from frugal_course.figures import style
from frugal_course.figures.names import said

Controls = Mapping[str, Any]
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
    controls: by argument, already at their start
    follow:   called with the argument that has moved, to adjust the other controls

    Raises FrugalError where `look` refuses the start; where it refuses a later value, the message
    takes the place of the sentence, and the picture stays.
    """

    def __init__(
        self,
        name: str,
        look: Callable[..., View],
        controls: Controls,
        follow: Callable[[str, Controls], None] = lambda moved, controls: None,
    ) -> None:
        self.name, self.controls = name, dict(controls)
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
            self._follow(moved, self.controls)
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


def start(look: Callable[..., View], given: Mapping[str, Any]) -> dict[str, Any]:
    """Where an explorer starts: the arguments that are given, the others as `look` has them.

    What `look` refuses is said here, before a control is made.
    """
    usual = {name: p.default for name, p in inspect.signature(look).parameters.items()}
    look(**given)
    return {**usual, **given}


def _html(view: View) -> str:
    table = _formatted(view.table).to_html(index=False, border=0, justify="left")  # escapes
    for cell in ("th", "td"):
        table = table.replace(f"<{cell}>", f'<{cell} style="padding: 0 1.5em 0 0">')
    sentence = html.escape(view.sentence)
    return f'<p aria-live="polite" style="line-height: 1.5">{sentence}</p>\n{table}'


def _formatted(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype(object).map(written).rename(columns=said)


def written(value: Any) -> str:
    """A number as it is read best: 1,273, 3.4, 1.44e15; a dash for what is not there."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return said(value)
    if value == 0 or 1e3 <= abs(value) < 1e7 or (value == int(value) and abs(value) < 1e3):
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1e3 else style.flops(value)


def slider(text: str, value: float, low: float, high: float, step: float) -> Any:
    """A slider whose range holds `value`, whole where the value and the step are."""
    whole = isinstance(value, int) and isinstance(step, int)
    kind: Any = widgets.IntSlider if whole else widgets.FloatSlider
    look = {} if whole else {"readout_format": ".2f" if step < 1 else ".0f"}
    return kind(
        value=value,
        min=min(low, value),
        max=max(high, value),
        step=step,
        description=text,
        continuous_update=False,
        **look,
        **_WIDE,
    )


def number(text: str, value: float, high: float, step: float = 1) -> Any:
    """A field for a number from 0 on."""
    whole = isinstance(value, int)
    kind: Any = widgets.BoundedIntText if whole else widgets.BoundedFloatText
    return kind(value=value, min=0, max=max(high, value), step=step, description=text, **_WIDE)


def choice(text: str, value: Any, options: Iterable[Any]) -> Any:
    """A list to choose from; its options are values, or pairs of a label and a value."""
    return widgets.Dropdown(value=value, options=list(options), description=text, **_WIDE)


def tick(text: str, value: bool) -> Any:
    """A box to tick."""
    return widgets.Checkbox(value=value, description=text, **_WIDE)
