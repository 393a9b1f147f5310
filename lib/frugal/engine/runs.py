"""Runs: what to compute, written as data, computed once, and kept in a folder of its own.

    STORE/runs/<id>/spec.json     what to compute; its content hash is the id
    STORE/runs/<id>/log.txt       what every attempt printed
    STORE/runs/<id>/machine.json  where the result was computed, when, and in how many seconds
    STORE/runs/<id>/result.json   what was computed; it appears last, by one rename

`result.json` holds nothing that differs from one computation of the same spec to the next. A run
that has one is never computed again. A failed attempt leaves `error.txt` until the next one.
"""

import contextlib
import hashlib
import importlib
import io
import json
import math
import os
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

from frugal.errors import FrugalError, unknown

State = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True)
class Job:
    """A function that runs are made of, and what one call of it costs in FLOPs, if known."""

    function: Callable[..., Mapping[str, Any]]
    flops: Callable[..., float] | None = None


JOBS: dict[str, Job] = {}  # by "module:function"


def job(*, flops: Callable[..., float] | None = None) -> Callable[..., Any]:
    """Register the decorated function as a job, under the name "module:function".

    It takes a spec's params by name and returns a mapping that JSON can hold, with a finite
    `score`. What it prints goes to the run's log. `flops` takes the same params.
    """

    def register(function: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, Any]]:
        JOBS[f"{function.__module__}:{function.__qualname__}"] = Job(function, flops)
        return function

    return register


def find(name: str) -> Job:
    """The job called "module:function"; its module is imported if need be.

    Raises FrugalError where there is none: only what is registered can be run from a spec.
    """
    if name not in JOBS:
        try:
            importlib.import_module(name.partition(":")[0])
        except (ImportError, ValueError) as error:
            raise FrugalError(f"job {name!r}: its module cannot be imported ({error})") from error
    if name not in JOBS:
        raise unknown("job", name, JOBS)
    return JOBS[name]


class RunSpec(BaseModel):
    """What to compute: a job and its parameters. What needs it, and where, is not part of its id.

    num_gpus: GPUs that Ray reserves for it; a fraction lets several runs share one
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    params: dict[str, Any] = {}
    num_gpus: float = Field(0, ge=0)

    @field_validator("params")
    @classmethod
    def _plain(cls, params: dict[str, Any]) -> dict[str, Any]:
        """A copy as JSON gives it back, so that a spec read from disk equals the one written."""
        try:
            return dict(json.loads(json.dumps(params, allow_nan=False)))
        except TypeError as error:
            raise ValueError(str(error)) from error

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the sha256 of job and params, in canonical JSON."""
        content = {"job": self.job, "params": self.params}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Attempt(BaseModel):
    """What came of one attempt at a run: a result, or the error that ended it."""

    result: dict[str, Any] | None = None
    error: str | None = None
    started: str = ""
    seconds: float = 0.0
    host: str = ""


def attempt(spec: RunSpec, log: TextIO) -> Attempt:
    """Do what `spec` says; what it prints goes to `log`, and so does the traceback of an error."""
    started, clock = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.perf_counter()
    host = platform.node()
    log.write(f"--- {started} on {host}: {spec.job}\n")
    result, error = None, None
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            result = _checked(spec, find(spec.job).function(**spec.params))
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
            traceback.print_exc()
    seconds = time.perf_counter() - clock
    log.write(f"--- {'failed' if error else 'finished'} after {seconds:.1f} s\n")
    return Attempt(result=result, error=error, started=started, seconds=seconds, host=host)


def remote_attempt(spec: str) -> tuple[str, str]:
    """An attempt in another process: its `Attempt` and what it printed; JSON in and out."""
    log = io.StringIO()
    found = attempt(RunSpec.model_validate_json(spec), log)
    return found.model_dump_json(), log.getvalue()


def _checked(spec: RunSpec, result: Mapping[str, Any]) -> dict[str, Any]:
    """The result, if it can be kept and collected."""
    score = result.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise FrugalError(f"job {spec.job}: its score must be a finite number, not {score!r}")
    if both := sorted(result.keys() & spec.params.keys()):
        raise FrugalError(f"job {spec.job}: {', '.join(both)} is both a parameter and a result")
    return dict(json.loads(json.dumps(dict(result), allow_nan=False)))


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
        """Write down what is to be computed."""
        for spec in specs:
            file = self.path(spec.id) / "spec.json"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                write(file, spec.model_dump_json(indent=2))

    def specs(self) -> list[RunSpec]:
        """Every spec of the store, by id. Raises FrugalError for one that is not what it was."""
        found = []
        for file in sorted(self.folder.glob("runs/*/spec.json")):
            try:
                spec = RunSpec.model_validate_json(file.read_bytes())
            except ValidationError as error:
                problem = error.errors()[0]
                raise FrugalError(f"{file}: not a run's spec: {problem['msg']}") from error
            if spec.id != file.parent.name:
                raise FrugalError(f"{file}: it was changed; its content now has the id {spec.id}")
            found.append(spec)
        return found

    def done(self, run: str) -> bool:
        return (self.path(run) / "result.json").exists()

    def result(self, run: str) -> dict[str, Any]:
        """What the run computed; FrugalError where it is not done or its file is not readable."""
        return self._read(run, "result.json")

    def machine(self, run: str) -> dict[str, Any]:
        """`started`, `seconds` and `host` of the computation."""
        return self._read(run, "machine.json")

    def _read(self, run: str, name: str) -> dict[str, Any]:
        file = self.path(run) / name
        try:
            return dict(json.loads(file.read_bytes()))
        except (OSError, ValueError) as error:
            raise FrugalError(f"{file}: cannot be read ({error}); remove it to run again") from None

    def compute(self, spec: RunSpec) -> Attempt:
        """Run `spec` here and keep what comes of it; only for the holder of its lock."""
        with (self.path(spec.id) / "log.txt").open("a", encoding="utf-8", buffering=1) as log:
            found = attempt(spec, log)
        self.keep(spec, found)
        return found

    def keep(self, spec: RunSpec, found: Attempt) -> None:
        """Write down what came of an attempt, the result last; only for the lock's holder."""
        folder = self.path(spec.id)
        if found.result is None:
            write(folder / "error.txt", found.error or "")
            return
        (folder / "error.txt").unlink(missing_ok=True)
        took = found.model_dump(include={"started", "seconds", "host"})
        write(folder / "machine.json", json.dumps(took, indent=2))
        write(folder / "result.json", json.dumps(found.result, indent=2, ensure_ascii=False))

    def error(self, run: str) -> str | None:
        """How the last attempt ended, if it failed."""
        file = self.path(run) / "error.txt"
        return file.read_text(encoding="utf-8") if file.exists() else None

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


def write(file: Path, text: str) -> None:
    """Make `file` appear whole or not at all, even where the power goes."""
    staged = file.with_name(f".{file.name}.{platform.node()}.{os.getpid()}")
    with staged.open("w", encoding="utf-8") as out:
        out.write(text + "\n")
        out.flush()
        os.fsync(out.fileno())
    os.replace(staged, file)
