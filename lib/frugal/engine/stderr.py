"""What is said on stderr while work is done: lines, notes and bars; stdout is for results."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


def line(text: str) -> None:
    """One line, now; none where nobody reads it."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """How far the work is, or what ended it."""
    line(f"frugal: {text}")


def note(text: str) -> None:
    """What is doubtful and stops no work; of several processes the first says it."""
    if not _number():
        say(f"note: {text}")


@functools.cache
def note_once(text: str) -> None:
    """`note`, once in a process."""
    note(text)


_shown = ContextVar("shown", default=False)  # whether a bar is


@contextlib.contextmanager
def bar(total: int, unit: str, *, stage: str = "", done: int = 0) -> Iterator[Callable[[int], Any]]:
    """A bar where somebody looks; call what it gives with how much is done.

    On a terminal or in a notebook that a person runs: nothing in a log, nor in a notebook that is
    executed. What is done inside of work that has a bar has none.

    unit: B for bytes; done: how much of it was there before
    """
    if _shown.get() or not _looked_at():
        yield lambda now: None
        return
    from tqdm import tqdm

    size = {"unit": "B", "unit_scale": True} if unit == "B" else {"unit": f" {unit}"}
    token = _shown.set(True)
    try:
        with tqdm(
            total=total, desc=stage, initial=done, **size, file=sys.stderr, leave=False, delay=1
        ) as shown:
            yield lambda now: shown.update(now - shown.n)
    finally:
        _shown.reset(token)


def each(items: Sequence[T], unit: str) -> Iterator[T]:
    """The items one by one, with a bar of how many are done."""
    with bar(len(items), unit) as shown:
        for done, item in enumerate(items, start=1):
            yield item
            shown(done)


def _looked_at() -> bool:
    """Whether stderr is a terminal, or that of a notebook whose front-end could ask a person.

    What executes notebooks (papermill, nbconvert, nbval) says that it cannot.
    """
    if _number():
        return False
    if type(sys.stderr).__module__ == "ipykernel.iostream":
        from IPython.core.getipython import get_ipython

        kernel = getattr(get_ipython(), "kernel", None)
        return bool(getattr(kernel, "_allow_stdin", False))
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _number() -> int:
    """Of this process among those that share the work."""
    if "torch" not in sys.modules:  # who has no torch works alone, and answers at once
        return 0
    from frugal.engine import processes

    return processes.number()
