"""Texts as vectors: transformers' own states, padding apart."""

import pytest
import torch

from frugal.encoders.embedding import embedded
from frugal.engine import backbones
from frugal.errors import FrugalError


def test_a_vector_is_the_mean_state_of_its_text_alone():
    reader = backbones.load("tiny-encoder")
    texts = ["one", "a text that is rather longer than the first", "two words"] * 40
    found = embedded(reader, texts)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(texts)))
    for text, mine in zip(texts[:3], found, strict=False):
        ids = reader.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            mean = reader.model(ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(mine, mean / mean.norm())
    cut = embedded(reader, [texts[1]], max_tokens=4)
    assert not torch.allclose(cut[0], found[1])
    with pytest.raises(FrugalError, match="text 1: tiny-encoder reads no token in it"):
        embedded(reader, ["one", ""])
