"""What a model is made of: its matrices, layer by layer, and everything beside them.

A model is built on the meta device, where tensors have shapes and no numbers. `read` finds the one
closed form whose layers have these matrices; `costs.derive` proves that it is the right one.
"""

import copy
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from frugal.costs.arch import Architecture, Family, Kind, Tensors
from frugal.errors import FrugalError

# The transformers class that builds, and loads, a model of each kind.
AUTO = {
    "decoder-only": "AutoModelForCausalLM",
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "encoder-only": "AutoModel",
}
FAMILIES: dict[Kind, Family] = {
    "decoder-only": "decoder",
    "encoder-decoder": "seq2seq",
    "encoder-only": "encoder",
}


def skeleton(config: Any, kind: Kind) -> Any:
    """The model of the configuration, without numbers."""
    import torch
    import transformers

    from frugal.internals import no_init_weights

    auto = getattr(transformers, AUTO[kind])
    with torch.device("meta"), no_init_weights():
        model = auto.from_config(
            copy.deepcopy(config), attn_implementation="eager", trust_remote_code=False
        ).eval()
    model.tie_weights()  # which transformers takes for a part of drawing numbers
    return model


class Matrix(NamedTuple):
    """A linear map of a layer: the module, and its shape as (out, in)."""

    module: Any
    shape: tuple[int, int]


def matrices_of(root: Any) -> list[Matrix]:
    """The linear maps below `root`, in order."""
    from torch import nn

    from frugal.internals import Conv1D

    found = []
    for module in root.modules():
        if isinstance(module, Conv1D):  # stored (in, out)
            columns, rows = module.weight.shape
            found.append(Matrix(module, (rows, columns)))
        elif isinstance(module, nn.Linear):
            rows, columns = module.weight.shape
            found.append(Matrix(module, (rows, columns)))
    return found


def stacks_of(model: Any) -> list[Any]:
    """The lists of layers, outermost ones alone, encoder before decoder."""
    from torch import nn

    found: list[tuple[str, Any]] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{other}.") for other, _ in found)
        if isinstance(module, nn.ModuleList) and not inside and matrices_of(module):
            found.append((name, module))
    return [module for _, module in found]


class _Block(NamedTuple):
    """How a layer's matrices make attention and feed-forward."""

    kv_heads: int
    head_size: int
    d_ff: int
    gated: bool
    fused: bool


