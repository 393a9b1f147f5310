"""Parameters of a notebook: what its parameters cell declares, and texts made into such values.

Python's own parser reads the cell, so that whatever a user writes there counts: `x: int = 3`,
`x = 0.1`, `x: int | None = None`, `Optional`, `Literal`. What cannot be told is refused by name.
"""

import ast
import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union

from IPython.core.inputtransformer2 import TransformerManager
from pydantic import ConfigDict, TypeAdapter, ValidationError

from frugal.engine import presets
from frugal.errors import FrugalError, unknown

# What no notebook takes a negative number of, unless that is its own default.
# fmt: off
COUNTS = frozenset((
    "batch", "batch_size", "budget", "designs", "draws", "epochs", "example_tokens", "examples",
    "labels", "limit", "queries", "query_tokens", "seeds", "shots", "steps", "tokens",
    "unlabelled", "usd_per_hour", "usd_per_label",
))
# fmt: on
_BITS = 63  # what an array can hold
_NAMES: dict[str, Any] = {t.__name__: t for t in (int, float, bool, str, list, dict, tuple)}
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)


class Parameter(NamedTuple):
    """A name of the parameters cell.

    kind:    its type as a reader sees it
    type:    the same for Python; None where it cannot be told
    default: its value, where the cell gives a literal
    """

    kind: str
    type: Any
    default: Any


@dataclass(frozen=True)
class Declared:
    """The parameters that a notebook's file declares, by name."""

    file: Path
    known: dict[str, Parameter]

    def values(self, given: Mapping[str, str]) -> dict[str, Any]:
        """`given` as the types that are declared. Raises FrugalError as `value` does.

        The environment's preset is among them where the notebook has one and `given` has none.
        """
        if given and not self.known:
            name = next(iter(given))
            raise FrugalError(f"{self.file}: it has no parameters, so {name} cannot be set")
        if "preset" in self.known and (default := presets.of_environment()):
            given = {"preset": default, **given}
        return {name: self.value(name, text) for name, text in given.items()}

    def preset(self, given: Mapping[str, str]) -> str:
        """At which preset it runs: that of `given`, else the environment's, else its own, or ""."""
        own = self.known["preset"].default if "preset" in self.known else None
        return str(self.values(given).get("preset", own) or "")

    def value(self, name: str, text: str) -> Any:
        """One value as its type. Raises FrugalError for a name, preset or count that is none."""
        if name not in self.known:
            raise unknown(f"parameter of {self.file.name}", name, self.known)
        where, own = f"{self.file.name}: {name}", self.known[name]
        found = read_as(where, text, own)
        if name == "preset" and found not in presets.names():
            raise unknown("preset", str(found), presets.names())
        if name in COUNTS and _negative(found) and not _negative(own.default):
            raise FrugalError(f"{where} must not be negative, as {text} is")
        return found


def cells(notebook: Any) -> list[Any]:
    """The code cells of `notebook` (nbformat) with the tag `parameters`; the first one counts."""
    code = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]


