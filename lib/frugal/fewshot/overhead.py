"""What a tuned model costs at inference: with its parameters beside the weights, and folded in.

(IA)³, LoRA and whatever changes weights alone can be folded, and then cost what the plain model
costs. Adapters, prefixes and prompts compute something that no weight can hold; so do biases where
the model has none. FLOPs are counted by closed form; seconds stand beside those of the plain model.
"""

from collections.abc import Iterable, Sequence

import pandas as pd
import torch

from frugal import data, peft
from frugal.costs import arch, check, methods
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError, unknown
from frugal.fewshot import latency
from frugal.fewshot.latency import Work

KEYS = ["name", "way", "batch", "tokens", "context"]


def measure(
    backbone: Backbone, names: Sequence[str], works: Sequence[Work], repeats: int
) -> pd.DataFrame:
    """Every method (of `data/figure2.toml`) on every work, `repeats` times; a row a run.

    Columns: name, way ("beside" the weights or "folded"), batch, tokens, context, repeat, flops and
    seconds, and plain_flops and plain_seconds of the model without it, which takes its turn just
    before. A method that cannot be folded has no such row. Nothing is trained: what a parameter
    costs does not depend on its value. Everything runs once unmeasured.
    """
    check.whole("repeats", repeats, least=1)
    known = data.toml("figure2.toml")
    shape = arch.from_config(backbone.model.config)
    plain = [latency.prepare(backbone, work) for work in works]
    records = []
    for name in names:
        if name not in known:
            raise unknown("method of Figure 2", name, known)
        method, options = known[name]["method"], known[name].get("options", {})
        counted = methods.get(method, options)
        losses = _losses(backbone) if method == "fish" else None
        tuned = peft.attach(backbone.model, method, options, losses=losses)
        own = [latency.prepare(backbone, work) for work in works]
        for repeat in range(-1, repeats):
            with tuned.off():
                before = [_seconds(run, backbone) for run in plain]
            took = {"beside": [_seconds(run, backbone) for run in own]}
            if _merged(tuned):
                took["folded"] = [_seconds(run, backbone) for run in own]
                tuned.unmerge()
            for way, times in took.items():
                for work, alone, seconds in zip(works, before, times, strict=True):
                    bare = work.flops(shape)
                    flops = work.flops(shape, counted) if way == "beside" else bare
                    sizes = (work.batch, work.tokens, work.context)
                    records.append((name, way, *sizes, repeat, flops, seconds, bare, alone))
        tuned.detach()
    columns = [*KEYS, "repeat", "flops", "seconds", "plain_flops", "plain_seconds"]
    found = pd.DataFrame(records, columns=columns)
    return found[found["repeat"] >= 0].reset_index(drop=True)


@torch.inference_mode()
def _seconds(run: latency.Run, backbone: Backbone) -> float:
    return latency.seconds(run, backbone.device)


def _merged(tuned: peft.Tuned) -> bool:
    """Fold what is attached into the weights; whether that can be done."""
    try:
        tuned.merge()
    except FrugalError:
        return False
    return True


def _losses(backbone: Backbone) -> Iterable[torch.Tensor]:
    """Something for FISH to look at: which entries it chooses costs nothing."""
    ids = torch.arange(8, device=backbone.device)[None]
    return (backbone.model(ids).logits.square().mean() for _ in range(1))


def ratios(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a method, way and work: what it costs as a multiple of the plain model.

    Columns: name, way, batch, tokens, context, flops, seconds (median of the turns' ratios), and
    lowest and highest of these.
    """
    found = runs.assign(
        flops=runs["flops"] / runs["plain_flops"], seconds=runs["seconds"] / runs["plain_seconds"]
    )
    by = found.groupby(KEYS, sort=False)
    return by.agg(
        flops=("flops", "first"),
        seconds=("seconds", "median"),
        low=("seconds", "min"),
        high=("seconds", "max"),
    ).reset_index()
