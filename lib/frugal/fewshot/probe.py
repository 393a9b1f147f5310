"""Whether packing gives a model's own log-probabilities: tried on made-up tokens, never assumed.

The probe does what packing does: branches of different length, several trees in a row, a padded
row, a shared prefix, prompts read beside longer ones; and where the work has rows as long as some
number in the model's configuration (a window, a rope's switch, a capacity), a row that long. What
differs from each choice alone, in a pass of its own, is not packed. What cannot be scored alone
(no logits, an answer that is seen before it is predicted, chance in it) is refused.

Where a model's attention can do without a mask (`flexes`), that is tried likewise, and its
gradients; it must be what a mask gives.

Weights that are int8 are multiplied in floats here: who sees whom, and where, does not depend on
how inputs are rounded, and a rounding that flips would hide a small difference
(`int8_products.unrounded`).
"""

import dataclasses
import random
import re
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from frugal import peft
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError, reason
from frugal.fewshot import passes
from frugal.fewshot.encoding import EncodedExample
from frugal.fewshot.packing import layout, pack, tree
from frugal.kernels import int8_products

# Numbers of a configuration that are lengths of a text, and those that are none. Any other may be.
_LENGTH = re.compile(r"position|window|length|seq|chunk|block|local|ctx|context|distance|capacity")
_NO_LENGTH = re.compile(
    r"vocab|hidden|embed|dim|d_model|d_kv|d_ff|d_inner|intermediate|ffn|head|layer|expert|rank"
    r"|_ids?$|token_index|group|theta|type_|bits|kernel|state|version|seed|degree|mup|beams"
    r"|n_inner|num_labels|channels|image|vision|audio|patch|spatial"
)
_CAPACITY = re.compile(r"capacity$")
_FLEX = ("cuda",)  # where FlexAttention is a kernel; elsewhere it computes every pair
_LAST = 64  # tokens at the end of a text of which it is tried whether more behind them matter
_SHORT = 12  # tokens of the probe's longest prompt, where nothing calls for more

# model -> {(what is attached, attention, dtype, tokens, of answers): whether packing suits it} and
# {(what is attached, dtype): whether FlexAttention does}
_KNOWN: WeakKeyDictionary[Any, dict[Any, bool]] = WeakKeyDictionary()


def packs(backbone: Backbone, longest: int = 0, answers: int = 0) -> bool:
    """Whether rows of up to `longest` tokens (prefix included) can be packed for this model.

    answers: of an encoder–decoder, tokens of a decoder's row; `longest` counts what is read too

    Raises FrugalError where the model gives no choice a log-probability of its own. What is found
    is remembered for a model and the kind of what is attached to it, whatever it has learnt.
    """
    if backbone.family == "encoder":
        raise FrugalError(f"{backbone.name} is an encoder; it gives no choice a log-probability")
    model = backbone.model
    numbers = list(_numbers(model.config))
    # Where a row's tokens crowd each other out: a prompt that is read has its row to itself.
    fed = answers or longest
    crowded = any(n < fed for name, n in numbers if _CAPACITY.search(name))
    lengths = [n for name, n in numbers if not _CAPACITY.search(name)]
    length = max((n for n in lengths if _SHORT < n < longest), default=0)
    answer = max((n for n in lengths if _SHORT < n < answers), default=0)
    # Sparse attention is for long texts alone: what a row computes then depends on its length.
    sparse = getattr(model.config, "attention_type", "") == "block_sparse"
    if sparse:
        length = longest  # from which on it is sparse no number says
    attached = peft.of(model)
    kind = f"{type(attached).__name__} {attached.parts}" if attached else ""
    key = (kind, model.config._attn_implementation, model.dtype, length, answer)
    known = _KNOWN.setdefault(model, {})
    if key not in known:
        with int8_products.unrounded():
            known[key] = _try(backbone, length, answer) and not sparse
    return known[key] and not crowded


