"""Executed notebooks as pages that load nothing: no CDN, no script of another machine.

Formulas become MathML, which browsers draw by themselves.
"""

import copy
import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from nbconvert import HTMLExporter

TEMPLATES = Path(__file__).parent / "templates"
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
_MATH = re.compile(
    r"\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?!\d)", re.DOTALL
)


def page(notebook: Any, name: str) -> str:
    """An executed notebook (nbformat) as one HTML page called `name`."""
    return exported(copy.deepcopy(notebook), name, HTMLExporter, template_name="frugal-report")


def exported(notebook: Any, name: str, exporter: type[HTMLExporter], **traits: Any) -> str:
    """A notebook (nbformat), which is changed, as a page called `name`, with formulas as MathML.

    traits: of nbconvert's `exporter`; "template_name" is one of TEMPLATES
    """
    formulas: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _without_math(cell.source, formulas)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in ("text/markdown", "text/latex"):
                if kind in data:
                    data[kind] = _without_math(str(data[kind]), formulas)
    made = exporter(extra_template_basedirs=[str(TEMPLATES)], **traits)
    body, _ = made.from_notebook_node(notebook, {"metadata": {"name": name}})

    def formula(found: re.Match[str]) -> str:
        number = int(found[1])
        return formulas[number] if number < len(formulas) else found[0]

    return re.sub(r"formula(\d+)alumrof", formula, body)


def mathml(latex: str, display: str) -> str | None:
    """A formula, "block" or "inline", as MathML; None where it cannot be converted."""
    try:
        return str(convert(latex.strip(), display=display))
    except Exception:  # it raises whatever its parser meets
        return None


def _without_math(source: str, formulas: list[str]) -> str:
    """`source` (Markdown) with a word for each formula, whose MathML is added to `formulas`."""

    def word(found: re.Match[str]) -> str:
        block = found["block"]
        drawn = mathml(html.unescape(block or found["inline"]), "block" if block else "inline")
        if drawn is None:  # shown as it was written
            return found[0]
        formulas.append(drawn)
        return f"formula{len(formulas) - 1}alumrof"

    parts = _CODE.split(source)
    parts[::2] = [_MATH.sub(word, part) for part in parts[::2]]
    return "".join(parts)
