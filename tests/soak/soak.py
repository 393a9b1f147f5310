"""`make soak`: 20,000 odd inputs through all doors, within SECONDS.

    python tests/soak/soak.py [--seconds S] [--seed N] [--inputs N] [DOOR …]

Prints a table, then every finding with its smallest input. Exit status: how many findings there
are (255 at most), and at least 1 where a door saw fewer inputs than it must.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from doors import MAKERS as FILES
from harness import LEAST, Found, explore, table
from more_doors import MAKERS as RUNS

MAKERS = FILES | RUNS
INPUTS = 20_000
PARTS = 4


def shares(doors, inputs):
    """How many inputs each door gets: by its share, and no fewer than LEAST."""
    free = max(0, inputs - LEAST * len(doors))
    # A door with a share of 1 or less has what it must, the others what is left.
    over = {door.name: max(0.0, door.share - 1) for door in doors}
    whole = sum(over.values()) or 1.0
    return {name: LEAST + round(free * more / whole) for name, more in over.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("doors", nargs="*", choices=[[], *MAKERS], metavar="DOOR")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    until = time.monotonic() + asked.seconds
    with tempfile.TemporaryDirectory() as home:
        os.environ["FRUGAL_HOME"] = str(Path(home) / "home")
        doors = [MAKERS[name](Path(home)) for name in asked.doors or MAKERS]
        counts = shares(doors, asked.inputs)
        found = {door.name: Found(door.name) for door in doors}
        total = sum(counts.values())
        print(f"soak: seed {asked.seed}, {total} inputs, {asked.seconds:g} s at most", flush=True)
        for part in range(PARTS):  # so that a soak which is cut short has seen every door
            for door in doors:
                count, number = -(-counts[door.name] // PARTS), asked.seed * PARTS + part
                explore(door, count, number=number, until=until, found=found[door.name])
            sent = sum(each.counts["inputs"] for each in found.values())
            bad = sum(len(each.findings) for each in found.values())
            print(f"  {sent} inputs, {bad} findings", flush=True)
    found = list(found.values())
    print("\n" + table(found))
    findings = [finding for each in found for finding in each.findings.values()]
    for finding in findings:
        print(f"\n{finding}")
    short = [each.door for each in found if each.counts["inputs"] < LEAST]
    if short:
        print(f"\nfewer than {LEAST} inputs within {asked.seconds:g} s: {', '.join(short)}")
    print(f"\n{len(findings)} findings")
    return min(255, len(findings) + bool(short))


if __name__ == "__main__":
    sys.exit(main())
