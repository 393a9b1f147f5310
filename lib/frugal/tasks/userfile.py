"""A user's file of examples, JSONL, CSV or TSV: read whole, or refused with what is wrong in it.

What a cell or a key holds is text, never a template. What is unclear (an encoding, two spellings
of one label, a label that may be an index or a choice) is refused, not guessed.
"""

import codecs
import csv
import io
import json
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from frugal.errors import FrugalError, first_problem, unknown
from frugal.tasks.templates import AS_IS, Content, Example, Template, content

SUFFIXES = (".jsonl", ".csv", ".tsv")
DEFAULT = "{text}\nLabel:"  # the prompt that a file of texts and labels makes, unless told
# How a file may begin that says its encoding; UTF-32 first, whose mark begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_NEEDED = {"prompt", "choices", "text", "label"}
_MANY = 100  # labels, from which on they must be fewer than half of the lines

T = TypeVar("T")


@dataclass(frozen=True)
class Read:
    """What a file holds.

    rows:   what the template names, and `label`, the index of the right choice; each content once
    labels: names of the classes, where the file has a label a line and no choices
    notes:  what its owner should know, a sentence each
    """

    rows: list[dict[str, Any]]
    template: Template = AS_IS
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def named(name: str) -> bool:
    """Whether a name ends as those of such files do, in small letters or capitals."""
    return name.lower().endswith(SUFFIXES)


def read(path: Path, template: str = "", labels: Sequence[str] = ()) -> Read:
    """The examples of a file, each content once.

    JSONL: {"prompt": str, "choices": [str, …], "label": int} a line, used as it is
    CSV, TSV: under a header, `prompt`, `choices` (a JSON list, or parted by "|") and `label` (an
        index, or one of the choices); or a column `label` whose values become the choices, and
        what `template` names of the other columns, by default `text`

    labels: what the labels of such a file must be among; by default, what it holds, sorted

    Of lines with the same prompt and choices the first counts; `notes` says how many went, and
    how many of these had another label. Raises FrugalError that names file, line and field.
    """
    text = _text(path)
    if path.suffix.lower() == ".jsonl":
        if template:
            raise FrugalError(f"--template: {path} holds its prompts already; a table needs one")
        lines = [(i, line) for i, line in enumerate(_ends(text), start=1) if line.strip()]
        return _examples(path, lines, lambda line: Example.model_validate(_record(line)))
    header, records = _table(path, text)
    columns = {name.strip().casefold() for name in header}
    if {"prompt", "choices"} <= columns:
        if template:
            raise FrugalError(f"--template: {path} has a column 'prompt' already")
        places = [_column(path, header, name) for name in ("prompt", "choices", "label")]
        return _examples(path, records, lambda cells: _chosen(header, cells, places))
    return _labelled(path, header, records, template or DEFAULT, labels)


def _text(path: Path) -> str:
    """The text of a file, in the encoding that its first bytes name, by default UTF-8."""
    try:
        mode, raw = path.stat().st_mode, b""
        if stat.S_ISREG(mode) and named(path.name):
            raw = path.read_bytes()
    except OSError as error:
        raise FrugalError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise FrugalError(f"{str(path)!r}: no path ({error})") from error
    if not stat.S_ISREG(mode):  # a pipe would be read once, and then be empty
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise FrugalError(f"{path}: is {kind}; a file of examples is wanted")
    if not named(path.name):
        raise FrugalError(f"{path}: its name must end in {', '.join(SUFFIXES)}, to say what it is")
    mark = next((m for m in _MARKS if raw.startswith(m)), b"")
    encoding = _MARKS.get(mark, "utf-8")
    try:
        text = raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        where = "" if mark else f" (line {raw.count(10, 0, error.start) + 1})"
        raise FrugalError(
            f"{path}: not {encoding.upper()} at byte {len(mark) + error.start}{where}; "
            "save it as UTF-8"
        ) from error
    if "\0" in text:
        line = len(_ends(text[: text.index("\0")]))
        raise FrugalError(
            f"{path}, line {line}: a NUL byte; if the file is UTF-16 without a byte order mark, "
            "save it as UTF-8"
        )
    return text