def flexes(backbone: Backbone) -> bool:
    """Whether FlexAttention may take the place of a mask (see `passes.packed`).

    On a GPU, for a causal model that knows it, where it gives the same log-probabilities and
    gradients. What is found is remembered as in `packs`. An encoder–decoder's rows are short; and
    T5's cross-attention has a bias of one row, which a kernel would read on beyond its end.
    """
    model = backbone.model
    knows = backbone.family == "causal" and getattr(model, "_supports_flex_attn", False)
    if backbone.device.type not in _FLEX or not knows:
        return False
    known, key = _KNOWN.setdefault(model, {}), (peft.of(model), model.dtype)
    if key not in known:
        with int8_products.unrounded(), torch.inference_mode(False), torch.enable_grad():
            known[key] = _try_flex(backbone)
    return known[key]


def _try_flex(backbone: Backbone) -> bool:
    probes, dtype = _probes(backbone, passes.BLOCK, 0), backbone.model.dtype
    try:
        for prefix in (0, _COMMON):
            for some in (probes, probes[:1]):  # several rows, and one
                both = (_with_gradients(backbone, some, prefix, flex) for flex in (False, True))
                for dense, flex in zip(*both, strict=True):
                    if not _equal((flex - dense).abs(), dense, dtype):
                        return False
    except Exception:  # a compiler that is not there, a size that no kernel has
        return False
    return True


def _with_gradients(
    backbone: Backbone, probes: list[EncodedExample], prefix: int, flex: bool
) -> list[Tensor]:
    """Log-probabilities, once more without gradients, and the gradients of all that was read."""
    read: list[Tensor] = []

    def see(module: Any, args: Any, output: Tensor) -> Tensor:
        read.append(output.detach().requires_grad_())
        return read[-1].clone()

    with torch.no_grad():
        once = _packed(backbone, probes, prefix, flex)
    handle = backbone.model.get_input_embeddings().register_forward_hook(see)
    try:
        logp = _packed(backbone, probes, prefix, flex)
    finally:
        handle.remove()
    return [once, logp.detach(), *torch.autograd.grad(logp.sum(), read)]


def _numbers(config: Any) -> Iterator[tuple[str, int]]:
    """Names and values of what might be a length of a text in a configuration."""
    for name, value in _flat("", config.to_dict()):
        if _LENGTH.search(name) or not _NO_LENGTH.search(name):
            yield name, value