def _blocks(shapes: list[tuple[int, int]], d: int, heads: int, cross: bool) -> Iterator[_Block]:
    """Every reading of these matrices as one layer."""
    for kv_heads, fused in itertools.product(range(heads, 0, -1), (False, True)):
        if heads % kv_heads:
            continue
        # Queries give their width to the output projection, (d, d_q).
        for d_q in {columns for rows, columns in shapes if rows == d}:
            if d_q % heads:
                continue
            d_kv = d_q // heads * kv_heads
            apart = [(d_q, d), (d_kv, d), (d_kv, d), (d, d_q)]
            attention = [(d_q + 2 * d_kv, d), (d, d_q)] if fused else apart
            left = Counter(shapes)
            left.subtract(attention + apart * cross)
            if min(left.values()) < 0:
                continue
            rest = sorted((+left).elements())
            for d_ff in {columns for rows, columns in rest if rows == d}:
                found = (kv_heads, d_q // heads, d_ff)
                if rest == sorted([(d_ff, d), (d, d_ff)]):
                    yield _Block(*found, gated=False, fused=fused)
                if rest == sorted([(d_ff, d), (d_ff, d), (d, d_ff)]):
                    yield _Block(*found, gated=True, fused=fused)
                if rest == sorted([(2 * d_ff, d), (d, d_ff)]):
                    yield _Block(*found, gated=True, fused=fused)


def read(config: Any, kind: Kind, model: Any) -> Architecture:
    """The closed form that the fields and the matrices suggest."""
    from torch import nn

    d, heads = config.hidden_size, config.num_attention_heads
    stacks = stacks_of(model)
    if len(stacks) != (2 if kind == "encoder-decoder" else 1):
        raise FrugalError(f"{len(stacks)} stacks of layers")
    read = [_block_of(stack, d, heads, cross=bool(number)) for number, stack in enumerate(stacks)]
    block = read[0]
    if any(other != block for other in read):
        raise FrugalError("the decoder's layers have other sizes than the encoder's")

    head = None if kind == "encoder-only" else model.get_output_embeddings()
    if kind != "encoder-only" and not isinstance(head, nn.Linear):
        raise FrugalError("no matrix gives the vocabulary")
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    tokens = model.get_input_embeddings()
    own = [m.module for stack in stacks for layer in stack for m in matrices_of(layer)]
    outside = [m for m in matrices_of(model) if not any(m.module is o for o in own)]
    pooler = getattr(getattr(model, "pooler", None), "dense", None)
    for m in outside:
        if m.module is not head and m.module is not pooler:
            raise FrugalError(f"it has a matrix of shape {m.shape} outside its layers")
    sizes = (getattr(config, field, None) for field in ("sliding_window", "window_size"))
    windows = [size for size in sizes if isinstance(size, int) and size > 0]
    return Architecture(
        name=config.model_type,
        family=FAMILIES[kind],
        layers=len(stacks[0]),
        decoder_layers=len(stacks[1]) if len(stacks) > 1 else 0,
        d_model=d,
        heads=heads,
        kv_heads=block.kv_heads,
        head_size=block.head_size,
        d_ff=block.d_ff,
        gated=block.gated,
        fused=block.fused,
        vocabulary=head.out_features if head is not None else tokens.num_embeddings,
        tied=head is None or any(head.weight is t.weight for t in tables),
        pooler=pooler is not None,
        others=_others(model, pooler),
        shifts=_shifts(stacks),
        window=min(windows, default=0),
    )


def _block_of(stack: Any, d: int, heads: int, cross: bool) -> _Block:
    """The one reading of all layers of a stack."""
    shapes = [[m.shape for m in matrices_of(layer)] for layer in stack]
    if any(sorted(other) != sorted(shapes[0]) for other in shapes):
        raise FrugalError("its layers are not alike")
    found = next(_blocks(shapes[0], d, heads, cross), None)
    if found is None:
        raise FrugalError(f"a layer of matrices {shapes[0]} is no attention and feed-forward")
    return found


def _others(model: Any, pooler: Any) -> tuple[Tensors, ...]:
    """Every parameter beside the matrices: tables, norms, biases."""
    from torch import nn

    found: Counter[tuple[str, tuple[int, ...]]] = Counter()
    matrices = [m.module for m in matrices_of(model)]
    tokens, head = model.get_input_embeddings(), model.get_output_embeddings()
    seen: set[int] = set()
    for name, module in model.named_modules():
        for key, p in module.named_parameters(recurse=False):
            if id(p) in seen or module is pooler:
                continue
            seen.add(id(p))
            linear = any(module is m for m in matrices)
            if isinstance(module, nn.Embedding):
                rows = module is tokens or len(p) == tokens.num_embeddings
                kind = "tokens" if rows else "types" if "type" in name else "positions"
                part = f"embedding/{kind}"
            elif linear and key == "weight":
                continue
            elif p.dim() > 1:
                raise FrugalError(f"{name}.{key}, {tuple(p.shape)}, is no matrix of a known kind")
            elif linear:
                part = "vocabulary" if module is head else "biases"
            else:
                part = "norms" if is_norm(module) else "scales"
            found[part, tuple(p.shape)] += 1
    return tuple((part, count, shape) for (part, shape), count in found.items())


def is_norm(module: Any) -> bool:
    return "Norm" in type(module).__name__


def norm_shifts(layer: Any) -> list[Any]:
    """The shifts of the norms below `layer`."""
    norms = filter(is_norm, layer.modules())
    return [b for b in (getattr(m, "bias", None) for m in norms) if b is not None]


def _shifts(stacks: list[Any]) -> tuple[Tensors, ...]:
    sizes = Counter(
        tuple(b.shape) for stack in stacks for layer in stack for b in norm_shifts(layer)
    )
    return tuple(("norms", count, shape) for shape, count in sizes.items())