def _ends(text: str) -> list[str]:
    """The lines as an editor counts them; a separator such as U+2028 inside a text is none."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _record(line: str) -> dict[str, Any]:
    """The object on a line of JSONL. Raises ValueError."""
    try:
        found = _DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg}, column {error.colno})") from error
    except RecursionError as error:
        raise ValueError("no JSON that can be read (nested too deeply)") from error
    except ValueError as error:
        if "digits" in str(error):
            raise ValueError("holds a number of thousands of digits") from error
        raise
    if not isinstance(found, dict):
        raise ValueError("no JSON object, but " + _short(line.strip()))
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{_short(max(keys, key=keys.count))} stands twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once)  # made once: a large file has many lines


def _table(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and records of a table, each with the line on which it begins.

    A .csv may be parted by commas, semicolons (Excel, in many countries) or tabs: what parts the
    header into the columns that are needed parts the rest.
    """
    first = next(filter(str.strip, _ends(text)), "")
    delimiter = "\t"
    if path.suffix.lower() == ".csv":
        parts = {mark: [p.strip(' "').casefold() for p in first.split(mark)] for mark in ",;\t"}
        delimiter = max(parts, key=lambda mark: (len(_NEEDED & {*parts[mark]}), len(parts[mark])))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise FrugalError(
                f"{path}, line {line}: {error}; a text with quotation marks stands in quotation "
                "marks, and has its own twice"
            ) from error
        if any(cell.strip() for cell in cells):
            found.append((line, cells))
    if not found:
        raise FrugalError(f"{path}: no example in this file")
    (_, header), *records = found
    return header, records


def _column(path: Path, header: Sequence[str], name: str) -> int:
    """Where a column stands: the one of this very name, else the one that differs in case."""
    names = [cell.strip() for cell in header]
    same = [i for i, other in enumerate(names) if other == name]
    same = same or [i for i, other in enumerate(names) if other.casefold() == name.casefold()]
    if len(same) > 1:
        raise FrugalError(f"{path}: {len(same)} columns are called {name!r}")
    if not same:
        raise FrugalError(f"{path}: no column {name!r}; there are {_listed(names)}")
    return same[0]


def _chosen(header: list[str], cells: list[str], places: Sequence[int]) -> Example:
    """The example of a row of prompt, choices and label. Raises ValueError."""
    _fits(header, cells)
    prompt, listed, label = (cells[place] for place in places)
    choices = _choices(listed)
    return Example(prompt=prompt, choices=choices, label=_index(label, choices))


def _choices(cell: str) -> tuple[str, ...]:
    """The choices in a cell: a JSON list as it is, or what stands between the bars.

    White space around a bar means nothing, but that one choice begins with a space means that
    all do: "a | b" is what a person writes for " a| b".
    """
    if cell.lstrip().startswith("["):
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise ValueError("choices: no JSON list; texts in it have double quotes") from error
        return tuple(found)
    parts = cell.split("|")
    space = " " if any(part[:1].isspace() for part in parts) else ""
    return tuple(space + part.strip() for part in parts)


def _index(cell: str, choices: Sequence[str]) -> int:
    """Which choice a label means: its index, or its text."""
    label = cell.strip()
    same = [i for i, choice in enumerate(choices) if str(choice).strip() == label]
    if label.isascii() and label.isdigit() and len(label) < 10:
        if same not in ([], [int(label)]):
            raise ValueError(
                f"label: {label} may be an index or the choice {choices[same[0]]!r}; other names "
                "for the choices would make it clear"
            )
        return int(label)
    if len(same) != 1:
        raise ValueError(f"label: {_short(label)} is neither the index nor the text of a choice")
    return same[0]


def _examples(path: Path, given: Iterable[tuple[int, T]], make: Callable[[T], Example]) -> Read:
    """Of lines that bring their choices with them."""
    lines, found, problems = [], [], []
    for line, it in given:
        try:
            found.append(make(it))
            lines.append(line)
        except ValidationError as error:
            problems.append(f"line {line}: {first_problem(error)}")
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    _refuse(path, problems)
    if not found:
        raise FrugalError(f"{path}: no example in this file")
    keys = [example.content for example in found]
    kept, notes = _first(path, lines, keys, [e.choices[e.label] for e in found])
    return Read([found[i].model_dump() for i in kept], notes=notes)


