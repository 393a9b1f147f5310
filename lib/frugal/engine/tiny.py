"""Models of random weights and a byte-level tokenizer, for tests and the preset `smoke`."""

from collections.abc import Callable
from typing import Any

import torch


def byte_tokenizer() -> Any:
    """A tokenizer whose tokens are the 256 bytes, then padding (256) and end of text (257)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate(alphabet)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    tokenizer.add_special_tokens({"pad_token": "<pad>", "eos_token": "<eos>"})
    return tokenizer


def _drawn(model: Any, config: Any, tokenizer: Any, **sizes: Any) -> tuple[Any, Any]:
    """A model of a transformers class and its configuration, always the same weights."""
    own = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(config(**own, architectures=[model.__name__], **sizes)), tokenizer


def _causal() -> tuple[Any, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer()
    return _drawn(
        LlamaForCausalLM,
        LlamaConfig,
        tokenizer,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


def _t5() -> tuple[Any, Any]:
    """Of version 1.1's kind: a gated feed-forward, the output not scaled."""
    from tokenizers.processors import TemplateProcessing
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = byte_tokenizer()
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", end)]
    )
    return _drawn(
        T5ForConditionalGeneration,
        T5Config,
        tokenizer,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        eos_token_id=end,
        decoder_start_token_id=tokenizer.pad_token_id,
    )


def _encoder() -> tuple[Any, Any]:
    from transformers import BertConfig, BertModel

    return _drawn(
        BertModel,
        BertConfig,
        byte_tokenizer(),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=6,  # as few as form four groups
        num_attention_heads=2,
        max_position_embeddings=512,
    )


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "tiny-causal": _causal,
    "tiny-t5": _t5,
    "tiny-encoder": _encoder,
}
