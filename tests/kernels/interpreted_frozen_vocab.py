"""Triton's `frozen_vocab` on CPU tensors; test_triton.py runs it, in its own process."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from interpreting import DTYPES, tolerance

from frugal.kernels import frozen_vocab, frozen_vocab_gpu


@given(
    places=st.sampled_from([1, 2, 63, 64, 65]),
    words=st.sampled_from([1, 2, 127, 128, 129, 300, 700]),
    depth=st.sampled_from([1, 16, 31, 64, 70]),
    tokens=st.integers(0, 40),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
    biased=st.booleans(),
    turned=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**16),
)
def test_log_probabilities_and_the_gradient_are_the_reference_s(
    places, words, depth, tokens, ignored, biased, turned, dtype, seed
):
    torch.manual_seed(seed)
    weight = (
        torch.randn(depth, words).to(dtype).T if turned else torch.randn(words, depth).to(dtype)
    )
    bias = torch.randn(words).to(dtype) if biased else None
    h = torch.randn(places, depth).to(dtype)
    target, row = torch.randint(words, (tokens,)), torch.randint(places, (tokens,))
    target[torch.rand(tokens) < ignored] = frozen_vocab.IGNORE
    g = torch.randn(tokens)

    exact = h.double().requires_grad_()
    expected = frozen_vocab.reference(
        exact, weight.double(), target, row, None if bias is None else bias.double()
    )
    expected.backward(g)
    mine = h.clone().requires_grad_()
    found = frozen_vocab._TokenLogp.apply(mine, weight, bias, target, row, True)
    found.backward(g)
    # Products of halfs are exact in fp32, so log p is as good as theirs; p and dh are rounded once.
    torch.testing.assert_close(found.double(), expected.double(), atol=2e-4, rtol=1e-5)
    torch.testing.assert_close(mine.grad.double(), exact.grad, **tolerance(dtype))
    nothing = target == frozen_vocab.IGNORE
    assert not found[nothing].any()
    assert not mine.grad[sorted(set(range(places)) - set(row[~nothing].tolist()))].any()


def test_no_place_is_no_work():
    h = torch.zeros(0, 8, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.long)
    found = frozen_vocab._TokenLogp.apply(h, torch.randn(9, 8), None, nothing, nothing, True)
    found.sum().backward()
    assert found.shape == (0,)
    assert h.grad.shape == (0, 8)


@pytest.mark.parametrize("words", [128 * 9, 128 * 9 + 1, 128 * 10])
def test_words_are_shared_out_to_the_last_one(words, monkeypatch):
    monkeypatch.setattr(frozen_vocab_gpu, "PROGRAMS", 4)  # fewer than there are blocks
    h, weight = torch.randn(1, 16), torch.randn(words, 16)
    lse = frozen_vocab_gpu.log_partition(h, weight, None)
    torch.testing.assert_close(lse, (h @ weight.T).logsumexp(1))
    mean = frozen_vocab_gpu.mean_word(h, weight, None, lse)
    torch.testing.assert_close(mean, (h @ weight.T).softmax(1) @ weight, atol=1e-5, rtol=1e-4)
