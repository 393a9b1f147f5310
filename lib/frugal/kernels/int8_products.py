"""Products with frozen int8 weights: each step by itself, and the fast form.

    y = (q_x q_Wᵀ) ⊙ s_x s_W            x / c ≈ q_x s_x, W c ≈ q_W s_W, all q in -127 … 127

q_W (out, in) has a scale s_W for each output channel; q_x (tokens, in) is made of the input as it
comes, with a scale s_x for each token, so that a token's values depend on that token alone. The
product of integers is exact. The weights are frozen; the gradient that goes on below is

    dL/dx = (q_g q_W) ⊙ s_g / c         g = dL/dy ⊙ s_W ≈ q_g s_g, a scale for each token

A loud row, whose largest value is beyond 10 times its root mean square, would have few steps of
its scale left for the others. It is rounded twice: what the first rounding leaves gets a scale of
its own, and its product is added. So it is with tokens, first of all the first of a text, on which
attention rests, and with output channels of the weights. The gradient is rounded once, and passes
the first rounding of the weights alone: the second is finer than the gradient's own step.
"""

import contextlib
import contextvars
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEVELS = 127  # of either sign; -128 is not used, so that both are alike
LOUD = 10  # times the root mean square: an ordinary value would be left fewer than 13 levels
TINY = 1e-30  # in place of a largest value of 0; 127 / 1e-30 is still a float32


class Weights(NamedTuple):
    """W c (out, in), rounded, and its loud rows rounded once more."""

    q: Tensor  # (out, in) q_W, int8
    scale: Tensor  # (out,) s_W
    shrink: Tensor  # (in,) 1/c
    rest: Tensor  # (loud, in) int8, what is left of loud rows
    finer: Tensor  # (loud,) its scales
    loud: Tensor  # (loud,) which rows they are


def rounded(w: Tensor, c: Tensor) -> Weights:
    """(out, in) W in floats, times c (in,), as int8."""
    w = w * c
    largest = _largest(w)
    loud = _loud(w, largest)
    rest = w.index_select(0, loud)
    q, s = quantise_(w, largest)
    rest -= w.index_select(0, loud) * s.index_select(0, loud)
    more, finer = quantise_(rest, _largest(rest))
    return Weights(q, s[:, 0], 1 / c, more, finer[:, 0], loud)


def reference(x: Tensor, weights: Weights) -> Tensor:
    """(tokens, in) → (tokens, out): each step by itself; what the fast form must equal."""
    x = x.float() * weights.shrink
    again = x.abs().amax(-1, keepdim=True) > LOUD * root_mean_square(x)

    def times(w: Tensor) -> Tensor:
        q, s = _rounded(x)
        y = (q.double() @ w.double().T).float() * s
        more, finer = _rounded(x - q * s)
        return torch.where(again, y + (more.double() @ w.double().T).float() * finer, y)

    y = times(weights.q) * weights.scale
    y[:, weights.loud] += times(weights.rest) * weights.finer
    return y


def gradient_reference(g: Tensor, weights: Weights) -> Tensor:
    """(tokens, out) dL/dy → (tokens, in) dL/dx, as `reference`."""
    q, s = _rounded(g.float() * weights.scale)
    return (q.double() @ weights.q.double()).float() * s * weights.shrink


def _rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """q, s"""
    largest = x.abs().amax(-1, keepdim=True).clamp(min=TINY)
    return torch.round(x * (LEVELS / largest)), largest / LEVELS


def dequantised(weights: Weights) -> Tensor:
    """(out, in) W, as the rounding left it."""
    w = weights.q.float().mul_(weights.scale[:, None])
    w[weights.loud] += weights.rest * weights.finer[:, None]
    return w.mul_(weights.shrink)


def multiply_(x: Tensor, weights: Weights) -> Tensor:
    """(tokens, in) x / c in float32, which is overwritten → (tokens, out), as `reference`."""
    rows, largest = len(x), _largest(x)
    loud = _loud(x, largest)
    rest = x.index_select(0, loud)
    q, s = quantise_(x, largest)
    if len(loud):
        rest -= x.index_select(0, loud) * s.index_select(0, loud)  # x is round(x / s) by now
        more, finer = quantise_(rest, _largest(rest))
        q, s = torch.cat([q, more]), torch.cat([s, finer])

    def times(w: Tensor, scale: Tensor) -> Tensor:
        y = product(q, w.T).mul_(s)  # (q_x q_Wᵀ) ⊙ s_x
        if len(loud):
            y = y[:rows].index_add_(0, loud, y[rows:])
        return y.mul_(scale)  # ⊙ s_W

    y = times(weights.q, weights.scale)
    if len(weights.loud):
        y.index_add_(1, weights.loud, times(weights.rest, weights.finer))
    return y


def multiply_gradient_(g: Tensor, weights: Weights) -> Tensor:
    """(tokens, out) g, which is overwritten → (tokens, in), as `gradient_reference`."""
    q, s = quantise_(g, _largest(g))
    return product(q, weights.q).mul_(s).mul_(weights.shrink)  # (q_g q_W) ⊙ s_g / c