def _labelled(
    path: Path,
    header: list[str],
    records: list[tuple[int, list[str]]],
    template: str,
    known: Sequence[str],
) -> Read:
    """Of texts with a label each, which become the choices of all."""
    wanted = _template(template, ())
    names = sorted(wanted.columns)
    if not names:
        raise FrugalError("--template: names no column, such as {text}: every prompt is the same")
    if any(name.casefold() == "label" for name in names):
        raise FrugalError("--template: {label} would put the answer into the prompt")
    at = _column(path, header, "label")
    if template == DEFAULT and "text" not in {cell.strip().casefold() for cell in header}:
        raise FrugalError(
            f"{path}: no column 'text', nor 'prompt' and 'choices'; there are {_listed(header)}; "
            "--template names others"
        )
    there = {name.strip() for name in header} | {name.strip().casefold() for name in header}
    for name in names:
        if name not in there and name.casefold() not in there:
            raise FrugalError(f"--template: {unknown('column', name, filter(None, header))}")
    places = {name: _column(path, header, name) for name in names}
    rows, lines, given, problems = [], [], [], []
    for line, cells in records:
        try:
            _fits(header, cells)
            row = {name: cells[place] for name, place in places.items()}
            label = unicodedata.normalize("NFC", cells[at].strip())
            if not label:
                raise ValueError("label: empty")
            if not any(value.strip() for value in row.values()):
                raise ValueError(f"{', '.join(names)}: empty")
            if known and label not in known:
                raise ValueError(
                    f"label: {_short(label)} is none of those to learn from: {_listed(known)}"
                )
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        rows.append(row)
        lines.append(line)
        given.append(label)
    _refuse(path, problems)
    if not rows:
        raise FrugalError(f"{path}: no example in this file")
    labels = tuple(known or sorted(set(given)))
    notes = _sound(path, labels, lines, given) if not known else ()
    made = _template(template, labels)
    keys = [content(made.prompt_of(row), ()) for row in rows]
    kept, more = _first(path, lines, keys, given)
    index = {label: i for i, label in enumerate(labels)}
    found = [{**rows[i], "label": index[given[i]]} for i in kept]
    return Read(found, made, labels, (*notes, *more))


def _template(text: str, labels: Sequence[str]) -> Template:
    """A user's prompt, in which backslash and n, as a shell passes them on, end a line."""
    prompt = text.replace("\\n", "\n").replace("\\t", "\t")
    space = "" if prompt[-1:].isspace() else " "
    choices = tuple(space + re.sub(r"([{}])", r"\1\1", label) for label in labels)
    try:
        return Template(prompt=prompt, choices=choices)
    except ValidationError as error:
        raise FrugalError(f"--template: {first_problem(error)}") from error


def _sound(
    path: Path, labels: Sequence[str], lines: Sequence[int], given: Sequence[str]
) -> tuple[str, ...]:
    """What to say of the labels. Raises FrugalError for those that cannot be the choices."""
    if len(labels) < 2:
        raise FrugalError(
            f"{path}: the label is always {_short(labels[0])}; there is nothing to choose"
        )
    if len(labels) > max(_MANY, len(given) / 2):
        raise FrugalError(
            f"{path}: {len(labels)} different labels on {len(given)} lines are no classes"
        )
    spelt: dict[str, str] = {}
    for label in labels:
        other = spelt.setdefault(_folded(label), label)
        if other != label:
            one, two = (f"{_short(x)} (line {lines[given.index(x)]})" for x in (other, label))
            raise FrugalError(f"{path}: {one} and {two} are one label in two spellings")
    if all(re.fullmatch(r"[-+]?[\d.]+", label) for label in labels):
        return (
            f"{path}: the labels are numbers, and {', '.join(labels[:3])} are what a model chooses "
            "among; words tell it more",
        )
    return ()


def _folded(label: str) -> str:
    """The same for spellings of one label: in case, white space, width, or as a number."""
    folded = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    try:
        return str(float(folded))
    except ValueError:
        return folded


def _first(
    path: Path, lines: Sequence[int], keys: Sequence[Content], answers: Sequence[str]
) -> tuple[list[int], tuple[str, ...]]:
    """The places where a content stands first, and what to say of the others."""
    first: dict[Content, int] = {}
    again, other = 0, []
    for i, key in enumerate(keys):
        before = first.setdefault(key, i)
        if before != i:
            again += 1
            if answers[before].strip() != answers[i].strip():
                other.append((before, i))
    notes = []
    if again:
        notes.append(
            f"{path}: {again} of {len(keys)} lines repeat an earlier one (the same prompt and "
            "choices) and are left out"
        )
    if other:
        one, two = (f"line {lines[i]} says {_short(answers[i].strip())}" for i in other[0])
        notes.append(
            f"{path}: {len(other)} of these contradict it ({one}, {two}); the first label counts"
        )
    return list(first.values()), tuple(notes)


def _fits(header: Sequence[str], cells: Sequence[str]) -> None:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} fields; the header has {len(header)}")


def _refuse(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f"; and {len(problems) - 3} more lines" if len(problems) > 3 else ""
        raise FrugalError(f"{path}, {'; '.join(problems[:3])}{more}")


def _listed(names: Iterable[str]) -> str:
    shown = [_short(name.strip()) for name in names if name.strip()]
    return ", ".join([*shown[:12], "…"] if len(shown) > 12 else shown)


def _short(text: str) -> str:
    """A text in a message: on one line, and not for ever."""
    return repr(text if len(text) <= 40 else text[:39] + "…")
