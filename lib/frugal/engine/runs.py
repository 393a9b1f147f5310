"""Runs: what to compute, written as data, computed once, and kept in a folder of its own.

    STORE/runs/<id>/spec.json     what to compute, and digests of all it reads: the id is their hash
    STORE/runs/<id>/log.txt       what every attempt printed
    STORE/runs/<id>/machine.json  where the result was computed, when, and in how many seconds
    STORE/runs/<id>/result.json   what was computed; it appears last, by one rename

`result.json` holds nothing that differs from one computation of the same spec to the next, and a
digest of itself. A run that has a sound one is never computed again; one whose file was cut or
changed is. A failed attempt leaves `error.txt` until the next one.
"""

import contextlib
import importlib
import io
import json
import math
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TextIO

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from frugal.engine import digests, files
from frugal.errors import FrugalError, first_problem, reason, unknown

State = Literal["done", "running", "failed", "waiting"]
KEY = 2  # of the ids: 1 hashed a job's place in the code and its parameters, not what it reads

# Where the project's own jobs live. A job's name is in the id of all its runs, so it stays when its
# code moves: only its place here changes. A job that computes something else gets another name.
HOMES = {
    "budgets.cell": "frugal.budgets.study",
    "figure2.score": "frugal.fewshot.figure2",
    "notebook.execute": "frugal_course.notebooks.grid",
    "spaces.finetune": "frugal.spaces.train",
    "table1.score": "frugal.fewshot.table1_run",
}
_FORMER = {  # what keys of version 1 called them
    "figure2.score": "frugal.fewshot.figure2:score",
    "notebook.execute": "frugal.seminar.grid:execute",
    "spaces.finetune": "frugal.spaces.train:finetune",
}
_NOW = {former: name for name, former in _FORMER.items()}


@dataclass(frozen=True)
class Job:
    """A function that runs are made of, and what `job` says of it."""

    function: Callable[..., Mapping[str, Any]]
    inputs: Callable[..., Mapping[str, str]] | None = None
    flops: Callable[..., float] | None = None
    precision: Callable[..., str | None] | None = None


JOBS: dict[str, Job] = {}  # by name


def job(
    name: str = "",
    *,
    inputs: Callable[..., Mapping[str, str]] | None = None,
    flops: Callable[..., float] | None = None,
    precision: Callable[..., str | None] | None = None,
) -> Callable[..., Any]:
    """Register the decorated function as the job `name`, one of HOMES; else as "module:function".

    It takes a spec's params by name and returns a mapping that JSON can hold, with a finite
    `score`. What it prints goes to the run's log. `inputs`, `flops` and `precision` take the same
    params; `inputs` gives a digest of everything outside them that the result depends on, `flops`
    what a call costs, `precision` that of the backbone (None of a run that could have no other).
    """

    def register(function: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, Any]]:
        own = name or f"{function.__module__}:{function.__qualname__}"
        JOBS[own] = Job(function, inputs, flops, precision)
        return function

    return register


def find(name: str) -> Job:
    """The job called `name`; its module is imported if need be.

    Raises FrugalError where there is none: only what is registered can be run from a spec.
    """
    name = _NOW.get(name, name)
    if name not in JOBS:
        try:
            importlib.import_module(HOMES.get(name, name.partition(":")[0]))
        except (ImportError, ValueError) as error:
            raise FrugalError(f"job {name!r}: its module cannot be imported ({error})") from error
    if name not in JOBS:
        raise unknown("job", name, JOBS)
    return JOBS[name]


class RunSpec(BaseModel):
    """What to compute: a job, its parameters, and digests of what it reads. `spec` makes one.

    key:      version of the id
    inputs:   digests of what the result depends on and params only name, such as files and models
    preset:   that asked for it; num_gpus: that Ray reserves for it (a fraction lets several runs
        share one). Neither is part of the id
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: int = Field(KEY, ge=1, le=KEY)
    job: str
    params: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    preset: str = ""
    num_gpus: float = Field(0, ge=0, allow_inf_nan=False)

    @field_validator("job")
    @classmethod
    def _called(cls, job: str) -> str:
        return _NOW.get(job, job)

    @field_validator("params")
    @classmethod
    def _plain(cls, params: dict[str, Any]) -> dict[str, Any]:
        """A copy as JSON gives it back, so that a spec read from disk equals the one written."""
        try:
            return dict(files.loads(json.dumps(params, allow_nan=False)))
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the sha256 of key, job, params and inputs, in JSON."""
        content: dict[str, Any] = {"job": self.job, "params": self.params}
        if self.key == 1:
            content["job"] = _FORMER.get(self.job, self.job)
        else:
            content |= {"key": self.key, "inputs": self.inputs}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return digests.text(text)[:16]


