"""Forward passes over choices: packed, a padded row for every choice, and each choice alone.

All three give the same log-probabilities. The packed pass tells the model what a tree is: who sees
whom (a mask), and where a token stands (its depth). A model takes positions in one of three ways:
as an argument, in a table that counts places by itself, or as a bias of the distance. The last two
are made to count depths for the time of a pass. Whether a model does all that is for `probe`.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot.encoding import EncodedExample
from frugal.fewshot.packing import PackedBatch
from frugal.internals import Cache, DynamicCache, DynamicLayer, cache_made, cache_named
from frugal.kernels import frozen_vocab


def _window(size: int) -> Callable[[Any, Any], Any]:
    return lambda of, seen: of - seen < size


def _chunk(size: int) -> Callable[[Any, Any], Any]:
    return lambda of, seen: of // size == seen // size


# How near an ancestor must be to be seen, by type of layer: configuration -> two depths -> bool.
_LAYERS: dict[str, Callable[[Any], Callable[[Any, Any], Any] | None]] = {
    "full_attention": lambda config: None,
    "sliding_attention": lambda config: _window(config.sliding_window),
    "chunked_attention": lambda config: _chunk(config.attention_chunk_size),
}

# Tokens of a row, from which on FlexAttention leaves out what nobody sees: by blocks of as many.
BLOCK = 128
_SHAPES = 128  # kernels that torch may compile for attention: about 8 a model, 8 for gradients

# model -> whether its logits are its vocabulary's products: nothing is added, scaled or capped
_BARE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class _SharedPrefix(DynamicLayer):
    """One layer's K and V of the prefix, (1, heads, P, size), in front of every row's own."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        rows = len(key)
        return (
            torch.cat([self.keys.expand(rows, -1, -1, -1), key], dim=2),
            torch.cat([self.values.expand(rows, -1, -1, -1), value], dim=2),
        )


def prefix_cache(backbone: Backbone, prefix: Sequence[int]) -> Cache:
    """K and V of the tokens that all trees of a call share, computed once; differentiable."""
    ids = torch.tensor([list(prefix)], device=backbone.device)
    model = backbone.model.base_model
    cache = cache_made(model(input_ids=ids, use_cache=True, **cache_named(model, DynamicCache())))
    return Cache(layers=[_SharedPrefix(layer.keys, layer.values) for layer in cache.layers])


def packed(
    backbone: Backbone, batch: PackedBatch, prefix: Cache | None = None, *, flex: bool = False
) -> Tensor:
    """(choice tokens,) log p of each, of one packed batch; differentiable.

    flex: whether FlexAttention is told who sees whom, and not shown a mask. A mask is turned into
        numbers by every layer, and kept for the gradient; the pairs it forbids are computed. Of a
        causal model that `probe.flexes`
    """
    with _flex(backbone.model.config) if flex else contextlib.nullcontext():
        return _packed(backbone, batch, prefix)


@contextlib.contextmanager
def _flex(config: Any) -> Iterator[None]:
    """Let a model compute attention by FlexAttention while this lasts."""
    before, config._attn_implementation = config._attn_implementation, "flex_attention"
    try:
        with torch._dynamo.config.patch(recompile_limit=_SHAPES):
            yield
    finally:
        config._attn_implementation = before


def _packed(backbone: Backbone, batch: PackedBatch, prefix: Cache | None) -> Tensor:
    # Only where a choice token is predicted, and there once, is the vocabulary needed.
    source, row = torch.unique(batch.source, return_inverse=True)
    model = backbone.model
    head = model.get_output_embeddings()
    if _is_frozen(head) and _BARE.get(model, True):
        with _instead_of(head, source) as (states, planted):
            logits = _logits(backbone, batch, prefix)
        if model not in _BARE:
            _BARE[model] = len(states) == 1 and torch.equal(logits, planted.to(logits))
        if _BARE[model]:
            return frozen_vocab.token_logp(states[0], head.weight, batch.target, row, head.bias)
    with _only_at(head, source):
        logits = _logits(backbone, batch, prefix).float()
    return logits[row, batch.target] - logits.logsumexp(dim=-1)[row]


def alone(backbone: Backbone, encoded: Sequence[EncodedExample]) -> Tensor:
    """(choice tokens,) log p of each, every choice in a pass of its own: no mask, no padding.

    What any model computes of a text, and so what every other pass must equal; differentiable.
    """
    found = []
    for e in encoded:
        for sequence in e.sequences:
            _forget(backbone.model)
            ids = torch.tensor([sequence], device=backbone.device)
            if backbone.family == "encoder-decoder":
                read = torch.tensor([list(e.read)], device=backbone.device)
                inputs = {"input_ids": read, "decoder_input_ids": ids[:, :-1]}
            else:
                inputs = {"input_ids": ids[:, :-1]}
            logits = backbone.model(**inputs, use_cache=False).logits[0]
            if len(logits) != len(sequence) - 1:
                raise FrugalError(f"{backbone.name}: its logits are not those of the text's tokens")
            logp = logits[e.start - 1 :].float().log_softmax(-1)
            found.append(logp.gather(1, ids[0, e.start :, None])[:, 0])
    return torch.cat(found)


