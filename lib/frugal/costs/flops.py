"""Exact FLOPs, by part, of a forward pass and of a training step.

A matrix product of (m, k) and (k, n) is 2·m·k·n FLOPs; softmax, norms and other elementwise work
is not counted, as in `torch.utils.flop_counter`, which these closed forms equal.
"""

from frugal.costs.arch import Architecture
from frugal.errors import FrugalError, unknown

Parts = dict[str, int]

# What of a block trains, by method: nothing means that the weights are frozen.
_SCALES = {"ia3"}


def forward(arch: Architecture, *, prompt_tokens: int, logits_at: int) -> Parts:
    """FLOPs of one forward pass over one row of `prompt_tokens`, by part.

    logits_at: positions at which the vocabulary projection runs
    """
    return _step(arch, prompt_tokens, logits_at, None)


def train_step(arch: Architecture, *, prompt_tokens: int, logits_at: int, method: str) -> Parts:
    """FLOPs of the forward and backward pass over one row, knowing what is frozen, by part.

    method: "full", or "ia3", whose frozen projections have no weight gradient
    """
    if method not in ("full", *_SCALES):
        raise unknown("method", method, ("full", *_SCALES))
    return _step(arch, prompt_tokens, logits_at, method)


def _step(arch: Architecture, tokens: int, logits_at: int, method: str | None) -> Parts:
    if arch.kind != "decoder-only":
        raise FrugalError(f"{arch.name}: {arch.kind} is not counted yet")
    if tokens < 1 or not 0 <= logits_at <= tokens:
        raise FrugalError(f"tokens: {tokens} and logits_at: {logits_at} do not fit each other")
    full, scaled = method == "full", method in _SCALES
    parts: Parts = {}

    def product(part: str, flops: int, *needed: bool) -> bool:
        """One product, and one more for each operand that needs a gradient."""
        parts[part] = parts.get(part, 0) + flops * (1 + sum(needed))
        return any(needed)

    def linear(part: str, rows: int, inputs: int, outputs: int, x: bool) -> bool:
        return product(part, 2 * rows * inputs * outputs, x, full)

    square = 2 * tokens * tokens * arch.inner  # the whole square: the causal half is masked
    x = full  # whether what enters the block needs a gradient
    for _ in range(arch.layers):
        q = linear("attention/q", tokens, arch.d_model, arch.inner, x)
        k = linear("attention/k", tokens, arch.d_model, arch.kv_inner, x) or scaled
        v = linear("attention/v", tokens, arch.d_model, arch.kv_inner, x) or scaled
        weights = product("attention/scores", square, q, k)
        mixed = product("attention/values", square, weights, v)
        x = linear("attention/o", tokens, arch.inner, arch.d_model, mixed) or x
        h = linear("feed-forward/up", tokens, arch.d_model, arch.d_ff, x)
        if arch.gated:
            h = linear("feed-forward/gate", tokens, arch.d_model, arch.d_ff, x) or h
        x = linear("feed-forward/down", tokens, arch.d_ff, arch.d_model, h or scaled) or x
    linear("vocabulary", logits_at, arch.d_model, arch.vocabulary, x)
    return parts