def declared(notebook: Any, file: Path) -> Declared:
    """What the parameters cell of `notebook` (nbformat), which is in `file`, sets.

    Raises FrugalError for a notebook in another language, and a cell that is not Python.
    """
    told = [notebook.metadata.get(key, {}) for key in ("kernelspec", "language_info")]
    language = told[0].get("language") or told[1].get("name") or "python"
    if not isinstance(language, str) or "python" not in language.lower():
        raise FrugalError(f"{file}: it is in {language}; what runs is Python")
    source = "".join(cell.source for cell in cells(notebook)[:1])
    try:
        body = ast.parse(TransformerManager().transform_cell(source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FrugalError(f"{file.name}: its parameters cell is not Python ({error})") from error
    found: dict[str, Parameter] = {}
    for line in body:
        match line:
            case ast.AnnAssign(target=ast.Name(id=own), annotation=note, value=given):
                found[own] = _annotated(note, given)
            case ast.Assign(targets=targets, value=given):
                for target in targets:
                    if isinstance(target, ast.Name):
                        found[target.id] = _plain(given)
    return Declared(file, found)


def read_as(where: str, text: str, of: Parameter) -> Any:
    """`text` as a value of the type of the parameter `of`.

    Raises FrugalError, which begins with `where`, for what is of another type, not finite, or
    longer than 64 bits.
    """
    if of.type is None:
        raise FrugalError(f"{where}: its type cannot be told from {of.kind}; write one there")
    adapter = TypeAdapter(of.type, config=_STRICT)
    for reading in _readings(text, of.type):
        with contextlib.suppress(ValidationError, RecursionError):
            found = adapter.validate_python(reading)
            if _fits(found):
                return found
    shown = text if len(text) < 100 else f"{text[:90]}…"
    raise FrugalError(f"{where} is of type {of.kind}; {shown!r} is not")


def _negative(given: Any) -> bool:
    """Whether a value is, or holds, a number below zero."""
    if isinstance(given, list | tuple):
        return any(map(_negative, given))
    return isinstance(given, int | float) and given < 0


def _annotated(note: ast.expr, given: ast.expr | None) -> Parameter:
    default = _literal(given)
    try:
        kind = _type(note)
        if isinstance(given, ast.Constant) and given.value is None:
            kind = Union[kind, None]  # noqa: UP007 - of values, not of names
        TypeAdapter(kind)
    except (ValueError, TypeError, SyntaxError, LookupError):
        return Parameter(f"the annotation {ast.unparse(note)}", None, default)
    return Parameter(ast.unparse(note), kind, default)


def _plain(given: ast.expr) -> Parameter:
    default = _literal(given)
    if isinstance(given, ast.Constant) and given.value is None:
        return Parameter("None or anything", Any, None)
    if type(default) in _NAMES.values():
        return Parameter(type(default).__name__, type(default), default)
    return Parameter(f"the default {ast.unparse(given)}", None, default)


def _literal(given: ast.expr | None) -> Any:
    try:
        return None if given is None else ast.literal_eval(given)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _type(note: ast.expr) -> Any:
    """An annotation as a type. Raises ValueError, TypeError, SyntaxError or LookupError for others.

    It is not evaluated: a notebook is read before anyone decided to run it.
    """
    match note:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return _type(ast.parse(text, mode="eval").body)
        case ast.Constant(value=value) if value is ...:
            return ...
        case ast.Name(id="Any") | ast.Attribute(attr="Any"):
            return Any
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _NAMES:
            return _NAMES[name]
        case ast.Name(id="List" | "Dict" | "Tuple" as name):
            return _NAMES[name.lower()]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_type(left), _type(right)]  # noqa: UP007
        case ast.Subscript(
            value=ast.Name(id=name) | ast.Attribute(attr=name),
            slice=ast.Tuple(elts=inner) | inner,
        ):
            parts = inner if isinstance(inner, list) else [inner]
            if name == "Literal":
                return Literal[tuple(map(ast.literal_eval, parts))]
            types = tuple(map(_type, parts))
            if name in ("Optional", "Union"):
                types += (None,) if name == "Optional" else ()
                return Union[types]  # noqa: UP007
            return _NAMES[name.lower()][types]
    raise ValueError(ast.unparse(note))


def _readings(text: str, kind: Any) -> Iterator[Any]:
    """What a text may mean, the likeliest first: a literal of JSON or Python, or itself."""
    if kind is not str:
        bare = text.strip()
        if bare.lower() in ("true", "false"):
            yield bare.lower() == "true"
        for read in (json.loads, ast.literal_eval):
            with contextlib.suppress(
                ValueError, SyntaxError, TypeError, RecursionError, MemoryError
            ):
                found = read(bare)
                if not isinstance(found, str):
                    yield found
                if isinstance(found, list):
                    yield tuple(found)
    yield text


def _fits(given: Any) -> bool:
    """Whether all its numbers are finite, and whole ones of 64 bits."""
    if isinstance(given, dict):
        return all(map(_fits, given)) and all(map(_fits, given.values()))
    if isinstance(given, list | tuple | set):
        return all(map(_fits, given))
    if isinstance(given, float):
        return math.isfinite(given)
    return not isinstance(given, int) or given.bit_length() <= _BITS
