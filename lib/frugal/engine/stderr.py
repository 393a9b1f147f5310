"""What is said on stderr while work is done: lines, notes and bars; stdout is for results."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any


def line(text: str) -> None:
    """One line, now; none where nobody reads it."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """How far the work is, or what ended it."""
    line(f"frugal: {text}")


def note(text: str) -> None:
    """What is doubtful and stops no work; of several processes the first says it."""
    if "torch" in sys.modules:  # who has no torch works alone, and answers at once
        from frugal.engine import processes

        if processes.number():
            return
    say(f"note: {text}")


@functools.cache
def note_once(text: str) -> None:
    """`note`, once in a process."""
    note(text)


@contextlib.contextmanager
def bar(total: int, unit: str, *, stage: str = "", done: int = 0) -> Iterator[Callable[[int], Any]]:
    """A bar on a terminal, nothing in a log; call what it gives with how much is done.

    unit: B for bytes; done: how much of it was there before
    """
    from tqdm import tqdm

    size = {"unit": "B", "unit_scale": True} if unit == "B" else {"unit": f" {unit}"}
    shown = tqdm(
        total=total, desc=stage, initial=done, **size, file=sys.stderr, disable=None, leave=False
    )
    with shown:
        yield lambda now: shown.update(now - shown.n)
