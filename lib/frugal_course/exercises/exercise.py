"""One exercise, and what its check says of a learner's function."""

import ast
import copy
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 1e-6
BLANK = "...  # your code"


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and the sentence that says so or what is wrong."""

    right: bool
    text: str

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.text}"


@dataclass(frozen=True)
class Exercise:
    """What to write, how hard it is, and how it is checked.

    solution:   the function, with a docstring, which learners see; its source is the solution
    title, text: what is asked, as Markdown; difficulty: 1 to 3; minutes: how long it may take
    cases:      arguments; the first are shown where an answer is wrong
    mistakes:   common wrong functions, by the words that whoever answers like one of them gets;
        one that raises in some cases is like a learner's that raises so in the same ones
    learned:    what the right answer shows
    reference:  the library's own function of the same arguments, by which cases are judged
    normal:     applied to answers before they are compared, such as `sorted`; of a design that
        many numbers fulfil, what is wrong with it
    """

    solution: Callable[..., Any]
    title: str
    text: str
    difficulty: int
    minutes: int
    cases: Sequence[tuple[Any, ...]]
    mistakes: Mapping[str, Callable[..., Any]]
    learned: str
    reference: Callable[..., Any] | None = None
    normal: Callable[[Any], Any] = field(default=lambda answer: answer)

    @property
    def name(self) -> str:
        return self.solution.__name__

    @property
    def stars(self) -> str:
        return "●" * self.difficulty + "○" * (3 - self.difficulty)

    def source(self) -> str:
        """The solution, as code."""
        return textwrap.dedent(inspect.getsource(self.solution)).rstrip()

    def blank(self) -> str:
        """The solution without its body: signature, docstring, and room for the learner."""
        lines = self.source().splitlines()
        function = ast.parse(self.source()).body[0]
        assert isinstance(function, ast.FunctionDef)
        docstring = function.body[0]
        return "\n".join([*lines[: docstring.end_lineno], f"    {BLANK}"])

    def check(self, function: Callable[..., Any]) -> Verdict:
        """Whether `function` answers every case right; what is wrong with the first that is not."""
        answers, wrong = [], []
        for case in self.cases:
            expected = (self.reference or self.solution)(*copy.deepcopy(case))
            found = _outcome(function, case)
            answers.append((case, found))
            if not self._same(found, expected):
                wrong.append((case, found, expected))
        if not wrong:
            cases = f" in all {len(self.cases)} cases" if len(self.cases) > 1 else ""
            return Verdict(True, f"Right{cases}. {self.learned}")
        if all(found is None for _, found in answers):
            return Verdict(False, "Your function returns nothing yet.")
        # The mistake that answers as the learner does everywhere, or else wherever that is wrong.
        for seen in (answers, [(case, found) for case, found, _ in wrong]):
            if all(isinstance(found, Exception) for _, found in seen):
                continue  # whatever always raises is like nothing in particular
            for words, mistaken in self.mistakes.items():
                if all(self._same(found, _outcome(mistaken, case)) for case, found in seen):
                    return Verdict(False, words)
        case, found, expected = wrong[0]
        where = f"For {self._shown(case)} your" if case else "Your"
        return Verdict(False, f"{where} function {_difference(found, expected)}")

    def _same(self, found: Any, expected: Any) -> bool:
        if isinstance(found, Exception) or isinstance(expected, Exception):
            return type(found) is type(expected)
        try:
            return same(self.normal(found), self.normal(expected))
        except Exception:  # an answer of another kind cannot be put into order
            return False

    def _shown(self, case: tuple[Any, ...]) -> str:
        names = inspect.signature(self.solution).parameters
        return ", ".join(
            f"{name}={textwrap.shorten(_written(value), 70)}"
            for name, value in zip(names, case, strict=True)
        )


def _outcome(function: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    """What a function answers, or the error that it raises."""
    try:
        return function(*copy.deepcopy(case))
    except Exception as error:
        return error


def whole(plan: tuple[int, int]) -> tuple[int, int]:
    """A design's draws and texts; AssertionError where they are no counts."""
    draws, texts = plan
    assert min(draws, texts) >= 1
    assert (int(draws), int(texts)) == (draws, texts)
    return draws, texts


def same(found: Any, expected: Any) -> bool:
    """Whether two answers are equal: numbers to a millionth of their size, lists by element."""
    found, expected = _plain(found), _plain(expected)
    if isinstance(expected, bool) or isinstance(found, bool) or expected is None or found is None:
        return found is expected
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=1e-9)
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(type(found) is type(expected) and found == expected)


def _plain(value: Any) -> Any:
    """Tensors, arrays and tuples as lists, their numbers as Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _difference(found: Any, expected: Any) -> str:
    """How an answer differs from the right one, without saying the right one."""
    if isinstance(found, Exception):
        text = f": {found}" if str(found) else ""
        return f"raises {type(found).__name__}{text}."
    found, expected = _plain(found), _plain(expected)
    if found is None:
        return "returns nothing."
    if expected is None:
        return f"returns {_written(found)}; there is no answer here, and None says so."
    numbers = [isinstance(x, int | float) and not isinstance(x, bool) for x in (found, expected)]
    if all(numbers):
        if not math.isfinite(found):
            return f"returns {found}."
        if expected and found / expected > 0:
            ratio = found / expected
            much = f"{ratio:.4g} times" if ratio > 1 else f"1/{1 / ratio:.4g} of"
            return f"returns {found:.6g}: that is {much} the right answer."
        return f"returns {found:.6g}: that is {found - expected:+.6g} off."
    if isinstance(found, list) and isinstance(expected, list):
        if _shape(found) != _shape(expected):
            sizes = [" × ".join(map(str, _shape(x))) for x in (found, expected)]
            return f"returns {sizes[0]} values, where {sizes[1]} are expected."
        at = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if not same(*pair))
        return f"returns {_written(found)}, which is wrong, first at place {at}."
    if type(found) is not type(expected):
        return (
            f"returns {_written(found)}, of type {type(found).__name__}; "
            f"expected is {type(expected).__name__}."
        )
    return f"returns {_written(found)}, which is not right."


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    return (len(value), *(_shape(value[0]) if value else ()))


def _written(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value[:6])) + (", …]" if len(value) > 6 else "]")
    return repr(value)