def one_row_per_choice(
    backbone: Backbone, encoded: Sequence[EncodedExample], *, read_once: bool = False
) -> Tensor:
    """(choice tokens,) log p of each the usual way: a padded row for every choice.

    What packing is measured against. An encoder–decoder reads an example's prompt once for every
    choice; with `read_once` it reads it once and the states are repeated for every choice, as
    T-Few's released code does.
    """
    sequences = [(s, e.start) for e in encoded for s in e.sequences]
    ids, mask = _padded([s for s, _ in sequences], backbone.device)
    if backbone.family == "encoder-decoder":
        repeats = torch.tensor([len(e.sequences) for e in encoded], device=backbone.device)
        read, read_mask = _padded([e.read for e in encoded], backbone.device)
        inputs: dict[str, Any] = {"input_ids": read.repeat_interleave(repeats, dim=0)}
        if read_once:
            states = backbone.model.get_encoder()(read, attention_mask=read_mask)[0]
            inputs = {"encoder_outputs": (states.repeat_interleave(repeats, dim=0),)}
        logits = backbone.model(
            **inputs,
            attention_mask=read_mask.repeat_interleave(repeats, dim=0),
            decoder_input_ids=ids[:, :-1],
            decoder_attention_mask=mask[:, :-1],
            use_cache=False,
        ).logits
    else:
        logits = backbone.model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    logp = logits.float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    spans = [slice(start - 1, len(s) - 1) for s, start in sequences]
    return torch.cat([row[span] for row, span in zip(logp, spans, strict=True)])


