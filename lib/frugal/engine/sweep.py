"""Sweeps: many runs, in this process or on Ray, that may be killed at any moment and go on.

In line, a process takes one run after the other; a second process that is started on the same
store takes those that the first has not begun. On Ray, each run gets a fresh worker process on
whatever node has room, and only the process that started the sweep needs to see the store.
"""

import importlib.util
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from filelock import FileLock

from frugal.engine import stderr
from frugal.engine.runs import Attempt, RunSpec, Store, find, remote_attempt
from frugal.errors import FrugalError

POLL_SECONDS = 0.2  # between two looks at a run that another process computes
IN_FLIGHT = 256  # runs that are handed to Ray at once; each holds a lock, so a file, open
RETRIES = 5  # of a run whose worker or node died

Progress = Callable[[int, int], Any]  # runs done, runs in all


@dataclass(frozen=True)
class Plan:
    """What a sweep still costs: runs in all and done, FLOPs, hours of one device, USD."""

    runs: int
    done: int
    flops: float
    hours: float
    usd: float


def plan(
    specs: Sequence[RunSpec], store: Store, *, flops_per_second: float, usd_per_hour: float = 0.0
) -> Plan:
    """The cost of what is not done yet, before anything starts.

    flops_per_second: what one device achieves, above 0. Raises FrugalError for a job that was
    registered without its FLOPs.
    """
    specs = _once(specs)
    left = [spec for spec in specs if not store.done(spec.id)]
    flops = 0.0
    for spec in left:
        if (cost := find(spec.job).flops) is None:
            raise FrugalError(f"job {spec.job} does not say what it costs")
        flops += cost(**spec.params)
    hours = flops / flops_per_second / 3600
    return Plan(len(specs), len(specs) - len(left), flops, hours, hours * usd_per_hour)


def run(
    specs: Sequence[RunSpec],
    store: Store,
    *,
    ray: bool = False,
    stage: str = "",
    progress: Progress = lambda done, total: None,
) -> pd.DataFrame:
    """Compute every spec that has no result yet; the table of all of them, as `collect` gives it.

    ray:   on the cluster at RAY_ADDRESS, or else on a local one for this sweep alone
    stage: what its bar calls the runs

    Raises FrugalError after all others are done if some have failed; the next call tries those
    again.
    """
    specs = _once(specs)
    store.add(specs)
    with stderr.bar(len(specs), "runs", stage=stage) as shown:
        for done, _ in enumerate((_on_ray if ray else _in_line)(specs, store), start=1):
            progress(done, len(specs))
            shown(done)
    if failed := [spec.id for spec in specs if not store.done(spec.id)]:
        raise FrugalError(
            f"{len(failed)} of {len(specs)} runs failed; the first is {failed[0]}: "
            f"{store.error(failed[0])}; see {store.path(failed[0]) / 'log.txt'}"
        )
    return collect(store, specs)


def status(store: Store, specs: Sequence[RunSpec] | None = None) -> pd.DataFrame:
    """One row a run: id, job, state (done, running, failed or waiting) and its last error.

    specs: which runs, in which order; all of the store, by id, unless given
    """
    records = [
        {
            "id": spec.id,
            "job": spec.job,
            "state": store.state(spec.id),
            "error": store.error(spec.id),
        }
        for spec in (store.specs() if specs is None else specs)
    ]
    return pd.DataFrame(records, columns=["id", "job", "state", "error"])


def collect(store: Store, specs: Sequence[RunSpec] | None = None) -> pd.DataFrame:
    """One row a run that is done: id, job, preset, parameters, result, started, seconds, host.

    specs: as in `status`

    Raises FrugalError for a result that is damaged, which a sweep computes again.
    """
    records = [
        {
            "id": spec.id,
            "job": spec.job,
            "preset": spec.preset,
            **spec.params,
            **store.result(spec.id),
            **store.machine(spec.id),
        }
        for spec in (store.specs() if specs is None else specs)
        if (store.path(spec.id) / "result.json").exists()
    ]
    return pd.DataFrame(records)


