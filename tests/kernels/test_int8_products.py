"""Products with int8 weights against a plain reference, exact, and each token by itself."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from frugal.kernels import int8
from frugal.kernels import int8_products as products


def layer(inputs=24, outputs=40, bias=False):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


@st.composite
def problems(draw):
    """An input with loud, quiet and silent tokens and channels, and layers that read it.

    Some of their output channels are loud or silent.
    """
    n, seed = draw(st.integers(1, 70) | st.just(400)), draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    shape = draw(st.sampled_from([(n,), (1, n), (3, n), (2, 5, n), (19, n), (1, 40, n)]))
    x = torch.randn(shape, generator=generator)
    x *= 10 ** (4 * torch.rand(shape[:-1], generator=generator)[..., None] - 2)
    x *= 10 ** (2 * torch.rand(n, generator=generator))
    if draw(st.booleans()):
        x.view(-1, n)[0] = 0
    if draw(st.booleans()):
        x.view(-1, n)[-1, n // 2] = 1e4 * x.abs().max()
    sizes = draw(st.lists(st.integers(1, 50), min_size=1, max_size=3))
    weights = [torch.randn(size, n, generator=generator) for size in sizes]
    if draw(st.booleans()):
        weights[0][0], weights[-1][-1, n // 3] = 0, 1e3
    smoothed = draw(st.booleans())
    return x, weights, x.abs().reshape(-1, n).amax(0) if smoothed else None


@given(problems(), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(deadline=None, max_examples=60)
def test_the_fast_form_has_the_references_bits_forward_and_backward(problem, dtype):
    x, weights, inputs = problem
    joined = int8.Joined(weights, inputs)
    x = x.to(dtype).requires_grad_()
    found = [joined(x, i) for i in range(len(weights))]
    expected = products.reference(x.detach().reshape(-1, x.shape[-1]), joined.weights)
    assert [f.dtype for f in found] == [dtype] * len(found)
    flat = torch.cat([f.reshape(-1, f.shape[-1]) for f in found], dim=1)
    assert torch.equal(flat, expected.to(dtype))
    upstream = [torch.randn_like(f) for f in found]
    torch.autograd.backward(found, upstream)
    g = torch.cat([u.reshape(-1, u.shape[-1]) for u in upstream], dim=1)
    back = products.gradient_reference(g, joined.weights)
    assert torch.equal(x.grad.reshape(back.shape), back.to(dtype))


@given(problems())
@settings(deadline=None, max_examples=60)
def test_the_error_is_at_most_half_a_step_of_each_rounding(problem):
    x, weights, inputs = problem
    joined = int8.Joined(weights, inputs)
    shrink = joined.shrink.double()
    x, w = x.reshape(-1, x.shape[-1]).double(), torch.cat(weights).double()
    small, large = x * shrink, w / shrink  # x / c, W c
    step_x = small.abs().amax(1, keepdim=True) / 127
    step_w = large.abs().amax(1) / 127
    found = torch.cat([joined(x.float(), i) for i in range(len(weights))], dim=1)
    # Σ_j |x_j| s_W/2 + |W_j| s_x/2 + s_x s_W/4
    bound = small.abs().sum(1, keepdim=True) * step_w / 2 + large.abs().sum(1) * step_x / 2
    bound = bound + x.shape[1] * step_x * step_w / 4
    exact = x @ w.T
    rounding = 1e-5 * (small.abs() @ large.abs().T)  # of float32
    assert bool(((found.double() - exact).abs() <= bound + rounding).all())


def test_a_loud_token_is_rounded_twice_and_the_others_are_not():
    x = torch.randn(6, 400)
    x[[1, 4], 7] = 1000
    (found,) = int8.quantised([layer(400, 30)])
    weight = products.dequantised(found.joined.weights)
    exact = x @ weight.T  # the rounding of the weights apart
    step = x.abs().amax(1) / 127
    error = (found(x) - exact).abs().amax(1) / step / weight.abs().sum(1).max()
    bound = 1 / 127 / 2 / 2  # half a step of a step's half: what is left is at most that
    assert bool((error[[0, 2, 3, 5]] > bound).all())
    assert bool((error[[1, 4]] < bound).all())
    assert torch.equal(found(x[1:2])[0], found(x)[1])


def test_a_loud_output_channel_is_rounded_twice_and_the_others_are_not():
    one = layer(400, 30)
    with torch.no_grad():
        one.weight[[1, 4], 7] = 10
    (found,) = int8.quantised([one])
    assert found.joined.loud.tolist() == [1, 4]
    assert len(found.joined.rest) == 2
    error = products.dequantised(found.joined.weights) - one.weight
    error = error.abs().amax(1) / one.weight.abs().amax(1) * 127  # in steps
    assert bool((error[[1, 4]] < 0.5 / 127).all())
    assert bool((error[[0, 2, 3, *range(5, 30)]] > 0.4).all())


WAYS = (
    products.product,
    products._by_floats,
    lambda a, b: products._floats_(products._padded(a, b)),
)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_products_of_integers_are_exact_in_each_way_that_they_are_made(m, k, n, seed):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(-127, 128, (m, k), generator=generator, dtype=torch.int8)
    b = torch.randint(-127, 128, (k, n), generator=generator, dtype=torch.int8)
    expected = a.long() @ b.long()
    for laid_out in (b, b.T.contiguous().T):
        for way in WAYS:
            found = way(a, laid_out)
            assert found.dtype == torch.float32
            assert torch.equal(found.long(), expected)


@pytest.mark.parametrize("k", [1024, 1025, 2048, 2049, 4097, 9001])
def test_sums_that_no_float32_holds_are_rounded_once(k):
    a = torch.full((18, k), 127, dtype=torch.int8)
    a[9] = -127
    a[3, ::7] = 5
    expected = (a.long() @ a.long().T).float()
    assert k < 1041 or int(expected[0, 0]) > 2**24  # beyond which a float32 has even numbers alone
    for way in WAYS:
        assert torch.equal(way(a, a.T), expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(way(a, a.T), expected)


def test_integer_units_are_taken_where_they_are_exact_and_fast(monkeypatch):
    """Both say the same of this machine's time, whichever it is; what is not exact is not taken."""
    took = products._integer_units.__wrapped__
    monkeypatch.setattr(products, "_seconds", lambda way, a: 1 + (way is products._by_floats))
    assert took("cpu")
    monkeypatch.setattr(products, "_seconds", lambda way, a: 1 + (way is not products._by_floats))
    assert not took("cpu")
    real = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: real(a, b).clamp(-(2**15), 2**15))
    monkeypatch.setattr(products, "_seconds", lambda way, a: 1 + (way is products._by_floats))
    assert not took("cpu")


