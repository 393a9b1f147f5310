"""Where the attention and feed-forward projections of a transformers model are, by role.

One table of names per architecture family; everything else in this room speaks of roles: the key
projection of layer 3, the down projection of layer 5.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from frugal.errors import FrugalError, unknown
from frugal.kernels.int8 import Int8Linear

# "up" is both input matrices of a gated feed-forward.
ROLES = ("q", "k", "v", "o", "up", "down")


@dataclass(frozen=True)
class Projection:
    """A linear map y = W x + b of the model, or the slice of a fused one that plays one role.

    outputs: which of the module's output features are this projection's
    conv1d:  its weight is stored (in, out), as GPT-2 does, and not (out, in)
    """

    role: str
    owner: str  # name of the attention or feed-forward it belongs to
    name: str  # of the module
    module: Any
    outputs: slice
    conv1d: bool = False

    @property
    def key(self) -> str:
        """A name that no other projection of the model has."""
        return f"{self.name}.{self.role}" if self.fused else self.name

    @property
    def in_features(self) -> int:
        return int(self.module.weight.shape[0 if self.conv1d else 1])

    @property
    def out_features(self) -> int:
        return self.outputs.stop - self.outputs.start

    @property
    def module_features(self) -> int:
        """Output features of the module."""
        return int(self.module.weight.shape[1 if self.conv1d else 0])

    @property
    def fused(self) -> bool:
        """Whether the module's other outputs play other roles."""
        return self.out_features != self.module_features

    def weight(self) -> Tensor:
        """(out, in) view of this projection's weight, without gradient."""
        weight = self.module.weight.detach()
        return (weight.T if self.conv1d else weight)[self.outputs]

    def bias(self) -> Tensor | None:
        """(out,) view of this projection's bias, or None."""
        bias = self.module.bias
        return None if bias is None else bias.detach()[self.outputs]

    def padded(self, features: Tensor, width: int, value: float) -> Tensor:
        """(…, out) → (…, width): `features` in their place among all outputs of the module."""
        before, after = self.outputs.start, width - self.outputs.stop
        return nn.functional.pad(features, (before, after), value=value) if self.fused else features


@dataclass(frozen=True)
class Attention:
    """Self- or cross-attention, and the projections in it."""

    name: str
    module: Any
    cross: bool
    q: Projection
    k: Projection
    v: Projection
    o: Projection


@dataclass(frozen=True)
class Layer:
    """A transformer block: self-attention, cross-attention in a decoder, feed-forward."""

    index: int  # from 0; an encoder–decoder's decoder goes on where its encoder ends
    name: str
    module: Any
    attentions: tuple[Attention, ...]
    up: tuple[Projection, ...]  # of the feed-forward: one, or gate and up
    down: Projection

    def projections(self, roles: Sequence[str] = ROLES) -> list[Projection]:
        """Those that play one of `roles`; FrugalError for a role that does not exist."""
        for role in roles:
            if role not in ROLES:
                raise unknown("role of a projection", role, ROLES)
        attended = [p for a in self.attentions for p in (a.q, a.k, a.v, a.o)]
        return [p for p in (*attended, *self.up, self.down) if p.role in roles]

    @property
    def stack(self) -> str:
        """Name of the module that runs this layer and its neighbours one after the other."""
        return ".".join(self.name.split(".")[:-2])


class _Names(NamedTuple):
    """Where things are below a block of one architecture family, as attribute paths."""

    attentions: tuple[str, ...]  # self-attention, then cross-attention
    qkv: tuple[str, ...]  # three names, or one of a fused projection
    o: str  # below the attention, or "../" below what the attention is in
    feed_forward: str
    up: tuple[str, ...]
    down: str


def _llama(block: Any) -> _Names:
    qkv, up = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
    return _Names(("self_attn",), qkv, "o_proj", "mlp", up, "down_proj")


def _bert(block: Any) -> _Names:
    cross = ("crossattention.self",) if hasattr(block, "crossattention") else ()
    qkv, up = ("query", "key", "value"), ("intermediate.dense",)
    return _Names(("attention.self", *cross), qkv, "../output.dense", "", up, "output.dense")


