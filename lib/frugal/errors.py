"""The one error a user can mend, and the sentence that helps to mend it."""

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class FrugalError(ValueError):
    """Bad input: one line that names the file, line or argument. The CLI shows it and exits 2."""


class FrugalWarning(UserWarning):
    """One line on what is doubtful about the input and does not stop the work."""


def unknown(what: str, name: str, known: Iterable[str]) -> FrugalError:
    """The error for a name that does not exist; it names the nearest one that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return FrugalError(f"unknown {what} {name!r}; {hint}")


def first_problem(error: "ValidationError") -> str:
    """The first problem of a record that pydantic refuses, as `field: what is wrong`."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def reason(error: BaseException) -> str:
    """The first line of what an error says, in the system's words where they are its."""
    told = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(told).splitlines()[0]


def without_passwords(text: str) -> str:
    """`text` whose addresses (https://user:password@host) have lost who they belong to."""
    return re.sub(r"(?<=://)[^/\s'\"]*@", "***@", text)
