"""Architectures: the few numbers of a transformer that its cost depends on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from frugal.errors import FrugalError

Kind = Literal["decoder-only", "encoder-decoder", "encoder-only"]


@dataclass(frozen=True)
class Architecture:
    """A transformer's shape.

    layers:   blocks; of an encoder–decoder its encoder's
    decoder_layers: blocks of an encoder–decoder's decoder, else 0
    inner:    heads * head_size, the width of the queries
    kv_inner: kv_heads * head_size, the width of the keys and values
    gated:    whether the feed-forward has two up projections (SwiGLU, GEGLU)
    """

    name: str
    kind: Kind
    layers: int
    decoder_layers: int
    d_model: int
    heads: int
    kv_heads: int
    head_size: int
    d_ff: int
    gated: bool
    vocabulary: int

    @property
    def inner(self) -> int:
        return self.heads * self.head_size

    @property
    def kv_inner(self) -> int:
        return self.kv_heads * self.head_size


def from_config(config: Any) -> Architecture:
    """The architecture that a transformers config describes (a config object or its dict).

    Raises FrugalError for a model type this arithmetic does not know.
    """
    c: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
    kind = c.get("model_type", "")
    if kind not in _READERS:
        raise FrugalError(f"model type {kind!r} is not one of {', '.join(sorted(_READERS))}")
    return _READERS[kind](c)


def _name(c: Mapping[str, Any]) -> str:
    return c.get("_name_or_path") or c["model_type"]


def _llama(c: Mapping[str, Any]) -> Architecture:
    heads = c["num_attention_heads"]
    return Architecture(
        name=_name(c),
        kind="decoder-only",
        layers=c["num_hidden_layers"],
        decoder_layers=0,
        d_model=c["hidden_size"],
        heads=heads,
        kv_heads=c.get("num_key_value_heads") or heads,
        head_size=c.get("head_dim") or c["hidden_size"] // heads,
        d_ff=c["intermediate_size"],
        gated=True,
        vocabulary=c["vocab_size"],
    )


_READERS = {"llama": _llama, "mistral": _llama, "qwen2": _llama}