def _gpt2(block: Any) -> _Names:
    if hasattr(block, "crossattention"):
        raise FrugalError("GPT2Block with cross-attention is not supported")
    return _Names(("attn",), ("c_attn",), "c_proj", "mlp", ("c_fc",), "c_proj")


def _t5(block: Any) -> _Names:
    last = len(block.layer) - 1
    attentions = ("layer.0.SelfAttention", "layer.1.EncDecAttention")[:last]
    up = ("wi_0", "wi_1") if hasattr(block.layer[last].DenseReluDense, "wi_0") else ("wi",)
    return _Names(attentions, ("q", "k", "v"), "o", f"layer.{last}.DenseReluDense", up, "wo")


# Class of a block -> its names. An architecture is supported if its blocks are in this table.
_BLOCKS = {
    "LlamaDecoderLayer": _llama,
    "MistralDecoderLayer": _llama,
    "Qwen2DecoderLayer": _llama,
    "Qwen3DecoderLayer": _llama,
    "BertLayer": _bert,
    "RobertaLayer": _bert,
    "XLMRobertaLayer": _bert,
    "GPT2Block": _gpt2,
    "T5Block": _t5,
    "MT5Block": _t5,
}


def layers(model: nn.Module) -> list[Layer]:
    """The blocks of `model` in order, encoder before decoder, with their projections by role.

    Raises FrugalError for an architecture that is not in the table; it lists what was found.
    """
    found: list[Layer] = []
    for name, module in model.named_modules():
        if names := _BLOCKS.get(type(module).__name__):
            found.append(_layer(len(found), name, module, names(module)))
    if not found:
        kinds = sorted({type(m).__name__ for m in model.modules() if _is_block_like(m)})
        raise FrugalError(
            f"{type(model).__name__} is not supported: its blocks are "
            f"{', '.join(kinds) or 'of no known shape'}; supported are {', '.join(_BLOCKS)}"
        )
    return found


def _is_block_like(module: nn.Module) -> bool:
    return any(w in type(module).__name__ for w in ("Layer", "Block")) and any(
        isinstance(m, (nn.Linear, Int8Linear)) for m in module.modules()
    )


def _layer(index: int, name: str, block: Any, names: _Names) -> Layer:
    def projections(
        owner: str, below: str, paths: Sequence[str], roles: Sequence[str]
    ) -> list[Projection]:
        found = []
        each = len(roles) // len(paths)  # roles that one module plays
        for i, role in enumerate(roles):
            at = ".".join(p for p in (below, paths[i // each]) if p)
            module = block.get_submodule(at)
            if hasattr(module, "base_layer"):
                raise FrugalError(
                    f"{name}.{at} has an adapter of Hugging Face's peft on it already; "
                    "give the model itself"
                )
            conv1d = type(module).__name__ == "Conv1D" or getattr(module, "conv1d", False)
            size = module.weight.shape[1 if conv1d else 0] // each
            cut = slice(i % each * size, (i % each + 1) * size)
            found.append(Projection(role, owner, f"{name}.{at}", module, cut, conv1d))
        return found

    attentions = []
    for i, path in enumerate(names.attentions):
        owner = f"{name}.{path}"
        below = path.rpartition(".")[0] if names.o.startswith("../") else path
        q, k, v = projections(owner, path, names.qkv, "qkv")
        (o,) = projections(owner, below, (names.o.removeprefix("../"),), "o")
        attentions.append(Attention(owner, block.get_submodule(path), i > 0, q, k, v, o))
    owner = f"{name}.{names.feed_forward}".rstrip(".")
    up = projections(owner, names.feed_forward, names.up, ["up"] * len(names.up))
    (down,) = projections(owner, names.feed_forward, (names.down,), ["down"])
    return Layer(index, name, block, tuple(attentions), tuple(up), down)


def norms(modules: Iterable[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Those of the named modules that are a LayerNorm or an RMSNorm."""
    return [(name, module) for name, module in modules if "Norm" in type(module).__name__]


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
