"""How many lines of a notebook's code assemble sentences, which are the library's to make.

A line does that if a string of four words or more stands on it, whole or in part. Cells that are
folded (the bootstrap, the parameters), comments and docstrings do not count.

    python tests/notebooks/sentences.py     # all notebooks, a line each
"""

import ast
import re
import sys
from pathlib import Path

import nbformat

FOLDER = Path(__file__).parents[2] / "notebooks"
FOLDED = {"bootstrap", "parameters"}
WORDS = 4


def _text(node):
    """A string's own words; what is put into an f-string is none of them."""
    if isinstance(node, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else " " for p in node.values]
        return "".join(parts)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _documents(tree):
    """Docstrings: nodes that say what code does."""
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def assembling(source):
    """The numbers of the lines on which sentences are assembled."""
    tree = ast.parse(source)
    left, found = _documents(tree), set()
    for node in ast.walk(tree):
        if id(node) not in left and len(re.findall(r"[^\W\d_]{2,}", _text(node))) >= WORDS:
            found |= set(range(node.lineno, node.end_lineno + 1))
    return found


def counted(notebook):
    """(lines that assemble sentences, lines of code)."""
    told = whole = 0
    for cell in notebook.cells:
        if cell.cell_type != "code" or FOLDED & set(cell.metadata.get("tags", [])):
            continue
        lines = [line.strip() for line in cell.source.splitlines()]
        whole += sum(bool(line) and not line.startswith("#") for line in lines)
        told += len(assembling(cell.source))
    return told, whole


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("[0-9]*.ipynb")):
        told, whole = counted(nbformat.read(file, as_version=4))
        sys.stdout.write(f"{file.stem}: {told} of {whole} lines, {told / whole:.1%}\n")
