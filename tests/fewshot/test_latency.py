"""What is timed is what is counted: the FLOPs beside the seconds are those that run."""

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from frugal.costs import arch
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import latency
from frugal.fewshot.latency import Work


@pytest.mark.parametrize(
    "work",
    [Work(1, 12), Work(3, 4), Work(3, 4, "decode"), Work(2, 5, context=7)],
    ids=str,
)
def test_flops_equal_the_counter(tiny, work):
    tiny.model.set_attn_implementation("eager")
    run = latency.prepare(tiny, work)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run()
    assert work.flops(arch.from_config(tiny.model.config)) == counter.get_total_flops()


def test_cached_and_decoded_logits_are_those_of_one_pass(tiny):
    """The same tokens give the same prediction, however they are fed."""
    with torch.inference_mode():
        once, stepwise = (latency.prepare(tiny, Work(2, 6, k))() for k in latency.KINDS)
        again = latency.prepare(tiny, Work(2, 6, context=3))
        first, second = again(), again()
    torch.testing.assert_close(once, stepwise)
    assert torch.equal(first, second)  # a run leaves the cache as it was
    assert not torch.allclose(first, once)


def test_every_run_is_a_row(tiny):
    works = latency.splits([8], [1, 4]) + latency.splits([8], [2], "decode")
    runs = latency.measure(tiny, works, repeats=3)
    assert len(runs) == 9
    assert (runs["seconds"] > 0).all()
    assert (runs["batch"] * runs["tokens"] == 8).all()
    assert list(runs["repeat"]) == [0] * 3 + [1] * 3 + [2] * 3
    assert runs.groupby(["kind", "batch"])["flops"].nunique().eq(1).all()


def test_medians():
    runs = pd.DataFrame(
        {
            "kind": "prefill",
            "batch": 1,
            "tokens": [4, 4, 4, 8, 8, 8],
            "context": 0,
            "flops": [10, 10, 10, 20, 20, 20],
            "seconds": [1.0, 5.0, 2.0, 4.0, 4.0, 4.0],
        }
    )
    found = latency.medians(runs)
    assert list(found["seconds"]) == [2, 4]
    assert list(found["spread"]) == [5, 1]
    assert list(found["flops_per_second"]) == [5, 5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tiny: Work(0, 3), "batch"),
        (lambda tiny: Work(1, 3, "decoding"), "did you mean 'decode'"),
        (lambda tiny: Work(1, 3, "decode", context=2), "context"),
        (lambda tiny: latency.splits([10], [4]), "4 sequences cannot share 10 tokens"),
        (lambda tiny: latency.measure(tiny, [Work(1, 1)], 0), "repeats"),
        (lambda tiny: latency.prepare(tiny, Work(1, 4000)), "takes 2048"),
        (
            lambda tiny: latency.prepare(
                Backbone("t", tiny.model, None, "encoder-decoder"), Work(1, 1)
            ),
            "encoder-decoder",
        ),
    ],
)
def test_nonsense_is_one_clear_error(tiny, call, message):
    with pytest.raises(FrugalError, match=message):
        call(tiny)