def spec(
    job: str,
    params: Mapping[str, Any],
    *,
    inputs: Mapping[str, str] | None = None,
    preset: str = "",
    num_gpus: float = 0,
    key: int = KEY,
) -> RunSpec:
    """The spec of a run of `job` on what its params name, as that is now.

    inputs: what the job reads, if that is known already

    Raises FrugalError for an unknown job, for params that JSON cannot hold, and for an input that
    is not there.
    """
    if inputs is None and key > 1:
        inputs = inputs_of(job, params)
    try:
        return RunSpec(
            key=key,
            job=job,
            params=dict(params),
            inputs=dict(inputs or {}) if key > 1 else {},
            preset=preset,
            num_gpus=num_gpus,
        )
    except ValidationError as error:
        raise FrugalError(f"job {job}: {first_problem(error)}") from error


def inputs_of(name: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Digests of what the job reads, now; FrugalError for an input that is not there."""
    digest = find(name).inputs
    try:
        return dict(digest(**params)) if digest else {}
    except OSError as error:
        raise FrugalError(f"{error.filename or name}: {reason(error)}") from error


class Took(BaseModel):
    """Where and when a run was computed, and in how many seconds: its `machine.json`."""

    model_config = ConfigDict(strict=True)

    started: str
    seconds: float
    host: str


class Attempt(Took):
    """What came of one attempt at a run: a result, or the error that ended it."""

    result: dict[str, Any] | None = None
    error: str | None = None


def attempt(spec: RunSpec, log: TextIO) -> Attempt:
    """Do what `spec` says; what it prints goes to `log`, and so does the traceback of an error."""
    started, clock = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.perf_counter()
    host = platform.node()
    log.write(f"--- {started} on {host}: {spec.job}\n")
    result = error = None
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            function = find(spec.job).function
            _unchanged(spec)
            result = _checked(spec, function(**spec.params))
            _unchanged(spec)
        except Exception as caught:
            result, error = None, f"{type(caught).__name__}: {caught}"
            traceback.print_exc()
    seconds = time.perf_counter() - clock
    log.write(f"--- {'failed' if error else 'finished'} after {seconds:.1f} s\n")
    return Attempt(result=result, error=error, started=started, seconds=seconds, host=host)


def remote_attempt(spec: str) -> tuple[str, str]:
    """An attempt in another process: its `Attempt` and what it printed; JSON in and out."""
    log = io.StringIO()
    found = attempt(RunSpec.model_validate_json(spec), log)
    return found.model_dump_json(), log.getvalue()


def _unchanged(spec: RunSpec) -> None:
    """Raise FrugalError where the files and models are not those that the spec was made of."""
    now = inputs_of(spec.job, spec.params)
    if other := sorted(k for k in {*now, *spec.inputs} if now.get(k) != spec.inputs.get(k)):
        raise FrugalError(f"{', '.join(other)}: changed since this run was planned; start anew")


def _checked(spec: RunSpec, result: Mapping[str, Any]) -> dict[str, Any]:
    """The result, if it can be kept and collected."""
    score = result.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise FrugalError(f"job {spec.job}: its score must be a finite number, not {score!r}")
    taken = spec.params.keys() | {_DIGEST}
    if both := sorted(result.keys() & taken):
        raise FrugalError(f"job {spec.job}: {', '.join(both)} is both a parameter and a result")
    return dict(files.loads(json.dumps(dict(result), allow_nan=False)))


_DIGEST = "sha256"  # in result.json: of the rest of it


class Store:
    """A folder of runs. Any number of processes may use it at once.

    Each run has a lock that belongs to whoever computes it; the operating system releases it when
    its holder dies, however that happens.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, run: str) -> Path:
        return self.folder / "runs" / run

    def lock(self, run: str) -> FileLock:
        return FileLock(self.path(run) / "lock")

    def add(self, specs: Iterable[RunSpec]) -> None:
        """Write down what is to be computed; a spec that was cut or changed is written again.

        Raises FrugalError for a store whose ids are of another version.
        """
        self.continues()
        with self.mending():
            for spec in specs:
                file = self.path(spec.id) / "spec.json"
                if spec.key != KEY:
                    raise FrugalError(f"{file}: {_of_version(spec.key)}")
                if self._spec(file) is None:
                    files.write(file, spec.model_dump_json(indent=2))

    def specs(self) -> list[RunSpec]:
        """Every spec of the store, by id. Raises FrugalError for one that is not what it was."""
        return [_parsed(file) for file in sorted(self.folder.glob("runs/*/spec.json"))]

    def key(self) -> int | None:
        """The version of the ids here; None of an empty store."""
        for file in self.folder.glob("runs/*/spec.json"):
            if spec := self._spec(file):
                return spec.key
        return None

    def precision(self, job: str) -> str | None:
        """That of all runs of `job` here; None where there are none, or they differ.

        What a sweep that asks for the fastest one was begun in, wherever it goes on.
        """
        of = find(job).precision
        every = filter(None, map(self._spec, self.folder.glob("runs/*/spec.json")))
        mine = (spec for spec in every if (spec.job, spec.key) == (job, KEY))
        found = {of(**spec.params) for spec in mine if of} - {None}
        return found.pop() if len(found) == 1 else None

    def continues(self) -> None:
        """Raise FrugalError for a store of before, which can be reported, but not continued."""
        if (key := self.key()) not in (None, KEY):
            raise FrugalError(f"{self.folder}: {_of_version(key or 0)}")

    @staticmethod
    def _spec(file: Path) -> RunSpec | None:
        """The spec in `file`, if it is there and sound."""
        try:
            return _parsed(file)
        except FrugalError:
            return None

    def done(self, run: str) -> bool:
        """Whether the run has a result that is what was computed."""
        try:
            self.result(run)
            self.machine(run)
        except FrugalError:
            return False
        return True

    def result(self, run: str) -> dict[str, Any]:
        """What the run computed; FrugalError where it is not done or its file is damaged."""
        found = self._read(run, "result.json")
        digest = found.pop(_DIGEST, None)
        if digest is None:
            spec = self._spec(self.path(run) / "spec.json")
            if spec is None or spec.key != 1:  # whose results had none
                raise self._broken(run, "result.json", "it has no digest")
        elif digest != digests.of(found):
            raise self._broken(run, "result.json", "it is not what was computed")
        return found

    def machine(self, run: str) -> dict[str, Any]:
        """`started`, `seconds` and `host` of the computation."""
        try:
            return Took.model_validate(self._read(run, "machine.json")).model_dump()
        except ValidationError as error:
            raise self._broken(run, "machine.json", first_problem(error)) from None

    def _read(self, run: str, name: str) -> dict[str, Any]:
        """A JSON object whose numbers are all finite."""
        try:
            return files.read_json(self.path(run) / name)
        except (OSError, ValueError) as error:
            raise self._broken(run, name, str(error)) from None

    def _broken(self, run: str, name: str, why: str) -> FrugalError:
        file = self.path(run) / name
        return FrugalError(f"{file}: cannot be read ({why}); the next sweep runs it again")

    def mending(self) -> files.Mending:
        """One line about a full disk, or a folder that cannot be written."""
        return files.mending(
            self.folder,
            full="the runs that are done are kept. Make room and start the sweep again",
            denied="name another store",
        )

    def compute(self, spec: RunSpec) -> None:
        """Run `spec` here and keep what comes of it; only for the holder of its lock."""
        with self.mending():
            with self.log(spec.id) as log:
                found = attempt(spec, log)
            self.keep(spec, found)

    def log(self, run: str) -> TextIO:
        """The run's log, to add to what every attempt printed."""
        file = self.path(run) / "log.txt"
        return file.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def keep(self, spec: RunSpec, found: Attempt) -> None:
        """Write down what came of an attempt, the result last; only for the lock's holder."""
        folder = self.path(spec.id)
        files.sweep(folder)
        if found.result is None:
            files.write(folder / "error.txt", found.error or "")
            return
        (folder / "error.txt").unlink(missing_ok=True)
        took = found.model_dump_json(include=set(Took.model_fields), indent=2)
        files.write(folder / "machine.json", took)
        result = {**found.result, _DIGEST: digests.of(found.result)}
        files.write(folder / "result.json", json.dumps(result, indent=2))

    def error(self, run: str) -> str | None:
        """How the last attempt ended, if it failed."""
        try:
            return (self.path(run) / "error.txt").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def state(self, run: str) -> State:
        if self.done(run):
            return "done"
        lock = self.lock(run)
        if Path(lock.lock_file).exists():
            try:
                with lock.acquire(blocking=False):
                    pass
            except TimeoutError:
                return "running"
        return "failed" if self.error(run) is not None else "waiting"


def _of_version(key: int) -> str:
    return (
        f"its runs have keys of version {key}, which do not hold what was read; this is version "
        f"{KEY}. They can be reported, but not continued: name another store"
    )


def _parsed(file: Path) -> RunSpec:
    """The spec that a file holds; FrugalError where it holds none, or not the one of its folder."""
    try:
        found = files.read_json(file)
        key = found.setdefault("key", 1)  # which version 1 did not say
        if isinstance(key, int) and key > KEY:
            raise FrugalError(
                f"{file}: it was changed, or written by a newer version: its key is of version "
                f"{key}, and this is version {KEY}"
            )
        spec = RunSpec.model_validate(found)
        if spec.id != file.parent.name:
            raise FrugalError(f"{file}: it was changed; its content now has the id {spec.id}")
        return spec
    except FrugalError:
        raise
    except ValidationError as error:
        raise FrugalError(f"{file}: not a run's spec: {first_problem(error)}") from error
    except (OSError, ValueError) as error:
        raise FrugalError(f"{file}: not a run's spec: {error}") from error
