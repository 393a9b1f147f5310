"""From encoded examples to packed batches: trees of tokens, rows of trees.

All choices of an example start with its prompt, and often with each other's first tokens. So an
example is a *tree*: the prompt is the trunk, the choices are the branches. A token of the tree sees
its ancestors and itself; its position is its depth. A token without children is never fed, since
nothing is predicted from it: two one-token choices cost no more than their prompt. Several trees
lie in one row of a batch, so that little is spent on padding.

A token's descendants lie right behind it. So who sees whom is one number a token, the place of the
last of them: the token at k is seen from place q where k ≤ q ≤ last_k.

In an encoder–decoder the encoder reads the prompt, and the tree is the decoder's: its trunk is the
start token, its branches are the choices, each with the end of text behind it. Such a tree has a
row of its own, since a row attends to one encoded prompt.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugal import moved
from frugal.fewshot.encoding import EncodedExample, common

__getattr__ = moved.names(__name__, {"encode": "frugal.fewshot.encoding"})

# Tokens in a row, at least: the matrix products of shorter ones are slow.
ROW_TOKENS = 32
# Row length at which attention, masked pairs included, costs as much as all else (measured).
PAIR_TOKENS = 2000
# A shared prefix costs one more forward pass, so it must spare at least this many tokens.
PREFIX_SAVING = 256


@dataclass(frozen=True)
class ChoiceTree:
    """One example in tokens, behind a prefix of P tokens that is computed elsewhere.

    tokens:  (n,) what is fed, trunk first, behind every node its descendants
    read:    (s,) what an encoder reads; empty in a causal LM
    depth:   (n,) position of a token, P included
    last:    (n,) place of a token's last descendant, its own where it has none
    source, target, choice: (choice tokens,) token `target` of choice `choice` is predicted at
             node `source`; in order of choice, then of position
    """

    tokens: NDArray[Any]
    read: NDArray[Any]
    depth: NDArray[Any]
    last: NDArray[Any]
    source: NDArray[Any]
    target: NDArray[Any]
    choice: NDArray[Any]
    choices: int
    label: int

    def __len__(self) -> int:
        """Tokens that go through the model."""
        return len(self.read) + len(self.tokens)

    @property
    def shape(self) -> dict[str, int]:
        """The sizes of this example alone, as `costs.flops` takes them."""
        return _shape(len(self.read), len(self.tokens), len(np.unique(self.source)))


def shapes(encoded: EncodedExample, packed: bool = True) -> list[dict[str, int]]:
    """The sizes of the forward passes that an example takes alone, as `costs.flops` takes them."""
    if packed:
        return [tree(encoded).shape]
    fed = [len(sequence) - 1 for sequence in encoded.sequences]
    return [_shape(len(encoded.read), n, logits=n) for n in fed]  # as the model runs by itself


def _shape(read: int, fed: int, logits: int) -> dict[str, int]:
    tokens = {"prompt_tokens": read, "target_tokens": fed} if read else {"prompt_tokens": fed}
    return {**tokens, "logits_at": logits}


def shared_prefix(encoded: Sequence[EncodedExample], uses: int) -> int:
    """How many tokens of the prompts to compute once for `uses` examples at a time.

    Every prompt starts with them and no choice token is predicted from them; 0 where a forward
    pass of their own would cost more than it spares.
    """
    whole = common([s for e in encoded for s in e.sequences])
    shared = min(whole, min(e.start for e in encoded) - 1)
    return shared if shared * (uses - 1) >= PREFIX_SAVING else 0


def tree(encoded: EncodedExample, prefix: int = 0) -> ChoiceTree:
    """The tree of an example's tokens, without its first `prefix` tokens."""
    sequences = [s[prefix:] for s in encoded.sequences]
    start = encoded.start - prefix
    trunk = sequences[0][: min(common(sequences), max(map(len, sequences)) - 1)]
    tokens, depth, parent = list(trunk), list(range(len(trunk))), list(range(-1, len(trunk) - 1))
    children: dict[tuple[int, int], int] = {}
    source, target, choice = [], [], []
    for c, sequence in enumerate(sequences):
        # Tokenizers that merge across the boundary can make choices part before their own tokens.
        first = min(start, len(trunk))
        node = first - 1
        for t in range(first, len(sequence)):
            if t >= start:
                source.append(node)
                target.append(sequence[t])
                choice.append(c)
            if t == len(sequence) - 1:
                break  # nothing is predicted from a choice's last token
            if t < len(trunk):
                node = t
                continue
            key = (node, sequence[t])
            if key not in children:
                children[key] = len(tokens)
                tokens.append(sequence[t])
                depth.append(t)
                parent.append(node)
            node = children[key]
    place, last = _walk(parent, len(trunk))
    order = np.argsort(place)
    return ChoiceTree(
        tokens=np.array(tokens)[order],
        read=np.array(encoded.read, dtype=np.int64),
        depth=np.array(depth)[order] + prefix,
        last=last[order],
        source=place[source],
        target=np.array(target),
        choice=np.array(choice),
        choices=len(sequences),
        label=encoded.label,
    )


