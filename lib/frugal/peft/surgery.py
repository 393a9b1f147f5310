"""Where the attention and feed-forward projections of a transformers model are, by role.

One table of names per architecture family; everything else in this room speaks of roles: the key
projection of layer 3, the down projection of layer 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frugal.errors import FrugalError


@dataclass(frozen=True)
class Projection:
    """A linear map y = W x + b of the model, or the slice of a fused one that plays one role.

    outputs: which of the module's output features are this projection's
    conv1d:  its weight is stored (in, out), as GPT-2 does, and not (out, in)
    """

    name: str
    module: Any
    outputs: slice
    conv1d: bool = False

    @property
    def in_features(self) -> int:
        return int(self.module.weight.shape[0 if self.conv1d else 1])

    @property
    def out_features(self) -> int:
        return self.outputs.stop - self.outputs.start

    @property
    def fused(self) -> bool:
        """Whether the module's other outputs play other roles."""
        return self.out_features != self.module.weight.shape[1 if self.conv1d else 0]

    def weight(self) -> Tensor:
        """(out, in) view of this projection's weight, without gradient."""
        weight = self.module.weight.detach()
        return (weight.T if self.conv1d else weight)[self.outputs]

    def bias(self) -> Tensor | None:
        """(out,) view of this projection's bias, or None."""
        bias = self.module.bias
        return None if bias is None else bias.detach()[self.outputs]


@dataclass(frozen=True)
class Attention:
    name: str
    module: Any
    q: Projection
    k: Projection
    v: Projection
    o: Projection


@dataclass(frozen=True)
class FeedForward:
    name: str
    module: Any
    up: tuple[Projection, ...]  # one, or gate and up
    down: Projection


@dataclass(frozen=True)
class Layer:
    """A transformer block: self-attention, cross-attention in a decoder, feed-forward."""

    index: int  # from 0; an encoder–decoder's decoder goes on where its encoder ends
    name: str
    module: Any
    attentions: tuple[Attention, ...]
    feed_forward: FeedForward


@dataclass(frozen=True)
class _Names:
    """Where things are below a block of one architecture family, as attribute paths."""

    block: str  # class name of the block, without the model's own prefix
    attentions: tuple[str, ...]
    qkv: tuple[str, ...]  # three names, or one of a fused projection
    o: tuple[str, ...]  # below the attention, or ("..", path below the block)
    feed_forward: str
    up: tuple[str, ...]
    down: str


_LLAMA = _Names(
    "DecoderLayer",
    ("self_attn",),
    ("q_proj", "k_proj", "v_proj"),
    ("o_proj",),
    "mlp",
    ("gate_proj", "up_proj"),
    "down_proj",
)
_BERT = _Names(
    "Layer",
    ("attention.self",),
    ("query", "key", "value"),
    ("..", "attention.output.dense"),
    "",
    ("intermediate.dense",),
    "output.dense",
)
_GPT2 = _Names("Block", ("attn",), ("c_attn",), ("c_proj",), "mlp", ("c_fc",), "c_proj")
_T5_SELF = ("layer.0.SelfAttention",)
_T5_BOTH = ("layer.0.SelfAttention", "layer.1.EncDecAttention")


def _t5(block: Any) -> _Names:
    """T5's names depend on the block: a decoder's has cross-attention, v1.1's is gated."""
    last = len(block.layer) - 1
    gated = hasattr(block.layer[last].DenseReluDense, "wi_0")
    return _Names(
        "Block",
        _T5_BOTH if last == 2 else _T5_SELF,
        ("q", "k", "v"),
        ("o",),
        f"layer.{last}.DenseReluDense",
        ("wi_0", "wi_1") if gated else ("wi",),
        "wo",
    )


# Class of a block -> its names. An architecture is supported if its blocks are in this table.
_BLOCKS: dict[str, Any] = {
    "LlamaDecoderLayer": _LLAMA,
    "MistralDecoderLayer": _LLAMA,
    "Qwen2DecoderLayer": _LLAMA,
    "Qwen3DecoderLayer": _LLAMA,
    "BertLayer": _BERT,
    "RobertaLayer": _BERT,
    "XLMRobertaLayer": _BERT,
    "GPT2Block": _GPT2,
    "T5Block": _t5,
    "MT5Block": _t5,
}


def layers(model: nn.Module) -> list[Layer]:
    """The blocks of `model` in order, encoder before decoder, with their projections by role.

    Raises FrugalError for an architecture that is not in the table; it lists what was found.
    """
    found: list[Layer] = []
    for name, module in model.named_modules():
        if type(module).__name__ in _BLOCKS:
            names = _BLOCKS[type(module).__name__]
            names = names(module) if callable(names) else names
            found.append(_layer(len(found), name, module, names))
    if not found:
        kinds = sorted({type(m).__name__ for m in model.modules() if _is_block_like(m)})
        raise FrugalError(
            f"{type(model).__name__} is not supported: its blocks are "
            f"{', '.join(kinds) or 'of no known shape'}; supported are {', '.join(_BLOCKS)}"
        )
    return found


def _is_block_like(module: nn.Module) -> bool:
    return any(w in type(module).__name__ for w in ("Layer", "Block")) and any(
        isinstance(m, nn.Linear) for m in module.modules()
    )


def _layer(index: int, name: str, block: Any, names: _Names) -> Layer:
    def projections(owner: str, paths: tuple[str, ...], parts: int) -> Iterator[Projection]:
        for path in paths:
            at = ".".join(p for p in (owner, path) if p)
            module = block.get_submodule(at)
            conv1d = type(module).__name__ == "Conv1D"
            size = module.weight.shape[1 if conv1d else 0] * len(paths) // parts
            for i in range(parts // len(paths)):
                cut = slice(i * size, (i + 1) * size)
                yield Projection(f"{name}.{at}", module, cut, conv1d)

    attentions = []
    for path in names.attentions:
        q, k, v = projections(path, names.qkv, 3)
        below = ("", names.o[1:]) if names.o[0] == ".." else (path, names.o)
        (o,) = projections(*below, 1)
        attentions.append(Attention(f"{name}.{path}", block.get_submodule(path), q, k, v, o))
    up = tuple(projections(names.feed_forward, names.up, len(names.up)))
    (down,) = projections(names.feed_forward, (names.down,), 1)
    place = f"{name}.{names.feed_forward}" if names.feed_forward else name
    feed_forward = FeedForward(place, block.get_submodule(names.feed_forward), up, down)
    return Layer(index, name, block, tuple(attentions), feed_forward)


def freeze(model: nn.Module) -> dict[str, bool]:
    """Stop all gradients of the model's own parameters; which of them had any, to restore."""
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(False)
    return before


def restore(model: nn.Module, before: dict[str, bool]) -> None:
    """Undo `freeze`."""
    for name, p in model.named_parameters():
        p.requires_grad_(before[name])
        if not before[name]:
            p.grad = None


def ones(size: int, like: Tensor) -> nn.Parameter:
    """(size,) ones where `like` is, in fp32 at least: a half's steps are too coarse to train."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return nn.Parameter(torch.ones(size, dtype=dtype, device=like.device))