def _flat(name: str, value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(str(key), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _flat(name, item)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


@torch.inference_mode()
def _try(backbone: Backbone, length: int, answer: int) -> bool:
    probes = _probes(backbone, length, answer)
    own = _alone(backbone, probes)
    for prefix in (0, _COMMON) if backbone.family == "causal" else (0,):
        try:
            difference = (_packed(backbone, probes, prefix) - own).abs()
        except Exception:  # whatever a model says of a mask or an argument that it does not take
            return False
        if not _equal(difference, own, backbone.model.dtype):
            return False
    return True


def _alone(backbone: Backbone, probes: list[EncodedExample]) -> Tensor:
    """Log-probabilities of each choice alone; FrugalError where they are none."""
    name = backbone.name
    # The first text once more, and without its last token.
    text = probes[0].sequences[0]
    start = max(1, len(text) - _LAST)
    ends = [dataclasses.replace(probes[0], sequences=[t], start=start) for t in (text, text[:-1])]
    try:
        own = passes.alone(backbone, probes)
        longer, shorter = (passes.alone(backbone, [e]) for e in ends)
    except Exception as error:
        kind = backbone.model.config.model_type
        raise FrugalError(
            f"{name}: a model of type {kind} cannot score text ({reason(error)})"
        ) from error
    if not own.isfinite().all():
        raise FrugalError(f"{name}: its log-probabilities are not finite ({backbone.model.dtype})")
    first, second = (len(s) - probes[0].start for s in probes[0].sequences[:2])
    again = longer[-min(first, len(longer)) :]
    if not _equal((again - own[first - len(again) : first]).abs(), again, backbone.model.dtype):
        raise FrugalError(f"{name}: gives another log-probability each time")
    # Two choices that begin alike: what is predicted first cannot know how they go on.
    assert first == second
    ahead = _equal((own[:1] - own[first : first + 1]).abs(), own[:1], backbone.model.dtype)
    # Nor what is predicted before a text's end, whether it goes on by a token.
    difference = (longer[: len(shorter)] - shorter).abs()
    if not (ahead and _equal(difference, shorter, backbone.model.dtype)):
        raise FrugalError(
            f"{name}: a token's log-probability depends on what comes after it; "
            f"{backbone.model.config.model_type} is no causal language model"
        )
    return own


def _equal(difference: Tensor, of: Tensor, dtype: torch.dtype) -> bool:
    """Whether differences are those of rounding: of the largest, and in low precision the mean.

    Sums in another order differ by some units in the last place of what is summed, so the bound
    grows with the log-probabilities; NaN is above it.
    """
    eps = torch.finfo(dtype).eps
    if dtype == torch.float32:
        return bool(difference.max() <= 80 * eps * max(1.0, float(of.abs().max())))
    return bool(difference.mean() <= eps * max(1.0, float(of.abs().max())))


_COMMON = 8  # tokens that all prompts of the probe begin with


def _probes(backbone: Backbone, length: int, answer: int) -> list[EncodedExample]:
    """Examples of made-up tokens; the first prompt is longer than `length`.

    answer: and so are the first choices of an encoder–decoder than that, if it is not 0; none is
        longer than the model's positions allow, however long a row of several may be
    """
    ordinary = random.Random(0)
    config = backbone.model.config
    special = {n for name, n in _flat("", config.to_dict()) if name.endswith(("_id", "_index"))}
    size = min(config.get_text_config().vocab_size, len(backbone.tokenizer))
    allowed = [i for i in ordinary.sample(range(size), min(size, 200)) if i not in special]

    def some(count: int) -> list[int]:
        return [ordinary.choice(allowed) for _ in range(count)]

    if backbone.max_tokens:
        length = max(0, min(length, backbone.max_tokens - _COMMON - 8))
    begin, a, b = some(_COMMON), ordinary.sample(allowed, 4), some(4)
    texts = [
        (some(length + 5), [[a[0], a[1], a[3]], [a[0], a[2], a[3]]], 0),  # these begin alike
        (some(2), [b[:1], b[1:], some(4)], 1),
        (some(9), [some(1), some(1)], 1),
        (some(4), [some(5), some(2)], 0),
    ]
    if backbone.family == "causal":
        return [
            EncodedExample([begin + p + c for c in choices], _COMMON + len(p), label)
            for p, choices, label in texts
        ]
    start, end = backbone.decoder_ends
    limit = getattr(config, "max_decoder_position_embeddings", None) or backbone.max_tokens
    more = max(0, min(answer, limit - 8) if limit else answer)
    texts[0][1][:] = [c + some(1) * (more and more + 2) for c in texts[0][1]]
    return [
        EncodedExample([[start, *c, end] for c in choices], 1, label, read=(*begin, *p, end))
        for p, choices, label in texts
    ]


def _packed(
    backbone: Backbone, probes: list[EncodedExample], prefix: int, flex: bool = False
) -> Tensor:
    trees = [tree(e, prefix) for e in probes]
    # The long one first: the others lie behind it, and the last in a padded row of its own.
    own = backbone.family == "encoder-decoder" or len(trees) == 1
    rows = layout(trees) if own else [[0, 1, 2], [3]]
    cache = passes.prefix_cache(backbone, probes[0].sequences[0][:prefix]) if prefix else None
    return passes.packed(backbone, pack(trees, rows, backbone.device), cache, flex=flex)
