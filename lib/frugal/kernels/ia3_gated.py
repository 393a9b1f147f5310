"""The middle of a gated feed-forward under (IA)³, with one task for each row of the batch.

    y = γ(gate) ⊙ up ⊙ l_ff[task]        γ(x) = x s(x), γ'(x) = s(x) + x s'(x)

SiLU and both GELUs are x times something that goes from 0 to 1:

    silu       s = σ(x)                                    s' = s (1 - s)
    gelu       s = Φ(x) = (1 + erf(x / √2)) / 2            s' = exp(-x² / 2) / √(2π)
    gelu_tanh  s = σ(2u), u = √(2/π) (x + 0.044715 x³)     s' = s (1 - s) 2u'

torch reads and writes rows of d_ff three times for this, and keeps two of the products for the
gradient; one kernel reads `gate` and `up` and writes y, and its gradient reads the same two again:

    ∂gate = ∂y ⊙ up ⊙ l ⊙ γ'(gate)     ∂up = ∂y ⊙ γ(gate) ⊙ l     ∂l_k = Σ_task=k ∂y ⊙ γ(gate) ⊙ up

Source: Liu et al., NeurIPS 2022, §3.3 (l_ff, and the batch of several tasks).
"""

import importlib.util
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from frugal.errors import FrugalError, unknown

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": silu,  # Llama, Mistral, Qwen
    "gelu": gelu,
    "gelu_tanh": partial(gelu, approximate="tanh"),  # T5 v1.1's "gelu_new"
}


def serves(device: torch.device) -> bool:
    """Whether `gated` is one kernel there: a GPU of compute capability 7.5 or more, and triton."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 5)


@torch.no_grad()
def named(activation: Callable[[Tensor], Tensor]) -> str | None:
    """Which of ACTIVATIONS a function is, by its values; None where it is another."""
    x = torch.linspace(-8, 8, 257, dtype=torch.float32, device="cpu")
    y = activation(x)
    near = (name for name, own in ACTIVATIONS.items() if torch.allclose(y, own(x), atol=1e-6))
    return next(near, None)


def gated(gate: Tensor, up: Tensor, scale: Tensor, task: Tensor, activation: str) -> Tensor:
    """(R, L, d_ff) γ(gate) ⊙ up ⊙ l_ff, of R rows of L tokens; gradients to all three.

    gate, up: (R, L, d_ff); scale: (tasks, d_ff); task: (R,) ints, which of them a row is scaled by

    One Triton kernel where it `serves`: in fp32, rounded once. Raises FrugalError for shapes that
    do not fit and an activation that is not among ACTIVATIONS.
    """
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    if gate.shape != up.shape or gate.shape[-1:] != scale.shape[1:] or task.shape != gate.shape[:1]:
        raise FrugalError(
            f"gate {(*gate.shape,)}, up {(*up.shape,)}, scale {(*scale.shape,)} and tasks "
            f"{(*task.shape,)} do not fit"
        )
    if serves(gate.device):
        from frugal.kernels import ia3_gated_gpu

        found: Tensor = ia3_gated_gpu.Gated.apply(gate, up, scale, task, activation)
        return found
    return reference(gate, up, scale, task, activation)


def reference(gate: Tensor, up: Tensor, scale: Tensor, task: Tensor, activation: str) -> Tensor:
    """`gated` in torch, a product at a time."""
    return ACTIVATIONS[activation](gate) * up * scale[task].to(gate.dtype)[:, None]
