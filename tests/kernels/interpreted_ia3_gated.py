"""Triton's `ia3_gated` on CPU tensors; test_triton.py runs it, in its own process."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from interpreting import DTYPES, tolerance

from frugal.kernels import ia3_gated, ia3_gated_gpu

# σ(x) = 1 / (1 + exp(-x)) is 0 where exp is infinite; NumPy, which plays the GPU, speaks up.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp")


@given(
    rows=st.integers(0, 5),
    length=st.sampled_from([1, 2, 15, 16, 17]),
    features=st.sampled_from([1, 127, 128, 200]),
    tasks=st.integers(1, 4),
    activation=st.sampled_from(list(ia3_gated.ACTIVATIONS)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**16),
)
def test_products_and_gradients_are_the_reference_s(
    rows, length, features, tasks, activation, dtype, seed
):
    torch.manual_seed(seed)
    gate, up, g = (3 * torch.randn(rows, length, features) for _ in range(3))
    gate, up, g = gate.to(dtype), up.to(dtype), g.to(dtype)
    scale, task = torch.randn(tasks, features), torch.randint(tasks, (rows,))

    exact = [x.double().requires_grad_() for x in (gate, up, scale)]
    expected = ia3_gated.reference(*exact, task, activation)
    expected.backward(g.double())
    mine = [x.clone().requires_grad_() for x in (gate, up, scale)]
    found = ia3_gated_gpu.Gated.apply(*mine, task, activation)
    found.backward(g)
    torch.testing.assert_close(found.double(), expected, **tolerance(dtype))
    for x, y in zip(mine, exact, strict=True):
        assert x.grad.dtype == x.dtype
        torch.testing.assert_close(x.grad.double(), y.grad, **tolerance(dtype))


def test_many_tokens_are_shared_out_and_a_task_without_any_gets_no_gradient(monkeypatch):
    monkeypatch.setattr(ia3_gated_gpu, "PROGRAMS", 18)  # three for a task and a block of features
    gate, up = torch.randn(2, 170, 130), torch.randn(2, 170, 130)
    scale = torch.ones(3, 130, requires_grad=True)
    ia3_gated_gpu.Gated.apply(gate, up, scale, torch.tensor([2, 0]), "silu").sum().backward()
    first, second = (torch.nn.functional.silu(gate) * up).sum(1)
    expected = torch.stack([second, torch.zeros(130), first])
    torch.testing.assert_close(scale.grad, expected, atol=1e-4, rtol=1e-4)
