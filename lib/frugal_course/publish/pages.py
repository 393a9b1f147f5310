"""Executed notebooks as pages that load nothing: no CDN, no script of another machine.

Formulas become MathML, which browsers draw by themselves.
"""

import copy
import html
import re
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parent / "templates"
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
_MATH = re.compile(
    r"\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?!\d)", re.DOTALL
)


def page(notebook: Any, name: str) -> str:
    """An executed notebook (nbformat) as one HTML page called `name`."""
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    formulas: list[str] = []
    shown = copy.deepcopy(notebook)
    for cell in shown.cells:
        if cell.cell_type == "markdown":
            cell.source = without_math(cell.source, formulas)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in ("text/markdown", "text/latex"):
                if kind in data:
                    data[kind] = without_math(str(data[kind]), formulas)
    config = Config({"HTMLExporter": {"extra_template_basedirs": [str(TEMPLATES)]}})
    exporter = HTMLExporter(config=config, template_name="frugal-report")
    body, _ = exporter.from_notebook_node(shown, {"metadata": {"name": name}})
    return with_math(body, formulas)


def without_math(source: str, formulas: list[str]) -> str:
    """`source` (Markdown) with a word for each formula, whose MathML is added to `formulas`."""
    from latex2mathml.converter import convert

    def word(found: re.Match[str]) -> str:
        block = found["block"]
        latex = html.unescape((block or found["inline"]).strip())
        try:
            formulas.append(convert(latex, display="block" if block else "inline"))
        except Exception:  # whatever it does not know is shown as it was written
            return found[0]
        return f"formula{len(formulas) - 1}alumrof"

    parts = _CODE.split(source)
    parts[::2] = [_MATH.sub(word, part) for part in parts[::2]]
    return "".join(parts)


def with_math(body: str, formulas: list[str]) -> str:
    """A page with the formulas in the place of their words."""

    def formula(found: re.Match[str]) -> str:
        number = int(found[1])
        return formulas[number] if number < len(formulas) else found[0]

    return re.sub(r"formula(\d+)alumrof", formula, body)
