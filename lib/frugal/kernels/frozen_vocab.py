"""log p of some tokens under a frozen vocabulary, without a logit for every place and word.

For states h (P, d), a vocabulary W (V, d), b (V,), and tokens t, each predicted at a place i:

    log p_t = h_i·w_t + b_t - lse_i        lse_i = log Σ_v exp(h_i·w_v + b_v)
    ∂ log p_t / ∂ h_i = w_t - Σ_v p_v w_v  p_v = exp(h_i·w_v + b_v - lse_i)

The vocabulary is never trained, so this is the whole gradient. Its sum is attention: h_i is the
query, and the words are both keys and values. As attention, it runs over blocks of words and keeps
(P, d) of what it has seen so far; (P, V), by far the largest tensor of a step, is never there.

`frozen_vocab_gpu` has the same in Triton. It is imported where it is used, since triton may not be
there, and takes a while.
"""

import importlib.util
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from frugal.errors import FrugalError

IGNORE = -100  # a token that is none: log p is 0, and so is its gradient
# Logits that are there at a time, unless there are more than 4,096 places: 4 MiB, a cache's size.
BLOCK, LEAST = 2**20, 256


def token_logp(
    h: Tensor, weight: Tensor, target: Tensor, row: Tensor, bias: Tensor | None = None
) -> Tensor:
    """(T,) log p of token `target[t]` at place `row[t]`, in nats, fp32; gradients to `h` alone.

    h: (P, d); weight: (V, d) and bias: (V,), frozen; target, row: (T,) ints, IGNORE for no token

    At most max(BLOCK, LEAST * P) logits are held at a time, and (P, d) for the gradient. Halfs are
    multiplied as a linear map does, also under autocast, and summed in fp32. Where triton is
    installed, its kernels run on GPUs from compute capability 8.0 on.

    Raises FrugalError for shapes that do not fit, for a vocabulary that wants a gradient, and for a
    token that it does not have (Triton's form leaves that to torch, which stops the GPU).
    """
    if h.shape[1:] != weight.shape[1:] or target.shape != row.shape:
        raise FrugalError(
            f"states {(*h.shape,)} and a vocabulary {(*weight.shape,)}, tokens {(*target.shape,)} "
            f"and places {(*row.shape,)} do not fit"
        )
    frozen = not any(w is not None and w.requires_grad for w in (weight, bias))
    if torch.is_grad_enabled() and not frozen:
        raise FrugalError("the vocabulary is not frozen: it would get no gradient")
    h = h if torch.is_grad_enabled() else h.detach()  # then no mean word is needed
    if torch.is_autocast_enabled(kind := h.device.type):
        dtype = torch.get_autocast_dtype(kind)
        h, weight, bias = h.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    return _TokenLogp.apply(h, weight, bias, target, row, _suits_triton(h))


def reference(
    h: Tensor, weight: Tensor, target: Tensor, row: Tensor, bias: Tensor | None = None
) -> Tensor:
    """`token_logp` the plain way, with all (P, V) logits."""
    logits = linear(h, weight, bias).float()
    logp = logits[row, target.clamp(min=0)] - logits.logsumexp(-1)[row]
    return logp.masked_fill(target == IGNORE, 0.0)


def _suits_triton(h: Tensor) -> bool:
    """Whether Triton multiplies on tensor cores there: not on a T4 (7.5), where torch does."""
    if not h.is_cuda or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(h.device) >= (8, 0)


class _TokenLogp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        row: Tensor,
        triton: bool,
    ) -> Tensor:
        if triton:
            from frugal.kernels import frozen_vocab_gpu as gpu

            lse, mean = gpu.log_partition(h, weight, bias), None
            own = gpu.token_logits(h, weight, bias, target.clamp(min=0), row)
        else:
            own, lse, mean = _by_block(h, weight, bias, target, row, ctx.needs_input_grad[0])
        ctx.save_for_backward(h, weight, bias, target, row, lse, mean)
        return (own - lse[row]).masked_fill(target == IGNORE, 0.0)  # h_i·w_t + b_t - lse_i

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        h, weight, bias, target, row, lse, mean = ctx.saved_tensors
        if mean is None:
            from frugal.kernels import frozen_vocab_gpu as gpu

            mean = gpu.mean_word(h, weight, bias, lse)
        g = g.masked_fill(target == IGNORE, 0.0)
        words = g[:, None] * weight[target.clamp(min=0)]
        each = torch.zeros_like(mean).index_put((row,), words, accumulate=True)
        total = torch.zeros_like(lse).index_put((row,), g, accumulate=True)
        dh = each - total[:, None] * mean  # Σ_t g_t (w_t - Σ_v p_v w_v), t of place i
        return dh.to(h.dtype), None, None, None, None, None


def _by_block(
    h: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, row: Tensor, gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(T,) h_i·w_t + b_t, (P,) lse_i, and with `gradient` (P, d) Σ_v p_v w_v; a block at a time."""
    places, words = len(h), len(weight)
    block = max(LEAST, BLOCK // max(1, places))
    starts = range(0, words, block)
    order = target.argsort()  # the tokens of a block lie together
    edges = torch.tensor([0, *starts[1:], words], device=h.device)
    cuts = torch.searchsorted(target[order], edges).tolist()
    if cuts[-1] < len(target) or bool((target[order[: cuts[0]]] != IGNORE).any()):
        raise FrugalError(f"a token is not among the vocabulary's {words}")
    own = h.new_zeros(len(target), dtype=torch.float32)
    lse = h.new_full((places,), float("-inf"), dtype=torch.float32)
    mean = torch.zeros_like(h, dtype=torch.float32) if gradient else None
    for start, first, last in zip(starts, cuts, cuts[1:], strict=False):
        w = weight[start : start + block]
        z = linear(h, w, None if bias is None else bias[start : start + block]).float()
        here = order[first:last]
        own[here] = z[row[here], target[here] - start]
        before, lse = lse, torch.logaddexp(lse, z.logsumexp(-1))
        if mean is not None:  # Σ_v p_v w_v of the words so far, p by what lse is so far
            p = z.sub_(lse[:, None]).exp_().to(w.dtype)
            mean.mul_((before - lse).exp()[:, None])
            if p.dtype == mean.dtype:
                torch.addmm(mean, p, w, out=mean)
            else:
                mean += p @ w
    return own, lse, mean
