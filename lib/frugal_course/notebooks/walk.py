"""All notebooks, one after the other: what will be done and how long it takes is said first.

A walk that was interrupted goes on with the notebook it was in. What is done stands in a file of
the folder, with what the notebook was then; it goes when the walk has come to its end.
"""

import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from frugal.engine import digests, files, stderr
from frugal_course.notebooks import execution, parameters, reading

_NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def walk(notebooks: Sequence[Path], out: Path, preset: str) -> list[Path]:
    """Execute `notebooks` at `preset` into the folder `out`; what was executed, now or before.

    Progress is said on stderr. Raises FrugalError for a notebook or preset that is none, before
    any of them is executed, and where a cell fails.
    """
    given = {"preset": preset}
    takes = {}
    for notebook in notebooks:
        found = reading.read(notebook)
        parameters.declared(found, notebook).values(given)
        takes[notebook] = time_of(found, preset)
    state = out / ".walk.json"
    done = _done(state, preset)
    whole = total(takes.values())
    stderr.say(
        f"{len(notebooks)} notebooks at the preset {preset}, executed into {out}"
        + (f": {whole} on the machine they name" if whole else "")
        + "; weights and texts are fetched once"
    )
    for number, notebook in enumerate(notebooks, start=1):
        place = f"[{number}/{len(notebooks)}] {notebook.stem}"
        as_it_is = digests.file(notebook)
        if done.get(notebook.name) == as_it_is and (out / notebook.name).exists():
            stderr.say(f"{place}: done before this walk was interrupted")
            continue
        stderr.say(f"{place}: {takes[notebook] or 'time unknown'} …")
        started = time.monotonic()
        with _interruptible(notebook):
            execution.run(notebook, out, given)
        stderr.say(f"{place}: done in {time.monotonic() - started:.0f} seconds")
        done[notebook.name] = as_it_is
        files.write(state, json.dumps({"preset": preset, "done": done}))
    with contextlib.suppress(OSError):
        state.unlink()
    pages = [out / f"{notebook.stem}.html" for notebook in notebooks]
    stderr.say(f"look at {pages[0]}" + (f" to {pages[-1].name}" if len(pages) > 1 else ""))
    return [out / notebook.name for notebook in notebooks]


def time_of(notebook: Any, preset: str) -> str:
    """How long it takes at `preset`, in the words of the table under its title; or ""."""
    first = notebook.cells[0].source if notebook.cells else ""
    row = re.search(rf"^\| `{re.escape(preset)}`.*\| ([^|]+) \|$", first, re.MULTILINE)
    return "" if row is None or "not measured" in row[1] else row[1]


def total(times: Iterable[str]) -> str:
    """The sum of such times: "20 to 26 minutes"; or "" where one is no number of minutes."""
    low = high = 0
    for text in times:
        found = re.fullmatch(r"(?:(\w+) to )?(\w+) minutes?", text)
        if found is None or not {found[1] or found[2], found[2]} <= set(_NUMBERS):
            return "seconds" if text == "seconds" and not high else ""
        low += _NUMBERS.index(found[1] or found[2]) + 1
        high += _NUMBERS.index(found[2]) + 1
    return f"{low} to {high} minutes" if low < high else f"{high} minutes"


def _done(state: Path, preset: str) -> dict[str, str]:
    """What an interrupted walk at this preset has done: names of notebooks, and what they were."""
    try:
        found = files.read_json(state)
    except (OSError, ValueError):
        return {}
    done = found.get("done") if found.get("preset") == preset else None
    return done if isinstance(done, dict) else {}


@contextlib.contextmanager
def _interruptible(notebook: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        stderr.say(f"the same command goes on with {notebook.name}")
        raise
