"""Packed choice scoring: the log-probability of every answer choice, with nothing computed twice.

Examples come as packed batches (see `packing`); what all prompts of a call share (instructions,
the shots of in-context learning) is a *prefix* whose K/V cache is computed once; and the
vocabulary projection runs only where a choice token is predicted. The log-probabilities are those
of scoring each choice alone, in a row of its own.

An encoder–decoder reads each prompt once, and projects what it read to cross-attention's K and V
once: all choices of an example lie in one row of the decoder.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot.packing import (
    EncodedExample,
    PackedBatch,
    encode,
    layout,
    numbering,
    pack,
    shared_prefix,
    tree,
)
from frugal.fewshot.tasks import Example

# Tokens in a forward pass of `score`: what stays in a processor's cache, or fills a GPU.
BATCH_TOKENS = {"cpu": 1024, "cuda": 16384}


@dataclass(frozen=True)
class ChoiceScores:
    """Token log-probabilities of all choices of all examples, laid end to end.

    token_logp: (tokens,) log p(y_t | x, y_<t), in nats
    choice:     (tokens,) which choice a token belongs to, counted over all examples
    example:    (choices,) which example a choice belongs to
    correct:    (choices,) whether it is the example's label
    tokens_computed: tokens that went through the model, prefix included, padding not
    """

    token_logp: Tensor
    choice: Tensor
    example: Tensor
    correct: Tensor
    tokens_computed: int

    @property
    def examples(self) -> int:
        return int(self.example[-1]) + 1

    @property
    def tokens(self) -> Tensor:
        """(choices,) length T of each choice in tokens."""
        return torch.bincount(self.choice, minlength=len(self.example))

    @property
    def sum_logp(self) -> Tensor:
        """(choices,) Σ_t log p(y_t | x, y_<t)."""
        zero = self.token_logp.new_zeros(len(self.example))
        return zero.index_add(0, self.choice, self.token_logp)

    @property
    def mean_logp(self) -> Tensor:
        """(choices,) β(x, y) = (1/T) Σ_t log p(y_t | x, y_<t)."""
        return self.sum_logp / self.tokens

    def table(self, values: Tensor) -> Tensor:
        """(choices,) → (examples, most choices), with -inf where an example has fewer choices."""
        counts = torch.bincount(self.example)
        column = (
            torch.arange(len(values), device=values.device)
            - ((counts.cumsum(0) - counts)[self.example])
        )
        table = values.new_full((len(counts), int(counts.max())), float("-inf"))
        return table.index_put((self.example, column), values)

    @property
    def predictions(self) -> Tensor:
        """(examples,) index of the choice with the highest β (T-Few's rank classification)."""
        return self.table(self.mean_logp).argmax(dim=1)

    @property
    def hits(self) -> Tensor:
        """(examples,) whether the prediction is the label."""
        return self.predictions == self.table(self.correct.float()).argmax(dim=1)

    @property
    def accuracy(self) -> float:
        return float(self.hits.double().mean())


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
    cache = backbone.model.base_model(
        input_ids=ids, past_key_values=DynamicCache(), use_cache=True
    ).past_key_values
    return Cache(layers=[_SharedPrefix(layer.keys, layer.values) for layer in cache.layers])


def forward(backbone: Backbone, batch: PackedBatch, prefix: Cache | None = None) -> ChoiceScores:
    """Scores of one packed batch; differentiable where gradients are on."""
    # Only where a choice token is predicted, and there once, is the vocabulary needed.
    source, row = torch.unique(batch.source, return_inverse=True)
    if backbone.family == "encoder-decoder":
        logits = _answer_logits(backbone.model, batch, source).float()
    else:
        logits = _continuation_logits(backbone.model, batch, source, prefix).float()
    token_logp = logits[row, batch.target] - logits.logsumexp(dim=-1)[row]
    return ChoiceScores(token_logp, batch.choice, batch.example, batch.correct, batch.tokens)


def _continuation_logits(
    model: Any, batch: PackedBatch, source: Tensor, prefix: Cache | None
) -> Tensor:
    """(places, V) logits of a causal LM at the places `source` of the batch."""
    behind = prefix.get_seq_length() if prefix is not None else 0
    visible = torch.nn.functional.pad(batch.visible, (behind, 0), value=True)[:, None]
    hidden = model.base_model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=_mask(model, visible),  # (R, 1, L, P + L)
        past_key_values=prefix,
        use_cache=prefix is not None,
    ).last_hidden_state
    return model.get_output_embeddings()(hidden.flatten(0, 1)[source])


def _answer_logits(model: Any, batch: PackedBatch, source: Tensor) -> Tensor:
    """(places, V) logits of an encoder–decoder's decoder at the places `source` of the batch."""
    decoder, visible, positions = model.get_decoder(), batch.visible[:, None], {}
    if (shift := _relative_shift(decoder, batch.position_ids)) is not None:
        mask = shift.masked_fill(~visible, torch.finfo(shift.dtype).min)  # (R, heads, L, L)
    else:
        mask = _mask(decoder, visible)  # (R, 1, L, L)
        positions = {"decoder_position_ids": batch.position_ids}
    with _only_at(model, source):
        return model(
            input_ids=batch.read_ids,
            attention_mask=batch.read_mask,
            decoder_input_ids=batch.input_ids,
            decoder_attention_mask=mask,
            use_cache=False,
            **positions,
        ).logits


