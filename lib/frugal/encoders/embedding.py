"""Texts as vectors, by an encoder that stays as it is."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from frugal.encoders.classifier import encode
from frugal.encoders.encoder import Split, padded, scoring_batches
from frugal.engine.backbones import Backbone

MAX_TOKENS = 256  # of a text, as MiniLM was trained; what is longer loses its end


@torch.inference_mode()
def embedded(backbone: Backbone, texts: Sequence[str], max_tokens: int = MAX_TOKENS) -> Tensor:
    """(texts, width) float32 on the CPU: mean of the last layer's states, of length 1.

    The product of two is then their cosine: how alike two texts are (Reimers and Gurevych 2019).
    """
    ids, split = encode(backbone, texts, max_tokens), Split(backbone.model, 0)
    found = torch.empty(len(ids), backbone.model.config.hidden_size)
    for index in scoring_batches([len(row) for row in ids], backbone.device):
        batch = padded(ids, index, backbone.tokenizer.pad_token_id or 0, backbone.device)
        found[index] = F.normalize(split.mean(batch, None), dim=-1).cpu()
    return found
