"""Explorers that compute in the page: how they stand there before they move, and what moves them.

Python itself (Pyodide, WebAssembly) and the modules of `frugal_course.calculators`, with those that
they stand on, lie in the site's folder; a page starts them in a worker at the first touch.
"""

import html
import json
import shutil
from pathlib import Path

from frugal import data
from frugal.errors import FrugalError
from frugal_course.calculators import CALCULATORS, page
from frugal_course.calculators.answer import Control

LIB = Path(__file__).parents[2]
# What calculators stand on: nothing outside the standard library.
MODULES = (
    "frugal/__init__.py",
    "frugal/moved.py",
    "frugal/data.py",
    "frugal/errors.py",
    "frugal/costs/*.py",
    "frugal/papers/*.py",
    "frugal/spaces/__init__.py",
    "frugal/spaces/design.py",
    "frugal/spaces/space.py",
    "frugal/spaces/sizes.py",
    "frugal_course/__init__.py",
    "frugal_course/names.py",
    "frugal_course/calculators/*.py",
)
DATA = (
    "architectures.csv",
    "gpus.csv",
    "prices.csv",
    "papers/*.csv",
    "checkpoints/nano-t0/ia3/*.safetensors",
)
PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
# By calculator: the section that tells what is behind it, what the reader can find out, its call.
TOLD = {
    "icl-cost": (
        "notebooks/01_icl_cost_arithmetic.ipynb",
        "In-context learning reads its examples again for every query; T-Few trains once. How many "
        "queries does the training cost? Keep the examples in a cache, or take another model.",
        "icl_cost",
    ),
    "ia3": (
        "notebooks/02_ia3.ipynb",
        "(IA)³ multiplies keys, values and the feed-forward by learned vectors. These are "
        "recorded: nano-t0's, after training on many tasks. See what each row of a batch gets.",
        "ia3",
    ),
    "loss": (
        "notebooks/03_tfew.ipynb",
        "A model answers with the choice of the highest mean log-probability. Make a wrong "
        "choice longer or more probable, and see which of the three losses notices.",
        "loss",
    ),
    "design-space": (
        "notebooks/04_design_spaces.ipynb",
        "A design says which layers are tuned by which methods. See how its budget is spent, layer "
        "by layer, and what the paper printed for the same choices.",
        "design_space",
    ),
    "budget": (
        "notebooks/05_distill_or_annotate.ipynb",
        "Some dollars on top of the labels there are: more labels, or GPU hours in which a large "
        "model teaches a small one? Set your own prices.",
        "budget",
    ),
}


def text(name: str) -> str:
    """The page of an explorer, in Markdown, as it stands before it is touched."""
    chapter, told, call = TOLD[name]
    shown = json.loads(page.answered(name, {}))
    controls = "\n".join(map(_field, CALCULATORS[name].start({})))
    return f"""# {CALCULATORS[name].title}

{told} [What is behind it](../{chapter}).

```{{raw}} html
<form class="explorer" data-name="{name}" autocomplete="off" novalidate>
<div class="controls" hidden>
{controls}
</div>
<div class="tools" hidden><button type="button">Start again</button>
<span class="state" role="status"></span></div>
<figure><figcaption class="title">{html.escape(shown["title"])}</figcaption>
<div class="drawn">{shown["wide"]}{shown["narrow"]}</div></figure>
<p class="sentence" aria-live="polite">{html.escape(shown["sentence"])}</p>
<div class="numbers wide">{shown["table"]}</div>
<noscript>Controls need JavaScript; picture, sentence and table are those of the start.</noscript>
</form>
```

The first touch starts Python in this page (12 MB, once); nothing leaves it. The address holds what
is set: send it, and others see the same. In a notebook, with the same names:

```python
from frugal_course import explorers

explorers.{call}()
```
"""


def _field(control: Control) -> str:
    label = f'<label for="{control.name}">{html.escape(control.label)}</label>'
    at = f'id="{control.name}" name="{control.name}"'
    if control.kind == "choice":
        options = "".join(
            f'<option value="{html.escape(str(value))}"{" selected" * (value == control.value)}>'
            f"{html.escape(label)}</option>"
            for label, value in control.options
        )
        return f'<div class="control">{label}<select {at}>{options}</select></div>'
    if control.kind == "tick":
        ticked = " checked" * bool(control.value)
        return f'<div class="control">{label}<input type="checkbox" {at}{ticked}></div>'
    limits = f'min="{control.low:g}" max="{control.high:.12g}" step="{control.step:g}"'
    kind = "range" if control.kind == "slider" else "number"
    field = f'<input type="{kind}" {at} {limits} value="{control.value:.12g}">'
    shown = f'<output for="{control.name}"></output>' * (kind == "range")
    return f'<div class="control">{label}{field}{shown}</div>'


def ship(root: Path, static: Path) -> None:
    """Put Pyodide, from `root`/node_modules, and the modules and their data into `static`.

    Raises FrugalError where it is not there.
    """
    source = root / "node_modules" / "pyodide"
    if not source.is_dir():
        raise FrugalError(f"{source} is missing; `npm ci` puts it there")
    (static / "pyodide").mkdir(parents=True, exist_ok=True)  # its licence is there
    for name in (*PYODIDE, "pyodide-lock.json", "package.json"):
        shutil.copyfile(source / name, static / "pyodide" / name)
    python = static / "python"
    names = modules(python)
    (python / "files.json").write_text(json.dumps(names), encoding="utf-8")


def modules(folder: Path) -> list[str]:
    """Copy the modules and their data into `folder`; their paths in it."""
    found = {str(f.relative_to(LIB)): f for pattern in MODULES for f in sorted(LIB.glob(pattern))}
    for pattern in DATA:
        for file in sorted(data.ROOT.glob(pattern)):
            found[f"frugal/_data/{file.relative_to(data.ROOT)}"] = file
    for name, file in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    return [*found]