def _relative_shift(decoder: Any, depth: Tensor) -> Tensor | None:
    """(R, heads, L, L) what makes T5's bias of places in a row that of the tokens' depths (R, L).

    T5 adds a learned b(i - j) to the score of places i and j of a row. A token's distance to its
    ancestors is one of depths, so b(depth_i - depth_j) - b(i - j) has to be added. None where the
    decoder has absolute positions, which it can be told.
    """
    biased = (m for m in decoder.modules() if getattr(m, "has_relative_attention_bias", False))
    if (attention := next(biased, None)) is None:
        return None
    length = depth.shape[1]
    # (heads, L): b by distance, read off the last row of a plain sequence's table
    bias = attention.compute_bias(length, length, device=depth.device)[0, :, -1].flip(-1)
    place = torch.arange(length, device=depth.device)
    by_place = bias[:, (place[:, None] - place).clamp(min=0)]
    by_depth = bias[:, (depth[:, :, None] - depth[:, None]).clamp(min=0)]
    return by_depth.transpose(0, 1) - by_place


@contextlib.contextmanager
def _only_at(model: Any, source: Tensor) -> Iterator[None]:
    """Let the vocabulary projection see the states at these places alone, as (places, d).

    Whatever a model does in front of it (T5 scales, BERT transforms) it still does by itself.
    """
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, arguments: arguments[0].flatten(0, 1)[source]
    )
    try:
        yield
    finally:
        handle.remove()


def score(
    backbone: Backbone,
    examples: Sequence[Example],
    *,
    truncate: bool = False,
    progress: Callable[[int], Any] = lambda done: None,
) -> ChoiceScores:
    """Scores of all examples, without gradients, in batches sorted by length.

    `progress` is called with the number of examples done after each batch. Raises FrugalError for
    an empty list, a prompt longer than the model's context, or a model that packing does not suit.
    """
    if not examples:
        raise FrugalError("nothing to score: the list of examples is empty")
    check(backbone)
    encoded = encode(backbone, examples, truncate=truncate)
    with torch.inference_mode():
        prefix = shared_prefix(encoded, uses=len(encoded))
        cache = prefix_cache(backbone, encoded[0].sequences[0][:prefix]) if prefix else None
        trees = [tree(e, prefix) for e in encoded]
        rows = layout(trees)
        budget = BATCH_TOKENS.get(backbone.device.type, BATCH_TOKENS["cuda"])
        token_logp: dict[int, Tensor] = {}
        while rows:
            step = max(1, budget // sum(len(trees[i]) for i in rows[0]))  # the longest
            some = sorted(i for row in rows[:step] for i in row)
            batch = pack(trees, rows[:step], backbone.device)
            rows = rows[step:]
            found = forward(backbone, batch, cache).token_logp.cpu()
            pieces = found.split([len(trees[i].target) for i in some])
            token_logp.update(zip(some, pieces, strict=True))
            progress(len(token_logp))
        choice, example, correct = map(torch.from_numpy, numbering(trees))
        return ChoiceScores(
            torch.cat([token_logp[i] for i in range(len(trees))]),
            choice,
            example,
            correct,
            tokens_computed=prefix + sum(map(len, trees)),
        )


def _mask(model: Any, visible: Tensor) -> Tensor:
    """Visibility as the model's attention wants it: boolean, or added to the scores (eager)."""
    if model.config._attn_implementation != "eager":
        return visible
    added = torch.zeros_like(visible, dtype=model.dtype)
    return added.masked_fill(~visible, torch.finfo(model.dtype).min)


def one_row_per_choice(
    backbone: Backbone, encoded: Sequence[EncodedExample], *, read_once: bool = False
) -> Tensor:
    """(choice tokens,) token log-probabilities the plain way: a padded row for every choice.

    What packing must equal, and what it is measured against. An encoder–decoder reads an
    example's prompt once for every choice; with `read_once` it reads it once and the states are
    repeated for every choice, as T-Few's released code does.
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


def check(backbone: Backbone) -> None:
    """Raise FrugalError unless packing gives this model's own log-probabilities.

    Two small forward passes on made-up tokens. It stops models whose attention ignores masks or
    positions handed to them (ALiBi, sliding windows), or whose logits are not plain projections.
    """
    if backbone.family == "encoder":
        raise FrugalError(f"{backbone.name} is an encoder; it gives no choice a log-probability")
    if "sliding_attention" in (getattr(backbone.model.config, "layer_types", None) or ()):
        raise FrugalError(f"{backbone.name} has sliding-window layers, which packing would widen")
    probes = [
        EncodedExample([[2, 3, 5, 7, 11], [2, 3, 5, 7, 13, 17]], 3, 0),
        EncodedExample([[19, 23, 29, 31, 37], [19, 23, 29]], 2, 1),
    ]
    if backbone.family == "encoder-decoder":
        probes = [dataclasses.replace(p, read=(3, 5, 7, 2)[: p.start + 1]) for p in probes]
    trees = [tree(p) for p in probes]
    with torch.inference_mode():
        packed = forward(backbone, pack(trees, layout(trees), backbone.device)).token_logp
        plain = one_row_per_choice(backbone, probes)
    allowed = max(1e-3, 64 * torch.finfo(backbone.model.dtype).eps)
    if not (difference := float((packed - plain).abs().max())) <= allowed:
        raise FrugalError(
            f"{backbone.name}: packed log-probabilities differ from its own by {difference:.2g}; "
            f"this architecture ({backbone.model.config.model_type}) is not supported"
        )