def _padded(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids as one tensor, zeros behind the shorter ones, and where they are no padding."""
    width = max(map(len, sequences))
    ids = torch.tensor([[*s] + [0] * (width - len(s)) for s in sequences], device=device)
    lengths = torch.tensor([len(s) for s in sequences], device=device)
    return ids, (torch.arange(width, device=device) < lengths[:, None]).long()


def _logits(backbone: Backbone, batch: PackedBatch, prefix: Cache | None) -> Tensor:
    """What the model makes of a batch, told that it is of trees."""
    model = backbone.model
    inputs: dict[str, Any]
    if backbone.family == "encoder-decoder":
        stack, side = model.get_decoder(), "decoder_"
        inputs = {"input_ids": batch.read_ids, "attention_mask": batch.read_mask}
    else:
        stack, side, inputs = model, "", cache_named(model, prefix) if prefix else {}
    behind = prefix.get_seq_length() if prefix else 0
    inputs |= {
        f"{side}input_ids": batch.input_ids,
        f"{side}attention_mask": _masks(stack, batch, behind),
        **_positions(model, f"{side}position_ids", batch),
    }
    with _by_depth(stack, batch.position_ids):
        logits: Tensor = model(**inputs, use_cache=prefix is not None).logits
    return logits


def _is_frozen(head: Any) -> bool:
    """Whether a vocabulary is a plain linear map that gets no gradient and nothing listens to."""
    own = type(head) is torch.nn.Linear and "forward" not in vars(head)
    heard = own and (head._forward_hooks or head._forward_pre_hooks)
    trained = own and any(p.requires_grad for p in head.parameters())
    return own and not heard and not (trained and torch.is_grad_enabled())


@contextlib.contextmanager
def _instead_of(head: Any, source: Tensor) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Keep the states that the vocabulary projection would see at these places, (places, d).

    In place of their logits the model gets one row of numbers, which stands beside the states:
    what comes out of the model shows whether it does anything behind the projection.
    """
    states: list[Tensor] = []
    planted = torch.linspace(-100, 100, len(head.weight), device=source.device)[None]
    planted = planted.to(head.weight.dtype)

    def see(h: Tensor) -> Tensor:
        states.append(h.flatten(0, 1)[source])
        return planted.clone()  # the model may change it in place

    head.forward = see
    try:
        yield states, planted
    finally:
        del head.forward


@contextlib.contextmanager
def _only_at(head: Any, source: Tensor) -> Iterator[None]:
    """Let the vocabulary projection see the states at these places alone, as (places, d).

    Whatever a model does around it (T5 and Cohere scale, BERT transforms, Gemma 2 caps) it still
    does by itself.
    """
    handle = head.register_forward_pre_hook(lambda _, arguments: arguments[0].flatten(0, 1)[source])
    try:
        yield
    finally:
        handle.remove()


def _masks(model: Any, batch: PackedBatch, behind: int) -> Any:
    """Who sees whom as the model's attention wants it, (R, 1, L, P + L), P tokens in front.

    Where layers differ, one for each of their types; a window counts depths. Raises FrugalError
    for a type of layer that no mask can stand for.
    """
    config, depth = model.config, batch.position_ids
    rows, length = depth.shape
    front = torch.arange(behind, device=depth.device).expand(rows, -1)
    places = torch.arange(-behind, length, device=depth.device)
    last = torch.cat([torch.full_like(front, length), batch.last], dim=1)
    depths = torch.cat([front, depth], dim=1)

    def mask(layer: str) -> Any:
        if layer not in _LAYERS:
            raise FrugalError(f"{layer} layers take no mask")
        near = _LAYERS[layer](config)

        def sees(row: Any, head: Any, q: Any, k: Any) -> Any:
            below = (places[k] <= q) & (q <= last[row, k])  # k is the token's ancestor, or itself
            return below & near(depth[row, q], depths[row, k]) if near else below

        if config._attn_implementation == "flex_attention":
            return create_block_mask(sees, rows, None, length, behind + length, depth.device)
        row, q = torch.arange(rows, device=depth.device), torch.arange(length, device=depth.device)
        found = sees(row[:, None, None, None], 0, q[:, None], places + behind)
        if config._attn_implementation != "eager":
            return found
        added = torch.zeros_like(found, dtype=model.dtype)  # to the scores
        return added.masked_fill(~found, torch.finfo(model.dtype).min)

    if layers := set(getattr(config, "layer_types", None) or ()):
        found = {layer: mask(layer) for layer in layers}
        return found if len(found) > 1 else found.popitem()[1]
    window = getattr(config, "sliding_window", None)
    return mask("sliding_attention" if window else "full_attention")


def _positions(model: Any, name: str, batch: PackedBatch) -> dict[str, Tensor]:
    """Depths as an argument, where nothing else counts them; one that vanishes is found out."""
    return {} if _counters(model) or _biases(model) else {name: batch.position_ids}


def _counters(stack: Any) -> list[Any]:
    """Tables of positions that count places by themselves, where a model takes no positions."""
    if "position_ids" in inspect.signature(stack.forward).parameters:
        return []
    return [m for name, m in stack.named_modules() if name.rpartition(".")[2] == "embed_positions"]


def _biases(stack: Any) -> list[Any]:
    """Attentions with a learned bias of the distance: T5's first one, all of UMT5's."""
    return [m for m in stack.modules() if getattr(m, "has_relative_attention_bias", False)]


@contextlib.contextmanager
def _by_depth(stack: Any, depth: Tensor) -> Iterator[None]:
    """What counts places in a row counts depths (R, L) instead, while this lasts."""
    changed = [(m, "forward", _looked_up(m.forward, depth)) for m in _counters(stack)]
    changed += [(m, "compute_bias", _bias(m.compute_bias, depth)) for m in _biases(stack)]
    for module, name, function in changed:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module, name, _ in changed:
            delattr(module, name)


def _deeper(depth: Tensor, length: int) -> Tensor:
    """Depths of a row of `length`: what stands in front of the text (a prompt) moves it up."""
    front = length - depth.shape[1]
    before = torch.arange(front, device=depth.device).expand(len(depth), -1)
    return torch.cat([before, depth + front], dim=1)


def _looked_up(own: Any, depth: Tensor) -> Any:
    """A table of positions, read at the depths: a plain row of tokens shows it."""

    def read(of: Any, *more: Any, **options: Any) -> Tensor:
        ids = isinstance(of, Tensor)
        where = _deeper(depth, of.shape[1] if ids else of[1])
        length = int(where.max()) + 1
        row = of[:1, :1].expand(1, length, *of.shape[2:]) if ids else torch.Size((1, length))
        if options.get("position_ids") is not None:
            options["position_ids"] = torch.arange(length, device=depth.device)
        return own(row, *more, **options).reshape(length, -1)[where]

    return read


def _bias(own: Any, depth: Tensor) -> Any:
    """(R, heads, L, L) T5's bias b(i - j) of places i and j, as b(depth_i - depth_j).

    A token's distance to its ancestors, all that it sees, is one of depths.
    """

    def compute(queries: int, keys: int, *_: Any, **__: Any) -> Tensor:
        where = _deeper(depth, queries)
        length = int(where.max()) + 1
        # (heads, length): b by distance, read off the last row of a plain sequence's table
        by_distance = own(length, length, device=depth.device)[0, :, -1].flip(-1)
        distance = (where[:, :, None] - where[:, None]).clamp(min=0)
        return by_distance[:, distance].transpose(0, 1)

    return compute


def _forget(model: Any) -> None:
    """Make a model forget the texts that it has seen: two kinds of layers keep a trace of them.

    A "dynamic" rope stays stretched after a longer text, and BigBird's sparse attention is given
    up for good after a short one.
    """
    kind = getattr(model.config, "attention_type", None)
    for module in model.modules():
        for name in [n for n in vars(module) if n.endswith("max_seq_len_cached")]:
            part = name.removesuffix("max_seq_len_cached")
            if getattr(module, name) != module.original_max_seq_len:
                setattr(module, name, module.original_max_seq_len)
                first = getattr(module, f"{part}original_inv_freq").to(model.device)
                module.register_buffer(f"{part}inv_freq", first, persistent=False)
        if hasattr(module, "set_attention_type") and module.attention_type != kind:
            module.set_attention_type(kind)
