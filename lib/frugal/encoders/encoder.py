"""An encoder in two parts: frozen layers, whose states are computed once, and those above.

What lies below the first tuned layer gives the same states in every epoch. They are kept by batch,
as the batches are the same in every epoch, and nothing is dropped out: what is read from memory is
what would have been computed, bit by bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.masking_utils import create_bidirectional_mask

from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.peft import surgery

POOL = 32  # batches that are sorted by length together: fewer mix more, more pad less
# Texts in a batch that needs no gradients: on a CPU so few that their states stay in its cache.
SCORED = {"cpu": 32, "cuda": 256}


@dataclass(frozen=True)
class Batch:
    """Texts of similar length: places among all (B,), token ids (B, T), which are real (B, T)."""

    index: Tensor
    ids: Tensor
    real: Tensor


class Encoder:
    """A BERT-like encoder: its tokens in batches, and its layers one by one."""

    def __init__(self, backbone: Backbone) -> None:
        if backbone.family != "encoder":
            raise FrugalError(f"{backbone.name} is no encoder, but {backbone.family}")
        self.backbone, self.model = backbone, backbone.model
        self.layers = [layer.module for layer in surgery.layers(self.model)]

    def encode(self, texts: list[str], most: int) -> list[list[int]]:
        """Token ids of each text, at most `most`, or what the model can read."""
        tokenizer = self.backbone.tokenizer
        most = min(most, tokenizer.model_max_length, self.backbone.max_tokens or most)
        found: list[list[int]] = tokenizer(texts, truncation=True, max_length=most)["input_ids"]
        return found

    def batches(self, ids: list[list[int]], size: int, seed: int) -> list[Batch]:
        """All texts: in an order that the seed decides, then by length within pools."""
        order = shuffled(len(ids), seed)
        pools = (order[i : i + size * POOL] for i in range(0, len(order), size * POOL))
        return [batch for pool in pools for batch in self._cut(ids, pool, size)]

    def sorted(self, ids: list[list[int]]) -> list[Batch]:
        """All texts, shortest first, in batches to be scored."""
        size = SCORED.get(self.backbone.device.type, SCORED["cpu"])
        return self._cut(ids, range(len(ids)), size)

    def _cut(self, ids: list[list[int]], order: Sequence[int], size: int) -> list[Batch]:
        by_length = sorted(order, key=lambda i: len(ids[i]))
        return [self._padded(ids, by_length[i : i + size]) for i in range(0, len(by_length), size)]

    def _padded(self, ids: list[list[int]], index: list[int]) -> Batch:
        rows = [torch.tensor(ids[i]) for i in index]
        pad = self.backbone.tokenizer.pad_token_id
        padded = pad_sequence(rows, batch_first=True, padding_value=pad)
        length = torch.tensor([len(row) for row in rows])
        real = torch.arange(padded.shape[1]) < length[:, None]
        return Batch(*(t.to(self.backbone.device) for t in (torch.tensor(index), padded, real)))


class Split:
    """The encoder as frozen layers below, whose states may be kept, and the others above.

    below: how many layers are frozen; spare: bytes that may be kept
    """

    def __init__(self, encoder: Encoder, below: int, spare: int) -> None:
        self.encoder, self.below, self.spare = encoder, below, spare
        self.kept: dict[int, Tensor] = {}

    def mean(self, batch: Batch, *, keep: int | None = None) -> Tensor:
        """(B, d) mean of the last layer's states over each text.

        keep: a number of the batch, under which the frozen layers' states are kept
        """
        model, layers = self.encoder.model, self.encoder.layers
        x = self.kept.get(keep) if keep is not None else None
        frozen = range(len(layers))[: self.below]
        if x is None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
                x = model.embeddings(input_ids=batch.ids)
        mask = create_bidirectional_mask(
            config=model.config, inputs_embeds=x, attention_mask=batch.real
        )
        if keep not in self.kept:
            with torch.no_grad():
                for number in frozen:
                    x = layers[number](x, mask)
            if keep is not None and frozen and x.nbytes <= self.spare:
                self.kept[keep] = x
                self.spare -= x.nbytes
        for layer in layers[self.below :]:
            x = layer(x, mask)
        weight = batch.real.to(x.dtype)[..., None]
        return (x * weight).sum(1) / weight.sum(1)


def shuffled(count: int, seed: int, epoch: int = -1) -> list[int]:
    """0 … count - 1 in an order that is a function of the arguments alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch + 1)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order
