"""Jobs that take no time; the tests kill sweeps of them."""

import random
import time
from pathlib import Path

from frugal.engine import runs


def _journal(path, number):
    """One short line by one write: it is whole whoever else writes at the same time."""
    with Path(path).open("a") as file:
        file.write(f"{number}\n")


@runs.job(flops=lambda number, **_: 1000.0 * number)
def draw(number, journal, seconds=0.0):
    """Numbers that depend on the parameters alone."""
    _journal(journal, number)
    time.sleep(seconds)
    generator = random.Random(number)
    print(f"drew {number}")
    return {"score": generator.random(), "more": [generator.gauss() for _ in range(50)]}


@runs.job()
def fail_once(number, flag):
    if not Path(flag).exists():
        Path(flag).touch()
        raise RuntimeError(f"not yet {number}")
    return {"score": number}


@runs.job()
def returns(value, name="score"):
    return {name: value}


def unregistered():
    return {"score": 1}


def draws(count, journal, seconds=0.0):
    return [
        runs.RunSpec(
            job="tiny_jobs:draw",
            params={"number": i, "journal": str(journal), "seconds": seconds},
        )
        for i in range(count)
    ]
