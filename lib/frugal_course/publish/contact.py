"""A contact sheet: every figure of the notebooks on one page, for whoever reviews them."""

import html
from collections.abc import Mapping
from typing import Any

SHOWN = 830  # pixels: as wide as GitHub shows a notebook's figure, at most
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Figures</title><style>
body {{ font: 14px/1.4 sans-serif; margin: 2em auto; max-width: {shown}px; }}
img {{ max-width: 100%; border: 1px solid #ddd; }} figure {{ margin: 0 0 2.5em; }}
</style></head><body>
{figures}
</body></html>
"""


def sheet(notebooks: Mapping[str, Any]) -> str:
    """A page that loads nothing, with each figure of executed notebooks (nbformat), by name.

    A figure stands at the width at which GitHub shows it, under its notebook and cell, above its
    sentence.
    """
    found = []
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "image/png" in data:
                    image = "".join(data["image/png"].split())
                    words = html.escape(str(data.get("text/plain", "")))
                    found.append(
                        f"<figure><b>{html.escape(name)}, {cell.get('id', '')}</b><br>"
                        f'<img alt="{words}" src="data:image/png;base64,{image}">'
                        f"<figcaption>{words}</figcaption></figure>"
                    )
    return PAGE.format(shown=SHOWN, figures="\n".join(found))
