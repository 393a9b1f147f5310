"""Notebook 01's way on Colab: install this checkout by the first cell, beside what is there.

    python tools/colab.py    in Colab's image, or in any environment that has a kernel and torch

It changes the environment that it is started in. Exit status 1: a package that a running kernel has
loaded was changed, or the notebook did not run.
"""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    source = (ROOT / "lib/frugal_course/notebooks/prepare.py").read_text(encoding="utf-8")
    text = source.partition('BOOTSTRAP = """\\\n')[2].partition('"""')[0]
    kept = source.partition("KEPT = (\n")[2].partition(")\n")[0].replace('"', "").split()
    cell = text.replace("\\\\n", "\\n").format(
        source=ROOT.as_uri(), pins=(ROOT / "constraints.txt").as_uri(), kept=" ".join(kept)
    )
    before = versions(kept)
    exec(cell, {})
    after = versions(kept)
    changed = {name for name in before if after.get(name) != before[name]}
    if changed:
        sys.exit(f"changed under a running kernel: {', '.join(sorted(changed))}")
    notebook = ROOT / "notebooks" / "01_icl_cost_arithmetic.ipynb"
    command = ["frugal", "run", str(notebook), "--preset", "smoke", "--out", "reports/colab"]
    subprocess.run([sys.executable, "-m", *command], check=True)


def versions(names: list[str]) -> dict[str, str]:
    """Of what is installed among `names`."""
    there = {d.name.lower().replace("-", "_"): d.version for d in metadata.distributions()}
    return {name: there[name] for name in names if name in there}


if __name__ == "__main__":
    main()
