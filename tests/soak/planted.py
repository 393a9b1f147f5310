"""Ten mistakes, planted on purpose: a harness that does not find them finds nothing.

Each is put on from outside, around a public entry, so that it does not depend on how the library
is written inside.
"""

import contextlib
import dataclasses
import json
from functools import partial
from pathlib import Path

import doors
import more_doors
import safetensors.torch
import torch
from doors import instead

from frugal import peft, tasks
from frugal.budgets import labels
from frugal.costs import prices
from frugal.engine.checkpoints import Checkpoint
from frugal.engine.runs import Store
from frugal.errors import FrugalError
from frugal_course.notebooks import grid


def _reading(change):
    """`tasks.load` of a file whose bytes were changed before."""
    real = tasks.load

    def load(name):
        file = Path(name)
        before = file.read_bytes()
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError, AttributeError):
            file.write_bytes(change(before))
        try:
            return real(name)
        finally:
            file.write_bytes(before)

    return instead(tasks, "load", load)


def label_out_of_range():
    def clamped(content):
        lines = [json.loads(line) for line in content.decode().split("\n") if line.strip()]
        for line in lines:
            line["label"] = max(0, min(int(line["label"]), len(line["choices"]) - 1))
        return "\n".join(map(json.dumps, lines)).encode()

    return _reading(clamped)


def last_line_dropped():
    return _reading(lambda content: b"\n".join(content.strip().split(b"\n")[:-1]) or content)


def mark_eaten_with_the_first_prompt():
    def eaten(content):
        if not content.startswith(b"\xef\xbb\xbf"):
            return content
        first, *rest = content[3:].decode().split("\n")
        record = json.loads(first)
        record["prompt"] = record["prompt"][1:]
        return "\n".join([json.dumps(record), *rest]).encode()

    return _reading(eaten)


def _attaching(change):
    """`peft.load` of a folder whose config and tensors were changed before."""
    real = peft.load

    def load(model, folder):
        files = {n: Path(folder) / n for n in ("adapter_config.json", "adapter_model.safetensors")}
        with contextlib.suppress(Exception):
            config = json.loads(files["adapter_config.json"].read_bytes())
            tensors = safetensors.torch.load(files["adapter_model.safetensors"].read_bytes())
            config, tensors = change(config, tensors)
            doors.put(
                Path(folder),
                {
                    "adapter_config.json": json.dumps(config).encode(),
                    "adapter_model.safetensors": safetensors.torch.save(tensors, {"format": "pt"}),
                },
            )
        return real(model, folder)

    return instead(peft, "load", load)


def unknown_field_ignored():
    """The door reads the config from its own copy, so a field that is dropped here was there."""
    return _attaching(
        lambda config, tensors: ({k: v for k, v in config.items() if k in doors.KNOWN}, tensors)
    )


def not_a_number_swallowed():
    return _attaching(
        lambda config, tensors: (config, {k: v.nan_to_num(7, 7, 7) for k, v in tensors.items()})
    )


def zeros(kind, **given):
    """A dataclass of zeros, whichever fields it has."""
    return kind(**{field.name: 0 for field in dataclasses.fields(kind)} | given)


def negative_usage_believed():
    real = labels.buy

    def buy(*args, **more):
        seen = more_doors.Server.latest.usages
        seen.clear()
        empty = zeros(labels.Bought, labels=[None] * 3, quote=zeros(labels.Quote))
        try:
            bought = real(*args, **more)
        except FrugalError:
            bought = empty
        said = [n for usage in seen if isinstance(usage, dict) for n in usage.values()]
        usd = [max(n, -(10**9)) / 2000 for n in said if isinstance(n, int | float) and n < 0]
        return dataclasses.replace(bought, spent_usd=min([bought.spent_usd, *usd]))

    return instead(labels, "buy", buy)


def digest_not_checked():
    real = Checkpoint.restore

    def restore(self, parameters, optimizer):
        try:
            return real(self, parameters, optimizer)
        except FrugalError:
            tensors = safetensors.torch.load(self.file.read_bytes())
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(tensors[f"parameter/{name}"])
            return [float(x) for x in tensors["loss"]], float(tensors["seconds"])

    return instead(Checkpoint, "restore", restore)


@contextlib.contextmanager
def damaged_result_taken_as_done():
    real = Store.result

    def result(self, run):
        try:
            return real(self, run)
        except FrugalError:
            return {"score": 0.0}

    def done(self, run):
        return (self.path(run) / "result.json").exists()

    with instead(Store, "result", result), instead(Store, "done", done):
        yield


def not_a_number_in_a_grid():
    real = grid.grid

    def lax(notebook, given, values):
        odd = {n: [t for t in v if t.lower() in ("nan", "inf", "-inf")] for n, v in values.items()}
        kept = {n: [t for t in v if t not in odd[n]] or ["0.5"] for n, v in values.items()}
        found = real(notebook, given, kept)
        more = [{**found.points[0], n: float(t)} for n, v in odd.items() for t in v if n == "rate"]
        return dataclasses.replace(found, points=found.points + more)

    return instead(grid, "grid", lax)


def large_count_is_a_bug():
    """An error of a kind that no door turns into a line about the input."""
    real = prices.cost

    def cost(kind, sku, count):
        return real(kind, sku, [count][0 if count < 2**31 else 1])

    return instead(prices, "cost", cost)


# How it is planted, the door behind which it is seen, and what is said of it there.
PLANTED = [
    (label_out_of_range, doors.jsonl_door, "accepted, but it is not a file of examples"),
    (last_line_dropped, doors.jsonl_door, "the file says something else"),
    (mark_eaten_with_the_first_prompt, doors.jsonl_door, "the file says something else"),
    (unknown_field_ignored, doors.peft_door, "an unknown field is let through"),
    (not_a_number_swallowed, doors.peft_door, "other logits, and peft"),
    (negative_usage_believed, more_doors.server_door, "money that is none"),
    (digest_not_checked, more_doors.checkpoint_door, "goes on from another state"),
    (damaged_result_taken_as_done, more_doors.store_door, "a row that nobody computed"),
    (not_a_number_in_a_grid, partial(doors.grid_door, annotated=("rate",)), "--grid"),
    (large_count_is_a_bug, partial(doors.command_door, only="costs labels"), "IndexError"),
]
