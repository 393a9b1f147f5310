"""Thousands of inputs through a door of the library; what came of each, and a table of it.

A *door* is an entry that takes what others made: a file, an option, an answer. What may come of an
input is a value that an independent reader agrees with, or FrugalError in one line. All else is a
finding: any other exception ("traceback"), or an answer that is wrong ("wrong").
"""

import contextlib
import io
import logging
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from frugal.errors import FrugalError

SLOW = 20.0  # seconds that no single input may take
LONGEST = 2000  # characters of an error; more is no line that anyone reads
LEAST = 500  # inputs of each door in a soak


class Wrong(Exception):
    """An answer that is not true, or an error that helps nobody."""


class TooSlow(BaseException):
    """Raised by the clock; not an Exception, so that no handler of the library takes it."""


@dataclass(frozen=True)
class Case:
    """An input.

    kind: "sound" must be accepted; "changed" is a sound one with one mistake; "wild" is anything
    """

    kind: str
    how: str
    data: Any = field(repr=False)


@dataclass(frozen=True)
class Door:
    """Where inputs go in.

    inputs: by kind, a strategy of `Case`s
    enter:  calls the library, compares what it says with an independent reader, and raises `Wrong`
            where they differ; what it returns does not matter
    share:  of the inputs, relative to other doors; the slow ones have less
    """

    name: str
    inputs: dict[str, st.SearchStrategy]
    enter: Callable[[Case], Any]
    share: float = 1.0


@dataclass
class Finding:
    """The smallest input of those that failed alike, and how often they did."""

    door: str
    kind: str
    where: str
    case: Case
    text: str
    times: int = 1

    def __str__(self) -> str:
        data = ascii(self.case.data)
        shown = data if len(data) <= 400 else f"{data[:400]}… ({len(data)} characters)"
        return (
            f"{self.door}: {self.kind}, {self.times} times: {self.where}\n"
            f"    {self.case.kind}: {self.case.how}\n    input: {shown}\n    {self.text}"
        )


@dataclass
class Found:
    """What came of a door's inputs."""

    door: str
    counts: Counter = field(default_factory=Counter)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def add(self, case: Case, kind: str, where: str = "", text: str = "") -> None:
        self.counts["inputs"] += 1
        self.counts[case.kind] += 1
        self.counts[kind] += 1
        if kind in ("accepted", "refused"):
            return
        mine = self.findings.get((kind, where))
        if mine is None:
            self.findings[kind, where] = Finding(self.door, kind, where, case, text)
            return
        mine.times += 1
        if len(ascii(case.data)) < len(ascii(mine.case.data)):
            mine.case, mine.text = case, text


def inputs(sound, changed, wild=None):
    """The kinds of inputs of a door, each as a strategy of `Case`s."""
    found = {"sound": sound.map(lambda data: Case("sound", "as it should be", data))}
    if wild is not None:
        found["wild"] = wild.map(lambda data: Case("wild", "anything", data))
    return found | {"changed": changed.map(lambda pair: Case("changed", *pair))}


CHUNK = 50  # inputs between two looks at the clock


def explore(
    door: Door,
    count: int,
    *,
    number: int = 0,
    until: float = float("inf"),
    found: Found | None = None,
) -> Found:
    """Send `count` inputs, decided by `number`, through a door, but stop at `until` (monotonic).

    An eighth is sound, a quarter wild, the rest has one mistake; where there are fewer sound or
    wild ones than that, more have a mistake. found: where what came of others is already
    """
    found = Found(door.name) if found is None else found
    end = found.counts["inputs"] + count
    for kind, share in (("sound", count // 8), ("wild", count // 4), ("changed", count)):
        wanted = min(share, end - found.counts["inputs"]) if kind in door.inputs else 0
        for first in range(0, wanted, CHUNK):
            before, size = found.counts["inputs"], min(CHUNK, wanted - first)
            if time.monotonic() < until:
                _send(door, kind, size, number * 1_000_003 + first, found)
            if found.counts["inputs"] < before + size:
                break  # there are no more of this kind, or no more time
    return found


def _send(door: Door, kind: str, count: int, number: int, found: Found) -> None:
    @seed(number)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
    )  # fmt: skip
    @given(door.inputs[kind])
    def each(case):
        found.add(case, *attempt(door, case))

    each()


def attempt(door: Door, case: Case) -> tuple[str, ...]:
    """What comes of one input: accepted, refused, wrong or traceback; where, and in which words."""
    try:
        with quiet(), _clock():
            door.enter(case)
    except FrugalError as error:
        message = " ".join(str(error).split())  # as the command shows it
        if not message or len(message) > LONGEST:
            return "wrong", f"an error of {len(message)} characters", message[:200]
        if case.kind == "sound":
            return "wrong", "a sound input is refused", message
        return ("refused",)
    except Wrong as error:
        where, _, text = str(error).partition(": ")
        return "wrong", where, text[:600]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # Rust's panics and SystemExit are no Exceptions
        return "traceback", _place(error), f"{type(error).__name__}: {str(error)[:300]}"
    return ("accepted",)


def _place(error: BaseException) -> str:
    """The kind of an exception, and the innermost line of ours that it passed."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if "/frugal/" in f.filename]
    at = ours[-1] if ours else traceback.extract_tb(error.__traceback__)[-1]
    file = at.filename.rpartition("/frugal/")[2] if ours else Path(at.filename).name
    return f"{type(error).__name__} at {file}:{at.lineno} in {at.name}"


@contextlib.contextmanager
def quiet():
    """Nothing on the terminal, and no warning turned into an error."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


@contextlib.contextmanager
def _clock():
    def ring(*_):
        raise TooSlow(f"more than {SLOW:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SLOW)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def table(all_found: list[Found]) -> str:
    """Door, inputs (changed ones among them), accepted, refused, wrong, tracebacks."""
    names = ["inputs", "changed", "accepted", "refused", "wrong", "traceback"]
    lines = [f"{'door':20}" + "".join(f"{name:>11}" for name in names)]
    rows = [(found.door, found.counts) for found in all_found]
    rows.append(("all", sum((counts for _, counts in rows), Counter())))
    for door, counts in rows:
        lines.append(f"{door:20}" + "".join(f"{counts[name]:>11}" for name in names))
    return "\n".join(lines)
