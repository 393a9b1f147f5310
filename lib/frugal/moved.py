"""What has moved: asked for under a former name it is found, with a warning, once more.

For this version alone. They are found on access, so that nothing is imported before.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NOW = {
    "frugal.budgets.sources": "frugal.budgets.annotators",
    "frugal.exercises": "frugal_course.exercises",
    "frugal.exercises.notebooks": "frugal_course.exercises.sheets",
    "frugal.fewshot.tasks": "frugal.tasks",
    "frugal.fewshot.templates": "frugal.tasks.templates",
    "frugal.seminar": "frugal_course.notebooks",
    "frugal.seminar.slides": "frugal_course.publish.slides",
    "frugal.show": "frugal_course.figures",
    "frugal.show.capstone": "frugal_course.figures.choice",
    "frugal.show.explorers": "frugal_course.explorers",
    "frugal.show.fewshot": "frugal_course.figures.tfew",
    "frugal.show.figures": "frugal_course.figures.tfew",
}


class Finder(MetaPathFinder, Loader):
    """Answers for former names alone. It is asked first, or a file would be found twice."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if _now(fullname) else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        now = _now(module.__name__)
        found = importlib.import_module(now)
        vars(module).update(__path__=[], __getattr__=lambda name: getattr(found, name))
        warnings.warn(
            f"{module.__name__} is now {now}; its former name works in this version alone",
            FutureWarning,
            stacklevel=2,
        )


def _now(name: str) -> str:
    """Where the module `name` is now; "" for one that has not moved."""
    home, _, last = name.rpartition(".")
    return NOW.get(name) or (f"{NOW[home]}.{last}" if home in NOW else "")


def names(module: str, now: Mapping[str, str]) -> Callable[[str], Any]:
    """`__getattr__` of a `module`, names of which have moved: each, and the module it is in now."""

    def found(name: str) -> Any:
        if name not in now:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(
            f"{module}.{name} is now {now[name]}.{name}; its former place works in this version "
            "alone",
            FutureWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(now[name]), name)

    return found
