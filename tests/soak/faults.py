"""`make soak`, second part: the long commands are broken at random moments, and go on.

    python tests/soak/faults.py [--seconds S] [--seed N] [JOB …]

Every command runs undisturbed once; then again and again with a fault (`breaking.KINDS`, a kill
or Ctrl-C from outside at a random moment, two processes whose locks lock nothing), followed by one
run without. That one must end well with the result of the undisturbed run; what was finished
before the fault must still be there; no server may have billed beyond the cap. Each run is a fork
of this process, which has imported everything and computed nothing.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

import httpx  # noqa: F401  imported before the forks, which need it
import jobs
import papermill  # noqa: F401
import torch  # noqa: F401
from breaking import KINDS, Breaking, install, without_locks

from frugal import cli  # noqa: F401
from frugal.budgets import study  # noqa: F401
from frugal.pretraining import pretrain  # noqa: F401
from frugal.spaces import train  # noqa: F401

LATER = {"kill from outside": signal.SIGKILL, "Ctrl-C from outside": signal.SIGINT}
ALL = (*KINDS, *LATER, "no locks")
KEPT = "frugal-kept-"  # how folders begin in which a result is kept that could not be written
LIMIT = 120.0  # seconds of one run; it hangs if it takes more
KEY = "sk-test-0123456789"  # of the tests' server


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit status (minus a signal), what it said, seconds, touches of the disk."""

    status: int
    err: str
    seconds: float
    touches: int


class Room:
    """A folder for one job, and the server that its children ask."""

    def __init__(self, place, job):
        self.job, self.place = job, place
        self.folder = place / "work"
        self.urls, self.server = {}, None

    def __enter__(self):
        self.folder.mkdir(parents=True)
        if "label" in self.job.name:
            command = [sys.executable, str(Path(__file__).with_name("billing.py"))]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            pipes["stderr"] = subprocess.DEVNULL  # clients that are killed hang up
            self.server = subprocess.Popen(command, **pipes)
            self.urls["chat"] = self.server.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        if self.server:
            self.server.stdin.close()
            self.server.wait(timeout=10)
            self.server.stdout.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def billed(self):
        """USD that the server has billed."""
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        _, (read, written) = json.loads(self.server.stdout.readline())
        return (read * jobs.PRICE[0] + written * jobs.PRICE[1]) / 1000

    def start(self, kind="", at=0, locks=True):
        """A child that does the job; its number."""
        sys.stdout.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
            child = os.fork()
        if child:
            return child
        status = 1
        try:
            status = self._work(kind, at, locks)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _work(self, kind, at, locks):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setpgid(0, 0)
        for number, name in ((1, "out"), (2, "err")):
            file = os.open(self.place / f"{name}.{os.getpid()}", os.O_CREAT | os.O_WRONLY)
            os.dup2(file, number)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), "utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(
            io.FileIO(2, "w"), "utf-8", "backslashreplace", write_through=True
        )
        journal = os.open(self.place / f"touches.{os.getpid()}", os.O_CREAT | os.O_RDWR)
        os.environ |= {"FRUGAL_HOME": str(self.folder / "home"), "OPENAI_API_KEY": KEY}
        os.environ.pop("FRUGAL_PRESET", None)
        os.chdir(self.folder)
        if not locks:
            without_locks()
        install(Breaking(kind, at, self.folder, journal))
        try:
            self.job.work(self.urls)
        except SystemExit as stop:
            return stop.code or 0
        return 0

    def wait(self, child, until=None, with_=signal.SIGKILL):
        """How the child ended; sent a signal at `until` (monotonic), and killed when it hangs."""
        began, killed = time.monotonic(), False
        while True:
            found, code = os.waitpid(child, os.WNOHANG)
            now = time.monotonic()
            if found:
                break
            if until and now > until:
                os.kill(child, with_)
                until = None
            if not killed and now > began + LIMIT:
                os.kill(child, signal.SIGKILL)
                killed = True
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # a kernel it has left behind
        err = (
            (self.place / f"err.{child}").read_text("utf-8", "replace") if self._has(child) else ""
        )
        touches = 0
        with contextlib.suppress(OSError, ValueError):
            touches = int((self.place / f"touches.{child}").read_bytes() or 0)
        if (out := self.place / f"out.{child}").exists():
            lines = out.read_text("utf-8", "replace").strip().splitlines()
            (self.folder / "out.json").write_text(lines[-1] if lines else "")
        seconds = now - began
        if killed:
            err += f"\nhangs for {LIMIT:g} s"
        return Ended(os.waitstatus_to_exitcode(code), err, seconds, touches)

    def _has(self, child):
        return (self.place / f"err.{child}").exists()


def listing(folder):
    """Folders below, and files of weights: what must not be left behind, and how many of it.

    A run is in its folder, whatever its id; what could not be written where it should be is kept
    in a folder of its own, and that is not counted: `trial` looks whether it was said.
    """
    found = [p for p in folder.rglob("*") if p.is_dir()] + [*folder.rglob("*.safetensors*")]
    names = [str(p.relative_to(folder)) for p in found]
    runs = (re.sub(r"(^|/)runs/[0-9a-f]{16}", r"\1runs/ID", name) for name in names)
    return Counter(name for name in runs if not name.startswith(KEPT))


