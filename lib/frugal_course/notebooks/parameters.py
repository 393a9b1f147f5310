"""Parameters of a notebook: what its parameters cell declares, and texts made into such values.

Python's own parser reads the cell, so that whatever a user writes there counts: `x: int = 3`,
`x = 0.1`, `x: int | None = None`, `Optional`, `Literal`. What cannot be told is refused by name.
"""

import ast
import contextlib
import json
import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Union

from pydantic import ConfigDict, TypeAdapter, ValidationError

from frugal.errors import FrugalError

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


def declared(notebook: Any, name: str) -> dict[str, Parameter]:
    """What the first cell of `notebook` (nbformat) with the tag `parameters` sets, by name.

    Raises FrugalError, which names the notebook `name`, for a cell that is not Python.
    """
    from IPython.core.inputtransformer2 import TransformerManager

    for cell in notebook.cells:
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
            break
    else:
        return {}
    try:
        body = ast.parse(TransformerManager().transform_cell(cell.source)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FrugalError(f"{name}: its parameters cell is not Python ({error})") from error
    found: dict[str, Parameter] = {}
    for line in body:
        match line:
            case ast.AnnAssign(target=ast.Name(id=own), annotation=note, value=given):
                found[own] = _annotated(note, given)
            case ast.Assign(targets=targets, value=given):
                for target in targets:
                    if isinstance(target, ast.Name):
                        found[target.id] = _plain(given)
    return found


def value(where: str, text: str, of: Parameter) -> Any:
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


def negative(given: Any) -> bool:
    """Whether a value is, or holds, a number below zero."""
    if isinstance(given, list | tuple):
        return any(map(negative, given))
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
