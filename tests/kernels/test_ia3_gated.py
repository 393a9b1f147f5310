"""The plain form of a gated feed-forward's middle; Triton's is held against it in test_triton."""

import importlib.util

import pytest
import torch

from frugal.errors import FrugalError
from frugal.kernels import ia3_gated


@pytest.mark.parametrize("activation", ia3_gated.ACTIVATIONS)
def test_each_row_has_the_scale_of_its_task(activation):
    gate, up, scale = torch.randn(3, 4, 5), torch.randn(3, 4, 5), torch.randn(2, 5)
    found = ia3_gated.gated(gate, up, scale, torch.tensor([1, 0, 1]), activation)
    act = {
        "silu": lambda x: x / (1 + (-x).exp()),
        "gelu": lambda x: x * torch.distributions.Normal(0, 1).cdf(x),
        "gelu_tanh": lambda x: x / 2 * (1 + ((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh()),
    }[activation]
    for row, task in enumerate([1, 0, 1]):
        torch.testing.assert_close(found[row], act(gate[row]) * up[row] * scale[task])


def test_the_activations_are_those_of_the_families():
    from transformers.activations import ACT2FN

    x = torch.linspace(-5, 5, 101)
    for theirs, ours in {"silu": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh"}.items():
        torch.testing.assert_close(ia3_gated.ACTIVATIONS[ours](x), ACT2FN[theirs](x))


def test_what_does_not_fit_is_refused():
    x, scale, task = torch.zeros(3, 4, 5), torch.zeros(2, 5), torch.zeros(3, dtype=torch.long)
    with pytest.raises(FrugalError, match="activation 'relu'"):
        ia3_gated.gated(x, x, scale, task, "relu")
    for wrong in ((x, x[:2], scale, task), (x, x, scale[:, :4], task), (x, x, scale, task[:2])):
        with pytest.raises(FrugalError, match="do not fit"):
            ia3_gated.gated(*wrong, "silu")


@pytest.mark.parametrize(
    ("device", "capability", "installed", "serves"),
    [
        ("cpu", (9, 0), True, False),
        ("cuda", (9, 0), False, False),
        ("cuda", (7, 0), True, False),
        ("cuda", (7, 5), True, True),
    ],
)
def test_the_kernel_serves_where_triton_does(device, capability, installed, serves, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed or None)
    assert ia3_gated.serves(torch.device(device)) is serves


def test_an_activation_is_known_by_its_values():
    from transformers.activations import ACT2FN

    found = {name: ia3_gated.named(ACT2FN[name]) for name in ACT2FN}
    assert {n: found[n] for n in ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh")} == {
        "silu": "silu",
        "gelu": "gelu",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
    }
    for name in ("relu", "quick_gelu", "tanh", "relu2", "sigmoid"):
        assert found[name] is None
