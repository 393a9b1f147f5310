"""Texts in batches, and an encoder in two parts: frozen layers and those above.

What lies below the first tuned layer gives the same states in every epoch. They are kept by batch,
as the batches are the same in every epoch, and nothing is dropped out: what is read from memory is
what would have been computed, bit by bit.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from frugal.internals import create_bidirectional_mask
from frugal.peft import surgery

POOL = 32  # batches that are sorted by length together: fewer mix more, more pad less
# Tokens in a batch that needs no gradients: on a CPU so few that their states stay in its cache.
SCORED = {"cpu": 1024, "cuda": 16384}
# Tokens whose computing takes as long as it does to split a batch: a GPU has none to spare.
SPLIT = {"cpu": 128}


@dataclass(frozen=True)
class Batch:
    """Texts of similar length: places among all (B,), token ids (B, T), which are real (B, T)."""

    index: Tensor
    ids: Tensor
    real: Tensor


def training_batches(lengths: Sequence[int], size: int, seed: int) -> list[list[int]]:
    """Places of all texts: in an order that the seed decides, then by length within pools."""
    order = shuffled(len(lengths), seed)
    found = []
    for start in range(0, len(order), size * POOL):
        pool = sorted(order[start : start + size * POOL], key=lambda i: lengths[i])
        found += [pool[i : i + size] for i in range(0, len(pool), size)]
    return found


def parts(
    index: Sequence[int], lengths: Sequence[int], device: torch.device
) -> list[Sequence[int]]:
    """A batch, shortest text first, cut where padding would take longer than another pass."""
    if device.type not in SPLIT:
        return [index]
    # cost[i]: of the first i texts; they end with a part that begins at `start`
    best = [(0, 0)]
    for end in range(1, len(index) + 1):
        width = lengths[index[end - 1]]
        best.append(
            min((best[at][0] + SPLIT[device.type] + width * (end - at), at) for at in range(end))
        )
    cuts = [len(index)]
    while cuts[-1]:
        cuts.append(best[cuts[-1]][1])
    return [index[a:b] for a, b in pairwise(reversed(cuts))]


def scoring_batches(lengths: Sequence[int], device: torch.device) -> Iterator[list[int]]:
    """Places of all texts, longest first, in batches of about so many tokens as a device takes."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        size = max(1, SCORED.get(device.type, SCORED["cuda"]) // lengths[order[0]])
        yield order[:size]
        order = order[size:]


def padded(
    ids: Sequence[Sequence[int]], index: Sequence[int], pad: int, device: torch.device
) -> Batch:
    """The texts at these places as one batch."""
    rows = [torch.tensor(ids[i]) for i in index]
    length = torch.tensor([len(row) for row in rows])
    tokens = pad_sequence(rows, batch_first=True, padding_value=pad)
    real = torch.arange(tokens.shape[1]) < length[:, None]
    return Batch(*(t.to(device) for t in (torch.tensor(index), tokens, real)))


def shuffled(count: int, seed: int, epoch: int = -1) -> list[int]:
    """0 … count - 1 in an order that is a function of the arguments alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch + 1)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


class _Rows(nn.Module):
    """The rows of a table that are read, in its place."""

    def __init__(self, table: nn.Embedding, read: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[read])
        self.place = torch.full((len(table.weight),), len(read), device=read.device)
        self.place[read] = torch.arange(len(read), device=read.device)
        pad = table.padding_idx
        self.padding_idx = int(self.place[pad]) if pad is not None and pad in read else None

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(self.place[ids], self.weight, self.padding_idx)


@contextlib.contextmanager
def rows_read(encoder: Any, ids: Sequence[Sequence[int]], pad: int) -> Iterator[None]:
    """While this lasts, an embedding that is trained has the rows of these texts alone.

    No other row gets a gradient, and one that never had any is not moved by Adam: nothing changes
    but the time that its zeros take.
    """
    table = encoder.get_input_embeddings()
    owners = sum(p is table.weight for _, p in encoder.named_parameters(remove_duplicate=False))
    if type(table) is not nn.Embedding or not table.weight.requires_grad or owners > 1:
        yield
        return
    read = torch.tensor(sorted({pad}.union(*ids)), device=table.weight.device)
    rows = _Rows(table, read)
    encoder.set_input_embeddings(rows)
    try:
        yield
    finally:
        encoder.set_input_embeddings(table)
        with torch.no_grad():
            table.weight[read] = rows.weight


class Split:
    """An encoder whose lowest `below` layers are frozen.

    BERT's way of stacking layers is tried on made-up tokens: an encoder that does more between
    them, or after them, is run as a whole, and nothing of it is kept (`below` is then 0).
    """

    def __init__(self, model: Any, below: int) -> None:
        self.model, self.below = model, below
        if below and not self._same():
            self.below = 0

    @torch.no_grad()
    def frozen(self, batch: Batch) -> Tensor | None:
        """(B, T, d) states behind the frozen layers; None where the encoder is run as a whole."""
        if not self.below:
            return None
        return self._through(slice(self.below), self.model.embeddings(input_ids=batch.ids), batch)

    def mean(self, batch: Batch, states: Tensor | None) -> Tensor:
        """(B, d) fp32 mean of the last layer's states over each text; `states` as of `frozen`."""
        if states is None:
            found = self.model(batch.ids, attention_mask=batch.real.long())
            states = found.last_hidden_state
        else:
            states = self._through(slice(self.below, None), states, batch)
        weight = batch.real.float()[..., None]
        return (states.float() * weight).sum(1) / weight.sum(1)

    def _through(self, which: slice, x: Tensor, batch: Batch) -> Tensor:
        """The states `x` behind these layers."""
        mask = create_bidirectional_mask(
            config=self.model.config, inputs_embeds=x, attention_mask=batch.real
        )
        for layer in surgery.layers(self.model)[which]:
            x = layer.module(x, mask)
        return x

    @torch.no_grad()
    def _same(self) -> bool:
        """Whether the layers one by one compute what the model does."""
        batch = padded([[1, 2, 3, 4], [2, 1]], [0, 1], 0, self.model.device)
        try:
            own = self.mean(batch, self.frozen(batch))
        except (AttributeError, TypeError, ValueError):  # no embeddings, or layers of other inputs
            return False
        return torch.allclose(own, self.mean(batch, None), rtol=1e-4, atol=1e-5)