def _once(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The specs without repetition, in order."""
    return list({spec.id: spec for spec in specs}.values())


def _taken(store: Store, spec: RunSpec) -> FileLock | None:
    """The run's lock, held by this process from now on; None where another one holds it."""
    lock = store.lock(spec.id)
    try:
        lock.acquire(blocking=False)
    except TimeoutError:
        return None
    return lock


def _in_line(specs: Sequence[RunSpec], store: Store) -> Iterator[RunSpec]:
    """Compute here what nobody else computes; yields each run that is finished."""
    waiting = list(specs)
    while waiting:
        busy = []
        for spec in waiting:
            if not store.done(spec.id):
                if (lock := _taken(store, spec)) is None:
                    busy.append(spec)
                    continue
                with _released(lock):
                    if not store.done(spec.id):  # the last holder may just have finished it
                        store.compute(spec)
            yield spec
        waiting = busy
        if waiting:
            time.sleep(POLL_SECONDS)


@contextmanager
def _released(*locks: FileLock) -> Iterator[None]:
    try:
        yield
    finally:
        for lock in locks:
            lock.release()


def _on_ray(specs: Sequence[RunSpec], store: Store) -> Iterator[RunSpec]:
    """The same on Ray: this process holds the locks and writes down what the workers send."""
    waiting = deque(specs)
    flying: dict[Any, tuple[RunSpec, FileLock]] = {}
    with _cluster(max((spec.num_gpus for spec in specs), default=0)) as ray:
        # A process of its own for each run: what it leaves in memory, on the GPU or in the global
        # state of some library dies with it.
        worker = ray.remote(max_calls=1, max_retries=RETRIES)(remote_attempt)
        try:
            while waiting or flying:
                for _ in range(min(len(waiting), IN_FLIGHT - len(flying))):
                    spec = waiting.popleft()
                    if store.done(spec.id):
                        yield spec
                    elif (lock := _taken(store, spec)) is None:
                        waiting.append(spec)  # another process computes it: look again later
                    elif store.done(spec.id):
                        lock.release()
                        yield spec
                    else:
                        task = worker.options(num_gpus=spec.num_gpus, name=spec.id)
                        flying[task.remote(spec.model_dump_json())] = spec, lock
                if not flying:
                    time.sleep(POLL_SECONDS)
                    continue
                landed, _ = ray.wait(list(flying), timeout=POLL_SECONDS if waiting else None)
                for reference in landed:
                    spec, lock = flying.pop(reference)
                    with _released(lock), store.mending():
                        found, printed = _sent(ray, reference)
                        with store.log(spec.id) as log:
                            log.write(printed)
                        store.keep(spec, found)
                    yield spec
        finally:
            for _, lock in flying.values():
                lock.release()


def _sent(ray: Any, reference: Any) -> tuple[Attempt, str]:
    try:
        found, log = ray.get(reference)
    except ray.exceptions.RayError as error:  # it died as often as RETRIES allows
        text = " ".join(str(error).split())
        lost = Attempt(started="", seconds=0, host="", error=f"{type(error).__name__}: {text}")
        return lost, f"--- lost: {text}\n"
    return Attempt.model_validate_json(found), log


@contextmanager
def _cluster(gpus: float) -> Iterator[Any]:
    """Ray, connected: as it is, or to RAY_ADDRESS, or to a local cluster that ends with the sweep.

    Raises FrugalError without Ray, and where no run could ever start for want of GPUs.
    """
    if importlib.util.find_spec("ray") is None:
        raise FrugalError("--ray needs Ray: pip install 'frugal-companion[cluster]'")
    import ray

    mine = not ray.is_initialized()
    if mine:
        address = os.environ.get("RAY_ADDRESS")
        local: dict[str, Any] = {} if address else {"include_dashboard": False}
        ray.init(address or "local", **local, log_to_driver=False, logging_level=logging.WARNING)
    try:
        here = ray.cluster_resources().get("GPU", 0)
        if gpus > here:
            raise FrugalError(f"num_gpus: a run wants {gpus:g} GPUs, the cluster has {here:g}")
        yield ray
    finally:
        if mine:
            ray.shutdown()
