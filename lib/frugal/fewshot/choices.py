"""Packed choice scoring: the log-probability of every answer choice, with nothing computed twice.

Examples come as packed batches (see `packing`); what all prompts of a call share (instructions,
the shots of in-context learning) is a *prefix* whose K/V cache is computed once; and the
vocabulary projection runs only where a choice token is predicted. The log-probabilities are those
of scoring each choice alone, in a row of its own.

An encoder–decoder reads each prompt once, and projects what it read to cross-attention's K and V
once: all choices of an example lie in one row of the decoder.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frugal.engine import stderr
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import passes, probe
from frugal.fewshot.encoding import EncodedExample, encode
from frugal.fewshot.packing import (
    ChoiceTree,
    PackedBatch,
    layout,
    numbering,
    pack,
    shared_prefix,
    tree,
)
from frugal.fewshot.passes import prefix_cache
from frugal.internals import Cache

if TYPE_CHECKING:
    from frugal.tasks import Example

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
    packed:     whether choices shared passes; if not, each had one of its own
    """

    token_logp: Tensor
    choice: Tensor
    example: Tensor
    correct: Tensor
    tokens_computed: int
    packed: bool = True

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


def forward(backbone: Backbone, batch: PackedBatch, prefix: Cache | None = None) -> ChoiceScores:
    """Scores of one packed batch; differentiable where gradients are on."""
    flex = batch.input_ids.shape[1] > passes.BLOCK and probe.flexes(backbone)
    token_logp = passes.packed(backbone, batch, prefix, flex=flex)
    return ChoiceScores(token_logp, batch.choice, batch.example, batch.correct, batch.tokens)


def together(
    backbone: Backbone, encoded: Sequence[EncodedExample], *, packed: bool = True
) -> ChoiceScores:
    """Scores of some examples, differentiable: in one packed batch, or each choice alone."""
    behind = shared_prefix(encoded, uses=len(encoded)) if packed else 0
    trees = [tree(e, behind) for e in encoded]
    if not packed:
        token_logp = passes.alone(backbone, encoded)
        choice, example, correct = (x.to(backbone.device) for x in numbering(trees))
        tokens = _tokens_alone(encoded)
        return ChoiceScores(token_logp, choice, example, correct, tokens, packed=False)
    cache = prefix_cache(backbone, encoded[0].sequences[0][:behind]) if behind else None
    scores = forward(backbone, pack(trees, layout(trees), backbone.device), cache)
    return dataclasses.replace(scores, tokens_computed=behind + scores.tokens_computed)


def score(
    backbone: Backbone, examples: "Sequence[Example] | Sequence[EncodedExample]"
) -> ChoiceScores:
    """Scores of all examples, without gradients, in batches sorted by length.

    Raises FrugalError for an empty list, a prompt longer than the model's context, a model that
    gives no choice a log-probability of its own, and one that is not finite.
    """
    probe.packs(backbone)
    encoded = encode(backbone, examples)
    prefix = shared_prefix(encoded, uses=len(encoded))
    trees = [tree(e, prefix) for e in encoded]
    rows = layout(trees)
    longest = prefix + max(_width(trees, row) for row in rows)
    packed = probe.packs(backbone, longest, answers(backbone, trees))
    token_logp: dict[int, Tensor] = {}
    with torch.inference_mode(), stderr.bar(len(encoded), "examples") as shown:
        if packed:
            cache = prefix_cache(backbone, encoded[0].sequences[0][:prefix]) if prefix else None
            computed = prefix + sum(map(len, trees))
        else:
            computed = _tokens_alone(encoded)
            for i, example in enumerate(encoded):
                token_logp[i] = passes.alone(backbone, [example]).cpu()
                shown(len(token_logp))
            rows = []
        budget = BATCH_TOKENS.get(backbone.device.type, BATCH_TOKENS["cuda"])
        while rows:
            step = max(1, budget // _width(trees, rows[0]))  # the longest
            some = sorted(i for row in rows[:step] for i in row)
            batch = pack(trees, rows[:step], backbone.device)
            rows = rows[step:]
            found = forward(backbone, batch, cache).token_logp.cpu()
            pieces = found.split([len(trees[i].target) for i in some])
            token_logp.update(zip(some, pieces, strict=True))
            shown(len(token_logp))
    every = [token_logp[i] for i in range(len(trees))]
    if wrong := [i for i, logp in enumerate(every) if not logp.isfinite().all()]:
        bad = wrong[0]
        whose = encoded[bad].example
        raise FrugalError(
            f"example {bad}: {backbone.name} gives it a log-probability that is not finite "
            f"({backbone.model.dtype}): {whose and whose.prompt[:40]!r}"
        )
    return ChoiceScores(torch.cat(every), *numbering(trees), computed, packed)


def answers(backbone: Backbone, trees: Sequence[ChoiceTree]) -> int:
    """Tokens of an encoder–decoder's longest decoder row; 0 in a causal LM."""
    return max(len(t.tokens) for t in trees) if backbone.family == "encoder-decoder" else 0


def _width(trees: Sequence[ChoiceTree], row: Sequence[int]) -> int:
    """Tokens of a row of trees."""
    return sum(len(trees[i]) for i in row)


def _tokens_alone(encoded: Sequence[EncodedExample]) -> int:
    """Tokens that go through the model where each choice is alone."""
    return sum(len(e.read) + len(s) - 1 for e in encoded for s in e.sequences)
