"""What a method costs at inference is what the counter finds, and nothing once it is folded."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from frugal import data, peft
from frugal.costs import arch, methods
from frugal.errors import FrugalError
from frugal.fewshot import latency, overhead
from frugal.fewshot.latency import Work

WORKS = [Work(1, 12), Work(3, 5), Work(1, 1, context=7)]
NAMES = ["full", "bitfit", "layernorm", "adapter", "compacter", "prompt-10", "prefix"]
NAMES += ["fish 0.2 %", "said 20K", "lora", "ia3"]


def counted(backbone, work):
    run = latency.prepare(backbone, work)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("work", WORKS, ids=str)
def test_flops_equal_the_counter_beside_and_folded(tiny, name, work):
    tiny.model.set_attn_implementation("eager")
    shape = arch.from_config(tiny.model.config)
    entry = data.toml("figure2.toml")[name]
    method, options = entry["method"], entry.get("options", {})
    losses = overhead._losses(tiny) if method == "fish" else None
    tuned = peft.attach(tiny.model, method, options, losses=losses)
    assert counted(tiny, work) == work.flops(shape, methods.get(method, options))
    with tuned.off():
        plain = counted(tiny, work)
    assert plain == work.flops(shape)
    if overhead._merged(tuned):
        assert counted(tiny, work) == plain
        with pytest.raises(FrugalError, match="merged"), tuned.off():
            pass
    tuned.detach()


def test_prefix_networks_are_counted(tiny):
    tiny.model.set_attn_implementation("eager")
    shape = arch.from_config(tiny.model.config)
    tuned = peft.attach(tiny.model, "prefix", {"tokens": 3, "mlp": 7})
    method = methods.get("prefix", {"tokens": 3, "mlp": 7})
    assert counted(tiny, Work(2, 6)) == Work(2, 6).flops(shape, method)
    tuned.detach()


def test_every_run_stands_beside_the_plain_model(tiny):
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    runs = overhead.measure(tiny, ["adapter", "ia3"], WORKS[:2], repeats=2)
    assert len(runs) == (1 + 2) * 2 * 2  # an adapter has one way, (IA)³ two
    assert (runs[["seconds", "plain_seconds"]] > 0).all(axis=None)
    found = overhead.ratios(runs).set_index(["name", "way", "tokens"])
    assert set(found.loc["adapter"].index.get_level_values("way")) == {"beside"}
    assert (found.loc["ia3"]["flops"] == 1).all()
    assert (found.loc["adapter"]["flops"] > 1).all()
    assert (found["low"] <= found["seconds"]).all()
    assert (found["seconds"] <= found["high"]).all()
    assert all(torch.equal(p, before[name]) for name, p in tiny.model.named_parameters())


def test_an_unknown_method_is_named(tiny):
    with pytest.raises(FrugalError, match="did you mean 'lora'"):
        overhead.measure(tiny, ["lorra"], WORKS, repeats=1)
