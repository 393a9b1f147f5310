"""`ia3_gated` in Triton: forward over blocks of tokens, backward task by task.

A program of the backward pass has some of the tokens of one task, so that its share of that task's
∂l is a sum that it keeps to itself: no two programs add to one number, and a run gives the same
bits each time.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS, FEATURES = 16, 128  # of a block
PROGRAMS = 512  # of the backward pass, where there are as many blocks


@triton.jit
def gate_kernel(x, ACTIVATION: tl.constexpr):
    """s(x) and s'(x) of γ(x) = x s(x)."""
    if ACTIVATION == "gelu":
        s = 0.5 * (1 + tl.erf(x * 0.7071067811865476))
        slope = tl.exp(-0.5 * x * x) * 0.3989422804014327
    elif ACTIVATION == "gelu_tanh":
        s = tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
        slope = s * (1 - s) * 1.5957691216057308 * (1 + 0.134145 * x * x)
    else:
        s = tl.sigmoid(x)
        slope = s * (1 - s)
    return s, slope


@triton.jit
def forward_kernel(
    gate, up, scale, task, y, N, L, F,
    ACTIVATION: tl.constexpr, TOKENS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    """y (N, F), N = R * L tokens of R rows."""
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS).to(tl.int64)
    feature = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    at, inside = (
        token[:, None] * F + feature[None, :],
        (token[:, None] < N) & (feature < F)[None, :],
    )
    whose = tl.load(task + token // L, token < N, 0)
    x = tl.load(gate + at, inside, 0.0).to(tl.float32)
    u = tl.load(up + at, inside, 0.0).to(tl.float32)
    ff = tl.load(scale + whose[:, None] * F + feature[None, :], inside, 0.0).to(tl.float32)
    s, _ = gate_kernel(x, ACTIVATION)
    tl.store(y + at, (x * s * u * ff).to(y.dtype.element_ty), inside)  # γ(gate) ⊙ up ⊙ l_ff[task]


@triton.jit
def backward_kernel(
    gate, up, scale, dy, order, first, dgate, dup, dscale, L, F,
    ACTIVATION: tl.constexpr, TOKENS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    """dgate, dup (N, F), and dscale (shares, tasks, F) of tokens that lie by task in `order`."""
    task, share, shares = tl.program_id(1), tl.program_id(2), tl.num_programs(2)
    feature = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    ff = tl.load(scale + task * F + feature, feature < F, 0.0).to(tl.float32)[None, :]
    begin, end = tl.load(first + task) * L, tl.load(first + task + 1) * L
    total = tl.zeros((FEATURES,), tl.float32)
    for start in range(begin + share * TOKENS, end, shares * TOKENS):
        place = start + tl.arange(0, TOKENS)
        token = tl.load(order + place // L, place < end, 0) * L + place % L
        at, inside = (
            token[:, None] * F + feature[None, :],
            (place < end)[:, None] & (feature < F)[None, :],
        )
        x = tl.load(gate + at, inside, 0.0).to(tl.float32)
        u = tl.load(up + at, inside, 0.0).to(tl.float32)
        g = tl.load(dy + at, inside, 0.0).to(tl.float32)
        s, slope = gate_kernel(x, ACTIVATION)
        dx = g * u * ff * (s + x * slope)  # ∂y ⊙ up ⊙ l ⊙ γ'(gate)
        tl.store(dgate + at, dx.to(dgate.dtype.element_ty), inside)
        tl.store(dup + at, (g * x * s * ff).to(dup.dtype.element_ty), inside)  # ∂y ⊙ γ(gate) ⊙ l
        total += tl.sum(g * x * s * u, 0)  # Σ ∂y ⊙ γ(gate) ⊙ up
    here = (share * tl.num_programs(1) + task) * F + feature
    tl.store(dscale + here, total, feature < F)


class Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gate: Tensor, up: Tensor, scale: Tensor, task: Tensor, activation: str
    ) -> Tensor:
        gate, up, scale = gate.contiguous(), up.contiguous(), scale.contiguous()
        y = torch.empty_like(gate)
        rows, length, features = gate.shape
        if y.numel():
            grid = triton.cdiv(rows * length, TOKENS), triton.cdiv(features, FEATURES)
            forward_kernel[grid](
                gate, up, scale, task, y, rows * length, length, features,
                activation, TOKENS, FEATURES,
            )  # fmt: skip
        ctx.save_for_backward(gate, up, scale, task)
        ctx.activation = activation
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, scale, task = ctx.saved_tensors
        (rows, length, features), tasks = gate.shape, len(scale)
        order = task.argsort(stable=True)
        edges = torch.arange(tasks + 1, device=task.device)
        first = torch.searchsorted(task[order].contiguous(), edges)
        columns = triton.cdiv(features, FEATURES)
        most = triton.cdiv(rows * length, TOKENS)
        shares = max(1, min(most, PROGRAMS // (columns * tasks)))
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        dscale = scale.new_zeros((shares, tasks, features), dtype=torch.float32)
        if gate.numel():
            backward_kernel[columns, tasks, shares](
                gate, up, scale, dy.contiguous(), order, first, dgate, dup, dscale,
                length, features, ctx.activation, TOKENS, FEATURES,
            )  # fmt: skip
        return dgate, dup, dscale.sum(0).to(scale.dtype), None, None