def _walk(parent: Sequence[int], trunk: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n,) places of nodes in a walk that goes down before it goes on, and of their last ones.

    parent: of each node, which comes before it; the first `trunk` nodes follow one another
    """
    nodes = range(trunk, len(parent))
    size = np.ones(len(parent) + 1, dtype=np.int64)  # of what hangs on a node; the last is no node
    for node in reversed(nodes):
        size[parent[node]] += size[node]
    place, free = np.arange(len(parent)), {trunk - 1: trunk}  # free: the next place below a node
    for node in nodes:
        place[node] = free[parent[node]]
        free[parent[node]] += size[node]
        free[node] = place[node] + 1
    last = place + size[:-1] - 1
    last[:trunk] = len(parent) - 1
    return place, last


@dataclass(frozen=True)
class PackedBatch:
    """Trees in R rows of L tokens.

    input_ids, position_ids: (R, L)
    read_ids, read_mask: (R, S) what an encoder reads, and where it is no padding; S = 0 in a
              causal LM
    last:     (R, L) place in the row of a token's last descendant; padding has none
    source:   (choice tokens,) place r * L + i of the token that predicts
    target, choice: (choice tokens,); example, correct: (choices,) as in ChoiceScores
    tokens:   tokens fed, padding not counted
    """

    input_ids: Tensor
    position_ids: Tensor
    read_ids: Tensor
    read_mask: Tensor
    last: Tensor
    source: Tensor
    target: Tensor
    choice: Tensor
    example: Tensor
    correct: Tensor
    tokens: int


def layout(trees: Sequence[ChoiceTree]) -> list[list[int]]:
    """Which trees share a row, longest row first."""
    if len(trees[0].read):  # a row attends to one encoded prompt
        return [[i] for i in sorted(range(len(trees)), key=lambda i: -len(trees[i]))]
    rows = fill_rows(list(map(len, trees)))
    return sorted(rows, key=lambda row: -sum(len(trees[i]) for i in row))


def fill_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of trees in rows of at least about ROW_TOKENS, as few and as even as pays.

    Fewer rows waste less on padding, longer ones more on masked pairs of attention.
    """
    most = max(1, round(sum(lengths) / max(ROW_TOKENS, *lengths)))
    tried = [_even_rows(lengths, count) for count in range(max(1, most - 7), most + 1)]

    def cost(rows: list[list[int]]) -> float:
        width = max(sum(lengths[i] for i in row) for row in rows)
        return len(rows) * width * (1 + width / PAIR_TOKENS)

    return min(tried, key=cost)


def _even_rows(lengths: Sequence[int], count: int) -> list[list[int]]:
    """`count` rows, longest tree first, each into the emptiest; the widest sets what all cost."""
    rows: list[list[int]] = [[] for _ in range(count)]
    emptiest = [(0, r) for r in range(count)]
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        load, r = heapq.heappop(emptiest)
        rows[r].append(i)
        heapq.heappush(emptiest, (load + lengths[i], r))
    return [row for row in rows if row]


def pack(
    trees: Sequence[ChoiceTree], rows: Sequence[Sequence[int]], device: torch.device | str = "cpu"
) -> PackedBatch:
    """The trees named in `rows`, as one batch; choices keep the order of the trees."""
    width = max(sum(len(trees[i].tokens) for i in row) for row in rows)
    reads = max(sum(len(trees[i].read) for i in row) for row in rows)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    read = np.zeros((len(rows), reads), dtype=np.int64)
    read_mask = np.zeros_like(read)
    positions = np.zeros_like(ids)
    last = np.tile(np.arange(width), (len(rows), 1))  # padding sees itself: no empty softmax
    place = {}
    for r, row in enumerate(rows):
        at = 0
        for i in row:
            span = slice(at, at + len(trees[i].tokens))
            ids[r, span] = trees[i].tokens
            positions[r, span] = trees[i].depth
            last[r, span] = trees[i].last + at
            read[r, : len(trees[i].read)] = trees[i].read
            read_mask[r, : len(trees[i].read)] = 1
            place[i] = r * width + at
            at = span.stop
    order = sorted(place)
    choice, example, correct = (x.to(device) for x in numbering([trees[i] for i in order]))

    def tensor(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return PackedBatch(
        input_ids=tensor(ids),
        position_ids=tensor(positions),
        read_ids=tensor(read),
        read_mask=tensor(read_mask),
        last=tensor(last),
        source=tensor(np.concatenate([trees[i].source + place[i] for i in order])),
        target=tensor(np.concatenate([trees[i].target for i in order])),
        choice=choice,
        example=example,
        correct=correct,
        tokens=sum(len(trees[i]) for i in order),
    )


def numbering(trees: Sequence[ChoiceTree]) -> tuple[Tensor, Tensor, Tensor]:
    """`choice`, `example` and `correct` of ChoiceScores for these trees, in their order."""
    counts = [t.choices for t in trees]
    first = np.cumsum([0, *counts])[:-1]
    choice = np.concatenate([t.choice + f for t, f in zip(trees, first, strict=True)])
    example = np.repeat(np.arange(len(trees)), counts)
    correct = np.zeros(len(example), dtype=bool)
    correct[first + [t.label for t in trees]] = True
    return torch.from_numpy(choice), torch.from_numpy(example), torch.from_numpy(correct)
