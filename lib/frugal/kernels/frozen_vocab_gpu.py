"""`frozen_vocab` in Triton: a program has some places and a share of the words, a block at a time.

Products are summed in fp32 and never rounded to the weights' dtype. Sums over shares are added in
their order, so that a run gives the same bits each time.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

PLACES, WORDS = 64, 128  # of a block of logits
WARPS = 8
PROGRAMS = 128  # about as many as a large GPU has multiprocessors


@triton.jit
def logits_kernel(
    h, w, b, rows, words, P, V, D, w_row,
    BIASED: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """(places, words) z = h·w + b of a block, in fp32; -inf behind the last word."""
    z = tl.zeros((rows.shape[0], words.shape[0]), tl.float32)
    for start in range(0, D, DEPTH):
        d = start + tl.arange(0, DEPTH)
        inside = d[None, :] < D
        hd = tl.load(h + rows[:, None] * D + d[None, :], (rows[:, None] < P) & inside, 0.0)
        wd = tl.load(w + words[:, None] * w_row + d[None, :], (words[:, None] < V) & inside, 0.0)
        z = tl.dot(hd, tl.trans(wd), z, input_precision="ieee")
    if BIASED:
        z += tl.load(b + words, words < V, 0.0).to(tl.float32)[None, :]
    return tl.where(words[None, :] < V, z, float("-inf"))


@triton.jit
def log_partition_kernel(
    h, w, b, lse, P, V, D, w_row, share,
    BIASED: tl.constexpr, PLACES: tl.constexpr, WORDS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """lse (shares, P): log Σ_v exp z_v over the words of a share."""
    rows = tl.program_id(0) * PLACES + tl.arange(0, PLACES).to(tl.int64)
    first = tl.program_id(1) * share
    most = tl.full((PLACES,), float("-inf"), tl.float32)
    total = tl.zeros((PLACES,), tl.float32)
    for start in range(first, min(first + share, V), WORDS):
        words = start + tl.arange(0, WORDS).to(tl.int64)
        z = logits_kernel(h, w, b, rows, words, P, V, D, w_row, BIASED, DEPTH)
        more = tl.maximum(most, tl.max(z, 1))
        total = total * tl.exp(most - more) + tl.sum(tl.exp(z - more[:, None]), 1)
        most = more
    tl.store(lse + tl.program_id(1) * P + rows, most + tl.log(total), rows < P)


@triton.jit
def mean_word_kernel(
    h, w, b, lse, mean, P, V, D, w_row, share,
    BIASED: tl.constexpr, PLACES: tl.constexpr, WORDS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """mean (shares, P, D), zeros at first: Σ_v p_v w_v over the words of a share."""
    rows = tl.program_id(0) * PLACES + tl.arange(0, PLACES).to(tl.int64)
    first = tl.program_id(1) * share
    whole = tl.load(lse + rows, rows < P, 0.0)
    mine = mean + (tl.program_id(1) * P + rows)[:, None] * D
    for start in range(first, min(first + share, V), WORDS):
        words = start + tl.arange(0, WORDS).to(tl.int64)
        z = logits_kernel(h, w, b, rows, words, P, V, D, w_row, BIASED, DEPTH)
        p = tl.exp(z - whole[:, None]).to(w.dtype.element_ty)  # p_v = exp(z_v - lse)
        for at in range(0, D, DEPTH):
            d = at + tl.arange(0, DEPTH)
            inside = d[None, :] < D
            wd = tl.load(
                w + words[:, None] * w_row + d[None, :], (words[:, None] < V) & inside, 0.0
            )
            here = (rows[:, None] < P) & inside
            so_far = tl.load(mine + d[None, :], here, 0.0)
            tl.store(mine + d[None, :], tl.dot(p, wd, so_far, input_precision="ieee"), here)
        tl.debug_barrier()  # what is stored is read again at the next block of words


def blocks(dtype: torch.dtype, biased: bool) -> dict[str, Any]:
    """A kernel's constants: of a depth that fits a T4's 64 KiB beside what else is there."""
    depth = 32 if dtype == torch.float32 else 64
    return {"BIASED": biased, "PLACES": PLACES, "WORDS": WORDS, "DEPTH": depth}


def log_partition(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(P,) lse_i = log Σ_v exp(h_i·w_v + b_v), fp32."""
    lse = h.new_empty((_shares(h, weight), len(h)), dtype=torch.float32)
    _launch(log_partition_kernel, h, weight, bias, lse)
    return lse.logsumexp(0)


def mean_word(h: Tensor, weight: Tensor, bias: Tensor | None, lse: Tensor) -> Tensor:
    """(P, d) Σ_v p_v w_v, the word that a place expects, fp32."""
    mean = h.new_zeros((_shares(h, weight), *h.shape), dtype=torch.float32)
    _launch(mean_word_kernel, h, weight, bias, lse, mean)
    return mean.sum(0)


def token_logits(
    h: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, row: Tensor
) -> Tensor:
    """(T,) h_i·w_t + b_t, fp32."""
    own = (h[row].float() * weight[target].float()).sum(-1)
    return own if bias is None else own + bias[target].float()


def _share(h: Tensor, weight: Tensor) -> int:
    """Words of a share, in whole blocks: as few as keep `PROGRAMS` programs busy."""
    shares = max(1, PROGRAMS // max(1, triton.cdiv(len(h), PLACES)))
    return int(triton.cdiv(triton.cdiv(len(weight), WORDS), shares) * WORDS)


def _shares(h: Tensor, weight: Tensor) -> int:
    return int(triton.cdiv(len(weight), _share(h, weight)))


def _launch(kernel: Any, h: Tensor, weight: Tensor, bias: Tensor | None, *more: Tensor) -> None:
    """Run `kernel`, whose last tensor has an axis of shares in front."""
    if not len(h):
        return
    h, weight = h.contiguous(), weight if weight.stride(1) == 1 else weight.contiguous()
    (places, depth), words, shares = h.shape, len(weight), len(more[-1])
    kernel[triton.cdiv(places, PLACES), shares](
        h, weight, weight if bias is None else bias, *more,
        places, words, depth, weight.stride(0), _share(h, weight),
        **blocks(h.dtype, bias is not None), num_warps=WARPS,
    )  # fmt: skip
