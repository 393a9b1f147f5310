"""Where the project's data files lie, and how each kind of file is read."""

import csv
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries the files inside the package; a checkout keeps them at its top level.
INSTALLED = (_PACKAGE / "_data").is_dir()
ROOT = _PACKAGE / "_data" if INSTALLED else _PACKAGE.parents[1] / "data"


def toml(name: str) -> dict[str, Any]:
    """The parsed file `data/<name>`."""
    return tomllib.loads((ROOT / name).read_text(encoding="utf-8"))


def rows(name: str) -> list[dict[str, str]]:
    """The records of the CSV file `data/<name>`, in its order; every value is a string."""
    with (ROOT / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