def quantise_(x: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, n) float32, which becomes q → q as int8, s (rows, 1): |x - q s| ≤ s / 2.

    largest: (rows, 1) max|x|; where it is not finite, so is s
    """
    q = x.mul_(LEVELS / largest).round_()  # q = round(x / s)
    return q.to(torch.int8), largest / LEVELS  # s = max|x| / 127


def _floats_(y: Tensor) -> Tensor:
    """int32 → float32 in the same memory: fresh memory of that size takes longer than the work."""
    return y.view(torch.float32).copy_(y)


def _largest(x: Tensor) -> Tensor:
    """(rows, 1) max|x|, in two passes that write nothing."""
    return torch.maximum(x.amax(-1, keepdim=True), -x.amin(-1, keepdim=True)).clamp_(min=TINY)


def _loud(x: Tensor, largest: Tensor) -> Tensor:
    """Which of the rows of (rows, n) are to be rounded twice."""
    return (largest > LOUD * root_mean_square(x)).nonzero()[:, 0]


def root_mean_square(x: Tensor) -> Tensor:
    """(rows, 1) root of the mean square."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm * x.shape[-1] ** -0.5


def product(a: Tensor, b: Tensor) -> Tensor:
    """(m, k) int8 times (k, n) int8 → (m, n) float32: exact sums, rounded once.

    On integer units where there are any that are fast.
    """
    if not _integer_units(a.device.type):
        return _by_floats(a, b)
    if a.is_cuda:  # takes more than 16 rows, and multiples of 8 elsewhere
        return _floats_(_padded(a, b))
    return _floats_(torch._int_mm(_plain(a), _plain(b)))


def _plain(t: Tensor) -> Tensor:
    """The same matrix, whose strides are those of its shape also where a dimension is 1.

    torch's product on CPU takes them at their word, and else returns nonsense (pytorch #195066).
    """
    rows, columns = t.shape
    if rows > 1 < columns:
        return t
    return t.as_strided((rows, columns), (columns, 1) if t.is_contiguous() else (1, rows))


def _padded(a: Tensor, b: Tensor) -> Tensor:
    (m, k), n = a.shape, b.shape[1]
    a = nn.functional.pad(a, (0, -k % 8, 0, max(0, 17 - m)))
    b = nn.functional.pad(b, (0, -n % 8, 0, -k % 8))
    return torch._int_mm(_plain(a), _plain(b))[:m, :n]


def _by_floats(a: Tensor, b: Tensor) -> Tensor:
    """As `product`: sums of 1,024 products are below 2²⁴, and so exact in float32."""
    parts = zip(a.split(1024, dim=1), b.split(1024, dim=0), strict=True)
    with torch.autocast(a.device.type, enabled=False):
        sums = [x.float() @ y.float() for x, y in parts]
    if len(sums) > 2:  # the sum of two is rounded once
        return functools.reduce(Tensor.add_, (part.double() for part in sums)).float()
    return functools.reduce(Tensor.add_, sums)


@functools.cache
def _integer_units(device: str) -> bool:
    """Whether torch multiplies int8 there exactly, and sooner than floats of the same values.

    In some processors sums of two saturate. One without instructions for it takes twenty times as
    long as float32 does; as both are exact, which of them computes changes no answer.
    """
    a = torch.full((32, 64), LEVELS, dtype=torch.int8, device=device)
    a[::2] = -LEVELS
    try:
        for b in (a.T, a.T.clone()):
            if not torch.equal(torch._int_mm(a, b), _by_floats(a, b).int()):
                return False
    except (RuntimeError, NotImplementedError):
        return False
    a = a.new_ones(256, 512)
    return _seconds(torch._int_mm, a) < _seconds(_by_floats, a)


def _seconds(multiply: Callable[[Tensor, Tensor], Tensor], a: Tensor) -> float:
    """Of a aᵀ: the least of some."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        multiply(a, a.T)[0, 0].item()  # a value is read, so that a GPU's answer is waited for
        taken.append(time.perf_counter() - started)
    return min(taken)


_unrounded = contextvars.ContextVar("unrounded", default=False)


@contextlib.contextmanager
def unrounded() -> Iterator[None]:
    """While this lasts, inputs are not rounded, and products are of floats.

    A rounding turns a difference in the last digit into one of a whole step. What should be equal
    but for the order of sums, as two ways to the same answer, is compared without it.
    """
    token = _unrounded.set(True)
    try:
        yield
    finally:
        _unrounded.reset(token)


def is_unrounded() -> bool:
    """Whether `unrounded` lasts."""
    return _unrounded.get()


class Product(torch.autograd.Function):
    """(…, in) → a tensor (…, n) for each of `sizes`, the next n output channels of W."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Weights, sizes: Sequence[int], dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*weights)
        ctx.sizes, ctx.like = sizes, (x.shape, x.dtype)
        ctx.set_materialize_grads(False)
        y = multiply_((x * weights.shrink).reshape(-1, x.shape[-1]), weights)
        return _apart(y.to(dtype).view(*x.shape[:-1], len(weights.q)), sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        weights = Weights(*ctx.saved_tensors)
        shape, dtype = ctx.like
        g = weights.scale.new_empty(*shape[:-1], len(weights.q))
        for part, scale, gradient in zip(
            g.split(ctx.sizes, dim=-1), weights.scale.split(ctx.sizes), gradients, strict=True
        ):
            if gradient is None:
                part.zero_()
            else:
                torch.mul(gradient, scale, out=part)  # g = dL/dy ⊙ s_W
        x = multiply_gradient_(g.view(-1, len(weights.q)), weights)
        return x.to(dtype).view(shape), None, None, None


def _apart(y: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """The next n of the last axis for each n of `sizes`, in the same memory.

    They are no views, so that whoever gets one may change it in place, as a layer's own output.
    """
    return tuple(
        y.new_empty(0).set_(y.untyped_storage(), part.storage_offset(), part.shape, part.stride())
        for part in y.split(sizes, dim=-1)
    )
