"""What every command prints and writes: one JSON object with --json, a short table without it; and
the files it was asked for."""

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugal.engine import outputs, stderr
from frugal.errors import FrugalError, reason

if TYPE_CHECKING:
    from frugal.tasks import Task


class Outputs:
    """The files and folders that a command was asked for, by the option that names each.

    They are looked at when this is made, before the work: a folder that is not there, is read-only
    or full, a name too long, a file that is also read or is part of a folder that is (a model, an
    adapter), raise FrugalError. What cannot be written after the work all the same is kept in
    another place, and `emit`, or `done`, ends with an error that says where.
    """

    def __init__(
        self,
        files: Mapping[str, Path | None],
        folders: Mapping[str, Path | None] | None = None,
        reads: Iterable[str | Path | None] = (),
    ) -> None:
        self.asked = {o: p for o, p in {**files, **(folders or {})}.items() if p is not None}
        self.problems: list[str] = []
        there = {os.path.realpath(p): str(p) for p in reads if p is not None and os.path.exists(p)}
        seen = {real: name for real, name in there.items() if os.path.isfile(real)}
        used = {real: name for real, name in there.items() if os.path.isdir(real)}
        for option, path in self.asked.items():
            outputs.look(option, path, folder=option not in files)
            if (real := os.path.realpath(path)) in seen:
                raise FrugalError(f"{option}: {path} would overwrite {seen[real]}")
            part_of = os.path.dirname(real) if os.path.isfile(real) else real
            if part_of in used:
                raise FrugalError(f"{option}: {path} would overwrite part of {used[part_of]}")
            if not outputs.special(path):
                seen[real] = f"what {option} writes"

    def write(self, option: str, save: outputs.Save) -> Path | None:
        """Have `save` write what `option` asks for, if it was given: where it lies now."""
        if option not in self.asked:
            return None
        kept, problem = outputs.keep(self.asked[option], save)
        if problem:
            self.problems.append(f"{option}: {problem}")
        return kept

    def done(self) -> None:
        """Raise FrugalError for what lies elsewhere."""
        if self.problems:
            raise FrugalError("; ".join(self.problems))


def emit(result: dict[str, Any], as_json: bool, asked: Outputs | None = None) -> None:
    """Print `result`; numbers are not rounded in JSON, lists of records become rows in text.

    Raises FrugalError, before it prints, for a number that is not finite; and, when it has printed,
    for what of `asked` lies elsewhere.
    """
    for where, number in _numbers(result, ""):
        if not math.isfinite(number):
            problem = f"{where} is {number}, which is no result that could be reported"
            raise FrugalError("; ".join([problem, *(asked.problems if asked else [])]))
    show(_json(result) if as_json else "\n".join(_lines(result)))
    if asked:
        asked.done()


def show(text: str) -> None:
    """Print on stdout, now, so that what cannot be printed is noticed here and kept in a file."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise FrugalError("stdout: its reader went away") from error
    except OSError as error:
        kept = outputs.elsewhere("result.txt", lambda file: file.write_text(text, encoding="utf-8"))
        where = f"; the result is in {kept}" if kept else ""
        raise FrugalError(f"stdout: {reason(error)}{where}") from error


def remark(*sources: "Task") -> None:
    """What there is to know of the files that were read, each sentence once."""
    for text in dict.fromkeys(text for source in sources for text in source.notes):
        stderr.note(text)


def _numbers(value: Any, where: str) -> Iterator[tuple[str, float]]:
    """Every float in a result, and the path to it."""
    if isinstance(value, float):
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _numbers(inner, f"{where}[{i}]")


def _json(result: dict[str, Any]) -> str:
    """One object in one line: as text, or in ASCII where stdout has no room for its letters."""
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(result, allow_nan=False)
    return text


def _lines(result: dict[str, Any]) -> Iterator[str]:
    for key, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{key}:"
            for record in value:
                yield "  " + "  ".join(f"{k}={_short(v)}" for k, v in record.items())
        else:
            yield f"{key}: {_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
