"""log p by blocks of words equals log p from all logits, and so do gradients."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from allocations import Largest
from frugal.errors import FrugalError
from frugal.kernels import frozen_vocab
from frugal.kernels.frozen_vocab import IGNORE, reference, token_logp


@pytest.fixture(autouse=True)
def _the_same_numbers_every_time():
    torch.manual_seed(0)


def drawn(places, words, depth, tokens, biased=True, dtype=torch.float32):
    h, weight = torch.randn(places, depth), torch.randn(words, depth)
    bias = torch.randn(words).to(dtype) if biased else None
    return (
        h.to(dtype).requires_grad_(),
        weight.to(dtype),
        torch.randint(words, (tokens,)),
        torch.randint(max(1, places), (tokens,)),
        bias,
    )


def gradient(function, h, *more, g):
    (found,) = torch.autograd.grad(function(h, *more), h, g)
    return found


@given(
    places=st.integers(1, 20),
    words=st.integers(1, 70),
    depth=st.integers(1, 20),
    tokens=st.integers(0, 30),
    block=st.integers(1, 80),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    biased=st.booleans(),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None)
def test_blocks_of_words_make_no_difference(
    places, words, depth, tokens, block, ignored, biased, seed
):
    torch.manual_seed(seed)
    inputs = drawn(places, words, depth, tokens, biased)
    target = inputs[2]
    target[torch.rand(tokens) < ignored] = IGNORE
    g = torch.randn(tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen_vocab, "BLOCK", block)
        patch.setattr(frozen_vocab, "LEAST", block)
        found = token_logp(*inputs)
        dh = gradient(token_logp, *inputs, g=g)
        with torch.no_grad():
            assert torch.equal(token_logp(*inputs), found)
    expected = reference(*inputs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dh, gradient(reference, *inputs, g=g), atol=1e-5, rtol=1e-4)
    assert not found[target == IGNORE].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halfs_are_as_a_linear_map_of_halfs_has_them(dtype):
    inputs = drawn(5, 300, 40, 30, dtype=dtype)
    torch.testing.assert_close(token_logp(*inputs), reference(*inputs), atol=1e-5, rtol=1e-5)
    g = torch.randn(30)
    found, expected = (gradient(f, *inputs, g=g) for f in (token_logp, reference))
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)
    # One product's rounding apart from each other, and neither nearer to the truth.
    exact = gradient(reference, *(x if x.dtype == torch.long else x.float() for x in inputs), g=g)
    assert (found - exact).norm() < 1.5 * (expected - exact).norm() + 1e-3


def test_autocast_is_obeyed():
    inputs = drawn(5, 300, 40, 30)
    g = torch.randn(30)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = token_logp(*inputs), reference(*inputs)
        dh = gradient(token_logp, *inputs, g=g)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(found, token_logp(*inputs))
    assert dh.dtype == torch.float32
    exact = gradient(token_logp, *inputs, g=g)
    assert (dh - exact).norm() < 0.05 * exact.norm()  # 0.025 at most in 300 draws


def test_probabilities_of_all_words_add_up_to_one_and_none_is_above_it():
    h, weight, *_ = drawn(3, 5000, 8, 0)
    every = torch.arange(5000).repeat(3), torch.arange(3).repeat_interleave(5000)
    logp = token_logp(30 * h, weight, *every).view(3, -1)
    torch.testing.assert_close(logp.exp().sum(1), torch.ones(3), atol=1e-4, rtol=0)
    assert logp.max() <= 0


def test_no_place_and_no_token():
    h, weight, _, _, bias = drawn(0, 7, 3, 0)
    nothing = torch.zeros(0, dtype=torch.long)
    found = token_logp(h, weight, nothing, nothing, bias)
    assert found.shape == (0,)
    assert gradient(token_logp, h, weight, nothing, nothing, bias, g=torch.zeros(0)).shape == (0, 3)


@pytest.mark.parametrize(
    ("places", "words", "most"), [(200, 50_000, frozen_vocab.BLOCK), (5000, 2000, 256 * 5000)]
)
def test_nothing_is_held_of_all_places_and_words(places, words, most):
    inputs = drawn(places, words, 4, 1000)
    with Largest() as plain:
        reference(*inputs)
    assert plain.elements == places * words
    with Largest() as largest:
        gradient(token_logp, *inputs, g=torch.ones(1000))
    assert largest.elements <= most


def test_no_product_is_computed_twice_and_none_for_a_gradient_that_nobody_wants():
    inputs = drawn(20, 3000, 16, 30)
    one = 2 * 20 * 3000 * 16  # FLOPs of h W, as many as of p W
    with FlopCounterMode(display=False) as step:
        gradient(token_logp, *inputs, g=torch.ones(30))
    with FlopCounterMode(display=False) as scoring, torch.no_grad():
        token_logp(*inputs)
    assert (step.get_total_flops(), scoring.get_total_flops()) == (2 * one, one)


@pytest.mark.parametrize(
    ("is_cuda", "capability", "installed", "suits"),
    [
        (False, (9, 0), True, False),
        (True, (9, 0), False, False),
        (True, (7, 5), True, False),
        (True, (8, 0), True, True),
    ],
)
def test_triton_serves_where_it_is_and_has_tensor_cores(
    is_cuda, capability, installed, suits, monkeypatch
):
    states = SimpleNamespace(is_cuda=is_cuda, device="cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed or None)
    assert frozen_vocab._suits_triton(states) is suits


def test_what_does_not_fit_is_refused():
    h, weight, target, row, _ = drawn(5, 7, 3, 4)
    for wrong in ((h[:, :2], weight, target, row), (h, weight, target[:3], row)):
        with pytest.raises(FrugalError, match="do not fit"):
            token_logp(*wrong)
    for token in (7, -1):
        target[2] = token
        with pytest.raises(FrugalError, match="not among the vocabulary's 7"):
            token_logp(h, weight, target, row)
    with pytest.raises(FrugalError, match="not frozen"):
        token_logp(h, weight.requires_grad_(), target, row)
