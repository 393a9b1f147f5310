"""Which texts to label: `make active` records data/results/active.csv.

Each way of choosing 32 texts from 200, ten times; a linear head on MiniLM learns their labels.
"""

import datetime
from importlib.metadata import version

import pandas as pd

from frugal import tasks
from frugal.choice import active
from frugal.engine import backbones, files, presets

TASKS = ("movie-reviews", "tweets", "intent-recognition")
PRECISION = "int8"  # of the model whose margins say where it is unsure


def main() -> None:
    lm = backbones.load("smollm2-135m", device="cpu", precision=PRECISION)
    encoder = backbones.load("minilm-l6", device="cpu")
    parts = []
    for name in TASKS:
        task = tasks.load(name)
        parts.append(active.study(task, lm, encoder, labels=32, pool=200, draws=10, limit=400))
        print(name, parts[-1].groupby("chooser")["accuracy"].mean().round(3).to_dict(), flush=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    found = pd.concat(parts).assign(
        precision=PRECISION,
        date=datetime.date.today().isoformat(),
        machine=presets.machine(),
        versions=versions,
    )
    files.write(active.RECORD, found.to_csv(index=False))
    for (task, chooser), apart in active.against_random(found).items():
        print(apart.of(chooser, "random", task))


if __name__ == "__main__":
    main()