def trial(job, kind, place, whole, at, delay):
    """One fault, and the run after it: what is wrong with them, in words."""
    problems = []
    wanted, _, names = whole
    with Room(place, job) as room:
        if kind == "no locks":
            both = [room.start(locks=False) for _ in range(2)]
            first = [room.wait(child) for child in both]
        elif kind in LATER:
            child = room.start()
            first = [room.wait(child, time.monotonic() + max(0.3, delay), LATER[kind])]
        else:
            first = [room.wait(room.start(kind, at))]
        for one in first:
            if "Traceback" in one.err:
                problems.append(f"traceback: {' '.join(one.err.split()[-30:])[-220:]}")
            if "hangs for" in one.err:
                problems.append("hangs")
            if (
                kind in ("full", "error")
                and one.status not in (0, 2)
                and "Traceback" not in one.err
            ):
                problems.append(f"exit status {one.status}: {one.err.strip()[-150:]}")
            if kind in ("interrupt", "Ctrl-C from outside") and one.status not in (0, 130):
                problems.append(f"interrupted, exit status {one.status}: {one.err.strip()[-150:]}")
            if unsaid := [p.name for p in room.folder.glob(f"{KEPT}*") if p.name not in one.err]:
                problems.append(f"kept without a word: {unsaid[0]}")
        before = job.lasting(room.folder)
        again = room.wait(room.start())
        if again.status:
            problems.append(f"the run after it fails ({again.status}): {again.err.strip()[-220:]}")
        else:
            found = job.result(room.folder)
            if found != wanted:
                problems.append(f"another result: {differs(found, wanted)}")
            if more := sorted((listing(room.folder) - names).elements()):
                problems.append(f"left behind: {', '.join(more)[:150]}")
        after = job.lasting(room.folder)
        if lost := [name for name, content in before.items() if after.get(name) != content]:
            problems.append(f"lost or computed again: {lost[0]} and {len(lost) - 1} more")
        if room.server:
            cap, billed = (0.5 if "small" in job.name else 50), room.billed()
            if kind == "no locks":
                cap += 4 * 0.3  # four requests are in flight, none of them above $0.30
            if billed > cap + 1e-9:
                problems.append(f"the cap is passed: ${billed:.4f} of ${cap}")
    return problems


def differs(mine, theirs, where=""):
    """The first place at which two results differ."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in [*theirs, *mine]:
            if mine.get(key) != theirs.get(key):
                return differs(mine.get(key), theirs.get(key), f"{where}.{key}")
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for i, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            if a != b:
                return differs(a, b, f"{where}.{i}")
    return f"{where}: {str(mine)[:80]} is not {str(theirs)[:80]}"


def touches(whole, job):
    """How often an undisturbed run of the job touches the disk."""
    return whole[job.name][1].touches


def undisturbed(job, place):
    """The result of a job that nothing disturbs, how it ended, and what it leaves."""
    with Room(place, job) as room:
        ended = room.wait(room.start())
        if ended.status:
            raise SystemExit(f"{job.name}: fails undisturbed: {ended.err[-500:]}")
        return job.result(room.folder), ended, listing(room.folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=4, help="of every fault on every command")
    parser.add_argument("jobs", nargs="*", metavar="JOB")
    asked = parser.parse_args()
    chosen = [job for job in jobs.JOBS if not asked.jobs or job.name in asked.jobs]
    until, chance = time.monotonic() + asked.seconds, random.Random(asked.seed)
    print(f"faults: seed {asked.seed}, {asked.seconds:g} s at most")
    counts, bad = {}, []
    with tempfile.TemporaryDirectory() as place:
        number, whole = 0, {}
        for job in chosen:
            whole[job.name] = undisturbed(job, Path(place) / "whole")
            ended = whole[job.name][1]
            print(f"  {job.name}: {ended.seconds:.1f} s, {ended.touches} touches", flush=True)
        pairs = [
            (job, kind)
            for job in chosen
            for kind in ALL
            if (job.shared if kind == "no locks" else kind not in KINDS or touches(whole, job))
        ]
        for _ in range(asked.rounds):
            chance.shuffle(pairs)  # so that what there is time for is a sample of all
            for job, kind in pairs:
                if time.monotonic() > until:
                    break
                number += 1
                ended, inside = whole[job.name][1], kind in KINDS
                at = chance.randint(1, max(1, ended.touches))
                delay = chance.uniform(0, ended.seconds)
                found = trial(job, kind, Path(place) / str(number), whole[job.name], at, delay)
                counts[job.name, kind] = counts.get((job.name, kind), 0) + 1
                how = f"touch {at} of {ended.touches}" if inside else f"after {delay:.3f} s"
                bad += [(job.name, kind, how, text) for text in found]
    print(f"\n{'command':20}" + "".join(f"{kind:>21}" for kind in ALL))
    for job in chosen:
        print(f"{job.name:20}" + "".join(f"{counts.get((job.name, kind), 0):>21}" for kind in ALL))
    for name, kind, how, text in bad:
        print(f"\n{name}, {kind} ({how}): {text}")
    print(f"\n{len(bad)} findings in {sum(counts.values())} faults")
    return min(255, len(bad))


if __name__ == "__main__":
    sys.exit(main())