def test_without_integer_units_the_answers_are_the_same(monkeypatch):
    joined = int8.Joined([torch.randn(20, 30)], None)
    x = torch.randn(5, 30)
    expected = joined(x, 0)
    monkeypatch.setattr(products, "_integer_units", lambda device: False)
    assert torch.equal(joined(x, 0), expected)


def test_a_tokens_values_do_not_depend_on_its_neighbours():
    (found,) = int8.quantised([layer(bias=True)])
    x = torch.randn(7, 3, 24) * torch.logspace(-3, 3, 7)[:, None, None]
    whole = found(x)
    for i in range(7):
        assert torch.equal(found(x[i : i + 1])[0], whole[i])
        for j in range(3):
            assert torch.equal(found(x[i, j]), whole[i, j])


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_value_that_is_not_finite_spoils_its_token_alone(value):
    (found,) = int8.quantised([layer()])
    x = torch.randn(3, 24)
    expected = found(x)
    x[1, 5] = value
    spoilt = found(x)
    assert not spoilt[1].isfinite().any()
    assert torch.equal(spoilt[[0, 2]], expected[[0, 2]])


def test_an_input_may_lie_in_memory_in_any_order():
    (found,) = int8.quantised([layer()])
    x = torch.randn(5, 24, 3).transpose(1, 2).requires_grad_()
    y = found(x)
    assert torch.equal(y, found(x.contiguous()))
    g = torch.randn(3, 40, 5).permute(2, 0, 1)
    a, b = (torch.autograd.grad(found(x), x, of)[0] for of in (g, g.contiguous()))
    assert torch.equal(a, b)


def test_without_rounding_only_the_weights_differ():
    one, x = layer(bias=True), torch.randn(5, 24)
    (found,) = int8.quantised([one], torch.rand(24) + 1)
    weight = products.dequantised(found.joined.weights)
    with products.unrounded():
        y = found(x)
    assert torch.allclose(y, x @ weight.T + one.bias, atol=1e-6)
    assert not torch.allclose(found(x), y, atol=1e-6)
